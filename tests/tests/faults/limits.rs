//! Limits and names: a CONNECT that is too large, a server that has no address yet.

use std::net::Ipv4Addr;

use standfast_tests::prelude::*;

/// F10: HAProxy refuses a CONNECT of 16 kB; standfast takes it
///
/// As a password, which is where tokens go. Up to `max_connect_packet`: 128 KiB unless set.
#[test]
fn f10_a_large_connect_passes() {
    let [behind_haproxy, behind_standfast] = FakeBroker::several();
    let port = standfast_tests::ports::free();
    let lines = standfast_tests::simple::HAPROXY_MQTT_ONLY;
    let config = haproxy_listen(port, lines, &[behind_haproxy.addr()], "");
    let _haproxy = require!(Haproxy::start(&config));
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\n{}",
        backends([&behind_standfast])
    )));
    let token = |length: usize| Connect::v311("jwt").login("user", &vec![b't'; length]);
    // That it refuses nobody else.
    Client::connect(([127, 0, 0, 1], port).into(), &token(15_000)).expect("this it takes");
    for length in [16_000, 20_000, 60_000] {
        let mut theirs = Client::open(([127, 0, 0, 1], port).into()).expect("it listens");
        let _ = theirs.send(&token(length).bytes());
        theirs.ending(s(5)).expect("HAProxy closes");

        let mut client = Client::connect(standfast.addr("mqtt"), &token(length)).expect("accepted");
        client.ping().expect("it works");
        let visit = behind_standfast.visits().pop().expect("it was there");
        assert!(
            visit.first == token(length).bytes(),
            "the bytes are the client's"
        );
    }
    assert_eq!(behind_haproxy.visits().len(), 1);
    // A real broker takes it too.
    let mosquitto = Mosquitto::start("").expect("mosquitto runs");
    let real = Standfast::start(&one_pool(&format!(
        "check = false\n{}",
        backends_at([mosquitto.addr()])
    )));
    Client::connect(real.addr("mqtt"), &token(20_000)).expect("accepted");
}

/// F11: HAProxy leaves an unresolvable server in maintenance; standfast takes it in when its name resolves
///
/// Both start while the name server is dead; then it comes alive. HAProxy has the line of document A.
#[test]
fn f11_a_server_without_an_address_is_taken_in_later() {
    require!(root);
    let host = require!(Host::new("late-dns"));
    let dns = require!(FakeDns::start_on(&host));
    dns.dead(true);
    let port = standfast_tests::ports::free();
    let _broker = host.inside(|| FakeBroker::at((Ipv4Addr::LOCALHOST, port).into()));
    let front = standfast_tests::ports::free();
    let config = format!(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n\
         listen l\n  bind 127.0.0.1:{front}\n  default-server init-addr last,libc,none check inter 100 rise 1\n  \
         server s1 mq1.plant.example:{port}"
    );
    let haproxy = require!(Haproxy::start_on(&host, &config));
    let standfast = Standfast::start_on(
        &host,
        &one_pool(&format!(
            "check = {{ tcp = true, interval = \"200ms\" }}\nresolve = {{ every = \"300ms\" }}\n\
             backends = [{{ name = \"b1\", addr = \"mq1.plant.example:{port}\" }}]"
        )),
    );
    let theirs = || haproxy.stat("l", "s1", "status").expect("it answers");
    assert!(theirs().starts_with("MAINT"), "{}", theirs());
    assert_eq!(standfast.status().state("b1"), "unresolved");

    dns.set("mq1.plant.example", Ipv4Addr::LOCALHOST);
    dns.dead(false);
    standfast.wait_state("b1", "up", s(20));
    let to = standfast.addr("mqtt");
    host.inside(|| Client::id(to, "served")).disconnect();
    holds(s(2), "HAProxy never asks again", || {
        theirs().starts_with("MAINT")
    });
}
