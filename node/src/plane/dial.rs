//! From a routed client to a joined pair: choose, connect, try the next choice, wait where there is none.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::io::Errno;
use standfast_proto::mqtt::Level;
use standfast_proto::mqtt::connack::{self, Refusal as Answer};

use super::record::{Pending, Phase, Side};
use super::wheel::ticks;
use super::{Plane, Ready, socket};
use crate::clock;
use crate::config::{Mode, Then};
use crate::end::{End, Refusal};
use crate::pool::{Choice, Signal, put_proxy_header};
use crate::route::Request;

/// A connect that takes longer makes the health checks look at once: on a LAN it takes a millisecond.
const SLOW: Duration = Duration::from_millis(150);

/// How long a client whose every choice failed waits before the choices are tried again.
const ROUND: Duration = Duration::from_millis(250);

/// What the first write to a backend came to.
enum Opened {
    /// The backend has it, or what it would not take yet is kept.
    Joined,
    /// The backend has not accepted yet.
    NotYet,
    /// It will not.
    Failed(Errno),
}

impl Plane {
    /// Routes a client that has just come: behind those who wait already, lest it take the place that they wait for.
    pub(super) fn route_new(&mut self, index: u32) {
        let listener = self.records.get(index).listener.as_ref();
        if listener.is_some_and(|listener| listener.pool.waiting.load(Relaxed) > 0) {
            self.wait(index);
        } else {
            self.route(index);
        }
    }

    /// Chooses a backend and begins to connect to it.
    fn route(&mut self, index: u32) {
        let record = self.records.get(index);
        let Some(listener) = record.listener.clone() else {
            return;
        };
        let request = Request {
            client_id: Some(record.client_id.as_bytes()).filter(|id| !id.is_empty()),
            client_ip: record.client.ip(),
            persistent: record.facts.persistent,
        };
        let tried = record.setup.as_ref().map_or(&[][..], |setup| &setup.tried);
        match listener.pool.choose(&request, tried) {
            Choice::To(chosen) => {
                record.backend = Some(chosen.backend);
                record.why = Some(chosen.why);
                record.claim = chosen.claim;
                record.facts.counted_backend = true;
                let setup = record.setup();
                setup.tried.push(chosen.place);
                let now = clock::now();
                setup.dialled = Some(now);
                setup.first_dialled.get_or_insert(now);
                if let Some(since) = setup.waiting_since {
                    let waited = now.saturating_duration_since(since).as_millis();
                    record.queue_ms = u32::try_from(waited).unwrap_or(u32::MAX);
                }
                self.dial(index);
            }
            Choice::Wait => self.wait(index),
        }
    }

    fn dial(&mut self, index: u32) {
        let record = self.records.get(index);
        let (Some(listener), Some(backend)) = (&record.listener, &record.backend) else {
            return;
        };
        let pool = &listener.pool.config;
        let Some(address) = backend.address() else {
            return self.dial_failed(index, Errno::HOSTUNREACH);
        };
        let first = SLOW.min(pool.timeout.connect);
        match socket::dial(address, pool.source) {
            Ok(socket) => {
                record.phase = Phase::Connecting;
                record.half(Side::Backend).socket = Some(socket);
                match self.open(index) {
                    Opened::Joined => self.joined(index),
                    Opened::Failed(error) => self.dial_failed(index, error),
                    Opened::NotYet => {
                        self.wheel.arm(&mut self.records, index, ticks(first));
                        if !self.charge(index) {
                            return self.conclude(index, End::Refused(Refusal::GreetingMemory));
                        }
                        if self.watch_once(index, Side::Backend).is_err()
                            || self.watch_once(index, Side::Client).is_err()
                        {
                            self.conclude(index, End::Internal);
                        }
                    }
                }
            }
            Err(error) => self.dial_failed(index, error),
        }
    }

    /// A socket of a connection that is being set up became ready.
    pub(super) fn on_connecting(&mut self, index: u32, side: Side, ready: Ready) {
        match side {
            Side::Backend => {
                let record = self.records.get(index);
                let Some(socket) = &record.halves[Side::Backend as usize].socket else {
                    return;
                };
                if !ready.write && !ready.error && !ready.closed {
                    return;
                }
                match socket::dial_result(socket) {
                    Ok(()) => match self.open(index) {
                        Opened::Joined => self.joined(index),
                        Opened::NotYet => {}
                        Opened::Failed(error) => self.dial_failed(index, error),
                    },
                    Err(error) => self.dial_failed(index, error),
                }
            }
            // What it sends waits in the kernel.
            Side::Client => self.on_early_end(index, ready),
        }
    }

