//! The client's address through several proxies.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use standfast_tests::prelude::*;

/// `listen` on this port that takes PROXY headers.
fn accepting(port: u16, server: SocketAddr, options: &str) -> String {
    let bind = format!("127.0.0.1:{port}\n");
    haproxy_listen(port, "", &[server], options)
        .replace(&bind, &format!("127.0.0.1:{port} accept-proxy\n"))
}

/// HAProxy (v2) → standfast (v1 or v2) → HAProxy → broker: the client's address survives all hops, and stands in our line.
#[test]
fn the_clients_address_survives_every_hop() {
    for version in [1, 2] {
        let broker = FakeBroker::start();
        let behind = standfast_tests::ports::free();
        let _behind = require!(Haproxy::start(&accepting(
            behind,
            broker.addr(),
            "send-proxy-v2"
        )));
        let standfast = Standfast::start(&listener_and_pool(
            "accept_proxy = { from = [\"127.0.0.0/8\"] }",
            &format!(
                "check = false\nproxy = {{ version = {version} }}\n{}",
                backends_at([([127, 0, 0, 1], behind).into()])
            ),
        ));
        let front = standfast_tests::ports::free();
        let config = haproxy_listen(front, "", &[standfast.addr("mqtt")], "send-proxy-v2");
        let _front = require!(Haproxy::start(&config));
        let from = IpAddr::from(Ipv4Addr::new(127, 0, 0, 7));
        let mut client = Client::open_from(from, ([127, 0, 0, 1], front).into()).expect("open");
        client.greet(&Connect::v311("far")).expect("accepted");
        let visit = broker.visits_of("far").pop().expect("it was there");
        let header = visit.header.expect("a header");
        assert_eq!(header.source, Some(client.local()), "version {version}");
        let local = client.local().to_string();
        client.disconnect();
        assert_eq!(standfast.line_of("far")["ip"], local.as_str());
    }
}

/// Straight from us to a scripted broker: the second hop carries what the first one said.
#[test]
fn an_address_that_was_told_to_us_is_told_on() {
    let broker = FakeBroker::start();
    broker.wants(Wants::NotLocal);
    let standfast = Standfast::start(&listener_and_pool(
        "accept_proxy = { from = [\"127.0.0.1/32\"] }",
        &format!(
            "check = false\nproxy = {{ version = 2 }}\n{}",
            backends([&broker])
        ),
    ));
    let told: SocketAddr = ([203, 0, 113, 9], 4711).into();
    let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
    client
        .send(b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 1883\r\n")
        .expect("open");
    client.greet(&Connect::v311("told")).expect("accepted");
    let header = broker.visits_of("told")[0]
        .header
        .clone()
        .expect("a header");
    assert_eq!(header.source, Some(told));
    assert_eq!(header.destination, Some(([198, 51, 100, 1], 1883).into()));
}

/// From those networks a header is required; from others one is refused, and none is needed.
#[test]
fn a_header_counts_only_from_those_who_may_send_one() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&listener_and_pool(
        "accept_proxy = { from = [\"127.0.0.2/32\"] }",
        &format!("check = false\n{}", backends([&broker])),
    ));
    let to = standfast.addr("mqtt");
    let trusted = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2));
    let line = b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 1883\r\n";

    let mut liar = Client::open(to).expect("it listens");
    liar.send(&[&line[..], &Connect::v311("liar").bytes()].concat())
        .expect("open");
    liar.ending(s(5)).expect("refused");
    let mut silent = Client::open_from(trusted, to).expect("it listens");
    silent.send(&Connect::v311("silent").bytes()).expect("open");
    silent.ending(s(5)).expect("refused");
    assert_eq!(broker.visits().len(), 0);
    standfast.wait_ends("refused(proxy)", 1);

    visit(&standfast, "plain");
    let mut honest = Client::open_from(trusted, to).expect("it listens");
    honest.send(line).expect("open");
    honest.greet(&Connect::v311("honest")).expect("accepted");
    assert_eq!(broker.ids(""), ["plain", "honest"]);
}
