//! The relay: what one side sends is written to the other.
//!
//! An idle connection owns no buffer. A read goes into the thread's one scratch buffer and straight out again; only
//! what the other side would not take is kept, and while it is kept nothing more is read (backpressure). Packet
//! boundaries are followed by length alone, to know a DISCONNECT when it passes and to find a place for one of ours.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::io::Errno;
use standfast_proto::mqtt::Level;
use standfast_proto::mqtt::connack::{self, Parsed};
use standfast_proto::mqtt::packet::Tracker;

use super::greet::is_disconnect;
use super::record::{Half, Pending, Phase, Record, Side};
use super::socket::{self, Received};
use super::wheel::ticks;
use super::{Plane, Ready, SCRATCH};
use crate::clock::unix_ms;
use crate::end::End;
use crate::pool::Signal;
use crate::state::Shared;

/// How many full reads of one connection are done before others get their turn.
const BUDGET: usize = 8;

/// How much is read at once while stalled readers hold too much memory.
const TIGHT: usize = 4 * 1024;

/// A CONNACK longer than this is not understood, only passed on.
const MAX_CONNACK: usize = 4 * 1024;

/// How long a broker may take to close after a DISCONNECT, and a client after the broker closed.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// A connection that has lived so long gets the socket options that matter only to those that live on.
const SETTLE_AFTER: Duration = Duration::from_millis(500);

/// Where a pass in one direction stopped.
enum Stop {
    /// Nothing more to read at the moment.
    Drained,
    /// The other side takes no more at the moment.
    Stalled,
    /// Others get their turn.
    Budget,
    /// The reading side has sent its last byte, and all was written.
    Eof,
    /// A side broke.
    Broken(Side, Errno),
    /// The first packet of the broker is whole. `rest` is why reading stopped, if it did.
    Connack { rest: Rest },
}

/// What is left to read behind the broker's first packet.
#[derive(Clone, Copy)]
enum Rest {
    /// Perhaps more.
    Unknown,
    /// Nothing at the moment.
    Drained,
    /// Nothing ever.
    Eof,
}

impl Plane {
    /// A socket became ready.
    pub(super) fn on_ready(&mut self, index: u32, side: Side, ready: Ready) {
        let record = self.records.get(index);
        // Kept, since the edge that told it is used up even where reading stops before the end.
        record.half(side).fin |= ready.closed;
        record.half(side).broken |= ready.error;
        match record.phase {
            Phase::Relaying => self.on_relay(index, side, ready),
            Phase::Greeting if side == Side::Client => self.greet(index),
            Phase::Greeting | Phase::Vacant => {}
            Phase::Waiting if side == Side::Client => self.on_early_end(index, ready),
            Phase::Waiting => {}
            Phase::Connecting => self.on_connecting(index, side, ready),
            Phase::Closing => self.drain(index, side),
        }
    }

    /// The client may have left before a backend had it.
    pub(super) fn on_early_end(&mut self, index: u32, ready: Ready) {
        // In MQTT nobody would hear an answer. Elsewhere a half-closed client waits for one: its FIN is passed on.
        let is_mqtt = self.records.get(index).level != 0;
        if ready.error {
            self.conclude(index, End::ClientReset);
        } else if ready.closed && is_mqtt {
            self.conclude(index, End::ClientClose);
        }
    }

    fn on_relay(&mut self, index: u32, side: Side, ready: Ready) {
        if ready.write && self.records.get(index).half(side).pending.is_some() {
            self.flush(index, side);
        }
        let record = self.records.get(index);
        if record.phase != Phase::Relaying {
            return;
        }
        if side == Side::Client && ready.closed && record.half(side).bye {
            // Behind a DISCONNECT a client has nothing to say: its end needs no reading.
            return self.on_eof(index, side);
        }
        if ready.read || ready.closed || ready.error {
            self.pass(index, side);
        }
    }

    /// Reads on from a side whose edge was used up.
    pub(super) fn go_on(&mut self, index: u32, from: Side) {
        let record = self.records.get(index);
        record.facts.again[from as usize] = false;
        if record.phase == Phase::Relaying {
            self.pass(index, from);
        }
    }

