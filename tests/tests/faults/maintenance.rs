//! Servers that come back, and servers that are taken out: where clients go then.

use std::net::SocketAddr;

use standfast_tests::prelude::*;

/// The newest places of a few clients that come once.
fn places_of_new(to: SocketAddr, brokers: &[FakeBroker], prefix: &str, count: usize) -> Vec<usize> {
    let held: Vec<_> = (0..count)
        .map(|n| Client::id(to, &format!("{prefix}-{n}")))
        .collect();
    let places = (0..count)
        .flat_map(|n| places_of(brokers, &format!("{prefix}-{n}")))
        .collect();
    drop(held);
    places
}

/// F12: HAProxy's leastconn sends every new client to a returning server; standfast's slow start does not
///
/// Thirty clients are held by the one while the other is away; ten come after its return.
#[test]
fn f12_a_returning_server_is_not_flooded() {
    let (mut theirs, mut ours) = (FakeBroker::several::<2>(), FakeBroker::several::<2>());
    theirs[1].stop();
    ours[1].stop();
    let port = standfast_tests::ports::free();
    let addresses = theirs.each_ref().map(FakeBroker::addr);
    let config = haproxy_listen(
        port,
        "  balance leastconn",
        &addresses,
        "check inter 100 rise 1 fall 1",
    );
    let haproxy = require!(Haproxy::start(&config));
    let standfast = Standfast::start(&one_pool(&format!(
        "balance = \"least-connections\"\nslow_start = \"60s\"\ncheck = {{ tcp = true, interval = \"100ms\" }}\n{}",
        backends(&ours)
    )));
    let status = |status: &str| haproxy.stat("l", "s2", "status").expect("it answers") == status;
    eventually(s(10), "HAProxy knows", || status("DOWN"));
    standfast.wait_up(&["b1"]);
    standfast.wait_state("b2", "down", s(10));
    let fronts = [([127, 0, 0, 1], port).into(), standfast.addr("mqtt")];
    let _held: Vec<_> = fronts
        .iter()
        .flat_map(|to| (0..30).map(|n| Client::id(*to, &format!("held-{n}"))))
        .collect();
    theirs[1].restart();
    ours[1].restart();
    eventually(s(10), "HAProxy takes it in", || status("UP"));
    standfast.wait_up(&["b2"]);
    assert_eq!(
        places_of_new(fronts[0], &theirs, "new", 10),
        [1; 10],
        "the flood"
    );
    let places = places_of_new(fronts[1], &ours, "new", 10);
    let flooded = places.iter().filter(|place| **place == 1).count();
    assert!(flooded <= 5, "{places:?}");
}

/// Documents A and C together: a stick table that sticks.
fn sticking(servers: &[SocketAddr], port: u16) -> String {
    let lines = format!(
        "{}\n  stick-table type string len 64 size 100k expire 30m\n  \
         stick on req.payload(0,0),mqtt_field_value(connect,client_identifier)",
        standfast_tests::simple::HAPROXY_MQTT_ONLY
    );
    haproxy_listen(port, &lines, servers, "")
}

/// HAProxy and standfast, each with two brokers and six clients that have been there; who is at the first.
struct Both {
    theirs: [FakeBroker; 2],
    ours: [FakeBroker; 2],
    haproxy: Haproxy,
    standfast: Standfast,
    port: u16,
}

impl Both {
    fn start() -> anyhow::Result<Self> {
        let (theirs, ours) = (FakeBroker::several::<2>(), FakeBroker::several::<2>());
        let port = standfast_tests::ports::free();
        let config = sticking(&theirs.each_ref().map(FakeBroker::addr), port);
        let haproxy = Haproxy::start(&config)?;
        let standfast = Standfast::start(&one_pool(&format!(
            "check = {{ tcp = true, interval = \"100ms\" }}\nsticky = {{ fallback = \"round-robin\" }}\n{}",
            backends(&ours)
        )));
        standfast.wait_up(&["b1", "b2"]);
        let both = Self {
            theirs,
            ours,
            haproxy,
            standfast,
            port,
        };
        both.visit_all();
        let halves = [0, 1, 0, 1, 0, 1];
        anyhow::ensure!(
            both.last_places(&both.theirs) == halves,
            "HAProxy takes turns"
        );
        anyhow::ensure!(
            both.last_places(&both.ours) == halves,
            "standfast takes turns"
        );
        Ok(both)
    }

    fn visit_all(&self) {
        for to in [
            ([127, 0, 0, 1], self.port).into(),
            self.standfast.addr("mqtt"),
        ] {
            for number in 0..6 {
                Client::id(to, &format!("c-{number}")).disconnect();
            }
        }
    }

    /// Where each of the six was last.
    fn last_places(&self, brokers: &[FakeBroker]) -> Vec<usize> {
        let last = |number| places_of(brokers, &format!("c-{number}")).pop();
        (0..6).filter_map(last).collect()
    }

    /// Sets the state of HAProxy's first server.
    fn set(&self, state: &str) {
        let said = self.haproxy.ask(&format!("set server l/s1 state {state}"));
        assert_eq!(said.expect("it answers").trim(), "");
    }
}

/// F17: HAProxy's drain keeps sending stuck clients; standfast's drain empties the backend
#[test]
fn f17_a_drain_breaks_stickiness() {
    let both = require!(Both::start());
    both.set("drain");
    both.standfast.cli(&["drain", "b1", "--yes"]).ok();
    both.visit_all();
    assert_eq!(
        both.last_places(&both.theirs),
        [0, 1, 0, 1, 0, 1],
        "still coming"
    );
    assert_eq!(both.last_places(&both.ours), [1; 6]);
    assert_eq!(both.standfast.status().connections("b1"), 0);
}

/// F18: in HAProxy clients never come home after maintenance; in standfast they do
#[test]
fn f18_clients_come_home_after_maintenance() {
    let both = require!(Both::start());
    both.set("maint");
    both.standfast.cli(&["disable", "b1", "--yes"]).ok();
    both.visit_all();
    assert_eq!(both.last_places(&both.theirs), [1; 6]);
    assert_eq!(both.last_places(&both.ours), [1; 6]);
    both.set("ready");
    both.standfast.cli(&["enable", "b1"]).ok();
    both.standfast.wait_up(&["b1"]);
    both.visit_all();
    assert_eq!(both.last_places(&both.theirs), [1; 6], "lopsided for good");
    assert_eq!(
        both.last_places(&both.ours),
        [0, 1, 0, 1, 0, 1],
        "home again"
    );
}
