//! What configurations mean: defaults, ways of writing, merging, hash, difference.

use std::time::Duration;

use super::*;

#[test]
fn every_example_loads_without_a_single_problem() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of examples") {
        let path = entry.expect("an entry").path();
        let loaded = load(&path, &Overrides::default()).unwrap_or_else(|p| panic!("{p}"));
        assert!(loaded.warnings.is_empty(), "{}", Problems(loaded.warnings));
        assert_eq!(config(&to_toml(&loaded.config)), loaded.config);
        seen += 1;
    }
    assert!(seen >= 6);
}

/// HAProxy's limits as the reference has them: more clients than entries, which is worth a warning.
const HIVEMQ: &str = r#"
log    = { target = "stdout", level = "info" }
control = { socket = "/run/standfast/api.sock", owner = "standfast", group = "standfast", mode = "0660", level = "admin" }

[[listener]]
bind = ":1883"
pool = "mqtt"
limits = { connections = 1024000 }

[[pool]]
name     = "mqtt"
balance  = "sticky"
sticky   = { key = "client_id", size = 102400, expire = "30m" }
timeout  = { connect = "30s", idle = "600s" }
resolve  = { at_start = ["last", "dns", "none"], every = "10s" }
check    = { http = "http://:8889/api/v1/health/readiness" }
backends = ["HMQ-node1:1883", "HMQ-node2:1883", "HMQ-node3:1883"]
"#;

#[test]
fn the_reference_of_hivemq_is_read_as_written() {
    let loaded = load_text(HIVEMQ).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].path, "pool[0].sticky.size");
    let c = loaded.config;
    assert_eq!(c.listeners[0].limits.connections, Some(1_024_000));
    assert_eq!(c.control[0].mode, 0o660);
    let p = &c.pools[0];
    assert_eq!(
        (p.sticky.size, p.timeout.idle),
        (102_400, Some(Duration::from_secs(600)))
    );
    let check = p.backends[2].check.as_ref().expect("a check");
    assert_eq!(check.port, Some(8889));
    assert!(
        matches!(&check.kind, CheckKind::Http { path, address: None, .. } if path.ends_with("/readiness"))
    );
}

#[test]
fn the_example_of_all_keys_names_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/all-keys.toml");
    let text = std::fs::read_to_string(path).expect("the example");
    for key in keys::ALL {
        let last = key.rsplit('.').next().unwrap_or(key);
        // The list is written as [[pool.backend]] there, and a password file would have to exist.
        let elsewhere = ["backends", "password_file"].contains(&last) || *key == "log.target";
        assert!(elsewhere || text.contains(last), "{key}");
    }
}

