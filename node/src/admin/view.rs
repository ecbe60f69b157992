//! Everything that is shown of a process: the one set of values behind `status`, `--json`, the page and the metrics.
//!
//! Times are unix milliseconds (0: never), durations say their unit. Every field may be missing when read, so that a
//! command line and a daemon of neighbouring releases understand each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The whole process.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct View {
    /// When it was taken.
    pub at: u64,
    /// The process.
    pub node: NodeView,
    /// Listeners, in the order of the file.
    pub listeners: Vec<ListenerView>,
    /// Pools, in the order of the file.
    pub pools: Vec<PoolView>,
    /// Sums since the start of the worker.
    pub counters: Counters,
    /// The logs.
    pub log: LogView,
    /// What somebody should look at, one sentence each.
    pub warnings: Vec<String>,
}

/// The process.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct NodeView {
    /// `node.name`.
    pub name: String,
    /// Version of the program that runs.
    pub version: String,
    /// Process that serves clients.
    pub pid: u32,
    /// Process that supervises it, where there is one.
    pub guardian_pid: Option<u32>,
    /// When the process started.
    pub started_at: u64,
    /// Since then, in milliseconds.
    pub uptime_ms: u64,
    /// Data-plane threads.
    pub threads: u32,
    /// File-descriptor limit in force.
    pub fd_limit: u64,
    /// File descriptors in use.
    pub fds: u64,
    /// `limits.connections` in force.
    pub connection_limit: u64,
    /// Client connections now.
    pub connections: u64,
    /// Client connections accepted since the start.
    pub accepted: u64,
    /// The configuration.
    pub config: ConfigView,
    /// How many workers this guardian has started, this one included.
    pub generation: u64,
    /// How many of them were started because the one before had crashed.
    pub restarts: u64,
    /// Whether the process is stopping.
    pub stopping: bool,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ConfigView {
    /// File it was read from.
    pub file: String,
    /// Hash of what it means; equal on nodes that do the same.
    pub hash: String,
    /// When it was put in force.
    pub loaded_at: u64,
    /// The last attempt to load a file anew, if there was one.
    pub last_reload: Option<ReloadView>,
}

/// One attempt to reload.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ReloadView {
    /// When.
    pub at: u64,
    /// Whether the file is in force now; if not, nothing was changed.
    pub applied: bool,
    /// What was changed, or what was wrong.
    pub text: String,
    /// Who asked.
    pub by: String,
}

/// One listener.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ListenerView {
    /// `listener.name`.
    pub name: String,
    /// Addresses it listens on, as written.
    pub bind: Vec<String>,
    /// Addresses that the kernel gave (port 0 filled in).
    pub bound: Vec<SocketAddr>,
    /// Name of its pool.
    pub pool: String,
    /// Connections now.
    pub connections: u64,
    /// Accepted since the start.
    pub accepted: u64,
    /// New connections a second, over the last seconds.
    pub new_per_s: f64,
    /// Turned away since the start, by [`crate::end::Refusal`].
    pub rejected: BTreeMap<String, u64>,
    /// `limits.connections`.
    pub limit_connections: Option<u64>,
    /// `limits.per_ip`.
    pub limit_per_ip: Option<u64>,
    /// `limits.rate`, a second.
    pub limit_rate: Option<f64>,
    /// Whether a full listener leaves clients in the backlog now.
    pub waiting: bool,
}

/// One pool.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PoolView {
    /// `pool.name`.
    pub name: String,
    /// `mqtt` or `tcp`.
    pub mode: String,
    /// `sticky`, `round-robin`, …
    pub balance: String,
    /// Connections now.
    pub connections: u64,
    /// New connections a second, over the last seconds.
    pub new_per_s: f64,
    /// Clients that wait for a backend now.
    pub waiting: u64,
    /// Backends that may take new clients now.
    pub up: u32,
    /// `pool.min_up`.
    pub min_up: u32,
    /// Whether at least `min_up` backends are up.
    pub healthy: bool,
    /// The sticky table, where the pool has one.
    pub sticky: Option<StickyView>,
    /// Bytes from clients since the start.
    pub bytes_in: u64,
    /// Bytes to clients since the start.
    pub bytes_out: u64,
    /// Backends, in the order of the file.
    pub backends: Vec<BackendView>,
}

