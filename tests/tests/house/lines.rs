//! The connection lines, as other programs read them.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;
use standfast_tests::prelude::*;

fn start(log: &str, brokers: &[FakeBroker], more: &str) -> Standfast {
    Standfast::start(&format!(
        "log = {{ {log} }}\n{}",
        one_pool(&format!("check = false\n{more}\n{}", backends(brokers)))
    ))
}

/// The access log as it is, when it has this many lines.
#[track_caller]
fn raw_lines(standfast: &Standfast, count: usize) -> Vec<String> {
    let path = standfast.dir().join("access.log");
    within(s(10), "lines", || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<_> = text.split_inclusive('\n').map(str::to_owned).collect();
        (lines.len() >= count && text.ends_with('\n')).then_some(lines)
    })
}

/// Connections of every kind: one that says goodbye, one that closes, one that resets, and three that never were one.
fn every_kind(standfast: &Standfast, broker: &FakeBroker) -> usize {
    let to = standfast.addr("mqtt");
    visit(standfast, "polite");
    drop(Client::id(to, "brisk"));
    Client::id(to, "rude").reset().expect("the kernel lets us");
    let mut stray = Client::open(to).expect("it listens");
    stray.send(b"GET / HTTP/1.1\r\n\r\n").expect("open");
    stray.ending(s(5)).expect("refused");
    drop(Client::open(to).expect("it listens"));
    let _served = Client::connect(to, &Connect::v5("cut-off")).expect("accepted");
    broker.close_all();
    let mut nobody = Client::connect(to, &Connect::v5("")).expect("accepted");
    nobody.ping().expect("it works");
    nobody.disconnect();
    7
}

fn number(text: &str) -> i64 {
    match text.parse() {
        Ok(number) => number,
        Err(error) => panic!("{error}: {text:?}"),
    }
}

fn address(text: &str) {
    assert!(text.parse::<std::net::SocketAddr>().is_ok(), "{text:?}");
}

/// `%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq`, field by field.
fn is_haproxy_tcplog(line: &str) {
    let words: Vec<_> = line.trim_end_matches('\n').split(' ').collect();
    let [
        client,
        time,
        listener,
        server,
        times,
        bytes,
        end,
        counts,
        queues,
    ] = words[..]
    else {
        panic!("{} words in {line:?}", words.len());
    };
    address(client);
    // [21/Nov/2026:10:15:02.114]
    let time = time.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let parts: Vec<_> = time.expect("brackets").split(['/', ':', '.']).collect();
    let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
    assert_eq!(lengths, [2, 3, 4, 2, 2, 2, 3], "{line}");
    assert!(!listener.is_empty());
    let (pool, server) = server.split_once('/').expect("pool/server");
    assert_eq!(pool, "mqtt", "{line}");
    assert!(["b1", "<NOSRV>"].contains(&server), "{line}");
    let times: Vec<_> = times.split('/').map(number).collect();
    assert_eq!(times.len(), 3, "{line}");
    assert!(times[0] >= -1 && times[1] >= -1 && times[2] >= 0, "{line}");
    assert_eq!(server == "<NOSRV>", times[1] == -1, "{line}");
    assert!(number(bytes) >= 0);
    assert_eq!(end.len(), 2, "{line}");
    assert_eq!((counts, queues), ("-/-/-/-/-", "-/-"), "{line}");
}

/// `$remote_addr [$time_local] TCP $status $bytes_received $bytes_sent $upstream_addr $client_id`, field by field.
fn is_nginx_mqtt(line: &str) {
    let (ip, rest) = line
        .trim_end_matches('\n')
        .split_once(" [")
        .expect("a time");
    assert!(ip.parse::<std::net::IpAddr>().is_ok(), "{line}");
    let (time, rest) = rest.split_once("] ").expect("a time");
    assert_eq!(time.len(), "23/Mar/2017:11:41:56 +0000".len(), "{line}");
    let words: Vec<_> = rest.split(' ').collect();
    let [protocol, status, received, sent, upstream, client] = words[..] else {
        panic!("{} words in {line:?}", words.len());
    };
    assert_eq!(protocol, "TCP");
    assert!([200, 400].contains(&number(status)), "{line}");
    assert!(number(received) >= 0 && number(sent) >= 0, "{line}");
    if upstream != "-" {
        address(upstream);
    }
    assert!(!client.is_empty(), "{line}");
}

/// Lines of real connections of every kind are read by whoever reads HAProxy's, NGINX's, or JSON.
#[test]
fn lines_of_all_kinds_have_the_fields_of_their_format() {
    for (format, reads) in [
        ("haproxy-tcplog", is_haproxy_tcplog as fn(&str)),
        ("nginx-mqtt", is_nginx_mqtt),
    ] {
        let broker = [FakeBroker::start()];
        let standfast = start(&format!("access_format = \"{format}\""), &broker, "");
        let count = every_kind(&standfast, &broker[0]);
        let lines = raw_lines(&standfast, count);
        assert_eq!(lines.len(), count, "{lines:#?}");
        for line in &lines {
            reads(line);
        }
    }
}

