//! One `[[pool]]` with its backends.

use std::net::IpAddr;
use std::time::Duration;

use toml::de::DeValue;

use super::check::{self, Written};
use crate::config::draft::{BackendAt, Draft, PoolDraft};
use crate::config::model::{
    AtStart, Backend, Balance, CloseWhen, Key, Mode, OnDown, Pool, Profile, Proxy, ProxyVersion,
    Resolve, Sticky, Then, Timeouts, WhenEmpty,
};
use crate::config::problem::{At, Sink};
use crate::config::reader::{Item, Read, Table, boolean, choice, number32, one_of, text};
use crate::config::value::{self, accepts};

const KEYS: [(&str, Key); 2] = [("client_id", Key::ClientId), ("client_ip", Key::ClientIp)];

pub(super) fn read(mut table: Table<'_, '_>, sink: &mut Sink<'_>, draft: &mut Draft) {
    let name = table.read(sink, "name", accepts::NAME, text(value::name));
    let name_at = name.is_some().then(|| table.at_key("name"));
    if name.is_none() && table.at_key("name") == table.at {
        let help = "write name = \"mqtt\", the name that a listener's `pool` gives";
        sink.absent(&table.at, &table.path, "this pool has no `name`", help);
    }
    let mode = table
        .choose(sink, "mode", &[("mqtt", Mode::Mqtt), ("tcp", Mode::Tcp)])
        .unwrap_or(Mode::Mqtt);
    let balance = balance(&mut table, sink, mode);
    let sticky_at = table.at_key("sticky");
    let sticky_item = table.take("sticky");
    let sticky_written = sticky_item.is_some();
    let (mut sticky, size_at) = self::sticky(sticky_item, sink, mode);
    if balance != Balance::Sticky {
        // Advice tells that the table is not used; two configurations must not differ by it.
        sticky = unwritten_sticky(mode);
    }
    let pool_check = table
        .take("check")
        .and_then(|item| check::read(&item, sink, &mut draft.files));
    if let Some(written) = &pool_check {
        check::http_only(written, None, sink);
    }
    let (timeout, idle_at) = timeouts(&mut table, sink);
    let (backends, places, partial) = backends(&mut table, sink, draft, pool_check.as_ref(), mode);
    let mut pool = Pool {
        name: name.unwrap_or_default(),
        mode,
        balance,
        sticky,
        proxy: table.take("proxy").and_then(|item| proxy(&item, sink)),
        on_down: on_down(&mut table, sink),
        timeout,
        when_empty: when_empty(&mut table, sink, mode),
        slow_start: Duration::ZERO,
        resolve: resolve(&mut table, sink),
        min_up: 1,
        source: source(&mut table, sink),
        backends,
    };
    table.duration(sink, "slow_start", false, &mut pool.slow_start);
    if let Some(n) = table.read(
        sink,
        "min_up",
        "a number of backends",
        number32(0, 1_000_000),
    ) {
        pool.min_up = n;
    }
    table.later(sink, "tls", "backends are reached over plain TCP only");
    let tcp = |v: &DeValue<'_>| v.as_str() == Some("tcp");
    table.later_unless(
        sink,
        "transport",
        "backends are reached over plain TCP only",
        tcp,
    );
    table.later(sink, "admit", "new connections are not paced");
    draft.pools.push(PoolDraft {
        pool,
        path: table.path.clone(),
        at: table.at.clone(),
        name_at,
        sticky_at: size_at.unwrap_or(sticky_at),
        sticky_written,
        idle_at,
        check_at: table.at_key("check"),
        min_up_at: table.at_key("min_up"),
        backends: places,
        partial,
    });
    table.finish(sink);
}

