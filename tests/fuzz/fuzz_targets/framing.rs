//! Packet boundaries over random cuts against whole streams, and the broker's first packet.

#![no_main]

use libfuzzer_sys::fuzz_target;
use standfast_proto::mqtt::Level;
use standfast_proto::mqtt::connack::{self, Parsed};
use standfast_proto::mqtt::packet::Tracker;

fuzz_target!(|data: &[u8]| {
    let Some((&step, stream)) = data.split_first() else {
        return;
    };
    let (mut whole, mut packets) = (Tracker::new(), Vec::new());
    let answer = whole.advance(stream, |first| packets.push(first));
    assert_eq!(answer.is_err(), whole.is_off());

    let (mut pieces, mut in_pieces, mut errors) = (Tracker::new(), Vec::new(), 0);
    for piece in stream.chunks(usize::from(step).max(1)) {
        errors += usize::from(
            pieces
                .advance(piece, |first| in_pieces.push(first))
                .is_err(),
        );
        pieces = Tracker::from_bits(pieces.to_bits()).expect("its own number");
    }
    assert_eq!((whole, packets), (pieces, in_pieces));
    assert_eq!(errors, usize::from(answer.is_err()));

    for level in [Level::V31, Level::V311, Level::V5] {
        match connack::parse(stream, level, 512) {
            Ok(Parsed::Incomplete { need }) => assert!(need > stream.len() && need <= 512),
            Ok(Parsed::Connack(read)) => {
                // What we would write says the same again.
                let mut out = Vec::new();
                connack::encode(level, &read, &mut out);
                let Ok(Parsed::Connack(again)) = connack::parse(&out, level, 1024) else {
                    panic!("our own CONNACK is not read: {read:?}");
                };
                assert_eq!(
                    connack::Connack { len: 0, ..again },
                    connack::Connack { len: 0, ..read }
                );
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});
