//! What the rest of the program asks of the data-plane threads, and how it asks all of them.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Token};
use tokio::sync::oneshot;

use super::record::{Phase, Record};
use super::wheel::TICK;
use super::{PORT, Plane, Port};
use crate::clock;
use crate::end::End;
use crate::state::Listener;

/// Which connections are meant.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// This client id.
    pub client_id: Option<String>,
    /// This client address.
    pub ip: Option<IpAddr>,
    /// This pool.
    pub pool: Option<String>,
    /// This backend (of any pool, unless `pool` is given).
    pub backend: Option<String>,
}

/// What is to be closed.
#[derive(Clone, Debug)]
pub enum Select {
    /// What a filter names.
    Filter(Filter),
    /// All, those that are not joined yet included.
    All,
}

/// One connection, as `connections` shows it.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its line so far, without an end.
    pub line: crate::access::Line,
    /// `greeting`, `waiting`, `connecting`, `relaying`.
    pub phase: &'static str,
    /// Since the client's last byte, once it relays.
    pub idle: Option<Duration>,
}

/// An order to one thread.
#[derive(Debug)]
pub enum Order {
    /// Accept on these sockets, and no longer on those of before.
    Listen {
        /// Each with its listener.
        sockets: Vec<(Arc<Listener>, OwnedFd)>,
        /// Told when those of before are closed.
        answer: oneshot::Sender<()>,
    },
    /// Accept nothing more.
    Deafen,
    /// Close some.
    Close {
        /// Which.
        select: Select,
        /// At most so many.
        most: usize,
        /// The reason in the log.
        end: End,
        /// The reason that an MQTT 5 client is told.
        reason: u8,
        /// How many were closed.
        answer: oneshot::Sender<usize>,
    },
    /// List some.
    List {
        /// Which.
        filter: Filter,
        /// At most so many.
        most: usize,
        /// What was found.
        answer: oneshot::Sender<Vec<Row>>,
    },
}

/// All data-plane threads.
#[derive(Debug, Default)]
pub struct Planes {
    threads: Vec<super::Handle>,
}

impl Planes {
    /// Starts `number` threads.
    ///
    /// # Errors
    ///
    /// A thread could not be started.
    pub fn start(number: usize, shared: &Arc<crate::state::Shared>) -> std::io::Result<Self> {
        let threads = (0..number).map(|place| super::start(place, shared.clone()));
        Ok(Self {
            threads: threads.collect::<std::io::Result<_>>()?,
        })
    }

    /// How many threads there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.threads.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// Gives an order to one thread.
    pub fn order(&self, thread: usize, order: Order) {
        let thread = &self.threads[thread];
        // A thread that is gone has taken the process with it.
        let _ = thread.orders.send(order);
        if let Err(error) = thread.waker.wake() {
            tracing::error!(%error, "cannot wake a data-plane thread");
        }
    }

    /// Age of the oldest lap of all threads, in ms: how long the slowest has not come round.
    #[must_use]
    pub fn oldest_lap_ms(&self) -> u64 {
        let now = clock::monotonic_ms();
        let ages = self
            .threads
            .iter()
            .map(|thread| now.saturating_sub(thread.lap.load(Relaxed)));
        ages.max().unwrap_or(0)
    }

    /// Gives each thread its accepting sockets; returns when those of before are closed everywhere.
    pub async fn listen(&self, shares: Vec<Vec<(Arc<Listener>, OwnedFd)>>) {
        let mut answers = Vec::new();
        for (thread, sockets) in shares.into_iter().enumerate() {
            let (answer, answered) = oneshot::channel();
            self.order(thread, Order::Listen { sockets, answer });
            answers.push(answered);
        }
        for answered in answers {
            // A thread that is gone has taken the process with it.
            let _ = answered.await;
        }
    }

    /// Lists connections of all threads, at most `most`.
    pub async fn list(&self, filter: &Filter, most: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        for thread in 0..self.threads.len() {
            let (answer, answered) = oneshot::channel();
            let most = most - rows.len();
            if most == 0 {
                break;
            }
            let filter = filter.clone();
            self.order(
                thread,
                Order::List {
                    filter,
                    most,
                    answer,
                },
            );
            rows.extend(answered.await.unwrap_or_default());
        }
        rows
    }

    /// Closes connections of all threads, at most `most`; answers how many.
    pub async fn close(&self, select: &Select, most: usize, end: End, reason: u8) -> usize {
        let mut closed = 0;
        for thread in 0..self.threads.len() {
            let (answer, answered) = oneshot::channel();
            let most = most - closed;
            if most == 0 {
                break;
            }
            let select = select.clone();
            self.order(
                thread,
                Order::Close {
                    select,
                    most,
                    end,
                    reason,
                    answer,
                },
            );
            closed += answered.await.unwrap_or_default();
        }
        closed
    }
}