fn balance(table: &mut Table<'_, '_>, sink: &mut Sink<'_>, mode: Mode) -> Balance {
    let default = if mode == Mode::Mqtt {
        Key::ClientId
    } else {
        Key::ClientIp
    };
    let words = [
        ("sticky", Balance::Sticky),
        ("round-robin", Balance::RoundRobin),
        ("least-connections", Balance::LeastConnections),
        ("source", Balance::Source),
        ("consistent-hash", Balance::ConsistentHash(default)),
    ];
    let balance = table
        .choose(sink, "balance", &words)
        .unwrap_or(Balance::Sticky);
    let Some(item) = table.take("key") else {
        return balance;
    };
    let key = key(&item, sink, mode, false);
    match balance {
        Balance::ConsistentHash(_) => Balance::ConsistentHash(key.unwrap_or(default)),
        Balance::Sticky => {
            let message = "`key` belongs to balance = \"consistent-hash\"";
            sink.error(
                &item.key_at,
                &item.path,
                message,
                "for stickiness write sticky = { key = … }",
            );
            balance
        }
        _ => {
            let message = "`key` belongs to balance = \"consistent-hash\"";
            sink.error(
                &item.key_at,
                &item.path,
                message,
                "remove the key, or write that balance",
            );
            balance
        }
    }
}

fn key(item: &Item<'_, '_>, sink: &mut Sink<'_>, mode: Mode, sticky: bool) -> Option<Key> {
    if sticky && item.value.as_str() == Some("cn") {
        item.later(
            sink,
            "`cn` needs client certificates, and listeners take plain TCP only",
        );
        return None;
    }
    let key = item.read(sink, &one_of(&KEYS), choice(&KEYS))?;
    if key == Key::ClientId && mode == Mode::Tcp {
        let why = "a pool of mode \"tcp\" reads no CONNECT and knows no client ids";
        item.wrong(sink, "\"client_ip\", or mode = \"mqtt\" for the pool", why);
    }
    Some(key)
}

fn unwritten_sticky(mode: Mode) -> Sticky {
    Sticky {
        key: if mode == Mode::Mqtt {
            Key::ClientId
        } else {
            Key::ClientIp
        },
        size: 100_000,
        expire: Duration::from_secs(30 * 60),
        fallback: Balance::LeastConnections,
        return_home: true,
        persistent_only: false,
    }
}

/// The table `sticky`, and where its size stands.
fn sticky(item: Option<Item<'_, '_>>, sink: &mut Sink<'_>, mode: Mode) -> (Sticky, Option<At>) {
    let mut sticky = unwritten_sticky(mode);
    let Some(item) = item else {
        return (sticky, None);
    };
    if let DeValue::String(_) = item.value {
        sticky.key = key(&item, sink, mode, true).unwrap_or(sticky.key);
        return (sticky, None);
    }
    let example = "a table, such as { size = \"100k\", expire = \"30m\" }";
    let Some(mut table) = item.table(sink, example) else {
        return (sticky, None);
    };
    if let Some(item) = table.take("key") {
        sticky.key = key(&item, sink, mode, true).unwrap_or(sticky.key);
    }
    if let Some(size) = table.read(sink, "size", accepts::COUNT, number32(1, 100_000_000)) {
        sticky.size = size;
    }
    table.duration(sink, "expire", true, &mut sticky.expire);
    let words = [
        ("least-connections", Balance::LeastConnections),
        ("round-robin", Balance::RoundRobin),
        ("source", Balance::Source),
        ("consistent-hash", Balance::ConsistentHash(sticky.key)),
    ];
    if let Some(fallback) = table.choose(sink, "fallback", &words) {
        sticky.fallback = fallback;
    }
    table.switch(sink, "return_home", &mut sticky.return_home);
    if let Some(item) = table.take("persistent_only") {
        sticky.persistent_only = item.read(sink, accepts::BOOL, boolean).unwrap_or(false);
        if sticky.persistent_only && mode == Mode::Tcp {
            let why = "a pool of mode \"tcp\" reads no CONNECT and knows no sessions";
            item.wrong(sink, "false, or mode = \"mqtt\" for the pool", why);
        }
    }
    let size_at = table.at_key("size");
    table.finish(sink);
    (sticky, Some(size_at))
}

