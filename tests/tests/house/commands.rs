//! Commands that change which backend gets clients: weight, disable, drain, and what is refused.

use standfast_tests::prelude::*;
use standfast_tests::standfast::command;

fn two(brokers: &[FakeBroker; 2], lines: &str) -> String {
    one_pool(&format!("{lines}\n{}", backends(brokers)))
}

const QUICK: &str = "check = { tcp = true, interval = \"100ms\", fast_interval = \"50ms\" }";

/// Holds so many clients and says how many of them each broker got.
fn spread(standfast: &Standfast, brokers: &[FakeBroker], prefix: &str, count: usize) -> Vec<usize> {
    let to = standfast.addr("mqtt");
    let held: Vec<_> = (0..count)
        .map(|n| Client::id(to, &format!("{prefix}-{n}")))
        .collect();
    let prefix = format!("{prefix}-");
    let counts = brokers.iter().map(|it| it.count_of(&prefix)).collect();
    drop(held);
    counts
}

/// A weight set by command changes the spread at once, and holds until the next reload.
#[test]
fn a_weight_holds_until_the_next_reload() {
    let brokers = FakeBroker::several::<2>();
    let config = two(&brokers, "balance = \"round-robin\"\ncheck = false");
    let mut standfast = Standfast::start(&config);
    assert_eq!(spread(&standfast, &brokers, "before", 40), [20, 20]);
    let said = standfast.cli(&["weight", "b1", "3"]).ok();
    assert!(
        said.stdout.contains("weight of mqtt/b1 is 3, was 1"),
        "{said:?}"
    );
    assert!(said.stderr.contains("next reload"), "{said:?}");
    assert_eq!(spread(&standfast, &brokers, "three", 40), [30, 10]);
    standfast.cli(&["weight", "mqtt/b1", "0"]).ok();
    assert_eq!(spread(&standfast, &brokers, "none", 40), [0, 40]);
    standfast.reload(&config).ok();
    assert_eq!(standfast.status().backend("b1")["weight"], 1);
    assert_eq!(spread(&standfast, &brokers, "after", 40), [20, 20]);
    assert_eq!(standfast.cli(&["weight", "b1", "257"]).code, 2);
}

/// `disable`: connections are closed, no checks, no connections; `enable` brings the backend back at once.
#[test]
fn a_disabled_backend_hears_nothing_until_it_is_enabled() {
    let brokers = FakeBroker::several::<2>();
    let standfast = Standfast::start(&two(
        &brokers,
        "balance = \"round-robin\"\ncheck = { tcp = true, interval = \"100ms\" }",
    ));
    standfast.wait_up(&["b1", "b2"]);
    let to = standfast.addr("mqtt");
    let _held: Vec<_> = (0..6)
        .map(|n| Client::id(to, &format!("held-{n}")))
        .collect();
    assert_eq!(brokers[0].live_of("held-"), 3);
    assert_eq!(
        standfast.cli(&["disable", "b1"]).code,
        5,
        "nobody to ask, no --yes"
    );
    assert_eq!(standfast.status().state("b1"), "up");
    standfast.cli(&["disable", "b1", "--yes"]).ok();
    assert_eq!(standfast.status().state("b1"), "disabled");
    eventually(s(5), "those it had are closed", || brokers[0].live() == 0);
    assert_eq!(brokers[1].live_of("held-"), 3);
    brokers[0].forget();
    assert_eq!(spread(&standfast, &brokers, "new", 10), [0, 10]);
    holds(ms(500), "no checks", || brokers[0].contacts().is_empty());
    let start = Instant::now();
    standfast.cli(&["enable", "b1"]).ok();
    standfast.wait_state("b1", "up", s(5));
    assert_eq!(spread(&standfast, &brokers, "again", 10), [5, 5]);
    assert!(start.elapsed() < s(2), "{:?}", start.elapsed());
    eventually(s(5), "checks again", || brokers[0].contacts().len() > 6);
}

