//! Turns, hashes, and the same client at the same node.

use std::net::IpAddr;

use standfast_tests::prelude::*;

fn start(brokers: &[FakeBroker], lines: &str) -> Standfast {
    Standfast::start(&one_pool(&format!(
        "check = false\n{lines}\n{}",
        backends(brokers)
    )))
}

/// `mosquitto_pub -t topic/test -m test123 -i ID`, as the document has it.
#[track_caller]
fn publish(standfast: &Standfast, id: &str) {
    let message = Publish {
        to: standfast.addr("mqtt"),
        id,
        topic: "topic/test",
        payload: "test123",
        more: &[],
    };
    message.run().expect("mosquitto_pub is content");
}

/// D10: three clients go to node 1, 2, 3 in turn
///
/// The reference's commands: the same client four times; the fourth is with the first node again.
#[test]
fn d10_round_robin_picks_node_one_two_and_three_in_turn() {
    let brokers = FakeBroker::several::<3>();
    let standfast = start(&brokers, "balance = \"round-robin\"");
    for _ in 0..4 {
        publish(&standfast, "thing001");
    }
    assert_eq!(places_of(&brokers, "thing001"), [0, 1, 2, 0]);
}

/// D11: hash by client address: one address, one node
#[test]
fn d11_one_address_goes_to_one_node() {
    for balance in [
        "balance = \"source\"",
        "balance = \"consistent-hash\"\nkey = \"client_ip\"",
    ] {
        let brokers = FakeBroker::several::<3>();
        let standfast = start(&brokers, balance);
        let mut nodes = [0; 3];
        for host in 1..=30 {
            let from = IpAddr::from([127, 0, 11, host]);
            let ids = [0, 1, 2].map(|number| format!("{host}-{number}-"));
            for id in &ids {
                let mut client =
                    Client::open_from(from, standfast.addr("mqtt")).expect("it listens");
                client.greet(&Connect::v311(id)).expect("accepted");
                client.disconnect();
            }
            let places = ids.map(|id| places_of(&brokers, &id));
            assert!(
                places.iter().all(|it| *it == places[0] && it.len() == 1),
                "{from}: {places:?}"
            );
            nodes[places[0][0]] += 1;
        }
        assert!(nodes.iter().all(|count| *count > 0), "{balance}: {nodes:?}");
    }
}

/// D13: ten publishes of three ids: same id → same node, also after a restart
///
/// Which node is nobody's promise. The ten are the reference's; both ways of keeping a client are tried.
#[test]
fn d13_the_references_ten_publishes_stay_where_they_were() {
    const ORDER: [&str; 10] = [
        "foo", "bar", "baz", "foo", "foo", "foo", "bar", "bar", "baz", "baz",
    ];
    for balance in ["consistent-hash", "sticky"] {
        let brokers = FakeBroker::several::<3>();
        let mut standfast = start(&brokers, &format!("balance = \"{balance}\""));
        for id in ORDER {
            publish(&standfast, id);
        }
        for (id, times) in [("foo", 4), ("bar", 3), ("baz", 3)] {
            let places = places_of(&brokers, id);
            assert_eq!(places, vec![places[0]; times], "{balance} {id}");
        }
        standfast.restart();
        for id in ORDER {
            publish(&standfast, id);
        }
        for (id, times) in [("foo", 8), ("bar", 6), ("baz", 6)] {
            let places = places_of(&brokers, id);
            assert_eq!(
                places,
                vec![places[0]; times],
                "{balance} {id} after the restart"
            );
        }
    }
}

/// Where each of `ids` is sent, by connecting it.
fn homes(standfast: &Standfast, brokers: &[FakeBroker], ids: usize) -> Vec<usize> {
    for broker in brokers {
        broker.forget();
    }
    standfast_tests::simple::connect_all(standfast.addr("mqtt"), ids);
    standfast_tests::simple::homes_seen(brokers, ids)
}

/// D12: … 0 ids of the surviving two move … server back: ids return — 600 ids here; the 10,000 are among the slow tests.
#[test]
fn d12_a_server_that_goes_moves_only_its_own_clients() {
    let mut brokers = FakeBroker::several::<3>();
    let standfast = Standfast::start(&one_pool(&format!(
        "balance = \"consistent-hash\"\ncheck = {{ tcp = true, interval = \"100ms\" }}\n{}",
        backends(&brokers)
    )));
    standfast.wait_up(&["b1", "b2", "b3"]);
    let before = homes(&standfast, &brokers, 600);
    brokers[2].stop();
    standfast.wait_state("b3", "down", s(5));
    let during = homes(&standfast, &brokers, 600);
    for (id, (was, is)) in before.iter().zip(&during).enumerate() {
        assert!(was == is || *was == 2, "id {id} moved from {was} to {is}");
    }
    brokers[2].restart();
    standfast.wait_up(&["b3"]);
    assert_eq!(homes(&standfast, &brokers, 600), before);
}