fn proxy(item: &Item<'_, '_>, sink: &mut Sink<'_>) -> Option<Proxy> {
    let profiles = [
        ("mosquitto", Profile::Mosquitto),
        ("emqx", Profile::Emqx),
        ("hivemq", Profile::Hivemq),
        ("rabbitmq", Profile::Rabbitmq),
        ("vernemq", Profile::Vernemq),
    ];
    if item.is_false() {
        return None;
    }
    let (mut profile, mut version) = (None, None);
    if let DeValue::String(_) = item.value {
        profile = Some(item.read(sink, &one_of(&profiles), choice(&profiles))?);
    } else {
        let mut table = item.table(
            sink,
            "false, or a table, such as { version = 2 } or { profile = \"emqx\" }",
        )?;
        profile = table.choose(sink, "profile", &profiles).or(profile);
        version = table.read(sink, "version", "1 or 2", proxy_version);
        let off = |v: &DeValue<'_>| v.as_bool() == Some(false);
        table.later_unless(sink, "tls", "there are no TLS facts to pass on", off);
        table.later_unless(
            sink,
            "cn",
            "there are no client certificates whose name could be passed on",
            off,
        );
        if table.at_key("profile") == table.at && table.at_key("version") == table.at {
            let help = "write version = 2, or profile = … for the broker's needs";
            sink.absent(
                &table.at,
                &table.path,
                "`proxy` names neither version nor profile",
                help,
            );
        }
        table.finish(sink);
    }
    Some(settle(version.unwrap_or(ProxyVersion::V2), profile))
}

/// What each broker takes. Mosquitto and RabbitMQ close on a LOCAL header when an MQTT check follows it,
/// and mosquitto takes no header of more than 500 bytes after the first 16; what everyone takes is the default.
fn settle(version: ProxyVersion, profile: Option<Profile>) -> Proxy {
    let local = matches!(
        profile,
        Some(Profile::Emqx | Profile::Hivemq | Profile::Vernemq)
    );
    let v2 = version == ProxyVersion::V2;
    Proxy {
        version,
        profile,
        crc32c: v2 && profile == Some(Profile::Rabbitmq),
        max_tlv_bytes: 500,
        local_checks: v2 && local,
    }
}

fn proxy_version(v: &DeValue<'_>) -> Read<ProxyVersion> {
    match number32(1, 2)(v)? {
        1 => Ok(ProxyVersion::V1),
        _ => Ok(ProxyVersion::V2),
    }
}

fn on_down(table: &mut Table<'_, '_>, sink: &mut Sink<'_>) -> OnDown {
    let mut on_down = OnDown {
        close: CloseWhen::Dead,
        pace: None,
    };
    let accepts = "\"dead\", true or false";
    let Some(item) = table.take("on_down") else {
        return on_down;
    };
    if let DeValue::Table(_) = item.value {
        let Some(mut table) = item.table(sink, accepts) else {
            return on_down;
        };
        on_down.close = table
            .read(sink, "close", accepts, close)
            .unwrap_or(on_down.close);
        on_down.pace = table.read(sink, "pace", accepts::RATE, text(value::rate));
        table.finish(sink);
    } else {
        let accepts = format!("{accepts}, or a table {{ close, pace }}");
        on_down.close = item.read(sink, &accepts, close).unwrap_or(on_down.close);
    }
    on_down
}

fn close(v: &DeValue<'_>) -> Read<CloseWhen> {
    match v {
        DeValue::Boolean(true) => Ok(CloseWhen::Always),
        DeValue::Boolean(false) => Ok(CloseWhen::Never),
        _ => choice(&[("dead", CloseWhen::Dead)])(v),
    }
}

