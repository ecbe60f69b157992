//! One `[[pool]]` with its backends.

use std::net::IpAddr;
use std::time::Duration;

use toml::de::DeValue;

use super::backend::backends;
use super::balance::{balance, sticky, unwritten_sticky};
use super::check;
use crate::config::draft::{Draft, PoolDraft};
use crate::config::model::{
    AtStart, Balance, CloseWhen, Mode, OnDown, Pool, Profile, Proxy, ProxyVersion, Resolve, Then,
    Timeouts, WhenEmpty,
};
use crate::config::problem::At;
use crate::config::reader::{Item, Read, Table, choice, number32, one_of, text};
use crate::config::sink::Sink;
use crate::config::value::{self, accepts};

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
    let (mut sticky, size_at) = sticky(sticky_item, sink, mode);
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
