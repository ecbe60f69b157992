//! A CONNECT, in one piece and in every prefix: the answers must agree.

#![no_main]

use libfuzzer_sys::fuzz_target;
use standfast_proto::mqtt::connect::{ConnectError, Parsed, parse};

const MAX: usize = 2048;

fuzz_target!(|data: &[u8]| {
    let whole = parse(data, MAX);
    if let Err(error) = &whole {
        assert!(ConnectError::REASONS.contains(&error.reason()));
        assert!(!error.to_string().is_empty());
    }
    if let Ok(Parsed::Connect(connect)) = &whole {
        assert!(connect.len <= data.len() && connect.len <= MAX);
        assert_eq!(
            parse(&data[..connect.len], MAX),
            whole,
            "bytes behind it change nothing"
        );
        assert!(!connect.client_id.contains('\0'));
    }
    for seen in 0..data.len().min(MAX) {
        match parse(&data[..seen], MAX) {
            Ok(Parsed::Incomplete { need }) => assert!(need > seen),
            // An answer that came early holds; only the name of what is not MQTT may get better.
            early @ Ok(Parsed::Connect(_)) => assert_eq!(early, whole),
            Err(early) => {
                let late = whole.expect_err("what is ruled out stays so");
                assert!(data[0] != 0x10 || early.reason() == late.reason());
                break;
            }
        }
    }
});
