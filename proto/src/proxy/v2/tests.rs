use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::proxy::{Parsed, ProxyError};

fn address(text: &str) -> SocketAddr {
    text.parse().expect("a test's address")
}

fn v4() -> Option<(SocketAddr, SocketAddr)> {
    Some((address("192.0.2.1:50122"), address("198.51.100.7:1883")))
}

fn written(command: Command, addresses: Option<(SocketAddr, SocketAddr)>, facts: Facts) -> Vec<u8> {
    let mut out = Vec::new();
    let header = Header {
        command,
        addresses,
        facts,
    };
    assert!(header.encode(SAFE_LIMIT, &mut out).is_empty());
    out
}

/// The bytes behind the signature for a client at 192.0.2.1:50122 and these TLVs.
fn vector(tlvs: &[u8]) -> Vec<u8> {
    let addresses = [192, 0, 2, 1, 198, 51, 100, 7, 0xC3, 0xCA, 0x07, 0x5B];
    let length = (12 + tlvs.len()) as u8;
    [
        &SIGNATURE[..],
        &[0x21, 0x11, 0, length],
        &addresses[..],
        tlvs,
    ]
    .concat()
}

fn tls(client: u8) -> Ssl<'static> {
    Ssl {
        client,
        version: Some(b"TLSv1.3"),
        ..Ssl::default()
    }
}

#[test]
fn e17_send_proxy_v2_has_addresses_and_no_tlv() {
    let out = written(Command::Proxy, v4(), Facts::default());
    assert_eq!(out, vector(&[]));
    assert_eq!(out[12..16], [0x21, 0x11, 0x00, 0x0c]);
}

#[test]
fn c18_check_send_proxy_is_local_without_anything() {
    let out = written(Command::Local, None, Facts::default());
    assert_eq!(out, [&SIGNATURE[..], &[0x20, 0x00, 0x00, 0x00]].concat());
}

#[test]
fn e18_send_proxy_v2_ssl_without_a_client_certificate() {
    let ssl = Some(tls(CLIENT_SSL));
    let out = written(
        Command::Proxy,
        v4(),
        Facts {
            ssl,
            ..Facts::default()
        },
    );
    assert_eq!(out, vector(b"\x20\x00\x0f\x01\0\0\0\0\x21\x00\x07TLSv1.3"));
}

#[test]
fn e19_send_proxy_v2_ssl_with_a_client_certificate_and_alpn() {
    let facts = Facts {
        alpn: Some(b"mqtt"),
        ssl: Some(tls(CLIENT_SSL | CLIENT_CERT_CONN | CLIENT_CERT_SESS)),
        ..Facts::default()
    };
    let out = written(Command::Proxy, v4(), facts);
    let want = b"\x01\x00\x04mqtt\x20\x00\x0f\x07\0\0\0\0\x21\x00\x07TLSv1.3";
    assert_eq!(out, vector(want));
}

#[test]
fn e20_send_proxy_v2_ssl_cn_puts_the_common_name_behind_the_version() {
    let ssl = Some(Ssl {
        cn: Some(b"device-42"),
        ..tls(7)
    });
    let out = written(
        Command::Proxy,
        v4(),
        Facts {
            ssl,
            ..Facts::default()
        },
    );
    let want = b"\x20\x00\x1b\x07\0\0\0\0\x21\x00\x07TLSv1.3\x22\x00\x09device-42";
    assert_eq!(out, vector(want));
}

#[test]
fn all_facts_stand_in_haproxys_order_and_are_read_back() {
    let facts = all_facts();
    let out = written(Command::Proxy, v4(), facts);
    let Ok(Parsed::Header(read)) = parse(&out, out.len()) else {
        panic!("our own header is not read");
    };
    let kinds: Vec<u8> = read.tlvs.map(|tlv| tlv.kind).collect();
    assert_eq!(kinds, [0x03, 0x01, 0x02, 0x05, 0x20]);
    let ssl = read.tlvs.value_of(TLV_SSL).expect("it is there");
    let position = |kind: u8| {
        ssl.windows(2)
            .position(|w| w == [kind, 0])
            .expect("it is there")
    };
    let order = [0x21, 0x22, 0x25, 0x24, 0x23].map(position);
    assert!(order.is_sorted(), "{order:?}");
    assert_same(read.tlvs, facts);
}

