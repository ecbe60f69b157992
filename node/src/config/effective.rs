//! A configuration with every value that holds, as TOML that loads to the same configuration, and as JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::model::{
    AccessFormat, AtStart, Backend, Balance, Check, CheckKind, CloseWhen, Config, ControlLevel,
    ControlSocket, Key, Level, Listener, Log, LogFormat, Mode, MqttLevel, Over, Pool, Profile,
    Proxy, ProxyVersion, Then,
};
use super::value::{
    show_addr, show_duration, show_facility, show_hex, show_rate, show_size, show_target,
};

/// Every key with the value that holds, in one spelling, commented. Loading it gives an equal configuration.
/// What is not set (no limit, no header) stands as a comment.
#[must_use]
pub fn to_toml(config: &Config) -> String {
    let mut out = String::from("# Every value that holds, defaults included.\n");
    let tree = to_json(config);
    for (key, value) in tree.as_object().into_iter().flatten() {
        match value {
            Value::Array(tables) => tables
                .iter()
                .for_each(|table| section(&mut out, key, table, true)),
            table => section(&mut out, key, table, false),
        }
    }
    out
}

/// The same keys and values as [`to_toml`]; what is not set is `null`.
#[must_use]
pub fn to_json(config: &Config) -> Value {
    tree(config, &|_| false)
}

/// [`to_json`], where the pools that `split` names have their check at each backend even if all share one.
pub(super) fn tree(config: &Config, split: &dyn Fn(&Pool) -> bool) -> Value {
    json!({
        "node": {
            "name": config.node.name,
            "state_dir": config.node.state_dir.display().to_string(),
            "threads": config.node.threads,
            "restart_grace": show_duration(config.node.restart_grace),
        },
        "limits": {
            "connections": config.limits.connections,
            "greeting_memory": show_size(config.limits.greeting_memory),
            "relay_memory": show_size(config.limits.relay_memory),
        },
        "log": log(&config.log),
        "control": config.control.iter().map(control).collect::<Vec<_>>(),
        "listener": config.listeners.iter().map(|l| listener(l, config)).collect::<Vec<_>>(),
        "pool": config.pools.iter().map(|p| pool(p, split(p))).collect::<Vec<_>>(),
    })
}

/// See [`Loaded::hash`](super::Loaded::hash). FNV-1a: no secret hangs on it, and it is the same in every build.
pub(super) fn hash(config: &Config) -> String {
    let mut tree = to_json(config);
    if let Some(Value::Object(node)) = tree.get_mut("node") {
        node.remove("name");
        node.remove("threads");
    }
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = tree.to_string().bytes().fold(0xcbf2_9ce4_8422_2325, fold);
    format!("{:012x}", hash >> 16)
}

