//! The view of the process: everything that is shown, gathered from what lives.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::daemon::Daemon;
use super::keep::Kept;
use crate::admin::view::{
    BackendView, CheckView, ConfigView, Counters, DrainView, ListenerView, LogView, NodeView,
    PoolView, State, StickyView, View,
};
use crate::clock::unix_ms;
use crate::config::{Balance, Mode};
use crate::end::End;
use crate::health;
use crate::pool::{Admin, Backend, Pool, Signal, Verdict};
use crate::state::{Listener, Snapshot};

/// How fast counts grow, and what was kept last: the memory of the daemon's chores.
#[derive(Default)]
pub(super) struct Rates {
    listeners: HashMap<Arc<str>, Rate>,
    backends: HashMap<(Arc<str>, Arc<str>), Rate>,
    kept: Option<Kept>,
}

#[derive(Clone, Copy)]
struct Rate {
    count: u64,
    at: Instant,
    per_s: f64,
}

impl Rates {
    /// Takes the counts of this moment.
    pub fn take(&mut self, snapshot: &Snapshot, now: Instant) {
        for listener in &snapshot.listeners {
            let count = listener.counts.accepted.load(Relaxed);
            note(self.listeners.entry(listener.name.clone()), count, now);
        }
        for backend in snapshot.pools.iter().flat_map(|pool| &pool.backends) {
            let key = (backend.pool.clone(), backend.name.clone());
            note(self.backends.entry(key), backend.total.load(Relaxed), now);
        }
        self.listeners.retain(|_, rate| rate.at == now);
        self.backends.retain(|_, rate| rate.at == now);
    }

    /// Whether exactly this was kept last.
    pub fn is_kept(&self, kept: &Kept) -> bool {
        self.kept.as_ref() == Some(kept)
    }

    /// This was kept.
    pub fn kept(&mut self, kept: Kept) {
        self.kept = Some(kept);
    }

    fn of_listener(&self, listener: &Listener) -> f64 {
        self.listeners
            .get(&listener.name)
            .map_or(0.0, |rate| rate.per_s)
    }

    fn of_backend(&self, backend: &Backend) -> f64 {
        let key = (backend.pool.clone(), backend.name.clone());
        self.backends.get(&key).map_or(0.0, |rate| rate.per_s)
    }
}

fn note<K>(entry: std::collections::hash_map::Entry<'_, K, Rate>, count: u64, now: Instant) {
    let fresh = Rate {
        count,
        at: now,
        per_s: 0.0,
    };
    let rate = entry.or_insert(fresh);
    let seconds = now.saturating_duration_since(rate.at).as_secs_f64();
    if seconds > 0.0 {
        let latest = count.saturating_sub(rate.count) as f64 / seconds;
        // Half of it is the last second: smooth, and quick to fall to nothing.
        let per_s = f64::midpoint(rate.per_s, latest);
        *rate = Rate {
            per_s: if per_s < 0.05 { 0.0 } else { per_s },
            ..fresh
        };
    }
}

impl Daemon {
    /// Everything that is shown.
    pub(super) fn look(&self) -> View {
        let snapshot = self.snapshot.load();
        let rates = self.rates.lock();
        let pools: Vec<_> = snapshot
            .pools
            .iter()
            .map(|pool| self.look_at_pool(pool, &rates))
            .collect();
        let listeners: Vec<_> = snapshot
            .listeners
            .iter()
            .map(|listener| look_at_listener(listener, &rates))
            .collect();
        let mut not_mqtt = BTreeMap::new();
        for listener in &snapshot.listeners {
            for (reason, count) in listener.counts.not_mqtt() {
                *not_mqtt.entry(reason.to_owned()).or_default() += count;
            }
        }
        let ends = End::LABELS
            .iter()
            .zip(&self.shared.ends)
            .map(|(label, count)| ((*label).to_owned(), count.load(Relaxed)))
            .collect();
        View {
            at: unix_ms(),
            node: self.look_at_node(&listeners),
            warnings: self.warnings(&pools),
            listeners,
            pools,
            counters: Counters { ends, not_mqtt },
            log: LogView {
                dropped: self.logging.dropped(),
                access_dropped: self.shared.access.dropped(),
                access_written: self.shared.access.written(),
            },
        }
    }

