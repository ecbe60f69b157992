//! What the command line says: following events, JSON of every read verb, scripts for shells, exit codes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use serde_json::Value;
use standfast_tests::prelude::*;
use standfast_tests::program::Dir;
use standfast_tests::standfast::{binary, command};

fn start(brokers: &[FakeBroker]) -> Standfast {
    let standfast = Standfast::start(&one_pool(&format!(
        "check = {{ tcp = true, interval = \"100ms\" }}\n{}",
        backends(brokers)
    )));
    standfast.wait_up(&["b1", "b2"]);
    standfast
}

/// `events -f` shows what was and goes on with what happens, as it happens; so does its JSON, a line an event.
#[test]
fn events_are_followed() {
    let mut brokers = FakeBroker::several::<2>();
    let standfast = start(&brokers);
    let mut follower = Command::new(binary())
        .args(["events", "-f"])
        .env("STANDFAST_SOCKET", standfast.socket())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it was built");
    let (send, lines) = mpsc::channel();
    let stdout = follower.stdout.take().expect("piped");
    let reader = thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    let next = |text: &str| loop {
        match lines.recv_timeout(s(10)) {
            Ok(line) if line.contains(text) => return,
            Ok(_) => {}
            Err(error) => panic!("{error}, waiting for {text:?}"),
        }
    };
    next("b1 is up");
    standfast.cli(&["weight", "b1", "5"]).ok();
    next("weight of mqtt/b1 is 5");
    brokers[1].stop();
    next("b2 is down");
    brokers[1].restart();
    next("b2 is up");
    standfast.cli(&["drain", "b2"]).ok();
    next("mqtt/b2 is draining");
    follower.kill().expect("it runs");
    follower.wait().expect("it was ours");
    reader.join().expect("no panic");

    let events = standfast.cli(&["events", "--json"]).ok().json();
    let events = events.as_array().expect("a list");
    let command = events.iter().find(|event| event["kind"] == "command");
    let command = command.expect("the weight");
    assert!(
        command["by"].as_str().is_some_and(|by| by.contains("uid")),
        "who asked: {command}"
    );
    let times: Vec<_> = events.iter().map(|event| event["at"].as_u64()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let last = standfast.cli(&["events", "-n", "2", "--json"]).ok().json();
    assert_eq!(last.as_array().map(Vec::len), Some(2));
}

/// `--json` of every read verb is one JSON document.
#[test]
fn every_read_verb_speaks_json() {
    let brokers = FakeBroker::several::<2>();
    let standfast = start(&brokers);
    let _held = Client::id(standfast.addr("mqtt"), "c \"1\"");
    for arguments in [
        &["status"][..],
        &["connections"],
        &["connections", "--backend", "b2"],
        &["connections", "--client", "nobody*"],
        &["sticky", "list"],
        &["sticky", "list", "--backend", "mqtt/b1"],
        &["sticky", "show", "c \"1\""],
        &["explain", "c \"1\""],
        &["explain", "new", "--pool", "mqtt"],
        &["events"],
        &["config", "show"],
        &["config", "show", "--effective"],
        &["check"],
        &["healthcheck"],
        &["healthcheck", "--pool", "mqtt"],
        &["reload", "--dry-run"],
        &["version"],
    ] {
        let said = standfast.cli(&[arguments, &["--json"]].concat()).ok();
        let value: Value = serde_json::from_str(&said.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error} in {said:?}"));
        assert!(value.is_object() || value.is_array(), "{arguments:?}");
    }
    // A failure is told in JSON, too.
    let failure = standfast.cli(&["sticky", "show", "nobody", "--json"]);
    assert_eq!((failure.code, &failure.json()["exit"]), (1, &1.into()));
    let failure = command(&["status", "--json", "--socket", "/nonexistent/sock"]);
    assert_eq!((failure.code, &failure.json()["exit"]), (4, &4.into()));
}

/// Completion for three shells, and the version.
#[test]
fn shells_get_their_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let script = command(&["completion", shell]).ok().stdout;
        for word in ["drain", "sticky", "--force", "healthcheck"] {
            // fish names options without their dashes.
            let word = if shell == "fish" {
                word.trim_start_matches('-')
            } else {
                word
            };
            assert!(script.contains(word), "{word} for {shell}");
        }
    }
    let dir = Dir::new("completion");
    let file = dir.write(
        "standfast.bash",
        &command(&["completion", "bash"]).ok().stdout,
    );
    let parsed = Command::new("bash")
        .arg("-n")
        .arg(file)
        .output()
        .expect("there is bash");
    assert!(parsed.status.success(), "{parsed:?}");
    let said = command(&["version"]).ok().stdout;
    assert_eq!(
        said.trim(),
        format!("standfast {}", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(command(&["--version"]).ok().stdout, said);
}

/// `healthcheck`: 0 while the daemon serves, whatever its brokers do; 1 for a pool below `min_up`, and where nobody answers.
#[test]
fn a_container_learns_whether_the_daemon_serves() {
    let mut brokers = FakeBroker::several::<2>();
    let mut standfast = start(&brokers);
    assert_eq!(standfast.cli(&["healthcheck"]).code, 0);
    assert_eq!(standfast.cli(&["healthcheck", "--pool", "mqtt"]).code, 0);
    for (broker, name) in brokers.iter_mut().zip(["b1", "b2"]) {
        broker.stop();
        standfast.wait_state(name, "down", s(10));
    }
    assert_eq!(standfast.cli(&["healthcheck"]).code, 0);
    assert_eq!(standfast.cli(&["healthcheck", "--pool", "mqtt"]).code, 1);
    assert_eq!(standfast.cli(&["healthcheck", "--pool", "other"]).code, 1);
    assert_eq!(standfast.stop(), 0);
    assert_eq!(standfast.cli(&["healthcheck"]).code, 1);
}

/// What `config show --effective` prints is a configuration that means the same, and starts.
#[test]
fn the_effective_configuration_loads_and_is_equal() {
    let brokers = FakeBroker::several::<2>();
    let [one, two] = brokers.each_ref().map(FakeBroker::addr);
    let standfast = Standfast::start(&format!(
        "limits = {{ connections = 500, greeting_memory = \"8m\" }}\n\
         [[listener]]\nname = \"plain\"\nbind = [\"127.0.0.1:${{port:mqtt}}\", \"[::1]:${{port:six}}\"]\npool = \"mqtt\"\n\
         connect_deadline = \"3s\"\nlimits = {{ per_ip = 50, rate = \"100/s\", over = \"refuse\" }}\n\
         allow = [\"127.0.0.0/8\", \"::1/128\"]\naccept_proxy = {{ from = [\"127.0.0.9/32\"] }}\n\
         [[pool]]\nname = \"mqtt\"\nbalance = \"sticky\"\nproxy = \"mosquitto\"\nslow_start = \"9s\"\n\
         sticky = {{ size = 700, expire = \"2m\", fallback = \"round-robin\", return_home = false }}\n\
         on_down = {{ close = true, pace = \"7/s\" }}\nwhen_empty = {{ wait = \"90ms\", then = \"refuse\" }}\n\
         timeout = {{ connect = \"350ms\", idle = \"10m\" }}\nresolve = {{ every = \"33s\" }}\nmin_up = 2\n\
         check = {{ mqtt = {{ level = \"5\", accept = [0, 5] }}, interval = \"700ms\", rise = 3 }}\n\
         backends = [{{ name = \"b1\", addr = \"{one}\", weight = 7, max_connections = 90 }}, \
         {{ name = \"b2\", addr = \"{two}\", backup = true, check = {{ tcp = true, interval = \"200ms\" }} }}]\n\
         [[pool]]\nname = \"other\"\nmode = \"tcp\"\nbalance = \"source\"\ncheck = false\nbackends = [\"{one}\"]\n\
         [[listener]]\nbind = \"127.0.0.1:${{port:other}}\"\npool = \"other\"\n"
    ));
    let file = standfast.config().display().to_string();
    let show = |file: &str, more: &[&str]| {
        command(&[&["config", "show", "--effective", "--config", file], more].concat())
            .ok()
            .stdout
    };
    let first = show(&file, &[]);
    let dir = Dir::new("effective");
    let again = dir.write("standfast.toml", &first).display().to_string();
    assert_eq!(show(&again, &[]), first);
    assert_eq!(show(&again, &["--json"]), show(&file, &["--json"]));
    // The running program sees no difference either.
    let told = standfast.reload_raw(&first);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.stdout.contains("says what is so already"), "{told:?}");
}

