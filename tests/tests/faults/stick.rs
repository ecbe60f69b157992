//! Stick tables that do not stick, or stick too much.

use standfast_tests::prelude::*;

/// The stick lines of document A.
const STICK: &str = "  stick-table type string len 32 size 100k expire 30m\n  \
     stick on req.payload(0,0),mqtt_field_value(connect,client_identifier)";

/// F01: HAProxy without inspect-delay does not stick; standfast does, with nothing to remember
///
/// The rule looks before the packet is there: here it comes when HAProxy has chosen a server, as it does over any real
/// network. The lines are those of document A; standfast has its defaults.
#[test]
fn f01_stick_lines_without_a_delay_do_not_stick() {
    let (theirs, ours) = (FakeBroker::several::<3>(), FakeBroker::several::<3>());
    let port = standfast_tests::ports::free();
    let config = haproxy_listen(port, STICK, &theirs.each_ref().map(FakeBroker::addr), "");
    let haproxy = require!(Haproxy::start(&config));
    let standfast = Standfast::start(&one_pool(&format!("check = false\n{}", backends(&ours))));
    let connected = || {
        theirs
            .iter()
            .map(|broker| broker.contacts().len())
            .sum::<usize>()
    };
    for visits in 0..6 {
        let mut client = Client::open(([127, 0, 0, 1], port).into()).expect("it listens");
        eventually(s(5), "HAProxy has chosen", || connected() > visits);
        client.greet(&Connect::v311("dev-1")).expect("accepted");
        client.disconnect();
        visit(&standfast, "dev-1");
    }
    assert_eq!(places_of(&theirs, "dev-1"), [0, 1, 2, 0, 1, 2]);
    let table = haproxy.ask("show table l").expect("it answers");
    assert!(table.contains("used:0"), "{table}");

    let places = places_of(&ours, "dev-1");
    assert_eq!(places, [places[0]; 6]);
}

/// F02: HAProxy's len 32 merges ids with an equal beginning; standfast keeps them apart
#[test]
fn f02_long_ids_with_an_equal_beginning_are_merged_by_a_short_key() {
    let (theirs, ours) = (FakeBroker::several::<3>(), FakeBroker::several::<3>());
    let port = standfast_tests::ports::free();
    // With the delay of document C, so that it sticks at all.
    let lines = format!("{}\n{STICK}", standfast_tests::simple::HAPROXY_MQTT_ONLY);
    let config = haproxy_listen(port, &lines, &theirs.each_ref().map(FakeBroker::addr), "");
    let _haproxy = require!(Haproxy::start(&config));
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\nsticky = {{ fallback = \"round-robin\" }}\n{}",
        backends(&ours)
    )));
    let beginning = "plant-7/line-3/press/serial-00000";
    assert_eq!(beginning.len(), 33);
    let ids = ["x", "y", "z"].map(|end| format!("{beginning}{end}"));
    for _ in 0..3 {
        for id in &ids {
            Client::id(([127, 0, 0, 1], port).into(), id).disconnect();
            visit(&standfast, id);
        }
    }
    for id in &ids {
        assert_eq!(places_of(&theirs, id), [0; 3], "merged");
    }
    for (place, id) in ids.iter().enumerate() {
        assert_eq!(places_of(&ours, id), [place; 3]);
    }
}