    /// Passes on what `from` has sent.
    fn pass(&mut self, index: u32, from: Side) {
        loop {
            let record = self.records.get(index);
            if record.phase != Phase::Relaying || record.half(from).eof {
                return;
            }
            let stop = pump(record, from, &mut self.scratch, &self.shared);
            if from == Side::Client {
                record.last_in = self.wheel.now();
            }
            match stop {
                Stop::Drained | Stop::Stalled => {}
                Stop::Budget => {
                    if !std::mem::replace(&mut record.facts.again[from as usize], true) {
                        self.again.push((index, from));
                    }
                }
                Stop::Eof => return self.on_eof(index, from),
                Stop::Broken(side, error) if side == from => {
                    return self.on_broken(index, side, error);
                }
                Stop::Broken(side, error) => return self.on_unwritable(index, side, error),
                Stop::Connack { rest } => {
                    self.on_connack(index);
                    match rest {
                        Rest::Unknown => continue,
                        Rest::Drained => {}
                        Rest::Eof => return self.on_eof(index, from),
                    }
                }
            }
            if from == Side::Backend && self.records.get(index).facts.wants_bye != 0 {
                self.say_bye(index);
            }
            return;
        }
    }

    /// Writes what waits for `to`; once all is gone, reading goes on.
    fn flush(&mut self, index: u32, to: Side) {
        let record = self.records.get(index);
        let half = record.half(to);
        let (Some(socket), Some(pending)) = (&half.socket, &mut half.pending) else {
            return;
        };
        loop {
            match socket::send(socket, &pending.bytes[pending.taken..]) {
                Ok(0) => return,
                Ok(n) => {
                    pending.taken += n;
                    if pending.taken == pending.bytes.len() {
                        // Counted until it is freed, and it is freed as a whole.
                        let held = pending.bytes.len() as u64;
                        self.shared.relay_bytes.fetch_sub(held, Relaxed);
                        break;
                    }
                }
                Err(error) => return self.on_unwritable(index, to, error),
            }
        }
        half.pending = None;
        let from = to.other();
        if to == Side::Client && record.facts.wants_bye != 0 {
            self.say_bye(index);
        }
        let record = self.records.get(index);
        if record.phase != Phase::Relaying {
            return;
        }
        if record.half(from).eof {
            self.on_eof(index, from);
        } else {
            self.pass(index, from);
        }
    }

    /// `from` will send nothing more. What it sent may still wait to be written.
    fn on_eof(&mut self, index: u32, from: Side) {
        let record = self.records.get(index);
        record.half(from).eof = true;
        let to = from.other();
        if record.half(to).pending.is_some() {
            return;
        }
        if record.half(to).eof {
            return self.conclude_by_eof(index);
        }
        let Some(timeouts) = record.listener.as_ref().map(|l| l.pool.config.timeout) else {
            return;
        };
        let said_bye = record.half(Side::Client).bye;
        match from {
            Side::Client => {
                record.end.get_or_insert(if said_bye {
                    End::ClientDisconnect
                } else {
                    End::ClientClose
                });
                shut(record.half(to));
                let patience = if said_bye {
                    LINGER
                } else {
                    timeouts.half_close
                };
                self.wheel.arm(&mut self.records, index, ticks(patience));
            }
            Side::Backend if said_bye => self.conclude(index, End::ClientDisconnect),
            Side::Backend => {
                // The kernel closes for a broker that is killed. A client that was refused was closed on purpose.
                let refused = record.connack.is_some_and(|code| code != 0);
                if record.end.is_none()
                    && !refused
                    && let Some(backend) = &record.backend
                {
                    backend.signal(Signal::Closed);
                }
                record.end.get_or_insert(End::BackendClose);
                shut(record.half(to));
                // A broker that closed reads nothing more; of another server that is not known.
                let patience = if record.level == 0 {
                    timeouts.half_close
                } else {
                    LINGER
                };
                self.wheel.arm(&mut self.records, index, ticks(patience));
            }
        }
    }

    /// Both sides have sent their last byte.
    fn conclude_by_eof(&mut self, index: u32) {
        let record = self.records.get(index);
        let said_bye = record.half(Side::Client).bye;
        let first = record.end.unwrap_or(End::BackendClose);
        self.conclude(
            index,
            if said_bye {
                End::ClientDisconnect
            } else {
                first
            },
        );
    }

    /// A write to `side` failed. What it sent before it broke is still there to be read: a DISCONNECT in front of the
    /// reset, perhaps, or the reason of a broker.
    fn on_unwritable(&mut self, index: u32, side: Side, error: Errno) {
        loop {
            let record = self.records.get(index);
            if record.phase != Phase::Relaying {
                return;
            }
            if record.half(side).eof {
                break;
            }
            match pump(record, side, &mut self.scratch, &self.shared) {
                // Nothing is added to a socket that broke, so this ends.
                Stop::Budget => {}
                Stop::Connack { .. } => self.on_connack(index),
                Stop::Drained | Stop::Stalled | Stop::Eof | Stop::Broken(..) => break,
            }
        }
        self.on_broken(index, side, error);
    }