/// `kick`: the client's connections are closed, and a client of MQTT 5 is told: 0x98, administrative action.
#[test]
fn a_kicked_client_is_told_and_may_come_back() {
    let brokers = FakeBroker::several::<2>();
    let standfast = Standfast::start(&two(&brokers, "check = false"));
    let to = standfast.addr("mqtt");
    let mut five = Client::connect(to, &Connect::v5("five")).expect("accepted");
    let mut four = Client::id(to, "four");
    assert_eq!(standfast.cli(&["kick", "five"]).code, 5, "no --yes");
    assert!(five.is_open());
    standfast.cli(&["kick", "five", "--yes"]).ok();
    let packet = five.packet(s(5)).expect("a last word");
    assert_eq!((packet.first, packet.body.first()), (0xe0, Some(&0x98)));
    five.ending(s(5)).expect("closed");
    assert_eq!(standfast.line_of("five")["end"], "kicked");
    four.ping().expect("not meant");
    standfast.cli(&["kick", "four", "--yes"]).ok();
    assert_eq!(
        four.to_end(s(5)).expect("closed"),
        [0; 0],
        "3.1.1 has no such word"
    );
    let nobody = standfast.cli(&["kick", "four", "--yes"]);
    assert_eq!(nobody.code, 1, "{nobody:?}");
    visit(&standfast, "five");
}

/// `drain --rate`: clients of MQTT 5 are told the reason that was given, at the pace that was given, and find the others.
#[test]
fn a_drain_moves_clients_at_its_pace_and_tells_them_why() {
    let brokers = FakeBroker::several::<2>();
    let standfast = Standfast::start(&two(
        &brokers,
        "sticky = { fallback = \"round-robin\" }\ncheck = false",
    ));
    let to = standfast.addr("mqtt");
    let mut all: Vec<_> = (0..24)
        .map(|n| Client::connect(to, &Connect::v5(&format!("held-{n}"))).expect("accepted"))
        .collect();
    let start = Instant::now();
    let drain = [
        "drain",
        "b1",
        "--rate",
        "10/s",
        "--reason",
        "server-moved",
        "--yes",
    ];
    standfast.cli(&drain).ok();
    assert_eq!(standfast.status().state("b1"), "draining");
    let status = standfast.status();
    assert_eq!(status.backend("b1")["drain"]["from"], 12, "{status:#}");
    let mut moved = 0;
    for (number, client) in all.iter_mut().enumerate() {
        let id = format!("held-{number}");
        if places_of(&brokers, &id) == [1] {
            continue;
        }
        let packet = client.packet(s(10)).expect("a last word");
        assert_eq!(
            (packet.first, packet.body.first()),
            (0xe0, Some(&0x9d)),
            "{id}"
        );
        client.ending(s(5)).expect("closed");
        let mut again = Client::connect(to, &Connect::v5(&id)).expect("accepted");
        again.ping().expect("it works");
        *client = again;
        moved += 1;
    }
    let took = start.elapsed();
    assert_eq!(moved, 12);
    // Twelve at ten a second; the first may go at once.
    assert!(took > ms(900) && took < s(4), "{took:?}");
    assert_eq!(brokers[1].live_of("held-"), 24);
    standfast.wait_ends("drained", 12);
    standfast.cli(&["undrain", "b1"]).ok();
    standfast.wait_up(&["b1"]);
    assert!(spread(&standfast, &brokers, "new", 10)[0] > 0);
}

/// An undrain in the middle stops the moving.
#[test]
fn an_undrain_ends_the_moving() {
    let brokers = FakeBroker::several::<2>();
    let standfast = Standfast::start(&two(&brokers, "balance = \"round-robin\"\ncheck = false"));
    let to = standfast.addr("mqtt");
    let _held: Vec<_> = (0..40)
        .map(|n| Client::id(to, &format!("held-{n}")))
        .collect();
    standfast
        .cli(&["drain", "b1", "--rate", "5/s", "--yes"])
        .ok();
    eventually(s(5), "it has begun", || brokers[0].live_of("held-") < 20);
    standfast.cli(&["undrain", "b1"]).ok();
    let left = standfast.status().connections("b1");
    assert!(left >= 15, "{left}");
    // One that was on its way may still go.
    holds(ms(900), "nobody has to go any more", || {
        standfast.status().connections("b1") + 1 >= left
    });
}

