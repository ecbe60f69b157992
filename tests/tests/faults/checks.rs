//! Checks that kick each other.

use standfast_tests::mqtt::packet;
use standfast_tests::prelude::*;

/// F13: two balancers that check one broker do not kick each other: each has client ids of its own
///
/// First what document D's fixed id does: the broker takes the second for the first.
#[test]
fn f13_two_balancers_do_not_kick_each_others_checks() {
    let mosquitto = Mosquitto::start("").expect("mosquitto runs");
    let fixed = Connect::v31("nginx health check");
    let mut one = Client::connect(mosquitto.addr(), &fixed).expect("accepted");
    let _two = Client::connect(mosquitto.addr(), &fixed).expect("accepted");
    one.ending(s(5)).expect("kicked by the other");
    let _ = mosquitto.log_line("already connected");

    // A broker that thinks for a while, so that checks of both are there at the same time.
    let broker = FakeBroker::start();
    broker
        .answer(Answer::Raw(packet(0x20, &[0, 0])))
        .delay(ms(150));
    let real = Mosquitto::start("").expect("mosquitto runs");
    let both = [0, 1].map(|_| {
        // The same file on both nodes, their names apart.
        Standfast::start(&one_pool(&format!(
            "check = {{ interval = \"50ms\" }}\n{}",
            backends_at([broker.addr(), real.addr()])
        )))
    });
    for standfast in &both {
        standfast.wait_up(&["b1", "b2"]);
        eventually(s(10), "twenty checks", || {
            standfast.status().backend("b2")["check"]["passed_total"].as_u64() >= Some(20)
        });
    }
    let log = real.log();
    assert!(!log.contains("already connected"), "{log}");
    let visits = broker.visits();
    for (place, visit) in visits.iter().enumerate() {
        let end = visit.ended.unwrap_or_else(Instant::now);
        let clash = visits[place + 1..]
            .iter()
            .find(|other| other.at < end && other.id == visit.id);
        assert!(clash.is_none(), "{} is there twice at once", visit.id);
    }
}
