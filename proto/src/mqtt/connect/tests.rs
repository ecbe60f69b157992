use proptest::prelude::*;

use super::*;

/// A CONNECT with this body behind a correct remaining length.
fn packet(body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x10];
    crate::mqtt::put_var_int(&mut bytes, body.len() as u32);
    bytes.extend_from_slice(body);
    bytes
}

fn whole(bytes: &[u8]) -> Result<Connect<'_>, ConnectError> {
    match parse(bytes, 1 << 20)? {
        Parsed::Connect(connect) => Ok(connect),
        Parsed::Incomplete { need } => panic!("wants {need} bytes, has {}", bytes.len()),
    }
}

/// The reason and the sentence for a packet with this body.
#[track_caller]
fn refused(body: &[u8]) -> (&'static str, String) {
    let bytes = packet(body);
    let error = whole(&bytes).expect_err("a strict broker refuses it");
    (error.reason(), error.to_string())
}

/// A CONNECT of MQTT 5 with these properties, and nothing else.
fn v5(properties: &[u8]) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x05\x02\x00\x3c".to_vec();
    crate::mqtt::put_var_int(&mut body, properties.len() as u32);
    [&body, properties, b"\x00\x01a"].concat()
}

/// A CONNECT of MQTT 5 with a will that has these properties.
fn v5_will(properties: &[u8]) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x05\x06\x00\x3c\x00\x00\x01a".to_vec();
    crate::mqtt::put_var_int(&mut body, properties.len() as u32);
    [&body, properties, b"\x00\x01t\x00\x00"].concat()
}

#[test]
fn d03_the_health_check_of_the_nginx_guide_is_read() {
    let bytes = b"\x10\x20\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x12nginx health check";
    let want = Connect {
        len: 34,
        level: Level::V31,
        bridge: false,
        clean_start: true,
        keep_alive: 60,
        client_id: "nginx health check",
        username: None,
        session_expiry: 0,
        will: false,
    };
    assert_eq!(whole(bytes), Ok(want));
    assert!(!want.is_persistent());
}

#[test]
fn d15_a_connect_of_3_1_1_with_everything_is_read_with_more_behind_it() {
    let body = b"\x00\x04MQTT\x04\xEC\x00\x0a\x00\x07device7\x00\x01t\x00\x03bye\x00\x04user\x00\x03\x00pw";
    let bytes = [packet(body), b"\xC0\x00".to_vec()].concat();
    let connect = whole(&bytes).expect("valid");
    assert_eq!(connect.len, bytes.len() - 2);
    assert_eq!((connect.level, connect.keep_alive), (Level::V311, 10));
    assert_eq!(
        (connect.client_id, connect.username),
        ("device7", Some("user"))
    );
    assert!(connect.will && !connect.clean_start && connect.is_persistent());
}

#[test]
fn a_connect_of_5_with_every_property_is_read() {
    let properties =
        b"\x11\x00\x00\x0e\x10\x21\x00\x01\x27\x00\x00\x01\x00\x22\x00\x0a\x19\x01\x17\x00\
        \x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01v\x15\x00\x05SCRAM\x16\x00\x02\x00\xff";
    let bytes = packet(&v5(properties));
    let connect = whole(&bytes).expect("valid");
    assert_eq!((connect.level, connect.session_expiry), (Level::V5, 3600));
    assert!(connect.clean_start && connect.is_persistent());

    let will = b"\x18\x00\x00\x00\x05\x01\x01\x02\x00\x00\x00\x09\x03\x00\x04text\x08\x00\x01r\x09\x00\x01\xff\x26\x00\x00\x00\x00";
    assert!(whole(&packet(&v5_will(will))).expect("valid").will);
}

#[test]
fn a_bridge_is_known_by_the_high_bit_of_3_1_and_3_1_1_only() {
    for (head, bridge) in [
        (&b"\x00\x06MQIsdp\x03"[..], Some(false)),
        (b"\x00\x06MQIsdp\x83", Some(true)),
        (b"\x00\x04MQTT\x04", Some(false)),
        (b"\x00\x04MQTT\x84", Some(true)),
        (b"\x00\x04MQTT\x85", None),
    ] {
        let bytes = packet(&[head, b"\x02\x00\x00\x00\x01a"].concat());
        assert_eq!(
            whole(&bytes).map(|connect| connect.bridge).ok(),
            bridge,
            "{head:?}"
        );
    }
}

