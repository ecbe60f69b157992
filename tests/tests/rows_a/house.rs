//! The house around the traffic: names that do not resolve, the control socket, the logs.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use standfast_tests::prelude::*;
use standfast_tests::standfast::binary;

use super::{one_pool, visit};

/// A15: start with dead DNS → listeners up, backend down, unresolved; DNS appears → up without restart; restart with
/// DNS dead → last address used
#[test]
fn a15_a_backend_without_an_address_is_taken_in_when_it_has_one() {
    require!(root);
    let bridge = require!(Bridge::with_hosts(1));
    let host = bridge.host(1);
    let dns = require!(FakeDns::start_on(host));
    dns.dead(true);
    let port = standfast_tests::ports::free();
    let broker = host.inside(|| FakeBroker::at((Ipv4Addr::LOCALHOST, port).into()));
    let config = one_pool(&format!(
        "check = {{ tcp = true, interval = \"200ms\" }}\nwhen_empty = {{ wait = \"100ms\" }}\n\
         resolve = {{ every = \"300ms\" }}\n\
         backends = [{{ name = \"b1\", addr = \"mq1.plant.example:{port}\" }}]"
    ));
    let mut standfast = Standfast::start_on(host, &config);
    assert_eq!(standfast.status().state("b1"), "unresolved");
    let to = standfast.addr("mqtt");
    let mut early = host.inside(|| Client::open(to)).expect("listeners are up");
    early.send(&Connect::v311("early").bytes()).expect("open");
    early.ending(s(5)).expect("nobody to serve it");
    eventually(s(10), "it asked", || dns.asked() > 0);

    dns.set("mq1.plant.example", Ipv4Addr::LOCALHOST);
    dns.dead(false);
    standfast.wait_state("b1", "up", s(20));
    host.inside(|| Client::id(to, "served")).disconnect();

    dns.dead(true);
    standfast.restart();
    standfast.wait_state("b1", "up", s(20));
    host.inside(|| Client::id(to, "again")).disconnect();
    assert_eq!(broker.ids(""), ["served", "again"]);
}

/// Somebody who is not root, as Debian numbers it.
const NOBODY: u32 = 65_534;

