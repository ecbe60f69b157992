//! Homes: shown, set, cleared, and kept over a restart of the whole node.

use serde_json::Value;
use standfast_tests::prelude::*;

fn start(brokers: &[FakeBroker], sticky: &str) -> Standfast {
    Standfast::start(&one_pool(&format!(
        "check = false\nsticky = {{ fallback = \"round-robin\"{sticky} }}\n{}",
        backends(brokers)
    )))
}

fn rows(standfast: &Standfast, arguments: &[&str]) -> Vec<Value> {
    let all = [&["sticky"], arguments, &["--json"]].concat();
    let json = standfast.cli(&all).ok().json();
    json.as_array().expect("a list").clone()
}

/// Which broker this client is at, after one more visit.
fn now_at(standfast: &Standfast, brokers: &[FakeBroker], id: &str) -> usize {
    visit(standfast, id);
    places_of(brokers, id).pop().expect("it was there")
}

/// `sticky list`, `show`, `set` and `clear` see and change what new connections go by; live ones stay.
#[test]
fn homes_are_shown_set_and_cleared() {
    let brokers = FakeBroker::several::<2>();
    let standfast = start(&brokers, "");
    for number in 0..10 {
        visit(&standfast, &format!("c-{number}"));
    }
    assert_eq!(rows(&standfast, &["list"]).len(), 10);
    assert_eq!(rows(&standfast, &["list", "--backend", "b1"]).len(), 5);
    assert_eq!(rows(&standfast, &["list", "--limit", "3"]).len(), 3);
    let shown = rows(&standfast, &["show", "c-0"]);
    assert_eq!(shown.len(), 1);
    assert_eq!(
        (&shown[0]["backend"], &shown[0]["client"]),
        (&"b1".into(), &"c-0".into())
    );
    let ids: Vec<_> = rows(&standfast, &["list"])
        .iter()
        .map(|row| row["id"].clone())
        .collect();
    assert!(ids.contains(&shown[0]["id"]), "one id for both verbs");
    assert_eq!(standfast.cli(&["sticky", "show", "nobody"]).code, 1);

    let mut live = Client::id(standfast.addr("mqtt"), "c-0");
    standfast.cli(&["sticky", "set", "c-0", "b2"]).ok();
    live.ping().expect("live connections stay");
    assert_eq!(brokers[0].live_of("c-0"), 1);
    live.disconnect();
    assert_eq!(now_at(&standfast, &brokers, "c-0"), 1);
    assert_eq!(rows(&standfast, &["show", "c-0"])[0]["pinned"], true);

    assert_eq!(
        standfast.cli(&["sticky", "clear", "--client", "c-0"]).code,
        5,
        "no --yes"
    );
    standfast
        .cli(&["sticky", "clear", "--client", "c-0", "--yes"])
        .ok();
    assert_eq!(standfast.cli(&["sticky", "show", "c-0"]).code, 1);
    standfast
        .cli(&["sticky", "clear", "--backend", "b1", "--yes"])
        .ok();
    assert_eq!(rows(&standfast, &["list", "--backend", "b1"]).len(), 0);
    assert_eq!(rows(&standfast, &["list"]).len(), 5);
    standfast.cli(&["sticky", "clear", "--all", "--yes"]).ok();
    assert_eq!(rows(&standfast, &["list"]).len(), 0);
}

/// A restart of the whole node keeps the homes, those of live clients and those that a command set among them.
#[test]
fn a_restart_of_the_node_keeps_homes() {
    let brokers = FakeBroker::several::<3>();
    let mut standfast = start(&brokers, "");
    let ids: Vec<_> = (0..60).map(|n| format!("c-{n}")).collect();
    for id in &ids {
        visit(&standfast, id);
    }
    standfast.cli(&["sticky", "set", "pinned", "b3"]).ok();
    // Live while the node goes down.
    let held: Vec<_> = ids[..10]
        .iter()
        .map(|id| Client::id(standfast.addr("mqtt"), id))
        .collect();
    let homes: Vec<_> = ids.iter().map(|id| places_of(&brokers, id)[0]).collect();
    standfast.restart();
    for mut client in held {
        client.ending(s(5)).expect("closed by the stop");
    }
    assert_eq!(rows(&standfast, &["list"]).len(), 61);
    for (id, home) in ids.iter().zip(homes) {
        assert_eq!(now_at(&standfast, &brokers, id), home, "{id}");
    }
    assert_eq!(now_at(&standfast, &brokers, "pinned"), 2);
    for id in &ids[..10] {
        let whys = within(s(10), "its lines", || {
            let whys = standfast.whys(id);
            (whys.len() >= 3).then_some(whys)
        });
        assert_eq!(
            whys.last().map(String::as_str),
            Some("sticky-hit"),
            "{id}: {whys:?}"
        );
    }
}

/// A homecoming is told as one, and a table without room or time forgets: `expire` after the client has gone.
#[test]
fn an_unused_home_expires_and_a_used_one_does_not() {
    let brokers = FakeBroker::several::<2>();
    let standfast = start(&brokers, ", expire = \"1s\"");
    let mut live = Client::id(standfast.addr("mqtt"), "live");
    visit(&standfast, "gone");
    eventually(s(10), "the unused one is forgotten", || {
        standfast.cli(&["sticky", "show", "gone"]).code == 1
    });
    assert_eq!(rows(&standfast, &["show", "live"])[0]["live"], 1);
    live.ping().expect("it works");
}
