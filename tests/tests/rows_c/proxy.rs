//! PROXY headers towards the brokers, on traffic and on checks.

use std::io::Read;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use standfast_tests::prelude::*;

fn start(broker: SocketAddr, lines: &str) -> Standfast {
    Standfast::start(&one_pool(&format!("{lines}\n{}", backends_at([broker]))))
}

/// The header of this client's visit.
#[track_caller]
fn header_of(broker: &FakeBroker, id: &str) -> Header {
    let visit = broker.visits_of(id).pop().expect("it was there");
    visit.header.expect("a header")
}

/// C17: the bytes of HAProxy's send-proxy-v2; the broker logs the client's address
///
/// Both send to the same broker; apart from the client's port and the balancer's, the headers are equal.
#[test]
fn c17_the_header_is_haproxys_byte_for_byte() {
    let broker = FakeBroker::start();
    broker.wants(Wants::NotLocal);
    let port = standfast_tests::ports::free();
    let config = haproxy_listen(port, "", &[broker.addr()], "send-proxy-v2");
    let _haproxy = require!(Haproxy::start(&config));
    let standfast = start(broker.addr(), "check = false\nproxy = { version = 2 }");
    let there = Client::id(([127, 0, 0, 1], port).into(), "haproxy");
    let here = Client::id(standfast.addr("mqtt"), "standfast");
    let (theirs, ours) = (
        header_of(&broker, "haproxy"),
        header_of(&broker, "standfast"),
    );
    let mut want = standfast_tests::broker::SIGNATURE.to_vec();
    want.extend([0x21, 0x11, 0, 12, 127, 0, 0, 1, 127, 0, 0, 1]);
    assert_eq!(ours.raw[..24], want);
    assert_eq!(theirs.raw[..24], want);
    assert_eq!(ours.raw.len(), theirs.raw.len());
    assert_eq!(ours.source, Some(here.local()));
    assert_eq!(ours.destination, Some(standfast.addr("mqtt")));
    assert_eq!(theirs.source, Some(there.local()));
}

/// C17: the bytes of HAProxy's send-proxy-v2 … — over IPv6.
#[test]
fn c17_the_header_carries_ipv6_addresses() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&format!(
        "[[listener]]\nbind = \"[::1]:${{port:mqtt}}\"\npool = \"mqtt\"\n\
         [[pool]]\nname = \"mqtt\"\ncheck = false\nproxy = {{ version = 2 }}\n{}",
        backends([&broker])
    ));
    let to = SocketAddr::from((Ipv6Addr::LOCALHOST, standfast.port("mqtt")));
    let client = Client::id(to, "six");
    let header = header_of(&broker, "six");
    assert_eq!(header.raw[12..16], [0x21, 0x21, 0, 36]);
    assert_eq!(header.source, Some(client.local()));
    assert_eq!(header.destination, Some(to));
    assert_eq!(header.raw.len(), 52);
}

/// C17: the bytes of HAProxy's send-proxy-v2 … — in one write with the CONNECT, since receivers drop a header that comes
/// in pieces.
#[test]
fn c17_header_and_connect_leave_in_one_segment() {
    let port = standfast_tests::ports::free();
    let backend = TcpListener::bind(("127.0.0.1", port)).expect("ours");
    let standfast = start(
        ([127, 0, 0, 1], port).into(),
        "check = false\nproxy = { version = 2 }",
    );
    let connect = Connect::v311("one-write").bytes();
    for _ in 0..10 {
        let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
        client.send(&connect).expect("open");
        let (mut broker, _) = backend.accept().expect("it connects");
        let mut buffer = [0; 4096];
        let count = broker.read(&mut buffer).expect("bytes");
        assert_eq!(count, 28 + connect.len());
        assert_eq!(buffer[28..count], connect);
    }
}

/// C17: … version 1, for brokers that know only that.
#[test]
fn c17_version_one_is_a_line_of_text() {
    let broker = FakeBroker::start();
    let standfast = start(broker.addr(), "check = false\nproxy = { version = 1 }");
    let client = Client::id(standfast.addr("mqtt"), "text");
    let line = String::from_utf8(header_of(&broker, "text").raw).expect("text");
    let want = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n",
        client.local().port(),
        standfast.port("mqtt")
    );
    assert_eq!(line, want);
}