    /// Writes PROXY header and CONNECT, in one write, if the backend's accept is there.
    fn open(&mut self, index: u32) -> Opened {
        let record = self.records.get(index);
        let (Some(listener), Some(setup)) = (&record.listener, &record.setup) else {
            return Opened::Failed(Errno::NOTCONN);
        };
        let client = &record.halves[Side::Client as usize];
        let to = &record.halves[Side::Backend as usize];
        let Some(socket) = &to.socket else {
            return Opened::Failed(Errno::NOTCONN);
        };
        self.opening.clear();
        if let Some(proxy) = &listener.pool.config.proxy {
            let local = record
                .local
                .or_else(|| client.socket.as_ref().and_then(socket::local_address));
            put_proxy_header(
                &mut self.opening,
                proxy,
                record.client,
                local.unwrap_or(record.client),
            );
        }
        let opening = if self.opening.is_empty() {
            &setup.bytes
        } else {
            self.opening.extend_from_slice(&setup.bytes);
            &self.opening
        };
        if opening.is_empty() {
            // In tcp mode the client may be waiting for the server's first word.
            return match socket::is_connected(socket) {
                true => Opened::Joined,
                false => Opened::NotYet,
            };
        }
        let n = match socket::send(socket, opening) {
            Ok(0) => return Opened::NotYet,
            Ok(n) => n,
            Err(error) => return Opened::Failed(error),
        };
        if n < opening.len() {
            let bytes = opening[n..].to_vec();
            self.shared
                .relay_bytes
                .fetch_add(bytes.len() as u64, Relaxed);
            record.halves[Side::Backend as usize].pending =
                Some(Box::new(Pending { bytes, taken: 0 }));
        }
        Opened::Joined
    }

    /// The backend has what the client sent so far, and bytes pass from now on.
    fn joined(&mut self, index: u32) {
        let record = self.records.get(index);
        let (Some(listener), Some(backend)) = (record.listener.clone(), record.backend.clone())
        else {
            return;
        };
        let now = clock::now();
        let setup = record.setup.take().unwrap_or_default();
        if setup.charged > 0 {
            self.shared
                .greeting_bytes
                .fetch_sub(setup.charged as u64, Relaxed);
        }
        let took = setup
            .first_dialled
            .map_or(0, |since| now.saturating_duration_since(since).as_millis());
        record.connect_ms = u32::try_from(took).unwrap_or(u32::MAX);
        record.phase = Phase::Relaying;
        record.half(Side::Client).bytes += setup.bytes.len() as u64;
        backend.total.fetch_add(1, Relaxed);
        if listener.pool.config.mode == Mode::Tcp {
            self.client_accepted(index);
        }
        self.begin_idle(index);
        let heard_before = self.records.get(index).half(Side::Client).watched;
        if self.watch_once(index, Side::Backend).is_err()
            || self.watch_once(index, Side::Client).is_err()
        {
            return self.conclude(index, End::Internal);
        }
        if heard_before {
            // Its edge may have come while nothing could be done with it.
            self.go_on(index, Side::Client);
        }
    }

    /// This choice cannot be reached: the next one, where there is one.
    pub(super) fn dial_failed(&mut self, index: u32, error: Errno) {
        let record = self.records.get(index);
        let half = record.half(Side::Backend);
        half.socket = None;
        half.watched = false;
        // Of this socket, not of the next.
        half.fin = false;
        half.broken = false;
        record.setup().dialled = Some(clock::now());
        let Some(backend) = record.backend.take() else {
            return;
        };
        self.let_go(index, &backend);
        if socket::is_ours(error) {
            let (error, backend) = (socket::describe(error), &*backend.name);
            tracing::warn!(%error, backend, "cannot connect: this host has run out of something");
        } else {
            backend.connect_failed.fetch_add(1, Relaxed);
            backend.signal(match error {
                Errno::CONNREFUSED => Signal::Refused,
                Errno::CONNRESET => Signal::Reset,
                Errno::TIMEDOUT => Signal::Slow,
                _ => Signal::Unreachable,
            });
            let (error, client) = (socket::describe(error), &*self.records.get(index).client_id);
            tracing::debug!(%error, backend = &*backend.name, client, "connect failed");
        }
        self.route(index);
    }

