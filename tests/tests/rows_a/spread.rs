//! Who gets which client: round robin, checks, stickiness, both address families.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use standfast_tests::prelude::*;

use super::{one_pool, visit};

/// A01: 300 distinct ids → 100 each (±1)
#[test]
fn a01_three_hundred_ids_are_spread_one_hundred_each() {
    let brokers = FakeBroker::several::<3>();
    let standfast = Standfast::start(&one_pool(&format!(
        "balance = \"round-robin\"\ncheck = {{ tcp = true, interval = \"100ms\" }}\n{}",
        backends(&brokers)
    )));
    standfast.wait_up(&["b1", "b2", "b3"]);
    // Three clients at a time, so that both data-plane threads take part.
    thread::scope(|scope| {
        for part in 0..3 {
            let standfast = &standfast;
            scope.spawn(move || {
                for number in 0..100 {
                    visit(standfast, &format!("id-{part}-{number}"));
                }
            });
        }
    });
    let counts = brokers.each_ref().map(|broker| broker.count_of("id-"));
    assert_eq!(counts.iter().sum::<usize>(), 300);
    for count in counts {
        assert!((99..=101).contains(&count), "{counts:?}");
    }
}

/// Connects a new client every few milliseconds until told to stop; what became of each.
fn stream_of_clients(to: SocketAddr, prefix: &str, stop: &AtomicBool) -> Vec<(Instant, bool)> {
    let mut clients = Vec::new();
    let mut number = 0;
    while !stop.load(SeqCst) {
        let at = Instant::now();
        let connect = Connect::v311(&format!("{prefix}{number}"));
        let accepted = Client::connect(to, &connect).map(Client::disconnect);
        clients.push((at, accepted.is_ok()));
        number += 1;
        pause(ms(5));
    }
    clients
}

/// A02: kill one: after interval × fall + timeout no CONNECT reaches it; after restart one arrives within interval ×
/// rise + 1 interval
///
/// With a real broker that is killed: whoever comes later than that is served by the other one at once.
#[test]
fn a02_a_killed_mosquitto_gets_nobody_and_is_taken_in_again() {
    let one = Mosquitto::start("").expect("mosquitto runs");
    let mut two = Mosquitto::start("").expect("mosquitto runs");
    let standfast = Standfast::start(&one_pool(&format!(
        "balance = \"round-robin\"\n\
         check = {{ tcp = true, interval = \"300ms\", timeout = \"200ms\", fall = 3, rise = 2 }}\n{}",
        backends_at([one.addr(), two.addr()])
    )));
    standfast.wait_up(&["b1", "b2"]);
    for number in 0..4 {
        visit(&standfast, &format!("before-{number}"));
    }
    let _ = two.log_line("as before-");
    two.stop();
    let killed = Instant::now();
    let down_by = killed + ms(300) * 3 + ms(200);

    let stop = AtomicBool::new(false);
    let to = standfast.addr("mqtt");
    let clients = thread::scope(|scope| {
        let clients = scope.spawn(|| stream_of_clients(to, "during-", &stop));
        standfast.wait_state("b2", "down", s(5));
        holds(s(2), "it stays down", || {
            standfast.status().state("b2") == "down"
        });
        stop.store(true, SeqCst);
        clients.join().expect("clients do not panic")
    });
    let late = clients.iter().filter(|(at, _)| *at > down_by);
    assert!(late.clone().count() > 20, "clients came after the deadline");
    assert!(late.clone().all(|(_, accepted)| *accepted), "{clients:?}");
    let failed = |status: &serde_json::Value| status.backend("b2")["connect_failed"].as_u64();
    let before = failed(&standfast.status());
    visit(&standfast, "probe-1");
    visit(&standfast, "probe-2");
    assert_eq!(failed(&standfast.status()), before, "nobody is sent there");

    let stop = AtomicBool::new(false);
    let waited = thread::scope(|scope| {
        let clients = scope.spawn(|| stream_of_clients(to, "after-", &stop));
        two.restart().expect("mosquitto runs again");
        let restarted = Instant::now();
        let _ = two.log_line("as after-");
        let waited = restarted.elapsed();
        stop.store(true, SeqCst);
        assert!(clients.join().expect("clients do not panic").len() > 1);
        waited
    });
    // Half an interval more for a busy machine.
    assert!(waited < ms(300) * 2 + ms(300) + ms(150), "{waited:?}");
}