fn all_facts() -> Facts<'static> {
    Facts {
        crc32c: true,
        alpn: Some(b"mqtt"),
        authority: Some(b"mqtt.example.org"),
        unique_id: Some(b"6f1c"),
        ssl: Some(Ssl {
            client: 5,
            verify: 0x0102_0304,
            version: Some(b"TLSv1.3"),
            cn: Some("gerät".as_bytes()),
            cipher: Some(b"TLS_AES_128_GCM_SHA256"),
            sig_alg: Some(b"ecdsa-with-SHA256"),
            key_alg: Some(b"EC256"),
        }),
    }
}

fn assert_same(tlvs: Tlvs<'_>, facts: Facts<'_>) {
    assert_eq!(tlvs.alpn(), facts.alpn);
    assert_eq!(tlvs.authority(), facts.authority);
    assert_eq!(tlvs.unique_id(), facts.unique_id);
    assert_eq!(tlvs.ssl(), facts.ssl);
    assert_eq!(tlvs.value_of(TLV_CRC32C).is_some(), facts.crc32c);
}

#[test]
fn a_written_checksum_is_the_crc32c_of_the_header_with_zeros_in_its_place() {
    let facts = Facts {
        crc32c: true,
        ..Facts::default()
    };
    let mut out = written(Command::Proxy, v4(), facts);
    let found = out.split_off(out.len() - 4);
    out.extend_from_slice(&[0; 4]);
    // Bit by bit, so that the crate's own function does not judge itself.
    let mut crc = !0_u32;
    for byte in &out {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 & (0_u32.wrapping_sub(crc & 1)));
        }
    }
    assert_eq!(found, (!crc).to_be_bytes());
}

#[test]
fn any_flipped_bit_behind_the_head_breaks_the_checksum() {
    let good = written(Command::Proxy, v4(), all_facts());
    for bit in HEAD * 8..(HEAD + 12 + 3) * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let answer = parse(&bad, 4096);
        let type_of_checksum = bit / 8 == HEAD + 12;
        // A flip in the type hides the checksum itself.
        assert_eq!(
            matches!(answer, Ok(Parsed::Header(_))),
            type_of_checksum,
            "bit {bit}"
        );
    }
    let mut bad = good;
    *bad.last_mut().expect("not empty") ^= 1;
    assert!(matches!(
        parse(&bad, 4096),
        Err(ProxyError::BadChecksum { .. })
    ));
}

#[test]
fn families_are_brought_together() {
    for (src, dst, family, src_bytes) in [
        ("192.0.2.1:1", "10.0.0.1:2", 0x11, &[192, 0, 2, 1][..]),
        ("[::ffff:192.0.2.1]:1", "10.0.0.1:2", 0x11, &[192, 0, 2, 1]),
        (
            "[::ffff:192.0.2.1]:1",
            "[::ffff:10.0.0.1]:2",
            0x11,
            &[192, 0, 2, 1],
        ),
        (
            "192.0.2.1:1",
            "[2001:db8::1]:2",
            0x21,
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 192, 0, 2, 1],
        ),
        (
            "[2001:db8::1]:1",
            "10.0.0.1:2",
            0x21,
            &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        ),
    ] {
        let addresses = Some((address(src), address(dst)));
        let out = written(Command::Proxy, addresses, Facts::default());
        assert_eq!(out[13], family, "{src} to {dst}");
        assert_eq!(out[HEAD..][..src_bytes.len()], *src_bytes, "{src} to {dst}");
        assert_eq!(out.len() - HEAD, if family == 0x11 { 12 } else { 36 });
    }
}

