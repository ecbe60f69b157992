use proptest::prelude::*;

use super::*;

fn listener(key: &str, bind: Bind) -> Listener {
    let plain = Listener {
        key: key.to_owned(),
        sockets: 2,
        defer_accept: true,
        ..Listener::default()
    };
    plain.at(bind)
}

fn one_of_each() -> Vec<Message> {
    let address = "[2001:db8::1]:8883".parse().expect("an address");
    vec![
        Message::Hello(Hello {
            version: "0.1.0".to_owned(),
            generation: 7,
            state_present: true,
        }),
        Message::Plan(Plan {
            listeners: vec![
                listener("plain", Bind::Any(1883)),
                listener("tls", Bind::One(address)),
            ],
            stop_grace_ms: 30_000,
        }),
        Message::Listeners(Listeners {
            keys: vec!["plain".to_owned(), "plain".to_owned()],
            errors: vec![BindError {
                key: "tls".to_owned(),
                message: "address in use".to_owned(),
            }],
            more: true,
        }),
        Message::Ready(Ready {}),
        Message::Heartbeat(Heartbeat { lap_age_ms: 3 }),
        Message::State(State {}),
        Message::Stop(Stop {}),
        Message::Reload(Reload {}),
        Message::Reopen(Reopen {}),
        Message::Goodbye(Goodbye {
            reason: "upgrade".to_owned(),
        }),
    ]
}

#[test]
fn every_kind_comes_back_as_it_was_sent() {
    for message in one_of_each() {
        let bytes = encode(message.clone()).expect("short enough");
        assert_eq!(decode(&bytes), Ok(message));
    }
}

#[test]
fn neighbouring_versions_are_accepted_and_others_refused() {
    let ready = || Message::Ready(Ready {});
    for (version, accepted) in [
        (0, false),
        (1, true),
        (2, true),
        (3, false),
        (u32::MAX, false),
    ] {
        let bytes = encode_as(version, ready()).expect("short enough");
        let want = if accepted {
            Ok(ready())
        } else {
            Err(GuardianError::Version { theirs: version })
        };
        assert_eq!(decode(&bytes), want);
    }
    let error = GuardianError::Version { theirs: 3 }.to_string();
    assert!(
        error.contains("version 3") && error.contains("restart the service"),
        "{error}"
    );
}

#[test]
fn a_kind_that_is_not_known_is_no_malformed_message() {
    // Field 99, an empty message.
    let mut bytes = encode(Message::Ready(Ready {})).expect("short enough");
    bytes.truncate(2);
    bytes.extend_from_slice(&[0x9A, 0x06, 0x00]);
    assert_eq!(
        decode(&bytes),
        Err(GuardianError::Unknown { theirs: VERSION })
    );
    assert_eq!(decode(&[]), Err(GuardianError::Version { theirs: 0 }));
}

#[test]
fn a_message_beyond_the_limit_is_neither_sent_nor_read() {
    let reason = "x".repeat(MAX_LEN);
    let error = encode(Message::Goodbye(Goodbye { reason })).expect_err("too long");
    assert!(matches!(error, GuardianError::TooLong { length } if length > MAX_LEN));
    let length = MAX_LEN + 1;
    assert_eq!(
        decode(&vec![0; length]),
        Err(GuardianError::TooLong { length })
    );
}

#[test]
fn a_listener_says_where_it_is_bound() {
    let v4 = Bind::One("192.0.2.1:1883".parse().expect("an address"));
    let v6 = Bind::One("[::]:0".parse().expect("an address"));
    for bind in [Bind::Any(1883), v4, v6] {
        assert_eq!(listener("mqtt", bind).bind(), Ok(bind));
    }
    let good = listener("mqtt", v4);
    let ip = Listener {
        ip: Some(vec![1, 2, 3]),
        ..good.clone()
    };
    let port = Listener {
        port: 65_536,
        ..good
    };
    for (bad, want) in [
        (ip, "an ip of neither 4 nor 16 bytes"),
        (port, "a port beyond 65535"),
    ] {
        let error = bad.bind().expect_err(want).to_string();
        assert_eq!(error, format!("listener \"mqtt\" in the plan has {want}"));
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn a_damaged_message_never_panics(which in 0..10_usize, at: usize, with: u8, cut: usize) {
        let mut bytes = encode(one_of_each().swap_remove(which)).expect("short enough");
        let at = at % bytes.len();
        bytes[at] = with;
        bytes.truncate(bytes.len() - cut % 4);
        let _ = decode(&bytes);
    }
}
