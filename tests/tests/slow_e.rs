//! Rows of document E that need Mosquitto 2.1.

use std::net::SocketAddr;

use standfast_tests::prelude::*;

fn start(broker: SocketAddr, lines: &str) -> Standfast {
    Standfast::start(&one_pool(&format!("{lines}\n{}", backends_at([broker]))))
}

/// E02: the broker's log shows the client's address and port
///
/// Without PROXY it shows the balancer's; with version 2, and version 1 for older brokers, the client's.
#[test]
fn e02_the_brokers_log_shows_the_client() {
    let plain = Mosquitto::start("").expect("mosquitto runs");
    let standfast = start(plain.addr(), "check = false");
    let client = Client::id(standfast.addr("mqtt"), "hidden");
    let line = plain.log_line("as hidden");
    assert!(!line.contains(&client.local().to_string()), "{line}");

    for version in [2, 1] {
        let option = format!("enable_proxy_protocol {version}");
        let mosquitto = require!(Mosquitto::start_newer(&option));
        let proxy = format!("check = false\nproxy = {{ version = {version} }}");
        let standfast = start(mosquitto.addr(), &proxy);
        let from = [127, 0, 2, 2].into();
        let mut client = Client::open_from(from, standfast.addr("mqtt")).expect("it listens");
        client.greet(&Connect::v311("seen")).expect("accepted");
        let line = mosquitto.log_line("as seen");
        assert!(
            line.contains(&client.local().to_string()),
            "version {version}: {line}"
        );
    }
}

/// E17: Mosquitto 2.1 with enable_proxy_protocol 2 accepts
///
/// Real clients publish and subscribe through it, and the broker has nothing to complain about.
#[test]
fn e17_mosquitto_with_proxy_protocol_serves_real_clients() {
    let mosquitto = require!(Mosquitto::start_newer("enable_proxy_protocol 2"));
    let standfast = start(
        mosquitto.addr(),
        "check = { interval = \"100ms\" }\nproxy = { profile = \"mosquitto\" }",
    );
    standfast.wait_up(&["b1"]);
    let to = standfast.addr("mqtt");
    for version in ["mqttv31", "mqttv311", "mqttv5"] {
        let more = ["-V", version, "-q", "1"];
        let subscriber =
            Subscriber::start(to, &format!("sub-{version}"), "t", &more).expect("subscribed");
        let payload = format!("hello in {version}");
        let message = Publish {
            to,
            id: &format!("pub-{version}"),
            topic: "t",
            payload: &payload,
            more: &more,
        };
        message.run().expect("mosquitto_pub is content");
        subscriber.expect(&payload);
    }
    let log = mosquitto.log();
    for complaint in ["rejected", "protocol error", "malformed", "Bad socket"] {
        assert!(
            !log.to_lowercase().contains(&complaint.to_lowercase()),
            "{complaint}: {log}"
        );
    }
    // Without a header it lets nobody in: so it was ours that did it.
    assert!(Client::connect(mosquitto.addr(), &Connect::v311("bare")).is_err());
}
