use proptest::prelude::*;

use super::*;

/// Every answer on the way to the whole must be `Incomplete`, want more than there is and no more than the whole.
fn fed_byte_by_byte(bytes: &[u8]) -> Result<Parsed<'_>, ProxyError> {
    for seen in 0..bytes.len() {
        match parse(&bytes[..seen])? {
            Parsed::Incomplete { need } => assert!(need > seen, "{need} bytes of {seen}"),
            header @ Parsed::Header(_) => return Ok(header),
        }
    }
    parse(bytes)
}

#[test]
fn both_versions_are_told_apart_and_read_in_any_pieces() {
    let mut v2 = Vec::new();
    let addresses = Some(("192.0.2.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()));
    let facts = v2::Facts {
        crc32c: true,
        authority: Some(b"example.org"),
        ..v2::Facts::default()
    };
    let header = v2::Header {
        command: v2::Command::Proxy,
        addresses,
        facts,
    };
    assert!(header.encode(500, &mut v2).is_empty());
    let mut v1 = Vec::new();
    v1::encode(addresses, &mut v1);
    for mut bytes in [v1, v2] {
        let len = bytes.len();
        let Ok(Parsed::Header(read)) = fed_byte_by_byte(&bytes) else {
            panic!("not read: {bytes:?}");
        };
        let mapped = "[::ffff:192.0.2.1]:1".parse().unwrap();
        assert_eq!(read.addresses, Some((mapped, addresses.unwrap().1)));
        assert_eq!((read.len, read.local), (len, false));
        let alone = format!("{:?}", parse(&bytes));
        bytes.extend_from_slice(b"\x10\x20behind");
        assert_eq!(format!("{:?}", parse(&bytes)), alone);
    }
}

#[test]
fn what_is_neither_is_refused_at_the_first_wrong_byte() {
    for (bytes, at) in [("GET /", 0), ("POST", 1), ("PROXZ", 4), ("\r\n\r\nx", 4)] {
        for seen in 0..=bytes.len() {
            let answer = parse(&bytes.as_bytes()[..seen]);
            assert_eq!(answer.is_err(), seen > at, "{seen} bytes of {bytes:?}");
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(
        which in 0..3_usize,
        tail in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let head = [&b""[..], b"PROXY TCP4 1.2.3.4 ", &v2::SIGNATURE][which];
        let _ = fed_byte_by_byte(&[head, &tail].concat());
    }

    #[test]
    fn random_tlvs_never_panic(
        (command, family) in (0x20..0x22_u8, prop::sample::select(vec![0_u8, 0x11, 0x21, 0x31])),
        rest in prop::collection::vec(prop_oneof![Just(0_u8), 0..40_u8, any::<u8>()], 0..300),
    ) {
        let length = (rest.len() as u16).to_be_bytes();
        let bytes = [&v2::SIGNATURE[..], &[command, family], &length, &rest].concat();
        let _ = fed_byte_by_byte(&bytes);
        if let Ok(Parsed::Header(header)) = parse(&bytes) {
            prop_assert_eq!(header.len, bytes.len());
            let lengths: usize = header.tlvs.map(|tlv| 3 + tlv.value.len()).sum();
            prop_assert!(lengths <= rest.len());
            let _ = header.tlvs.ssl();
        }
    }
}
