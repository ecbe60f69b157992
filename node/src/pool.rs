//! Pools and backends as they live: what configuration, checks, commands and live connections make of them.
//!
//! A [`Backend`] lives as long as its name stays in its pool, over every reload; a [`Pool`] is made anew by each
//! reload around the same backends. Data-plane threads, checks and commands share them, so what changes is atomic.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use standfast_proto::proxy::{v1, v2};
use tokio::sync::Notify;

use crate::clock::unix_ms;
use crate::config::{self, ProxyVersion};
use crate::health;
use crate::route::{
    Candidate, CandidateState, Claim, Decision, Outcome, Request, Router, Step, Why,
};

/// What checks say of a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Verdict {
    /// No check has been settled yet.
    Unknown = 0,
    /// Usable.
    Up = 1,
    /// Its port answers, its readiness does not.
    NotReady = 2,
    /// Its port or host is gone.
    Dead = 3,
}

impl Verdict {
    fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Up,
            2 => Self::NotReady,
            3 => Self::Dead,
            _ => Self::Unknown,
        }
    }

    /// Whether new connections may not go there.
    #[must_use]
    pub fn is_down(self) -> bool {
        matches!(self, Self::NotReady | Self::Dead)
    }
}

/// What an operator said of a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Admin {
    /// In service.
    Active = 0,
    /// No new connections; stickiness is broken, homes are kept.
    Draining = 1,
    /// Maintenance: no checks, no connections.
    Disabled = 2,
}

/// Something that a connection noticed of its backend. It starts fast checks and decides nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Signal {
    /// A connect was refused.
    Refused = 0,
    /// A live connection was reset.
    Reset = 1,
    /// Bytes stayed unacknowledged for `timeout.user`, or the host is unreachable.
    Unreachable = 2,
    /// A connect was not answered quickly, or timed out.
    Slow = 3,
    /// A live connection was closed by the broker: it may have turned away this client, or have been killed.
    Closed = 4,
}

impl Signal {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Refused,
        Self::Reset,
        Self::Unreachable,
        Self::Slow,
        Self::Closed,
    ];

    /// The word in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "connection refused",
            Self::Reset => "connection reset",
            Self::Unreachable => "unreachable",
            Self::Slow => "slow to answer",
            Self::Closed => "connection closed",
        }
    }
}

/// What the last check found, for display.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct CheckReport {
    /// When it ended, unix milliseconds; 0 before the first.
    pub at: u64,
    /// Whether it passed.
    pub passed: bool,
    /// What was found, in a few words: `200 in 3ms`, `connection refused`, `CONNACK 5 (not authorized)`.
    pub result: String,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Status in the body of a Health API (`UP`, `DEGRADED_SERVICE`, …), where there was one.
    pub status: Option<String>,
    /// Components of the body and their status, at most 32, depth first.
    pub components: Vec<(String, String)>,
    /// Successes or failures in a row until now.
    pub in_a_row: u32,
    /// Checks passed since the start.
    pub passed_total: u64,
    /// Checks failed since the start.
    pub failed_total: u64,
}

/// No override of the weight.
const NO_WEIGHT: u32 = u32::MAX;

/// One backend.
#[derive(Debug)]
pub struct Backend {
    /// Name of its pool.
    pub pool: Arc<str>,
    /// Its name, unique in the pool.
    pub name: Arc<str>,
    /// Its configuration, replaced by a reload.
    pub config: ArcSwap<config::Backend>,
    /// Where it is, once resolved.
    address: RwLock<Option<SocketAddr>>,
    verdict: AtomicU8,
    admin: AtomicU8,
    weight: AtomicU32,
    /// When the state that `status` shows began, unix ms.
    since: AtomicU64,
    /// When it last came up after having been down, unix ms; 0 if it never was down.
    came_up: AtomicU64,
    why: Mutex<String>,
    /// Connections assigned to it, connecting ones included.
    pub live: AtomicU32,
    /// Connections accepted by it since the start.
    pub total: AtomicU64,
    /// Connects that failed since the start.
    pub connect_failed: AtomicU64,
    /// Bytes from clients to it.
    pub bytes_in: AtomicU64,
    /// Bytes from it to clients.
    pub bytes_out: AtomicU64,
    /// What the last check found.
    pub report: Mutex<CheckReport>,
    /// Clients that were sent to it since the start, in the order of [`Why::ALL`].
    chosen: [AtomicU64; Why::ALL.len()],
    signals: [AtomicU32; Signal::ALL.len()],
    signalled: Notify,
    poked: Notify,
}