/// A sticky table.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct StickyView {
    /// Entries now.
    pub entries: u64,
    /// Entries with a live connection.
    pub live: u64,
    /// `sticky.size`.
    pub size: u64,
    /// `sticky.expire`, in milliseconds.
    pub expire_ms: u64,
    /// Lookups since the start, by result: `hit`, `new`, `moved`, …
    pub lookups: BTreeMap<String, u64>,
    /// Idle entries that went to make room.
    pub evicted: u64,
    /// Entries *with* connections that went to make room: the table is too small.
    pub evicted_live: u64,
    /// Entries that were idle for too long.
    pub expired: u64,
}

/// What a backend is at this moment: the word on the screen and in metrics.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Takes clients.
    Up,
    /// Its port or host is gone.
    Down,
    /// Its port answers, its readiness does not.
    NotReady,
    /// No check is settled yet.
    #[default]
    Unknown,
    /// Its name has no address yet.
    Unresolved,
    /// No new clients, by command.
    Draining,
    /// Maintenance, by command or file.
    Disabled,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Up,
        Self::Down,
        Self::NotReady,
        Self::Unknown,
        Self::Unresolved,
        Self::Draining,
        Self::Disabled,
    ];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::NotReady => "not-ready",
            Self::Unknown => "unknown",
            Self::Unresolved => "unresolved",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }

    /// The state of a backend: what an operator said comes before what checks say.
    #[must_use]
    pub fn of(backend: &crate::pool::Backend) -> Self {
        use crate::pool::{Admin, Verdict};
        match (backend.admin(), backend.address(), backend.verdict()) {
            (Admin::Disabled, ..) => Self::Disabled,
            (Admin::Draining, ..) => Self::Draining,
            (Admin::Active, None, _) => Self::Unresolved,
            (Admin::Active, Some(_), Verdict::Up) => Self::Up,
            (Admin::Active, Some(_), Verdict::Dead) => Self::Down,
            (Admin::Active, Some(_), Verdict::NotReady) => Self::NotReady,
            (Admin::Active, Some(_), Verdict::Unknown) => Self::Unknown,
        }
    }
}

/// One backend.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct BackendView {
    /// `backend.name`.
    pub name: String,
    /// `backend.addr`, as written.
    pub addr: String,
    /// Where it is, once resolved.
    pub resolved: Option<SocketAddr>,
    /// What it is now.
    pub state: State,
    /// What checks say while it is draining or disabled: `up`, `down`, `not-ready` or `unknown`.
    pub health: State,
    /// `backend.backup`: used only when no other is up.
    pub backup: bool,
    /// When this state began.
    pub since: u64,
    /// Why.
    pub why: String,
    /// `backend.weight` of the file.
    pub weight_configured: u32,
    /// The weight in force: a command's, if one was given.
    pub weight: u32,
    /// The weight that balancing goes by at this moment, a slow start counted in.
    pub weight_effective: f64,
    /// Connections now.
    pub connections: u64,
    /// `backend.max_connections`.
    pub max_connections: Option<u64>,
    /// Connections that it accepted since the start.
    pub total: u64,
    /// Its part of the pool's connections, 0 to 1.
    pub share: f64,
    /// New connections a second, over the last seconds.
    pub new_per_s: f64,
    /// Bytes from clients since the start.
    pub bytes_in: u64,
    /// Bytes to clients since the start.
    pub bytes_out: u64,
    /// Connects that failed since the start.
    pub connect_failed: u64,
    /// The last check, where it has one.
    pub check: Option<CheckView>,
    /// What connections noticed since the start, by [`crate::pool::Signal`].
    pub signals: BTreeMap<String, u64>,
    /// Clients chosen for it since the start, by the reason in connection lines.
    pub chosen: BTreeMap<String, u64>,
    /// The drain under way, where there is one.
    pub drain: Option<DrainView>,
}

/// What the last check found.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct CheckView {
    /// When it ended; 0 before the first.
    pub at: u64,
    /// Whether it passed.
    pub passed: bool,
    /// What was found, in a few words.
    pub result: String,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Status in the body of a Health API.
    pub status: Option<String>,
    /// Its components and their status.
    pub components: Vec<(String, String)>,
    /// Successes or failures in a row.
    pub in_a_row: u32,
    /// Passed since the start.
    pub passed_total: u64,
    /// Failed since the start.
    pub failed_total: u64,
}

