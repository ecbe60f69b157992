//! One `[[listener]]`.

use std::time::Duration;

use toml::de::DeValue;

use crate::config::draft::{Draft, ListenerDraft};
use crate::config::model::{Cidr, Listener, ListenerLimits, Over};
use crate::config::reader::{Item, Table, number, number32, text};
use crate::config::sink::Sink;
use crate::config::value::{self, accepts};

pub(super) fn read(mut table: Table<'_, '_>, sink: &mut Sink<'_>, draft: &mut Draft) {
    let mut bind_at = Vec::new();
    let mut first = None;
    match table.take("bind") {
        Some(item) => {
            bind_at = item.list(sink, accepts::BIND, text(value::bind));
            let elements = item.elements();
            first = elements
                .first()
                .and_then(|e| e.value.as_str())
                .map(str::to_owned);
            if elements.is_empty() {
                item.wrong(sink, accepts::BIND, "it is empty");
            }
        }
        None => sink.absent(
            &table.at,
            &table.path,
            "this listener has no `bind`",
            format!("write bind = …, {}", accepts::BIND),
        ),
    }
    let name = table.read(sink, "name", accepts::NAME, text(value::name));
    let named = name.is_some();
    let pool = table.read(
        sink,
        "pool",
        "the name of a pool, such as \"mqtt\"",
        text(value::name),
    );
    let pool_at = table.at_key("pool");
    if pool.is_none() && pool_at == table.at && table.at_key("health_of") == table.at {
        let help = "write pool = …, the name of a [[pool]]";
        sink.absent(&table.at, &table.path, "this listener has no `pool`", help);
    }
    let mut listener = Listener {
        name: name.or(first).unwrap_or_default(),
        bind: bind_at.iter().map(|(bind, _)| *bind).collect(),
        pool: 0,
        accept_proxy: table
            .take("accept_proxy")
            .and_then(|item| accept_proxy(&item, sink)),
        // An empty list would mean the opposite of what it seems to say.
        allow: table
            .take("allow")
            .map(|item| some_networks(&item, sink))
            .unwrap_or_default(),
        deny: table
            .take("deny")
            .map(|item| some_networks(&item, sink))
            .unwrap_or_default(),
        connect_deadline: Duration::from_secs(10),
        max_connect_packet: 128 << 10,
        limits: ListenerLimits::default(),
    };
    table.duration(
        sink,
        "connect_deadline",
        true,
        &mut listener.connect_deadline,
    );
    let packet = number(value::size, 64, 268_435_460);
    if let Some(n) = table.read(sink, "max_connect_packet", accepts::SIZE, packet) {
        listener.max_connect_packet = usize::try_from(n).unwrap_or(128 << 10);
    }
    let example = "a table, such as { connections = 20000, per_ip = 100, rate = \"500/s\" }";
    let mut limits_at = table.at_key("limits");
    if let Some(limits) = table.table(sink, "limits", example) {
        limits_at = limits.at_key("connections");
        listener.limits = self::limits(limits, sink);
    }
    later(&mut table, sink);
    draft.listeners.push(ListenerDraft {
        listener,
        path: table.path.clone(),
        name_at: table.at_key(if named { "name" } else { "bind" }),
        named,
        bind_at,
        pool: pool.map(|name| (name, pool_at)),
        packet_at: table.at_key("max_connect_packet"),
        limits_at,
    });
    table.finish(sink);
}

fn later(table: &mut Table<'_, '_>, sink: &mut Sink<'_>) {
    table.later(sink, "tls", "listeners take plain TCP only");
    let tcp = |v: &DeValue<'_>| v.as_str() == Some("tcp");
    table.later_unless(sink, "transport", "listeners speak no WebSocket", tcp);
    table.later(
        sink,
        "identity",
        "it needs client certificates, and listeners take plain TCP only",
    );
    table.later(sink, "sni", "pools are not chosen by server name");
    table.later(
        sink,
        "health_of",
        "no listener answers with the health of a pool",
    );
}

fn accept_proxy(item: &Item<'_, '_>, sink: &mut Sink<'_>) -> Option<Vec<Cidr>> {
    if item.is_false() {
        return None;
    }
    if !matches!(item.value, DeValue::Table(_)) {
        return Some(some_networks(item, sink));
    }
    let mut table = item.table(sink, "a table, such as { from = [\"10.0.0.0/8\"] }")?;
    let from = table.take("from").map(|item| some_networks(&item, sink));
    if from.is_none() {
        let help = "write from = [\"10.0.0.0/8\"], the networks that must send a PROXY header";
        sink.absent(&table.at, &table.path, "`accept_proxy` has no `from`", help);
    }
    table.finish(sink);
    from
}

fn some_networks(item: &Item<'_, '_>, sink: &mut Sink<'_>) -> Vec<Cidr> {
    if item.elements().is_empty() {
        item.wrong(sink, "a list of at least one network", "it is empty");
    }
    item.list(sink, accepts::CIDR, text(value::cidr))
        .into_iter()
        .map(|(cidr, _)| cidr)
        .collect()
}

fn limits(mut table: Table<'_, '_>, sink: &mut Sink<'_>) -> ListenerLimits {
    let count = number32(1, 100_000_000);
    let limits = ListenerLimits {
        connections: table.read(sink, "connections", accepts::COUNT, &count),
        per_ip: table.read(sink, "per_ip", accepts::COUNT, &count),
        rate: table.read(sink, "rate", accepts::RATE, text(value::rate)),
        over: table
            .choose(
                sink,
                "over",
                &[("wait", Over::Wait), ("refuse", Over::Refuse)],
            )
            .unwrap_or_default(),
    };
    table.later(sink, "handshakes", "there are no TLS handshakes to limit");
    table.finish(sink);
    limits
}
