use std::future::Future;
use std::sync::Mutex;

use standfast_proto::mqtt::connect;
use standfast_proto::proxy;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::config::{MqttLevel, Profile, Proxy, ProxyVersion};

const LOCAL: &str = "127.0.0.1:0";

/// A server that gives each connection to `serve`.
async fn server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(LOCAL)
        .await
        .expect("loopback has a free port");
    let at = listener
        .local_addr()
        .expect("a bound socket has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    at
}

/// An address that refuses.
async fn refusing() -> SocketAddr {
    let listener = TcpListener::bind(LOCAL)
        .await
        .expect("loopback has a free port");
    listener
        .local_addr()
        .expect("a bound socket has an address")
}

/// A server that takes connections and says nothing.
async fn silent() -> SocketAddr {
    server(|mut stream| async move {
        let mut buf = [0; 1024];
        while stream.read(&mut buf).await.is_ok_and(|read| read > 0) {}
    })
    .await
}

/// A server that reads a request and answers with these bytes, then closes.
async fn answering(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer: Arc<[u8]> = answer.into().into();
    server(move |mut stream| {
        let answer = Arc::clone(&answer);
        async move {
            let _ = request(&mut stream).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

async fn request(stream: &mut TcpStream) -> String {
    let mut buf = Vec::new();
    while !buf.ends_with(b"\r\n\r\n") {
        match more(stream, &mut buf).await {
            Ok(true) => {}
            _ => break,
        }
    }
    String::from_utf8_lossy(&buf).into_owned()
}

fn ask(kind: CheckKind, traffic: SocketAddr) -> Ask {
    let check = Check {
        kind,
        interval: Duration::from_secs(2),
        fast_interval: Duration::from_millis(100),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
        port: None,
    };
    Ask {
        settings: Arc::new(Settings {
            check: Some(check.clone()),
            proxy: None,
            source: None,
            password: None,
        }),
        check,
        traffic,
        host: "mq1.example".into(),
    }
}

fn http(path: &str) -> CheckKind {
    CheckKind::Http {
        address: None,
        path: path.into(),
        method: "GET".into(),
        host: None,
        headers: Vec::new(),
    }
}

fn mqtt(level: MqttLevel, accept: &[u8]) -> CheckKind {
    CheckKind::Mqtt {
        level,
        username: None,
        password_file: None,
        accept: accept.to_vec(),
    }
}

const DEAD: Outcome = Outcome::Failed(Failure::Dead);
const NOT_READY: Outcome = Outcome::Failed(Failure::NotReady);

#[tokio::test]
async fn a07_codes_of_two_and_three_hundred_are_healthy_and_no_other() {
    let at = server(|mut stream| async move {
        let request = request(&mut stream).await;
        let code = request
            .split([' ', '/'])
            .nth(2)
            .unwrap_or_default()
            .to_owned();
        let answer = format!("HTTP/1.1 {code} X\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await;
    for code in 200..=599 {
        let found = probe(&ask(http(&format!("/{code}")), at)).await;
        let wanted = if code < 400 {
            Outcome::Passed
        } else {
            NOT_READY
        };
        assert_eq!(found.outcome, wanted, "{code}");
        let (text, rest) = found.result.split_once(' ').unwrap_or((&found.result, ""));
        assert_eq!(text, code.to_string());
        assert_eq!(rest.starts_with("in "), code < 400, "{}", found.result);
    }
}

#[tokio::test]
async fn a06_a_check_is_exactly_one_request_and_a_redirect_is_not_followed() {
    let (seen, mut requests) = mpsc::unbounded_channel();
    let dead = refusing().await;
    let at = server(move |mut stream| {
        let seen = seen.clone();
        async move {
            let _ = seen.send(request(&mut stream).await);
            let answer = format!("HTTP/1.1 301 Moved\r\nLocation: http://{dead}/\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await;
    let found = probe(&ask(http("/api/v1/health/readiness"), at)).await;
    assert_eq!(found.outcome, Outcome::Passed);
    let request = requests.recv().await.expect("a request came");
    let start = "GET /api/v1/health/readiness HTTP/1.1\r\n";
    assert!(request.starts_with(start), "{request}");
    let host = format!("\r\nHost: mq1.example:{}\r\n", at.port());
    assert!(request.contains(&host), "{request}");
    assert!(requests.try_recv().is_err(), "one request only");
}

#[tokio::test]
async fn b03_b04_the_code_decides_whatever_the_body_says() {
    for (code, status) in [
        (200, "UP"),
        (200, "UNKNOWN"),
        (200, "DEGRADED"),
        (200, "DEGRADED_SERVICE"),
        (200, "DOWN"),
        (503, "DOWN"),
        (503, "OUT_OF_SERVICE"),
        (503, "UP"),
    ] {
        let body = format!(r#"{{"status":"{status}","components":{{"mqtt":{{"status":"UP"}}}}}}"#);
        let length = body.len();
        for answer in [
            format!("HTTP/1.1 {code} X\r\nContent-Length: {length}\r\n\r\n{body}"),
            format!("HTTP/1.0 {code} X\r\n\r\n{body}"),
            format!(
                "HTTP/1.1 {code} X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n{:x}\r\n{}\r\n0\r\n\r\n",
                length - 1,
                &body[1..]
            ),
            format!(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 {code} X\r\n\r\n{body}"
            ),
        ] {
            let found = probe(&ask(http("/"), answering(answer.clone()).await)).await;
            let wanted = if code == 200 {
                Outcome::Passed
            } else {
                NOT_READY
            };
            assert_eq!(found.outcome, wanted, "{answer}");
            assert_eq!(found.status.as_deref(), Some(status), "{answer}");
            assert_eq!(found.components, [("mqtt".into(), "UP".into())], "{answer}");
        }
    }
}

#[tokio::test]
async fn b04_bodies_that_are_broken_late_or_deep_change_nothing() {
    let deep = r#"{"components":{"a":"#.repeat(1000) + "1" + &"}}".repeat(1000);
    for body in ["", "{", "\u{0}\u{1}", "<html>", &deep] {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n{body}");
        let found = probe(&ask(http("/"), answering(answer).await)).await;
        assert_eq!((found.outcome, found.status), (Outcome::Passed, None));
    }
    let many = "X-Y: z\r\n".repeat(500);
    let answer = format!("HTTP/1.1 200 OK\r\n{many}\r\n");
    let found = probe(&ask(http("/"), answering(answer).await)).await;
    assert_eq!(found.outcome, Outcome::Passed);
    let never_ends = server(|mut stream| async move {
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"status\":")
            .await;
        let mut buf = [0; 1024];
        while stream.read(&mut buf).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let found = probe(&ask(http("/"), never_ends)).await;
    assert_eq!(found.outcome, Outcome::Passed);
    assert!(
        found.took < Duration::from_millis(500),
        "the body's time is not counted"
    );
}

#[tokio::test]
async fn b04_a_body_of_many_megabytes_is_not_read() {
    const WHOLE: usize = 256 << 20;
    let (sent, mut received) = mpsc::unbounded_channel();
    let at = server(move |mut stream| {
        let sent = sent.clone();
        async move {
            let _ = request(&mut stream).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {WHOLE}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            let chunk = vec![b'['; 1 << 20];
            let mut count = 0;
            while count < WHOLE && stream.write_all(&chunk).await.is_ok() {
                count += chunk.len();
            }
            let _ = sent.send(count);
        }
    })
    .await;
    let found = probe(&ask(http("/"), at)).await;
    assert_eq!((found.outcome, found.status), (Outcome::Passed, None));
    let count = received.recv().await.expect("the server ends");
    assert!(count < WHOLE / 8, "{count} bytes went out");
}

#[tokio::test]
async fn answers_that_are_none_are_not_ready() {
    for (answer, text) in [
        ("", "closed without an answer"),
        ("HTTP/1.1 2", "closed without an answer"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "no HTTP answer"),
        ("HTTP/1.1 999999 X\r\n\r\n", "no HTTP answer"),
        ("HTTP/1.1 101 Switching\r\n\r\n", "101"),
        (
            &("HTTP/1.1 200 OK\r\nX: ".to_owned() + &"y".repeat(200_000)),
            "too long",
        ),
        (&"HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000), "too long"),
    ] {
        let found = probe(&ask(http("/"), answering(answer).await)).await;
        assert_eq!(
            found.outcome,
            NOT_READY,
            "{}",
            &answer[..answer.len().min(40)]
        );
        assert!(found.result.contains(text), "{} for {text}", found.result);
    }
}

#[tokio::test]
async fn nobody_there_is_dead_for_every_kind_of_check() {
    let raw = CheckKind::Raw {
        send: b"x".to_vec(),
        expect: b"y".to_vec(),
    };
    for kind in [
        http("/"),
        mqtt(MqttLevel::V311, &[0]),
        raw.clone(),
        CheckKind::Tcp,
    ] {
        let found = probe(&ask(kind, refusing().await)).await;
        assert_eq!(found.outcome, DEAD);
        assert!(
            found.result.starts_with("connection refused"),
            "{}",
            found.result
        );
    }
    for kind in [http("/"), mqtt(MqttLevel::V5, &[0]), raw] {
        let mut ask = ask(kind, silent().await);
        ask.check.timeout = Duration::from_millis(200);
        let found = probe(&ask).await;
        assert_eq!(found.outcome, DEAD, "d02: it takes TCP and never answers");
        assert!(
            found.result.starts_with("no answer in 200ms"),
            "{}",
            found.result
        );
        assert!(found.took >= Duration::from_millis(200) && found.took < Duration::from_secs(1));
    }
    let found = probe(&ask(CheckKind::Tcp, silent().await)).await;
    assert_eq!(found.outcome, Outcome::Passed);
}

#[tokio::test]
async fn a05_a_dead_check_port_says_nothing_of_a_traffic_port_that_answers() {
    for (check, text) in [
        (refusing().await, "connection refused"),
        (silent().await, "no answer in 500ms"),
    ] {
        let traffic = silent().await;
        let mut ask = ask(http("/"), traffic);
        ask.check.port = Some(check.port());
        ask.check.timeout = Duration::from_millis(500);
        let found = probe(&ask).await;
        assert_eq!(found.outcome, NOT_READY, "{}", found.result);
        let wanted = format!("{text} at {check}, port {} answers", traffic.port());
        assert!(found.result.starts_with(&wanted), "{}", found.result);
        assert!(found.took < Duration::from_millis(900), "{:?}", found.took);

        ask.traffic = refusing().await;
        let found = probe(&ask).await;
        assert_eq!(found.outcome, DEAD, "{}", found.result);
    }
}

#[tokio::test]
async fn a05_a_healthy_check_port_leaves_the_traffic_port_alone() {
    let traffic = TcpListener::bind(LOCAL)
        .await
        .expect("loopback has a free port");
    let at = traffic.local_addr().expect("a bound socket has an address");
    let check = answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let mut ask = ask(http("/"), at);
    ask.check.port = Some(check.port());
    assert_eq!(probe(&ask).await.outcome, Outcome::Passed);
    let nobody = tokio::time::timeout(Duration::from_millis(50), traffic.accept()).await;
    assert!(nobody.is_err(), "the traffic port was touched");
}

/// What a broker saw of a check: the first read, the rest, and whether the end was clean.
#[derive(Debug)]
struct Visit {
    from: SocketAddr,
    first: Vec<u8>,
    rest: Vec<u8>,
    clean: bool,
}

async fn broker(connack: &'static [u8]) -> (SocketAddr, mpsc::UnboundedReceiver<Visit>) {
    let (seen, visits) = mpsc::unbounded_channel();
    let at = server(move |mut stream| {
        let seen = seen.clone();
        async move {
            let from = stream.peer_addr().expect("it is connected");
            let mut first = Vec::new();
            let _ = more(&mut stream, &mut first).await;
            let _ = stream.write_all(connack).await;
            let mut rest = Vec::new();
            let clean = stream.read_to_end(&mut rest).await.is_ok();
            let _ = seen.send(Visit {
                from,
                first,
                rest,
                clean,
            });
        }
    })
    .await;
    (at, visits)
}

fn client_of(packet: &[u8]) -> String {
    match connect::parse(packet, packet.len()) {
        Ok(connect::Parsed::Connect(connect)) => {
            assert!(connect.clean_start);
            assert_eq!(connect.len, packet.len());
            connect.client_id.to_owned()
        }
        other => panic!("no CONNECT: {other:?}"),
    }
}

#[tokio::test]
async fn d03_an_mqtt_check_is_a_client_with_its_own_id_that_leaves_politely() {
    for (level, connack) in [
        (MqttLevel::V31, &b"\x20\x02\x00\x00"[..]),
        (MqttLevel::V311, b"\x20\x02\x00\x00"),
        (MqttLevel::V5, b"\x20\x06\x00\x00\x03\x21\x00\x0a"),
    ] {
        let (at, mut visits) = broker(connack).await;
        let ask = ask(mqtt(level, &[0]), at);
        let (one, other) = tokio::join!(probe(&ask), probe(&ask));
        assert_eq!(
            (one.outcome, other.outcome),
            (Outcome::Passed, Outcome::Passed)
        );
        assert!(one.result.starts_with("CONNACK 0 in "), "{}", one.result);
        let (one, other) = (visits.recv().await, visits.recv().await);
        let (one, other) = (one.expect("a visit"), other.expect("a visit"));
        assert_ne!(client_of(&one.first), client_of(&other.first));
        for visit in [one, other] {
            assert_eq!(
                (visit.rest.as_slice(), visit.clean),
                (&b"\xE0\x00"[..], true)
            );
        }
    }
}

#[tokio::test]
async fn d03_refusals_are_not_ready_unless_they_are_accepted() {
    for (level, connack, accept, outcome, text) in [
        (
            MqttLevel::V311,
            &b"\x20\x02\x00\x03"[..],
            &[0][..],
            NOT_READY,
            "CONNACK 3 (server unavailable)",
        ),
        (
            MqttLevel::V311,
            b"\x20\x02\x00\x05",
            &[0],
            NOT_READY,
            "CONNACK 5 (not authorized)",
        ),
        (
            MqttLevel::V311,
            b"\x20\x02\x00\x05",
            &[0, 5],
            Outcome::Passed,
            "CONNACK 5 (not authorized) in",
        ),
        (
            MqttLevel::V5,
            b"\x20\x03\x00\x87\x00",
            &[0],
            NOT_READY,
            "CONNACK 135 (not authorized)",
        ),
        (
            MqttLevel::V311,
            b"\xD0\x00",
            &[0],
            NOT_READY,
            "no CONNACK: first byte is 0xD0",
        ),
        (
            MqttLevel::V311,
            b"HTTP/1.1 400 Bad\r\n",
            &[0],
            NOT_READY,
            "no CONNACK",
        ),
        (
            MqttLevel::V5,
            b"\x20\xFF\xFF\xFF\x7F",
            &[0],
            NOT_READY,
            "no CONNACK",
        ),
    ] {
        let (at, mut visits) = broker(connack).await;
        let found = probe(&ask(mqtt(level, accept), at)).await;
        assert_eq!(found.outcome, outcome, "{}", found.result);
        assert!(found.result.starts_with(text), "{}", found.result);
        assert_eq!(
            visits.recv().await.expect("a visit").rest,
            b"",
            "nothing to part from"
        );
    }
    let closing = server(|stream| async move { drop(stream) }).await;
    let found = probe(&ask(mqtt(MqttLevel::V311, &[0]), closing)).await;
    assert_eq!(
        found.outcome, NOT_READY,
        "a full broker is alive: {}",
        found.result
    );
}

fn proxied(kind: CheckKind, at: SocketAddr, proxy: Proxy) -> Ask {
    let mut ask = ask(kind, at);
    let settings = Settings::clone(&ask.settings);
    ask.settings = Arc::new(Settings {
        proxy: Some(proxy),
        ..settings
    });
    ask
}

const MOSQUITTO: Proxy = Proxy {
    version: ProxyVersion::V2,
    profile: Some(Profile::Mosquitto),
    crc32c: true,
    max_tlv_bytes: 500,
    local_checks: false,
};

#[tokio::test]
async fn c18_the_proxy_header_comes_with_the_connect_and_says_what_the_broker_takes() {
    for (version, local_checks) in [
        (ProxyVersion::V1, false),
        (ProxyVersion::V2, false),
        (ProxyVersion::V2, true),
    ] {
        let (at, mut visits) = broker(b"\x20\x02\x00\x00").await;
        let proxy = Proxy {
            version,
            local_checks,
            ..MOSQUITTO
        };
        let found = probe(&proxied(mqtt(MqttLevel::V311, &[0]), at, proxy)).await;
        assert_eq!(found.outcome, Outcome::Passed);
        let visit = visits.recv().await.expect("a visit");
        let parsed = match version {
            ProxyVersion::V1 => proxy::v1::parse(&visit.first),
            ProxyVersion::V2 => proxy::v2::parse(&visit.first, 500),
        };
        let Ok(proxy::Parsed::Header(header)) = parsed else {
            panic!("no PROXY header: {parsed:?}");
        };
        let wanted = (!local_checks).then_some((visit.from, at));
        assert_eq!(header.addresses, wanted);
        client_of(&visit.first[header.len..]);
    }
}

#[tokio::test]
async fn c18_a_bare_tcp_check_says_local_and_another_port_gets_no_header() {
    let (at, mut visits) = broker(b"").await;
    let mut ask = proxied(CheckKind::Tcp, at, MOSQUITTO);
    assert_eq!(probe(&ask).await.outcome, Outcome::Passed);
    let first = visits.recv().await.expect("a visit").first;
    assert_eq!((&first[..12], first[12]), (&proxy::v2::SIGNATURE[..], 0x20));

    ask.check.kind = mqtt(MqttLevel::V31, &[0]);
    ask.check.port = Some(at.port());
    ask.traffic = refusing().await;
    ask.check.timeout = Duration::from_millis(200);
    probe(&ask).await;
    client_of(&visits.recv().await.expect("a visit").first);
}

#[tokio::test]
async fn d04_given_bytes_are_sent_as_they_are_and_the_answer_must_start_as_expected() {
    let connect = b"\x10\x20\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x12nginx health check";
    let (at, mut visits) = broker(b"\x20\x02\x00\x00\x99").await;
    let mut kind = CheckKind::Raw {
        send: connect.to_vec(),
        expect: b"\x20\x02\x00\x00".to_vec(),
    };
    let found = probe(&ask(kind.clone(), at)).await;
    assert_eq!(found.outcome, Outcome::Passed);
    assert!(
        found.result.starts_with("answer 20020000 in "),
        "{}",
        found.result
    );
    assert_eq!(visits.recv().await.expect("a visit").first, connect);

    for (answer, text) in [
        (
            &b"\x20\x02\x00\x05"[..],
            "answer begins with 20020005, wanted 20020000",
        ),
        (b"\x21", "answer begins with 21, wanted 20020000"),
    ] {
        let (at, _visits) = broker(answer).await;
        let found = probe(&ask(kind.clone(), at)).await;
        assert_eq!(found.outcome, NOT_READY);
        assert!(found.result.starts_with(text), "{}", found.result);
    }
    let short = answering(b"\x20\x02".to_vec()).await;
    if let CheckKind::Raw { send, .. } = &mut kind {
        send.extend_from_slice(b"\r\n\r\n");
    }
    let found = probe(&ask(kind, short)).await;
    assert_eq!(found.outcome, NOT_READY);
    assert!(
        found.result.starts_with("closed after 2 of 4 bytes"),
        "{}",
        found.result
    );
}

#[tokio::test]
async fn a_source_that_this_node_does_not_have_says_nothing_of_the_backend() {
    let mut ask = ask(CheckKind::Tcp, silent().await);
    let settings = Settings::clone(&ask.settings);
    // TEST-NET-1: on no machine.
    let source = Some("192.0.2.77".parse().expect("an address"));
    ask.settings = Arc::new(Settings { source, ..settings });
    let found = probe(&ask).await;
    assert_eq!(found.outcome, Outcome::Void, "{}", found.result);
    assert!(
        found.result.starts_with("not checked: "),
        "{}",
        found.result
    );
}

#[tokio::test]
async fn an_http_check_can_ask_elsewhere() {
    let seen = Arc::new(Mutex::new(String::new()));
    let at = server({
        let seen = Arc::clone(&seen);
        move |mut stream| {
            let seen = Arc::clone(&seen);
            async move {
                let request = request(&mut stream).await;
                seen.lock().expect("nobody panicked").push_str(&request);
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            }
        }
    })
    .await;
    for host in ["127.0.0.1", "localhost"] {
        let mut kind = http("/");
        if let CheckKind::Http { address, .. } = &mut kind {
            *address = Some(host.into());
        }
        let mut ask = ask(kind, refusing().await);
        ask.check.port = Some(at.port());
        let found = probe(&ask).await;
        assert_eq!(found.outcome, Outcome::Passed, "{}", found.result);
        let wanted = format!("\r\nHost: {host}:{}\r\n", at.port());
        assert!(seen.lock().expect("nobody panicked").contains(&wanted));
    }
}
