//! A PROXY header of either version, in one piece and in every prefix, and written anew.

#![no_main]

use libfuzzer_sys::fuzz_target;
use standfast_proto::proxy::{Parsed, parse, v2};

fuzz_target!(|data: &[u8]| {
    check(data);
    // Random bytes seldom spell a signature or a right length, so they are lent both.
    check(&[b"PROXY ", data].concat());
    if let Some((head, rest)) = data.split_at_checked(2) {
        let length = (rest.len() as u16).to_be_bytes();
        check(&[&v2::SIGNATURE[..], head, &length, rest].concat());
    }
});

fn check(data: &[u8]) {
    let whole = parse(data);
    for seen in 0..data.len().min(600) {
        match parse(&data[..seen]) {
            Ok(Parsed::Incomplete { need }) => assert!(need > seen),
            early => {
                assert_eq!(early, whole, "an answer that came early holds");
                break;
            }
        }
    }
    let Ok(Parsed::Header(header)) = whole else {
        return;
    };
    assert!(header.len <= data.len());
    let facts = v2::Facts {
        crc32c: true,
        alpn: header.tlvs.alpn(),
        authority: header.tlvs.authority(),
        unique_id: header.tlvs.unique_id(),
        ssl: header.tlvs.ssl(),
    };
    let mut out = Vec::new();
    let written = v2::Header {
        command: v2::Command::Proxy,
        addresses: header.addresses,
        facts,
    };
    let dropped = written.encode(3000, &mut out);
    let Ok(Parsed::Header(again)) = parse(&out) else {
        panic!("our own header is not read: {written:?}");
    };
    assert_eq!(again.len, out.len());
    assert_eq!(again.addresses.is_some(), header.addresses.is_some());
    if dropped.is_empty() {
        assert_eq!(
            (again.tlvs.ssl(), again.tlvs.authority()),
            (facts.ssl, facts.authority)
        );
        assert_eq!(
            (again.tlvs.alpn(), again.tlvs.unique_id()),
            (facts.alpn, facts.unique_id)
        );
    }
}
