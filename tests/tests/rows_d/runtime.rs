//! Changes while clients are there: backends that come, leave, are drained; files that are included.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use standfast_tests::prelude::*;
use standfast_tests::program::Dir;
use standfast_tests::standfast::command;

fn config(brokers: &[FakeBroker], sticky: &str) -> String {
    one_pool(&format!(
        "check = {{ tcp = true, interval = \"100ms\" }}\nsticky = {{ fallback = \"round-robin\"{sticky} }}\n{}",
        backends(brokers)
    ))
}

/// D01: a backend added by reload with sessions held takes new ones, none dropped; a drained backend gets 0 CONNECTs
/// although it has sticky clients; after undrain they return if set so
#[test]
fn d01_a_drained_backend_gets_nobody_and_its_clients_return() {
    let brokers = FakeBroker::several::<2>();
    for returns in [true, false] {
        for broker in &brokers {
            broker.forget();
        }
        let setting = format!(", return_home = {returns}");
        let standfast = Standfast::start(&config(&brokers, &setting));
        standfast.wait_up(&["b1", "b2"]);
        let ids: Vec<_> = (0..20).map(|n| format!("c-{n}")).collect();
        let visit_all = || {
            for id in &ids {
                visit(&standfast, id);
            }
        };
        visit_all();
        let homes: Vec<_> = ids.iter().map(|id| places_of(&brokers, id)[0]).collect();
        let at_first = homes.iter().filter(|home| **home == 0).count();
        assert_eq!(at_first, 10);

        standfast.cli(&["drain", "b1", "--yes"]).ok();
        standfast.wait_state("b1", "draining", s(5));
        brokers[0].forget();
        visit_all();
        visit_all();
        assert_eq!(brokers[0].count_of("c-"), 0, "0 CONNECTs");

        standfast.cli(&["undrain", "b1"]).ok();
        standfast.wait_up(&["b1"]);
        visit_all();
        for (id, home) in ids.iter().zip(&homes) {
            let now = places_of(&brokers, id).pop().expect("it was somewhere");
            let want = if returns { *home } else { 1 };
            assert_eq!(now, want, "{id} with return_home = {returns}");
        }
    }
}

/// D01: a backend added by reload with sessions held takes new ones, none dropped …
#[test]
fn d01_a_backend_added_by_reload_takes_new_clients_and_nobody_is_dropped() {
    let brokers = FakeBroker::several::<2>();
    let mut standfast = Standfast::start(&config(&brokers[..1], ""));
    standfast.wait_up(&["b1"]);
    let to = standfast.addr("mqtt");
    let mut held: Vec<_> = (0..20)
        .map(|n| Client::id(to, &format!("held-{n}")))
        .collect();
    standfast.reload(&config(&brokers, "")).ok();
    standfast.wait_up(&["b1", "b2"]);
    for number in 0..20 {
        visit(&standfast, &format!("new-{number}"));
    }
    assert!((9..=11).contains(&brokers[1].count_of("new-")));
    // And the other way: a backend that is taken out of the file keeps those it has.
    let here = Client::id(to, "second-a");
    let there = Client::id(to, "second-b");
    standfast.reload(&config(&brokers[..1], "")).ok();
    for client in held.iter_mut().chain([here, there].iter_mut()) {
        client.ping().expect("not dropped");
    }
    for number in 0..10 {
        visit(&standfast, &format!("late-{number}"));
    }
    assert_eq!(brokers[1].count_of("late-"), 0);
}

/// D01: … a drained backend gets 0 CONNECTs … — those it has stay until they leave, or are moved at a pace.
#[test]
fn d01_a_drain_with_a_rate_moves_those_who_are_there() {
    let brokers = FakeBroker::several::<2>();
    let standfast = Standfast::start(&config(&brokers, ""));
    standfast.wait_up(&["b1", "b2"]);
    let to = standfast.addr("mqtt");
    let mut held: Vec<_> = (0..20)
        .map(|n| Client::id(to, &format!("held-{n}")))
        .collect();
    standfast.cli(&["drain", "b1", "--yes"]).ok();
    holds(ms(500), "without a rate nobody has to go", || {
        brokers[0].live_of("held-") == 10
    });
    standfast.cli(&["undrain", "b1"]).ok();
    let start = Instant::now();
    standfast
        .cli(&["drain", "b1", "--rate", "10/s", "--yes"])
        .ok();
    eventually(s(10), "all were moved", || brokers[0].live_of("held-") == 0);
    // Ten at ten a second; the first may go at once.
    assert!(start.elapsed() > ms(700), "{:?}", start.elapsed());
    assert!(start.elapsed() < s(3), "{:?}", start.elapsed());
    standfast.wait_ends("drained", 10);
    assert_eq!(brokers[1].live_of("held-"), 10);
    let open = held
        .iter_mut()
        .filter_map(|client| client.is_open().then_some(()))
        .count();
    assert_eq!(open, 10);
}

