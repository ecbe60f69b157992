//! The data plane: one thread per core, each with its own epoll instance over a slab of plain records.
//!
//! A thread runs a current-thread tokio runtime, which sees of all its connections one descriptor: the epoll instance
//! of the plane. So a plain TCP connection costs one [`record::Record`] and no task, and control traffic, timers and
//! what later needs tokio run beside it in the same thread.
//!
//! ```text
//! tokio ──readable──▶ turn: take a batch of events ──▶ accept ▶ greet ▶ dial ▶ relay ▶ close
//!       ──tick─────▶ deadlines, waiting clients, paused listeners
//!       ──order────▶ apply a configuration, close some, list some
//! ```

mod accept;
mod close;
mod dial;
mod greet;
mod order;
pub mod record;
mod relay;
pub mod socket;
pub mod wheel;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;

use mio::unix::SourceFd;
use mio::{Events, Interest, Token};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

pub use order::{Filter, Order, Planes, Row, Select};
use record::{Records, Side};
use wheel::Wheel;

use crate::state::{Listener, Shared};
use crate::{clock, sys};

/// How much is read at once; one such buffer serves all connections of a thread.
const SCRATCH: usize = 64 * 1024;

/// How many readiness events are taken at once.
const BATCH: usize = 1024;

/// How many batches are taken before the clock and orders get their turn: a flood would never let them.
const TURNS: usize = 4;

/// Tokens of accepting sockets have this bit; those of records are slot × 2 + side.
const PORT: usize = 1 << 40;

/// An accepting socket of this thread.
struct Port {
    socket: OwnedFd,
    listener: Arc<Listener>,
    /// The backlog may hold more than was taken: a limit stopped the accepting, and the tick tries again.
    paused: bool,
    /// The backlog may hold more than was taken: the budget was used up, and the turn goes on with it.
    more: bool,
}

/// One data-plane thread.
struct Plane {
    epoll: mio::Poll,
    records: Records,
    wheel: Wheel,
    scratch: Box<[u8]>,
    /// For the PROXY header and the CONNECT, which leave in one write.
    opening: Vec<u8>,
    ports: Vec<Option<Port>>,
    /// Records whose reading stopped at its budget.
    again: Vec<(u32, Side)>,
    /// Records that wait for a backend, oldest first.
    waiting: VecDeque<(u32, u64)>,
    shared: Arc<Shared>,
    next_id: u64,
}

