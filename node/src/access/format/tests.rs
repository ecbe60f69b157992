use super::*;
use std::time::UNIX_EPOCH;

/// A connection of five hours and three minutes that ended at 2026-11-21T10:15:02.114Z.
pub(in crate::access) fn line() -> Line {
    let duration = Duration::from_millis((5 * 3600 + 3 * 60) * 1000 + 250);
    Line {
        id: 0x6f1c_0000_0000_0001,
        accepted: UNIX_EPOCH + Duration::from_millis(1_795_256_102_114) - duration,
        duration,
        client_id: Some("dev-4711".into()),
        client: "198.51.100.7:50122".parse().unwrap(),
        local: "192.0.2.10:1883".parse().unwrap(),
        listener: ":1883".into(),
        pool: "mqtt".into(),
        backend: Some("mq1".into()),
        backend_addr: Some("10.0.0.11:1883".parse().unwrap()),
        proto: Some(5),
        keepalive: 60,
        why: Some("sticky-hit"),
        greeting: Some(Duration::from_millis(4)),
        queue: Some(Duration::ZERO),
        connect: Some(Duration::from_millis(1)),
        connack: Some(0),
        bytes_in: 88123,
        bytes_out: 90210,
        end: Some(End::ClientDisconnect),
    }
}

/// A connection that sent something else than a CONNECT.
fn stranger() -> Line {
    Line {
        duration: Duration::from_millis(12),
        client_id: None,
        backend: None,
        backend_addr: None,
        proto: None,
        keepalive: 0,
        why: None,
        greeting: None,
        queue: None,
        connect: None,
        connack: None,
        bytes_in: 18,
        bytes_out: 0,
        end: Some(End::NotMqtt("http")),
        ..line()
    }
}

fn text(line: &Line, format: AccessFormat) -> String {
    let zone = TimeZone::fixed(jiff::tz::offset(1));
    let setting = Setting {
        format,
        node: "lb1",
        zone: &zone,
        client: line.client_id.as_deref(),
    };
    super::format(line, &setting).0
}

#[test]
fn the_default_format_is_one_line_of_keys() {
    assert_eq!(
        text(&line(), AccessFormat::Standfast),
        "2026-11-21T10:15:02.114Z connection client=dev-4711 ip=198.51.100.7:50122 proto=5 keepalive=60 \
         listener=:1883 pool=mqtt backend=mq1 why=sticky-hit queue=0ms greeting=4ms connect=1ms connack=0x00 \
         dur=5h03m bytes_in=88123 bytes_out=90210 end=client-disconnect node=lb1 id=6f1c000000000001"
    );
    let end = stranger().accepted + stranger().duration;
    assert_eq!(
        text(&stranger(), AccessFormat::Standfast),
        format!(
            "{} connection client=- ip=198.51.100.7:50122 proto=- keepalive=- listener=:1883 pool=mqtt backend=- \
             why=- queue=- greeting=- connect=- connack=- dur=12ms bytes_in=18 bytes_out=0 end=not-mqtt(http) \
             node=lb1 id=6f1c000000000001",
            stamp::rfc3339(end)
        )
    );
}

#[test]
fn json_has_the_same_keys_in_the_same_order() {
    let parsed: serde_json::Value =
        serde_json::from_str(&text(&line(), AccessFormat::Json)).unwrap();
    assert_eq!(
        parsed,
        serde_json::json!({
            "time": "2026-11-21T10:15:02.114Z", "event": "connection", "client": "dev-4711",
            "ip": "198.51.100.7:50122", "proto": 5, "keepalive": 60, "listener": ":1883", "pool": "mqtt",
            "backend": "mq1", "why": "sticky-hit", "queue": 0.0, "greeting": 0.004, "connect": 0.001, "connack": 0,
            "dur": 18180.25, "bytes_in": 88123, "bytes_out": 90210, "end": "client-disconnect", "node": "lb1",
            "id": "6f1c000000000001"
        })
    );
    let keys: Vec<_> = parsed
        .as_object()
        .unwrap()
        .keys()
        .skip(2)
        .cloned()
        .collect();
    let flat = text(&line(), AccessFormat::Standfast);
    let flat: Vec<_> = flat
        .split(' ')
        .skip(2)
        .map(|pair| pair.split_once('=').unwrap().0)
        .collect();
    assert_eq!(keys, flat);
    let none: serde_json::Value =
        serde_json::from_str(&text(&stranger(), AccessFormat::Json)).unwrap();
    assert!(none["backend"].is_null() && none["connect"].is_null());
}

#[test]
fn a_line_at_connect_has_no_end() {
    let early = Line {
        end: None,
        ..line()
    };
    let text = text(&early, AccessFormat::Standfast);
    assert!(text.contains("Z connect client=dev-4711 "), "{text}");
    assert!(text.contains(" end=- "), "{text}");
}

#[test]
fn tcplog_has_the_fields_of_haproxy() {
    assert_eq!(
        text(&line(), AccessFormat::HaproxyTcplog),
        "198.51.100.7:50122 [21/Nov/2026:06:12:01.864] :1883 mqtt/mq1 0/1/18180250 90210 -- -/-/-/-/- -/-"
    );
    let text = text(&stranger(), AccessFormat::HaproxyTcplog);
    assert!(
        text.ends_with(" :1883 mqtt/<NOSRV> -1/-1/12 0 PR -/-/-/-/- -/-"),
        "{text}"
    );
}

