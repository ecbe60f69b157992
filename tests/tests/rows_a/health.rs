//! Health checks over HTTP: what is asked, where, how often, and what the answer means.

use standfast_tests::prelude::*;
use standfast_tests::standfast::command;

use super::{one_pool, visit};

const READINESS: &str = "/api/v1/health/readiness";
const LIVENESS: &str = "/api/v1/health/liveness";

/// One broker `b1`, checked at this path of this health endpoint.
fn checked(broker: &FakeBroker, health: &FakeHttp, path: &str, more: &str) -> Standfast {
    Standfast::start(&one_pool(&format!(
        "check = {{ http = \"http://:{}{path}\", {more} }}\n{}",
        health.port(),
        backends([broker])
    )))
}

const QUICK: &str = "interval = \"100ms\", fast_interval = \"50ms\"";

/// A03: liveness 200 + readiness 503 → down when readiness is configured
#[test]
fn a03_a_live_broker_that_is_not_ready_is_down() {
    let broker = FakeBroker::start();
    let health = FakeHttp::start();
    health.path(LIVENESS, 200, r#"{"status":"UP"}"#);
    health.path(READINESS, 503, r#"{"status":"DOWN"}"#);
    let by_readiness = checked(&broker, &health, READINESS, QUICK);
    by_readiness.wait_state("b1", "not-ready|down", s(5));
    let by_liveness = checked(&broker, &health, LIVENESS, QUICK);
    by_liveness.wait_up(&["b1"]);
    holds(s(1), "readiness keeps it out", || {
        by_readiness.status().state("b1") != "up"
    });
}

/// A04: status flips 200 → 503 → 200 are followed in both directions
#[test]
fn a04_readiness_is_followed_down_and_up() {
    let broker = FakeBroker::start();
    let health = FakeHttp::start();
    let standfast = checked(&broker, &health, READINESS, QUICK);
    for _ in 0..2 {
        health.status(200);
        standfast.wait_state("b1", "up", s(5));
        health.status(503);
        standfast.wait_state("b1", "not-ready|down", s(5));
    }
    health.status(200);
    standfast.wait_up(&["b1"]);
    visit(&standfast, "c-1");
    assert_eq!(broker.count_of("c-"), 1);
}

/// A05: the check hits only the health port, traffic only the MQTT port; kill only the HTTP listener → down
#[test]
fn a05_checks_and_traffic_keep_to_their_ports() {
    let broker = FakeBroker::start();
    let mut health = FakeHttp::start();
    let standfast = checked(&broker, &health, READINESS, QUICK);
    standfast.wait_up(&["b1"]);
    let asked = health.count();
    eventually(s(5), "ten more checks", || health.count() >= asked + 10);
    assert_eq!(
        broker.contacts().len(),
        0,
        "no check comes to the MQTT port"
    );
    for number in 0..5 {
        visit(&standfast, &format!("c-{number}"));
    }
    assert_eq!(broker.contacts().len(), 5);
    let requests = health.requests();
    assert!(
        requests.iter().all(|it| it.path == READINESS),
        "{requests:?}"
    );
    health.stop();
    standfast.wait_state("b1", "down|not-ready", s(5));
    assert!(Client::open(broker.addr()).is_ok(), "MQTT still listens");
}

/// A06: the server logs exactly one GET /api/v1/health/readiness per interval, with a Host header
#[test]
fn a06_one_request_with_a_host_header_per_interval() {
    let broker = FakeBroker::start();
    let health = FakeHttp::start();
    let standfast = checked(&broker, &health, READINESS, "interval = \"400ms\"");
    standfast.wait_up(&["b1"]);
    // The first checks of an unsettled backend may come faster.
    health.forget();
    eventually(s(10), "six checks", || health.count() >= 6);
    let requests = health.requests();
    for pair in requests.windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!(gap > ms(300) && gap < ms(600), "{gap:?}");
    }
    for request in &requests {
        assert_eq!(request.method, "GET");
        assert_eq!(request.path, READINESS);
        assert_eq!(request.version, "HTTP/1.1");
        assert_eq!(request.headers["host"], health.addr().to_string());
    }
}

/// A06: … — method, path, headers and Host are as configured.
#[test]
fn a06_method_headers_and_host_are_configurable() {
    let broker = FakeBroker::start();
    let health = FakeHttp::start();
    let more = format!(
        "{QUICK}, method = \"HEAD\", host = \"broker.example\", headers = {{ \"X-Check\" = \"yes\" }}"
    );
    let standfast = checked(&broker, &health, "/ready?full=1", &more);
    standfast.wait_up(&["b1"]);
    let request = health.requests().remove(0);
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("HEAD", "/ready?full=1")
    );
    assert_eq!(request.headers["host"], "broker.example");
    assert_eq!(request.headers["x-check"], "yes");
}

