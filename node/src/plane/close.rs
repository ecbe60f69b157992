//! Ends: every connection has one reason, one line and one count, and is closed without cutting off what was said.
//!
//! Closing a socket with unread input resets it, and a reset may destroy a DISCONNECT that the broker has not read yet
//! (it would then publish the client's will). So a side that may still be listening is told that nothing more comes,
//! what it still says is read and dropped, and it is closed when it closes, or after a second.

use std::sync::atomic::Ordering::Relaxed;

use standfast_proto::mqtt::disconnect::{self, Reason};

use super::Plane;
use super::record::{Phase, Side};
use super::relay::{LINGER, shut};
use super::socket::{self, Received};
use super::wheel::ticks;
use crate::clock::unix_ms;
use crate::end::End;

/// How much input of a side that is being closed is read at one go.
const BUDGET: usize = 16;

impl Plane {
    /// A deadline is due.
    pub(super) fn on_deadline(&mut self, index: u32) {
        match self.records.get(index).phase {
            Phase::Greeting => self.conclude(index, End::ConnectDeadline),
            Phase::Connecting => self.on_connect_deadline(index),
            Phase::Relaying => self.on_relay_deadline(index),
            Phase::Closing => self.free(index),
            Phase::Waiting | Phase::Vacant => {}
        }
    }

    /// The end of a connection is known: counts, line, and a clean close of what is open.
    pub(super) fn conclude(&mut self, index: u32, end: End) {
        let record = self.records.get(index);
        if matches!(record.phase, Phase::Closing | Phase::Vacant) {
            return;
        }
        if self.shared.access.is_on() {
            self.shared.access.write(record.line(Some(end)));
        }
        let relayed = record.phase == Phase::Relaying;
        record.end = Some(end);
        record.phase = Phase::Closing;
        self.shared.ends[end.index()].fetch_add(1, Relaxed);
        self.shared.live.fetch_sub(1, Relaxed);
        if let Some(setup) = record.setup.take() {
            self.shared
                .greeting_bytes
                .fetch_sub(setup.charged as u64, Relaxed);
        }
        if let Some(listener) = &record.listener {
            listener.counts.live.fetch_sub(1, Relaxed);
            listener.counts.count(end);
            if std::mem::take(&mut record.facts.queued) {
                listener.pool.waiting.fetch_sub(1, Relaxed);
            }
            if record.facts.counted_ip {
                listener.counts.leave(record.client.ip());
            }
            if let Some(id) = record.stuck.take() {
                listener.pool.router.ended(id, unix_ms());
            } else if let Some(claim) = record.claim.take() {
                listener.pool.router.abandoned(claim);
            }
        }
        if std::mem::take(&mut record.facts.counted_backend)
            && let Some(backend) = &record.backend
        {
            backend.live.fetch_sub(1, Relaxed);
        }
        if let Some(backend) = record.backend.as_ref().filter(|_| relayed) {
            backend
                .bytes_in
                .fetch_add(record.halves[Side::Client as usize].bytes, Relaxed);
            backend
                .bytes_out
                .fetch_add(record.halves[Side::Backend as usize].bytes, Relaxed);
        }
        for half in &mut record.halves {
            if let Some(pending) = half.pending.take() {
                let held = pending.bytes.len() as u64;
                self.shared.relay_bytes.fetch_sub(held, Relaxed);
            }
        }
        // The broker has to read what the client said last; the client, what we or the broker said last.
        let last_words = matches!(
            end,
            End::BackendClose
                | End::BackendReset
                | End::NoBackend
                | End::Drained
                | End::Kicked
                | End::Shutdown
                | End::BackendDown
                | End::HalfCloseTimeout
        );
        for (side, lingers) in [(Side::Client, last_words), (Side::Backend, relayed)] {
            let half = record.half(side);
            if half.eof || !lingers {
                half.socket = None;
            } else {
                shut(half);
            }
        }
        if record.halves.iter().all(|half| half.socket.is_none()) {
            self.free(index);
            return;
        }
        self.wheel.arm(&mut self.records, index, ticks(LINGER));
        for side in [Side::Client, Side::Backend] {
            // A socket that was never watched would not tell that the other side is done; a look now and the
            // deadline will do.
            let _ = self.watch_once(index, side);
            self.drain(index, side);
        }
    }

    /// Reads and drops what a side still says; closes it when it has closed.
    pub(super) fn drain(&mut self, index: u32, side: Side) {
        let record = self.records.get(index);
        if record.phase != Phase::Closing {
            return;
        }
        let half = record.half(side);
        let Some(socket) = &half.socket else { return };
        let mut left = BUDGET;
        let done = loop {
            match socket::receive(socket, &mut self.scratch) {
                Received::Bytes(_) if left > 0 => left -= 1,
                // It talks on and on: it has had its chance.
                Received::Bytes(_) | Received::Eof | Received::Broken(_) => break true,
                Received::Nothing => break false,
            }
        };
        if done {
            half.socket = None;
            if record.halves.iter().all(|half| half.socket.is_none()) {
                self.free(index);
            }
        }
    }

    fn free(&mut self, index: u32) {
        self.wheel.disarm(&mut self.records, index);
        self.shared.open.fetch_sub(1, Relaxed);
        self.records.give(index);
    }

    /// Ends a connection because we want to: an MQTT 5 client is told why, between two packets of its broker.
    ///
    /// Where the broker is in the middle of a packet the connection goes on until that packet is whole, for a second
    /// at most.
    pub(super) fn end_politely(&mut self, index: u32, end: End, reason: u8) {
        let record = self.records.get(index);
        match record.phase {
            Phase::Relaying if record.level == 5 && record.connack == Some(0) => {
                record.end = Some(end);
                record.facts.wants_bye = reason;
                self.wheel.arm(&mut self.records, index, ticks(LINGER));
                self.say_bye(index);
            }
            _ => self.conclude(index, end),
        }
    }

    /// Puts our DISCONNECT behind a whole packet, if the broker is between two and the client takes all at once.
    pub(super) fn say_bye(&mut self, index: u32) {
        let record = self.records.get(index);
        let from = &record.halves[Side::Backend as usize];
        let between = from.tracked && from.tracker.at_boundary();
        let free = record.halves[Side::Client as usize].pending.is_none();
        if record.phase != Phase::Relaying || !between || !free {
            return;
        }
        let end = record.end.unwrap_or(End::Shutdown);
        let mut bye = Vec::new();
        disconnect::encode(Reason(record.facts.wants_bye), None, &mut bye);
        self.say_last(index, &bye);
        self.conclude(index, end);
    }
}