#[test]
fn a_tight_limit_drops_facts_in_order_and_the_common_name_last() {
    let full = 12 + {
        let out = written(Command::Proxy, v4(), all_facts());
        out.len() - HEAD - 12
    };
    let mut before = 0;
    for limit in (0..=full).rev() {
        let mut out = Vec::new();
        let header = Header {
            command: Command::Proxy,
            addresses: v4(),
            facts: all_facts(),
        };
        let dropped = header.encode(limit, &mut out);
        let names: Vec<_> = dropped.names().collect();
        // What goes is always a beginning of the order, and only ever grows.
        assert_eq!(names, &Dropped::default_order()[..names.len()]);
        assert!(names.len() >= before && names.len() <= before + 2);
        before = names.len();
        let rest = out.len() - HEAD;
        assert!(rest <= limit || before == 9, "{rest} bytes within {limit}");
        let Ok(Parsed::Header(read)) = parse(&out, 4096) else {
            panic!("a header within {limit} bytes is not read");
        };
        let ssl = read.tlvs.ssl().expect("the TLS TLV stays");
        assert_eq!((ssl.client, ssl.verify), (5, 0x0102_0304));
        assert_eq!(ssl.cn.is_none(), dropped.common_name());
    }
    assert_eq!(before, 9);
}

impl Dropped {
    fn default_order() -> [&'static str; 9] {
        [
            "cipher",
            "signature algorithm",
            "key algorithm",
            "unique id",
            "authority",
            "alpn",
            "tls version",
            "crc32c",
            "common name",
        ]
    }
}

#[test]
fn a_unique_id_beyond_128_bytes_is_left_out() {
    let long = [b'x'; 129];
    for (id, left_out) in [(&long[..128], false), (&long[..], true)] {
        let mut out = Vec::new();
        let header = Header {
            command: Command::Proxy,
            addresses: v4(),
            facts: Facts {
                unique_id: Some(id),
                ..Facts::default()
            },
        };
        let dropped = header.encode(SAFE_LIMIT, &mut out);
        assert_eq!(
            dropped.names().collect::<Vec<_>>().contains(&"unique id"),
            left_out
        );
    }
}

#[test]
fn enough_capacity_means_no_allocation() {
    let mut out = Vec::with_capacity(HEAD + SAFE_LIMIT);
    let before = out.as_ptr();
    let header = Header {
        command: Command::Proxy,
        addresses: v4(),
        facts: all_facts(),
    };
    assert!(header.encode(SAFE_LIMIT, &mut out).is_empty());
    assert_eq!((out.as_ptr(), out.capacity()), (before, HEAD + SAFE_LIMIT));
}

/// A header with this head and rest.
fn raw(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, rest].concat()
}

#[test]
fn malformed_headers_are_refused_by_a_sentence() {
    let v4 = [1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 0, 10];
    let with = |tlvs: &[u8]| raw(0x21, 0x11, &[&v4[..], tlvs].concat());
    for (bytes, want) in [
        (raw(0x11, 0x11, &v4), "PROXY version is 1, want 2"),
        (
            raw(0x22, 0x11, &v4),
            "PROXY v2 command is 2, want 0 (LOCAL) or 1 (PROXY)",
        ),
        (raw(0x21, 0x41, &v4), "family and transport are 0x41"),
        (raw(0x21, 0x13, &v4), "family and transport are 0x13"),
        (
            raw(0x21, 0x21, &v4),
            "has 12 bytes for addresses, its family needs 36",
        ),
        (
            raw(0x21, 0x31, &v4),
            "has 12 bytes for addresses, its family needs 216",
        ),
        (
            raw(0x21, 0x11, &v4[..11]),
            "has 11 bytes for addresses, its family needs 12",
        ),
        (
            raw(0x21, 0x11, &[0; 5000]),
            "has 5016 bytes, the limit is 4096",
        ),
        (with(b"\x01"), "TLV 0x01 needs 3 bytes, 1 are left"),
        (
            with(b"\x01\x00\x05mqtt"),
            "TLV 0x01 needs 5 bytes, 4 are left",
        ),
        (
            with(b"\x03\x00\x03abc"),
            "TLV 0x03 has 3 bytes, want 4 bytes",
        ),
        (with(b"\x03\x00\x04abcd"), "PROXY v2 CRC32C is 0x61626364"),
        (
            with(b"\x20\x00\x04\0\0\0\0"),
            "TLV 0x20 has 4 bytes, want at least 5 bytes",
        ),
        (
            with(b"\x20\x00\x08\0\0\0\0\0\x21\x00\x01"),
            "TLV 0x21 needs 1 bytes, 0 are left",
        ),
        (
            with(&[&[5, 0, 129][..], &[0; 129]].concat()),
            "has 129 bytes, want at most 128 bytes",
        ),
        (b"\r\n\r\n\0\r\nQUIX".to_vec(), "byte 10 is 0x58"),
        (b"\x10".to_vec(), "byte 0 is 0x10"),
    ] {
        let error = parse(&bytes, 4096).expect_err(want).to_string();
        assert!(error.contains(want), "{error:?} instead of {want:?}");
    }
}

