//! What must hold between the parts of a configuration: references, names, addresses.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::draft::Draft;
use super::model::Bind;
use super::nearest::nearest;
use super::problem::At;
use super::sink::Sink;

pub(super) fn check(draft: &Draft, sink: &mut Sink<'_>) {
    sockets(draft, sink);
    listeners(draft, sink);
    pool_names(draft, sink);
    references(draft, sink);
    for pool in &draft.pools {
        backends(pool, sink);
    }
}

fn sockets(draft: &Draft, sink: &mut Sink<'_>) {
    let mut seen: HashMap<_, &At> = HashMap::new();
    for (socket, at) in &draft.control {
        if let Some(first) = seen.insert(&socket.socket, at) {
            let path = socket.socket.display();
            let message = format!(
                "two control sockets have the path {path}, the first at {}",
                sink.place(first)
            );
            sink.error(at, "control", message, "give each a path of its own");
        }
    }
}

fn listeners(draft: &Draft, sink: &mut Sink<'_>) {
    let whole = At::default();
    if draft.listeners.is_empty() {
        let help = "write [[listener]] with bind = \":1883\" and pool = \"mqtt\"";
        sink.absent(&whole, "listener", "no listener is defined", help);
    }
    for (i, listener) in draft.listeners.iter().enumerate() {
        let name = &listener.listener.name;
        let same = draft.listeners[..i]
            .iter()
            .find(|l| l.listener.name == *name && !name.is_empty());
        // Two that are named by the same address are told below, once; port 0 is never the same.
        let kernel = listener.bind_at.iter().any(|(bind, _)| bind.port == 0);
        if let Some(first) = same.filter(|first| first.named || listener.named || kernel) {
            let place = sink.place(&first.name_at);
            let message = format!("listener {name:?} is defined twice, first at {place}");
            sink.error(
                &listener.name_at,
                &listener.path,
                message,
                "give each listener a name of its own",
            );
        }
        for (j, (bind, at)) in listener.bind_at.iter().enumerate() {
            let earlier = draft.listeners[..i].iter().flat_map(|l| &l.bind_at);
            let mut earlier = earlier.chain(&listener.bind_at[..j]);
            if let Some((other, first)) = earlier.find(|(other, _)| overlap(*bind, *other)) {
                let place = sink.place(first);
                let message = match bind == other {
                    true => format!("{bind} is bound twice, first at {place}"),
                    false => format!("{bind} overlaps with {other}, which is bound at {place}"),
                };
                let path = format!("{}.bind", listener.path);
                sink.error(
                    at,
                    &path,
                    message,
                    "give each listener an address or a port of its own",
                );
            }
        }
    }
}

/// Whether two addresses cannot be bound side by side. `[::]` is every IPv6 address and no IPv4 one.
fn overlap(a: Bind, b: Bind) -> bool {
    if a.port != b.port || a.port == 0 {
        return false;
    }
    let (Some(a), Some(b)) = (a.ip, b.ip) else {
        return true;
    };
    let every = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4 == Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(v6) => v6 == Ipv6Addr::UNSPECIFIED,
    };
    let (a, b) = (a.to_canonical(), b.to_canonical());
    a == b || (a.is_ipv4() == b.is_ipv4() && (every(a) || every(b)))
}

fn pool_names(draft: &Draft, sink: &mut Sink<'_>) {
    if draft.pools.is_empty() {
        let help = "write [[pool]] with name = \"mqtt\" and backends = [\"10.0.0.11:1883\"]";
        sink.absent(&At::default(), "pool", "no pool is defined", help);
    }
    let mut seen: HashMap<&str, &At> = HashMap::new();
    for pool in &draft.pools {
        let Some(at) = &pool.name_at else { continue };
        let name = pool.pool.name.as_str();
        if let Some(first) = seen.get(name) {
            let message = format!(
                "pool {name:?} is defined twice, first at {}",
                sink.place(first)
            );
            sink.error(
                at,
                &format!("{}.name", pool.path),
                message,
                "give each pool a name of its own",
            );
        } else {
            seen.insert(name, at);
        }
    }
}

fn references(draft: &Draft, sink: &mut Sink<'_>) {
    // Nobody knows what a pool without a readable name would have been called.
    if draft.pools.is_empty() || draft.pools.iter().any(|p| p.name_at.is_none()) {
        return;
    }
    let names: Vec<&str> = draft.pools.iter().map(|p| p.pool.name.as_str()).collect();
    for listener in &draft.listeners {
        let Some((pool, at)) = &listener.pool else {
            continue;
        };
        if names.contains(&pool.as_str()) {
            continue;
        }
        let listed = names
            .iter()
            .take(20)
            .copied()
            .collect::<Vec<_>>()
            .join(", ");
        let help = match nearest(pool, names.iter().copied()) {
            Some(near) => format!("did you mean {near:?}? defined pools: {listed}"),
            None => format!("defined pools: {listed}"),
        };
        let name = &listener.listener.name;
        let message = format!("listener {name:?} sends to pool {pool:?}, which is not defined");
        sink.absent(at, &format!("{}.pool", listener.path), message, help);
    }
}

fn backends(draft: &super::draft::PoolDraft, sink: &mut Sink<'_>) {
    let pool = &draft.pool;
    let mut names: HashMap<&str, &At> = HashMap::new();
    let mut addrs: HashMap<(String, u16), &At> = HashMap::new();
    for (backend, at) in pool.backends.iter().zip(&draft.backends) {
        let addr = (backend.host.to_ascii_lowercase(), backend.port);
        if let Some(first) = names.get(backend.name.as_str()) {
            let (name, place) = (&backend.name, sink.place(first));
            let message = format!(
                "pool {:?} has two backends {name:?}, the first at {place}",
                pool.name
            );
            sink.error(
                &at.name_at,
                &at.path,
                message,
                "remove one, or give each a name of its own",
            );
        } else if let Some(first) = addrs.get(&addr) {
            let show = super::value::show_addr(&backend.host, backend.port);
            let message = format!(
                "two backends of pool {:?} have the address {show}, the first at {}",
                pool.name,
                sink.place(first)
            );
            sink.warn(
                &at.at,
                &at.path,
                message,
                "a backend that counts double is better given a weight",
            );
        }
        names.entry(&backend.name).or_insert(&at.name_at);
        addrs.entry(addr).or_insert(&at.at);
    }
    if draft.partial || pool.backends.is_empty() {
        return;
    }
    let count = pool.backends.len();
    if usize::try_from(pool.min_up).unwrap_or(usize::MAX) > count {
        let message = format!(
            "`min_up` is {}, and pool {:?} has {count} backends",
            pool.min_up, pool.name
        );
        let path = format!("{}.min_up", draft.path);
        sink.error(
            &draft.min_up_at,
            &path,
            message,
            "the pool would never be healthy; lower it or add backends",
        );
    }
    if pool.backends.iter().all(|b| b.backup) {
        let message = format!("every backend of pool {:?} is a backup", pool.name);
        let help = "a backup serves when no other is up; leave `backup` out for at least one";
        sink.absent(&draft.at, &draft.path, message, help);
    }
}