#[test]
fn tcplog_tells_who_ended_a_connection_and_when() {
    let relaying = |end| {
        termination(&Line {
            end: Some(end),
            ..line()
        })
    };
    assert_eq!(relaying(End::ClientReset), "CD");
    assert_eq!(relaying(End::BackendClose), "SD");
    assert_eq!(relaying(End::KeepaliveTimeout), "cD");
    assert_eq!(relaying(End::BackendDown), "DD");
    assert_eq!(relaying(End::Kicked), "KD");
    let early = |end| {
        termination(&Line {
            end: Some(end),
            ..stranger()
        })
    };
    assert_eq!(early(End::ConnectDeadline), "cR");
    assert_eq!(early(End::ClientClose), "CR");
    assert_eq!(early(End::Refused(Refusal::PerIp)), "RR");
    assert_eq!(early(End::Refused(Refusal::Denied)), "PR");
    let waiting = Line {
        greeting: Some(Duration::ZERO),
        end: Some(End::NoBackend),
        ..stranger()
    };
    assert_eq!(termination(&waiting), "sQ");
    let connecting = Line {
        backend: Some("mq1".into()),
        ..waiting
    };
    assert_eq!(termination(&connecting), "SC");
}

#[test]
fn the_nginx_format_is_the_line_of_the_reference_with_the_client_id() {
    assert_eq!(
        text(&line(), AccessFormat::NginxMqtt),
        "198.51.100.7 [21/Nov/2026:11:15:02 +0100] TCP 200 88123 90210 10.0.0.11:1883 dev-4711"
    );
    let text = text(&stranger(), AccessFormat::NginxMqtt);
    assert!(text.ends_with("] TCP 400 18 0 - -"), "{text}");
}

#[test]
fn each_cause_has_its_nginx_code() {
    let relaying = |end| {
        status(&Line {
            end: Some(end),
            ..line()
        })
    };
    let early = |end| {
        status(&Line {
            end: Some(end),
            ..stranger()
        })
    };
    for end in [
        End::ClientDisconnect,
        End::ClientClose,
        End::BackendClose,
        End::KeepaliveTimeout,
        End::Drained,
        End::Shutdown,
    ] {
        assert_eq!(relaying(end), 200, "{end}");
    }
    assert_eq!(early(End::NotMqtt("tls")), 400);
    assert_eq!(early(End::ConnectDeadline), 400);
    assert_eq!(early(End::Refused(Refusal::Proxy)), 400);
    assert_eq!(early(End::Refused(Refusal::Denied)), 403);
    assert_eq!(early(End::Internal), 500);
    assert_eq!(early(End::NoBackend), 502);
    assert_eq!(early(End::BackendReset), 502);
    for limit in [
        Refusal::Connections,
        Refusal::ProcessConnections,
        Refusal::PerIp,
        Refusal::Rate,
        Refusal::GreetingMemory,
    ] {
        assert_eq!(early(End::Refused(limit)), 503, "{limit:?}");
    }
}

#[test]
fn a_client_id_cannot_forge_a_line_in_any_format() {
    let evil = Line {
        client_id: Some("x\nend=kicked \"} \u{1b}[2J".into()),
        ..line()
    };
    for format in [
        AccessFormat::Standfast,
        AccessFormat::Json,
        AccessFormat::HaproxyTcplog,
        AccessFormat::NginxMqtt,
    ] {
        let text = text(&evil, format);
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(!text.contains("\u{1b}"), "{text:?}");
    }
    assert!(
        text(&evil, AccessFormat::Standfast)
            .contains(r#"client="x\nend=kicked \"} \u{1b}[2J" ip="#)
    );
    assert!(text(&evil, AccessFormat::NginxMqtt).ends_with(r"x\x0Aend=kicked \x22} \x1B[2J"));
    let json: serde_json::Value = serde_json::from_str(&text(&evil, AccessFormat::Json)).unwrap();
    assert_eq!(json["client"].as_str(), evil.client_id.as_deref());
}

#[test]
fn an_empty_client_id_is_a_dash_and_a_dash_is_not_empty() {
    let named = |id: &str| Line {
        client_id: Some(id.into()),
        ..line()
    };
    assert!(text(&named(""), AccessFormat::Standfast).contains(" client=- "));
    assert!(text(&named("-"), AccessFormat::Standfast).contains(" client=\"-\" "));
    assert!(text(&named(""), AccessFormat::NginxMqtt).ends_with(":1883 -"));
    assert!(text(&named("-"), AccessFormat::NginxMqtt).ends_with(":1883 \\x2D"));
}

#[test]
fn addresses_of_a_listener_for_both_families_are_shown_as_what_they_are() {
    let mapped = Line {
        client: "[::ffff:198.51.100.7]:50122".parse().unwrap(),
        ..line()
    };
    assert!(text(&mapped, AccessFormat::NginxMqtt).starts_with("198.51.100.7 ["));
    let six = Line {
        client: "[2001:db8::7]:50122".parse().unwrap(),
        ..line()
    };
    assert!(text(&six, AccessFormat::Standfast).contains(" ip=[2001:db8::7]:50122 "));
    assert!(text(&six, AccessFormat::HaproxyTcplog).starts_with("2001:db8::7:50122 ["));
}

#[test]
fn spans_have_two_units_at_most() {
    let cases = [
        (0, "0ms"),
        (999, "999ms"),
        (12_345, "12.345s"),
        (303_000, "5m03s"),
        (18_180_000, "5h03m"),
        (273_600_000, "3d04h"),
    ];
    for (ms, text) in cases {
        assert_eq!(span(Duration::from_millis(ms)), text);
    }
}
