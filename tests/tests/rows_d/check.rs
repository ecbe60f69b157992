//! Health checks that resemble traffic.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use standfast_tests::broker::Visit;
use standfast_tests::prelude::*;

fn checked(broker: SocketAddr, check: &str) -> Standfast {
    Standfast::start(&one_pool(&format!(
        "check = {{ {check}interval = \"100ms\", timeout = \"300ms\" }}\nwhen_empty = {{ wait = \"100ms\" }}\n{}",
        backends_at([broker])
    )))
}

/// Waits until this many checks have come, from now on.
#[track_caller]
fn next_checks(broker: &FakeBroker, count: usize) -> Vec<Visit> {
    let before = broker.visits().len();
    eventually(s(10), "a few checks", || {
        // The last one shall be over.
        broker.visits().len() > before + count
    });
    let mut visits = broker.visits().split_off(before);
    visits.truncate(count);
    visits
}

const OUT: &str = "down|not-ready";

/// D02: broker that accepts TCP but never answers CONNECT → down
///
/// The state's word tells more: `not-ready`, since the port answers. No client is sent there.
#[test]
fn d02_a_broker_that_never_answers_a_connect_is_down() {
    let [hung, well] = FakeBroker::several();
    hung.answer(Answer::Never);
    let standfast = Standfast::start(&one_pool(&format!(
        "balance = \"round-robin\"\ncheck = {{ interval = \"100ms\", timeout = \"300ms\" }}\n{}",
        backends([&hung, &well])
    )));
    standfast.wait_up(&["b2"]);
    standfast.wait_state("b1", OUT, s(10));
    for number in 0..6 {
        visit(&standfast, &format!("c-{number}"));
    }
    assert_eq!((hung.count_of("c-"), well.count_of("c-")), (0, 6));
    // It answers again: it is taken in again.
    hung.answer(Answer::Code(0));
    standfast.wait_up(&["b1"]);
}

/// D03: CONNACK 0 → up; 3 → down; 5 → up or down per setting; the broker's log shows a clean disconnect, no 'already
/// connected'
#[test]
fn d03_the_connack_decides() {
    let broker = FakeBroker::start();
    let standfast = checked(broker.addr(), "");
    standfast.wait_up(&["b1"]);
    for code in [3, 5, 2, 1] {
        broker.answer(Answer::Code(code));
        standfast.wait_state("b1", OUT, s(5));
        // The reason is to be read where the state is.
        let result = standfast.status().backend("b1")["check"]["result"].to_string();
        assert!(result.contains(&code.to_string()), "{code}: {result}");
        broker.answer(Answer::Code(0));
        standfast.wait_up(&["b1"]);
    }
    let lenient = checked(broker.addr(), "mqtt = { accept = [0, 5] }, ");
    broker.answer(Answer::Code(5));
    lenient.wait_up(&["b1"]);
    standfast.wait_state("b1", OUT, s(5));
    assert_eq!(lenient.status().state("b1"), "up");
    broker.answer(Answer::Code(3));
    lenient.wait_state("b1", OUT, s(5));
}

/// D03: … in MQTT 3.1, 3.1.1 and 5; each check ends with a DISCONNECT and has an id of its own.
#[test]
fn d03_a_check_speaks_each_version_and_says_goodbye() {
    for (level, number) in [("3.1", 3), ("3.1.1", 4), ("5", 5)] {
        let broker = FakeBroker::start();
        let check = format!("mqtt = {{ level = \"{level}\" }}, ");
        let [one, two] = [0, 1].map(|_| checked(broker.addr(), &check));
        one.wait_up(&["b1"]);
        two.wait_up(&["b1"]);
        let visits = next_checks(&broker, 6);
        for visit in &visits {
            assert_eq!(visit.level, number, "{visit:?}");
            assert!(visit.clean, "a check leaves no session behind");
            assert!(!visit.id.is_empty());
            if number == 3 {
                assert!(
                    visit.id.len() <= 23,
                    "MQTT 3.1 has no longer ones: {}",
                    visit.id
                );
            }
        }
        eventually(s(5), "each said DISCONNECT", || {
            let seen = broker.visits();
            let done = seen.iter().filter(|visit| visit.ended.is_some());
            done.clone().count() >= 6 && done.clone().all(|visit| visit.disconnected)
        });
        let ids: BTreeSet<_> = visits.iter().map(|visit| &visit.id).collect();
        assert!(
            ids.len() >= 2,
            "two balancers have ids of their own: {ids:?}"
        );
    }
}

/// D03: … the broker's log shows a clean disconnect, no 'already connected' — a real Mosquitto, checked by two balancers
/// ten times a second.
#[test]
fn d03_mosquittos_log_shows_clean_disconnects_only() {
    let mosquitto = Mosquitto::start("").expect("mosquitto runs");
    let both = [0, 1].map(|_| checked(mosquitto.addr(), ""));
    for standfast in &both {
        standfast.wait_up(&["b1"]);
        eventually(s(10), "ten checks", || {
            standfast.status().backend("b1")["check"]["passed_total"].as_u64() >= Some(10)
        });
        assert_eq!(standfast.status().backend("b1")["check"]["failed_total"], 0);
    }
    // Before it was ready, somebody knocked to see whether it was.
    let log = mosquitto.log();
    let lines = log.lines().filter(|line| !line.contains("<unknown>"));
    let log = lines.collect::<Vec<_>>().join("\n");
    let connected: Vec<_> = log
        .lines()
        .filter(|line| line.contains("New client connected"))
        .collect();
    assert!(connected.len() >= 20, "{log}");
    let left = log
        .lines()
        .filter(|line| line.starts_with("Client ") && line.contains(" disconnected."));
    // One or two may be under way.
    assert!(left.count() + 2 >= connected.len(), "{log}");
    for complaint in [
        "already connected",
        "closed its connection",
        "protocol error",
        "timeout",
        "Socket error",
    ] {
        assert!(!log.contains(complaint), "{complaint}: {log}");
    }
}

/// What document D's example sends: CONNECT of MQTT 3.1 from `nginx health check`, as its configuration has it.
const NGINX_SENDS: &str = "10 20 00 06 4d 51 49 73 64 70 03 02 00 3c 00 12 \
    6e 67 69 6e 78 20 68 65 61 6c 74 68 20 63 68 65 63 6b";

/// D04: a check given as hex bytes (MQTT 3.1 CONNECT and CONNACK) works
#[test]
fn d04_the_hex_bytes_of_the_example_work_as_they_are() {
    let bytes: Vec<u8> = NGINX_SENDS
        .split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal"))
        .collect();
    let check = format!("send = \"{NGINX_SENDS}\", expect = \"20020000\", ");
    let broker = FakeBroker::start();
    let standfast = checked(broker.addr(), &check);
    standfast.wait_up(&["b1"]);
    for visit in next_checks(&broker, 3) {
        assert_eq!(visit.first, bytes);
        assert_eq!((visit.id.as_str(), visit.level), ("nginx health check", 3));
    }
    broker.answer(Answer::Code(5));
    standfast.wait_state("b1", OUT, s(5));
    broker.answer(Answer::Code(0));
    standfast.wait_up(&["b1"]);

    let mosquitto = Mosquitto::start("").expect("mosquitto runs");
    let real = checked(mosquitto.addr(), &check);
    real.wait_up(&["b1"]);
    let _ = mosquitto.log_line("as nginx health check");
}
