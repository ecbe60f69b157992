//! The data plane: one thread per core, each with its own epoll instance over a slab of plain records.
//!
//! A thread runs a current-thread tokio runtime, which sees of all its connections one descriptor: the epoll instance
//! of the plane. So a plain TCP connection costs one [`record::Record`] and no task, and control traffic, timers and
//! what later needs tokio run beside it in the same thread.
//!
//! ```text
//! tokio ──readable──▶ turn: take a batch of events ─┬─ socket ─▶ accept ▶ greet ▶ dial ▶ relay ▶ close
//!                                                   ├─ timer ──▶ deadlines, waiting clients, paused listeners
//!                                                   └─ order ──▶ new sockets, close some, list some
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
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::task::Poll;

use mio::unix::SourceFd;
use mio::{Events, Interest, Token, Waker};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

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

/// The token of the timer.
const TIMER: usize = (1 << 41) | 1;

/// The token by which orders wake the thread.
const ORDERS: usize = (1 << 41) | 2;

/// After a stall deadlines go on from where they were, rather than all at once: so many ticks are made up at most.
const MADE_UP: u64 = 20;

/// An accepting socket of this thread.
struct Port {
    socket: OwnedFd,
    listener: Arc<Listener>,
    /// The backlog may hold more than was taken: a limit stopped the accepting, and the tick tries again.
    paused: bool,
    /// The backlog may hold more than was taken: the budget was used up, and the turn goes on with it.
    more: bool,
}

/// What the rest of the program holds of a data-plane thread.
#[derive(Debug)]
struct Handle {
    orders: mpsc::Sender<Order>,
    waker: Waker,
    /// When its loop last came round, unix ms.
    lap: Arc<AtomicU64>,
}

/// One data-plane thread.
struct Plane {
    epoll: mio::Poll,
    /// Fires once a [`wheel::TICK`].
    timer: OwnedFd,
    orders: mpsc::Receiver<Order>,
    lap: Arc<AtomicU64>,
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
fn start(number: usize, shared: Arc<Shared>) -> io::Result<Handle> {
    let epoll = mio::Poll::new()?;
    let timer = timerfd_create(
        TimerfdClockId::Monotonic,
        TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
    )?;
    let every = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(wheel::TICK.subsec_nanos()),
    };
    let times = Itimerspec {
        it_interval: every,
        it_value: every,
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
    let registry = epoll.registry();
    let (fd, interest) = (timer.as_raw_fd(), Interest::READABLE);
    registry.register(&mut SourceFd(&fd), Token(TIMER), interest)?;
    let waker = Waker::new(registry, Token(ORDERS))?;
    // Orders are few and come from commands and reloads; each is answered before the next of its kind.
    let (sender, orders) = mpsc::channel();
    let lap = Arc::new(AtomicU64::new(clock::monotonic_ms()));
    let plane = Plane {
        epoll,
        timer,
        orders,
        lap: lap.clone(),
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
    // The timers of this thread are the wheel's: a runtime that has none asks no clock when it parks.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    std::thread::Builder::new()
        .name(format!("plane-{number}"))
        .spawn(move || {
            if let Err(error) = runtime.block_on(run(plane)) {
                // Without its data plane a worker is of no use: the guardian starts another.
                tracing::error!(%error, number, "a data-plane thread ended");
                std::process::abort();
            }
        })?;
    Ok(Handle {
        orders: sender,
        waker,
        lap,
    })
}

async fn run(mut plane: Plane) -> io::Result<()> {
    let watched = sys::watch_epoll(&plane.epoll)?;
    let mut events = Events::with_capacity(BATCH);
    // Whether the last turn left work behind, of which no edge will tell.
    let mut behind = false;
    poll_fn(|cx| {
        loop {
            let ready = watched.poll_read_ready(cx);
            if ready.is_pending() && !behind {
                return Poll::Pending;
            }
            if let Poll::Ready(ready) = ready {
                // Events that come from here on make the instance readable again, so this is cleared first.
                ready?.clear_ready();
            }
            behind = plane.turn(&mut events)?;
            if behind {
                // Whatever else runs in this runtime gets its turn.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    })
    .await
}

impl Plane {
    /// Takes events until there are none, or others have to get their turn; answers whether there may be more.
    fn turn(&mut self, events: &mut Events) -> io::Result<bool> {
        // Asked for only where a turn has more than one batch: a message costs no look at the clock.
        let mut began = None;
        let mut has_time = || began.get_or_insert_with(clock::now).elapsed() < wheel::TICK;
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
                if token == TIMER {
                    self.on_timer();
                } else if token == ORDERS {
                    while let Ok(order) = self.orders.try_recv() {
                        self.obey(order);
                    }
                } else if token & PORT == 0 {
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
            while done < again.len() && (done == 0 || has_time()) {
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
            if !has_time() {
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

    fn on_timer(&mut self) {
        let mut passed = [0; 8];
        if rustix::io::read(&self.timer, &mut passed).is_ok() {
            for _ in 0..u64::from_ne_bytes(passed).min(MADE_UP) {
                self.tick();
            }
            // After the work, so that it tells how long the loop really takes.
            self.lap.store(clock::monotonic_ms(), Relaxed);
        }
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
