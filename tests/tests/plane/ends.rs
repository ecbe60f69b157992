//! Ends: idle, deadlines, resets and wills.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use standfast_tests::mqtt::DISCONNECT;
use standfast_tests::prelude::*;

use crate::scripted::{CONNACK, Scripted, read_packet};

#[test]
fn silence_ends_by_keepalive_by_idle_cap_and_by_the_deadline_of_the_connect() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&listener_and_pool(
        "connect_deadline = \"2s\"",
        &format!(
            "check = false\ntimeout = {{ idle = \"3s\" }}\n{}",
            backends([&broker])
        ),
    ));
    let to = standfast.addr("mqtt");
    let began = Instant::now();
    let mut keepalive = Client::connect(to, &Connect::v311("keepalive").keepalive(1)).expect("in");
    let mut idle = Client::connect(to, &Connect::v311("idle").keepalive(0)).expect("in");
    let mut silent = Client::open(to).expect("it listens");
    let mut half = Client::open(to).expect("it listens");
    half.send(&Connect::v311("half").bytes()[..5])
        .expect("open");
    for (who, client, least, most) in [
        ("keepalive", &mut keepalive, ms(1_500), s(4)),
        ("silent", &mut silent, ms(1_900), s(5)),
        ("half", &mut half, ms(2_000), s(5)),
        ("idle", &mut idle, ms(3_000), s(6)),
    ] {
        let _ = client.ending(s(10)).expect("it ends");
        let took = began.elapsed();
        assert!(took >= least && took <= most, "{who}: {took:?}");
    }
    assert_eq!(standfast.line_of("keepalive")["end"], "keepalive-timeout");
    assert_eq!(standfast.line_of("idle")["end"], "idle-timeout");
    standfast.wait_ends("connect-deadline", 2);
}

/// The broker reads late: by then the client's reset is long past, and its DISCONNECT must be there all the same.
#[test]
fn a_reset_behind_a_disconnect_leaves_the_disconnect_for_a_broker_that_reads_late() {
    let seen = Arc::new(AtomicUsize::new(0));
    let goodbyes = seen.clone();
    let broker = Scripted::start(move |mut stream| {
        let mut pending = Vec::new();
        let _ = read_packet(&mut stream, &mut pending);
        let _ = stream.write_all(&CONNACK);
        pause(ms(400));
        let mut rest = pending;
        let ended = stream.read_to_end(&mut rest);
        if ended.is_ok() && rest.ends_with(&DISCONNECT) {
            goodbyes.fetch_add(1, Relaxed);
        }
    });
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\n{}",
        backends_at([broker.addr()])
    )));
    for round in 0..20 {
        let mut client = Client::id(standfast.addr("mqtt"), &format!("c{round}"));
        client.publish("t", b"last").expect("open");
        client.send(&DISCONNECT).expect("open");
        client.reset().expect("ours");
    }
    eventually(s(10), "all brokers read it, and a FIN behind it", || {
        seen.load(Relaxed) == 20
    });
    standfast.wait_ends("client-disconnect", 20);
}

/// With a real broker: the will of a client that said goodbye is not published, that of one that vanished is.
#[test]
fn a_will_is_published_for_who_vanished_and_not_for_who_said_goodbye() {
    let mosquitto = require!(Mosquitto::start(""));
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\n{}",
        backends_at([mosquitto.addr()])
    )));
    let to = standfast.addr("mqtt");
    let listening = require!(Subscriber::start(to, "listening", "wills/#", &[]));
    let polite = |number: u32| {
        let connect = Connect::v311(&format!("polite{number}")).will("wills/p", b"not-to-be-seen");
        let mut client = Client::connect(to, &connect).expect("accepted");
        client.send(&DISCONNECT).expect("open");
        client.reset().expect("ours");
    };
    (0..10).for_each(polite);
    standfast.wait_ends("client-disconnect", 10);
    let connect = Connect::v311("vanished").will("wills/v", b"vanished-will");
    let client = Client::connect(to, &connect).expect("accepted");
    client.reset().expect("ours");
    // It is published last: whatever was published of the others would be there before.
    listening.expect("vanished-will");
    assert!(
        !listening.output().contains("not-to-be-seen"),
        "{}",
        listening.output()
    );
}