fn log(log: &Log) -> Value {
    let target = |t: &super::model::LogTarget| {
        json!({
            "target": show_target(&t.target),
            "level": level(t.level),
            "facility": show_facility(t.facility),
        })
    };
    json!({
        "format": match log.format { LogFormat::Text => "text", LogFormat::Json => "json" },
        "targets": log.targets.iter().map(target).collect::<Vec<_>>(),
        "facility": show_facility(log.access_facility),
        "access": log.access.as_ref().map_or("off".to_owned(), show_target),
        "access_format": match log.access_format {
            AccessFormat::Standfast => "standfast",
            AccessFormat::Json => "json",
            AccessFormat::HaproxyTcplog => "haproxy-tcplog",
            AccessFormat::NginxMqtt => "nginx-mqtt",
        },
        "access_connect": log.access_connect,
        "hash_client_ids": log.hash_client_ids,
    })
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Notice => "notice",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn control(socket: &ControlSocket) -> Value {
    json!({
        "socket": socket.socket.display().to_string(),
        "owner": socket.owner,
        "group": socket.group,
        "mode": format!("{:04o}", socket.mode),
        "level": match socket.level { ControlLevel::Read => "read", ControlLevel::Admin => "admin" },
    })
}

fn listener(listener: &Listener, config: &Config) -> Value {
    let cidrs = |list: &[super::model::Cidr]| match list {
        [] => Value::Null,
        list => list.iter().map(ToString::to_string).collect(),
    };
    let limits = &listener.limits;
    json!({
        "name": listener.name,
        "bind": listener.bind.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "pool": config.pools.get(listener.pool).map(|p| p.name.as_str()),
        "accept_proxy": match &listener.accept_proxy {
            Some(from) => json!({ "from": cidrs(from) }),
            None => json!(false),
        },
        "allow": cidrs(&listener.allow),
        "deny": cidrs(&listener.deny),
        "connect_deadline": show_duration(listener.connect_deadline),
        "max_connect_packet": show_size(listener.max_connect_packet as u64),
        "limits": {
            "connections": limits.connections,
            "per_ip": limits.per_ip,
            "rate": limits.rate.map(show_rate),
            "over": match limits.over { Over::Wait => "wait", Over::Refuse => "refuse" },
        },
    })
}

/// Whether all backends are checked alike: then the check is written once.
pub(super) fn shares_check(pool: &Pool) -> bool {
    let first = pool.backends.first().map(|b| &b.check);
    pool.backends.iter().all(|b| Some(&b.check) == first)
}

fn pool(pool: &Pool, split: bool) -> Value {
    let first = pool.backends.first().and_then(|b| b.check.as_ref());
    let shared = !split && shares_check(pool);
    let hash_key = match pool.balance {
        Balance::ConsistentHash(k) => Some(key(k)),
        _ => None,
    };
    let mut tree = json!({
        "name": pool.name,
        "mode": match pool.mode { Mode::Mqtt => "mqtt", Mode::Tcp => "tcp" },
        "balance": balance(pool.balance),
        "key": hash_key,
    });
    let sticky = json!({
        "key": key(pool.sticky.key),
        "size": pool.sticky.size,
        "expire": show_duration(pool.sticky.expire),
        "fallback": balance(pool.sticky.fallback),
        "return_home": pool.sticky.return_home,
        "persistent_only": pool.sticky.persistent_only,
    });
    let rest = json!({
        "sticky": if pool.balance == Balance::Sticky { sticky } else { Value::Null },
        "proxy": pool.proxy.as_ref().map_or(json!(false), proxy),
        "on_down": {
            "close": match pool.on_down.close {
                CloseWhen::Dead => json!("dead"),
                CloseWhen::Always => json!(true),
                CloseWhen::Never => json!(false),
            },
            "pace": pool.on_down.pace.map(show_rate),
        },
        "timeout": {
            "connect": show_duration(pool.timeout.connect),
            "idle": pool.timeout.idle.map_or("keepalive".to_owned(), show_duration),
            "half_close": show_duration(pool.timeout.half_close),
            "user": show_duration(pool.timeout.user),
            "tcp_keepalive": show_duration(pool.timeout.tcp_keepalive),
        },
        "when_empty": {
            "wait": show_duration(pool.when_empty.wait),
            "then": match pool.when_empty.then { Then::Close => "close", Then::Refuse => "refuse" },
        },
        "slow_start": show_duration(pool.slow_start),
        "resolve": {
            "at_start": pool.resolve.at_start.iter().map(|way| match way {
                AtStart::Last => "last",
                AtStart::Dns => "dns",
                AtStart::None => "none",
            }).collect::<Vec<_>>(),
            "every": show_duration(pool.resolve.every),
        },
        "min_up": pool.min_up,
        "source": pool.source.map(|ip| ip.to_string()),
    });
    if let (Value::Object(tree), Value::Object(rest)) = (&mut tree, rest) {
        tree.extend(rest);
        if shared {
            tree.insert("check".into(), first.map_or(json!(false), check));
        }
        let backends = pool.backends.iter().map(|b| backend(b, !shared)).collect();
        tree.insert("backend".into(), backends);
    }
    tree
}

fn balance(balance: Balance) -> &'static str {
    match balance {
        Balance::Sticky => "sticky",
        Balance::RoundRobin => "round-robin",
        Balance::LeastConnections => "least-connections",
        Balance::Source => "source",
        Balance::ConsistentHash(_) => "consistent-hash",
    }
}