#[test]
fn headers_without_internet_addresses_are_read_too() {
    for (bytes, local) in [
        (raw(0x20, 0x00, &[]), true),
        (raw(0x20, 0x11, &[0; 12]), true),
        (raw(0x20, 0xFF, &[0; 7]), true),
        (raw(0x21, 0x00, &[]), false),
        (raw(0x21, 0x31, &[0; 216]), false),
    ] {
        let Ok(Parsed::Header(read)) = parse(&bytes, 4096) else {
            panic!("{bytes:?} is not read");
        };
        assert_eq!(
            (read.addresses, read.local, read.len),
            (None, local, bytes.len())
        );
        assert_eq!(read.tlvs.count(), 0);
    }
    let unspec = raw(0x21, 0x00, b"\x02\x00\x01a\xEE\x00\x00");
    let Ok(Parsed::Header(read)) = parse(&unspec, 4096) else {
        panic!("not read");
    };
    assert_eq!(
        (read.tlvs.authority(), read.tlvs.count()),
        (Some(&b"a"[..]), 2)
    );
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

proptest! {
    #[test]
    fn every_header_is_read_back(
        (src, dst) in any::<(SocketAddr, SocketAddr)>(),
        crc32c: bool,
        (alpn, authority, unique_id) in (bytes(8), bytes(60), bytes(129)),
        (client, verify) in any::<(u8, u32)>(),
        (version, cn, cipher) in (bytes(9), bytes(70), bytes(40)),
        with_ssl: bool,
    ) {
        let facts = Facts {
            crc32c,
            alpn: Some(&alpn),
            authority: Some(&authority),
            unique_id: Some(&unique_id),
            ssl: with_ssl.then_some(Ssl {
                client,
                verify,
                version: Some(&version),
                cn: Some(&cn),
                cipher: Some(&cipher),
                ..Ssl::default()
            }),
        };
        let header = Header { command: Command::Proxy, addresses: Some((src, dst)), facts };
        let mut out = b"before".to_vec();
        prop_assert!(header.encode(SAFE_LIMIT, &mut out).is_empty());
        let out = out.split_off(6);
        let Ok(Parsed::Header(read)) = parse(&out, 4096) else {
            panic!("not read: {:?}", parse(&out, 4096));
        };
        prop_assert_eq!(read.len, out.len());
        let (read_src, read_dst) = read.addresses.expect("both are internet addresses");
        prop_assert_eq!(read_src.ip().to_canonical(), src.ip().to_canonical());
        prop_assert_eq!(read_dst.ip().to_canonical(), dst.ip().to_canonical());
        prop_assert_eq!((read_src.port(), read_dst.port()), (src.port(), dst.port()));
        assert_same(read.tlvs, facts);
    }
}
