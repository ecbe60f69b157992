//! Rows of document B: the Health API of HiveMQ, and what to make of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use standfast_tests::prelude::*;
use standfast_tests::program::{Dir, installed};

const READINESS: &str = "/api/v1/health/readiness";

fn one_pool(lines: &str) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:${{port:mqtt}}\"\npool = \"mqtt\"\n[[pool]]\nname = \"mqtt\"\n{lines}\n"
    )
}

/// One `[[pool.backend]]`, checked at this path of its own health endpoint.
fn backend(name: &str, broker: SocketAddr, health: &FakeHttp, path: &str) -> String {
    format!(
        "[[pool.backend]]\nname = \"{name}\"\naddr = \"{broker}\"\n\
         check = {{ http = \"http://:{}{path}\", interval = \"100ms\", fast_interval = \"50ms\" }}\n",
        health.port()
    )
}

#[track_caller]
fn visit(standfast: &Standfast, id: &str) {
    Client::id(standfast.addr("mqtt"), id).disconnect();
}

/// B02: backend with TLS + plain HTTP check works
#[test]
fn b02_a_broker_with_tls_is_checked_over_plain_http() {
    let dir = Dir::new("tls");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let made = Command::new(require!(installed("openssl")))
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .args([
            "-days",
            "2",
            "-keyout",
            &file("key.pem"),
            "-out",
            &file("cert.pem"),
        ])
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{made:?}");
    let mosquitto = Mosquitto::start(&format!(
        "certfile {}\nkeyfile {}",
        file("cert.pem"),
        file("key.pem")
    ))
    .expect("mosquitto runs");
    let health = FakeHttp::start();
    let standfast = Standfast::start(&one_pool(&format!(
        "mode = \"tcp\"\nbalance = \"round-robin\"\n{}",
        backend("b1", mosquitto.addr(), &health, READINESS)
    )));
    standfast.wait_up(&["b1"]);
    let publish = Publish {
        to: standfast.addr("mqtt"),
        id: "over-tls",
        topic: "t",
        payload: "m",
        more: &["--cafile", &file("cert.pem"), "-q", "1"],
    };
    publish
        .run()
        .expect("the broker's certificate, its CONNACK and its PUBACK");
    let _ = mosquitto.log_line("as over-tls");
    health.status(503);
    standfast.wait_state("b1", "not-ready|down", s(5));
}

/// B03: six bodies: UP, UNKNOWN, DEGRADED, DEGRADED_SERVICE get traffic; DOWN, OUT_OF_SERVICE do not
#[test]
fn b03_the_six_statuses_are_routed_by_their_codes() {
    const STATUSES: [(&str, u16); 6] = [
        ("UP", 200),
        ("UNKNOWN", 200),
        ("DEGRADED", 200),
        ("DEGRADED_SERVICE", 200),
        ("DOWN", 503),
        ("OUT_OF_SERVICE", 503),
    ];
    let brokers = FakeBroker::several::<6>();
    let endpoints = STATUSES.map(|(status, code)| {
        let health = FakeHttp::start();
        health
            .status(code)
            .body(format!("{{\"status\":\"{status}\"}}"));
        health
    });
    let mut lines = String::from("balance = \"round-robin\"\n");
    for (place, (status, _)) in STATUSES.iter().enumerate() {
        lines.push_str(&backend(
            status,
            brokers[place].addr(),
            &endpoints[place],
            READINESS,
        ));
    }
    let standfast = Standfast::start(&one_pool(&lines));
    standfast.wait_up(&["UP", "UNKNOWN", "DEGRADED", "DEGRADED_SERVICE"]);
    standfast.wait_state("DOWN", "not-ready|down", s(5));
    standfast.wait_state("OUT_OF_SERVICE", "not-ready|down", s(5));
    for number in 0..40 {
        visit(&standfast, &format!("c-{number}"));
    }
    let counts = brokers.each_ref().map(|broker| broker.count_of("c-"));
    assert_eq!(counts, [10, 10, 10, 10, 0, 0]);
}

/// B04: 200 with a body that says DOWN stays up; 200 with 10 MB or invalid JSON stays up; memory flat
#[test]
fn b04_the_body_decides_nothing_and_costs_nothing() {
    let broker = FakeBroker::start();
    let health = FakeHttp::start();
    let standfast = Standfast::start(&one_pool(&backend("b1", broker.addr(), &health, READINESS)));
    standfast.wait_up(&["b1"]);
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let large = format!(
        "{{\"status\":\"UP\",\"more\":\"{}\"}}",
        "x".repeat(10_000_000)
    );
    let mut memory = 0;
    for body in [
        r#"{"status":"DOWN"}"#,
        "{not json",
        "",
        "\u{0}\u{1}\u{2}",
        r#"{"status":17,"components":"none","new":[{}]}"#,
        &deep,
        &large,
    ] {
        health.body(body);
        let asked = health.count();
        // One that was under way, and five with this body.
        eventually(s(20), "six checks", || health.count() >= asked + 6);
        assert_eq!(standfast.status().state("b1"), "up", "{:.30}", body);
        if body.len() < 1000 {
            memory = memory.max(standfast.memory());
        }
    }
    let status = standfast.status();
    assert_eq!(status.backend("b1")["check"]["failed_total"], 0);
    let grown = standfast.memory().saturating_sub(memory);
    assert!(grown < 4_000_000, "{grown} bytes more for bodies of 10 MB");
}

