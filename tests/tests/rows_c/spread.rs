//! Who gets which client: several services, turns, weights, addresses, sessions.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use standfast_tests::mqtt::{kind, packet, sized};
use standfast_tests::prelude::*;

/// C06: two ports balanced independently
#[test]
fn c06_two_ports_are_balanced_independently() {
    let brokers = FakeBroker::several::<4>();
    let (mqtt, ws) = brokers.split_at(2);
    let standfast = Standfast::start(&format!(
        "[[listener]]\nbind = \"127.0.0.1:${{port:mqtt}}\"\npool = \"mqtt\"\n\
         [[listener]]\nbind = \"127.0.0.1:${{port:ws}}\"\npool = \"ws\"\n\
         [[pool]]\nname = \"mqtt\"\nbalance = \"round-robin\"\ncheck = false\n{}\n\
         [[pool]]\nname = \"ws\"\nmode = \"tcp\"\nbalance = \"round-robin\"\ncheck = false\n{}\n",
        backends(mqtt),
        backends(ws)
    ));
    for number in 0..10 {
        // Two clients of one for each of the other: were the turns shared, all of one kind would go to one broker.
        Client::id(standfast.addr("mqtt"), &format!("m-{number}-a")).disconnect();
        Client::id(standfast.addr("ws"), &format!("w-{number}")).disconnect();
        Client::id(standfast.addr("mqtt"), &format!("m-{number}-b")).disconnect();
    }
    let counts = brokers
        .each_ref()
        .map(|it| (it.count_of("m-"), it.count_of("w-")));
    assert_eq!(counts, [(10, 0), (10, 0), (0, 5), (0, 5)]);
}

/// C06: … independently — with all brokers of one service dead, the other serves.
#[test]
fn c06_a_dead_service_does_not_touch_the_other() {
    let [alive, mut dead] = FakeBroker::several();
    dead.stop();
    let check = "check = { tcp = true, interval = \"100ms\" }\nwhen_empty = { wait = \"100ms\" }";
    let standfast = Standfast::start(&format!(
        "[[listener]]\nbind = \"127.0.0.1:${{port:one}}\"\npool = \"one\"\n\
         [[listener]]\nbind = \"127.0.0.1:${{port:two}}\"\npool = \"two\"\n\
         [[pool]]\nname = \"one\"\n{check}\n{}\n[[pool]]\nname = \"two\"\n{check}\n{}\n",
        backends([&alive]),
        backends([&dead])
    ));
    standfast.wait_state("two/b1", "down", s(5));
    standfast.wait_state("one/b1", "up", s(5));
    let mut lost = Client::open(standfast.addr("two")).expect("it listens");
    lost.send(&Connect::v311("lost").bytes()).expect("open");
    lost.ending(s(5)).expect("nobody serves it");
    Client::id(standfast.addr("one"), "served").disconnect();
    assert_eq!(alive.ids(""), ["served"]);
}

/// C23: round robin: clients go to each backend in turn
#[test]
fn c23_clients_go_to_each_backend_in_turn() {
    let brokers = FakeBroker::several::<3>();
    let standfast = Standfast::start(&one_pool(&format!(
        "balance = \"round-robin\"\ncheck = false\n{}",
        backends(&brokers)
    )));
    for number in 0..12 {
        visit(&standfast, &format!("c-{number}"));
    }
    let turns: Vec<_> = (0..12)
        .flat_map(|number| places_of(&brokers, &format!("c-{number}")))
        .collect();
    let first: Vec<_> = turns[..3].to_vec();
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [0, 1, 2], "each of them first: {turns:?}");
    assert!(turns.chunks(3).all(|turn| turn == first), "{turns:?}");
}

/// C24: weights 5/2/3: 100 connections → exactly 50/20/30, interleaved (no five in a row to the weight-5 server)
#[test]
fn c24_weights_are_kept_exactly_and_smoothly() {
    let brokers = FakeBroker::several::<3>();
    let weighted = brokers.each_ref().map(FakeBroker::addr);
    let standfast = Standfast::start(&one_pool(&format!(
        "balance = \"round-robin\"\ncheck = false\nbackends = [\
         {{ name = \"b1\", addr = \"{}\", weight = 5 }}, {{ name = \"b2\", addr = \"{}\", weight = 2 }}, \
         {{ name = \"b3\", addr = \"{}\", weight = 3 }}]",
        weighted[0], weighted[1], weighted[2]
    )));
    for number in 0..100 {
        visit(&standfast, &format!("c-{number}"));
    }
    let counts = brokers.each_ref().map(|broker| broker.count_of("c-"));
    assert_eq!(counts, [50, 20, 30]);
    let mut turns: Vec<_> = (0..100)
        .flat_map(|number| places_of(&brokers, &format!("c-{number}")))
        .collect();
    let heavy = turns
        .windows(5)
        .filter(|five| five.iter().all(|place| *place == 0));
    assert_eq!(heavy.count(), 0, "{turns:?}");
    // Smooth: in every ten of a hundred the weights hold, wherever they begin.
    turns.extend_from_within(..9);
    for ten in turns.windows(10) {
        let heavy = ten.iter().filter(|place| **place == 0).count();
        assert!((4..=6).contains(&heavy), "{turns:?}");
    }
}