/// A02: kill one: … no CONNECT reaches it — counted at a broker that goes on listening and only says it is not ready,
/// since a dead one cannot count.
#[test]
fn a02_a_broker_that_is_not_ready_sees_no_connect_after_the_deadline() {
    let [one, two] = FakeBroker::several();
    let health = FakeHttp::start();
    let standfast = Standfast::start(&one_pool(&format!(
        "balance = \"round-robin\"\n[[pool.backend]]\nname = \"b1\"\naddr = \"{}\"\ncheck = false\n\
         [[pool.backend]]\nname = \"b2\"\naddr = \"{}\"\n\
         check = {{ http = \"http://:{}/ready\", interval = \"200ms\", timeout = \"200ms\", fall = 3, rise = 2 }}",
        one.addr(),
        two.addr(),
        health.port()
    )));
    standfast.wait_up(&["b1", "b2"]);
    let stop = AtomicBool::new(false);
    let to = standfast.addr("mqtt");
    thread::scope(|scope| {
        let clients = scope.spawn(|| stream_of_clients(to, "c-", &stop));
        eventually(s(5), "both get clients", || two.count_of("c-") > 2);
        health.status(503);
        let down_by = Instant::now() + ms(200) * 3 + ms(200);
        pause(down_by.saturating_duration_since(Instant::now()) + s(1));
        let late = two.visits_of("c-").into_iter();
        let late: Vec<_> = late.filter(|visit| visit.at > down_by).collect();
        assert!(late.is_empty(), "{} came too late", late.len());
        let seen = two.count_of("c-");
        health.status(200);
        let well = Instant::now();
        eventually(s(5), "it gets clients again", || two.count_of("c-") > seen);
        assert!(well.elapsed() < ms(200) * 2 + ms(200) + ms(100));
        stop.store(true, SeqCst);
        let clients = clients.join().expect("clients do not panic");
        assert!(clients.iter().all(|(_, accepted)| *accepted));
    });
}

fn sticky(lines: &str, brokers: &[FakeBroker]) -> Standfast {
    Standfast::start(&one_pool(&format!(
        "check = false\nsticky = {{ fallback = \"round-robin\", {lines} }}\n{}",
        backends(brokers)
    )))
}

/// A09: size 102400: entry 102,401 evicts the oldest; an idle entry is gone after expire, a touched one is not;
/// 200-character ids with an equal beginning stay distinct
///
/// The size is 1000 here, so that the test is quick; that 102400 is taken as written is asked of the status.
#[test]
fn a09_one_entry_more_than_the_size_evicts_the_oldest() {
    let brokers = FakeBroker::several::<2>();
    let full = sticky("size = 102400, expire = \"30m\"", &brokers);
    let table = &full.status()["pools"][0]["sticky"];
    assert_eq!(table["size"], 102_400);
    assert_eq!(table["expire_ms"], 30 * 60 * 1000);

    let standfast = sticky("size = 1000, expire = \"30m\"", &brokers);
    for number in 0..=1000 {
        let id = format!("c-{number}");
        visit(&standfast, &id);
        if number < 2 {
            // Ends of neighbours may be noted in either order: these two are to be the oldest, in this one.
            let _ = standfast.line_of(&id);
        }
    }
    standfast.wait_ends("client-disconnect", 1001);
    let table = &standfast.status()["pools"][0]["sticky"];
    assert_eq!(
        (&table["entries"], &table["evicted"]),
        (&1000.into(), &1.into())
    );
    // The second is still there; looking at it keeps it. Then the first, which is not.
    visit(&standfast, "c-1");
    assert_eq!(standfast.nth_why("c-1", 2), "sticky-hit");
    visit(&standfast, "c-0");
    assert_eq!(standfast.nth_why("c-0", 2), "sticky-new");
}

/// A09: … an idle entry is gone after expire, a touched one is not … — with expire 2 s in place of 30 min.
#[test]
fn a09_an_idle_entry_expires_and_a_touched_one_does_not() {
    let brokers = FakeBroker::several::<2>();
    let standfast = sticky("size = 1000, expire = \"2s\"", &brokers);
    visit(&standfast, "idle");
    visit(&standfast, "touched");
    let held = Client::id(standfast.addr("mqtt"), "held");
    let start = Instant::now();
    pause(ms(1200));
    visit(&standfast, "touched");
    assert_eq!(standfast.nth_why("touched", 2), "sticky-hit");
    pause(ms(2200).saturating_sub(start.elapsed()));
    visit(&standfast, "idle");
    assert_eq!(standfast.nth_why("idle", 2), "sticky-new");
    visit(&standfast, "touched");
    assert_eq!(standfast.nth_why("touched", 3), "sticky-hit");
    // An entry lives while its connection does, and expire after.
    drop(held);
    let _ = standfast.line_of("held");
    visit(&standfast, "held");
    assert_eq!(standfast.nth_why("held", 2), "sticky-hit");
}

