//! `standfast demo`, as somebody sees it who has just built the program, and what it leaves behind: nothing.

use std::fs;
use std::process::{Command, Stdio};

use standfast_tests::prelude::*;
use standfast_tests::program::{Dir, Program, Signal};
use standfast_tests::standfast::binary;

/// The processes that were started with this directory as their temporary one.
fn processes_of(dir: &Dir) -> Vec<String> {
    let wanted = format!("TMPDIR={}", dir.path().display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("Linux").flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        if variables.any(|variable| variable == wanted.as_bytes()) {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(String::from_utf8_lossy(&command).replace('\0', " "));
        }
    }
    found
}

fn demo(dir: &Dir, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", dir.path())
        .env_remove("STANDFAST_CONFIG")
        .stdin(Stdio::null());
    command
}

/// The words of the last table's row that begins with this one.
fn row<'a>(printed: &'a str, first: &str) -> Vec<&'a str> {
    let words = |line: &'a str| line.split_whitespace().collect::<Vec<_>>();
    let found = printed.lines().rev().map(words);
    let mut found = found.filter(|words| words.first() == Some(&first));
    match found.next() {
        Some(words) => words,
        None => panic!("no row {first:?} in\n{printed}"),
    }
}

#[test]
fn the_demo_spreads_clients_over_its_brokers_and_brings_each_back_and_leaves_nothing() {
    let dir = Dir::new("demo");
    let output = demo(&dir, &["--seconds", "5"])
        .output()
        .expect("the program was built");
    let printed = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{printed}\n{said}");

    for broker in ["b1", "b2", "b3"] {
        let row = row(&printed, broker);
        assert_eq!(row[1], "up", "{printed}");
        let connections: u32 = row[2].parse().expect("a number");
        assert!((12..=24).contains(&connections), "{row:?} of 60 clients");
    }
    // came back N times to the broker it was on, M times to another
    let came = row(&printed, "came");
    assert_eq!(
        came[3..9].join(" "),
        "times to the broker it was",
        "{printed}"
    );
    let same: u32 = came[2].parse().expect("a number");
    assert!(same > 0, "{printed}");
    assert_eq!(came[10..].join(" "), "0 times to another", "{printed}");

    let left: Vec<_> = fs::read_dir(dir.path()).expect("ours").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(processes_of(&dir), [""; 0]);
}

#[test]
fn ctrl_c_on_a_terminal_ends_the_demo_with_everything_it_started() {
    let dir = Dir::new("demo-ctrl-c");
    let outside = Dir::new("demo-output");
    let mut demo = Program::start("demo", &mut demo(&dir, &[]), outside.path()).expect("built");
    eventually(s(20), "a first table", || demo.stdout().contains("BACKEND"));
    assert!(processes_of(&dir).len() >= 3, "demo, guardian, worker");
    demo.signal_group(Signal::INT).expect("it runs");
    let mut status = None;
    eventually(s(20), "the end", || {
        status = demo.ended();
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    assert!(demo.stdout().contains("Ended:"), "{}", demo.stdout());
    assert_eq!(processes_of(&dir), [""; 0]);
    assert!(fs::read_dir(dir.path()).expect("ours").next().is_none());
}

#[test]
fn a_demo_that_is_killed_leaves_no_process_behind() {
    let dir = Dir::new("demo-kill");
    let outside = Dir::new("demo-output");
    let mut demo = Program::start("demo", &mut demo(&dir, &[]), outside.path()).expect("built");
    eventually(s(20), "a first table", || demo.stdout().contains("BACKEND"));
    demo.kill();
    eventually(s(20), "no process", || processes_of(&dir).is_empty());
}