fn key(key: Key) -> &'static str {
    match key {
        Key::ClientId => "client_id",
        Key::ClientIp => "client_ip",
    }
}

fn proxy(proxy: &Proxy) -> Value {
    json!({
        "version": match proxy.version { ProxyVersion::V1 => 1, ProxyVersion::V2 => 2 },
        "profile": proxy.profile.map(|profile| match profile {
            Profile::Mosquitto => "mosquitto",
            Profile::Emqx => "emqx",
            Profile::Hivemq => "hivemq",
            Profile::Rabbitmq => "rabbitmq",
            Profile::Vernemq => "vernemq",
        }),
    })
}

fn check(check: &Check) -> Value {
    let mut tree = Map::new();
    match &check.kind {
        CheckKind::Http {
            address,
            path,
            method,
            host,
            headers,
        } => {
            let port = check
                .port
                .map(|port| format!(":{port}"))
                .unwrap_or_default();
            let host_port = match (address, check.port) {
                (Some(host), Some(port)) => show_addr(host, port),
                (Some(host), None) => host.clone(),
                (None, _) => port,
            };
            tree.insert("http".into(), json!(format!("http://{host_port}{path}")));
            tree.insert("method".into(), json!(method));
            tree.insert("host".into(), json!(host));
            let pairs: Map<_, _> = headers
                .iter()
                .map(|(name, value)| (name.clone(), json!(value)))
                .collect();
            tree.insert(
                "headers".into(),
                if pairs.is_empty() {
                    Value::Null
                } else {
                    Value::Object(pairs)
                },
            );
        }
        CheckKind::Mqtt {
            level,
            username,
            password_file,
            accept,
        } => {
            let level = match level {
                MqttLevel::V31 => "3.1",
                MqttLevel::V311 => "3.1.1",
                MqttLevel::V5 => "5",
            };
            let password_file = password_file
                .as_ref()
                .map(|path| path.display().to_string());
            let mqtt = json!({
                "level": level, "username": username, "password_file": password_file, "accept": accept,
            });
            tree.insert("mqtt".into(), mqtt);
        }
        CheckKind::Tcp => {
            tree.insert("tcp".into(), json!(true));
        }
        CheckKind::Raw { send, expect } => {
            tree.insert("send".into(), json!(show_hex(send)));
            tree.insert("expect".into(), json!(show_hex(expect)));
        }
    }
    if !matches!(check.kind, CheckKind::Http { .. }) {
        tree.insert("port".into(), json!(check.port));
    }
    tree.insert("interval".into(), json!(show_duration(check.interval)));
    tree.insert(
        "fast_interval".into(),
        json!(show_duration(check.fast_interval)),
    );
    tree.insert("timeout".into(), json!(show_duration(check.timeout)));
    tree.insert("rise".into(), json!(check.rise));
    tree.insert("fall".into(), json!(check.fall));
    Value::Object(tree)
}

fn backend(backend: &Backend, own_check: bool) -> Value {
    let mut tree = json!({
        "name": backend.name,
        "addr": show_addr(&backend.host, backend.port),
        "weight": backend.weight,
        "max_connections": backend.max_connections,
        "backup": backend.backup,
        "disabled": backend.disabled,
    });
    if let (true, Value::Object(tree)) = (own_check, &mut tree) {
        tree.insert(
            "check".into(),
            backend.check.as_ref().map_or(json!(false), check),
        );
    }
    tree
}