/// `check`: 0 where all is good, 2 where the file is broken, with file, line and column; warnings are 0, and 1 with
/// `--strict`.
#[test]
fn check_tells_by_its_exit_code() {
    let dir = Dir::new("check");
    let broker = FakeBroker::start();
    std::fs::create_dir(dir.path().join("state")).expect("there is room");
    let file = |name: &str, text: &str| dir.write(name, text).display().to_string();
    let whole = |pool: &str| {
        format!(
            "web = false\nnode = {{ name = \"n\", state_dir = \"{0}/state\" }}\ncontrol = {{ socket = \"{0}/s\" }}\n\
             limits = {{ connections = 100 }}\n[[listener]]\nbind = \"127.0.0.1:{1}\"\npool = \"mqtt\"\n\
             [[pool]]\nname = \"mqtt\"\n{pool}\n{2}\n",
            dir.path().display(),
            standfast_tests::ports::free(),
            backends([&broker])
        )
    };
    let good = file("good.toml", &whole(""));
    for more in [&[][..], &["--strict"]] {
        let said = command(&[&["check", "--config", &good], more].concat());
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.stdout.contains('√'), "{said:?}");
    }
    let warned = file("warned.toml", &whole("sticky = { size = 50 }"));
    let said = command(&["check", "--config", &warned]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.stdout.contains('‼') && said.stdout.contains("size"),
        "{said:?}"
    );
    let strict = command(&["check", "--strict", "--config", &warned]);
    assert_eq!(strict.code, 1, "{strict:?}");

    let text = whole("balence = \"sticky\"");
    let line = text
        .lines()
        .position(|line| line.starts_with("balence"))
        .expect("it is there")
        + 1;
    let broken = file("broken.toml", &text);
    let syntax = file("syntax.toml", "[[pool]\n");
    for (file, place, word) in [
        (&broken, format!("{broken}:{line}:1"), "balance"),
        (&syntax, format!("{syntax}:1:"), ""),
    ] {
        for verb in [&["check"][..], &["config", "show"], &["run"]] {
            let said = command(&[verb, &["--config", file]].concat());
            let all = format!("{}{}", said.stdout, said.stderr);
            assert_eq!(said.code, 2, "{verb:?}: {said:?}");
            assert!(all.contains(&place), "{verb:?}: {place} in {all}");
            assert!(all.contains(word), "{verb:?}: {word} in {all}");
        }
    }
    let missing = command(&["check", "--config", "/nonexistent/standfast.toml"]);
    assert_eq!(missing.code, 2, "{missing:?}");
}