/// The table `timeout`, and where `idle` stands.
fn timeouts(table: &mut Table<'_, '_>, sink: &mut Sink<'_>) -> (Timeouts, At) {
    let mut timeout = Timeouts {
        connect: Duration::from_secs(1),
        idle: None,
        half_close: Duration::from_secs(30),
        user: Duration::from_secs(5),
        tcp_keepalive: Duration::from_secs(60),
    };
    let at = table.at_key("timeout");
    let example = "a table, such as { connect = \"1s\", idle = \"keepalive\" }";
    let Some(mut table) = table.table(sink, "timeout", example) else {
        return (timeout, at);
    };
    table.duration(sink, "connect", true, &mut timeout.connect);
    let idle = |t: &str| match t {
        "keepalive" => Ok(None),
        _ => match value::duration(t)? {
            zero if zero.is_zero() => Err("it must be more than zero".into()),
            cap => Ok(Some(cap)),
        },
    };
    let accepts = format!(
        "\"keepalive\" (1.5 times what the client asked for), or {}",
        accepts::DURATION
    );
    timeout.idle = table.read(sink, "idle", &accepts, text(idle)).flatten();
    table.duration(sink, "half_close", true, &mut timeout.half_close);
    table.duration(sink, "user", true, &mut timeout.user);
    table.duration(sink, "tcp_keepalive", false, &mut timeout.tcp_keepalive);
    let at = table.at_key("idle");
    table.finish(sink);
    (timeout, at)
}

fn when_empty(table: &mut Table<'_, '_>, sink: &mut Sink<'_>, mode: Mode) -> WhenEmpty {
    let mut when = WhenEmpty {
        wait: Duration::from_secs(5),
        then: Then::Close,
    };
    let example = "a table, such as { wait = \"5s\", then = \"close\" }";
    let Some(mut table) = table.table(sink, "when_empty", example) else {
        return when;
    };
    table.duration(sink, "wait", false, &mut when.wait);
    let words = [("close", Then::Close), ("refuse", Then::Refuse)];
    if let Some(item) = table.take("then") {
        when.then = item
            .read(sink, &one_of(&words), choice(&words))
            .unwrap_or(when.then);
        if when.then == Then::Refuse && mode == Mode::Tcp {
            item.wrong(
                sink,
                "\"close\"",
                "a pool of mode \"tcp\" speaks no MQTT to refuse in",
            );
        }
    }
    table.finish(sink);
    when
}

fn resolve(table: &mut Table<'_, '_>, sink: &mut Sink<'_>) -> Resolve {
    let mut resolve = Resolve {
        at_start: vec![AtStart::Last, AtStart::Dns, AtStart::None],
        every: Duration::from_secs(10),
    };
    let example = "a table, such as { at_start = [\"last\", \"dns\", \"none\"], every = \"10s\" }";
    let Some(mut table) = table.table(sink, "resolve", example) else {
        return resolve;
    };
    let words = [
        ("last", AtStart::Last),
        ("dns", AtStart::Dns),
        ("none", AtStart::None),
    ];
    if let Some(item) = table.take("at_start") {
        let list = item.list(sink, &one_of(&words), choice(&words));
        if item.elements().is_empty() {
            item.wrong(
                sink,
                "a list of \"last\", \"dns\" and \"none\"",
                "it is empty",
            );
        }
        for (i, (way, at)) in list.iter().enumerate() {
            if list[..i].iter().any(|(before, _)| before == way) {
                sink.error(
                    at,
                    &item.path,
                    "`resolve.at_start` names a way twice",
                    "keep the first",
                );
            } else if list[..i].iter().any(|(before, _)| *before == AtStart::None) {
                let message = "nothing is tried after \"none\", which always succeeds";
                sink.error(at, &item.path, message, "write \"none\" last");
            }
        }
        resolve.at_start = list.into_iter().map(|(way, _)| way).collect();
    }
    table.duration(sink, "every", true, &mut resolve.every);
    table.finish(sink);
    resolve
}

fn source(table: &mut Table<'_, '_>, sink: &mut Sink<'_>) -> Option<IpAddr> {
    let item = table.take("source")?;
    if item.value.as_str() == Some("vip") {
        item.later(
            sink,
            "source = \"vip\" needs a virtual address, and this version holds none",
        );
        return None;
    }
    let ip = |t: &str| {
        t.parse::<IpAddr>()
            .map_err(|_| "it is not an IP address".to_owned())
    };
    item.read(sink, accepts::IP, text(ip))
}