/// A07: a table of codes 200 … 599 judged as HAProxy judges it; a 301 to a dead URL is still up
#[test]
fn a07_status_codes_are_judged_as_haproxy_judges_them() {
    const CODES: [u16; 30] = [
        200, 201, 202, 203, 204, 206, 226, 299, 300, 301, 302, 303, 304, 307, 308, 399, 400, 401,
        403, 404, 410, 418, 429, 451, 499, 500, 501, 502, 503, 599,
    ];
    let broker = FakeBroker::start();
    // Nothing listens on port 1: whoever follows the redirect finds a dead URL.
    let endpoints = CODES.map(|code| {
        let health = FakeHttp::start();
        health.status(code).body("");
        health.headers(&[("Location", "http://127.0.0.1:1/")]);
        health
    });
    let mut config = String::from(
        "backend b\n  mode tcp\n  timeout connect 1s\n  timeout server 1s\n  option httpchk\n  \
         http-check send meth GET uri /api/v1/health/readiness\n",
    );
    let mut lines = String::from("check = { interval = \"200ms\", http = \"http://:1/\" }\n");
    for (code, health) in CODES.iter().zip(&endpoints) {
        config.push_str(&format!(
            "  server s{code} {} check port {} inter 200ms rise 1 fall 1\n",
            broker.addr(),
            health.port()
        ));
        lines.push_str(&format!(
            "[[pool.backend]]\nname = \"s{code}\"\naddr = \"{}\"\n\
             check = {{ http = \"http://:{}{READINESS}\" }}\n",
            broker.addr(),
            health.port()
        ));
    }
    let haproxy = Haproxy::start(&config).expect("haproxy runs");
    let theirs = CODES.map(|code| {
        let name = format!("s{code}");
        within(
            s(10),
            &format!("haproxy's check of {name}"),
            || match haproxy.stat("b", &name, "check_status").ok()?.as_str() {
                "L7OK" => Some(true),
                "L7STS" => Some(false),
                _ => None,
            },
        )
    });
    let standfast = Standfast::start(&one_pool(&lines));
    let ours = CODES.map(|code| {
        let name = format!("s{code}");
        within(s(10), &format!("our check of {name}"), || {
            match standfast.status().state(&name).as_str() {
                "up" => Some(true),
                "down" | "not-ready" => Some(false),
                _ => None,
            }
        })
    });
    let judged = |verdicts: [bool; 30]| CODES.into_iter().zip(verdicts).collect::<Vec<_>>();
    assert_eq!(judged(ours), judged(theirs));
    assert!(judged(ours).contains(&(301, true)));
    assert!(judged(ours).contains(&(404, false)));
}

/// A08: requests counted over time match the interval; the state changes exactly at the third failure and the second
/// success
#[test]
fn a08_the_third_failure_and_the_second_success_decide() {
    let broker = FakeBroker::start();
    let health = FakeHttp::start();
    let interval = ms(700);
    let standfast = checked(
        &broker,
        &health,
        READINESS,
        "interval = \"700ms\", fast_interval = \"700ms\", fall = 3, rise = 2",
    );
    standfast.wait_up(&["b1"]);
    // Over five intervals as many checks, from just after one to just after another.
    health.forget();
    eventually(s(5), "a check", || health.count() == 1);
    let start = Instant::now();
    eventually(s(10), "five more", || health.count() == 6);
    let took = start.elapsed();
    assert!(
        took > interval * 5 - ms(250) && took < interval * 5 + ms(250),
        "{took:?}"
    );

    let decided = |status: u16, needed: usize, before: &str, after: &str| {
        health.status(status).forget();
        for count in 1..needed {
            eventually(s(5), "a check", || health.count() == count);
            // The answer has been judged long before the next check: ask until shortly before that.
            holds(interval / 2, "not decided yet", || {
                before.contains(&standfast.status().state("b1"))
            });
            assert_eq!(health.count(), count, "the test itself was too slow");
        }
        eventually(s(5), "the deciding check", || health.count() == needed);
        standfast.wait_state("b1", after, interval / 2);
    };
    decided(503, 3, "up", "not-ready|down");
    decided(200, 2, "not-ready|down", "up");
}

/// A08: … — and the defaults are HAProxy's: every 2 s, down at the third failure, up at the second success.
#[test]
fn a08_the_defaults_are_two_seconds_three_and_two() {
    let broker = FakeBroker::start();
    let health = FakeHttp::start();
    let standfast = Standfast::start(&one_pool(&format!(
        "check = {{ http = \"http://:{}/\" }}\n{}",
        health.port(),
        backends([&broker])
    )));
    let file = standfast.config().display().to_string();
    let shown = command(&["config", "show", "--effective", "--config", &file]).ok();
    let config: toml::Table = shown.stdout.parse().expect("TOML");
    let pool = &config["pool"][0];
    // Written with the pool, or with its backend, whose own keys lie over the pool's.
    let check = pool
        .get("check")
        .unwrap_or_else(|| &pool["backends"][0]["check"]);
    assert_eq!(check["interval"].as_str(), Some("2s"), "{check}");
    assert_eq!(check["timeout"].as_str(), Some("1s"), "{check}");
    assert_eq!(check["fall"].as_integer(), Some(3), "{check}");
    assert_eq!(check["rise"].as_integer(), Some(2), "{check}");
    standfast.wait_up(&["b1"]);
    health.forget();
    eventually(s(7), "three checks", || health.count() == 3);
    let requests = health.requests();
    let gap = requests[2].at - requests[1].at;
    assert!(gap > ms(1700) && gap < ms(2300), "{gap:?}");
}
