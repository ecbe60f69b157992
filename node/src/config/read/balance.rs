//! How a pool chooses: `balance`, `key` and `sticky`.

use std::time::Duration;

use toml::de::DeValue;

use crate::config::model::{Balance, Key, Mode, Sticky};
use crate::config::problem::At;
use crate::config::reader::{Item, Table, boolean, choice, number32, one_of};
use crate::config::sink::Sink;
use crate::config::value::accepts;

const KEYS: [(&str, Key); 2] = [("client_id", Key::ClientId), ("client_ip", Key::ClientIp)];

pub(super) fn balance(table: &mut Table<'_, '_>, sink: &mut Sink<'_>, mode: Mode) -> Balance {
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

pub(super) fn unwritten_sticky(mode: Mode) -> Sticky {
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
pub(super) fn sticky(
    item: Option<Item<'_, '_>>,
    sink: &mut Sink<'_>,
    mode: Mode,
) -> (Sticky, Option<At>) {
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