/// C17: the bytes of HAProxy's send-proxy-v2 … — as HAProxy itself reads them, where it is the receiver.
#[test]
fn c17_haproxy_takes_our_headers() {
    let broker = FakeBroker::start();
    let port = standfast_tests::ports::free();
    let config = haproxy_listen(port, "", &[broker.addr()], "send-proxy-v2").replace(
        &format!("127.0.0.1:{port}\n"),
        &format!("127.0.0.1:{port} accept-proxy\n"),
    );
    assert!(config.contains("accept-proxy"));
    let _haproxy = require!(Haproxy::start(&config));
    let receiver = ([127, 0, 0, 1], port).into();
    for (number, lines) in ["{ version = 2 }", "{ version = 1 }", "\"rabbitmq\""]
        .iter()
        .enumerate()
    {
        // The last has a CRC32C, which HAProxy verifies.
        let standfast = start(receiver, &format!("check = false\nproxy = {lines}"));
        let id = format!("through-{number}");
        let client = Client::id(standfast.addr("mqtt"), &id);
        assert_eq!(
            header_of(&broker, &id).source,
            Some(client.local()),
            "{lines}"
        );
    }
}

/// Waits until a few checks more have come than now, and answers the newest ones.
#[track_caller]
fn newest_checks(broker: &FakeBroker) -> Vec<standfast_tests::broker::Visit> {
    let before = broker.visits().len();
    eventually(s(5), "a few checks", || broker.visits().len() >= before + 3);
    broker.visits().split_off(before)
}

/// C18: checks pass against a broker that takes LOCAL and against Mosquitto 2.1, which needs PROXY
///
/// The profile tells which: `emqx` says LOCAL, `mosquitto` PROXY with real addresses. A broker that asks for a header at
/// all turns away a check that sends none.
#[test]
fn c18_checks_carry_the_header_that_the_broker_accepts() {
    let broker = FakeBroker::start();
    broker.wants(Wants::Header);
    let check = "check = { interval = \"100ms\" }";
    {
        let standfast = start(broker.addr(), &format!("{check}\nproxy = \"emqx\""));
        standfast.wait_up(&["b1"]);
        for visit in newest_checks(&broker) {
            let header = visit.header.expect("a header");
            assert!(header.local);
            assert_eq!(header.raw[12..], [0x20, 0, 0, 0]);
        }
    }
    broker.forget();
    {
        let standfast = start(broker.addr(), &format!("{check}\nproxy = \"mosquitto\""));
        standfast.wait_up(&["b1"]);
        for visit in newest_checks(&broker) {
            let header = visit.header.expect("a header");
            assert!(!header.local);
            assert_eq!(header.source, Some(visit.peer), "its own address");
            assert_eq!(header.destination, Some(broker.addr()));
        }
    }
    let standfast = start(broker.addr(), check);
    standfast.wait_state("b1", "down|not-ready", s(5));
}

/// C18: checks pass against a broker that takes LOCAL … — HAProxy is a real receiver that does.
#[test]
fn c18_checks_pass_against_haproxy_as_a_receiver_of_local() {
    let broker = FakeBroker::start();
    let port = standfast_tests::ports::free();
    let config = haproxy_listen(port, "", &[broker.addr()], "").replace(
        &format!("127.0.0.1:{port}\n"),
        &format!("127.0.0.1:{port} accept-proxy\n"),
    );
    let _haproxy = require!(Haproxy::start(&config));
    let receiver = ([127, 0, 0, 1], port).into();
    for proxy in ["emqx", "mosquitto"] {
        let lines = format!("check = {{ interval = \"100ms\" }}\nproxy = \"{proxy}\"");
        let standfast = start(receiver, &lines);
        standfast.wait_up(&["b1"]);
        let _ = newest_checks(&broker);
        assert_eq!(standfast.status().backend("b1")["check"]["failed_total"], 0);
    }
}
