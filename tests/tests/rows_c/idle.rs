//! Silence after the CONNECT: how long a client may be quiet.

use std::thread;

use standfast_tests::mqtt::packet;
use standfast_tests::prelude::*;

/// A client's silence from its CONNECT to the end that it is given.
#[track_caller]
fn silence(standfast: &Standfast, connect: &Connect) -> Duration {
    let start = Instant::now();
    let mut client = Client::connect(standfast.addr("mqtt"), connect).expect("accepted");
    client.ending(s(15)).expect("closed at last");
    start.elapsed()
}

fn start(broker: &FakeBroker, timeout: &str) -> Standfast {
    Standfast::start(&one_pool(&format!(
        "check = false\n{timeout}\n{}",
        backends([broker])
    )))
}

/// C14: silent client closed at 1.5 × keepalive; keepalive 0: only the cap applies; pinging client never closed; MQTT 5
/// Server Keep Alive in the CONNACK overrides
///
/// Keepalives of 1 and 2 s in place of 10 s, and a second of tolerance as the document has it.
#[test]
fn c14_a_silent_client_is_closed_at_one_and_a_half_times_its_keepalive() {
    let broker = FakeBroker::start();
    let standfast = start(&broker, "");
    thread::scope(|scope| {
        for (keepalive, least, id) in [(1, ms(1500), "one"), (2, ms(3000), "two")] {
            let standfast = &standfast;
            scope.spawn(move || {
                let took = silence(standfast, &Connect::v311(id).keepalive(keepalive));
                assert!(took >= least - ms(20) && took < least + s(1), "{took:?}");
                assert_eq!(standfast.line_of(id)["end"], "keepalive-timeout");
            });
        }
    });
}

/// C14: silent client closed at 1.5 × keepalive … — what the broker sends does not make the client any less silent.
#[test]
fn c14_bytes_from_the_broker_do_not_keep_a_silent_client() {
    let broker = FakeBroker::start();
    let standfast = start(&broker, "");
    let mut client = Client::connect(standfast.addr("mqtt"), &Connect::v311("deaf").keepalive(1))
        .expect("accepted");
    let begin = Instant::now();
    while begin.elapsed() < ms(1200) {
        broker.send("deaf", &[0xd0, 0]).expect("connected");
        pause(ms(200));
    }
    client.ending(s(3)).expect("closed");
    assert!(begin.elapsed() < ms(2600), "{:?}", begin.elapsed());
    assert_eq!(standfast.line_of("deaf")["end"], "keepalive-timeout");
}

/// C14: … keepalive 0: only the cap applies …
#[test]
fn c14_without_a_keepalive_only_the_cap_applies() {
    let broker = FakeBroker::start();
    let capped = start(&broker, "timeout = { idle = \"1s\" }");
    let took = silence(&capped, &Connect::v311("capped").keepalive(0));
    assert!(took >= ms(980) && took < s(2), "{took:?}");
    assert_eq!(capped.line_of("capped")["end"], "idle-timeout");

    let open = start(&broker, "");
    let mut client =
        Client::connect(open.addr("mqtt"), &Connect::v311("quiet").keepalive(0)).expect("accepted");
    holds(s(3), "nobody closes it", || client.is_open());
    client.ping().expect("it works");
}

/// C14: … pinging client never closed …
#[test]
fn c14_a_client_that_pings_is_never_closed() {
    let broker = FakeBroker::start();
    let standfast = start(&broker, "");
    let mut client = Client::connect(standfast.addr("mqtt"), &Connect::v311("alive").keepalive(1))
        .expect("accepted");
    // Four times its keepalive, and pings later than a broker would like but within the time it must grant.
    for _ in 0..4 {
        pause(ms(1100));
        client.ping().expect("open");
    }
}

/// C14: … MQTT 5 Server Keep Alive in the CONNACK overrides
#[test]
fn c14_the_brokers_server_keep_alive_overrides_the_clients() {
    let broker = FakeBroker::start();
    // Property 0x13: one second.
    broker.answer(Answer::Raw(packet(0x20, &[0, 0, 3, 0x13, 0, 1])));
    let standfast = start(&broker, "");
    let took = silence(&standfast, &Connect::v5("told").keepalive(60));
    assert!(took >= ms(1480) && took < ms(2500), "{took:?}");
    assert_eq!(standfast.line_of("told")["end"], "keepalive-timeout");

    // And the other way: the client asked for one second, the broker granted a minute.
    broker.answer(Answer::Raw(packet(0x20, &[0, 0, 3, 0x13, 0, 60])));
    let mut client = Client::connect(standfast.addr("mqtt"), &Connect::v5("granted").keepalive(1))
        .expect("accepted");
    holds(ms(2500), "nobody closes it", || client.is_open());
}
