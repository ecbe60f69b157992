//! From a configuration to what lives: pools and listeners, with all that went before carried over by name.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use standfast_gossip::sticky::{Hasher, Table};
use standfast_proto::guardian;

use crate::config::{self, Balance, Config, Mode};
use crate::pool::{Admin, Backend, Pool, Verdict};
use crate::route::{Policy, Router};
use crate::state::{Listener, Snapshot};

/// What rings and hashes go by: the same on every node and at every start, or they disagree about every client.
const HASH_KEY: [u8; 16] = *b"standfast.route.";

/// Makes a snapshot of `config`, in which what `before` had under the same names lives on.
#[must_use]
pub fn snapshot(config: &Config, before: Option<&Snapshot>, ids: &Hasher) -> Snapshot {
    let pools: Vec<Arc<Pool>> = config
        .pools
        .iter()
        .map(|pool| {
            let old =
                before.and_then(|before| before.pools.iter().find(|old| *old.name == *pool.name));
            Arc::new(build_pool(pool, old.map(|old| &**old), ids))
        })
        .collect();
    let listeners = config
        .listeners
        .iter()
        .map(|listener| {
            let old = before.and_then(|before| {
                before
                    .listeners
                    .iter()
                    .find(|old| *old.name == *listener.name)
            });
            Arc::new(Listener {
                name: listener.name.as_str().into(),
                config: listener.clone(),
                pool: pools[listener.pool].clone(),
                counts: old.map(|old| old.counts.clone()).unwrap_or_default(),
            })
        })
        .collect();
    Snapshot { listeners, pools }
}

fn build_pool(config: &config::Pool, old: Option<&Pool>, ids: &Hasher) -> Pool {
    let name: Arc<str> = config.name.as_str().into();
    let backends: Vec<Arc<Backend>> = config
        .backends
        .iter()
        .map(|backend| {
            let old =
                old.and_then(|old| old.backends.iter().find(|old| *old.name == *backend.name));
            match old {
                Some(old) => renew(old, backend),
                None => Arc::new(Backend::new(name.clone(), backend.clone())),
            }
        })
        .collect();
    let policy = Policy::new(config.balance, &config.sticky, Hasher::new(HASH_KEY));
    let expire = u64::try_from(config.sticky.expire.as_millis()).unwrap_or(u64::MAX);
    let size = if config.balance == Balance::Sticky {
        config.sticky.size
    } else {
        1
    };
    let router = match old {
        Some(old) => {
            old.router.table().resize(size, expire);
            for gone in old
                .backends
                .iter()
                .filter(|old| !backends.iter().any(|b| b.name == old.name))
            {
                old.router.table().forget_backend(&gone.name);
            }
            old.router.renewed(policy)
        }
        None => Router::new(
            name.clone(),
            policy,
            Arc::new(Table::new(size, expire)),
            ids.clone(),
        ),
    };
    Pool {
        name,
        config: config.clone(),
        backends,
        router,
        waiting: old.map(|old| old.waiting.clone()).unwrap_or_default(),
    }
}

/// Gives a backend that lives on its new configuration.
fn renew(backend: &Arc<Backend>, config: &config::Backend) -> Arc<Backend> {
    let before = backend.config.load_full();
    backend.config.store(Arc::new(config.clone()));
    // A weight by command holds until a reload.
    backend.set_weight(None);
    if before.host != config.host || before.port != config.port {
        let literal = config
            .host
            .parse()
            .ok()
            .map(|ip| SocketAddr::new(ip, config.port));
        let moved = literal.or_else(|| {
            // The same host at another port; another host is for the resolver to find.
            let same_host = before.host == config.host;
            backend
                .address()
                .filter(|_| same_host)
                .map(|old| SocketAddr::new(old.ip(), config.port))
        });
        backend.set_address(moved);
    }
    if before.disabled != config.disabled {
        let admin = if config.disabled {
            Admin::Disabled
        } else {
            Admin::Active
        };
        backend.set_admin(admin, "configuration");
    }
    if config.check.is_none() {
        backend.set_verdict(Verdict::Up, "no check is configured");
    }
    backend.poke();
    backend.clone()
}

/// What the guardian is asked to bind.
#[must_use]
pub fn plan(config: &Config) -> Vec<guardian::Listener> {
    let mut plan = Vec::new();
    for listener in &config.listeners {
        let pool = &config.pools[listener.pool];
        for bind in &listener.bind {
            let at = match bind.ip {
                None => guardian::Bind::Any(bind.port),
                Some(ip) => guardian::Bind::One(SocketAddr::new(ip, bind.port)),
            };
            let sockets = u32::try_from(config.node.threads).unwrap_or(u32::MAX);
            let described = guardian::Listener {
                key: bind.to_string(),
                sockets,
                // In tcp mode a server may speak first, to a client that says nothing.
                defer_accept: pool.mode == Mode::Mqtt,
                ..guardian::Listener::default()
            };
            plan.push(described.at(at));
        }
    }
    plan
}

/// Sorts the guardian's sockets to threads: each thread gets one socket of each address.
#[must_use]
pub fn share(
    snapshot: &Snapshot,
    sockets: Vec<(String, std::os::fd::OwnedFd)>,
    threads: usize,
) -> Vec<Vec<(Arc<Listener>, std::os::fd::OwnedFd)>> {
    let mut shares: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
    let mut next: HashMap<String, usize> = HashMap::new();
    for listener in &snapshot.listeners {
        listener.counts.bound.lock().clear();
    }
    for (key, socket) in sockets {
        let listener = snapshot.listeners.iter().find(|listener| {
            listener
                .config
                .bind
                .iter()
                .any(|bind| bind.to_string() == key)
        });
        let Some(listener) = listener else { continue };
        if let Some(at) = crate::plane::socket::local_address(&socket) {
            let mut bound = listener.counts.bound.lock();
            if !bound.contains(&at) {
                bound.push(at);
            }
        }
        let turn = next.entry(key).or_default();
        shares[*turn % threads].push((listener.clone(), socket));
        *turn += 1;
    }
    shares
}
