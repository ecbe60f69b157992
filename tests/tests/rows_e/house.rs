//! Log targets, and the two times that are easily mixed up: reaching the server, and silence.

use std::fs;

use standfast_tests::prelude::*;

/// E05: one line reaches one log target, not the other
#[test]
fn e05_each_target_gets_the_lines_of_its_level() {
    let mut broker = FakeBroker::start();
    let standfast = Standfast::start(&format!(
        "log = {{ targets = [{{ target = \"${{dir}}/all.log\", level = \"info\" }}, \
         {{ target = \"${{dir}}/bad.log\", level = \"error\" }}] }}\n{}",
        one_pool(&format!(
            "check = {{ tcp = true, interval = \"100ms\" }}\n{}",
            backends([&broker])
        ))
    ));
    standfast.wait_up(&["b1"]);
    broker.stop();
    standfast.wait_state("b1", "down", s(5));
    broker.restart();
    standfast.wait_up(&["b1"]);
    let read = |name: &str| fs::read_to_string(standfast.dir().join(name)).unwrap_or_default();
    let tells_up = |text: &str| {
        text.lines()
            .any(|line| line.contains("b1") && line.contains("up"))
    };
    eventually(s(5), "the good news is in the one", || {
        tells_up(&read("all.log"))
    });
    holds(ms(300), "and not in the other", || {
        !tells_up(&read("bad.log"))
    });
    // What the other has is in the first as well: it asks for more.
    for line in read("bad.log").lines() {
        assert!(read("all.log").contains(line), "{line}");
    }
}

/// E09: a time limit on reaching the server, not on the client: connect timeout 5 s is kept
#[test]
fn e09_the_connect_timeout_is_for_reaching_the_server() {
    let hole = BlackHole::start();
    let broker = FakeBroker::start();
    let lines = "check = false\ntimeout = { connect = \"5s\" }\nwhen_empty = { wait = \"0s\" }";
    let lost = Standfast::start(&one_pool(&format!(
        "{lines}\n{}",
        backends_at([hole.addr()])
    )));
    let mut client = Client::open(lost.addr("mqtt")).expect("it listens");
    let start = Instant::now();
    client.send(&Connect::v311("lost").bytes()).expect("open");
    client.ending(s(15)).expect("given up");
    let took = start.elapsed();
    assert!(took > ms(4900) && took < s(7), "{took:?}");

    // A client that takes longer than that to say CONNECT, and a broker that takes longer to answer, are not meant.
    let lines = lines.replace("5s", "500ms");
    let standfast = Standfast::start(&one_pool(&format!("{lines}\n{}", backends([&broker]))));
    broker.delay(ms(900));
    let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
    pause(ms(900));
    client.greet(&Connect::v311("slow")).expect("accepted");
    client.ping().expect("it works");
}

/// E10: a quiet client within its keepalive is not cut by a short idle time
///
/// HAProxy's `timeout client` cuts whoever is quiet for so long. Here the time is the client's own keepalive; a cap that
/// cuts it short is set by somebody, and `check` warns.
#[test]
fn e10_a_quiet_client_within_its_keepalive_stays() {
    let broker = FakeBroker::start();
    let port = standfast_tests::ports::free();
    let config = haproxy_listen(port, "", &[broker.addr()], "").replace("client 60s", "client 1s");
    let _haproxy = require!(Haproxy::start(&config));
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\n{}",
        backends([&broker])
    )));
    let quiet = Connect::v311("quiet").keepalive(60);
    let mut theirs = Client::connect(([127, 0, 0, 1], port).into(), &quiet).expect("accepted");
    let mut ours = Client::connect(standfast.addr("mqtt"), &quiet).expect("accepted");
    theirs.ending(s(3)).expect("HAProxy cuts it after a second");
    holds(s(2), "it is not cut", || ours.is_open());
    ours.ping().expect("it works");

    let text = fs::read_to_string(standfast.config()).expect("the file is there");
    let capped = text.replace("[[pool]]", "[[pool]]\ntimeout = { idle = \"30s\" }");
    let file = standfast.dir().join("capped.toml");
    fs::write(&file, capped).expect("there is room");
    let said =
        standfast_tests::standfast::command(&["check", "--config", &file.display().to_string()]);
    let all = format!("{}{}", said.stdout, said.stderr);
    assert!(all.contains("idle") && all.contains("keepalive"), "{all}");
}
