//! First packets judged by HAProxy's `mqtt_is_valid` and by standfast, side by side.

use standfast_tests::mqtt::{DISCONNECT, packet, publish, sized, subscribe};
use standfast_tests::prelude::*;

/// What becomes of a first packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Passes,
    Closed,
}
use Verdict::{Closed, Passes};

/// One first packet: its name, bytes, what standfast says, and why, where HAProxy says otherwise.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    verdict: Verdict,
    deviates: Option<&'static str>,
}

fn same(name: &'static str, verdict: Verdict, bytes: impl Into<Vec<u8>>) -> Case {
    let bytes = bytes.into();
    Case {
        name,
        bytes,
        verdict,
        deviates: None,
    }
}

fn other(
    name: &'static str,
    verdict: Verdict,
    why: &'static str,
    bytes: impl Into<Vec<u8>>,
) -> Case {
    Case {
        deviates: Some(why),
        ..same(name, verdict, bytes)
    }
}

/// A CONNECT from protocol name, level, flags and what follows the keepalive.
fn raw(name: &[u8], level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    let body = [&sized(name)[..], &[level, flags, 0, 60], rest].concat();
    packet(0x10, &body)
}

/// The `CONNECT` of MQTT 5 with these raw properties.
fn v5_with(properties: &[u8]) -> Vec<u8> {
    Connect {
        properties: properties.to_vec(),
        ..Connect::v5("five")
    }
    .bytes()
}

fn valid() -> Vec<Case> {
    let id = |id: &str| Connect::v311(id).bytes();
    let user_only = [&sized(b"x")[..], &sized(b"user")].concat();
    let wills = Connect::v311("w")
        .will("t", b"gone")
        .login("u", b"p")
        .bytes();
    let will_qos = raw(
        b"MQTT",
        4,
        0x36,
        &[&sized(b"w")[..], &sized(b"t"), &sized(b"gone")].concat(),
    );
    let expiry = [&[0x11, 0, 0, 1, 0][..], &[0x21, 0, 9], &[0x17, 1]].concat();
    let user_property = [&[0x26][..], &sized(b"key"), &sized(b"value")].concat();
    vec![
        same("3.1", Passes, Connect::v31("a").bytes()),
        same("3.1.1", Passes, id("a")),
        same("5", Passes, Connect::v5("a").bytes()),
        same(
            "a persistent session",
            Passes,
            Connect::v311("a").clean(false).bytes(),
        ),
        same("no id, clean", Passes, id("")),
        same("no id, 5", Passes, Connect::v5("").bytes()),
        same("id of 23 characters", Passes, id("12345678901234567890123")),
        same("id of 200 characters", Passes, id(&"i".repeat(200))),
        same("id in UTF-8", Passes, id("größe-✓")),
        same("will, user, password", Passes, wills),
        same("will of QoS 2, retained", Passes, will_qos),
        same(
            "user without password",
            Passes,
            raw(b"MQTT", 4, 0x82, &user_only),
        ),
        same("5 with properties", Passes, v5_with(&expiry)),
        same(
            "5 with a user property twice",
            Passes,
            v5_with(&user_property.repeat(2)),
        ),
        same(
            "keepalive 0",
            Passes,
            Connect::v311("a").keepalive(0).bytes(),
        ),
        same(
            "SUBSCRIBE behind it",
            Passes,
            [id("a"), subscribe("#")].concat(),
        ),
        same(
            "PUBLISH and DISCONNECT behind it",
            Passes,
            [id("a"), publish("t", b"x"), DISCONNECT.to_vec()].concat(),
        ),
        same(
            "8 kB password",
            Passes,
            Connect::v311("a").login("u", &[b'p'; 8192]).bytes(),
        ),
        other(
            "20 kB password",
            Passes,
            "HAProxy's buffer ends at 15.3 kB; tokens and wills are longer",
            Connect::v311("a").login("u", &[b'p'; 20_000]).bytes(),
        ),
        other(
            "a bridge, 3.1.1",
            Passes,
            "bit 7 of the level is how Mosquitto's bridges greet; brokers take it",
            Connect::v311("bridge").bridge().bytes(),
        ),
        other(
            "a bridge, 3.1",
            Passes,
            "bit 7 of the level is how Mosquitto's bridges greet; brokers take it",
            Connect::v31("bridge").bridge().bytes(),
        ),
    ]
}