    fn on_broken(&mut self, index: u32, side: Side, error: Errno) {
        let record = self.records.get(index);
        let said_bye = record.half(Side::Client).bye;
        if side == Side::Backend
            && !said_bye
            && let Some(backend) = &record.backend
        {
            backend.signal(match error {
                Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH => Signal::Unreachable,
                _ => Signal::Reset,
            });
        }
        let end = match (said_bye, side, record.end) {
            (true, ..) => End::ClientDisconnect,
            // The side that ended it first has the word: a reset that answers our FIN is no cause.
            (false, _, Some(first)) => first,
            (false, Side::Client, None) => End::ClientReset,
            (false, Side::Backend, None) => End::BackendReset,
        };
        record.half(side).socket = None;
        self.conclude(index, end);
    }

    /// The deadline of a connection that relays.
    pub(super) fn on_relay_deadline(&mut self, index: u32) {
        let now = self.wheel.now();
        let record = self.records.get(index);
        if record.facts.wants_bye != 0 {
            let end = record.end.unwrap_or(End::Shutdown);
            return self.conclude(index, end);
        }
        let said_bye = record.half(Side::Client).bye;
        let end = match (
            record.half(Side::Client).eof,
            record.half(Side::Backend).eof,
        ) {
            (true, _) if said_bye => Some(End::ClientDisconnect),
            (true, _) => Some(End::HalfCloseTimeout),
            (false, true) => Some(End::BackendClose),
            (false, false) => None,
        };
        if let Some(end) = end {
            return self.conclude(index, end);
        }
        if !record.facts.settled {
            record.facts.settled = true;
            settle(record);
        }
        let silent = now.wrapping_sub(record.last_in);
        if record.idle_ticks == 0 {
            return;
        }
        if silent < record.idle_ticks {
            let rest = record.idle_ticks - silent;
            self.wheel.arm(&mut self.records, index, rest);
        } else {
            let end = if record.keepalive != 0 {
                End::KeepaliveTimeout
            } else {
                End::IdleTimeout
            };
            self.conclude(index, end);
        }
    }

    /// Sets how long the client may be silent: 1.5 × its keepalive, with the pool's cap.
    pub(super) fn begin_idle(&mut self, index: u32) {
        let now = self.wheel.now();
        let record = self.records.get(index);
        let Some(cap) = record.listener.as_ref().map(|l| l.pool.config.timeout.idle) else {
            return;
        };
        let keepalive = match record.keepalive {
            0 => None,
            seconds => Some(Duration::from_millis(u64::from(seconds) * 1500)),
        };
        let limit = match (keepalive, cap) {
            (Some(keepalive), Some(cap)) => Some(keepalive.min(cap)),
            (one, other) => one.or(other),
        };
        record.last_in = now;
        record.idle_ticks = limit.map_or(0, ticks);
        let settle_after = ticks(SETTLE_AFTER);
        let after = match (record.facts.settled, record.idle_ticks) {
            (true, 0) => return self.wheel.disarm(&mut self.records, index),
            (true, idle) => idle,
            (false, 0) => settle_after,
            (false, idle) => idle.min(settle_after),
        };
        self.wheel.arm(&mut self.records, index, after);
    }

    /// The first packet of the broker is whole: its bytes are in the setup.
    fn on_connack(&mut self, index: u32) {
        let record = self.records.get(index);
        record.facts.connack_seen = true;
        let setup = record.setup.take().unwrap_or_default();
        let Some(level) = Level::from_number(record.level) else {
            return;
        };
        let Ok(Parsed::Connack(connack)) = connack::parse(&setup.bytes, level, MAX_CONNACK) else {
            // Whatever it is, the client will know: it is passed on all the same.
            return;
        };
        record.connack = Some(connack.code);
        if record.client_id.is_empty()
            && let Some(assigned) = connack.assigned_client_id
        {
            record.client_id = assigned.into();
        }
        let before = record.keepalive;
        if let Some(keepalive) = connack.server_keep_alive {
            record.keepalive = keepalive;
        }
        let changed = record.keepalive != before;
        if connack.code == 0 {
            self.client_accepted(index);
        } else {
            self.client_refused(index);
        }
        if changed {
            self.begin_idle(index);
        }
    }

    /// The broker has accepted the client: the sticky table may know.
    pub(super) fn client_accepted(&mut self, index: u32) {
        let record = self.records.get(index);
        let Some(listener) = &record.listener else {
            return;
        };
        if let Some(claim) = record.claim.take()
            && listener.pool.router.accepted(claim, unix_ms())
        {
            record.stuck = Some(claim.id);
        }
        if self.shared.access.wants_connect_lines() {
            self.shared.access.write(record.line(None));
        }
    }