    /// The deadline of a connect: slow first, failed then.
    pub(super) fn on_connect_deadline(&mut self, index: u32) {
        let record = self.records.get(index);
        let (Some(listener), Some(backend)) = (&record.listener, &record.backend) else {
            return;
        };
        let timeout = listener.pool.config.timeout.connect;
        let since = record.setup.as_ref().and_then(|setup| setup.dialled);
        let waited = since.map_or(timeout, |since| {
            clock::now().saturating_duration_since(since)
        });
        if waited >= timeout {
            self.dial_failed(index, Errno::TIMEDOUT);
        } else {
            backend.signal(Signal::Slow);
            let rest = ticks(timeout - waited);
            self.wheel.arm(&mut self.records, index, rest);
        }
    }

    /// No backend can take the client at the moment.
    fn wait(&mut self, index: u32) {
        self.wheel.disarm(&mut self.records, index);
        let record = self.records.get(index);
        record.phase = Phase::Waiting;
        let setup = record.setup();
        setup.waiting_since.get_or_insert_with(clock::now);
        if !record.facts.queued {
            record.facts.queued = true;
            if let Some(listener) = &record.listener {
                listener.pool.waiting.fetch_add(1, Relaxed);
            }
            self.waiting.push_back((index, record.id));
        }
        if !self.charge(index) {
            return self.conclude(index, End::Refused(Refusal::GreetingMemory));
        }
        if self.watch_once(index, Side::Client).is_err() {
            self.conclude(index, End::Internal);
        }
    }

    /// Gives those who wait another try, in the order in which they came, and ends those who waited long enough.
    pub(super) fn serve_waiting(&mut self) {
        for _ in 0..self.waiting.len() {
            let Some((index, id)) = self.waiting.pop_front() else {
                return;
            };
            let record = self.records.get(index);
            if record.id != id || !std::mem::take(&mut record.facts.queued) {
                // It left meanwhile, and its slot may be another's.
                continue;
            }
            if let Some(listener) = &record.listener {
                listener.pool.waiting.fetch_sub(1, Relaxed);
            }
            let Some(when_empty) = record.listener.as_ref().map(|l| l.pool.config.when_empty)
            else {
                continue;
            };
            let setup = record.setup();
            let now = clock::now();
            let waited = setup
                .waiting_since
                .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            if waited >= when_empty.wait {
                record.queue_ms = u32::try_from(waited.as_millis()).unwrap_or(u32::MAX);
                self.turn_away(index, when_empty.then);
                continue;
            }
            let rested = setup
                .dialled
                .is_none_or(|dialled| now.saturating_duration_since(dialled) >= ROUND);
            if rested {
                setup.tried.clear();
            }
            self.route(index);
        }
    }

    /// Nobody can take the client: say so in MQTT where configured, and close.
    fn turn_away(&mut self, index: u32, then: Then) {
        let record = self.records.get(index);
        if then == Then::Refuse
            && let Some(level) = Level::from_number(record.level)
        {
            record.connack = Some(Answer::ServerUnavailable.code(level));
            let mut refusal = Vec::new();
            connack::refuse(level, Answer::ServerUnavailable, &mut refusal);
            self.say_last(index, &refusal);
        }
        self.conclude(index, End::NoBackend);
    }

    /// Writes the last bytes that a client gets from us; they are few, and a client that cannot take them goes without.
    pub(super) fn say_last(&mut self, index: u32, bytes: &[u8]) {
        let half = self.records.get(index).half(Side::Client);
        if half.pending.is_none()
            && let Some(socket) = &half.socket
        {
            // Whether it arrives makes no difference to what follows.
            let _ = socket::send(socket, bytes);
        }
    }

    /// The backend that was chosen is not used after all.
    pub(super) fn let_go(&mut self, index: u32, backend: &crate::pool::Backend) {
        let record = self.records.get(index);
        if std::mem::take(&mut record.facts.counted_backend) {
            backend.live.fetch_sub(1, Relaxed);
        }
        if let Some(claim) = record.claim.take()
            && let Some(listener) = &record.listener
        {
            listener.pool.router.abandoned(claim);
        }
    }
}