/// A16: mode bits as set; another uid gets EACCES; a read-only user cannot drain
#[test]
fn a16_the_control_socket_is_for_those_it_is_set_for() {
    require!(root);
    let brokers = FakeBroker::several::<2>();
    let standfast = Standfast::start(&format!(
        "control = [{{ socket = \"${{dir}}/admin.sock\", mode = \"0600\", level = \"admin\" }},\n\
         {{ socket = \"${{dir}}/group.sock\", owner = \"nobody\", group = \"daemon\", mode = \"0660\" }},\n\
         {{ socket = \"${{dir}}/read.sock\", mode = \"0666\", level = \"read\" }}]\n{}",
        one_pool(&format!("check = false\n{}", backends(&brokers)))
    ));
    let bits = |name: &str| {
        let data = fs::metadata(standfast.dir().join(name)).expect("the socket is there");
        (data.permissions().mode() & 0o7777, data.uid())
    };
    assert_eq!(bits("admin.sock"), (0o600, 0));
    assert_eq!(bits("group.sock"), (0o660, NOBODY));
    assert_eq!(bits("read.sock"), (0o666, 0));
    let group = fs::metadata(standfast.dir().join("group.sock")).expect("it is there");
    // Group `daemon` of every Debian.
    assert_eq!(group.gid(), 1);

    // A copy: the build may lie where nobody else may look.
    let copy = standfast.dir().join("standfast-copy");
    fs::copy(binary(), &copy).expect("there is room");
    let as_user = |uid: u32, socket: &str, words: &[&str]| {
        let output = Command::new("setpriv")
            .args([&format!("--reuid={uid}"), "--regid=65534", "--clear-groups"])
            .arg(&copy)
            .args(words)
            .env("STANDFAST_SOCKET", standfast.dir().join(socket))
            .output()
            .expect("setpriv is part of Debian");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    // 77 is the exit code for the kernel's EACCES.
    let (code, text) = as_user(NOBODY, "admin.sock", &["status"]);
    assert_eq!(code, Some(77), "{text}");
    assert!(
        text.contains("not permitted") && text.contains("admin.sock"),
        "{text}"
    );
    assert_eq!(as_user(NOBODY, "group.sock", &["status"]).0, Some(0));
    assert_eq!(as_user(NOBODY, "read.sock", &["status"]).0, Some(0));

    let (code, text) = as_user(NOBODY, "read.sock", &["drain", "b1", "--yes"]);
    assert_eq!(code, Some(5), "{text}");
    assert_eq!(standfast.status().state("b1"), "up");
    // The same order through the socket of those who may.
    standfast.cli(&["drain", "b1", "--yes"]).ok();
    assert_eq!(standfast.status().state("b1"), "draining");
}

/// A18: lines on stdout, no <pri> prefix, debug absent at info
#[test]
fn a18_the_log_goes_to_stdout_without_syslog_framing() {
    let mut broker = FakeBroker::start();
    let mut debug_lines = Vec::new();
    for level in ["info", "debug"] {
        let mut standfast = Standfast::start(&format!(
            "log = {{ target = \"stdout\", level = \"{level}\" }}\n{}",
            one_pool(&format!(
                "check = {{ tcp = true, interval = \"100ms\" }}\n{}",
                backends([&broker])
            ))
        ));
        standfast.wait_up(&["b1"]);
        visit(&standfast, "c-1");
        broker.stop();
        // Before the checks have settled it, somebody is sent there in vain: a matter for debug.
        let mut unlucky = Client::open(standfast.addr("mqtt")).expect("it listens");
        unlucky
            .send(&Connect::v311("unlucky").bytes())
            .expect("open");
        standfast.wait_state("b1", "down", s(5));
        broker.restart();
        standfast.stop();
        let text = standfast.program().stdout();
        assert!(text.lines().count() > 1, "{text}");
        assert!(!standfast.program().stderr().contains("b1"));
        for line in text.lines() {
            assert!(!line.starts_with('<'), "{line}");
            // 2026-11-21T10:15:02.114Z
            let time = line.split(' ').next().unwrap_or_default();
            assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
        }
        assert!(text.lines().any(|line| line.contains("b1")), "{text}");
        let is_debug = |line: &&str| {
            let mut words = line.split_whitespace().take(4);
            words.any(|word| word.to_lowercase().contains("debug"))
        };
        debug_lines.push(text.lines().filter(is_debug).count());
    }
    assert_eq!(debug_lines[0], 0);
    assert!(
        debug_lines[1] > 0,
        "at debug there is something to leave out"
    );
}

/// A19: fields parse; durations within 10 ms; the end tells who closed
#[test]
fn a19_a_connection_line_tells_who_how_long_how_much_and_who_closed() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\n{}",
        backends([&broker])
    )));
    let to = standfast.addr("mqtt");

    // Its length is known from both sides: not shorter than what lies inside, not longer than what lies around.
    let before = Instant::now();
    let mut client = Client::id(to, "polite");
    let inside = Instant::now();
    client.publish("t", b"12345").expect("open");
    let echo = client.packet(s(5)).expect("an echo");
    pause(ms(400));
    let at_least = inside.elapsed();
    let local = client.local();
    client.disconnect();
    let line = standfast.line_where("the polite one's line", |line| line["client"] == "polite");
    let at_most = before.elapsed();
    let duration = Duration::from_secs_f64(line["dur"].as_f64().expect("seconds"));
    assert!(duration + ms(10) >= at_least, "{duration:?} {at_least:?}");
    assert!(duration <= at_most + ms(10), "{duration:?} {at_most:?}");

    let connect = Connect::v311("polite").bytes().len();
    let sent = connect + echo.bytes().len() + 2;
    assert_eq!(line["bytes_in"], sent, "{line}");
    assert_eq!(line["bytes_out"], 4 + echo.bytes().len(), "{line}");
    assert_eq!(line["ip"], local.to_string());
    assert_eq!(line["backend"], "b1");
    assert_eq!(line["pool"], "mqtt");
    assert_eq!(line["end"], "client-disconnect");
    assert_eq!(line["keepalive"], 60);

    let silent = Client::id(to, "silent");
    drop(silent);
    assert_eq!(standfast.line_of("silent")["end"], "client-close");
    let rude = Client::id(to, "rude");
    rude.reset().expect("the kernel sends it");
    assert_eq!(standfast.line_of("rude")["end"], "client-reset");
    let mut thrown_out = Client::id(to, "thrown-out");
    broker.close_all();
    thrown_out.ending(s(5)).expect("closed");
    assert_eq!(standfast.line_of("thrown-out")["end"], "backend-close");
}

/// A19: fields parse … — also in the default form, one key=value line.
#[test]
fn a19_the_default_form_is_one_line_of_keys_and_values() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&format!(
        "log = {{ access_format = \"standfast\" }}\n{}",
        one_pool(&format!("check = false\n{}", backends([&broker])))
    ));
    visit(&standfast, "c-1");
    let path = standfast.dir().join("access.log");
    let line = within(s(10), "a line", || {
        let text = fs::read_to_string(&path).ok()?;
        Some(text.lines().next()?.to_owned())
    });
    let mut words = line.split(' ');
    let time = words.next().expect("a word");
    assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
    assert_eq!(words.next(), Some("connection"));
    let fields: std::collections::BTreeMap<_, _> = words
        .map(|word| {
            word.split_once('=')
                .unwrap_or_else(|| panic!("{word} in {line}"))
        })
        .collect();
    for (name, value) in [
        ("client", "c-1"),
        ("proto", "4"),
        ("keepalive", "60"),
        ("pool", "mqtt"),
        ("backend", "b1"),
        ("why", "sticky-new"),
        ("connack", "0x00"),
        ("end", "client-disconnect"),
    ] {
        assert_eq!(fields.get(name), Some(&value), "{name} in {line}");
    }
    for name in [
        "ip",
        "listener",
        "queue",
        "connect",
        "dur",
        "bytes_in",
        "bytes_out",
        "id",
    ] {
        assert!(fields.contains_key(name), "{name} in {line}");
    }
}
