//! Backends that refuse, are silent, all gone, kept in reserve, or back again.

use standfast_tests::prelude::*;

const QUICK: &str = "check = { tcp = true, interval = \"100ms\", fast_interval = \"50ms\" }";

fn seconds(line: &serde_json::Value, key: &str) -> f64 {
    match line[key].as_f64() {
        Some(seconds) => seconds,
        None => panic!("{key} of {line}"),
    }
}

/// A backend that refuses: the client is served by the next choice and sees nothing of it; the line tells.
#[test]
fn a_refused_client_is_served_by_the_next_choice() {
    let mut brokers = FakeBroker::several::<3>();
    let standfast = Standfast::start(&one_pool(&format!("check = false\n{}", backends(&brokers))));
    standfast.cli(&["sticky", "set", "home", "b1"]).ok();
    visit(&standfast, "home");
    assert_eq!(standfast.nth_why("home", 1), "forced");
    brokers[0].stop();
    visit(&standfast, "home");
    assert_eq!(standfast.nth_why("home", 2), "sticky-moved(refused)");
    // Nobody checks, so each of these may try the one that refuses; all are served.
    for number in 0..12 {
        visit(&standfast, &format!("c-{number}"));
    }
    assert_eq!(brokers[1].count_of("c-") + brokers[2].count_of("c-"), 12);
    let failed = &standfast.status().backend("b1")["connect_failed"].clone();
    assert!(failed.as_u64() >= Some(1), "{failed}");
}

/// An address that swallows packets: the next choice after `timeout.connect`, and not later.
#[test]
fn a_silent_address_costs_one_connect_timeout() {
    let hole = BlackHole::start();
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\ntimeout = {{ connect = \"400ms\" }}\n{}",
        backends_at([hole.addr(), broker.addr()])
    )));
    standfast.cli(&["sticky", "set", "c-1", "b1"]).ok();
    let start = Instant::now();
    visit(&standfast, "c-1");
    let took = start.elapsed();
    assert!(took >= ms(380) && took < ms(1400), "{took:?}");
    let line = standfast.line_of("c-1");
    assert_eq!(line["backend"], "b2", "{line}");
    assert_eq!(line["why"], "sticky-moved(refused)", "{line}");
    assert!(seconds(&line, "connect") >= 0.38, "{line}");
}

/// `when_empty`: the client is held so long, then closed.
#[test]
fn with_no_backend_a_client_waits_and_is_closed() {
    let mut broker = FakeBroker::start();
    broker.stop();
    let standfast = Standfast::start(&one_pool(&format!(
        "{QUICK}\nwhen_empty = {{ wait = \"700ms\" }}\n{}",
        backends([&broker])
    )));
    standfast.wait_state("b1", "down", s(10));
    let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
    let start = Instant::now();
    client.send(&Connect::v311("c-1").bytes()).expect("open");
    let said = client.to_end(s(5)).expect("closed");
    let took = start.elapsed();
    assert_eq!(said, [0; 0], "nothing is said");
    assert!(took >= ms(680) && took < ms(1700), "{took:?}");
    let line = standfast.line_of("c-1");
    assert_eq!(line["end"], "no-backend", "{line}");
    assert_eq!(line["backend"], serde_json::Value::Null, "{line}");
    assert!(seconds(&line, "queue") >= 0.68, "{line}");
}

/// `then = "refuse"`: the client is told in its own version of MQTT, before it is closed.
#[test]
fn with_no_backend_a_client_is_refused_in_its_own_words() {
    let mut broker = FakeBroker::start();
    broker.stop();
    let standfast = Standfast::start(&one_pool(&format!(
        "{QUICK}\nwhen_empty = {{ wait = \"200ms\", then = \"refuse\" }}\n{}",
        backends([&broker])
    )));
    standfast.wait_state("b1", "down", s(10));
    for (connect, code) in [
        (Connect::v31("c-31"), 3),
        (Connect::v311("c-311"), 3),
        (Connect::v5("c-5"), 0x88),
    ] {
        let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
        client.send(&connect.bytes()).expect("open");
        assert_eq!(client.connack_code(s(5)).expect("a CONNACK"), code);
        client.ending(s(5)).expect("and closed");
        let id = String::from_utf8_lossy(&connect.id).into_owned();
        let line = standfast.line_of(&id);
        assert_eq!(
            (&line["connack"], &line["end"]),
            (&code.into(), &"no-backend".into())
        );
    }
}

/// A backend that comes back takes those who wait; the line says how long they did.
#[test]
fn a_backend_that_comes_back_takes_those_who_wait() {
    let mut broker = FakeBroker::start();
    broker.stop();
    let standfast = Standfast::start(&one_pool(&format!(
        "{QUICK}\nwhen_empty = {{ wait = \"20s\" }}\n{}",
        backends([&broker])
    )));
    standfast.wait_state("b1", "down", s(10));
    let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
    client
        .send(&Connect::v311("patient").bytes())
        .expect("open");
    let waiting = || standfast.status()["pools"][0]["waiting"].as_u64();
    eventually(s(5), "it waits", || waiting() == Some(1));
    broker.restart();
    client.connack(s(10)).expect("served at last");
    assert_eq!(waiting(), Some(0));
    client.disconnect();
    let line = standfast.line_of("patient");
    assert!(seconds(&line, "queue") > 0.0, "{line}");
    assert_eq!(line["end"], "client-disconnect");
}