#[test]
fn what_brokers_accept_is_not_refused() {
    for body in [
        // An id of more than 23 characters in 3.1, and one of none in 3.1.1 and 5.
        &b"\x00\x06MQIsdp\x03\x02\x00\x00\x00\x18123456789012345678901234"[..],
        b"\x00\x04MQTT\x04\x02\x00\x00\x00\x00",
        b"\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00",
        b"\x00\x04MQTT\x05\x00\x00\x00\x00\x00\x00",
        // A password without a user name in 5.
        b"\x00\x04MQTT\x05\x42\x00\x00\x00\x00\x01a\x00\x01p",
        // In 3.1 the reserved bit is free, a missing will has details, and promised strings may be missing.
        b"\x00\x06MQIsdp\x03\x3b\x00\x00\x00\x01a",
        b"\x00\x06MQIsdp\x03\xC2\x00\x00\x00\x01a",
        b"\x00\x06MQIsdp\x03\xC2\x00\x00\x00\x01a\x00\x01u",
        // An empty user name, an empty password, an empty will message.
        b"\x00\x04MQTT\x04\xC6\x00\x00\x00\x01a\x00\x01t\x00\x00\x00\x00\x00\x00",
    ] {
        let bytes = packet(body);
        assert!(whole(&bytes).is_ok(), "{body:?}: {:?}", whole(&bytes));
    }
    // A remaining length padded to four bytes.
    assert!(whole(b"\x10\x8d\x80\x80\x00\x00\x04MQTT\x04\x02\x00\x00\x00\x01a").is_ok());
}

