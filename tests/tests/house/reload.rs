//! Maintenance that is written in the file, and taken out of it again.

use standfast_tests::prelude::*;

/// `disabled = true` by reload: nothing new goes there and nobody checks; without it the backend is back.
#[test]
fn a_backend_disabled_in_the_file_rests_until_the_file_enables_it() {
    let brokers = FakeBroker::several::<2>();
    let [one, two] = brokers.each_ref().map(FakeBroker::addr);
    let config = |is_disabled: bool| {
        one_pool(&format!(
            "balance = \"round-robin\"\ncheck = {{ tcp = true, interval = \"100ms\" }}\n\
             backends = [{{ name = \"b1\", addr = \"{one}\", disabled = {is_disabled} }}, \
             {{ name = \"b2\", addr = \"{two}\" }}]"
        ))
    };
    let mut standfast = Standfast::start(&config(false));
    standfast.wait_up(&["b1", "b2"]);
    standfast.reload(&config(true)).ok();
    standfast.wait_state("b1", "disabled", s(5));
    brokers[0].forget();
    for number in 0..6 {
        visit(&standfast, &format!("away-{number}"));
    }
    assert_eq!(brokers[1].count_of("away-"), 6);
    holds(ms(400), "no checks", || brokers[0].contacts().is_empty());
    // A command rules over the file for as long as the file says nothing new.
    standfast.reload(&config(false)).ok();
    standfast.wait_up(&["b1"]);
    for number in 0..6 {
        visit(&standfast, &format!("back-{number}"));
    }
    assert_eq!(brokers[0].count_of("back-"), 3);
    standfast.cli(&["disable", "b1", "--yes"]).ok();
    standfast.reload(&config(false)).ok();
    assert_eq!(standfast.status().state("b1"), "disabled");
}

/// A weight of 0 by command: homes hold, and nobody new goes there; `explain` says the same.
#[test]
fn a_weight_of_nothing_keeps_those_who_have_their_home_there() {
    let brokers = FakeBroker::several::<2>();
    let standfast = Standfast::start(&one_pool(&format!("check = false\n{}", backends(&brokers))));
    standfast.cli(&["sticky", "set", "at-home", "b1"]).ok();
    standfast.cli(&["weight", "b1", "0"]).ok();
    for (id, home) in [("at-home", "b1"), ("new-1", "b2"), ("new-2", "b2")] {
        let told = standfast.cli(&["explain", id, "--json"]).ok().json();
        assert_eq!(told[0]["backend"], home, "{told:#}");
        visit(&standfast, id);
        assert_eq!(standfast.line_of(id)["backend"], home);
    }
}
