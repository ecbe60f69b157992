//! `explain` tells what would happen: asked before, then compared with what did happen.

use standfast_tests::prelude::*;

/// A small generator of numbers that look random, the same in each run: a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // Numerical Recipes' constants; the high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Puts a backend into some state, never the last that serves.
fn change(standfast: &Standfast, brokers: &mut [FakeBroker], dice: &mut Dice, down: &mut [bool]) {
    let place = usize::try_from(dice.roll(4)).expect("small");
    let name = format!("b{}", place + 1);
    // Refused where it is the last, or so already: that is no concern of this test.
    match dice.roll(6) {
        0 => drop(standfast.cli(&["drain", &name])),
        1 => drop(standfast.cli(&["undrain", &name])),
        2 => drop(standfast.cli(&["disable", &name, "--yes"])),
        3 => drop(standfast.cli(&["enable", &name])),
        4 => {
            // Not 0, with which nobody might be left to choose.
            let weight = (1 + dice.roll(4)).to_string();
            standfast.cli(&["weight", &name, &weight]).ok();
        }
        _ if down[place] => {
            brokers[place].restart();
            down[place] = false;
        }
        _ => {
            let serving = |it: &str| standfast.status().state(it) == "up";
            let others = (1..=4).filter(|it| *it != place + 1);
            if others.into_iter().any(|it| serving(&format!("b{it}"))) {
                brokers[place].stop();
                down[place] = true;
            }
        }
    }
    // What is asked next shall not depend on what the checks are about to find.
    eventually(s(10), "the checks know", || {
        let status = standfast.status();
        let backend = status.backend(&name);
        let known = if down[place] { "down" } else { "up" };
        backend["state"] == "disabled" || backend["health"] == known
    });
}

fn clients_go_where_explain_says(balance: &str, seed: u64) {
    let mut brokers = FakeBroker::several::<4>();
    let standfast = Standfast::start(&one_pool(&format!(
        "{balance}\ncheck = {{ tcp = true, interval = \"100ms\", fast_interval = \"30ms\", rise = 1, fall = 1 }}\n{}",
        backends(&brokers)
    )));
    standfast.wait_up(&["b1", "b2", "b3", "b4"]);
    let mut dice = Dice(seed);
    let mut down = [false; 4];
    let mut held = Vec::new();
    for number in 0..100 {
        if number % 5 == 4 {
            change(&standfast, &mut brokers, &mut dice, &mut down);
        }
        // Some are new, some have been here before.
        let id = format!("c-{}", dice.roll(60));
        let explained = standfast.cli(&["explain", &id, "--json"]).ok().json();
        let told = &explained[0];
        let before = places_of(&brokers, &id).len();
        held.push(Client::id(standfast.addr("mqtt"), &id));
        let places = places_of(&brokers, &id);
        assert_eq!(places.len(), before + 1);
        let here = format!("b{}", places[before] + 1);
        assert_eq!(
            told["backend"],
            here.as_str(),
            "{balance}, {number}: {told:#}"
        );
        let rows = standfast
            .cli(&["connections", "--client", &id, "--json"])
            .ok()
            .json();
        let rows = rows.as_array().expect("a list").clone();
        let whys: Vec<_> = rows.iter().map(|row| &row["why"]).collect();
        assert!(
            whys.contains(&&told["why"]),
            "{balance}, {number}: {told:#} but {whys:?}"
        );
        assert!(
            told["steps"]
                .as_array()
                .is_some_and(|steps| !steps.is_empty())
        );
    }
}

/// A hundred clients of a sticky pool, in whatever state its backends are.
#[test]
fn a_sticky_pool_does_what_explain_says() {
    clients_go_where_explain_says("balance = \"sticky\"", 2026);
}

/// A hundred of a pool that hashes.
#[test]
fn a_hashing_pool_does_what_explain_says() {
    clients_go_where_explain_says("balance = \"consistent-hash\"", 4711);
}
