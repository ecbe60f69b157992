//! The daemon: the configuration in force and everything that lives under it.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use standfast_gossip::sticky::{Hasher, Kind};
use standfast_proto::guardian::{Message, State};
use standfast_proto::mqtt::disconnect::Reason;
use tokio::sync::{mpsc, watch};

use super::evict::{close_paced, evict};
use super::guard::Guard;
use super::keep::{self, Kept, KeptBackend};
use super::{Arguments, build};
use crate::access::AccessLog;
use crate::admin::server::Server;
use crate::admin::view::ReloadView;
use crate::clock::{self, unix_ms};
use crate::config::{self, CloseWhen, Config, Loaded, Overrides};
use crate::end::End;
use crate::events::{Events, Loudness};
use crate::health::driver::{self, Change};
use crate::health::settings::Settings;
use crate::logging::Logging;
use crate::plane::{Order, Planes, Select};
use crate::pool::{Admin, Backend, Verdict};
use crate::resolve::{self, dns::Resolver, memory::Addresses};
use crate::state::{Shared, Snapshot};

/// How often the state that a next worker needs is looked at for changes.
const KEEP_EVERY: Duration = Duration::from_millis(250);

/// How often sticky tables go to disk.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// How many expired entries a table forgets at one go, once a second.
const EXPIRE_BUDGET: u32 = 100_000;

/// At a stop, connections are closed at least so fast…
const STOP_PACE: f64 = 500.0;

/// …and all of them within so long.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What the guardian waits for before it ends a worker that stops.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(30);

/// How long the logs may take to write what waits.
const FLUSH: Duration = Duration::from_secs(2);

/// Descriptors that are kept from clients: files, sockets of checks and control, listeners.
const RESERVED_FDS: u64 = 256;

/// A drain that moves clients.
#[derive(Clone, Debug)]
pub(super) struct Drain {
    /// When it began, unix ms.
    pub since: u64,
    /// Connections there when it began.
    pub from: u64,
    /// Clients moved a second.
    pub rate: Option<f64>,
    /// Who asked.
    pub by: String,
}

/// The tasks of one backend.
struct Watcher {
    backend: Arc<Backend>,
    settings: watch::Sender<Arc<Settings>>,
    resolve: watch::Sender<config::Resolve>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// What `status` tells of the process itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Birth {
    pub at: u64,
    pub generation: u64,
    pub fd_limit: u64,
}

/// The daemon.
pub struct Daemon {
    /// Itself, for tasks that outlive a call.
    me: Weak<Self>,
    pub(super) arguments: Arguments,
    pub(super) overrides: Overrides,
    pub(super) loaded: ArcSwap<Loaded>,
    pub(super) loaded_at: AtomicU64,
    pub(super) last_reload: Mutex<Option<ReloadView>>,
    pub(super) snapshot: ArcSwap<Snapshot>,
    pub(super) shared: Arc<Shared>,
    pub(super) planes: Planes,
    pub(super) guard: Guard,
    pub(super) events: Events,
    pub(super) logging: Logging,
    pub(super) ids: Hasher,
    resolver: Resolver,
    addresses: Addresses,
    watchers: Mutex<HashMap<Name, Watcher>>,
    changes: mpsc::Sender<Change>,
    pub(super) drains: Mutex<HashMap<Name, Drain>>,
    pub(super) rates: Mutex<super::look::Rates>,
    /// One reload or command at a time.
    pub(super) one_by_one: tokio::sync::Mutex<()>,
    pub(super) server: OnceLock<Arc<Server<Self>>>,
    pub(super) birth: Birth,
    pub(super) stopping: AtomicBool,
}