/// One table with its keys; lists of tables (a pool's backends) come last, as TOML wants it.
fn section(out: &mut String, header: &str, table: &Value, list: bool) {
    let (open, close) = if list { ("[[", "]]") } else { ("[", "]") };
    let _ = writeln!(out, "\n{open}{header}{close}");
    let mut inner = Vec::new();
    for (key, value) in table.as_object().into_iter().flatten() {
        match value {
            Value::Array(items) if header == "pool" && key == "backend" => inner.extend(items),
            value => lines(out, header, key, value),
        }
    }
    for item in inner {
        section(out, "pool.backend", item, true);
    }
}

/// `key = value`, with dotted keys for tables within, so that each line says all.
fn lines(out: &mut String, header: &str, key: &str, value: &Value) {
    match value {
        Value::Object(table) => {
            for (inner, value) in table {
                lines(out, header, &format!("{key}.{}", bare(inner)), value);
            }
        }
        Value::Null => {
            let _ = writeln!(out, "# {key}: {}", unset(header, key));
        }
        value => {
            let line = format!("{key} = {}", inline(value));
            match comment(header, key) {
                "" => out.push_str(&line),
                comment => {
                    let _ = write!(out, "{line:<44}  # {comment}");
                }
            }
            out.push('\n');
        }
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(inline).collect::<Vec<_>>().join(", ")
        ),
        Value::Object(table) => {
            let pairs: Vec<_> = table
                .iter()
                .map(|(k, v)| format!("{} = {}", bare(k), inline(v)))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        // Numbers and booleans look the same in both languages; null is written by nobody inside a list.
        other => other.to_string(),
    }
}

fn bare(key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !key.is_empty() && key.bytes().all(plain) {
        key.to_owned()
    } else {
        quote(key)
    }
}

/// A basic string of TOML.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What it means that a key is not set.
fn unset(header: &str, key: &str) -> &'static str {
    match (header, key) {
        ("limits", "connections") => "from the file-descriptor limit",
        ("control", _) => "left as it is",
        ("listener", "allow") => "all",
        ("listener", "deny") | ("pool", "proxy.profile") => "none",
        ("pool", "on_down.pace") => "all at once",
        ("pool", "source") => "the system chooses",
        ("pool", "key") => "only for consistent-hash",
        ("pool", "sticky") => "only for balance = \"sticky\"",
        (_, "check.port") => "the backend's own",
        (_, "check.host") => "the address that is asked",
        (_, key) if key.starts_with("check.") => "none",
        _ => "no limit",
    }
}

fn comment(header: &str, key: &str) -> &'static str {
    match (header, key) {
        ("node", "restart_grace") => "a crashed worker may take this long to be back",
        ("limits", "greeting_memory") => "held by all connections that are not routed yet",
        ("limits", "relay_memory") => "held for all readers that stall",
        ("log", "facility") => "of connection lines that go to syslog",
        ("log", "access") => "connection lines",
        ("listener", "accept_proxy") => "no PROXY header is expected",
        ("listener", "connect_deadline") => "for the whole CONNECT",
        ("pool", "sticky.size") => "entries",
        ("pool", "sticky.expire") => "from the end of the last connection",
        ("pool", "sticky.fallback") => "for a first visit",
        ("pool", "proxy") => "no PROXY header is sent",
        ("pool", "timeout.idle") => "\"keepalive\" is 1.5 times what the client asked for",
        ("pool", "timeout.user") => "TCP_USER_TIMEOUT to backends",
        ("pool", "when_empty.wait") => "for a backend to come up",
        ("pool", "min_up") => "fewer make the pool's health DOWN",
        (_, "check.rise") => "successes in a row",
        (_, "check.fall") => "failures in a row",
        (_, "check.fast_interval") => "after a failure, until settled",
        ("pool.backend", "backup") => "used only when no other is up",
        _ => "",
    }
}