impl Backend {
    /// A backend before its first check: [`Verdict::Unknown`], or up for good where it has no check.
    #[must_use]
    pub fn new(pool: Arc<str>, config: config::Backend) -> Self {
        let verdict = if config.check.is_none() {
            Verdict::Up
        } else {
            Verdict::Unknown
        };
        let admin = if config.disabled {
            Admin::Disabled
        } else {
            Admin::Active
        };
        let address = config
            .host
            .parse()
            .ok()
            .map(|ip| SocketAddr::new(ip, config.port));
        Self {
            pool,
            name: config.name.as_str().into(),
            config: ArcSwap::from_pointee(config),
            address: RwLock::new(address),
            verdict: AtomicU8::new(verdict as u8),
            admin: AtomicU8::new(admin as u8),
            weight: AtomicU32::new(NO_WEIGHT),
            since: AtomicU64::new(unix_ms()),
            came_up: AtomicU64::new(0),
            why: Mutex::new(String::from("start")),
            live: AtomicU32::new(0),
            total: AtomicU64::new(0),
            connect_failed: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            report: Mutex::new(CheckReport::default()),
            chosen: Default::default(),
            signals: Default::default(),
            signalled: Notify::new(),
            poked: Notify::new(),
        }
    }

    /// Where it is; `None` until its name was resolved.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        *self.address.read()
    }

    /// Tells where it is; answers where it was.
    pub fn set_address(&self, address: Option<SocketAddr>) -> Option<SocketAddr> {
        let before = std::mem::replace(&mut *self.address.write(), address);
        self.poke();
        before
    }

    /// What checks say.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        Verdict::from_u8(self.verdict.load(Relaxed))
    }

    /// Sets the verdict and says why; answers the verdict before.
    pub fn set_verdict(&self, verdict: Verdict, why: &str) -> Verdict {
        let before = Verdict::from_u8(self.verdict.swap(verdict as u8, Relaxed));
        if before != verdict {
            let now = unix_ms();
            self.since.store(now, Relaxed);
            if verdict == Verdict::Up && before.is_down() {
                self.came_up.store(now, Relaxed);
            }
            why.clone_into(&mut self.why.lock());
        }
        before
    }

    /// What an operator said.
    #[must_use]
    pub fn admin(&self) -> Admin {
        match self.admin.load(Relaxed) {
            1 => Admin::Draining,
            2 => Admin::Disabled,
            _ => Admin::Active,
        }
    }

    /// Sets what an operator says and why; answers what was said before.
    pub fn set_admin(&self, admin: Admin, why: &str) -> Admin {
        let before = self.admin();
        self.admin.store(admin as u8, Relaxed);
        if before != admin {
            self.since.store(unix_ms(), Relaxed);
            why.clone_into(&mut self.why.lock());
            self.poke();
        }
        before
    }

    /// The weight in force: the configured one, or the one a command set.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight_override()
            .unwrap_or_else(|| self.config.load().weight)
    }

    /// The weight that a command set, until a reload.
    #[must_use]
    pub fn weight_override(&self) -> Option<u32> {
        Some(self.weight.load(Relaxed)).filter(|weight| *weight != NO_WEIGHT)
    }

    /// Sets or clears the weight over the configured one.
    pub fn set_weight(&self, weight: Option<u32>) {
        self.weight.store(weight.unwrap_or(NO_WEIGHT), Relaxed);
    }

    /// When its present state began, unix ms.
    #[must_use]
    pub fn since(&self) -> u64 {
        self.since.load(Relaxed)
    }

    /// When it came up again after having been down, unix ms; 0 if it never was down.
    #[must_use]
    pub fn came_up(&self) -> u64 {
        self.came_up.load(Relaxed)
    }

    /// Why its present state began.
    #[must_use]
    pub fn why(&self) -> String {
        self.why.lock().clone()
    }

    /// Tells the health driver what a connection noticed. Cheap, from any thread.
    pub fn signal(&self, signal: Signal) {
        self.signals[signal as usize].fetch_add(1, Relaxed);
        self.signalled.notify_one();
    }

    /// How often each signal was seen since the start, in the order of [`Signal::ALL`].
    #[must_use]
    pub fn signals(&self) -> [u32; Signal::ALL.len()] {
        std::array::from_fn(|kind| self.signals[kind].load(Relaxed))
    }

    /// Clients that were sent to it since the start, by reason.
    pub fn chosen(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Why::ALL
            .iter()
            .zip(&self.chosen)
            .map(|(why, count)| (why.as_str(), count.load(Relaxed)))
    }

    /// Takes a place among its connections, unless it is full.
    fn enter(&self, most: Option<u32>) -> bool {
        let free = |live: u32| most.is_none_or(|most| live < most).then_some(live + 1);
        self.live.fetch_update(Relaxed, Relaxed, free).is_ok()
    }

    /// Whether new clients may be sent to it.
    #[must_use]
    pub fn can_serve(&self) -> bool {
        matches!(self.state(), CandidateState::Up | CandidateState::Unknown)
    }

    fn state(&self) -> CandidateState {
        match (self.admin(), self.address(), self.verdict()) {
            (Admin::Disabled, ..) => CandidateState::Disabled,
            (Admin::Draining, ..) => CandidateState::Draining,
            (Admin::Active, None, _) => CandidateState::Unresolved,
            (Admin::Active, Some(_), Verdict::NotReady | Verdict::Dead) => CandidateState::Down,
            (Admin::Active, Some(_), Verdict::Unknown) => CandidateState::Unknown,
            (Admin::Active, Some(_), Verdict::Up) => CandidateState::Up,
        }
    }

    /// Waits for the next signal (for the one health driver of this backend).
    pub async fn signalled(&self) {
        self.signalled.notified().await;
    }

    /// Makes the health driver look at once whether address, state or configuration have changed.
    pub fn poke(&self) {
        self.poked.notify_one();
    }

    /// Waits for the next poke (for the one health driver of this backend).
    pub async fn poked(&self) {
        self.poked.notified().await;
    }
}