/// Where each of 60 client addresses goes, asked `times` times from each.
fn homes(
    standfast: &Standfast,
    brokers: &[FakeBroker],
    round: &str,
    times: usize,
) -> BTreeMap<u8, usize> {
    let mut homes = BTreeMap::new();
    for host in 1..=60 {
        let from = IpAddr::from(Ipv4Addr::new(127, 0, 25, host));
        let id = format!("{round}-{host}-");
        for number in 0..times {
            let mut client = Client::open_from(from, standfast.addr("mqtt")).expect("it listens");
            client
                .greet(&Connect::v311(&format!("{id}{number}")))
                .expect("accepted");
            client.disconnect();
        }
        let seen: Vec<_> = (0..times)
            .flat_map(|number| places_of(brokers, &format!("{id}{number}")))
            .collect();
        assert_eq!(
            seen,
            vec![seen[0]; times],
            "127.0.25.{host} goes to one server"
        );
        homes.insert(host, seen[0]);
    }
    homes
}

/// C25: one IP → one server; removing a server moves only its clients
#[test]
fn c25_an_address_has_one_server_and_removing_another_does_not_move_it() {
    let brokers = FakeBroker::several::<3>();
    let config = |brokers: &[FakeBroker]| {
        one_pool(&format!(
            "balance = \"source\"\ncheck = false\n{}",
            backends(brokers)
        ))
    };
    let mut standfast = Standfast::start(&config(&brokers));
    let before = homes(&standfast, &brokers, "before", 2);
    for place in 0..3 {
        let share = before.values().filter(|it| **it == place).count();
        assert!(share >= 8, "b{} has {share} of 60", place + 1);
    }
    standfast.reload(&config(&brokers[..2])).ok();
    let without = homes(&standfast, &brokers, "without", 1);
    for (host, place) in &before {
        match place {
            2 => assert_ne!(without[host], 2, "127.0.25.{host} has to move"),
            _ => assert_eq!(
                without[host], *place,
                "127.0.25.{host} has no reason to move"
            ),
        }
    }
    standfast.reload(&config(&brokers)).ok();
    assert_eq!(homes(&standfast, &brokers, "after", 1), before);
}

/// C25: one IP → one server … — the one of the PROXY header where one is accepted, whoever brings it.
#[test]
fn c25_the_address_of_the_proxy_header_counts() {
    let brokers = FakeBroker::several::<3>();
    let standfast = Standfast::start(&listener_and_pool(
        "accept_proxy = { from = [\"127.0.0.0/8\"] }",
        &format!(
            "balance = \"source\"\ncheck = false\n{}",
            backends(&brokers)
        ),
    ));
    let visit_for = |host: u8, id: &str| {
        let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
        let header = format!(
            "PROXY TCP4 10.1.1.{host} 10.0.0.9 {} 1883\r\n",
            40_000 + u16::from(host)
        );
        client.send(header.as_bytes()).expect("open");
        client.greet(&Connect::v311(id)).expect("accepted");
        client.disconnect();
        places_of(&brokers, id)[0]
    };
    let mut seen = [false; 3];
    for host in 1..=40 {
        let first = visit_for(host, &format!("a-{host}"));
        assert_eq!(
            visit_for(host, &format!("b-{host}")),
            first,
            "10.1.1.{host}"
        );
        seen[first] = true;
    }
    assert_eq!(
        seen, [true; 3],
        "the balancer before us is not everybody's address"
    );
}

/// C27: a message queued while its session is offline arrives after reconnect on an unclustered pair of brokers
///
/// Six sessions, so that luck (each would find its broker one time in two) passes one run in 64.
#[test]
fn c27_a_message_queued_while_offline_arrives_after_reconnect() {
    let brokers = [
        Mosquitto::start("").expect("mosquitto runs"),
        Mosquitto::start("").expect("mosquitto runs"),
    ];
    let standfast = Standfast::start(&one_pool(&format!(
        "check = {{ interval = \"100ms\" }}\nsticky = {{ fallback = \"round-robin\" }}\n{}",
        backends_at(brokers.each_ref().map(Mosquitto::addr))
    )));
    standfast.wait_up(&["b1", "b2"]);
    let to = standfast.addr("mqtt");
    let sessions: Vec<_> = (0..6).map(|number| format!("session-{number}")).collect();
    for session in &sessions {
        let connect = Connect::v311(session).clean(false);
        let mut client = Client::connect(to, &connect).expect("accepted");
        client
            .send(&standfast_tests::mqtt::subscribe(session))
            .expect("open");
        let answer = client.packet(s(5)).expect("an answer");
        assert_eq!(answer.kind(), kind::SUBACK);
        client.disconnect();
        let line = standfast.line_of(session);
        let home = if line["backend"] == "b1" { 0 } else { 1 };
        // Its broker alone knows of the session: the pair shares nothing.
        let message = Publish {
            to: brokers[home].addr(),
            id: "publisher",
            topic: session,
            payload: &format!("for {session}"),
            more: &["-q", "1"],
        };
        message.run().expect("mosquitto_pub is content");
        // Somebody else in between, so that turns alone would lead elsewhere.
        visit(&standfast, &format!("{session}-passer-by"));
    }
    for session in &sessions {
        let connect = Connect::v311(session).clean(false);
        let mut client = Client::open(to).expect("it listens");
        client.send(&connect.bytes()).expect("open");
        let connack = client.packet(s(5)).expect("an answer");
        assert_eq!(
            connack.bytes(),
            [0x20, 2, 1, 0],
            "{session}: session present"
        );
        let heard = client.packet(s(5)).expect("the message that waited");
        assert_eq!(heard.kind(), kind::PUBLISH);
        let topic = sized(session.as_bytes());
        assert_eq!(heard.body[..topic.len()], topic);
        assert!(heard.body.ends_with(format!("for {session}").as_bytes()));
        let id = &heard.body[topic.len()..topic.len() + 2];
        client.send(&packet(0x40, id)).expect("open");
        client.disconnect();
    }
}