impl Filter {
    fn takes(&self, record: &Record) -> bool {
        let same = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| is == Some(wanted))
        };
        let backend = record.backend.as_deref();
        let pool = record
            .listener
            .as_ref()
            .map(|listener| &*listener.pool.name);
        !matches!(record.phase, Phase::Vacant | Phase::Closing)
            && same(&self.client_id, Some(&record.client_id))
            && self.ip.is_none_or(|ip| record.client.ip() == ip)
            && same(&self.pool, pool)
            && same(&self.backend, backend.map(|backend| &*backend.name))
    }
}

impl Select {
    fn takes(&self, record: &Record) -> bool {
        match self {
            Self::Filter(filter) => filter.takes(record),
            Self::All => !matches!(record.phase, Phase::Vacant | Phase::Closing),
        }
    }
}

impl Plane {
    pub(super) fn obey(&mut self, order: Order) {
        match order {
            Order::Listen { sockets, answer } => {
                self.listen(sockets);
                let _ = answer.send(());
            }
            Order::Deafen => self.listen(Vec::new()),
            Order::Close {
                select,
                most,
                end,
                reason,
                answer,
            } => {
                let chosen: Vec<u32> = self
                    .records
                    .iter()
                    .filter(|(_, record)| record.facts.wants_bye == 0 && select.takes(record))
                    .map(|(index, _)| index)
                    .take(most)
                    .collect();
                for index in &chosen {
                    self.end_politely(*index, end, reason);
                }
                self.records.settle();
                // Who asked may have gone meanwhile.
                let _ = answer.send(chosen.len());
            }
            Order::List {
                filter,
                most,
                answer,
            } => {
                let rows = self
                    .records
                    .iter()
                    .filter(|(_, record)| filter.takes(record))
                    .take(most)
                    .map(|(_, record)| row(record, self.wheel.now()))
                    .collect();
                let _ = answer.send(rows);
            }
        }
    }

    /// Gives those that have no backend yet the listener as it is now, so that they see the backends there are now.
    fn renew(&mut self, listener: &Arc<Listener>) {
        let old: Vec<u32> = self
            .records
            .iter()
            .filter(|(_, record)| matches!(record.phase, Phase::Greeting | Phase::Waiting))
            .filter(|(_, record)| {
                let is = record.listener.as_ref();
                // The same counts make it the same listener: a name may have been away for a while.
                is.is_some_and(|is| {
                    Arc::ptr_eq(&is.counts, &listener.counts) && !Arc::ptr_eq(is, listener)
                })
            })
            .map(|(index, _)| index)
            .collect();
        for index in old {
            let record = self.records.get(index);
            if let Some(setup) = &mut record.setup {
                // These are places in the pool of before.
                setup.tried.clear();
            }
            let queued = record.facts.queued;
            if let Some(before) = record.listener.replace(listener.clone()).filter(|_| queued) {
                before.pool.waiting.fetch_sub(1, Relaxed);
                listener.pool.waiting.fetch_add(1, Relaxed);
            }
        }
    }

    /// Replaces the accepting sockets. What waits in the backlog of one that is named again stays there.
    fn listen(&mut self, sockets: Vec<(Arc<Listener>, OwnedFd)>) {
        for port in self.ports.drain(..).flatten() {
            // The guardian holds the same socket, so that closing ours would leave it watched.
            let _ = self
                .epoll
                .registry()
                .deregister(&mut SourceFd(&port.socket.as_raw_fd()));
        }
        for (listener, socket) in sockets {
            self.renew(&listener);
            let place = self.ports.len();
            let token = Token(PORT | place);
            let watched = self.epoll.registry().register(
                &mut SourceFd(&socket.as_raw_fd()),
                token,
                Interest::READABLE,
            );
            if let Err(error) = watched {
                tracing::error!(%error, listener = %listener.name, "cannot watch a listening socket");
                continue;
            }
            self.ports.push(Some(Port {
                socket,
                listener,
                paused: false,
                more: false,
            }));
            // Clients may have come before the socket was watched.
            self.accept(place);
        }
    }
}

fn row(record: &Record, now: u32) -> Row {
    let phase = match record.phase {
        Phase::Greeting => "greeting",
        Phase::Waiting => "waiting",
        Phase::Connecting => "connecting",
        Phase::Relaying => "relaying",
        Phase::Closing | Phase::Vacant => "closing",
    };
    let idle = TICK * now.wrapping_sub(record.last_in);
    Row {
        line: record.line(None),
        phase,
        idle: (record.phase == Phase::Relaying).then_some(idle),
    }
}
