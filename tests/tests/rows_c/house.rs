//! The house around the traffic: check, syslog, the foreground, limits.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;

use standfast_tests::prelude::*;
use standfast_tests::program::Dir;
use standfast_tests::standfast::{command, processes};

/// Runs `check` on this text: exit code, and all that it said, with the file's folder cut off.
fn check(dir: &Dir, text: &str) -> (i32, String) {
    let file = dir.write("standfast.toml", text);
    let said = command(&["check", "--config", &file.display().to_string()]);
    let folder = format!("{}/", dir.path().display());
    let all = format!("{}{}", said.stdout, said.stderr);
    (said.code, all.replace(&folder, ""))
}

/// C09: check: exit 0 on a good file, non-zero with file:line:column on a broken one
#[test]
fn c09_check_accepts_a_good_file_and_tells_the_place_of_a_fault() {
    let broker = FakeBroker::start();
    let dir = Dir::new("check");
    let (port, place) = (standfast_tests::ports::free(), dir.path().display());
    let good = format!(
        "[node]\nstate_dir = \"{place}/state\"\n[control]\nsocket = \"{place}/control.sock\"\n\
         [log]\naccess = \"{place}/access.log\"\n\
         [[listener]]\nbind = \"127.0.0.1:{port}\"\npool = \"mqtt\"\n\
         [[pool]]\nname = \"mqtt\"\nbackends = [\"{}\"]\n",
        broker.addr()
    );
    fs::create_dir_all(dir.path().join("state")).expect("there is room");
    let (code, said) = check(&dir, &good);
    assert_eq!(code, 0, "{said}");

    let line_of = |text: &str, what: &str| {
        let found = text.lines().position(|line| line.contains(what));
        found.expect("it stands there") + 1
    };
    for (was, becomes, column, hint) in [
        ("pool = \"mqtt\"", "pool = \"mqqt\"", 1, "mqtt"),
        ("backends = ", "bakends = ", 1, "backends"),
        ("bind = ", "bind  ", 7, ""),
        (
            "name = \"mqtt\"",
            "name = \"mqtt\"\nbalance = \"robin\"",
            11,
            "round-robin",
        ),
        (
            "name = \"mqtt\"",
            "name = \"mqtt\"\nslow_start = \"ten\"",
            14,
            "10s",
        ),
        ("name = \"mqtt\"", "name = \"mqtt\"\nmin_up = \"x\"", 10, ""),
    ] {
        let broken = good.replacen(was, becomes, 1);
        let line = line_of(&broken, becomes.lines().last().expect("not empty"));
        let (code, said) = check(&dir, &broken);
        assert_eq!(code, 2, "{becomes}: {said}");
        let place = format!("standfast.toml:{line}:{column}");
        assert!(said.contains(&place), "{becomes}: no {place} in {said}");
        assert!(said.contains(hint), "{becomes}: no {hint} in {said}");
    }
    // Every fault in one run, not one a run.
    let broken = good
        .replace("backends = ", "bakends = ")
        .replace("bind = ", "bnd = ");
    let (_, said) = check(&dir, &broken);
    for key in ["bakends", "bnd"] {
        assert!(
            said.contains(&format!("standfast.toml:{}:1", line_of(&broken, key))),
            "{said}"
        );
    }
    let (code, _) = check(&dir, "this is no TOML");
    assert_eq!(code, 2);
    let missing = command(&["check", "--config", "/nonexistent/standfast.toml"]);
    assert_eq!(missing.code, 2, "{missing:?}");
}

/// A syslog packet: facility, severity, the rest.
fn split_pri(packet: &str) -> (u8, u8, &str) {
    let (pri, rest) = packet
        .strip_prefix('<')
        .and_then(|it| it.split_once('>'))
        .unwrap_or_else(|| panic!("no PRI in {packet:?}"));
    let pri: u8 = pri.parse().expect("a number");
    (pri / 8, pri % 8, rest)
}

