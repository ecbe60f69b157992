//! The record: all that the data plane keeps of one connection between two readiness events.
//!
//! It is plain on purpose: it is what `connections` lists, and what an upgrade or a switchover carries to another
//! process. Nothing of a connection hides in a closure or a task.
//!
//! ```text
//!            Greeting ──whole CONNECT──▶ Waiting ◀──no backend── Connecting ──▶ Relaying
//!               │                           │  └────a choice──────▶  │             │
//!               └───────────────────────────┴───────▶ Closing ◀──────┴─────────────┘
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use standfast_gossip::sticky::entry::Id;
use standfast_proto::mqtt::packet::Tracker;

use super::wheel::{Hook, Hooks};
use crate::access::Line;
use crate::end::End;
use crate::pool::Backend;
use crate::route::{Claim, Why};
use crate::state::Listener;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// The slot is free.
    Vacant,
    /// The PROXY header or the CONNECT is not whole yet.
    Greeting,
    /// No backend can take it at the moment.
    Waiting,
    /// A connect to a backend is under way.
    Connecting,
    /// Bytes pass.
    Relaying,
    /// The end is known; what is left of it is being closed cleanly.
    Closing,
}

/// A side of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Towards the client.
    Client = 0,
    /// Towards the broker.
    Backend = 1,
}

impl Side {
    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }
}

/// Bytes that one side would not take yet.
#[derive(Debug)]
pub struct Pending {
    /// All of them.
    pub bytes: Vec<u8>,
    /// How many of them were taken.
    pub taken: usize,
}

/// One side of a connection.
#[derive(Debug, Default)]
pub struct Half {
    /// Its socket; `None` once closed.
    pub socket: Option<OwnedFd>,
    /// Whether epoll watches it.
    pub watched: bool,
    /// Whether the kernel has seen its last byte; we may not have read it yet.
    pub fin: bool,
    /// Whether the kernel has told of an error; what came before it is still there to be read.
    pub broken: bool,
    /// Whether it will send nothing more, and all it sent was read.
    pub eof: bool,
    /// Whether we told it that nothing more comes.
    pub shut: bool,
    /// Whether a DISCONNECT of it has passed, whole.
    pub bye: bool,
    /// Whether packet boundaries of what it sends are known.
    pub tracked: bool,
    /// Follows the packets that it sends.
    pub tracker: Tracker,
    /// What waits to be written to it.
    pub pending: Option<Box<Pending>>,
    /// Bytes that it sent.
    pub bytes: u64,
}

/// What is needed until a connection relays, and not after.
#[derive(Debug, Default)]
pub struct Setup {
    /// What the client has sent so far, without its PROXY header.
    pub bytes: Vec<u8>,
    /// Places (in the pool) of the backends that were tried for this client.
    pub tried: Vec<u16>,
    /// When it began to wait for a backend.
    pub waiting_since: Option<Instant>,
    /// When the connect that is under way began, or the last one failed.
    pub dialled: Option<Instant>,
    /// When the first connect began.
    pub first_dialled: Option<Instant>,
    /// How much of `limits.greeting_memory` it holds.
    pub charged: usize,
}

/// Facts of the client that a byte is enough for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// A PROXY header must come first.
    pub expects_proxy: bool,
    /// The session outlives the connection.
    pub persistent: bool,
    /// Counted among the live connections of its backend.
    pub counted_backend: bool,
    /// Counted in `listener.limits.per_ip`.
    pub counted_ip: bool,
    /// A whole CONNACK was seen.
    pub connack_seen: bool,
    /// Has lived long enough for the socket options of a long life.
    pub settled: bool,
    /// Waits in the queue of its thread.
    pub queued: bool,
    /// The reading of this side stopped at its budget and goes on after the batch.
    pub again: [bool; 2],
    /// A DISCONNECT of ours goes to the client at the next packet boundary.
    pub wants_bye: u8,
}

/// One connection.
#[derive(Debug)]
pub struct Record {
    /// Where it is in its life.
    pub phase: Phase,
    /// The client's and the backend's half, by [`Side`].
    pub halves: [Half; 2],
    /// Its deadline.
    pub hook: Hook,
    /// The tick when the client last sent something.
    pub last_in: u32,
    /// Ticks without a byte of the client after which it is closed; 0 is never.
    pub idle_ticks: u32,
    /// Its number, for logs and `connections`.
    pub id: u64,
    /// The listener that accepted it, with its pool.
    pub listener: Option<Arc<Listener>>,
    /// The backend it was given to.
    pub backend: Option<Arc<Backend>>,
    /// The client's address (from the PROXY header where one was accepted).
    pub client: SocketAddr,
    /// The address that the client reached, where a PROXY header told it; else its socket knows.
    pub local: Option<SocketAddr>,
    /// When it was accepted.
    pub accepted: Instant,
    /// As sent; empty if none.
    pub client_id: Box<str>,
    /// What the sticky table has to be told when the broker has answered.
    pub claim: Option<Claim>,
    /// The sticky table counts this connection under this id.
    pub stuck: Option<Id>,
    /// Keepalive in force, in seconds.
    pub keepalive: u16,
    /// Protocol level; 0 before the CONNECT and in `tcp` mode.
    pub level: u8,
    /// Code of the CONNACK.
    pub connack: Option<u8>,
    /// Why it went to its backend.
    pub why: Option<Why>,
    /// From accept to the whole CONNECT, in ms, capped.
    pub greeting_ms: u32,
    /// Waited for a backend, in ms.
    pub queue_ms: u32,
    /// From the first connect to success, in ms.
    pub connect_ms: u32,
    /// See [`Facts`].
    pub facts: Facts,
    /// Why it ends, once known.
    pub end: Option<End>,
    /// See [`Setup`].
    pub setup: Option<Box<Setup>>,
}