fn invalid() -> Vec<Case> {
    let id = sized(b"x");
    let two_strings = [&id[..], &sized(b"y")].concat();
    let three_strings = [&two_strings[..], &sized(b"z")].concat();
    let whole = Connect::v311("x").bytes();
    let cut = |bytes: &[u8], length: u8| [&[bytes[0], length][..], &bytes[2..]].concat();
    let length = whole[1];
    vec![
        same("HTTP", Closed, *b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        same(
            "a TLS hello",
            Closed,
            [&[0x16, 3, 1, 0, 0x2f, 1, 0, 0, 0x2b, 3, 3][..], &[9; 40]].concat(),
        ),
        same("SSH", Closed, *b"SSH-2.0-OpenSSH_9.2\r\n"),
        same("zeros", Closed, [0; 20]),
        same("SUBSCRIBE", Closed, subscribe("#")),
        same("PUBLISH", Closed, publish("t", b"x")),
        same("PINGREQ", Closed, [0xc0, 0]),
        same("DISCONNECT", Closed, DISCONNECT),
        same("AUTH", Closed, [0xf0, 0]),
        same(
            "flags in the first byte",
            Closed,
            [&[0x11][..], &whole[1..]].concat(),
        ),
        same("length 0", Closed, [0x10, 0]),
        same(
            "length of five bytes",
            Closed,
            [0x10, 0xff, 0xff, 0xff, 0xff, 1, 0, 4],
        ),
        same(
            "length that ends in the id",
            Closed,
            cut(&whole, length - 1),
        ),
        same("length beyond what comes", Closed, cut(&whole, length + 5)),
        same("half a CONNECT", Closed, &whole[..whole.len() / 2]),
        same(
            "id longer than the packet",
            Closed,
            raw(b"MQTT", 4, 2, &[0, 9, b'x']),
        ),
        same("reserved flag", Closed, raw(b"MQTT", 4, 3, &id)),
        other(
            "will of QoS 3",
            Closed,
            "flags that MQTT forbids (3.1.2.6); a broker would close, after we chose one",
            raw(b"MQTT", 4, 0x1e, &three_strings),
        ),
        other(
            "QoS of no will",
            Closed,
            "flags that MQTT forbids (3.1.2.6); a broker would close, after we chose one",
            raw(b"MQTT", 4, 0x0a, &id),
        ),
        other(
            "retain of no will",
            Closed,
            "flags that MQTT forbids (3.1.2.7); a broker would close, after we chose one",
            raw(b"MQTT", 4, 0x22, &id),
        ),
        other(
            "password without user, 3.1.1",
            Closed,
            "flags that MQTT 3.1.1 forbids (3.1.2.9)",
            raw(b"MQTT", 4, 0x42, &two_strings),
        ),
        same("another protocol", Closed, raw(b"MQTX", 4, 2, &id)),
        same("level 2", Closed, raw(b"MQTT", 2, 2, &id)),
        same(
            "level 6",
            Closed,
            raw(b"MQTT", 6, 2, &[&[0][..], &id].concat()),
        ),
        other(
            "3.1's name with level 4",
            Closed,
            "no such version: brokers answer CONNACK 1 or close",
            raw(b"MQIsdp", 4, 2, &id),
        ),
        same(
            "bytes behind the last field",
            Closed,
            raw(b"MQTT", 4, 2, &[&id[..], &[1, 2, 3]].concat()),
        ),
        same("an unknown property", Closed, v5_with(&[0x7f, 0])),
        same(
            "properties beyond the packet",
            Closed,
            raw(b"MQTT", 5, 2, &[&[99][..], &id].concat()),
        ),
        same(
            "a PROXY header, version 1",
            Closed,
            *b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n",
        ),
        same(
            "a PROXY header, version 2",
            Closed,
            [&standfast_tests::broker::SIGNATURE[..], &[0x20, 0, 0, 0]].concat(),
        ),
        other(
            "no id, not clean, 3.1.1",
            Closed,
            "MQTT 3.1.1 has the broker close (3.1.3.1); there is no id to stick to",
            Connect::v311("").clean(false).bytes(),
        ),
        same(
            "the same property twice",
            Closed,
            v5_with(&[0x21, 0, 9, 0x21, 0, 9]),
        ),
        other(
            "bad UTF-8 in the id",
            Closed,
            "MQTT has the receiver close (1.5.4); logs and tables are spared",
            raw(b"MQTT", 4, 2, &sized(b"\xff\xfe")),
        ),
        other(
            "U+0000 in the id",
            Closed,
            "MQTT has the receiver close (1.5.4); logs and tables are spared",
            raw(b"MQTT", 4, 2, &sized(b"a\0b")),
        ),
        other(
            "mqtt in small letters",
            Closed,
            "the name is MQTT, letter by letter (3.1.2.1)",
            raw(b"mqtt", 4, 2, &id),
        ),
        other(
            "CONNACK",
            Closed,
            "HAProxy takes a server's packet for a client's",
            [0x20, 2, 0, 0],
        ),
    ]
}

/// Sends the bytes as a first packet: whether a broker hears of the client, or the client of its end.
fn judge(to: std::net::SocketAddr, broker: &FakeBroker, bytes: &[u8]) -> Verdict {
    let before = broker.contacts().len();
    let mut client = Client::open(to).expect("it listens");
    // A balancer that knows enough may close before everything is sent.
    let _ = client.send(bytes);
    within(s(5), "passed on or closed", || {
        if broker.contacts().len() > before {
            return Some(Passes);
        }
        (!client.is_open()).then_some(Closed)
    })
}

/// C16: a corpus judged as HAProxy's mqtt_is_valid judges it, or better where that is wrong
///
/// An excuse that is needed no more fails as well.
#[test]
fn c16_first_packets_are_judged_as_haproxy_judges_them_or_better() {
    let port = standfast_tests::ports::free();
    let [behind_haproxy, behind_standfast] = FakeBroker::several();
    let servers = [behind_haproxy.addr()];
    let config = haproxy_listen(
        port,
        standfast_tests::simple::HAPROXY_MQTT_ONLY,
        &servers,
        "",
    );
    let _haproxy = require!(Haproxy::start(&config));
    let standfast = Standfast::start(&listener_and_pool(
        "connect_deadline = \"300ms\"",
        &format!(
            "balance = \"round-robin\"\ncheck = false\n{}",
            backends([&behind_standfast])
        ),
    ));
    let mut wrong = Vec::new();
    for case in valid().into_iter().chain(invalid()) {
        let theirs = judge(([127, 0, 0, 1], port).into(), &behind_haproxy, &case.bytes);
        let ours = judge(standfast.addr("mqtt"), &behind_standfast, &case.bytes);
        let is_expected = ours == case.verdict && (theirs == ours) == case.deviates.is_none();
        if !is_expected {
            let excuse = case.deviates.unwrap_or("no deviation");
            wrong.push(format!(
                "{}: standfast {ours:?} (want {:?}), HAProxy {theirs:?} ({excuse})",
                case.name, case.verdict
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
