//! What is done on a visit, and what comes out of it.

use std::net::SocketAddr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::histogram::Summary;
use crate::procfs::Pss;

/// What the load generator does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scenario {
    /// Connect, CONNECT, CONNACK, DISCONNECT, close; 64 at a time.
    Setup,
    /// 64-byte messages on one connection, the next when the last is back.
    Msg1,
    /// The same on 100 connections.
    Msg100,
    /// The same on 1000 connections.
    Msg1000,
    /// 5000 messages a second over 1000 connections, whether or not the last are back.
    Msg5000s,
    /// Four messages of 64 KiB in flight on each of four connections.
    Bulk,
    /// 9000 connections held, then one 1 KiB message on every one at once, twice.
    Idle,
    /// 5000 connections that say nothing, half a CONNECT or nonsense, while a good client comes and goes.
    Silent,
}

/// Where load and broker run; the proxy's core is always the same.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Placement {
    /// With the proxy: no wake-up crosses cores.
    One,
    /// On a core of their own, so the proxy has its own too.
    Own,
}

impl Scenario {
    pub(crate) const ALL: [Self; 8] = [
        Self::Setup,
        Self::Msg1,
        Self::Msg100,
        Self::Msg1000,
        Self::Msg5000s,
        Self::Bulk,
        Self::Idle,
        Self::Silent,
    ];

    /// The placements worth a column.
    pub(crate) fn placements(self) -> &'static [Placement] {
        match self {
            Self::Msg1 => &[Placement::One],
            Self::Setup | Self::Msg1000 | Self::Msg5000s => &[Placement::One, Placement::Own],
            Self::Msg100 | Self::Bulk | Self::Idle | Self::Silent => &[Placement::Own],
        }
    }

    /// Whether what earlier visits left in the process would spoil the figure.
    pub(crate) fn wants_a_fresh_process(self) -> bool {
        self == Self::Idle
    }

    /// Whether it measures time; memory does not drift.
    pub(crate) fn is_timed(self) -> bool {
        !matches!(self, Self::Idle | Self::Silent)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Msg1 => "msg1",
            Self::Msg100 => "msg100",
            Self::Msg1000 => "msg1000",
            Self::Msg5000s => "msg5000s",
            Self::Bulk => "bulk",
            Self::Idle => "idle",
            Self::Silent => "silent",
        }
    }
}

impl Placement {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::One => "one core",
            Self::Own => "own core",
        }
    }
}

/// What the conductor tells the load generator.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Spec {
    pub(crate) scenario: Scenario,
    /// Connections go to these in turn.
    pub(crate) targets: Vec<SocketAddr>,
    /// The processes whose CPU and memory are the proxy's.
    pub(crate) pids: Vec<u32>,
    /// Numbers the visits of a run.
    pub(crate) visit: u16,
    pub(crate) core: usize,
    pub(crate) warmup: f64,
    pub(crate) seconds: f64,
    pub(crate) idle: usize,
    pub(crate) silent: usize,
    pub(crate) verify: bool,
}

/// What the load generator answers. Counts are of the whole visit, except where a field says "window".
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Outcome {
    /// CONNACKs received.
    pub(crate) connected: u64,
    /// DISCONNECTs sent.
    pub(crate) disconnected: u64,
    /// Connections that were refused, closed or left unanswered.
    pub(crate) failed: u64,
    /// Messages whose echo never came.
    pub(crate) lost: u64,
    /// Messages whose echo differed; only looked for with `verify`.
    pub(crate) corrupt: u64,
    /// Length of the window.
    pub(crate) seconds: f64,
    /// Connections or messages completed in the window.
    pub(crate) count: u64,
    /// Size of a message on the wire; 0 where connections are counted.
    pub(crate) message_bytes: u64,
    /// On-CPU time of all threads of the proxy in the window.
    pub(crate) cpu_ns: u64,
    /// The same of the load generator.
    pub(crate) load_cpu_ns: u64,
    pub(crate) latency: Summary,
    pub(crate) memory: Option<Memory>,
    pub(crate) silent: Option<Silent>,
    /// First words of what went wrong.
    pub(crate) trouble: Vec<String>,
}

/// Memory of all processes of the proxy.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Memory {
    pub(crate) connections: u64,
    /// Before the connections, after a few that came and went.
    pub(crate) rest: Pss,
    /// With all connections held.
    pub(crate) held: Pss,
    /// After one message on every connection at once.
    pub(crate) burst: Pss,
    /// After another.
    pub(crate) again: Pss,
}

/// What became of a good client among bad ones.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Silent {
    /// Connect to CONNACK without the others.
    pub(crate) quiet: Summary,
    /// Connect to CONNACK with them.
    pub(crate) noisy: Summary,
    /// Bad connections open when the noisy part began.
    pub(crate) held: u64,
    /// Bad connections that the proxy closed and the load opened again.
    pub(crate) reopened: u64,
}