impl Record {
    /// A free slot; the time is of no matter.
    #[must_use]
    pub fn vacant(accepted: Instant) -> Self {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Self {
            phase: Phase::Vacant,
            halves: Default::default(),
            hook: Hook::default(),
            last_in: 0,
            idle_ticks: 0,
            id: 0,
            listener: None,
            backend: None,
            client: nowhere,
            local: None,
            accepted,
            client_id: Box::default(),
            claim: None,
            stuck: None,
            keepalive: 0,
            level: 0,
            connack: None,
            why: None,
            greeting_ms: 0,
            queue_ms: 0,
            connect_ms: 0,
            facts: Facts::default(),
            end: None,
            setup: None,
        }
    }

    /// One half.
    pub fn half(&mut self, side: Side) -> &mut Half {
        &mut self.halves[side as usize]
    }

    /// The boxed part of the setup, made when first needed.
    pub fn setup(&mut self) -> &mut Setup {
        self.setup.get_or_insert_default()
    }

    /// The address that the client reached.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        let socket = self.halves[Side::Client as usize].socket.as_ref();
        let asked = || socket.and_then(super::socket::local_address);
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        self.local.or_else(asked).unwrap_or(nowhere)
    }

    /// The line that the log gets of it.
    #[must_use]
    pub fn line(&self, end: Option<End>) -> Line {
        let ms = |ms: u32| Some(Duration::from_millis(u64::from(ms)));
        let duration = crate::clock::now().saturating_duration_since(self.accepted);
        let (listener, pool) = self.listener.as_ref().map_or_else(
            || (Arc::from(""), Arc::from("")),
            |listener| (listener.name.clone(), listener.pool.name.clone()),
        );
        let routed = self.phase != Phase::Greeting;
        Line {
            id: self.id,
            accepted: std::time::SystemTime::now() - duration,
            duration,
            client_id: Some(self.client_id.clone()).filter(|id| !id.is_empty()),
            client: self.client,
            local: self.local_address(),
            listener,
            pool,
            backend: self.backend.as_ref().map(|backend| backend.name.clone()),
            backend_addr: self.backend.as_ref().and_then(|backend| backend.address()),
            proto: Some(self.level).filter(|level| *level != 0),
            keepalive: self.keepalive,
            why: self.why.map(Why::as_str),
            greeting: routed.then(|| ms(self.greeting_ms)).flatten(),
            // Waiting in vain is waiting, too.
            queue: ms(self.queue_ms).filter(|_| self.why.is_some() || self.queue_ms > 0),
            connect: self.backend.as_ref().and_then(|_| ms(self.connect_ms)),
            connack: self.connack,
            bytes_in: self.halves[Side::Client as usize].bytes,
            bytes_out: self.halves[Side::Backend as usize].bytes,
            end,
        }
    }
}

/// How many records a page of the slab has.
const PAGE: usize = 128;

/// All records of one thread. Pages are never moved, so that growing costs no copy and no spare memory.
#[derive(Debug, Default)]
pub struct Records {
    pages: Vec<Vec<Record>>,
    free: Vec<u32>,
    /// Slots given back during a batch of events; reused only after it, since the batch may still name them.
    freed: Vec<u32>,
    live: usize,
}

impl Records {
    /// Takes a free slot.
    pub fn take(&mut self) -> u32 {
        self.live += 1;
        if let Some(index) = self.free.pop() {
            return index;
        }
        if self.pages.last().is_none_or(|page| page.len() == PAGE) {
            self.pages.push(Vec::with_capacity(PAGE));
        }
        let index = (self.pages.len() - 1) * PAGE;
        let page = self.pages.last_mut().expect("a page was pushed above");
        page.push(Record::vacant(crate::clock::now()));
        u32::try_from(index + page.len() - 1).expect("descriptors end long before 2^32 records")
    }

    /// Gives a slot back and drops what was in it.
    pub fn give(&mut self, index: u32) {
        let record = self.get(index);
        *record = Record::vacant(record.accepted);
        self.live -= 1;
        self.freed.push(index);
    }

    /// After a batch of events: slots given back in it may be used again.
    pub fn settle(&mut self) {
        self.free.append(&mut self.freed);
    }

    /// The record in a slot.
    pub fn get(&mut self, index: u32) -> &mut Record {
        &mut self.pages[index as usize / PAGE][index as usize % PAGE]
    }

    /// How many are in use.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live
    }

    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> u32 {
        let full = self.pages.len().saturating_sub(1) * PAGE;
        u32::try_from(full + self.pages.last().map_or(0, Vec::len)).unwrap_or(u32::MAX)
    }

    /// All that are in use.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Record)> {
        (0..)
            .zip(self.pages.iter().flatten())
            .filter(|(_, record)| record.phase != Phase::Vacant)
    }
}

impl Hooks for Records {
    fn hook(&mut self, index: u32) -> &mut Hook {
        &mut self.get(index).hook
    }
}
