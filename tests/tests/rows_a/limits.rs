//! Bytes and bounds: what passes unchanged, how many at once, and how long.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use standfast_tests::prelude::*;
use standfast_tests::program::Dir;
use standfast_tests::standfast::binary;

use super::{one_pool, visit};

const MEGABYTE: usize = 1_000_000;

/// Bytes that look like nothing, the same in every run (xorshift).
fn noise(mut seed: u64, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend(seed.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// A11: random 1 MB both ways, equal; half-close respected
#[test]
fn a11_a_megabyte_passes_both_ways_unchanged() {
    let broker = FakeBroker::start();
    broker.after(After::EchoBytes);
    for mode in ["mqtt", "tcp"] {
        let standfast = Standfast::start(&one_pool(&format!(
            "mode = \"{mode}\"\nbalance = \"round-robin\"\ncheck = false\n{}",
            backends([&broker])
        )));
        let mut client = Client::id(standfast.addr("mqtt"), "noisy");
        let sent = noise(42, MEGABYTE);
        let mut half = client.stream().try_clone().expect("descriptors are left");
        let heard = thread::scope(|scope| {
            scope.spawn(|| half.write_all(&sent).expect("open"));
            client.bytes(MEGABYTE, s(20)).expect("all of it")
        });
        assert!(heard == sent, "{mode}: the bytes differ");
    }
}

/// A11: … half-close respected — after one side has said its last word, a megabyte still comes from the other. With one
/// exception: in MQTT a broker that closes has ended the session, and nothing of the client's is for anybody.
#[test]
fn a11_a_half_closed_connection_still_carries_the_other_direction() {
    let port = standfast_tests::ports::free();
    let backend = TcpListener::bind(("127.0.0.1", port)).expect("ours");
    let address: SocketAddr = backend.local_addr().expect("bound");
    let there = noise(1, MEGABYTE);
    let back = noise(2, MEGABYTE);
    for mode in ["mqtt", "tcp"] {
        let standfast = Standfast::start(&one_pool(&format!(
            "mode = \"{mode}\"\nbalance = \"round-robin\"\ncheck = false\n{}",
            backends_at([address])
        )));
        for is_client_first in [true, false] {
            let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
            client.send(&Connect::v311("half").bytes()).expect("open");
            let (mut broker, _) = backend.accept().expect("it connects");
            let mut connect = vec![0; Connect::v311("half").bytes().len()];
            broker.read_exact(&mut connect).expect("a CONNECT");
            broker.write_all(&[0x20, 2, 0, 0]).expect("open");
            client.connack(s(5)).expect("accepted");

            let client = client.stream();
            let (first, second) = match is_client_first {
                true => (client, &broker),
                false => (&broker, client),
            };
            send_and_close(first, &there);
            assert!(
                read_all(second) == there,
                "{mode} {is_client_first}: before the half close"
            );
            if mode == "mqtt" && !is_client_first {
                assert!(read_all(first).is_empty(), "the broker has its end too");
                continue;
            }
            send_and_close(second, &back);
            assert!(
                read_all(first) == back,
                "{mode} {is_client_first}: after the half close"
            );
        }
    }
}

/// Writes on a thread, since nobody reads yet, and closes the sending side.
fn send_and_close(stream: &TcpStream, bytes: &[u8]) {
    let mut stream = stream.try_clone().expect("descriptors are left");
    let bytes = bytes.to_vec();
    thread::spawn(move || {
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
    });
}

fn read_all(stream: &TcpStream) -> Vec<u8> {
    let mut stream = stream.try_clone().expect("descriptors are left");
    stream.set_read_timeout(Some(s(10))).expect("not zero");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an end");
    bytes
}

/// A13: at the limit the next client waits or is refused per setting; check tells when the descriptor limit cannot hold
/// it
#[test]
fn a13_beyond_the_limit_the_next_client_waits() {
    let broker = FakeBroker::start();
    for (limit, place) in [
        ("limits = { connections = 5 }", "process"),
        ("", "listener"),
    ] {
        let own = match place {
            "listener" => "limits = { connections = 5, over = \"wait\" }",
            _ => "",
        };
        let config = one_pool(&format!("check = false\n{}", backends([&broker])));
        let config = config.replace("[[pool]]", &format!("{own}\n[[pool]]"));
        let standfast = Standfast::start(&format!("{limit}\n{config}"));
        let to = standfast.addr("mqtt");
        let mut held: Vec<_> = (0..5)
            .map(|n| Client::id(to, &format!("{place}-{n}")))
            .collect();
        let mut next = Client::open(to).expect("the backlog takes it");
        let id = format!("{place}-next");
        next.send(&Connect::v311(&id).bytes()).expect("open");
        holds(ms(700), "it waits", || {
            broker.count_of(&id) == 0 && next.is_open()
        });
        held.pop().expect("five").disconnect();
        next.connack(s(5)).expect("its turn");
        assert!(held.iter_mut().all(|client| client.ping().is_ok()));
    }
}

/// A13: … or is refused per setting …
#[test]
fn a13_beyond_the_limit_the_next_client_is_refused_where_asked_for() {
    let broker = FakeBroker::start();
    let config = one_pool(&format!("check = false\n{}", backends([&broker])));
    let limits = "limits = { connections = 5, over = \"refuse\" }\n[[pool]]";
    let standfast = Standfast::start(&config.replace("[[pool]]", limits));
    let to = standfast.addr("mqtt");
    let mut held: Vec<_> = (0..5).map(|n| Client::id(to, &format!("c-{n}"))).collect();
    let mut next = Client::open(to).expect("accepted, then closed");
    next.send(&Connect::v311("next").bytes()).expect("open");
    let (_, after) = next.ending(s(5)).expect("closed");
    assert!(after < ms(500), "{after:?}");
    standfast.wait_ends("refused(connections)", 1);
    assert_eq!(
        standfast.status()["listeners"][0]["rejected"]["connections"],
        1
    );
    held.pop().expect("five").disconnect();
    standfast.wait_ends("client-disconnect", 1);
    visit(&standfast, "c-again");
    assert!(held.iter_mut().all(|client| client.ping().is_ok()));
}

/// A13: … — a full backend is passed over, and with all of them full the next client waits.
#[test]
fn a13_a_full_backend_is_passed_over() {
    let brokers = FakeBroker::several::<2>();
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\nbalance = \"round-robin\"\nwhen_empty = {{ wait = \"10s\" }}\n\
         backends = [{{ name = \"b1\", addr = \"{}\", max_connections = 2 }}, \
         {{ name = \"b2\", addr = \"{}\", max_connections = 4 }}]",
        brokers[0].addr(),
        brokers[1].addr()
    )));
    let to = standfast.addr("mqtt");
    let mut held: Vec<_> = (0..6).map(|n| Client::id(to, &format!("c-{n}"))).collect();
    assert_eq!(brokers.each_ref().map(FakeBroker::live), [2, 4]);
    let mut next = Client::open(to).expect("it listens");
    next.send(&Connect::v311("next").bytes()).expect("open");
    holds(ms(500), "it waits", || {
        brokers.iter().all(|broker| broker.count_of("next") == 0)
    });
    held.pop().expect("six").disconnect();
    next.connack(s(5)).expect("its turn");
}

