//! Limits that refuse and limits that wait.

use standfast_tests::prelude::*;

use crate::scripted::one_thread;

/// The rate counts connections, however they are spread over the loops that take them.
#[test]
fn a_rate_that_refuses_counts_clients_that_come_one_by_one() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&listener_and_pool(
        "limits = { rate = \"2/s\", over = \"refuse\" }",
        &format!("check = false\n{}", backends([&broker])),
    ));
    let began = Instant::now();
    let mut accepted = 0_u32;
    for number in 0..20 {
        let connect = Connect::v311(&format!("c{number}"));
        accepted += u32::from(Client::connect(standfast.addr("mqtt"), &connect).is_ok());
    }
    // A second's worth at once, then two a second.
    let most = 2.0 + 2.0 * began.elapsed().as_secs_f64() + 1.0;
    assert!(
        f64::from(accepted) <= most,
        "{accepted} in {:?}",
        began.elapsed()
    );
    standfast.wait_ends("refused(rate)", 20 - accepted as usize);
}

/// Half-sent greetings are closed, largest first, before they hold more than `limits.greeting_memory`; small clients come in.
#[test]
fn two_thousand_half_sent_connects_hold_no_more_than_greeting_memory() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&format!(
        "limits = {{ greeting_memory = \"2m\" }}\n{}",
        one_pool(&format!("check = false\n{}", backends([&broker])))
    ));
    let before = standfast.memory();
    let large = Connect::v311("large")
        .login("user", &[b'x'; 60_000])
        .bytes();
    let mut held = Vec::new();
    for round in 0..2_000 {
        let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
        // In one write, so that all of it may be there at the first look.
        let _ = client.send(&large[..50_000]);
        held.push(client);
        if round % 500 == 0 {
            Client::id(standfast.addr("mqtt"), &format!("small{round}")).disconnect();
        }
    }
    // 2 MB hold no more than 43 of these.
    standfast.wait_ends("refused(greeting_memory)", 1_957);
    Client::id(standfast.addr("mqtt"), "small").disconnect();
    let grown = standfast.memory().saturating_sub(before);
    assert!(grown < 24_000_000, "it grew by {grown} bytes");
}

/// Who waits for a place gets it before anybody who comes later. Each thread has a queue of its own: here is one.
#[test]
fn clients_that_wait_for_a_place_get_it_in_the_order_in_which_they_came() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&one_thread(&format!(
        "check = false\nbalance = \"round-robin\"\nwhen_empty = {{ wait = \"30s\" }}\n\
         backends = [{{ name = \"b1\", addr = \"{}\", max_connections = 1 }}]",
        broker.addr()
    )));
    let mut holder = Some(Client::id(standfast.addr("mqtt"), "c0"));
    let mut waiting = std::collections::VecDeque::new();
    for number in 1..=5_u64 {
        let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
        client
            .send(&Connect::v311(&format!("c{number}")).bytes())
            .expect("open");
        waiting.push_back(client);
        eventually(s(5), "it waits", || {
            standfast.status()["pools"][0]["waiting"] == number
        });
    }
    assert_eq!(broker.count_of("c"), 1);
    for number in 6..=10 {
        // The place is free, and there is somebody new at once: too soon for those that wait to be looked at.
        let _ = holder.take().map(Client::disconnect);
        let _ = standfast.line_of(&format!("c{}", number - 6));
        let mut late = Client::open(standfast.addr("mqtt")).expect("it listens");
        late.send(&Connect::v311(&format!("c{number}")).bytes())
            .expect("open");
        waiting.push_back(late);
        let mut next = waiting.pop_front().expect("some wait");
        next.connack(s(5)).expect("its turn");
        holder = Some(next);
    }
    let expected: Vec<String> = (0..=5).map(|number| format!("c{number}")).collect();
    assert_eq!(broker.ids("c"), expected);
    let line = standfast.line_of("c4");
    assert!(
        line["queue"].as_f64().is_some_and(|seconds| seconds > 0.0),
        "{line}"
    );
}

/// Who waits is looked at with the configuration in force, not with the one of its coming.
#[test]
fn a_reload_that_adds_a_backend_serves_those_who_wait() {
    let broker = FakeBroker::start();
    let dead = standfast_tests::ports::free();
    let text = |backends: &str| {
        one_pool(&format!(
            "check = false\nwhen_empty = {{ wait = \"60s\" }}\nbackends = [{backends}]"
        ))
    };
    let one = format!("{{ name = \"b1\", addr = \"127.0.0.1:{dead}\" }}");
    let mut standfast = Standfast::start(&text(&one));
    let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
    client
        .send(&Connect::v311("patient").bytes())
        .expect("open");
    eventually(s(5), "it waits", || {
        standfast.status()["pools"][0]["waiting"] == 1
    });
    let two = format!("{one}, {{ name = \"b2\", addr = \"{}\" }}", broker.addr());
    let _ = standfast.reload(&text(&two)).ok();
    client.connack(s(5)).expect("there is a backend now");
    assert_eq!(standfast.status()["pools"][0]["waiting"], 0);
}

#[test]
fn per_ip_and_connections_refuse_or_wait_and_go_on_when_there_is_room() {
    let broker = FakeBroker::start();
    let start = |limits: &str| {
        Standfast::start(&listener_and_pool(
            &format!("limits = {{ {limits} }}"),
            &format!("check = false\n{}", backends([&broker])),
        ))
    };
    let per_ip = start("per_ip = 2");
    let to = per_ip.addr("mqtt");
    let [first, _second] = ["c1", "c2"].map(|id| Client::id(to, id));
    assert!(Client::connect(to, &Connect::v311("c3")).is_err());
    let mut elsewhere = Client::open_from([127, 0, 0, 9].into(), to).expect("it listens");
    elsewhere
        .greet(&Connect::v311("c4"))
        .expect("another address");
    first.disconnect();
    let _ = per_ip.line_of("c1");
    let _third = Client::id(to, "c5");
    assert_eq!(per_ip.count_ends("refused(per_ip)"), 1);

    let refuses = start("connections = 1, over = \"refuse\"");
    let held = Client::id(refuses.addr("mqtt"), "held");
    assert!(Client::connect(refuses.addr("mqtt"), &Connect::v311("more")).is_err());
    refuses.wait_ends("refused(connections)", 1);
    held.disconnect();
    let _ = refuses.line_of("held");
    let _next = Client::id(refuses.addr("mqtt"), "next");

    for limits in ["connections = 1", "rate = \"1/s\""] {
        let waits = start(&format!("{limits}, over = \"wait\""));
        let held = Client::id(waits.addr("mqtt"), "held");
        let mut next = Client::open(waits.addr("mqtt")).expect("the backlog takes it");
        next.send(&Connect::v311("next").bytes()).expect("open");
        if limits.starts_with('c') {
            eventually(s(5), "it waits", || {
                waits.status()["listeners"][0]["waiting"] == true
            });
            assert_eq!(waits.count_ends("refused"), 0);
            held.disconnect();
        }
        next.connack(s(5)).expect("its turn");
    }
}
