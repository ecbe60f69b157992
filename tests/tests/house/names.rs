//! Backends by name, and where clients can be met: name servers, binds, address families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use standfast_tests::prelude::*;

const NAME: &str = "mq.plant.example";

/// A host with a name server and a broker on 127.0.0.1 and one on 127.0.0.2, both on one port.
struct Plant {
    host: Host,
    dns: FakeDns,
    brokers: [FakeBroker; 2],
    port: u16,
}

impl Plant {
    fn build(what: &str) -> anyhow::Result<Self> {
        let host = Host::new(what)?;
        let dns = FakeDns::start_on(&host)?;
        let port = standfast_tests::ports::free();
        let at = |last| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), port));
        let brokers = host.inside(|| [1, 2].map(|last| FakeBroker::at(at(last))));
        Ok(Self {
            host,
            dns,
            brokers,
            port,
        })
    }

    fn client(&self, to: SocketAddr, id: &str) -> Client {
        self.host.inside(|| Client::id(to, id))
    }
}

/// A name whose address changes: new clients go to the new address, those who are there stay.
#[test]
fn a_changed_address_moves_new_clients_and_keeps_the_old_ones() {
    require!(root);
    let plant = require!(Plant::build("dns-moves"));
    plant.dns.set(NAME, Ipv4Addr::new(127, 0, 0, 1));
    let standfast = Standfast::start_on(
        &plant.host,
        &one_pool(&format!(
            "check = {{ tcp = true, interval = \"200ms\" }}\nresolve = {{ every = \"300ms\" }}\n\
             backends = [{{ name = \"b1\", addr = \"{NAME}:{}\" }}]",
            plant.port
        )),
    );
    standfast.wait_up(&["b1"]);
    let to = standfast.addr("mqtt");
    let mut old = plant.client(to, "old");
    assert_eq!(plant.brokers[0].live_of("old"), 1);

    plant.dns.set(NAME, Ipv4Addr::new(127, 0, 0, 2));
    let there = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), plant.port)).to_string();
    eventually(s(20), "the new address", || {
        standfast.status().backend("b1")["resolved"] == there.as_str()
    });
    standfast.wait_up(&["b1"]);
    let _new = plant.client(to, "new");
    assert_eq!(plant.brokers[1].live_of("new"), 1);
    assert_eq!(plant.brokers[0].live_of("old"), 1);
    old.ping().expect("not dropped");
}

/// A start with a dead name server: listeners are up, the backend without an address waits, the others serve.
#[test]
fn a_dead_name_server_keeps_nobody_from_starting() {
    require!(root);
    let plant = require!(Plant::build("dns-dead"));
    plant.dns.dead(true);
    let standfast = Standfast::start_on(
        &plant.host,
        &one_pool(&format!(
            "check = {{ tcp = true, interval = \"200ms\" }}\nresolve = {{ every = \"300ms\" }}\n\
             backends = [{{ name = \"b1\", addr = \"{NAME}:{0}\" }}, {{ name = \"b2\", addr = \"127.0.0.2:{0}\" }}]",
            plant.port
        )),
    );
    standfast.wait_up(&["b2"]);
    assert_eq!(standfast.status().state("b1"), "unresolved");
    let to = standfast.addr("mqtt");
    for number in 0..6 {
        plant.client(to, &format!("c-{number}")).disconnect();
    }
    assert_eq!(plant.brokers[1].count_of("c-"), 6);
    plant.dns.set(NAME, Ipv4Addr::new(127, 0, 0, 1));
    plant.dns.dead(false);
    standfast.wait_up(&["b1"]);
}

/// Many binds of one listener, two listeners on one pool, IPv6 literals before and behind: one pool, one table of homes.
#[test]
fn all_binds_of_all_listeners_lead_to_the_same_pool() {
    let four = FakeBroker::start();
    let six = FakeBroker::at((Ipv6Addr::LOCALHOST, standfast_tests::ports::free()).into());
    let standfast = Standfast::start(&format!(
        "[[listener]]\nname = \"first\"\npool = \"mqtt\"\n\
         bind = [\"127.0.0.1:${{port:a}}\", \"127.0.0.2:${{port:b}}\", \"[::1]:${{port:c}}\", \":${{port:d}}\"]\n\
         [[listener]]\nname = \"second\"\npool = \"mqtt\"\nbind = \"127.0.0.1:${{port:e}}\"\n\
         [[pool]]\nname = \"mqtt\"\nsticky = {{ fallback = \"round-robin\" }}\ncheck = {{ interval = \"100ms\" }}\n\
         backends = [{{ name = \"b1\", addr = \"{}\" }}, {{ name = \"b2\", addr = \"{}\" }}]",
        four.addr(),
        six.addr()
    ));
    standfast.wait_up(&["b1", "b2"]);
    let brokers = [four, six];
    let lo = |last| IpAddr::from(Ipv4Addr::new(127, 0, 0, last));
    let loopback = IpAddr::from(Ipv6Addr::LOCALHOST);
    let doors = [
        (lo(1), "a", "first"),
        (lo(2), "b", "first"),
        (loopback, "c", "first"),
        (lo(3), "d", "first"),
        (loopback, "d", "first"),
        (lo(1), "e", "second"),
    ];
    for id in ["one", "two"] {
        for (ip, port, _) in doors {
            Client::id((ip, standfast.port(port)).into(), id).disconnect();
        }
        let places = places_of(&brokers, id);
        assert_eq!(places.len(), doors.len());
        assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
    }
    assert_ne!(places_of(&brokers, "one")[0], places_of(&brokers, "two")[0]);
    eventually(s(10), "all lines", || {
        standfast.lines().len() >= 2 * doors.len()
    });
    // Lines come in the order of the ends, which are several threads' business.
    let lines = standfast.lines();
    for name in ["first", "second"] {
        let want = 2 * doors.iter().filter(|door| door.2 == name).count();
        let found = lines.iter().filter(|line| line["listener"] == name);
        assert_eq!(found.count(), want, "{name}");
    }
}