/// What would leave a pool without a backend is refused (5) and done with --force; names that are none are told (1), and so
/// is a daemon that is none (4).
#[test]
fn a_refusal_has_the_exit_code_that_scripts_expect() {
    let mut brokers = FakeBroker::several::<2>();
    let standfast = Standfast::start(&two(&brokers, QUICK));
    standfast.wait_up(&["b1", "b2"]);
    brokers[0].stop();
    standfast.wait_state("b1", "down", s(10));
    for verb in ["drain", "disable"] {
        let said = standfast.cli(&[verb, "b2", "--yes"]);
        assert_eq!(said.code, 5, "{said:?}");
        assert!(said.stderr.contains("--force"), "{said:?}");
        assert_eq!(standfast.status().state("b2"), "up");
    }
    // One that serves nobody anyway may go without force.
    standfast.cli(&["disable", "b1", "--yes"]).ok();
    standfast.cli(&["drain", "b2", "--force", "--yes"]).ok();
    assert_eq!(standfast.status().state("b2"), "draining");
    for arguments in [
        &["drain", "b3", "--yes"][..],
        &["undrain", "b3"],
        &["enable", "other/b1"],
        &["weight", "b3", "1"],
        &["sticky", "set", "c", "b3"],
        &["kick", "nobody", "--yes"],
    ] {
        let said = standfast.cli(arguments);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(!said.stderr.is_empty(), "{arguments:?} says why");
    }
    let wrong = standfast.cli(&["drain", "b3", "--yes"]);
    assert!(
        wrong.stderr.contains("b1") && wrong.stderr.contains("b2"),
        "names the known: {wrong:?}"
    );
    let nowhere = standfast.dir().join("no.sock").display().to_string();
    for arguments in [
        &["status"][..],
        &["drain", "b1"],
        &["events"],
        &["reload"],
        &["connections"],
    ] {
        let said = command(&[arguments, &["--socket", &nowhere]].concat());
        assert_eq!(said.code, 4, "{said:?}");
        assert!(said.stderr.contains("no.sock"), "{said:?}");
    }
    for arguments in [
        &["drain"][..],
        &["frobnicate"],
        &["drain", "b1", "--rate", "0", "--yes"],
    ] {
        assert_eq!(standfast.cli(arguments).code, 2, "{arguments:?}");
    }
}

/// Every change says what changed, on which node, and how to undo it: and that line, typed, does undo it.
#[test]
fn the_undo_that_is_printed_undoes() {
    let brokers = FakeBroker::several::<2>();
    let standfast = Standfast::start(&two(&brokers, "check = false"));
    visit(&standfast, "with a home");
    let home = || {
        standfast
            .cli(&["sticky", "show", "with a home", "--json"])
            .json()
    };
    let at_first = home()[0]["backend"].as_str().expect("a home").to_owned();
    let other = if at_first == "b1" { "b2" } else { "b1" };
    let snapshot = || {
        let status = standfast.status();
        let backend = |name: &str| {
            let it = status.backend(name);
            (it["state"].clone(), it["weight"].clone())
        };
        let known = standfast.cli(&["sticky", "show", "new"]).code == 0;
        (
            backend("b1"),
            backend("b2"),
            home()[0]["backend"].clone(),
            known,
        )
    };
    for arguments in [
        &["drain", "b1"][..],
        &["disable", "b1", "--yes"],
        &["weight", "b2", "7"],
        &["sticky", "set", "new", "b1"],
        &["sticky", "set", "with a home", other],
    ] {
        let before = snapshot();
        let said = standfast.cli(arguments).ok();
        assert!(said.stdout.starts_with("test: "), "the node: {said:?}");
        assert_ne!(snapshot(), before, "{arguments:?}");
        let undo = said
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("undo: standfast "));
        let undo = undo.unwrap_or_else(|| panic!("no undo in {said:?}"));
        // As a shell would take it apart.
        let shell = format!("\"$0\" {undo}");
        let done = std::process::Command::new("sh")
            .args(["-c", &shell])
            .arg(standfast_tests::standfast::binary())
            .env("STANDFAST_SOCKET", standfast.socket())
            .output()
            .expect("there is a shell");
        assert!(done.status.success(), "{undo}: {done:?}");
        assert_eq!(snapshot(), before, "{undo}");
    }
}
