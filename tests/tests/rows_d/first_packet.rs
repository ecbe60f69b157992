//! The first packet is read whole, and nothing after it.

use standfast_tests::mqtt::{DISCONNECT, kind, packet, subscribe};
use standfast_tests::prelude::*;

fn start(broker: &FakeBroker, lines: &str) -> Standfast {
    Standfast::start(&one_pool(&format!(
        "balance = \"round-robin\"\ncheck = false\n{lines}\n{}",
        backends([broker])
    )))
}

/// Bytes after a CONNECT that no parser of MQTT would let pass.
fn horrors() -> Vec<Vec<u8>> {
    vec![
        // A second CONNECT, of another client.
        Connect::v5("somebody else").bytes(),
        // Packets that only a server sends, and the reserved one.
        vec![0x20, 2, 0, 0, 0x00, 0x00],
        // A length of five bytes, after which nobody knows where packets end.
        vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x7f],
        // SUBSCRIBE without its flags, an empty topic, bad UTF-8.
        packet(0x80, &[0, 0, 0xff, 0xff]),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        (0..=255).rev().collect(),
        // A packet that promises a quarter of a gigabyte and stops.
        vec![0x30, 0xff, 0xff, 0xff, 0x7f],
        vec![0; 70_000],
    ]
}

/// D14: only the first packet is parsed: what follows passes as it is, were it no MQTT at all
///
/// What this costs against plain TCP mode is a matter of the benchmarks, not of this test.
#[test]
fn d14_what_follows_the_connect_passes_as_it_is() {
    let broker = FakeBroker::start();
    broker.after(After::Collect);
    let standfast = start(&broker, "");
    for (number, horror) in horrors().into_iter().enumerate() {
        // Once on its own, once in the same segment as the CONNECT.
        for together in [false, true] {
            let id = format!("c-{number}-{together}");
            let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
            let connect = Connect::v311(&id).bytes();
            if together {
                client
                    .send(&[&connect[..], &horror].concat())
                    .expect("open");
                client.connack(s(5)).expect("accepted");
            } else {
                client.send(&connect).expect("open");
                client.connack(s(5)).expect("accepted");
                client.send(&horror).expect("open");
            }
            client.send(b"the end").expect("open");
            let want = [&horror[..], b"the end"].concat();
            let mut got = Vec::new();
            let arrived = standfast_tests::wait::try_within(s(5), || {
                got.clone_from(&broker.visits_of(&id)[0].received);
                (got.len() >= want.len()).then_some(())
            });
            assert!(
                arrived.is_some() && got == want,
                "{id}: {} of {} bytes",
                got.len(),
                want.len()
            );
            assert!(client.is_open(), "{id}");
        }
    }
    // The id of the connection stays that of its first packet.
    let line = standfast.line_of("c-0-false");
    assert_eq!(line["bytes_in"], 2 + 10 + 2 + 9 + horrors()[0].len() + 7);
}

/// D14: … passes as it is … — towards the client too.
#[test]
fn d14_what_a_broker_sends_passes_as_it_is() {
    let broker = FakeBroker::start();
    let standfast = start(&broker, "");
    for (number, horror) in horrors().into_iter().enumerate() {
        let id = format!("c-{number}");
        let mut client = Client::id(standfast.addr("mqtt"), &id);
        broker.send(&id, &horror).expect("connected");
        assert!(
            client.bytes(horror.len(), s(5)).expect("all") == horror,
            "{id}"
        );
    }
    // Even in the place of the CONNACK.
    broker.answer(Answer::Raw(b"\xff\xff\xff\xff\xff no CONNACK".to_vec()));
    let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
    client.send(&Connect::v5("strange").bytes()).expect("open");
    let heard = client.bytes(16, s(5)).expect("all");
    assert_eq!(heard, b"\xff\xff\xff\xff\xff no CONNACK");
}

/// D14: … what follows passes as it is … — also what a broker says to a client that has said DISCONNECT already, before it
/// closes. A client may send all that it has to say in one breath and read the answers afterwards.
#[test]
fn d14_what_a_broker_says_after_a_disconnect_still_arrives() {
    let broker = FakeBroker::start();
    broker.delay(ms(20));
    let standfast = start(&broker, "");
    for number in 0..20 {
        let connect = Connect::v311(&format!("c-{number}")).bytes();
        let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
        let breath = [&connect[..], &subscribe("#"), &DISCONNECT].concat();
        client.send(&breath).expect("open");
        let heard = client.to_end(s(5)).expect("closed in the end");
        // CONNACK and SUBACK.
        assert_eq!(heard, [0x20, 2, 0, 0, 0x90, 3, 0, 1, 0], "client {number}");
    }
}

/// D15: a CONNECT that comes byte by byte is put together
///
/// HAProxy does so too; what follows in the same breath is not lost, and the broker gets the very same bytes.
#[test]
fn d15_a_connect_in_pieces_reaches_the_broker_whole() {
    let broker = FakeBroker::start();
    let standfast = start(&broker, "");
    let port = standfast_tests::ports::free();
    let behind = FakeBroker::start();
    let lines = standfast_tests::simple::HAPROXY_MQTT_ONLY.replace("300ms", "5s");
    let haproxy = Haproxy::start(&haproxy_listen(port, &lines, &[behind.addr()], ""));
    let haproxy = require!(haproxy);
    let long_id = "i".repeat(300);
    let connects = [
        Connect::v31("three-one"),
        Connect::v311("three-one-one")
            .will("t", b"gone")
            .login("u", b"p"),
        Connect::v5("five"),
        Connect::v311(&long_id),
    ];
    for connect in connects {
        for size in [1, 2, 7] {
            let bytes = connect.bytes();
            let all = [&bytes[..], &subscribe("#")].concat();
            let id = String::from_utf8(connect.id.clone()).expect("ours");
            for (name, to, receiver) in [
                ("standfast", standfast.addr("mqtt"), &broker),
                ("HAProxy", ([127, 0, 0, 1], port).into(), &behind),
            ] {
                let mut client = Client::open(to).expect("it listens");
                client.send_in_pieces(&all, size, ms(0)).expect("open");
                let what = format!("{id} in pieces of {size} through {name}");
                if let Err(error) = client.connack(s(5)) {
                    panic!("{what}: {error:#}");
                }
                let visit = receiver.visits_of(&id).pop().expect("it was there");
                assert_eq!(visit.first, bytes, "{what}");
                let answer = client.packet(s(5)).expect("an answer to what followed");
                assert_eq!(answer.kind(), kind::SUBACK, "{what}");
                client.disconnect();
            }
        }
    }
    drop(haproxy);
}