    fn client_refused(&mut self, index: u32) {
        let record = self.records.get(index);
        if let Some(claim) = record.claim.take()
            && let Some(listener) = &record.listener
        {
            listener.pool.router.abandoned(claim);
        }
    }
}

/// How many of `bytes` belong to the packet that is under way; all, if it does not end in them.
fn to_boundary(mut tracker: Tracker, bytes: &[u8]) -> usize {
    for (place, byte) in bytes.iter().enumerate() {
        // A bad length turns the tracker off, and then there is no boundary.
        let _ = tracker.advance(std::slice::from_ref(byte), |_| {});
        if tracker.at_boundary() {
            return place + 1;
        }
    }
    bytes.len()
}

/// Sets the socket options of a long life.
fn settle(record: &Record) {
    if let (Some(listener), Some(socket)) = (
        &record.listener,
        &record.halves[Side::Backend as usize].socket,
    ) {
        socket::settle(socket, &listener.pool.config.timeout);
    }
}

/// Tells a side that nothing more comes.
pub(super) fn shut(half: &mut Half) {
    if let Some(socket) = &half.socket
        && !half.shut
    {
        socket::shut(socket);
        half.shut = true;
    }
}

/// Reads from one side and writes to the other until something stops it.
#[inline]
fn pump(record: &mut Record, from: Side, scratch: &mut [u8], shared: &Shared) -> Stop {
    let [client, backend] = &mut record.halves;
    let (source, sink) = match from {
        Side::Client => (client, backend),
        Side::Backend => (backend, client),
    };
    let (Some(reading), Some(writing)) = (&source.socket, &sink.socket) else {
        return Stop::Drained;
    };
    if sink.pending.is_some() {
        return Stop::Stalled;
    }
    for _ in 0..BUDGET {
        let most = if shared.relay_is_tight() {
            TIGHT
        } else {
            SCRATCH
        };
        let n = match socket::receive(reading, &mut scratch[..most]) {
            Received::Bytes(n) => n,
            Received::Nothing => return Stop::Drained,
            Received::Eof => return Stop::Eof,
            Received::Broken(error) => return Stop::Broken(from, error),
        };
        let mut bytes = &scratch[..n];
        // Where a DISCONNECT of ours is to follow, nothing passes behind the packet that is under way.
        let ends_here = from == Side::Backend && record.facts.wants_bye != 0 && source.tracked;
        if ends_here {
            bytes = &bytes[..to_boundary(source.tracker, bytes)];
        }
        let n = bytes.len();
        source.bytes += n as u64;
        if source.tracked {
            let bye = &mut source.bye;
            if source
                .tracker
                .advance(bytes, |first| *bye |= is_disconnect(first))
                .is_err()
            {
                source.tracked = false;
            }
        }
        // Behind a client's DISCONNECT nothing may follow: our FIN rides on it.
        let last = source.bye && from == Side::Client;
        let sent = if last {
            socket::send_last(writing, bytes)
        } else {
            socket::send(writing, bytes)
        };
        let sent = match sent {
            Ok(sent) => sent,
            Err(error) => return Stop::Broken(from.other(), error),
        };
        if sent < n {
            shared.relay_bytes.fetch_add((n - sent) as u64, Relaxed);
            sink.pending = Some(Box::new(Pending {
                bytes: bytes[sent..].to_vec(),
                taken: 0,
            }));
        }
        if from == Side::Backend && !record.facts.connack_seen && record.level != 0 {
            let setup = record.setup.get_or_insert_default();
            setup.bytes.extend_from_slice(bytes);
            let whole = Level::from_number(record.level).is_none_or(|level| {
                !matches!(
                    connack::parse(&setup.bytes, level, MAX_CONNACK),
                    Ok(Parsed::Incomplete { .. })
                )
            });
            if whole {
                let rest = match (n < most && sent == n, source.fin) {
                    (false, _) => Rest::Unknown,
                    (true, false) => Rest::Drained,
                    (true, true) => Rest::Eof,
                };
                return Stop::Connack { rest };
            }
        }
        if sent < n {
            // What is left is flushed when the sink is writable again; its end is seen then.
            return Stop::Stalled;
        }
        if last {
            return Stop::Eof;
        }
        if ends_here && source.tracker.at_boundary() {
            return Stop::Drained;
        }
        if n < most {
            // All that was there has been read. If the kernel has seen the end, this was it.
            match (source.fin, source.broken) {
                (false, _) => return Stop::Drained,
                (true, false) => return Stop::Eof,
                // The next read says what broke.
                (true, true) => {}
            }
        }
    }
    Stop::Budget
}
