use proptest::prelude::*;

use super::*;

const LEVELS: [Level; 3] = [Level::V31, Level::V311, Level::V5];

fn whole(bytes: &[u8], level: Level) -> Result<Connack<'_>, ConnackError> {
    match parse(bytes, level, 1 << 20)? {
        Parsed::Connack(connack) => Ok(connack),
        Parsed::Incomplete { need } => panic!("wants {need} bytes, has {}", bytes.len()),
    }
}

#[test]
fn d03_the_answer_that_the_nginx_guide_expects_is_read() {
    for level in [Level::V31, Level::V311, Level::V5] {
        let connack = whole(b"\x20\x02\x00\x00", level).expect("valid");
        assert!(connack.accepted() && !connack.session_present && connack.len == 4);
    }
}

#[test]
fn c14_server_keep_alive_and_the_other_words_of_5_are_read() {
    let list = b"\x13\x00\x1e\x12\x00\x04auto\x1f\x00\x02ok\x11\0\0\0\x07\x1c\x00\x05other\x24\x01\x25\x01\x21\x00\x0a\
        \x27\0\0\x10\0\x22\x00\x05\x28\x01\x29\x01\x2a\x00\x26\x00\x01k\x00\x01v\x1a\x00\x01r\x15\x00\x01m\x16\x00\x00";
    let body = [&b"\x01\x00"[..], &[list.len() as u8], &list[..]].concat();
    let bytes = [&b"\x20"[..], &[body.len() as u8], &body[..], b"\x30\x03"].concat();
    let want = Connack {
        len: bytes.len() - 2,
        code: 0,
        session_present: true,
        server_keep_alive: Some(30),
        session_expiry: Some(7),
        assigned_client_id: Some("auto"),
        reason_string: Some("ok"),
        server_reference: Some("other"),
    };
    assert_eq!(whole(&bytes, Level::V5), Ok(want));
    for seen in 0..want.len {
        let answer = parse(&bytes[..seen], Level::V5, 1000);
        assert!(
            matches!(answer, Ok(Parsed::Incomplete { need }) if need > seen),
            "{answer:?}"
        );
    }
}

#[test]
fn what_is_no_connack_of_the_level_is_refused() {
    let v311 = Level::V311;
    for (bytes, level, want) in [
        (
            &b"\x21"[..],
            v311,
            "first byte is 0x21, a CONNACK begins with 0x20",
        ),
        (
            b"\xF0\x02",
            Level::V5,
            "first byte is 0xF0, a CONNACK begins with 0x20",
        ),
        (
            b"\x20\x03",
            v311,
            "remaining length is wrong for a CONNACK of MQTT 3.1.1",
        ),
        (
            b"\x20\x01",
            Level::V5,
            "remaining length is wrong for a CONNACK of MQTT 5",
        ),
        (
            b"\x20\xff\xff\xff\xff",
            Level::V5,
            "remaining length is wrong for a CONNACK of MQTT 5",
        ),
        (
            b"\x20\x80\x01",
            Level::V5,
            "packet has 131 bytes, the limit is 100",
        ),
        (
            b"\x20\x02\x02\x00",
            v311,
            "acknowledge flags are 0x02, want 0 or 1",
        ),
        (
            b"\x20\x04\x00\x00\x00\x00",
            Level::V5,
            "remaining length is wrong for a CONNACK of MQTT 5",
        ),
        (
            b"\x20\x04\x00\x00\x02\x24",
            Level::V5,
            "remaining length is wrong for a CONNACK of MQTT 5",
        ),
        (
            b"\x20\x05\x00\x00\x02\x24\x02",
            Level::V5,
            "properties: property 0x24 has the value 2, want 0 or 1",
        ),
        (
            b"\x20\x05\x00\x00\x02\x17\x01",
            Level::V5,
            "properties: property 0x17 does not belong here",
        ),
    ] {
        let error = parse(bytes, level, 100).expect_err(want);
        assert_eq!(error.to_string(), want);
    }
    assert_eq!(
        whole(b"\x20\x02\xff\x05", Level::V31)
            .expect("a reserved byte")
            .code,
        5
    );
}

#[test]
fn a_refusal_is_worded_for_the_level_and_read_back() {
    let mut out = Vec::new();
    refuse(Level::V311, Refusal::ServerUnavailable, &mut out);
    refuse(Level::V5, Refusal::ServerBusy, &mut out);
    assert_eq!(out, b"\x20\x02\x00\x03\x20\x03\x00\x89\x00");
    for level in LEVELS {
        for why in [
            Refusal::UnsupportedLevel,
            Refusal::BadClientId,
            Refusal::ServerUnavailable,
            Refusal::ServerBusy,
            Refusal::BadCredentials,
            Refusal::NotAuthorized,
            Refusal::UseAnotherServer,
            Refusal::ConnectionRateExceeded,
        ] {
            let mut out = Vec::new();
            refuse(level, why, &mut out);
            let connack = whole(&out, level).expect("valid");
            assert!(!connack.accepted() && !connack.session_present);
            assert_eq!((connack.code, connack.len), (why.code(level), out.len()));
            assert_eq!(connack.code >= 0x80, level == Level::V5);
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        (code, session_present) in any::<(u8, bool)>(),
        (server_keep_alive, session_expiry) in any::<(Option<u16>, Option<u32>)>(),
        texts in prop::array::uniform3(prop::option::of("[^\0]{0,90}")),
    ) {
        let [id, reason, reference] = &texts;
        let connack = Connack {
            len: 0,
            code,
            session_present,
            server_keep_alive,
            session_expiry,
            assigned_client_id: id.as_deref(),
            reason_string: reason.as_deref(),
            server_reference: reference.as_deref(),
        };
        for level in LEVELS {
            let mut out = Vec::new();
            encode(level, &connack, &mut out);
            let len = out.len();
            let want = match level {
                Level::V31 => Connack { len, code, ..Connack::default() },
                Level::V311 => Connack { len, code, session_present, ..Connack::default() },
                Level::V5 => Connack { len, ..connack },
            };
            prop_assert_eq!(whole(&out, level), Ok(want));
        }
    }

    #[test]
    fn random_bytes_never_panic(
        head in prop::sample::select(vec![&b""[..], b"\x20", b"\x20\x14\x00\x00\x11"]),
        tail in prop::collection::vec(prop_oneof![0..3_u8, 0x10..0x2C_u8, any::<u8>()], 0..60),
    ) {
        let bytes = [head, &tail].concat();
        for level in LEVELS {
            let _ = parse(&bytes, level, 40);
        }
    }
}