#[test]
fn a_minimal_file_has_the_documented_defaults() {
    let c = config(BASE);
    assert_eq!((c.node.name.as_str(), c.node.threads), ("localhost", 1));
    assert_eq!(c.node.state_dir, Path::new("/var/lib/standfast"));
    assert_eq!(
        (c.limits.greeting_memory, c.limits.relay_memory),
        (64 << 20, 256 << 20)
    );
    assert_eq!(c.limits.connections, None);
    assert_eq!(c.log.targets.len(), 1);
    assert_eq!(
        (c.log.targets[0].target.clone(), c.log.targets[0].level),
        (Target::Stderr, Level::Info)
    );
    assert_eq!(c.log.access, Some(Target::Stdout));
    assert_eq!(c.control.len(), 1);
    assert_eq!(
        c.control[0].socket,
        Path::new("/run/standfast/control.sock")
    );
    assert_eq!(
        (c.control[0].mode, c.control[0].level),
        (0o600, ControlLevel::Admin)
    );
    let l = &c.listeners[0];
    assert_eq!(
        (l.name.as_str(), l.bind[0]),
        (
            ":1883",
            Bind {
                ip: None,
                port: 1883
            }
        )
    );
    assert_eq!(
        (l.connect_deadline, l.max_connect_packet),
        (Duration::from_secs(10), 131_072)
    );
    let p = &c.pools[0];
    assert_eq!(
        (p.mode, p.balance, p.min_up),
        (Mode::Mqtt, Balance::Sticky, 1)
    );
    assert_eq!((p.sticky.key, p.sticky.size), (Key::ClientId, 100_000));
    assert_eq!(
        (p.sticky.expire, p.sticky.return_home),
        (Duration::from_secs(1800), true)
    );
    assert_eq!(p.sticky.fallback, Balance::LeastConnections);
    assert_eq!(
        (p.proxy, p.source, p.slow_start),
        (None, None, Duration::ZERO)
    );
    assert_eq!(
        p.on_down,
        OnDown {
            close: CloseWhen::Dead,
            pace: None
        }
    );
    assert_eq!(
        (p.timeout.connect, p.timeout.idle),
        (Duration::from_secs(1), None)
    );
    assert_eq!(
        p.when_empty,
        WhenEmpty {
            wait: Duration::from_secs(5),
            then: Then::Close
        }
    );
    assert_eq!(
        p.resolve.at_start,
        [AtStart::Last, AtStart::Dns, AtStart::None]
    );
    let b = &p.backends[0];
    assert_eq!(
        (b.name.as_str(), b.host.as_str(), b.port, b.weight),
        ("10.0.0.1:1883", "10.0.0.1", 1883, 1)
    );
    let check = b.check.as_ref().expect("a check");
    let mqtt = CheckKind::Mqtt {
        level: MqttLevel::V311,
        username: None,
        password_file: None,
        accept: vec![0],
    };
    assert_eq!(check.kind, mqtt);
    assert_eq!(
        (check.interval, check.fast_interval),
        (Duration::from_secs(2), Duration::from_millis(100))
    );
    assert_eq!(
        (check.timeout, check.rise, check.fall, check.port),
        (Duration::from_secs(1), 2, 3, None)
    );
}

#[test]
fn a_pool_of_bytes_defaults_to_addresses_and_open_ports() {
    let c = config(&with_pool("mode = \"tcp\""));
    assert_eq!(c.pools[0].sticky.key, Key::ClientIp);
    assert_eq!(
        c.pools[0].backends[0].check.as_ref().expect("a check").kind,
        CheckKind::Tcp
    );
    let c = config(&with_pool("mode = \"tcp\"\nbalance = \"consistent-hash\""));
    assert_eq!(c.pools[0].balance, Balance::ConsistentHash(Key::ClientIp));
}

#[test]
fn short_and_long_ways_of_writing_mean_the_same() {
    for (short, long) in [
        ("sticky = \"client_ip\"", "sticky = { key = \"client_ip\" }"),
        ("proxy = \"emqx\"", "proxy = { profile = \"emqx\" }"),
        ("on_down = true", "[pool.on_down]\nclose = true"),
        (
            "check = \"http://:80/x\"",
            "check = { http = \"http:///x\", port = 80 }",
        ),
        (
            "check = { mqtt = true }",
            "check = { mqtt = { level = \"3.1.1\", accept = [0] } }",
        ),
        (
            "resolve = { at_start = \"dns\" }",
            "resolve = { at_start = [\"dns\"] }",
        ),
        ("slow_start = \"1h30m\"", "slow_start = \"90m\""),
        (
            "sticky = { size = \"200k\" }",
            "sticky = { size = 200_000 }",
        ),
    ] {
        assert_eq!(
            config(&with_pool(short)),
            config(&with_pool(long)),
            "{short}"
        );
    }
    let backends = |text: &str| {
        config(&BASE.replace("backends = [\"10.0.0.1:1883\", \"10.0.0.2:1883\"]", text))
    };
    let long = backends("[[pool.backend]]\naddr = \"a:1\"\n[[pool.backend]]\naddr = \"[::1]:2\"");
    assert_eq!(
        backends("backends = [\"a:1\", { addr = \"[::1]:2\" }]"),
        long
    );
    assert_eq!(long.pools[0].backends[1].host, "::1");
    assert_eq!(
        config(&with_listener("accept_proxy = \"10.0.0.0/8\"")),
        config(&with_listener("accept_proxy = { from = [\"10.0.0.0/8\"] }"))
    );
    assert_eq!(
        config(&format!("control = \"/s\"\n{BASE}")),
        config(&format!(
            "{BASE}[[control]]\nsocket = \"/s\"\nmode = \"0600\""
        ))
    );
}