/// JSON: each line an object with all keys, numbers as numbers.
#[test]
fn json_lines_have_all_keys() {
    let broker = [FakeBroker::start()];
    let standfast = start("access_format = \"json\"", &broker, "");
    let count = every_kind(&standfast, &broker[0]);
    let mut ends = Vec::new();
    for line in raw_lines(&standfast, count) {
        let value: Value = serde_json::from_str(&line).expect("JSON");
        for key in [
            "time",
            "event",
            "client",
            "ip",
            "proto",
            "keepalive",
            "listener",
            "pool",
            "backend",
            "why",
            "queue",
            "greeting",
            "connect",
            "connack",
            "dur",
            "bytes_in",
            "bytes_out",
            "end",
            "node",
            "id",
        ] {
            assert!(value.get(key).is_some(), "{key} in {line}");
        }
        for key in ["dur", "bytes_in", "bytes_out"] {
            assert!(value[key].is_number(), "{key} in {line}");
        }
        assert_eq!(value["event"], "connection");
        ends.push(value["end"].as_str().expect("a word").to_owned());
    }
    ends.sort();
    let is = |word: &str| ends.iter().filter(|end| end.starts_with(word)).count();
    assert_eq!(is("client-disconnect"), 2, "{ends:?}");
    assert_eq!(is("client-reset"), 1, "{ends:?}");
    assert_eq!(is("not-mqtt"), 1, "{ends:?}");
    assert_eq!(is("backend-close"), 1, "{ends:?}");
    assert_eq!(is("client-close"), 2, "{ends:?}");
}

/// `hash_client_ids`: no id in any line; what stands there instead is the id that `sticky show` prints.
#[test]
fn a_hashed_id_is_the_one_of_sticky_show() {
    let broker = [FakeBroker::start()];
    for format in ["standfast", "json", "nginx-mqtt"] {
        let log =
            format!("access_format = \"{format}\", hash_client_ids = true, access_connect = true");
        let standfast = start(&log, &broker, "");
        visit(&standfast, "secret-one");
        visit(&standfast, "secret-two");
        let text = raw_lines(&standfast, 4).concat();
        assert!(!text.contains("secret"), "{text}");
        for client in ["secret-one", "secret-two"] {
            let rows = standfast
                .cli(&["sticky", "show", client, "--json"])
                .ok()
                .json();
            let id = rows[0]["id"].as_str().expect("an id");
            assert_eq!(text.matches(id).count(), 2, "{format}: {id} in {text}");
        }
    }
}

/// SIGHUP: a log that was moved away is written anew under its name, and no line is lost.
#[test]
fn a_rotated_log_is_opened_again() {
    let broker = [FakeBroker::start()];
    let standfast = start("access_format = \"json\"", &broker, "");
    visit(&standfast, "before");
    assert_eq!(raw_lines(&standfast, 1).len(), 1);
    let (now, old) = (
        standfast.dir().join("access.log"),
        standfast.dir().join("access.log.1"),
    );
    fs::rename(&now, &old).expect("it is ours");
    visit(&standfast, "between");
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    eventually(s(10), "still written to the old file", || {
        read(&old).contains("between")
    });
    standfast.program().signal(Signal::HUP).expect("it is ours");
    eventually(s(10), "a new file", || now.exists());
    visit(&standfast, "after");
    let _ = standfast.line_of("after");
    assert!(!read(&old).contains("after") && !read(&now).contains("before"));
    assert_eq!(standfast.status()["log"]["access_dropped"], 0);
}

/// Control characters that some parsers allow in a client id: whoever is served has one line, in which none of them stands
/// as it came.
#[test]
fn a_control_character_in_a_client_id_cannot_break_a_line() {
    let broker = [FakeBroker::start()];
    for format in ["standfast", "json", "nginx-mqtt", "haproxy-tcplog"] {
        let standfast = start(&format!("access_format = \"{format}\""), &broker, "");
        let ids = [
            "a\u{1}b",
            "a\nb",
            "a\r\nb",
            "\u{1b}[2J",
            "a\u{7f}b",
            "a\u{9f}b",
            "a b=c \"d\"",
        ];
        for (number, id) in ids.iter().enumerate() {
            let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
            client.send(&Connect::v311(id).bytes()).expect("open");
            // Served or refused: either way it is over with one line.
            let _ = client.connack_code(s(5));
            client.disconnect();
            let lines = raw_lines(&standfast, number + 1);
            assert_eq!(lines.len(), number + 1, "{format}, {id:?}: {lines:#?}");
        }
        for line in raw_lines(&standfast, ids.len()) {
            let body = line.trim_end_matches('\n');
            assert!(!body.chars().any(char::is_control), "{format}: {line:?}");
        }
    }
}