/// A09: … 200-character ids with an equal beginning stay distinct
#[test]
fn a09_long_ids_with_an_equal_beginning_stay_distinct() {
    let brokers = FakeBroker::several::<3>();
    let standfast = sticky("size = 1000", &brokers);
    let ids = ["x", "y", "z"].map(|end| format!("{}{end}", "serial-".repeat(29)[..199].to_owned()));
    for _ in 0..5 {
        for id in &ids {
            assert_eq!(id.len(), 200);
            visit(&standfast, id);
        }
    }
    for (broker, id) in brokers.iter().zip(&ids) {
        assert_eq!(broker.ids("serial-"), vec![id.clone(); 5]);
    }
}

/// A10: same id 50 times with the CONNECT delayed 0, 50, 500 ms and split per byte → one backend, in 3.1, 3.1.1 and 5;
/// empty id → not stuck, balanced
#[test]
fn a10_the_same_id_reaches_the_same_broker_however_it_arrives() {
    let brokers = FakeBroker::several::<3>();
    let standfast = sticky("size = 1000", &brokers);
    let to = standfast.addr("mqtt");
    // Another client first, so that the three ids do not all begin with the first broker.
    visit(&standfast, "other");
    let versions = [
        Connect::v31("one-31"),
        Connect::v311("one-311"),
        Connect::v5("one-5"),
    ];
    thread::scope(|scope| {
        for connect in versions {
            scope.spawn(move || {
                for number in 0..50 {
                    let delay = [0, 50, 0, 0, 0, 50, 0, 0, 500, 0][number % 10];
                    let mut client = Client::open(to).expect("it listens");
                    pause(ms(delay));
                    let size = if number % 2 == 0 { usize::MAX } else { 1 };
                    client
                        .send_in_pieces(&connect.bytes(), size, ms(1))
                        .expect("open");
                    client.connack(s(10)).expect("accepted");
                    client.disconnect();
                }
            });
        }
    });
    for id in ["one-31", "one-311", "one-5"] {
        let mut counts = brokers.each_ref().map(|broker| {
            let ids = broker.ids(id);
            ids.iter().filter(|it| *it == id).count()
        });
        counts.sort_unstable();
        assert_eq!(counts, [0, 0, 50], "{id}");
    }
}

/// A10: … empty id → not stuck, balanced
#[test]
fn a10_clients_without_an_id_are_balanced() {
    let brokers = FakeBroker::several::<3>();
    let standfast = sticky("size = 1000", &brokers);
    let to = standfast.addr("mqtt");
    for number in 0..30 {
        let connect = if number % 2 == 0 {
            Connect::v311("")
        } else {
            Connect::v5("")
        };
        let client = Client::connect(to, &connect).expect("accepted");
        client.disconnect();
    }
    let counts = brokers.each_ref().map(|broker| broker.visits().len());
    assert_eq!(counts, [10, 10, 10]);
    assert_eq!(standfast.status()["pools"][0]["sticky"]["entries"], 0);
}

/// A12: connects over both families, IPv4 and IPv6
#[test]
fn a12_clients_connect_over_ipv4_and_ipv6() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&format!(
        "[[listener]]\nbind = \":${{port:all}}\"\npool = \"mqtt\"\n\
         [[listener]]\nbind = [\"127.0.0.1:${{port:four}}\", \"[::1]:${{port:six}}\"]\npool = \"mqtt\"\n\
         [[pool]]\nname = \"mqtt\"\ncheck = false\n{}",
        backends([&broker])
    ));
    let at =
        |ip: &str, port: &str| SocketAddr::new(ip.parse().expect("legal"), standfast.port(port));
    for (ip, port) in [
        ("127.0.0.1", "all"),
        ("::1", "all"),
        ("127.0.0.1", "four"),
        ("::1", "six"),
    ] {
        let id = format!("{port}-{ip}");
        let client = Client::id(at(ip, port), &id);
        let local = client.local();
        client.disconnect();
        // The line has the client's address in its own family, not as a mapped one.
        assert_eq!(standfast.line_of(&id)["ip"], local.to_string());
    }
    assert!(Client::open(at("::1", "four")).is_err());
}