    fn look_at_node(&self, listeners: &[ListenerView]) -> NodeView {
        let loaded = self.loaded.load();
        let now = unix_ms();
        NodeView {
            name: loaded.config.node.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            guardian_pid: rustix::process::getppid()
                .and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok()),
            started_at: self.birth.at,
            uptime_ms: now.saturating_sub(self.birth.at),
            threads: u32::try_from(loaded.config.node.threads).unwrap_or(u32::MAX),
            fd_limit: self.birth.fd_limit,
            fds: std::fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as u64),
            connection_limit: self.shared.most.load(Relaxed).into(),
            connections: self.shared.live.load(Relaxed).into(),
            accepted: listeners.iter().map(|listener| listener.accepted).sum(),
            config: ConfigView {
                file: self.arguments.config.display().to_string(),
                hash: loaded.hash.clone(),
                loaded_at: self.loaded_at.load(Relaxed),
                last_reload: self.last_reload.lock().clone(),
            },
            generation: self.birth.generation,
            restarts: self.birth.generation.saturating_sub(1),
            stopping: self.stopping.load(Relaxed),
        }
    }

    fn look_at_pool(&self, pool: &Pool, rates: &Rates) -> PoolView {
        let connections: u64 = pool
            .backends
            .iter()
            .map(|b| u64::from(b.live.load(Relaxed)))
            .sum();
        let backends: Vec<_> = (0..pool.backends.len())
            .map(|place| self.look_at_backend(pool, place, connections, rates))
            .collect();
        let up = pool.usable();
        PoolView {
            name: pool.name.to_string(),
            mode: match pool.config.mode {
                Mode::Mqtt => "mqtt".to_owned(),
                Mode::Tcp => "tcp".to_owned(),
            },
            balance: match pool.config.balance {
                Balance::Sticky => "sticky",
                Balance::RoundRobin => "round-robin",
                Balance::LeastConnections => "least-connections",
                Balance::Source => "source",
                Balance::ConsistentHash(_) => "consistent-hash",
            }
            .to_owned(),
            connections,
            new_per_s: backends.iter().map(|backend| backend.new_per_s).sum(),
            waiting: pool.waiting.load(Relaxed).into(),
            up: u32::try_from(up).unwrap_or(u32::MAX),
            min_up: pool.config.min_up,
            healthy: up >= pool.config.min_up as usize,
            sticky: (pool.config.balance == Balance::Sticky).then(|| look_at_table(pool)),
            bytes_in: backends.iter().map(|backend| backend.bytes_in).sum(),
            bytes_out: backends.iter().map(|backend| backend.bytes_out).sum(),
            backends,
        }
    }

    fn look_at_backend(&self, pool: &Pool, place: usize, of: u64, rates: &Rates) -> BackendView {
        let (backend, config) = (&pool.backends[place], &pool.config.backends[place]);
        let live = u64::from(backend.live.load(Relaxed));
        let ramp = health::ramp(backend.came_up(), unix_ms(), pool.config.slow_start);
        let key = (backend.pool.clone(), backend.name.clone());
        let drain = self.drains.lock().get(&key).cloned();
        BackendView {
            name: backend.name.to_string(),
            addr: format!("{}:{}", bracketed(&config.host), config.port),
            resolved: backend.address(),
            state: State::of(backend),
            health: match backend.verdict() {
                Verdict::Unknown => State::Unknown,
                Verdict::Up => State::Up,
                Verdict::NotReady => State::NotReady,
                Verdict::Dead => State::Down,
            },
            backup: config.backup,
            since: backend.since(),
            why: backend.why(),
            weight_configured: config.weight,
            weight: backend.weight(),
            weight_effective: f64::from(backend.weight()) * f64::from(ramp),
            connections: live,
            max_connections: config.max_connections.map(u64::from),
            total: backend.total.load(Relaxed),
            share: if of == 0 {
                0.0
            } else {
                live as f64 / of as f64
            },
            new_per_s: rates.of_backend(backend),
            bytes_in: backend.bytes_in.load(Relaxed),
            bytes_out: backend.bytes_out.load(Relaxed),
            connect_failed: backend.connect_failed.load(Relaxed),
            check: config
                .check
                .as_ref()
                .map(|_| CheckView::from(&*backend.report.lock())),
            signals: Signal::ALL
                .iter()
                .zip(backend.signals())
                .map(|(signal, count)| (signal.as_str().to_owned(), u64::from(count)))
                .collect(),
            chosen: backend
                .chosen()
                .map(|(why, count)| (why.to_owned(), count))
                .collect(),
            drain: (backend.admin() == Admin::Draining).then(|| DrainView {
                since: drain.as_ref().map_or(backend.since(), |drain| drain.since),
                from: drain.as_ref().map_or(live, |drain| drain.from),
                remaining: live,
                rate: drain.as_ref().and_then(|drain| drain.rate),
                eta_ms: drain
                    .as_ref()
                    .and_then(|drain| drain.rate)
                    .map(|rate| (live as f64 / rate * 1000.0) as u64),
                by: drain.map(|drain| drain.by).unwrap_or_default(),
            }),
        }
    }

    fn warnings(&self, pools: &[PoolView]) -> Vec<String> {
        let mut warnings = Vec::new();
        let config = &self.loaded.load().config;
        let most = self.shared.most.load(Relaxed);
        if let Some(wanted) = config.limits.connections.filter(|wanted| *wanted > most) {
            warnings.push(format!(
                "limits.connections is {wanted}, but the file-descriptor limit of {} allows {most}",
                self.birth.fd_limit
            ));
        }
        if let Some(reload) = self
            .last_reload
            .lock()
            .as_ref()
            .filter(|reload| !reload.applied)
        {
            warnings.push(format!(
                "the last reload was not applied: {}",
                first_line(&reload.text)
            ));
        }
        for pool in pools {
            if pool.up == 0 {
                warnings.push(format!(
                    "pool {} has no backend that can take clients",
                    pool.name
                ));
            } else if !pool.healthy {
                warnings.push(format!(
                    "pool {} has {} backends up, min_up is {}",
                    pool.name, pool.up, pool.min_up
                ));
            }
            if pool
                .sticky
                .as_ref()
                .is_some_and(|sticky| sticky.evicted_live > 0)
            {
                warnings.push(format!(
                    "pool {}: the sticky table is too small: clients that are connected lost their homes",
                    pool.name
                ));
            }
        }
        warnings
    }
}

