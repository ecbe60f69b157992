//! Faults that show with Mosquitto 2.1: checks and headers that it hangs up on.

use standfast_tests::broker::SIGNATURE;
use standfast_tests::prelude::*;

/// F07: Mosquitto 2.1 takes enable_proxy_protocol and not the reference's name; the mosquitto profile works with it
#[test]
fn f07_the_option_of_document_e_is_not_mosquittos() {
    let current = require!(Mosquitto::start_newer("enable_proxy_protocol 2"));
    let old = Mosquitto::start_newer("enable_proxy_protocol_v2 true");
    let error = format!("{:#}", old.expect_err("it does not take that name"));
    assert!(error.contains("enable_proxy_protocol_v2"), "{error}");
    let standfast = Standfast::start(&one_pool(&format!(
        "check = {{ interval = \"100ms\" }}\nproxy = {{ profile = \"mosquitto\" }}\n{}",
        backends_at([current.addr()])
    )));
    standfast.wait_up(&["b1"]);
    Client::id(standfast.addr("mqtt"), "it-works").disconnect();
}

/// A header with command LOCAL, as HAProxy's checks send it.
fn local() -> Vec<u8> {
    [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat()
}

/// F08: Mosquitto hangs up on LOCAL; standfast's check passes where HAProxy's fails
///
/// HAProxy's is one that resembles traffic: CONNECT, CONNACK.
#[test]
fn f08_mosquitto_hangs_up_on_a_local_header() {
    let mosquitto = require!(Mosquitto::start_newer("enable_proxy_protocol 2"));
    let mut client = Client::open(mosquitto.addr()).expect("it listens");
    client
        .send(&[local(), Connect::v311("local").bytes()].concat())
        .expect("open");
    client.ending(s(5)).expect("it hangs up");

    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let port = standfast_tests::ports::free();
    let lines = format!(
        "  option tcp-check\n  tcp-check connect send-proxy\n  tcp-check send-binary {}\n  tcp-check expect binary 20020000",
        hex(&Connect::v311("haproxy-check").bytes())
    );
    let options = "check inter 100 fall 2 rise 1 send-proxy-v2 check-send-proxy";
    let config = haproxy_listen(port, &lines, &[mosquitto.addr()], options);
    let haproxy = require!(Haproxy::start(&config));
    eventually(s(10), "HAProxy takes it for dead", || {
        let status = haproxy.stat("l", "s1", "status").expect("it answers");
        status == "DOWN"
    });

    let standfast = Standfast::start(&one_pool(&format!(
        "check = {{ interval = \"100ms\" }}\nproxy = \"mosquitto\"\n{}",
        backends_at([mosquitto.addr()])
    )));
    standfast.wait_up(&["b1"]);
    eventually(s(10), "ten checks", || {
        standfast.status().backend("b1")["check"]["passed_total"].as_u64() >= Some(10)
    });
    assert_eq!(standfast.status().backend("b1")["check"]["failed_total"], 0);
    visit(&standfast, "a-client");
}

/// The length field of a header: bytes after the first 16.
const MOST: usize = 500;

/// F09: no header longer than the broker takes is ever sent
///
/// That Mosquitto takes 500 bytes and not one more is asked of Mosquitto first.
#[test]
fn f09_no_header_is_longer_than_mosquitto_takes() {
    let mosquitto = require!(Mosquitto::start_newer("enable_proxy_protocol 2"));
    // Twelve bytes of addresses, and one TLV of 0xE0 (for anybody's use) that fills up the rest.
    for (length, is_welcome) in [(MOST, true), (MOST + 1, false)] {
        let value = length - 12 - 3;
        let mut head = SIGNATURE.to_vec();
        head.extend([0x21, 0x11]);
        head.extend(u16::try_from(length).expect("small").to_be_bytes());
        head.extend([127, 0, 0, 9, 127, 0, 0, 1, 0x30, 0x39, 7, 91, 0xe0]);
        head.extend(u16::try_from(value).expect("small").to_be_bytes());
        head.extend(vec![b'x'; value]);
        head.extend(Connect::v311("long-header").bytes());
        let mut client = Client::open(mosquitto.addr()).expect("it listens");
        client.send(&head).expect("open");
        assert_eq!(client.connack(s(3)).is_ok(), is_welcome, "{length} bytes");
    }
    let broker = FakeBroker::start();
    let long_id = "i".repeat(5000);
    for proxy in [
        "\"mosquitto\"",
        "\"emqx\"",
        "\"hivemq\"",
        "\"rabbitmq\"",
        "\"vernemq\"",
        "{ version = 2 }",
    ] {
        for host in ["127.0.0.1", "[::1]"] {
            let standfast = Standfast::start(&format!(
                "[[listener]]\nbind = \"{host}:${{port:mqtt}}\"\npool = \"mqtt\"\n[[pool]]\nname = \"mqtt\"\n\
                 check = {{ interval = \"100ms\" }}\nproxy = {proxy}\n{}",
                backends([&broker])
            ));
            standfast.wait_up(&["b1"]);
            let to = format!("{host}:{}", standfast.port("mqtt"));
            Client::id(to.parse().expect("an address"), &long_id).disconnect();
        }
    }
    let visits = broker.visits();
    assert!(visits.iter().filter(|visit| visit.id == long_id).count() == 12);
    for visit in visits {
        let header = visit.header.expect("each begins with one");
        assert!(header.raw.len() <= 16 + MOST, "{} bytes", header.raw.len());
    }
}
