//! Edges: every place where reading stops before the kernel has nothing more goes on again.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use standfast_tests::mqtt::{DISCONNECT, publish};
use standfast_tests::ports;
use standfast_tests::prelude::*;

use crate::scripted::{CONNACK, Scripted, one_thread, read_packet, tcp_pool, worker};

/// Says a word, then answers each with another.
fn talker(mut stream: TcpStream) {
    let _ = stream.write_all(b"hello");
    let mut buffer = [0; 64];
    while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
        if stream.write_all(b"again").is_err() {
            return;
        }
    }
}

#[test]
fn a_server_that_refuses_leaves_no_mark_on_the_connection_that_the_next_one_takes() {
    let server = Scripted::start(talker);
    let nobody = ([127, 0, 0, 1], ports::free()).into();
    let standfast = Standfast::start(&tcp_pool("", &[nobody, server.addr()]));
    for _ in 0..6 {
        let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
        assert_eq!(client.bytes(5, s(5)).expect("its first word"), b"hello");
        for _ in 0..3 {
            client.send(b"go on").expect("open");
            assert_eq!(client.bytes(5, s(5)).expect("still open"), b"again");
        }
    }
}

/// A request whose client has half-closed is no less a request, also where the first server does not answer.
#[test]
fn a_half_close_while_connecting_is_passed_on_in_tcp_mode() {
    let server = Scripted::start(|mut stream| {
        let mut request = Vec::new();
        let _ = stream.read_to_end(&mut request);
        let _ = stream.write_all(&request);
    });
    let hole = BlackHole::start();
    let standfast = Standfast::start(&tcp_pool(
        "timeout = { connect = \"300ms\" }",
        &[hole.addr(), server.addr()],
    ));
    for _ in 0..4 {
        let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
        client.send(b"request").expect("open");
        client.half_close().expect("open");
        assert_eq!(client.to_end(s(5)).expect("the answer"), b"request");
    }
}

/// One flood keeps its record readable for ever: everybody else, the clock and the commands go on all the same.
#[test]
fn a_flood_starves_neither_other_clients_nor_the_clock_nor_commands() {
    let broker = Scripted::start(|mut stream| {
        let mut pending = Vec::new();
        let Some(connect) = read_packet(&mut stream, &mut pending) else {
            return;
        };
        if stream.write_all(&CONNACK).is_err() {
            return;
        }
        let (_, _, _, id) = connect.as_connect().unwrap_or_default();
        let mut buffer = vec![0; 256 * 1024];
        while let Ok(n) = stream.read(&mut buffer) {
            // A client that speaks gets an answer; the floods do not.
            if n == 0 || id == "other" && stream.write_all(&[0xD0, 0]).is_err() {
                return;
            }
        }
    });
    let standfast = Standfast::start(&one_thread(&format!(
        "check = false\n{}",
        backends_at([broker.addr()])
    )));
    let pid = worker(&standfast);
    let over = Arc::new(AtomicBool::new(false));
    // Packets of two bytes are what costs the proxy most and the sender least.
    let pings: Arc<[u8]> = [0xC0, 0].repeat(512 * 1024).into();
    let floods: Vec<_> = (0..2)
        .map(|number| {
            let client = Client::id(standfast.addr("mqtt"), &format!("flood{number}"));
            let (over, pings) = (over.clone(), pings.clone());
            thread::spawn(move || {
                let mut stream = client.stream();
                while !over.load(Relaxed) && stream.write_all(&pings).is_ok() {}
            })
        })
        .collect();
    let idle = Client::connect(standfast.addr("mqtt"), &Connect::v311("idle").keepalive(1));
    let mut other = Client::id(standfast.addr("mqtt"), "other");
    let began = Instant::now();
    // Longer than the guardian's patience with a loop that is stuck.
    while began.elapsed() < s(7) {
        other.ping().expect("it is served");
        let asked = Instant::now();
        let list = standfast.cli(&["connections", "--json"]).ok();
        assert!(list.stdout.contains("flood0"), "{list:?}");
        assert!(asked.elapsed() < s(5), "it took {:?}", asked.elapsed());
    }
    let (_, _) = idle
        .expect("accepted")
        .ending(s(10))
        .expect("its keepalive is over");
    assert_eq!(worker(&standfast), pid, "the worker lives");
    over.store(true, Relaxed);
    for flood in floods {
        flood.join().expect("it only writes");
    }
}