#[test]
fn what_begins_with_another_byte_is_named() {
    for (bytes, reason) in [
        (&b"\x16\x03\x01\x02\x00\x01"[..], "tls_hello"),
        (b"\x16", "tls_hello"),
        (b"\x16\x0a", "bad_flags"),
        (b"GET / HTTP/1.1\r\n", "http"),
        (b"GET", "http"),
        (b"POST /", "http"),
        (b"OPTIONS *", "http"),
        (b"CONNECT host:1 HTTP/1.1", "http"),
        (b"PROXY TCP4 1.2.3.4", "proxy_header"),
        (b"PRO", "proxy_header"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", "proxy_header"),
        (b"\r\n\r", "proxy_header"),
        (b"\x11\x0d", "bad_flags"),
        (b"\x20\x02\x00\x00", "not_connect"),
        (b"\x30\x05\x00\x01t", "not_connect"),
        (b"\x82\x05", "not_connect"),
        (b"\xC0\x00", "not_connect"),
        (b"\xE0\x00", "not_connect"),
        (b"\xC3\x00", "not_mqtt"),
        (b"SSH-2.0-OpenSSH", "not_mqtt"),
        (b"\x00\x00", "not_mqtt"),
        (b"\x03\x00\x00\x2a\x25", "not_mqtt"),
        (b"\xff", "not_mqtt"),
    ] {
        let error = whole(bytes).expect_err("no CONNECT");
        assert_eq!(error.reason(), reason, "{bytes:?}: {error}");
        assert!(error.to_string().is_ascii());
    }
}

#[test]
fn a_bad_header_is_refused_before_the_body_comes() {
    for (bytes, max, reason) in [
        (&b"\x10\xff\xff\xff\xff"[..], 1 << 28, "bad_length"),
        (b"\x10\xff\xff\xff\xff\x01", 1 << 28, "bad_length"),
        (b"\x10\x00", 100, "bad_length"),
        (b"\x10\x0b", 100, "bad_length"),
        (b"\x10\x63", 100, "too_large"),
        (b"\x10\xff\xff\xff\x7f", 1 << 20, "too_large"),
        (b"\x10\x20\x01", 100, "bad_protocol_name"),
        (b"\x10\x20\x00\x05", 100, "bad_protocol_name"),
        (b"\x10\x20\x00\x04mqtt", 100, "bad_protocol_name"),
        (b"\x10\x20\x00\x04MQTx", 100, "bad_protocol_name"),
        (b"\x10\x20\x00\x06MQisdp", 100, "bad_protocol_name"),
        (b"\x10\x20\x00\x04MQTT\x03", 100, "bad_level"),
        (b"\x10\x20\x00\x04MQTT\x06", 100, "bad_level"),
        (b"\x10\x20\x00\x06MQIsdp\x04", 100, "bad_level"),
        (b"\x10\x20\x00\x04MQTT\x04\x01", 100, "bad_connect_flags"),
        (
            b"\x10\x20\x00\x04MQTT\x05\x02\x00\x00\x7f",
            100,
            "bad_length",
        ),
        (
            b"\x10\x20\x00\x04MQTT\x04\x02\x00\x00\xff\xff",
            100,
            "bad_length",
        ),
    ] {
        let error = parse(bytes, max).expect_err("nothing can mend it");
        assert_eq!(error.reason(), reason, "{bytes:?}: {error}");
        // One byte earlier it could still have become a CONNECT.
        let before = &bytes[..bytes.len() - 1];
        let known_before = matches!(parse(before, max), Err(error) if error.reason() == reason);
        let late = bytes.len() == 6 || bytes.ends_with(b"\xff\xff") || bytes.ends_with(b"mqtt");
        assert!(
            late || !known_before || bytes.ends_with(b"MQisdp"),
            "{bytes:?}"
        );
    }
    assert!(matches!(
        parse(b"\x10\x62", 100),
        Ok(Parsed::Incomplete { need: 100 })
    ));
}

#[test]
fn contradicting_flags_are_refused_and_explained() {
    for (level, flags, want) in [
        (4, 0x03, "the reserved bit is set, want 0"),
        (5, 0x03, "the reserved bit is set, want 0"),
        (3, 0x1e, "the will has QoS 3, want 0 to 2"),
        (4, 0x1e, "the will has QoS 3, want 0 to 2"),
        (5, 0x1e, "the will has QoS 3, want 0 to 2"),
        (4, 0x0a, "QoS or retain of a will without a will, want 0"),
        (5, 0x22, "QoS or retain of a will without a will, want 0"),
        (
            3,
            0x42,
            "a password without a user name, want both (or MQTT 5)",
        ),
        (
            4,
            0x42,
            "a password without a user name, want both (or MQTT 5)",
        ),
    ] {
        let name: &[u8] = if level == 3 { NAME_3_1 } else { NAME };
        let body = [name, &[level, flags], b"\0\0\0\0\0\0\0\0\0\0\0"].concat();
        let want = format!("connect flags are 0x{flags:02X}: {want}");
        assert_eq!(refused(&body), ("bad_connect_flags", want));
    }
}

#[test]
fn bad_strings_are_refused_whichever_they_are() {
    for (body, want) in [
        (
            &b"\x00\x04MQTT\x04\x02\x00\x00\x00\x02\xc3\x28"[..],
            "client id is not UTF-8",
        ),
        (
            b"\x00\x04MQTT\x04\x02\x00\x00\x00\x03\xed\xa0\x80",
            "client id is not UTF-8",
        ),
        (
            b"\x00\x04MQTT\x04\x02\x00\x00\x00\x02\xc0\x80",
            "client id is not UTF-8",
        ),
        (
            b"\x00\x04MQTT\x04\x02\x00\x00\x00\x02a\x00",
            "client id has U+0000 in it",
        ),
        (
            b"\x00\x04MQTT\x04\x82\x00\x00\x00\x01a\x00\x01\xff",
            "user name is not UTF-8",
        ),
        (
            b"\x00\x04MQTT\x04\x06\x00\x00\x00\x01a\x00\x01\xff\x00\x00",
            "will topic is not UTF-8",
        ),
        (
            b"\x00\x04MQTT\x04\x06\x00\x00\x00\x01a\x00\x00\x00\x00",
            "will topic is empty, want at least one character",
        ),
        (
            b"\x00\x04MQTT\x04\x06\x00\x00\x00\x01a\x00\x03a/#\x00\x00",
            "will topic has a wildcard, want a topic name without + and #",
        ),
    ] {
        assert_eq!(refused(body), ("bad_string", want.to_owned()));
    }
}

#[test]
fn an_empty_client_id_is_refused_where_the_client_must_have_one() {
    for (body, level, want) in [
        (
            &b"\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00"[..],
            Level::V31,
            "client id is empty, want at least one character in MQTT 3.1",
        ),
        (
            b"\x00\x04MQTT\x04\x00\x00\x00\x00\x00",
            Level::V311,
            "client id is empty, want one, or a clean session",
        ),
    ] {
        assert_eq!(refused(body), ("bad_client_id", want.to_owned()));
        let bytes = packet(body);
        assert!(
            matches!(whole(&bytes), Err(ConnectError::BadClientId { level: l, .. }) if l == level)
        );
    }
}

#[test]
fn bytes_behind_the_last_field_are_refused_and_missing_ones_too() {
    let trailing = (
        "trailing_bytes",
        "2 bytes follow the last field, want the packet to end there",
    );
    let body = b"\x00\x04MQTT\x04\x02\x00\x00\x00\x01a\x00\x00";
    assert_eq!(refused(body), (trailing.0, trailing.1.to_owned()));
    for (body, want) in [
        (
            &b"\x00\x04MQTT\x04\x02\x00\x00\x00\x03ab"[..],
            "client id needs 3 bytes, 2 are left in the packet",
        ),
        (
            b"\x00\x04MQTT\x04\x82\x00\x00\x00\x01a",
            "user name needs 2 bytes, 0 are left in the packet",
        ),
        (
            b"\x00\x04MQTT\x04\xC2\x00\x00\x00\x01a\x00\x01u\x00",
            "password needs 2 bytes, 1 are left in the packet",
        ),
        (
            b"\x00\x06MQIsdp\x03\x82\x00\x00\x00\x01a\x00",
            "user name needs 2 bytes, 1 are left in the packet",
        ),
        (
            b"\x00\x04MQTT\x04\x06\x00\x00\x00\x01a\x00\x01t",
            "will message needs 2 bytes, 0 are left in the packet",
        ),
        (
            b"\x00\x04MQTT\x05\x02\x00\x00\x04\x00\x01a",
            "properties of the CONNECT needs 4 bytes, 3 are left in the packet",
        ),
    ] {
        assert_eq!(refused(body), ("bad_length", want.to_owned()));
    }
}

#[test]
fn bad_properties_are_refused_and_explained() {
    for (list, want) in [
        (&b"\x00"[..], "property 0x00 does not exist in MQTT 5"),
        (b"\x2b\x00", "property 0x2B does not exist in MQTT 5"),
        (b"\x91\x00", "property 0x91 does not exist in MQTT 5"),
        (b"\x23\x00\x01", "property 0x23 does not belong here"),
        (b"\x13\x00\x01", "property 0x13 does not belong here"),
        (
            b"\x18\x00\x00\x00\x01",
            "property 0x18 does not belong here",
        ),
        (
            b"\x11\0\0\0\x01\x11\0\0\0\x01",
            "property 0x11 is there twice",
        ),
        (
            b"\x21\x00\x00",
            "property 0x21 has the value 0, want at least 1",
        ),
        (
            b"\x27\x00\x00\x00\x00",
            "property 0x27 has the value 0, want at least 1",
        ),
        (b"\x17\x02", "property 0x17 has the value 2, want 0 or 1"),
        (
            b"\x11\x00\x00\x00",
            "property 0x11 needs 4 more bytes, 3 are left in the list",
        ),
        (
            b"\x26\x00\x01k\x00\x02v",
            "property 0x26 needs 2 more bytes, 1 are left in the list",
        ),
        (
            b"\x26\x00\x01\x00\x00\x00",
            "property 0x26 has U+0000 in it",
        ),
        (b"\x15\x00\x01\xff", "property 0x15 is not UTF-8"),
        (
            b"\x16\x00\x00",
            "authentication data is there without an authentication method",
        ),
    ] {
        let want = format!("properties of the CONNECT: {want}");
        assert_eq!(refused(&v5(list)), ("bad_properties", want));
    }
    for (list, want) in [
        (
            &b"\x11\x00\x00\x00\x01"[..],
            "property 0x11 does not belong here",
        ),
        (b"\x01\x02", "property 0x01 has the value 2, want 0 or 1"),
        (
            b"\x18\0\0\0\x01\x18\0\0\0\x01",
            "property 0x18 is there twice",
        ),
    ] {
        let want = format!("properties of the will: {want}");
        assert_eq!(refused(&v5_will(list)), ("bad_properties", want));
    }
    let wildcard = refused(&v5_will(b"\x08\x00\x01+"));
    assert_eq!(wildcard.0, "bad_string");
    let overlong = refused(b"\x00\x04MQTT\x05\x02\x00\x00\x80\x00\x00\x01a");
    let want = "properties of the CONNECT: the length of the list is malformed, want 1 to 4 bytes in the shortest form";
    assert_eq!(overlong, ("bad_properties", want.to_owned()));
}

#[test]
fn every_reason_is_in_the_list_of_labels() {
    let mut seen = std::collections::BTreeSet::new();
    let garbage = [
        &b"\xff"[..],
        b"\x16\x03",
        b"GET ",
        b"PROXY ",
        b"\xE0",
        b"\x1f",
        b"\x10\x00",
        b"\x10\xff\xff\xff\x7f",
        b"\x10\x20X",
        b"\x10\x20\x00\x04MQTT\x09",
        b"\x10\x20\x00\x04MQTT\x04\x01",
    ];
    for bytes in garbage {
        seen.insert(whole(bytes).expect_err("garbage").reason());
    }
    for body in [
        &b"\x00\x04MQTT\x04\x02\x00\x00\x00\x01\xff"[..],
        &v5(b"\x00"),
        b"\x00\x04MQTT\x04\x02\x00\x00\x00\x01a\x00",
        b"\x00\x04MQTT\x04\x00\x00\x00\x00\x00",
    ] {
        seen.insert(refused(body).0);
    }
    assert_eq!(seen, ConnectError::REASONS.into_iter().collect());
}

#[test]
fn a_packet_that_comes_byte_by_byte_costs_a_bounded_look_each_time() {
    // 100 000 bytes of user properties: a look that read them all each time would take minutes here.
    let properties = b"\x26\x00\x00\x00\x00".repeat(20_000);
    let bytes = packet(&v5(&properties));
    for seen in 1..bytes.len() {
        assert!(matches!(
            parse(&bytes[..seen], 1 << 20),
            Ok(Parsed::Incomplete { .. })
        ));
    }
    assert!(whole(&bytes).is_ok());
}

/// Cuts are judged as a caller sees them: more bytes each time, until there is an answer.
fn fed(bytes: &[u8], max: usize) -> Result<Option<Connect<'_>>, ConnectError> {
    let mut seen = 0;
    loop {
        match parse(&bytes[..seen], max)? {
            Parsed::Connect(connect) => return Ok(Some(connect)),
            Parsed::Incomplete { need } => assert!(need > seen, "{need} of {seen}"),
        }
        if seen == bytes.len() {
            return Ok(None);
        }
        seen += 1;
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z/]{1,9}", "[^\0]{1,80}"]
}