/// Starts a data-plane thread.
///
/// # Errors
///
/// The thread or its epoll instance could not be made.
pub(crate) fn start(
    number: usize,
    shared: Arc<Shared>,
    orders: mpsc::UnboundedReceiver<Order>,
    lap: Arc<AtomicU64>,
) -> io::Result<std::thread::JoinHandle<()>> {
    let epoll = mio::Poll::new()?;
    let plane = Plane {
        epoll,
        records: Records::default(),
        wheel: Wheel::default(),
        scratch: vec![0; SCRATCH].into(),
        opening: Vec::with_capacity(1024),
        ports: Vec::new(),
        again: Vec::new(),
        waiting: VecDeque::new(),
        next_id: shared.seed ^ (number as u64) << 56,
        shared,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name(format!("plane-{number}"))
        .spawn(move || {
            if let Err(error) = runtime.block_on(run(plane, orders, lap)) {
                // Without its data plane a worker is of no use: the guardian starts another.
                tracing::error!(%error, number, "a data-plane thread ended");
                std::process::abort();
            }
        })
}

async fn run(
    plane: Plane,
    mut orders: mpsc::UnboundedReceiver<Order>,
    lap: Arc<AtomicU64>,
) -> io::Result<()> {
    let watched = sys::watch_epoll(&plane.epoll)?;
    let mut plane = plane;
    let mut events = Events::with_capacity(BATCH);
    let mut ticks = tokio::time::interval(wheel::TICK);
    // After a stall deadlines go on from where they were, rather than all at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Whether the last turn left work behind, of which no edge will tell.
    let mut behind = false;
    poll_fn(|cx| {
        loop {
            let mut idle = true;
            let ready = watched.poll_read_ready(cx);
            if ready.is_ready() || behind {
                if let Poll::Ready(ready) = ready {
                    // Events that come from here on make the instance readable again, so this is cleared first.
                    ready?.clear_ready();
                }
                behind = plane.turn(&mut events)?;
                lap.store(clock::monotonic_ms(), Relaxed);
                idle = false;
            }
            if ticks.poll_tick(cx).is_ready() {
                plane.tick();
                lap.store(clock::monotonic_ms(), Relaxed);
                idle = false;
            }
            while let Poll::Ready(order) = orders.poll_recv(cx) {
                match order {
                    Some(order) => plane.obey(order),
                    None => return Poll::Ready(Ok(())),
                }
                idle = false;
            }
            if behind {
                // The runtime has to go round for its clock to go on.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if idle {
                return Poll::Pending;
            }
        }
    })
    .await
}

impl Plane {
    /// Takes events until there are none, or others have to get their turn; answers whether there may be more.
    fn turn(&mut self, events: &mut Events) -> io::Result<bool> {
        let until = clock::now() + wheel::TICK;
        for _ in 0..TURNS {
            match self.epoll.poll(events, Some(std::time::Duration::ZERO)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let mut taken = 0;
            for event in events.iter() {
                taken += 1;
                let token = event.token().0;
                if token & PORT == 0 {
                    let index = (token >> 1) as u32;
                    let side = if token & 1 == 0 {
                        Side::Client
                    } else {
                        Side::Backend
                    };
                    let ready = Ready {
                        read: event.is_readable(),
                        write: event.is_writable(),
                        closed: event.is_read_closed(),
                        error: event.is_error(),
                    };
                    self.on_ready(index, side, ready);
                } else {
                    self.accept(token & !PORT);
                }
            }
            // Bounded: each pass over the list moves at most a budget per record, and ends when its time is over; what
            // is left comes first in the next.
            let mut again = std::mem::take(&mut self.again);
            let mut done = 0;
            while done < again.len() && (done == 0 || clock::now() < until) {
                let (index, side) = again[done];
                self.go_on(index, side);
                done += 1;
            }
            again.drain(..done);
            again.append(&mut self.again);
            self.again = again;
            let mut rest = !self.again.is_empty();
            for place in 0..self.ports.len() {
                if self.has_more(place) {
                    self.accept(place);
                    rest |= self.has_more(place);
                }
            }
            self.records.settle();
            // A batch that was not full has emptied the instance: sockets in it tell edges, so nothing lingers.
            if taken < BATCH && !rest {
                return Ok(false);
            }
            if clock::now() >= until {
                break;
            }
        }
        Ok(true)
    }

    fn has_more(&self, place: usize) -> bool {
        self.ports[place].as_ref().is_some_and(|port| port.more)
    }

    /// Watches a socket of a record for both directions, for as long as it is open.
    fn watch_once(&mut self, index: u32, side: Side) -> io::Result<()> {
        let half = self.records.get(index).half(side);
        let Some(socket) = half.socket.as_ref().filter(|_| !half.watched) else {
            return Ok(());
        };
        half.watched = true;
        let token = Token((index as usize) << 1 | side as usize);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.epoll
            .registry()
            .register(&mut SourceFd(&socket.as_raw_fd()), token, interest)
    }

    fn next_id(&mut self) -> u64 {
        // SplitMix64: numbers that look unrelated and repeat only after 2^64.
        self.next_id = self.next_id.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut id = self.next_id;
        id = (id ^ (id >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        id = (id ^ (id >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        id ^ (id >> 31)
    }

    /// Deadlines, clients that wait, listeners that paused.
    fn tick(&mut self) {
        let mut due = Vec::new();
        self.wheel.tick(&mut self.records, &mut due);
        for index in due {
            self.on_deadline(index);
        }
        self.serve_waiting();
        for place in 0..self.ports.len() {
            if self.ports[place]
                .as_ref()
                .is_some_and(|port| port.paused || port.more)
            {
                self.accept(place);
            }
        }
        self.records.settle();
    }
}

/// What epoll said of a socket.
#[derive(Clone, Copy, Debug)]
struct Ready {
    read: bool,
    write: bool,
    closed: bool,
    error: bool,
}