/// Both ways of writing backends, with their places, and whether any could not be read.
fn backends(
    table: &mut Table<'_, '_>,
    sink: &mut Sink<'_>,
    draft: &mut Draft,
    pool_check: Option<&Written>,
    mode: Mode,
) -> (Vec<Backend>, Vec<BackendAt>, bool) {
    let items: Vec<_> = ["backends", "backend"]
        .into_iter()
        .filter_map(|key| table.take(key))
        .collect();
    let mut found = (Vec::new(), Vec::new(), false);
    for element in items.iter().flat_map(Item::elements) {
        match backend(&element, sink, draft, pool_check, mode) {
            Some((backend, at)) => {
                found.0.push(backend);
                found.1.push(at);
            }
            None => found.2 = true,
        }
    }
    if found.0.is_empty() && !found.2 {
        let at = items.first().map_or(&table.at, |item| &item.key_at);
        let help = "write backends = [\"10.0.0.11:1883\"], or [[pool.backend]] with addr = …";
        sink.absent(at, &table.path, "this pool has no backends", help);
    }
    found
}

fn backend(
    item: &Item<'_, '_>,
    sink: &mut Sink<'_>,
    draft: &mut Draft,
    pool_check: Option<&Written>,
    mode: Mode,
) -> Option<(Backend, BackendAt)> {
    let default = |(host, port)| Backend {
        name: String::new(),
        host,
        port,
        weight: 1,
        max_connections: None,
        backup: false,
        disabled: false,
        check: check::resolve(pool_check, None, mode),
    };
    if let DeValue::String(written) = item.value {
        let mut backend = default(item.read(sink, accepts::ADDR, text(value::addr))?);
        backend.name = written.to_string();
        let at = item.at.clone();
        return Some((
            backend,
            BackendAt {
                at: at.clone(),
                name_at: at.clone(),
                path: item.path.clone(),
                check_at: at,
                own_check: false,
            },
        ));
    }
    let mut table = item.table(sink, "an address, or a table { name, addr, weight, … }")?;
    let addr_item = table.take("addr");
    let name = table.read(sink, "name", accepts::NAME, text(value::name));
    let weight = table.read(
        sink,
        "weight",
        "a whole number from 0 to 256",
        number32(0, 256),
    );
    let max = table.read(
        sink,
        "max_connections",
        accepts::COUNT,
        number32(1, 100_000_000),
    );
    let (mut backup, mut disabled) = (false, false);
    table.switch(sink, "backup", &mut backup);
    table.switch(sink, "disabled", &mut disabled);
    let own = table
        .take("check")
        .and_then(|item| check::read(&item, sink, &mut draft.files));
    if let Some(own) = &own {
        check::http_only(own, pool_check, sink);
    }
    let addr = match &addr_item {
        None => {
            let help = format!("write addr = …, {}", accepts::ADDR);
            sink.absent(&table.at, &table.path, "this backend has no `addr`", help);
            None
        }
        Some(item) if matches!(item.value, DeValue::Table(_)) => {
            item.later(
                sink,
                "an address for each node needs a cluster, and a node works alone",
            );
            None
        }
        Some(item) => item.read(sink, accepts::ADDR, text(value::addr)),
    };
    let named = name.is_some();
    let at = BackendAt {
        at: table.at_key("addr"),
        name_at: table.at_key(if named { "name" } else { "addr" }),
        path: table.path.clone(),
        check_at: table.at_key("check"),
        own_check: own.is_some(),
    };
    table.finish(sink);
    let mut backend = default(addr?);
    let written = addr_item.as_ref().and_then(|item| item.value.as_str());
    backend.name = name.or(written.map(str::to_owned)).unwrap_or_default();
    backend.weight = weight.unwrap_or(1);
    backend.max_connections = max;
    backend.backup = backup;
    backend.disabled = disabled;
    backend.check = check::resolve(pool_check, own.as_ref(), mode);
    Some((backend, at))
}