/// A broker that goes and comes, so that there is something to tell.
#[track_caller]
fn make_news(standfast: &Standfast, broker: &mut FakeBroker) {
    standfast.wait_up(&["b1"]);
    broker.stop();
    standfast.wait_state("b1", "down", s(5));
    broker.restart();
    standfast.wait_up(&["b1"]);
}

const LOCAL3: u8 = 19;
const INFO: u8 = 6;

/// C11: a syslog packet with the right PRI received by a socket
#[test]
fn c11_log_lines_reach_a_syslog_socket_with_facility_and_severity() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(s(10))).expect("not zero");
    let port = socket.local_addr().expect("bound").port();
    let mut broker = FakeBroker::start();
    let standfast = Standfast::start(&format!(
        "log = {{ target = \"syslog://127.0.0.1:{port}\", facility = \"local3\", level = \"info\" }}\n{}",
        one_pool(&format!(
            "check = {{ tcp = true, interval = \"100ms\" }}\n{}",
            backends([&broker])
        ))
    ));
    make_news(&standfast, &mut broker);
    let is_down = heard(|buffer| socket.recv(buffer), "down");
    let (facility, severity, rest) = split_pri(&is_down);
    assert_eq!(facility, LOCAL3, "{is_down}");
    assert!(severity <= INFO, "{is_down}");
    // RFC 5424 says 1 and an RFC 3339 date; RFC 3164 a month by its name.
    let is_5424 = rest.starts_with("1 20");
    let is_3164 = rest.as_bytes().first().is_some_and(u8::is_ascii_uppercase);
    assert!(is_5424 || is_3164, "{is_down}");
    assert!(rest.contains("standfast"), "{is_down}");
    assert!(rest.contains("b1"), "which backend: {is_down}");
}

/// The first packet with this word; every one before it has a PRI of ours.
fn heard(mut receive: impl FnMut(&mut [u8]) -> std::io::Result<usize>, word: &str) -> String {
    let mut buffer = [0; 9000];
    for _ in 0..1000 {
        let count = receive(&mut buffer).expect("a packet in time");
        let packet = String::from_utf8_lossy(&buffer[..count]).into_owned();
        let (facility, severity, _) = split_pri(&packet);
        assert_eq!(facility, LOCAL3, "{packet}");
        assert!(severity <= INFO, "{packet}");
        if packet.contains(word) {
            return packet;
        }
    }
    panic!("a thousand packets without {word:?}");
}

/// C11: … received by a socket — the system's own, /dev/log, in a view of the file system that only this program has.
#[test]
fn c11_log_lines_reach_dev_log() {
    require!(root);
    let dir = Dir::new("devlog");
    let path = dir.path().join("log.sock");
    let socket = UnixDatagram::bind(&path).expect("a fresh directory");
    socket.set_read_timeout(Some(s(10))).expect("not zero");
    let script = format!(
        "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9 \
         && ln -s {} /dev/log && exec \"$@\"",
        path.display()
    );
    let mut broker = FakeBroker::start();
    let config = format!(
        "log = {{ target = \"syslog\", facility = \"local3\" }}\n{}",
        one_pool(&format!(
            "check = {{ tcp = true, interval = \"100ms\" }}\n{}",
            backends([&broker])
        ))
    );
    let wrapper = ["unshare", "-m", "sh", "-c", &script, "sh"];
    let standfast = Standfast::try_start_through(&wrapper, &config).expect("it starts");
    make_news(&standfast, &mut broker);
    let is_down = heard(|buffer| socket.recv(buffer), "down");
    assert!(is_down.contains("b1"), "{is_down}");
}