/// Backups: nothing while another is up; all when none is; nothing new when one is back.
#[test]
fn a_backup_serves_only_while_no_other_is_up() {
    let mut brokers = FakeBroker::several::<3>();
    let [one, two, reserve] = brokers.each_ref().map(FakeBroker::addr);
    for balance in ["sticky", "round-robin", "least-connections", "source"] {
        let standfast = Standfast::start(&one_pool(&format!(
            "balance = \"{balance}\"\n{QUICK}\nbackends = [{{ name = \"b1\", addr = \"{one}\" }}, \
             {{ name = \"b2\", addr = \"{two}\" }}, {{ name = \"b3\", addr = \"{reserve}\", backup = true }}]"
        )));
        standfast.wait_up(&["b1", "b2", "b3"]);
        let come = |when: &str| -> Vec<_> {
            let ids = (0..10).map(|n| format!("{balance}-{when}-{n}"));
            ids.map(|id| Client::id(standfast.addr("mqtt"), &id))
                .collect()
        };
        let _first = come("first");
        let places = brokers_count(&brokers, &format!("{balance}-first-"));
        assert_eq!(places[2], 0, "{balance}: {places:?}");

        brokers[0].stop();
        brokers[1].stop();
        standfast.wait_state("b1", "down", s(10));
        standfast.wait_state("b2", "down", s(10));
        let held = come("away");
        let places = brokers_count(&brokers, &format!("{balance}-away-"));
        assert_eq!(places, [0, 0, 10], "{balance}");

        brokers[1].restart();
        standfast.wait_up(&["b2"]);
        drop(come("back"));
        let places = brokers_count(&brokers, &format!("{balance}-back-"));
        assert_eq!(places, [0, 10, 0], "{balance}");
        // Who stuck to the backup while there was nobody else goes on, too.
        drop(held);
        visit(&standfast, &format!("{balance}-away-0"));
        let now = places_of(&brokers, &format!("{balance}-away-0"));
        assert_eq!(now, [2, 1], "{balance}");
        brokers[0].restart();
    }
}

fn brokers_count(brokers: &[FakeBroker], prefix: &str) -> Vec<usize> {
    let counts = brokers.iter().map(|broker| broker.count_of(prefix));
    counts.collect()
}

/// `slow_start`: the share of a backend that came back grows from nearly nothing to its weight.
#[test]
fn a_backend_that_came_back_gets_its_share_step_by_step() {
    let mut brokers = FakeBroker::several::<2>();
    let standfast = Standfast::start(&one_pool(&format!(
        "balance = \"round-robin\"\nslow_start = \"5s\"\n{QUICK}\n{}",
        backends(&brokers)
    )));
    standfast.wait_up(&["b1", "b2"]);
    let weight = || {
        let status = standfast.status();
        status.backend("b2")["weight_effective"]
            .as_f64()
            .expect("a number")
    };
    assert_eq!(weight(), 1.0, "nothing has to warm up at the start");
    brokers[1].stop();
    standfast.wait_state("b2", "down", s(10));
    brokers[1].restart();
    standfast.wait_up(&["b2"]);
    let start = Instant::now();
    let first = weight();
    assert!(first < 0.7, "{first}");
    for number in 0..20 {
        visit(&standfast, &format!("early-{number}"));
    }
    let early = start.elapsed();
    if early < s(2) {
        let places = brokers_count(&brokers, "early-");
        assert!(places[1] <= 6, "{places:?} in {early:?}");
    }
    let mut last = first;
    eventually(s(15), "the whole weight", || {
        let now = weight();
        assert!(now >= last, "{now} after {last}");
        last = now;
        now == 1.0
    });
    let took = start.elapsed();
    assert!(took > s(3) && took < s(8), "{took:?}");
    for number in 0..20 {
        visit(&standfast, &format!("late-{number}"));
    }
    assert_eq!(brokers_count(&brokers, "late-"), [10, 10]);
}

/// `on_down = "dead"`, the default: readiness that fails keeps connections; when the port goes too, they are closed, at
/// the set pace.
#[test]
fn connections_are_kept_until_the_port_is_gone_and_then_closed_at_the_pace() {
    let mut broker = FakeBroker::start();
    let mut health = FakeHttp::start();
    let standfast = Standfast::start(&one_pool(&format!(
        "check = {{ http = \"http://:{}/ready\", interval = \"100ms\", fast_interval = \"50ms\" }}\n\
         on_down = {{ pace = \"10/s\" }}\n{}",
        health.port(),
        backends([&broker])
    )));
    standfast.wait_up(&["b1"]);
    let to = standfast.addr("mqtt");
    let mut held: Vec<_> = (0..25)
        .map(|n| Client::id(to, &format!("held-{n}")))
        .collect();
    health.status(503);
    standfast.wait_state("b1", "not-ready", s(10));
    holds(ms(500), "all are kept", || {
        held.iter_mut().all(Client::is_open)
    });
    // Live connections stay, so that only the balancer can close them.
    broker.refuse();
    health.stop();
    standfast.wait_state("b1", "down", s(10));
    let start = Instant::now();
    eventually(s(20), "all are closed", || {
        held.iter_mut().all(|client| !client.is_open())
    });
    let took = start.elapsed();
    // Twenty-five at ten a second, of which the first second's worth may go at once.
    assert!(took > ms(1000) && took < s(5), "{took:?}");
    standfast.wait_ends("backend-down", 25);
}
