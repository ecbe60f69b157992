//! The parts of the harness that are slow to have: a newer Mosquitto, RabbitMQ.

use standfast_tests::prelude::*;

#[test]
fn the_newer_mosquitto_knows_proxy_headers() {
    let mosquitto = require!(Mosquitto::start_newer("enable_proxy_protocol 2"));
    assert!(Client::connect(mosquitto.addr(), &Connect::v311("bare")).is_err());
    let mut head = standfast_tests::broker::SIGNATURE.to_vec();
    head.extend([
        0x21, 0x11, 0, 12, 10, 9, 8, 7, 127, 0, 0, 1, 0x30, 0x39, 7, 91,
    ]);
    head.extend(Connect::v311("told").bytes());
    let mut client = Client::open(mosquitto.addr()).expect("open");
    client.send(&head).expect("open");
    client.connack(s(5)).expect("accepted");
    let line = mosquitto.log_line("as told");
    assert!(line.contains("10.9.8.7:12345"), "{line}");
}

#[test]
fn rabbitmq_starts_and_takes_proxy_headers() {
    let rabbit = require!(RabbitMq::start(true));
    let mut head = standfast_tests::broker::SIGNATURE.to_vec();
    head.extend([
        0x21, 0x11, 0, 12, 10, 9, 8, 7, 127, 0, 0, 1, 0x30, 0x39, 7, 91,
    ]);
    head.extend(Connect::v311("told").bytes());
    let mut client = Client::open(rabbit.addr()).expect("open");
    client.send(&head).expect("open");
    client.connack(s(20)).expect("accepted");
    let line = rabbit.log_line("10.9.8.7:12345");
    assert!(line.contains("accepting MQTT connection"), "{line}");
}