fn look_at_table(pool: &Pool) -> StickyView {
    let counts = pool.router.table().counts();
    let mut lookups: BTreeMap<String, u64> = BTreeMap::new();
    for backend in &pool.backends {
        for (why, count) in backend.chosen() {
            let result = match why {
                "sticky-hit" | "forced" => "hit",
                "sticky-new" => "new",
                why if why.starts_with("sticky-moved") => "moved",
                _ => "none",
            };
            *lookups.entry(result.to_owned()).or_default() += count;
        }
    }
    StickyView {
        entries: counts.entries.into(),
        live: counts.live.into(),
        size: counts.capacity.into(),
        expire_ms: u64::try_from(pool.config.sticky.expire.as_millis()).unwrap_or(u64::MAX),
        lookups,
        evicted: counts.evicted,
        evicted_live: counts.evicted_live,
        expired: counts.expired,
    }
}

fn look_at_listener(listener: &Listener, rates: &Rates) -> ListenerView {
    let limits = &listener.config.limits;
    ListenerView {
        name: listener.name.to_string(),
        bind: listener
            .config
            .bind
            .iter()
            .map(ToString::to_string)
            .collect(),
        bound: listener.counts.bound.lock().clone(),
        pool: listener.pool.name.to_string(),
        connections: listener.counts.live.load(Relaxed).into(),
        accepted: listener.counts.accepted.load(Relaxed),
        new_per_s: rates.of_listener(listener),
        rejected: listener
            .counts
            .refused()
            .map(|(reason, count)| (reason.to_owned(), count))
            .collect(),
        limit_connections: limits.connections.map(u64::from),
        limit_per_ip: limits.per_ip.map(u64::from),
        limit_rate: limits.rate.map(|rate| rate.per_second),
        waiting: listener.counts.waiting.load(Relaxed),
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