#[test]
fn a_backend_lays_its_own_check_over_the_pools() {
    let c = config(&with_pool(
        "backend = [{ addr = \"a:1\", check = { port = 9 } }, { addr = \"b:1\", check = { tcp = true, fall = 9 } },\n\
         { addr = \"c:1\", check = false }, { addr = \"d:1\", check = { headers = { A = \"b\" } } }]\n\
         check = { http = \"http://:8/x\", method = \"HEAD\", rise = 7 }",
    ));
    let check = |i: usize| c.pools[0].backends[i].check.clone();
    let pools = check(0).expect("the pool's");
    let with_port = check(2).expect("a check");
    assert_eq!(
        (pools.port, with_port.port, with_port.rise),
        (Some(8), Some(9), 7)
    );
    assert_eq!(with_port.kind, pools.kind);
    let tcp = check(3).expect("a check");
    assert_eq!(
        (tcp.kind, tcp.port, tcp.rise, tcp.fall),
        (CheckKind::Tcp, None, 7, 9)
    );
    assert_eq!(check(4), None);
    let Some(CheckKind::Http {
        method, headers, ..
    }) = check(5).map(|c| c.kind)
    else {
        panic!()
    };
    assert_eq!((method.as_str(), headers.len()), ("HEAD", 1));
}

#[test]
fn a_url_with_a_host_asks_that_host() {
    let c = config(&with_pool("check = \"http://health.example.com/x?y=1\""));
    let check = c.pools[0].backends[0].check.clone().expect("a check");
    let CheckKind::Http { address, path, .. } = check.kind else {
        panic!()
    };
    assert_eq!(
        (address.as_deref(), path.as_str()),
        (Some("health.example.com"), "/x?y=1")
    );
    assert_eq!(check.port, Some(80));
}

#[test]
fn profiles_set_what_their_broker_takes() {
    let proxy = |text: &str| {
        config(&with_pool(&format!("proxy = {text}"))).pools[0]
            .proxy
            .expect("a proxy")
    };
    for (text, crc32c, local_checks) in [
        ("{ version = 2 }", false, false),
        ("\"mosquitto\"", false, false),
        ("\"rabbitmq\"", true, false),
        ("\"emqx\"", false, true),
        ("\"hivemq\"", false, true),
        ("\"vernemq\"", false, true),
        ("{ profile = \"emqx\", version = 1 }", false, false),
        ("{ profile = \"rabbitmq\", version = 1 }", false, false),
    ] {
        let p = proxy(text);
        assert_eq!(
            (p.crc32c, p.local_checks, p.max_tlv_bytes),
            (crc32c, local_checks, 500),
            "{text}"
        );
    }
    assert_eq!(proxy("{ version = 1 }").version, ProxyVersion::V1);
}

#[test]
fn log_targets_inherit_level_and_facility() {
    let c = config(&format!(
        "{BASE}[log]\nlevel = \"warning\"\nfacility = \"local3\"\nformat = \"json\"\naccess = \"off\"\n\
         targets = [\"syslog\", {{ target = \"syslog://[::1]:99\", level = \"debug\", facility = \"user\" }}]"
    ));
    let first = LogTarget {
        target: Target::Syslog,
        level: Level::Warn,
        facility: Facility(19),
    };
    let udp = Target::SyslogUdp {
        host: "::1".into(),
        port: 99,
    };
    let second = LogTarget {
        target: udp,
        level: Level::Debug,
        facility: Facility(1),
    };
    assert_eq!(c.log.targets, [first, second]);
    assert_eq!((c.log.access, c.log.access_facility), (None, Facility(19)));
    assert_eq!(c.log.access_format, AccessFormat::Json);
}