/// D07: include is lexical; a duplicate name is an error that names both files
#[test]
fn d07_included_files_are_read_in_lexical_order() {
    let dir = Dir::new("include");
    let folder = dir.path().join("conf.d");
    fs::create_dir(&folder).expect("there is room");
    let broker = FakeBroker::start();
    let names = ["a", "b", "c"];
    for (file, name) in ["10-z.toml", "20-a.toml", "9-last.toml"].iter().zip(names) {
        let text = format!(
            "[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:{}\"\npool = \"{name}\"\n\
             [[pool]]\nname = \"{name}\"\ncheck = false\n{}\n",
            standfast_tests::ports::free(),
            backends([&broker])
        );
        fs::write(folder.join(file), text).expect("there is room");
    }
    // Not TOML by its name, so not read.
    fs::write(folder.join("15-old.toml.bak"), "nonsense").expect("there is room");
    let include = format!("include = [\"{}/*.toml\"]\n", folder.display());
    let standfast = Standfast::start(&include);
    let status = standfast.status();
    let pools = status["pools"].as_array().expect("a list");
    let order: Vec<_> = pools
        .iter()
        .map(|pool| pool["name"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(order, names);
    let bound = status["listeners"][2]["bind"][0]
        .as_str()
        .expect("an address")
        .parse();
    Client::id(bound.expect("an address"), "through-an-included-file").disconnect();

    // The same name twice.
    fs::copy(folder.join("10-z.toml"), folder.join("30-copy.toml")).expect("there is room");
    let root = dir.write("standfast.toml", &include);
    let said = command(&["check", "--config", &root.display().to_string()]);
    assert_eq!(said.code, 2, "{said:?}");
    let all = format!("{}{}", said.stdout, said.stderr);
    let about = all.lines().find(|line| line.contains("pool \"a\""));
    let about = about.unwrap_or_else(|| panic!("nothing about the pool in {all}"));
    assert!(
        about.contains("30-copy.toml:") && about.contains("10-z.toml:"),
        "{about}"
    );
}

/// D16: … broken config: reload fails, the old one keeps running — with a handful of sessions; the thousand are among the
/// slow tests.
#[test]
fn d16_a_broken_file_changes_nothing() {
    let brokers = FakeBroker::several::<1>();
    let standfast = Standfast::start(&config(&brokers, ""));
    let mut held = Client::id(standfast.addr("mqtt"), "held");
    let good = fs::read_to_string(standfast.config()).expect("the file is there");
    let told = standfast.reload_raw(&good.replace("backends", "bakends"));
    assert_ne!(told.code, 0, "{told:?}");
    let all = format!("{}{}", told.stdout, told.stderr);
    assert!(all.contains("bakends") && all.contains("backends"), "{all}");
    held.ping().expect("not dropped");
    visit(&standfast, "new");
    let last = standfast.status()["node"]["config"]["last_reload"].clone();
    assert_eq!(last["applied"], false, "{last}");
    assert_eq!(standfast.reload_raw(&good).code, 0);
    held.ping().expect("not dropped");
}

/// D16: … 0 dropped … — nor is anybody turned away who comes while the file is applied, again and again; the sessions of a
/// listener that is gone from the file stay.
#[test]
fn d16_clients_come_while_the_file_is_applied() {
    let brokers = FakeBroker::several::<2>();
    let other = "[[listener]]\nbind = \"127.0.0.1:${port:other}\"\npool = \"mqtt\"\n";
    let with_other = |brokers: &[FakeBroker]| format!("{other}{}", config(brokers, ""));
    let mut standfast = Standfast::start(&with_other(&brokers));
    standfast.wait_up(&["b1", "b2"]);
    let mut held = Client::id(standfast.addr("other"), "held");
    let (to, other_port) = (standfast.addr("mqtt"), standfast.addr("other"));
    let stop = AtomicBool::new(false);
    let failed = thread::scope(|scope| {
        let hands = [0, 1].map(|hand| {
            let stop = &stop;
            scope.spawn(move || {
                let mut failed = Vec::new();
                for number in 0.. {
                    if stop.load(SeqCst) {
                        break;
                    }
                    let connect = Connect::v311(&format!("c-{hand}-{number}"));
                    match Client::connect(to, &connect) {
                        Ok(client) => client.disconnect(),
                        Err(error) => failed.push(format!("{number}: {error:#}")),
                    }
                }
                failed
            })
        });
        // Also where an assertion below fails: the scope waits for its hands.
        let _stopping = OnDrop(|| stop.store(true, SeqCst));
        for round in 0..10 {
            let text = match round % 3 {
                0 => config(&brokers, ""),
                1 => with_other(&brokers[..1]),
                _ => with_other(&brokers),
            };
            standfast.reload(&text).ok();
            if round % 3 == 0 {
                assert!(Client::open(other_port).is_err(), "that listener is gone");
            } else {
                Client::id(other_port, "back-again").disconnect();
            }
            held.ping().expect("not dropped");
        }
        stop.store(true, SeqCst);
        hands.map(|hand| hand.join().expect("no panic")).concat()
    });
    assert!(failed.is_empty(), "{failed:#?}");
    let came = brokers
        .iter()
        .map(|broker| broker.count_of("c-"))
        .sum::<usize>();
    assert!(came > 50, "{came} clients came meanwhile");
}

/// Does something when it goes, however that comes.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