/// B07: root 503 + readiness 200 → up
#[test]
fn b07_the_root_may_be_down_while_readiness_is_up() {
    let broker = FakeBroker::start();
    let health = FakeHttp::start();
    health.path("/api/v1/health/", 503, r#"{"status":"DOWN"}"#);
    health.path(READINESS, 200, r#"{"status":"UP"}"#);
    let standfast = Standfast::start(&one_pool(&backend("b1", broker.addr(), &health, READINESS)));
    standfast.wait_up(&["b1"]);
    let asked = health.count();
    eventually(s(5), "ten more checks", || health.count() >= asked + 10);
    assert_eq!(standfast.status().state("b1"), "up");
    assert!(health.requests().iter().all(|it| it.path == READINESS));
}

/// B11: components of the Control Center, the REST API and extensions, present or absent: no effect
#[test]
fn b11_unknown_components_have_no_effect() {
    let broker = FakeBroker::start();
    let health = FakeHttp::start();
    let standfast = Standfast::start(&one_pool(&backend("b1", broker.addr(), &health, READINESS)));
    let with = |more: &str| {
        format!(
            r#"{{"status":"UP","components":{{"cluster":{{"status":"UP"}},"mqtt":{{"status":"UP"}}{more}}}}}"#
        )
    };
    for more in [
        "",
        r#","control-center":{"status":"DOWN","details":{"is-enabled":false}}"#,
        r#","rest-api":{"status":"OUT_OF_SERVICE"},"extensions":{"status":"DOWN","components":{"x":{"status":"DOWN"}}}"#,
        "",
    ] {
        health.body(with(more));
        let asked = health.count();
        eventually(s(5), "five checks", || health.count() >= asked + 5);
        assert_eq!(standfast.status().state("b1"), "up", "{more}");
        visit(&standfast, "c-1");
    }
    assert_eq!(broker.count_of("c-"), 4);
}

/// B12: MQTT component DOWN → 503 → no new sessions; existing ones per on_down
#[test]
fn b12_a_broker_whose_mqtt_is_down_gets_no_new_sessions() {
    for (on_down, is_kept) in [
        ("", true),
        ("on_down = { close = \"dead\" }\n", true),
        ("on_down = { close = false }\n", true),
        ("on_down = { close = true }\n", false),
    ] {
        let [one, two] = FakeBroker::several();
        let health = FakeHttp::start();
        let other = FakeHttp::start();
        let standfast = Standfast::start(&one_pool(&format!(
            "balance = \"round-robin\"\n{on_down}{}{}",
            backend("b1", one.addr(), &health, READINESS),
            backend("b2", two.addr(), &other, READINESS),
        )));
        standfast.wait_up(&["b1", "b2"]);
        let mut held: Vec<_> = (0..4)
            .map(|n| Client::id(standfast.addr("mqtt"), &format!("held-{n}")))
            .collect();
        assert_eq!((one.live_of("held-"), two.live_of("held-")), (2, 2));
        health.status(503).body(
            r#"{"status":"OUT_OF_SERVICE","components":{"cluster":{"status":"UP"},"mqtt":{"status":"DOWN"}}}"#,
        );
        standfast.wait_state("b1", "not-ready|down", s(5));
        for number in 0..6 {
            visit(&standfast, &format!("new-{number}"));
        }
        assert_eq!((one.count_of("new-"), two.count_of("new-")), (0, 6));
        if is_kept {
            assert!(
                held.iter_mut().all(|client| client.ping().is_ok()),
                "{on_down}"
            );
        } else {
            eventually(s(5), "its sessions are closed", || {
                one.live_of("held-") == 0
            });
            standfast.wait_ends("backend-down", 2);
        }
        assert_eq!(two.live_of("held-"), 2, "{on_down}");
    }
}

/// B13: liveness that says UP does not outvote readiness
#[test]
fn b13_liveness_does_not_outvote_readiness() {
    let broker = FakeBroker::start();
    let health = FakeHttp::start();
    health.path("/api/v1/health/liveness", 200, r#"{"status":"UP"}"#);
    health.path(READINESS, 503, r#"{"status":"UP"}"#);
    let standfast = Standfast::start(&one_pool(&backend("b1", broker.addr(), &health, READINESS)));
    standfast.wait_state("b1", "not-ready|down", s(5));
    let asked = health.count();
    eventually(s(5), "ten more checks", || health.count() >= asked + 10);
    assert_ne!(standfast.status().state("b1"), "up");
}

/// B14: each node's endpoint is requested, at the node's own address
#[test]
fn b14_every_node_is_asked_itself() {
    let health_port = standfast_tests::ports::free();
    let mqtt_port = standfast_tests::ports::free();
    let ips = [1, 2, 3].map(|last| Ipv4Addr::new(127, 0, 7, last));
    let brokers = ips.map(|ip| FakeBroker::at((ip, mqtt_port).into()));
    let endpoints = ips.map(|ip| FakeHttp::at((ip, health_port).into()));
    let standfast = Standfast::start(&one_pool(&format!(
        "check = {{ http = \"http://:{health_port}{READINESS}\", interval = \"100ms\" }}\n{}",
        backends(&brokers)
    )));
    standfast.wait_up(&["b1", "b2", "b3"]);
    for (health, ip) in endpoints.iter().zip(ips) {
        let requests = health.requests();
        assert!(!requests.is_empty(), "{ip} was not asked");
        let host = format!("{ip}:{health_port}");
        assert!(requests.iter().all(|it| it.headers["host"] == host));
    }
    // What one says is said of itself alone.
    endpoints[1].status(503);
    standfast.wait_state("b2", "not-ready|down", s(5));
    assert_eq!(standfast.status().state("b1"), "up");
    assert_eq!(standfast.status().state("b3"), "up");
}
