//! The greeting: what is no CONNECT never reaches a broker, and nobody is waited for without end.

use std::thread;

use standfast_tests::mqtt::{packet, sized, subscribe};
use standfast_tests::prelude::*;

/// First packets that are no CONNECT, and the reason that is given for each.
fn strangers() -> Vec<(&'static str, Vec<u8>)> {
    let hello = [
        &[0x16, 3, 1, 0, 0x2f, 1, 0, 0, 0x2b, 3, 3][..],
        &[7; 32],
        &[0, 0, 2, 0x13, 1, 1, 0, 0],
    ];
    let bad_utf8 = Connect {
        id: vec![b'a', 0xff, 0xfe],
        ..Connect::v311("")
    };
    let reserved = Connect {
        more_flags: 1,
        ..Connect::v311("x")
    };
    vec![
        (
            "http",
            b"GET / HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\n\r\n".to_vec(),
        ),
        ("tls_hello", hello.concat()),
        ("not_connect", subscribe("#")),
        ("bad_string", bad_utf8.bytes()),
        ("bad_connect_flags", reserved.bytes()),
        (
            "bad_flags",
            [&[0x1f][..], &Connect::v311("x").bytes()[1..]].concat(),
        ),
        // Lengths that promise 268 MB, that go on for more than four bytes, and that promise nothing.
        (
            "too_large",
            vec![0x10, 0xff, 0xff, 0xff, 0x7f, 0, 4, b'M', b'Q'],
        ),
        ("bad_length", vec![0x10, 0xff, 0xff, 0xff, 0xff, 0x01, 0, 4]),
        ("bad_length", vec![0x10, 0]),
        ("not_mqtt", vec![0; 40]),
    ]
}

/// C03: HTTP GET, TLS hello on a plain port, SUBSCRIBE first, bad UTF-8, reserved bit set, length bomb, 0-length → closed
/// < 50 ms, never reach a broker; a reason for each
///
/// Each is tried three times, and the quickest counts: the others may have waited for this machine.
#[test]
fn c03_what_is_no_connect_is_closed_at_once_and_reaches_no_broker() {
    const TRIES: usize = 3;
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\n{}",
        backends([&broker])
    )));
    let strangers = strangers();
    for (reason, bytes) in &strangers {
        let quickest = (0..TRIES).map(|_| {
            let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
            let start = Instant::now();
            client.send(bytes).expect("open");
            client.ending(s(5)).expect("closed");
            start.elapsed()
        });
        let quickest = quickest.min().expect("three tries");
        assert!(quickest < ms(50), "{reason} took {quickest:?}");
    }
    standfast.wait_ends("not-mqtt", TRIES * strangers.len());
    let counted = standfast.status()["counters"]["not_mqtt"].clone();
    for (reason, _) in &strangers {
        let times = strangers.iter().filter(|(it, _)| it == reason).count() * TRIES;
        assert_eq!(standfast.count_ends(&format!("not-mqtt({reason})")), times);
        assert_eq!(counted[reason], times, "{reason} in {counted}");
    }
    assert_eq!(broker.contacts().len(), 0);
    // The listener is none the worse for it.
    visit(&standfast, "honest");
    assert_eq!(broker.ids(""), ["honest"]);
}

/// C03: … bad UTF-8 … — also where the bad bytes come one by one, and where more than the packet is there.
#[test]
fn c03_a_bad_connect_that_comes_in_pieces_is_refused_all_the_same() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\n{}",
        backends([&broker])
    )));
    let body = [&sized(b"MQTT")[..], &[4, 2, 0, 60], &sized(b"a\xc0\xaf")].concat();
    let bytes = [packet(0x10, &body), subscribe("#")].concat();
    for size in [1, 5, bytes.len()] {
        let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
        // Where it is refused early, the rest finds a closed connection.
        let _ = client.send_in_pieces(&bytes, size, ms(1));
        client.ending(s(5)).expect("closed");
    }
    standfast.wait_ends("not-mqtt(bad_string)", 3);
    assert_eq!(broker.contacts().len(), 0);
}

/// C15: silent client closed at the deadline, counted; slow but complete CONNECT before it passes; 10,000 silent sockets
/// do not block others
///
/// The deadline is 1 s here in place of 10 s; the 10,000 sockets have a test of their own.
#[test]
fn c15_a_silent_client_is_closed_at_the_deadline_and_counted() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&listener_and_pool(
        "connect_deadline = \"1s\"",
        &format!("check = false\n{}", backends([&broker])),
    ));
    let to = standfast.addr("mqtt");
    let connect = Connect::v311("half").bytes();
    thread::scope(|scope| {
        // Silent from the beginning, after half a CONNECT, and a byte at a time past the deadline.
        for sent in [0, connect.len() / 2] {
            let connect = &connect;
            scope.spawn(move || {
                let start = Instant::now();
                let mut client = Client::open(to).expect("it listens");
                client.send(&connect[..sent]).expect("open");
                client.ending(s(5)).expect("closed");
                let took = start.elapsed();
                assert!(took > ms(950) && took < ms(2000), "{sent}: {took:?}");
            });
        }
        scope.spawn(|| {
            let start = Instant::now();
            let mut client = Client::open(to).expect("it listens");
            let _ = client.send_in_pieces(&connect, 1, ms(150));
            client.ending(s(5)).expect("closed");
            assert!(start.elapsed() > ms(950));
        });
    });
    standfast.wait_ends("connect-deadline", 3);
    assert_eq!(
        standfast.status()["counters"]["ends"]["connect-deadline"],
        3
    );
    assert_eq!(broker.contacts().len(), 0);
}

/// C15: … slow but complete CONNECT before it passes …
#[test]
fn c15_a_slow_connect_before_the_deadline_passes() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&listener_and_pool(
        "connect_deadline = \"3s\"",
        &format!("check = false\n{}", backends([&broker])),
    ));
    let bytes = Connect::v311("slow").bytes();
    let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
    let start = Instant::now();
    client
        .send_in_pieces(&bytes, 2, ms(250))
        .expect("not closed");
    assert!(start.elapsed() > ms(1900));
    client.connack(s(5)).expect("accepted");
    // The deadline is that of the CONNECT: what comes after may take its time.
    pause(s(3).saturating_sub(start.elapsed()) + ms(500));
    client.ping().expect("open");
}

/// C15: … 10,000 silent sockets do not block others — here 500 of them; the whole number is among the slow tests.
#[test]
fn c15_silent_sockets_do_not_block_others() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\n{}",
        backends([&broker])
    )));
    let to = standfast.addr("mqtt");
    let silent: Vec<_> = (0..500)
        .map(|_| Client::open(to).expect("it listens"))
        .collect();
    let start = Instant::now();
    for number in 0..20 {
        visit(&standfast, &format!("c-{number}"));
    }
    assert!(start.elapsed() < s(2), "{:?}", start.elapsed());
    drop(silent);
}