impl From<&crate::pool::CheckReport> for CheckView {
    fn from(report: &crate::pool::CheckReport) -> Self {
        Self {
            at: report.at,
            passed: report.passed,
            result: report.result.clone(),
            took_us: report.took_us,
            status: report.status.clone(),
            components: report.components.clone(),
            in_a_row: report.in_a_row,
            passed_total: report.passed_total,
            failed_total: report.failed_total,
        }
    }
}

/// A drain under way.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct DrainView {
    /// When it began.
    pub since: u64,
    /// Connections there when it began.
    pub from: u64,
    /// Connections still there.
    pub remaining: u64,
    /// Connections moved a second; `None` waits for clients to leave.
    pub rate: Option<f64>,
    /// How long the rest will take at that rate, in milliseconds.
    pub eta_ms: Option<u64>,
    /// Who asked for it.
    pub by: String,
}

/// Sums since the start of the worker.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Counters {
    /// Connections ended, by [`crate::end::End::label`].
    pub ends: BTreeMap<String, u64>,
    /// First packets that were no CONNECT, by the parser's reason.
    pub not_mqtt: BTreeMap<String, u64>,
}

/// The logs.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct LogView {
    /// Program lines dropped because a target was too slow.
    pub dropped: u64,
    /// Connection lines dropped because their target was too slow.
    pub access_dropped: u64,
    /// Connection lines written.
    pub access_written: u64,
}

/// One live connection.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ConnectionRow {
    /// As in the connection line: 16 hex digits.
    pub id: String,
    /// Client id; `None` before a CONNECT and in `tcp` mode.
    pub client: Option<String>,
    /// The client's address, of the PROXY header where one was accepted.
    pub ip: String,
    /// Name of the listener.
    pub listener: String,
    /// Name of the pool.
    pub pool: String,
    /// Name of the backend, once chosen.
    pub backend: Option<String>,
    /// Why that one.
    pub why: Option<String>,
    /// Protocol level: 3, 4, 5.
    pub proto: Option<u8>,
    /// Keepalive in seconds; 0 is none.
    pub keepalive: u16,
    /// When it was accepted.
    pub since: u64,
    /// Since the client's last byte, in milliseconds.
    pub idle_ms: Option<u64>,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// `greeting`, `waiting`, `connecting`, `relaying` or `closing`.
    pub stage: String,
}

/// One sticky entry. The table keeps keyed hashes only: the client's name is known when it was asked for.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct StickyRow {
    /// Name of the pool.
    pub pool: String,
    /// Keyed hash of the client, 32 hex digits.
    pub id: String,
    /// The client, where the question named it.
    pub client: Option<String>,
    /// Its home.
    pub backend: String,
    /// Where it is or was served while its home could not.
    pub away: Option<String>,
    /// Since when this is its home.
    pub since: u64,
    /// Last beginning or end of a connection.
    pub used: u64,
    /// When it will be forgotten; `None` while a connection lives.
    pub expires: Option<u64>,
    /// Connections that live now.
    pub live: u32,
    /// An operator set it.
    pub pinned: bool,
    /// No home yet: a connection of this client is on its way to that backend.
    pub proposed: bool,
    /// Node that learned it, in a cluster.
    pub node: Option<String>,
}

/// Where a client would go, or is, and why.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Explanation {
    /// Node that answers.
    pub node: String,
    /// Name of the pool.
    pub pool: String,
    /// The client asked about.
    pub client: String,
    /// Backend that it would be sent to; `None` if none could take it.
    pub backend: Option<String>,
    /// The word of the connection line: `sticky-hit`, `hash`, …
    pub why: String,
    /// The decision, rule by rule.
    pub steps: Vec<String>,
}

/// What a change did.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Done {
    /// Node that it was done on.
    pub node: String,
    /// What changed, one sentence each; empty if all was so already.
    pub changed: Vec<String>,
    /// The command that undoes it.
    pub undo: Option<String>,
    /// What to know about it.
    pub warnings: Vec<String>,
}