/// The end of a greeting that comes with its last bytes is an edge of its own that nobody sends again.
#[test]
fn a_client_that_leaves_in_the_middle_of_its_connect_is_gone_at_once() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\n{}",
        backends([&broker])
    )));
    let connect = Connect::v311("half").login("user", &[b'x'; 600]).bytes();
    for _ in 0..40 {
        let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
        client.send(&connect[..20]).expect("open");
        pause(ms(2));
        let _ = client.send(&connect[20..40]);
        let _ = client.stream().shutdown(Shutdown::Both);
    }
    // Far below the deadline of 10 s.
    eventually(s(4), "all are gone", || standfast.lines().len() == 40);
    assert_eq!(
        standfast.count_ends("client-close"),
        40,
        "{:?}",
        standfast.lines()
    );
}

/// A client that was told much, reads nothing and leaves with a DISCONNECT: its kernel resets what it did not read.
#[test]
fn a_disconnect_in_front_of_a_reset_reaches_the_broker_that_is_still_sending() {
    let seen = Arc::new(AtomicUsize::new(0));
    let goodbyes = seen.clone();
    let broker = Scripted::start(move |mut stream| {
        let mut pending = Vec::new();
        if read_packet(&mut stream, &mut pending).is_none() || stream.write_all(&CONNACK).is_err() {
            return;
        }
        let mut sending = stream.try_clone().expect("descriptors are left");
        let flood = publish("t", &[b'x'; 1000]);
        thread::spawn(move || while sending.write_all(&flood).is_ok() {});
        while let Some(packet) = read_packet(&mut stream, &mut pending) {
            if packet.bytes() == DISCONNECT {
                goodbyes.fetch_add(1, Relaxed);
            }
        }
    });
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\n{}",
        backends_at([broker.addr()])
    )));
    for round in 0..20 {
        let mut client = Client::id(standfast.addr("mqtt"), &format!("c{round}"));
        let _ = client.packet(s(5)).expect("a message");
        client.send(&DISCONNECT).expect("open");
        if round % 2 == 0 {
            client.reset().expect("ours");
        }
        let so_far = round + 1;
        eventually(s(5), "the broker read the DISCONNECT", || {
            seen.load(Relaxed) == so_far
        });
    }
    eventually(s(5), "all have ended", || standfast.lines().len() == 20);
    assert_eq!(standfast.count_ends("client-disconnect"), 20);
}

/// What a broker said before it closed is for the client, also where the client has said goodbye already.
#[test]
fn a_client_that_says_everything_at_once_still_gets_its_connack() {
    let broker = Scripted::start(|mut stream| {
        let mut pending = Vec::new();
        let _ = read_packet(&mut stream, &mut pending);
        let _ = read_packet(&mut stream, &mut pending);
        let _ = stream.write_all(&CONNACK);
    });
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\n{}",
        backends_at([broker.addr()])
    )));
    for round in 0..20 {
        let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
        let mut bytes = Connect::v311(&format!("c{round}")).bytes();
        bytes.extend(DISCONNECT);
        client.send(&bytes).expect("open");
        client.connack(s(5)).expect("the broker answered");
        let line = standfast.line_of(&format!("c{round}"));
        assert_eq!(line["end"], "client-disconnect", "{line}");
    }
}

#[test]
fn a_reset_behind_a_message_is_a_reset() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\n{}",
        backends([&broker])
    )));
    for round in 0..20 {
        let mut client = Client::id(standfast.addr("mqtt"), &format!("c{round}"));
        client.publish("t", b"last").expect("open");
        client.reset().expect("ours");
    }
    standfast.wait_ends("client-reset", 20);
}
