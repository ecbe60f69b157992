//! How long a client may be silent, where broker, client and pool each have a say.

use standfast_tests::mqtt::packet;
use standfast_tests::prelude::*;

/// A CONNACK of MQTT 5 with Server Keep Alive.
fn connack_with_keep_alive(seconds: u16) -> Answer {
    let [high, low] = seconds.to_be_bytes();
    Answer::Raw(packet(0x20, &[0, 0, 3, 0x13, high, low]))
}

fn start(broker: &FakeBroker, timeout: &str) -> Standfast {
    Standfast::start(&one_pool(&format!(
        "check = false\n{timeout}\n{}",
        backends([broker])
    )))
}

/// Server Keep Alive counts in place of what the client asked for: longer, shorter, and where the client asked for none.
#[test]
fn server_keep_alive_overrides_the_clients() {
    let broker = FakeBroker::start();
    let standfast = start(&broker, "");
    std::thread::scope(|scope| {
        // Asked for, told, and the seconds after which silence ends the connection.
        for (asked, told, least) in [(1, 2, ms(3000)), (60, 1, ms(1500)), (0, 1, ms(1500))] {
            broker.answer(connack_with_keep_alive(told));
            let id = format!("asked-{asked}");
            let connect = Connect::v5(&id).keepalive(asked);
            let mut client = Client::connect(standfast.addr("mqtt"), &connect).expect("accepted");
            let begin = Instant::now();
            let standfast = &standfast;
            scope.spawn(move || {
                client.ending(s(10)).expect("closed at last");
                let took = begin.elapsed();
                assert!(
                    took >= least - ms(100) && took < least + s(1),
                    "{id}: {took:?}"
                );
                let line = standfast.line_of(&id);
                assert_eq!(line["end"], "keepalive-timeout", "{line}");
                assert_eq!(line["keepalive"], told, "the one in force: {line}");
            });
        }
    });
}

/// Server Keep Alive 0 means that the server does not mind; the client that asked for one second may be silent.
#[test]
fn server_keep_alive_of_nothing_lets_a_client_be_silent() {
    let broker = FakeBroker::start();
    broker.answer(connack_with_keep_alive(0));
    let standfast = start(&broker, "");
    let connect = Connect::v5("quiet").keepalive(1);
    let mut client = Client::connect(standfast.addr("mqtt"), &connect).expect("accepted");
    holds(ms(2500), "nobody closes it", || client.is_open());
    client.ping().expect("it works");
}

/// A keepalive of 0 with a cap, and a keepalive that is longer than the cap: the cap.
#[test]
fn a_cap_holds_for_those_without_a_keepalive_and_for_long_ones() {
    let broker = FakeBroker::start();
    let standfast = start(&broker, "timeout = { idle = \"1s\" }");
    std::thread::scope(|scope| {
        for keepalive in [0, 600] {
            let standfast = &standfast;
            scope.spawn(move || {
                let id = format!("every-{keepalive}");
                let connect = Connect::v311(&id).keepalive(keepalive);
                let begin = Instant::now();
                let mut client =
                    Client::connect(standfast.addr("mqtt"), &connect).expect("accepted");
                // What it says in time counts.
                pause(ms(700));
                client.ping().expect("it works");
                client.ending(s(10)).expect("closed at last");
                let took = begin.elapsed();
                assert!(took >= ms(1650) && took < ms(2800), "{id}: {took:?}");
            });
        }
    });
}
