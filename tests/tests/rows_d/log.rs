//! The line of each connection, as other tools read it, and the client in it.

use std::fs;

use standfast_tests::prelude::*;

fn start(access: &str, broker: &FakeBroker) -> Standfast {
    Standfast::start(&format!(
        "log = {{ {access} }}\n{}",
        one_pool(&format!(
            "balance = \"round-robin\"\ncheck = false\n{}",
            backends([broker])
        ))
    ))
}

/// Waits for this many lines of the access log, as they are written.
#[track_caller]
fn raw_lines(standfast: &Standfast, count: usize) -> Vec<String> {
    let path = standfast.dir().join("access.log");
    let read = || fs::read(&path).unwrap_or_default();
    eventually(s(10), "lines", || {
        read().iter().filter(|byte| **byte == b'\n').count() >= count
    });
    let text = String::from_utf8(read()).expect("text");
    text.lines().map(str::to_owned).collect()
}

/// `mosquitto_pub -t topic/test -m test123 -i ID`, as the document has it.
fn publish(standfast: &Standfast, id: &str) {
    let message = Publish {
        to: standfast.addr("mqtt"),
        id,
        topic: "topic/test",
        payload: "test123",
        more: &[],
    };
    message.run().expect("mosquitto_pub is content");
}

/// Whether a text is `[23/Mar/2017:11:41:56 +0000]`.
fn is_time_local(text: &str) -> bool {
    let shape = "[dd/aaa/dddd:dd:dd:dd sdddd]";
    text.len() == shape.len()
        && text
            .chars()
            .zip(shape.chars())
            .all(|(found, want)| match want {
                'd' => found.is_ascii_digit(),
                'a' => found.is_ascii_alphabetic(),
                's' => found == '+' || found == '-',
                _ => found == want,
            })
}

/// D08: the reference's line matches its regex; bytes equal the computed numbers
///
/// `$remote_addr [$time_local] $protocol $status $bytes_received $bytes_sent $upstream_addr`, and the client id last, as
/// the document adds it. CONNECT of `thing001` has 22 bytes and of `foo` 17, PUBLISH 21, DISCONNECT 2; CONNACK 4.
#[test]
fn d08_the_nginx_line_has_the_reference_shape_and_true_numbers() {
    let broker = FakeBroker::start();
    let standfast = start("access_format = \"nginx-mqtt\"", &broker);
    for (id, received) in [("thing001", 45), ("foo", 40)] {
        publish(&standfast, id);
        // The echo of the scripted broker may or may not be read before mosquitto_pub is gone.
        let line = within(s(10), "its line", || {
            let path = standfast.dir().join("access.log");
            let text = fs::read_to_string(path).unwrap_or_default();
            text.lines()
                .find(|line| line.ends_with(id))
                .map(str::to_owned)
        });
        let (address, rest) = line.split_once(" [").expect("a time in brackets");
        let (time, rest) = rest.split_once("] ").expect("a time in brackets");
        assert_eq!(address, "127.0.0.1", "{line}");
        assert!(is_time_local(&format!("[{time}]")), "{line}");
        let words: Vec<_> = rest.split(' ').collect();
        let [
            protocol,
            status,
            bytes_received,
            bytes_sent,
            upstream,
            client,
        ] = words[..]
        else {
            panic!("{} words in {line}", words.len());
        };
        assert_eq!((protocol, status), ("TCP", "200"), "{line}");
        assert_eq!(bytes_received, received.to_string(), "{line}");
        let sent: usize = bytes_sent.parse().expect("a number");
        assert!([4, 25].contains(&sent), "CONNACK, or with the echo: {line}");
        assert_eq!(upstream, broker.addr().to_string(), "{line}");
        assert_eq!(client, id, "{line}");
    }
}