/// Backends that can stand in for each other, under one configuration.
#[derive(Debug)]
pub struct Pool {
    /// Its name.
    pub name: Arc<str>,
    /// Its configuration.
    pub config: config::Pool,
    /// Its backends, in the order of the configuration.
    pub backends: Vec<Arc<Backend>>,
    /// Decides where clients go, and remembers where they went.
    pub router: Router,
    /// Clients that wait for a backend at present.
    pub waiting: Arc<AtomicU32>,
}

/// Where a client goes now.
pub enum Choice {
    /// There; a place among the backend's connections is taken.
    To(Chosen),
    /// Nowhere at the moment.
    Wait,
}

/// A backend that was chosen for a client.
pub struct Chosen {
    /// Its place in the pool.
    pub place: u16,
    /// The backend.
    pub backend: Arc<Backend>,
    /// Why this one.
    pub why: Why,
    /// What the sticky table has to be told when it is known how it went.
    pub claim: Option<Claim>,
}

impl Pool {
    /// Chooses a backend for a client; those in `tried` (places in the pool) have failed it already.
    pub fn choose(&self, request: &Request<'_>, tried: &[u16]) -> Choice {
        let now = unix_ms();
        // A place may be taken by another thread between the look and the step: then it is looked at again.
        for _ in 0..=self.backends.len() {
            let candidates = self.candidates(tried, now);
            let (decision, claim) = self.router.route(request, &candidates, now);
            let Outcome::To { index, why } = decision.outcome else {
                return Choice::Wait;
            };
            let backend = &self.backends[index];
            if backend.enter(candidates[index].max_connections) {
                if let Some(place) = Why::ALL.iter().position(|one| *one == why) {
                    backend.chosen[place].fetch_add(1, Relaxed);
                }
                return Choice::To(Chosen {
                    place: u16::try_from(index).unwrap_or(u16::MAX),
                    backend: backend.clone(),
                    why,
                    claim,
                });
            }
            if let Some(claim) = claim {
                self.router.abandoned(claim);
            }
        }
        Choice::Wait
    }

    /// What [`Self::choose`] would decide now, rule by rule.
    pub fn explain(&self, request: &Request<'_>) -> (Decision, Vec<Step>) {
        let now = unix_ms();
        self.router
            .explain(request, &self.candidates(&[], now), now)
    }

    fn candidates(&self, tried: &[u16], now: u64) -> Vec<Candidate<'_>> {
        self.backends
            .iter()
            .zip(&self.config.backends)
            .enumerate()
            .map(|(index, (backend, config))| Candidate {
                index,
                name: &backend.name,
                weight: backend.weight_override().unwrap_or(config.weight),
                ramp: health::ramp(backend.came_up(), now, self.config.slow_start),
                connections: backend.live.load(Relaxed),
                max_connections: config.max_connections,
                backup: config.backup,
                state: backend.state(),
                excluded: tried.iter().any(|place| usize::from(*place) == index),
            })
            .collect()
    }

    /// Backends that may take new clients.
    #[must_use]
    pub fn usable(&self) -> usize {
        self.backends
            .iter()
            .filter(|backend| backend.can_serve())
            .count()
    }
}

/// Appends the PROXY header of a client's connection.
pub fn put_proxy_header(
    out: &mut Vec<u8>,
    proxy: &config::Proxy,
    client: SocketAddr,
    local: SocketAddr,
) {
    match proxy.version {
        ProxyVersion::V1 => v1::encode(Some((client, local)), out),
        ProxyVersion::V2 => {
            let header = v2::Header {
                command: v2::Command::Proxy,
                addresses: Some((client, local)),
                facts: v2::Facts {
                    crc32c: proxy.crc32c,
                    ..v2::Facts::default()
                },
            };
            // Addresses and checksum always fit: only names that come with TLS could have to go.
            let _ = header.encode(proxy.max_tlv_bytes.into(), out);
        }
    }
}