fn put(out: &mut Vec<u8>, field: &[u8]) {
    crate::mqtt::put_binary(out, field);
}

proptest! {
    #[test]
    fn valid_connects_say_what_was_put_in_whatever_the_pieces(
        (level, bridge, clean, keep_alive) in (3..=5_u8, any::<bool>(), any::<bool>(), any::<u16>()),
        (id, username) in (text(), prop::option::of(text())),
        password in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
        will in prop::option::of(("[a-z/]{1,20}", prop::collection::vec(any::<u8>(), 0..200), 0..3_u8, any::<bool>())),
        expiry in prop::option::of(any::<u32>()),
        pairs in prop::collection::vec((text(), text()), 0..3),
        behind in prop::collection::vec(any::<u8>(), 0..5),
    ) {
        prop_assume!(!id.is_empty() || level == 5 || (level == 4 && clean));
        prop_assume!(level == 5 || password.is_none() || username.is_some());
        let bridge = bridge && level != 5;
        let mut flags = u8::from(clean) << 1;
        if let Some((_, _, qos, retain)) = &will {
            flags |= 0x04 | qos << 3 | u8::from(*retain) << 5;
        }
        flags |= u8::from(password.is_some()) << 6 | u8::from(username.is_some()) << 7;
        let mut list = Vec::new();
        for (name, value) in &pairs {
            list.push(0x26);
            put(&mut list, name.as_bytes());
            put(&mut list, value.as_bytes());
        }
        let mut body = Vec::new();
        put(&mut body, if level == 3 { b"MQIsdp" } else { b"MQTT" });
        body.extend([level | u8::from(bridge) << 7, flags]);
        body.extend(keep_alive.to_be_bytes());
        if level == 5 {
            let mut list = list.clone();
            if let Some(seconds) = expiry {
                list.push(0x11);
                list.extend(seconds.to_be_bytes());
            }
            crate::mqtt::put_var_int(&mut body, list.len() as u32);
            body.extend(list);
        }
        put(&mut body, id.as_bytes());
        if let Some((topic, message, ..)) = &will {
            if level == 5 {
                crate::mqtt::put_var_int(&mut body, list.len() as u32);
                body.extend(&list);
            }
            put(&mut body, topic.as_bytes());
            put(&mut body, message);
        }
        for field in [username.as_deref().map(str::as_bytes), password.as_deref()].into_iter().flatten() {
            put(&mut body, field);
        }
        let mut bytes = packet(&body);
        let len = bytes.len();
        bytes.extend(behind);
        let want = Connect {
            len,
            level: Level::from_number(level).expect("3 to 5"),
            bridge,
            clean_start: clean,
            keep_alive,
            client_id: &id,
            username: username.as_deref(),
            session_expiry: if level == 5 { expiry.unwrap_or(0) } else { 0 },
            will: will.is_some(),
        };
        prop_assert_eq!(whole(&bytes), Ok(want));
        prop_assert_eq!(fed(&bytes, len), Ok(Some(want)));
        let too_large = matches!(parse(&bytes, len - 1), Err(ConnectError::TooLarge { .. }));
        prop_assert!(too_large);
    }

    #[test]
    fn a_damaged_connect_gets_one_answer_in_one_piece_and_in_many(
        at: usize,
        with: u8,
        which in 0..4_usize,
    ) {
        let mut bytes = [
            packet(b"\x00\x06MQIsdp\x03\xC6\x00\x3c\x00\x02id\x00\x01t\x00\x01m\x00\x01u\x00\x01p"),
            packet(b"\x00\x04MQTT\x04\xC6\x00\x3c\x00\x02id\x00\x01t\x00\x01m\x00\x01u\x00\x01p"),
            packet(&v5(b"\x11\0\0\0\x01\x26\x00\x01k\x00\x01v\x15\x00\x01m\x21\x00\x01")),
            packet(&v5_will(b"\x01\x01\x18\0\0\0\x01\x08\x00\x01r")),
        ][which].clone();
        let at = at % bytes.len();
        bytes[at] = with;
        let (one, many) = (parse(&bytes, 4096), fed(&bytes, 4096));
        match one {
            // A first byte says less than three of them do.
            Err(error) if at > 0 => {
                prop_assert_eq!(many.map_err(|many| many.reason()), Err(error.reason()));
            }
            Err(_) => prop_assert!(many.is_err()),
            Ok(Parsed::Connect(connect)) => prop_assert_eq!(many, Ok(Some(connect))),
            Ok(Parsed::Incomplete { need }) => {
                prop_assert!(need > bytes.len());
                prop_assert_eq!(many, Ok(None));
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(
        head in prop::sample::select(vec![&b""[..], b"\x10", b"\x10\x40\x00\x04MQTT\x05", b"\x10\x60\x00\x04MQTT\x04"]),
        tail in prop::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 0..150),
    ) {
        let bytes = [head, &tail].concat();
        let (one, many) = (parse(&bytes, 4096), fed(&bytes, 4096));
        prop_assert_eq!(one.is_err(), many.is_err());
    }
}