/// D08: … bytes equal the computed numbers — with a real broker, which sends nothing but its CONNACK.
#[test]
fn d08_a_real_broker_sends_four_bytes() {
    let mosquitto = Mosquitto::start("").expect("mosquitto runs");
    let standfast = Standfast::start(&format!(
        "log = {{ access_format = \"nginx-mqtt\" }}\n{}",
        one_pool(&format!(
            "check = false\n{}",
            backends_at([mosquitto.addr()])
        ))
    ));
    publish(&standfast, "thing001");
    publish(&standfast, "foo");
    let lines = raw_lines(&standfast, 2);
    let end = |received: u32, id: &str| format!("] TCP 200 {received} 4 {} {id}", mosquitto.addr());
    assert!(lines[0].ends_with(&end(45, "thing001")), "{lines:?}");
    assert!(lines[1].ends_with(&end(40, "foo")), "{lines:?}");
}

/// D09: client id in every line, for round robin too; control characters escaped; optional hashing
#[test]
fn d09_the_client_id_is_in_every_line() {
    let broker = FakeBroker::start();
    for format in ["standfast", "json", "nginx-mqtt"] {
        let standfast = start(&format!("access_format = \"{format}\""), &broker);
        visit(&standfast, "dev-4711");
        let connect = Connect::v311("");
        Client::connect(standfast.addr("mqtt"), &connect)
            .expect("accepted")
            .disconnect();
        visit(&standfast, "a b=c");
        let lines = raw_lines(&standfast, 3);
        let has = |line: &str, text: &str| line.contains(text);
        let expected: [&[&str]; 3] = match format {
            "standfast" => [
                &["client=dev-4711 "],
                &["client=- "],
                &["client=\"a b=c\" "],
            ],
            "json" => [
                &["\"client\":\"dev-4711\""],
                &["\"client\":\"\"", "\"client\":null", "\"client\":\"-\""],
                &["\"client\":\"a b=c\""],
            ],
            _ => [&[" dev-4711"], &[" -"], &["a b=c", "a\\x20b=c"]],
        };
        for wanted in expected {
            let found = lines
                .iter()
                .filter(|line| wanted.iter().any(|text| has(line, text)));
            assert_eq!(found.count(), 1, "{format}: {wanted:?} in {lines:#?}");
        }
    }
}

/// D09: … control characters escaped … — a client cannot write a line of its own, nor colour the terminal of whoever reads.
#[test]
fn d09_control_characters_in_a_client_id_are_escaped() {
    let broker = FakeBroker::start();
    let evil = "a\r\n\u{1b}[31mclient=b\t\u{7f}\u{85}\u{2028}\"\\";
    for format in ["standfast", "json", "nginx-mqtt", "haproxy-tcplog"] {
        let standfast = start(&format!("access_format = \"{format}\""), &broker);
        visit(&standfast, evil);
        visit(&standfast, "last");
        let lines = raw_lines(&standfast, 2);
        assert_eq!(lines.len(), 2, "{format}: {lines:?}");
        for line in &lines {
            let control = line.chars().find(|it| it.is_control() || *it == '\u{2028}');
            assert_eq!(control, None, "{format}: {line:?}");
        }
        if format == "json" {
            let line = standfast.line_where("the evil one", |line| line["client"] != "last");
            assert_eq!(line["client"], evil, "and nothing is lost");
        }
    }
}

/// D09: … optional hashing
#[test]
fn d09_client_ids_are_hashed_where_asked_for() {
    let broker = FakeBroker::start();
    let standfast = start("access_format = \"json\", hash_client_ids = true", &broker);
    for id in ["secret-one", "secret-two", "secret-one"] {
        visit(&standfast, id);
    }
    let text = raw_lines(&standfast, 3).join("\n");
    assert!(!text.contains("secret"), "{text}");
    let mut hashes: Vec<_> = standfast
        .lines()
        .iter()
        .map(|line| line["client"].to_string())
        .collect();
    hashes.sort();
    assert!(hashes[0].len() >= 8 && hashes[0] != "null", "{hashes:?}");
    hashes.dedup();
    assert_eq!(hashes.len(), 2, "one client, one hash: {hashes:?}");
}