/// A13: … check tells when the descriptor limit cannot hold it
#[test]
fn a13_check_tells_of_a_descriptor_limit_that_is_too_small() {
    let broker = FakeBroker::start();
    let dir = Dir::new("check");
    let config = format!(
        "limits = {{ connections = 1024000 }}\n[[listener]]\nbind = \"127.0.0.1:{}\"\npool = \"p\"\n\
         [[pool]]\nname = \"p\"\n{}\n[node]\nstate_dir = \"{}\"\n",
        standfast_tests::ports::free(),
        backends([&broker]),
        dir.path().display()
    );
    let file = dir.write("standfast.toml", &config);
    let output = Command::new("prlimit")
        .arg("--nofile=1024:1024")
        .arg(binary())
        .args(["check", "--strict", "--config"])
        .arg(file)
        .output()
        .expect("prlimit is part of Debian");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let line = text.lines().find(|line| line.contains("descriptor"));
    let line = line.unwrap_or_else(|| panic!("no word of descriptors in {text}"));
    assert!(line.contains('‼') || line.contains('×'), "{line}");
    assert!(text.contains("1024000") && text.contains("1024"), "{text}");
}

/// A14: black-holed backend: error at the connect timeout; idle session closed at the idle timeout
///
/// 1.2 s in place of 30 s, 1 s in place of 600 s.
#[test]
fn a14_a_black_hole_is_given_up_at_the_connect_timeout() {
    let hole = BlackHole::start();
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\ntimeout = {{ connect = \"1200ms\" }}\nwhen_empty = {{ wait = \"0s\" }}\n{}",
        backends_at([hole.addr()])
    )));
    let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
    client.send(&Connect::v311("lost").bytes()).expect("open");
    let (_, after) = client.ending(s(10)).expect("given up");
    assert!(after > ms(1150) && after < ms(1800), "{after:?}");
    let line = standfast.line_of("lost");
    assert_eq!(line["end"], "no-backend", "{line}");
}

/// A14: … idle session closed at the idle timeout
#[test]
fn a14_an_idle_session_is_closed_at_the_idle_timeout() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\ntimeout = {{ idle = \"1s\" }}\n{}",
        backends([&broker])
    )));
    let connect = Connect::v311("idle").keepalive(0);
    let mut client = Client::connect(standfast.addr("mqtt"), &connect).expect("accepted");
    let mut busy = Client::id(standfast.addr("mqtt"), "busy");
    thread::scope(|scope| {
        let ended = scope.spawn(|| client.ending(s(10)).expect("closed"));
        while !ended.is_finished() {
            busy.ping().expect("a busy session lives on");
            pause(ms(100));
        }
        let (_, after) = ended.join().expect("it does not panic");
        assert!(after > ms(950) && after < ms(1700), "{after:?}");
    });
    assert_eq!(standfast.line_of("idle")["end"], "idle-timeout");
    busy.ping().expect("a busy session lives on");
}
