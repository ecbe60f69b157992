//! The harness against real software, so that a row test that fails means standfast and not its surroundings.

use standfast_tests::broker::Wants;
use standfast_tests::prelude::*;

#[test]
fn real_clients_and_a_scripted_broker_understand_each_other() {
    let broker = FakeBroker::start();
    let publish = Publish {
        to: broker.addr(),
        id: "pub",
        topic: "t",
        payload: "hello",
        more: &[],
    };
    publish.run().expect("mosquitto_pub is content");
    let five = Publish {
        id: "five",
        more: &["-V", "mqttv5"],
        ..publish
    };
    five.run().expect("mosquitto_pub is content with MQTT 5");
    assert_eq!(broker.ids(""), ["pub", "five"]);
    assert_eq!(broker.visits()[1].level, 5);
}

#[test]
fn a_real_broker_understands_the_raw_client() {
    let mut broker = Mosquitto::start("").expect("mosquitto runs");
    let subscriber = Subscriber::start(broker.addr(), "sub", "t", &[]).expect("subscribed");
    for connect in [Connect::v31("a"), Connect::v311("b"), Connect::v5("c")] {
        let connect = connect.will("w", b"x").login("u", b"p");
        let mut client = Client::connect(broker.addr(), &connect).expect("CONNACK 0");
        client.ping().expect("PINGRESP");
    }
    let mut client = Client::id(broker.addr(), "d");
    client.publish("t", b"from the raw client").expect("open");
    subscriber.expect("from the raw client");
    broker.stop();
    assert!(Client::open(broker.addr()).is_err());
    broker.restart().expect("it runs again");
    let _ = Client::id(broker.addr(), "e");
}

#[test]
fn haproxy_sends_the_header_that_the_scripted_broker_reads() {
    let broker = FakeBroker::start();
    broker.wants(Wants::Header);
    let port = standfast_tests::ports::free();
    let config = format!(
        "listen l\n  mode tcp\n  timeout client 5s\n  timeout server 5s\n  timeout connect 5s\n  bind 127.0.0.1:{port}\n  server s {} send-proxy-v2",
        broker.addr()
    );
    let haproxy = Haproxy::start(&config).expect("haproxy runs");
    let client = Client::id(([127, 0, 0, 1], port).into(), "x");
    let header = broker.visits()[0].header.clone().expect("a header");
    assert_eq!(header.source, Some(client.local()));
    assert_eq!(&header.raw[12..16], [0x21, 0x11, 0, 12]);
    let total = haproxy.stat("l", "s", "stot").expect("a number");
    assert_eq!(total, "1");
}

#[test]
fn hosts_on_a_bridge_reach_each_other_and_nobody_else() {
    require!(root);
    let bridge = Bridge::with_hosts(2).expect("root makes namespaces");
    let (one, two) = (bridge.host(1), bridge.host(2));
    let broker = two.inside(|| FakeBroker::at((two.ip(), 1883).into()));
    let client = one.inside(|| Client::id(broker.addr(), "over the bridge"));
    assert_eq!(client.local().ip(), one.ip());
    // Some machines answer for every address: then it is somebody else who answers.
    let _ = std::net::TcpStream::connect_timeout(&broker.addr(), ms(300));
    assert_eq!(broker.contacts().len(), 1);
}

#[test]
fn a_scripted_name_server_is_asked_by_programs_on_its_host() {
    require!(root);
    // On a bridge: without any address but loopback's the C library asks nobody.
    let bridge = require!(Bridge::with_hosts(1));
    let host = bridge.host(1);
    let dns = require!(FakeDns::start_on(host));
    let ask = || host.run("getent", &["ahostsv4", "mq1.plant.example"]);
    assert!(ask().is_err());
    dns.set("mq1.plant.example", [10, 9, 8, 7].into());
    let found = ask().expect("it resolves now").stdout;
    assert!(String::from_utf8_lossy(&found).starts_with("10.9.8.7 "));
    dns.dead(true);
    assert!(ask().is_err());
    assert!(dns.asked() > 1);
}