/// C12: foreground by default: the started process is the one that serves, and ends by SIGTERM
#[test]
fn c12_the_started_process_stays_and_serves() {
    let broker = FakeBroker::start();
    let mut standfast = Standfast::start(&one_pool(&format!(
        "check = false\n{}",
        backends([&broker])
    )));
    visit(&standfast, "c-1");
    let started = standfast.program().pid();
    assert!(
        standfast.program_mut().ended().is_none(),
        "it did not fork away"
    );
    // Whoever serves is the started process or hangs below it.
    let family = processes(started);
    let node = standfast.status()["node"].clone();
    let serving = u32::try_from(node["pid"].as_u64().expect("a number")).expect("a process id");
    assert!(family.contains(&serving), "{serving} is none of {family:?}");
    let session = |pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let after = text.rsplit(") ").next().expect("a state").to_owned();
        let words: Vec<_> = after.split(' ').collect();
        (words[1].to_owned(), words[3].to_owned())
    };
    let (parent, own) = session(started);
    assert_eq!(
        parent,
        std::process::id().to_string(),
        "its parent is still we"
    );
    assert_eq!(own, session(std::process::id()).1, "and its session ours");

    // SIGTERM, once: a second one would mean to be quick about it.
    assert_eq!(standfast.stop(), 0);
    assert!(Client::open(standfast.addr("mqtt")).is_err());
    for pid in family {
        let gone = |pid: u32| !fs::exists(format!("/proc/{pid}/exe")).unwrap_or(false);
        eventually(s(5), "nobody is left behind", || gone(pid));
    }
}

/// Two listeners of one pool, the first for five clients only.
fn limited(broker: &FakeBroker, over: &str) -> Standfast {
    Standfast::start(&format!(
        "[[listener]]\nbind = \"127.0.0.1:${{port:small}}\"\npool = \"mqtt\"\n\
         limits = {{ connections = 5, over = \"{over}\" }}\n\
         [[listener]]\nbind = \"127.0.0.1:${{port:mqtt}}\"\npool = \"mqtt\"\n\
         [[pool]]\nname = \"mqtt\"\ncheck = false\n{}",
        backends([broker])
    ))
}

/// C13: the connection beyond the limit of one listener waits or is refused, another listener is not affected
///
/// Five in place of 20,000.
#[test]
fn c13_beyond_a_listeners_limit_the_next_client_waits() {
    let broker = FakeBroker::start();
    let standfast = limited(&broker, "wait");
    let small = standfast.addr("small");
    let mut held: Vec<_> = (0..5)
        .map(|n| Client::id(small, &format!("held-{n}")))
        .collect();
    let mut next = Client::open(small).expect("the backlog takes it");
    next.send(&Connect::v311("next").bytes()).expect("open");
    holds(ms(500), "it waits, and others do not", || {
        visit(&standfast, "other");
        broker.count_of("next") == 0 && next.is_open()
    });
    held.pop().expect("five").disconnect();
    next.connack(s(5)).expect("its turn");
}

/// C13: the connection beyond the limit of one listener … is refused, another listener is not affected
#[test]
fn c13_beyond_a_listeners_limit_the_next_client_is_refused_where_asked_for() {
    let broker = FakeBroker::start();
    let standfast = limited(&broker, "refuse");
    let small = standfast.addr("small");
    let mut held: Vec<_> = (0..5)
        .map(|n| Client::id(small, &format!("held-{n}")))
        .collect();
    for _ in 0..3 {
        let mut next = Client::open(small).expect("it is accepted to be told");
        let _ = next.send(&Connect::v311("next").bytes());
        next.ending(s(2)).expect("closed");
        visit(&standfast, "other");
    }
    standfast.wait_ends("refused(connections)", 3);
    assert_eq!(broker.count_of("next"), 0);
    let rejected = &standfast.status()["listeners"][0]["rejected"]["connections"];
    assert_eq!(*rejected, 3);
    for client in &mut held {
        client.ping().expect("those within the limit stay");
    }
    held.pop().expect("five").disconnect();
    eventually(s(5), "there is room again", || {
        Client::connect(small, &Connect::v311("again")).is_ok()
    });
}