impl Daemon {
    /// Puts a configuration in force for the first time.
    ///
    /// # Errors
    ///
    /// A listener cannot be bound, a thread or log cannot be started; the text says which and why.
    pub(super) async fn start(
        arguments: &Arguments,
        overrides: Overrides,
        loaded: Loaded,
        guard: Guard,
        kept: Option<Kept>,
        generation: u64,
        fd_limit: u64,
    ) -> anyhow::Result<Arc<Self>> {
        let config = loaded.config.clone();
        let filter = std::env::var("STANDFAST_LOG").ok();
        let logging =
            Logging::install(&config.log, filter.as_deref()).context("cannot open the logs")?;
        let events = Events::default();
        let (ids, problem) = keep::sticky_key(&config.node.state_dir);
        let hasher = ids.clone();
        let hide = move |pool: &str, client: &str| {
            hasher
                .id(pool, Kind::ClientId, client.as_bytes())
                .to_string()
        };
        let access = AccessLog::start(&config.log, &config.node.name, Arc::new(hide))
            .context("cannot open the log of connections")?;
        if let Some(problem) = problem {
            events.note(Loudness::Warn, "node", "", &problem, "");
        }
        let sockets = guard
            .plan(build::plan(&config), millis(STOP_GRACE))
            .await?
            .map_err(|errors| anyhow::anyhow!("{}", super::guard::bind_errors(&errors)))?;
        let shared = Arc::new(shared(&config, fd_limit, access, events.clone()));
        let planes = Planes::start(config.node.threads, &shared)?;
        let resolver = Resolver::system();
        let addresses = Addresses::load(&config.node.state_dir, &events);
        // Changes are few; a driver waits for room.
        let (changes, changed) = mpsc::channel(64);
        let daemon = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            arguments: arguments.clone(),
            overrides,
            snapshot: ArcSwap::from_pointee(build::snapshot(&config, None, &ids)),
            loaded: ArcSwap::from_pointee(loaded),
            loaded_at: AtomicU64::new(unix_ms()),
            last_reload: Mutex::default(),
            shared,
            planes,
            guard,
            events,
            logging,
            ids,
            resolver,
            addresses,
            watchers: Mutex::default(),
            changes,
            drains: Mutex::default(),
            rates: Mutex::default(),
            one_by_one: tokio::sync::Mutex::default(),
            server: OnceLock::new(),
            birth: Birth {
                at: unix_ms(),
                generation,
                fd_limit,
            },
            stopping: AtomicBool::new(false),
        });
        if let Some(kept) = &kept {
            daemon.recall(kept);
        }
        daemon.recall_tables();
        daemon.reconcile(kept.is_none()).await;
        daemon.listen(sockets).await;
        tokio::spawn(daemon.clone().follow_changes(changed));
        tokio::spawn(daemon.clone().keep_house());
        let limit = daemon.shared.most.load(Relaxed);
        let text = format!(
            "serving: {} listeners, {} pools, at most {limit} connections (file-descriptor limit {fd_limit})",
            config.listeners.len(),
            config.pools.len(),
        );
        daemon
            .events
            .note(Loudness::Notice, "worker", &config.node.name, &text, "");
        Ok(daemon)
    }

    /// Opens the control sockets.
    pub(super) fn serve_control(&self, server: Arc<Server<Self>>) -> anyhow::Result<()> {
        server.apply(&self.loaded.load().config.control)?;
        let _ = self.server.set(server);
        Ok(())
    }

    pub(super) fn me(&self) -> Arc<Self> {
        self.me.upgrade().expect("whoever calls this holds it")
    }

    pub(super) fn planes(&self) -> &Planes {
        &self.planes
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    pub(super) fn reopen_logs(&self) {
        self.logging.reopen();
        self.shared.access.reopen();
    }

    /// All backends of all pools.
    pub(super) fn backends(&self) -> Vec<Arc<Backend>> {
        let snapshot = self.snapshot.load();
        snapshot
            .pools
            .iter()
            .flat_map(|pool| pool.backends.iter().cloned())
            .collect()
    }

    /// Gives each data-plane thread its sockets.
    pub(super) async fn listen(&self, sockets: super::guard::Sockets) {
        let shares = build::share(&self.snapshot.load(), sockets, self.planes.len());
        self.planes.listen(shares).await;
    }

    /// Starts the tasks of all backends. With `from_scratch`, waits a little for names, so that the first clients find
    /// backends with addresses.
    async fn reconcile(&self, from_scratch: bool) {
        let settings = match load_settings(&self.loaded.load().config) {
            Ok(settings) => settings,
            Err(error) => {
                self.events
                    .note(Loudness::Error, "config", "", &error.to_string(), "");
                HashMap::new()
            }
        };
        self.watch(settings).await;
        if from_scratch {
            let named = async {
                while self
                    .backends()
                    .iter()
                    .any(|backend| backend.address().is_none())
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            // Listeners stand in any case: a dead name server delays the start by this and no more.
            let _ = tokio::time::timeout(Duration::from_millis(200), named).await;
        }
    }

    /// Makes the tasks match the backends there are.
    pub(super) async fn watch(&self, mut settings: SettingsMap) {
        let snapshot = self.snapshot.load_full();
        let mut watchers = self.watchers.lock();
        watchers.retain(|_, watcher| {
            snapshot.pools.iter().any(|pool| {
                pool.backends
                    .iter()
                    .any(|backend| Arc::ptr_eq(backend, &watcher.backend))
            })
        });
        for pool in &snapshot.pools {
            let resolve = pool.config.resolve.clone();
            for backend in &pool.backends {
                let key = (pool.name.clone(), backend.name.clone());
                let Some(settings) = settings.remove(&key) else {
                    continue;
                };
                if let Some(watcher) = watchers.get(&key) {
                    watcher.settings.send_replace(Arc::new(settings));
                    watcher.resolve.send_replace(resolve.clone());
                    continue;
                }
                let (settings, seen) = watch::channel(Arc::new(settings));
                let checks = tokio::spawn(driver::watch(
                    backend.clone(),
                    seen,
                    self.changes.clone(),
                    self.events.clone(),
                ));
                let (resolving, resolve_seen) = watch::channel(resolve.clone());
                let names = tokio::spawn(resolve::run(
                    backend.clone(),
                    self.resolver.clone(),
                    resolve_seen,
                    self.addresses.clone(),
                    self.events.clone(),
                ));
                let watcher = Watcher {
                    backend: backend.clone(),
                    settings,
                    resolve: resolving,
                    tasks: [checks, names],
                };
                watchers.insert(key, watcher);
            }
        }
    }

    /// `on_down`: closes the connections of a backend that went down, as its pool says.
    async fn follow_changes(self: Arc<Self>, mut changes: mpsc::Receiver<Change>) {
        while let Some(Change { backend, after, .. }) = changes.recv().await {
            let snapshot = self.snapshot.load();
            let Some(pool) = snapshot.pools.iter().find(|pool| pool.name == backend.pool) else {
                continue;
            };
            let on_down = pool.config.on_down;
            let closes = match on_down.close {
                CloseWhen::Dead => after == Verdict::Dead,
                CloseWhen::Always => after.is_down(),
                CloseWhen::Never => false,
            };
            if closes {
                let daemon = self.clone();
                tokio::spawn(async move {
                    let pace = on_down.pace.map(|rate| rate.per_second);
                    let reason = Reason::SERVER_SHUTTING_DOWN.0;
                    let still_down = || backend.verdict().is_down();
                    let closed = evict(
                        &daemon.planes,
                        &backend,
                        pace,
                        End::BackendDown,
                        reason,
                        still_down,
                    )
                    .await;
                    if closed > 0 {
                        let subject = format!("{}/{}", backend.pool, backend.name);
                        let text = format!("closed {closed} connections of a backend that is down");
                        daemon
                            .events
                            .note(Loudness::Notice, "backend", &subject, &text, "");
                    }
                });
            }
        }
    }

    /// Moves the clients of a draining backend at a pace, until none is left or it drains no more.
    pub(super) fn move_clients(&self, backend: Arc<Backend>, rate: f64, reason: u8) {
        let daemon = self.me();
        tokio::spawn(async move {
            let drains = || backend.admin() == Admin::Draining;
            let closed = evict(
                &daemon.planes,
                &backend,
                Some(rate),
                End::Drained,
                reason,
                drains,
            )
            .await;
            let subject = format!("{}/{}", backend.pool, backend.name);
            let text = format!("drained: {closed} clients were told to move");
            daemon
                .events
                .note(Loudness::Notice, "backend", &subject, &text, "");
        });
    }

    /// Maintenance: closes the connections of a backend, at its pool's pace, while it is disabled.
    pub(super) fn close_disabled(&self, backend: Arc<Backend>) {
        let daemon = self.me();
        let snapshot = self.snapshot.load();
        let pool = snapshot.pools.iter().find(|pool| pool.name == backend.pool);
        let pace = pool.and_then(|pool| pool.config.on_down.pace);
        tokio::spawn(async move {
            let is_disabled = || backend.admin() == Admin::Disabled;
            let closed = evict(
                &daemon.planes,
                &backend,
                pace.map(|rate| rate.per_second),
                End::Drained,
                Reason::ADMINISTRATIVE_ACTION.0,
                is_disabled,
            )
            .await;
            let subject = format!("{}/{}", backend.pool, backend.name);
            let text = format!("closed {closed} connections of a backend that is disabled");
            daemon
                .events
                .note(Loudness::Notice, "backend", &subject, &text, "");
        });
    }

    /// Closes everything at a pace and returns when it is closed.
    pub(super) async fn stop(&self) {
        self.stopping.store(true, Relaxed);
        for thread in 0..self.planes.len() {
            self.planes.order(thread, Order::Deafen);
        }
        let live = self.shared.live.load(Relaxed);
        let pace = STOP_PACE.max(f64::from(live) / STOP_WITHIN.as_secs_f64());
        let text = format!("stopping: closing {live} connections at {pace:.0}/s");
        self.events.note(Loudness::Notice, "worker", "", &text, "");
        let reason = Reason::SERVER_SHUTTING_DOWN.0;
        close_paced(
            &self.planes,
            &Select::All,
            Some(pace),
            End::Shutdown,
            reason,
            || true,
        )
        .await;
        // Those that were told last have a moment to hear it.
        let told = async {
            while self.shared.open.load(Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), told).await;
        self.save_tables();
        self.shared.access.flush(FLUSH);
        self.logging.flush(FLUSH);
    }

    /// Chores: rates every second, expiry, the state for a next worker, tables to disk.
    async fn keep_house(self: Arc<Self>) {
        let mut keep = tokio::time::interval(KEEP_EVERY);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut save = tokio::time::interval(SAVE_EVERY);
        save.reset();
        loop {
            tokio::select! {
                _ = keep.tick() => self.keep(),
                _ = second.tick() => {
                    let snapshot = self.snapshot.load();
                    self.rates.lock().take(&snapshot, clock::now());
                    for pool in &snapshot.pools {
                        pool.router.table().expire(unix_ms(), EXPIRE_BUDGET);
                    }
                }
                _ = save.tick() => {
                    let daemon = self.clone();
                    // Disks may be slow; health checks share this thread.
                    let _ = tokio::task::spawn_blocking(move || daemon.save_tables()).await;
                }
            }
        }
    }

    /// Gives the guardian what a next worker needs, if that has changed.
    pub(super) fn keep(&self) {
        let kept = Kept {
            sources: self.loaded.load().sources.clone(),
            backends: self
                .backends()
                .iter()
                .map(|backend| KeptBackend::of(backend))
                .collect(),
        };
        if self.rates.lock().is_kept(&kept) {
            return;
        }
        match kept.write() {
            Ok(fd) => {
                if self
                    .guard
                    .say(&Message::State(State {}), &[fd.as_fd()])
                    .is_ok()
                {
                    self.rates.lock().kept(kept);
                }
            }
            Err(error) => tracing::warn!(%error, "cannot keep the state for a next worker"),
        }
    }

    /// Takes over what an earlier worker of this guardian left.
    fn recall(&self, kept: &Kept) {
        for backend in self.backends() {
            let old = kept
                .backends
                .iter()
                .find(|old| *old.pool == *backend.pool && *old.name == *backend.name);
            let Some(old) = old else { continue };
            backend.set_admin(old.admin, "as before the worker was started anew");
            backend.set_weight(old.weight);
            let verdict = match (old.up, old.dead) {
                (None, _) => continue,
                (Some(true), _) => Verdict::Up,
                (Some(false), true) => Verdict::Dead,
                (Some(false), false) => Verdict::NotReady,
            };
            backend.set_verdict(verdict, "as before the worker was started anew");
        }
        let text = format!("worker started anew (life {})", self.birth.generation);
        self.events.note(Loudness::Warn, "worker", "", &text, "");
    }

    fn recall_tables(&self) {
        let state_dir = &self.loaded.load().config.node.state_dir;
        for pool in &self.snapshot.load().pools {
            if pool.config.balance != config::Balance::Sticky {
                continue;
            }
            match keep::load_table(state_dir, &pool.name, pool.router.table(), &self.ids) {
                Ok(0) => {}
                Ok(entries) => {
                    let text = format!("{entries} sticky entries came back from disk");
                    self.events
                        .note(Loudness::Info, "pool", &pool.name, &text, "");
                }
                Err(error) => {
                    let text = format!("the sticky table starts empty: {error}");
                    self.events
                        .note(Loudness::Warn, "pool", &pool.name, &text, "");
                }
            }
        }
    }

    fn save_tables(&self) {
        let state_dir = &self.loaded.load().config.node.state_dir;
        for pool in &self.snapshot.load().pools {
            if pool.config.balance == config::Balance::Sticky
                && let Err(error) =
                    keep::save_table(state_dir, &pool.name, pool.router.table(), &self.ids)
            {
                tracing::warn!(%error, pool = &*pool.name, "cannot save the sticky table");
            }
        }
    }
}

/// A backend by its pool's name and its own.
pub(super) type Name = (Arc<str>, Arc<str>);

pub(super) type SettingsMap = HashMap<Name, Settings>;

/// The settings of all checks; password files are read here, so that a bad one stops a reload before it changes anything.
pub(super) fn load_settings(config: &Config) -> std::io::Result<SettingsMap> {
    let mut settings = HashMap::new();
    for pool in &config.pools {
        for backend in &pool.backends {
            let key = (
                Arc::from(pool.name.as_str()),
                Arc::from(backend.name.as_str()),
            );
            settings.insert(key, Settings::load(pool, backend)?);
        }
    }
    Ok(settings)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn shared(config: &Config, fd_limit: u64, access: AccessLog, events: Events) -> Shared {
    let shared = Shared {
        live: AtomicU32::new(0),
        open: AtomicU32::new(0),
        most: AtomicU32::new(0),
        greeting_bytes: AtomicU64::new(0),
        most_greeting_bytes: AtomicU64::new(0),
        relay_bytes: AtomicU64::new(0),
        most_relay_bytes: AtomicU64::new(0),
        ends: Default::default(),
        access,
        events,
        seed: u64::from_le_bytes(keep::random()),
    };
    set_limits(&shared, config, fd_limit);
    shared
}

pub(super) fn set_limits(shared: &Shared, config: &Config, fd_limit: u64) {
    // Two descriptors a connection, and enough left for everything else.
    let possible = u32::try_from(fd_limit.saturating_sub(RESERVED_FDS) / 2).unwrap_or(u32::MAX);
    let most = config
        .limits
        .connections
        .map_or(possible, |most| most.min(possible));
    shared.most.store(most, Relaxed);
    shared
        .most_greeting_bytes
        .store(config.limits.greeting_memory, Relaxed);
    shared
        .most_relay_bytes
        .store(config.limits.relay_memory, Relaxed);
}