#[test]
fn the_name_given_at_the_start_wins_with_a_warning() {
    let text = format!("{BASE}[node]\nname = \"lb1\"\n");
    assert_eq!(config(&text).node.name, "lb1");
    let overrides = Overrides {
        node: Some("lb2".into()),
        ..Overrides::default()
    };
    let loaded = load_sources(&Sources::of_text("t", text), &overrides).expect("a warning only");
    assert_eq!(
        (loaded.config.node.name.as_str(), loaded.warnings.len()),
        ("lb2", 1)
    );
}

#[test]
fn the_hash_is_of_values_not_of_words_and_not_of_the_node() {
    let hash = |text: &str| load_text(text).expect("fine").hash;
    assert_eq!(
        hash(BASE),
        hash(&format!("# a comment\n{}", with_pool("mode = \"mqtt\"")))
    );
    assert_ne!(hash(BASE), hash(&with_pool("min_up = 2")));
    let other = Overrides {
        node: Some("lb2".into()),
        host_name: "h".into(),
        cores: 9,
    };
    let there = load_sources(&Sources::of_text("x", BASE), &other)
        .expect("fine")
        .hash;
    assert_eq!(hash(BASE), there);
    assert_eq!(there.len(), 12);
}

#[track_caller]
fn changes(old: &str, new: &str, expected: &[&str]) {
    let lines: Vec<_> = diff(&config(old), &config(new))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(lines, expected);
}

#[test]
fn a_reload_tells_what_changes_in_lines() {
    changes(BASE, BASE, &[]);
    changes(
        BASE,
        &with_listener("connect_deadline = \"5s\""),
        &["listener :1883: connect_deadline 10s → 5s"],
    );
    changes(
        BASE,
        &with_pool("[[pool.backend]]\nname = \"mq4\"\naddr = \"10.0.0.14:1883\""),
        &["pool mqtt: backend mq4 10.0.0.14:1883 added"],
    );
    changes(
        &with_pool("backend = [\"a:1\"]"),
        BASE,
        &["pool mqtt: backend a:1 removed"],
    );
    changes(
        &with_pool("timeout = { idle = \"600s\" }"),
        &with_pool("check = false"),
        &[
            "pool mqtt: timeout.idle 10m → keepalive",
            "pool mqtt: check none → false",
            "pool mqtt: check.mqtt.level 3.1.1 → none",
            "pool mqtt: check.mqtt.accept [0] → none",
            "pool mqtt: check.interval 2s → none",
            "pool mqtt: check.fast_interval 100ms → none",
            "pool mqtt: check.timeout 1s → none",
            "pool mqtt: check.rise 2 → none",
            "pool mqtt: check.fall 3 → none",
        ],
    );
    changes(
        BASE,
        &format!("{BASE}[node]\nthreads = 2\nrestart_grace = \"1s\""),
        &[
            "node: threads 1 → 2 (after a restart)",
            "node: restart_grace 200ms → 1s",
        ],
    );
    changes(
        BASE,
        &BASE.replace(
            "\"10.0.0.1:1883\", \"10.0.0.2:1883\"",
            "\"10.0.0.2:1883\", \"10.0.0.1:1883\"",
        ),
        &["pool mqtt: backends are in another order: 10.0.0.2:1883, 10.0.0.1:1883"],
    );
    changes(
        &with_pool("backend = [{ name = \"c\", addr = \"c:1\" }]"),
        &with_pool(
            "backend = [{ name = \"c\", addr = \"c:1\", weight = 3, check = { fall = 9 } }]",
        ),
        &[
            "pool mqtt: backend c weight 1 → 3",
            "pool mqtt: backend c check.fall 3 → 9",
        ],
    );
    changes(
        BASE,
        &BASE.replace("\"mqtt\"", "\"m\""),
        &[
            "listener :1883: pool mqtt → m",
            "pool mqtt: removed",
            "pool m: added",
        ],
    );
}
