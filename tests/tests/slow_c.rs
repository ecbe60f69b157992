//! Rows of document C that need Mosquitto 2.1, RabbitMQ, or ten thousand sockets.

use std::net::SocketAddr;
use std::thread;

use standfast_tests::prelude::*;

fn start(broker: SocketAddr, lines: &str) -> Standfast {
    Standfast::start(&one_pool(&format!("{lines}\n{}", backends_at([broker]))))
}

/// C15: … 10,000 silent sockets do not block others
#[test]
fn c15_ten_thousand_silent_sockets_do_not_block_others() {
    const SILENT: usize = 10_000;
    require!(standfast_tests::simple::descriptors(SILENT + 1000));
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&listener_and_pool(
        "connect_deadline = \"60s\"",
        &format!("check = false\n{}", backends([&broker])),
    ));
    let to = standfast.addr("mqtt");
    // Half of them say nothing at all, half begin a CONNECT.
    let start_of_connect = &Connect::v311("never").bytes()[..6];
    let open = |part: usize| {
        (0..SILENT / 2)
            .map(|_| {
                let mut client = Client::open(to).expect("it listens");
                if part == 0 {
                    client.send(start_of_connect).expect("open");
                }
                client
            })
            .collect::<Vec<_>>()
    };
    let silent: Vec<_> = thread::scope(|scope| {
        let parts = [0, 1].map(|part| scope.spawn(move || open(part)));
        parts
            .into_iter()
            .flat_map(|part| part.join().expect("all open"))
            .collect()
    });
    let mut slowest = Duration::ZERO;
    for number in 0..50 {
        let start = Instant::now();
        visit(&standfast, &format!("c-{number}"));
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest < s(1), "{slowest:?}");
    assert_eq!(silent.len(), SILENT);
    assert_eq!(broker.count_of("c-"), 50);
}

/// C17: … the broker logs the client's address — RabbitMQ, which verifies our CRC32C; C18 and E17 share its half minute:
/// its checks pass too.
#[test]
fn c17_rabbitmq_takes_our_headers_and_verifies_their_checksum() {
    let rabbit = require!(RabbitMq::start(true));
    let lines = "check = { interval = \"200ms\", timeout = \"2s\" }\nproxy = \"rabbitmq\"";
    let pool = format!("{lines}\n{}", backends_at([rabbit.addr()]));
    let standfast = Standfast::start(&one_pool(&pool));
    standfast.wait_up(&["b1"]);
    let from = [127, 0, 17, 9].into();
    let mut client = Client::open_from(from, standfast.addr("mqtt")).expect("it listens");
    client.send(&Connect::v311("told").bytes()).expect("open");
    client.connack(s(20)).expect("accepted");
    eventually(s(10), "its log has the client's address", || {
        rabbit.log().contains(&client.local().to_string())
    });
    assert_eq!(standfast.status().state("b1"), "up");
}

/// C17: … the broker logs the client's address — Mosquitto 2.1 does, for several clients at different addresses.
#[test]
fn c17_mosquitto_logs_the_clients_address() {
    let mosquitto = require!(Mosquitto::start_newer("enable_proxy_protocol 2"));
    let standfast = start(mosquitto.addr(), "check = false\nproxy = \"mosquitto\"");
    for host in 1..=3 {
        let from = [127, 0, 17, host].into();
        let mut client = Client::open_from(from, standfast.addr("mqtt")).expect("it listens");
        let id = format!("told-{host}");
        client.greet(&Connect::v311(&id)).expect("accepted");
        let line = mosquitto.log_line(&format!("as {id}"));
        assert!(line.contains(&client.local().to_string()), "{line}");
    }
}

/// C18: checks pass … against Mosquitto 2.1, which needs PROXY
#[test]
fn c18_checks_pass_against_the_real_mosquitto() {
    let mosquitto = require!(Mosquitto::start_newer("enable_proxy_protocol 2"));
    let check = "check = { interval = \"100ms\" }";
    for proxy in ["\"mosquitto\"", "{ version = 2 }"] {
        let standfast = start(mosquitto.addr(), &format!("{check}\nproxy = {proxy}"));
        standfast.wait_up(&["b1"]);
        let failed = standfast.status().backend("b1")["check"]["failed_total"].clone();
        assert_eq!(failed, 0, "{proxy}");
        visit(&standfast, "a-client");
    }
    // A LOCAL header is what it hangs up on: that profile is for others.
    let standfast = start(mosquitto.addr(), &format!("{check}\nproxy = \"emqx\""));
    standfast.wait_state("b1", "down|not-ready", s(5));
}
