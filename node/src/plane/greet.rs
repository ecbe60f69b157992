//! The greeting: an inbound PROXY header where one is due, then the whole CONNECT, whatever its fragmentation.

use std::sync::atomic::Ordering::Relaxed;

use standfast_proto::mqtt::connect::{self, Parsed};
use standfast_proto::proxy;

use super::record::{Facts, Record, Side};
use super::socket::{self, Received};
use super::{Plane, SCRATCH};
use crate::clock;
use crate::config::Mode;
use crate::end::{End, Refusal};

/// Greetings up to this many bytes are not charged to `limits.greeting_memory`: small ones keep a reserve.
const FREE: usize = 1024;

/// The longest PROXY header that is waited for.
const MAX_PROXY: usize = proxy::MAX_LEN;

/// What a greeting came to with the bytes that are there.
enum Greeted {
    /// More is needed.
    Incomplete,
    /// It is whole; the record knows what it says.
    Whole,
    /// It is not what it has to be.
    Refused(End),
}

impl Plane {
    /// Reads what the client has sent and goes on as far as it reaches.
    pub(super) fn greet(&mut self, index: u32) {
        loop {
            let record = self.records.get(index);
            // The edge that told of the end may have told of these bytes too.
            let ended = record.half(Side::Client).fin;
            let Some(socket) = &record.halves[Side::Client as usize].socket else {
                return;
            };
            match socket::receive(socket, &mut self.scratch) {
                Received::Bytes(n) => match self.parse_more(index, n) {
                    Greeted::Whole => return self.greeted(index),
                    Greeted::Refused(end) => return self.conclude(index, end),
                    // Nothing more is there now; the next edge goes on.
                    Greeted::Incomplete if n < SCRATCH && !ended => return,
                    Greeted::Incomplete => {}
                },
                Received::Nothing => return,
                Received::Eof => return self.conclude(index, End::ClientClose),
                Received::Broken(_) => return self.conclude(index, End::ClientReset),
            }
        }
    }

    /// The bytes are kept for the backend, also where all is in the first read.
    fn parse_more(&mut self, index: u32, n: usize) -> Greeted {
        let record = self.records.get(index);
        record.setup().bytes.extend_from_slice(&self.scratch[..n]);
        let greeted = self.parse(index);
        if matches!(greeted, Greeted::Incomplete) && !self.charge(index) {
            return Greeted::Refused(End::Refused(Refusal::GreetingMemory));
        }
        greeted
    }

    fn parse(&mut self, index: u32) -> Greeted {
        if self.records.get(index).facts.expects_proxy {
            match parse_proxy(self.records.get(index)) {
                Greeted::Whole => {
                    if !self.enter_ip(index) {
                        return Greeted::Incomplete;
                    }
                }
                other => return other,
            }
        }
        let record = self.records.get(index);
        let mode = record.listener.as_ref().map(|l| l.pool.config.mode);
        if mode == Some(Mode::Tcp) {
            return Greeted::Whole;
        }
        parse_connect(record)
    }

    /// Counts the memory of a greeting that has to be kept; `false` if it has to go because it is the largest of too many.
    pub(super) fn charge(&mut self, index: u32) -> bool {
        let record = self.records.get(index);
        let Some(setup) = &mut record.setup else {
            return true;
        };
        let owed = setup.bytes.capacity().saturating_sub(FREE);
        let more = owed.saturating_sub(setup.charged);
        if more == 0 {
            return true;
        }
        setup.charged += more;
        let shared = self.shared.clone();
        let held = shared.greeting_bytes.fetch_add(more as u64, Relaxed) + more as u64;
        if held <= shared.most_greeting_bytes.load(Relaxed) {
            return true;
        }
        let largest = self
            .records
            .iter()
            .filter_map(|(index, record)| Some((record.setup.as_ref()?.charged, index)))
            .max_by_key(|(charged, _)| *charged)
            .map(|(_, largest)| largest);
        match largest {
            Some(largest) if largest != index => {
                self.conclude(largest, End::Refused(Refusal::GreetingMemory));
                true
            }
            _ => false,
        }
    }

    /// The CONNECT is whole: on to a backend.
    fn greeted(&mut self, index: u32) {
        let now = clock::now();
        let record = self.records.get(index);
        let took = now.saturating_duration_since(record.accepted);
        record.greeting_ms = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        self.route_new(index);
    }
}

/// Takes the PROXY header off the front of what the client sent.
fn parse_proxy(record: &mut Record) -> Greeted {
    let setup = record.setup.get_or_insert_default();
    match proxy::parse(&setup.bytes) {
        Ok(proxy::Parsed::Incomplete { .. }) if setup.bytes.len() < MAX_PROXY => {
            Greeted::Incomplete
        }
        Ok(proxy::Parsed::Header(header)) => {
            let len = header.len;
            if let Some((source, destination)) = header.addresses {
                record.client = source;
                record.local = Some(destination);
            }
            setup.bytes.drain(..len);
            record.facts.expects_proxy = false;
            Greeted::Whole
        }
        _ => Greeted::Refused(End::Refused(Refusal::Proxy)),
    }
}

fn parse_connect(record: &mut Record) -> Greeted {
    let Some(listener) = &record.listener else {
        return Greeted::Incomplete;
    };
    let most = listener.config.max_connect_packet;
    let setup = record.setup.get_or_insert_default();
    match connect::parse(&setup.bytes, most) {
        Ok(Parsed::Incomplete { .. }) => Greeted::Incomplete,
        Ok(Parsed::Connect(connect)) => {
            let client_id: Box<str> = connect.client_id.into();
            let facts = Facts {
                persistent: connect.is_persistent(),
                ..record.facts
            };
            record.level = connect.level.number();
            record.keepalive = connect.keep_alive;
            let len = connect.len;
            let half = &mut record.halves[Side::Client as usize];
            half.tracked = true;
            // What was sent behind the CONNECT travels with it and counts as relayed.
            let bye = &mut half.bye;
            if half
                .tracker
                .advance(&setup.bytes[len..], |first| *bye |= is_disconnect(first))
                .is_err()
            {
                half.tracked = false;
            }
            record.halves[Side::Backend as usize].tracked = true;
            record.client_id = client_id;
            record.facts = facts;
            Greeted::Whole
        }
        Err(error) => {
            let reason = error.reason();
            Greeted::Refused(if reason == "proxy_header" {
                End::Refused(Refusal::Proxy)
            } else {
                End::NotMqtt(reason)
            })
        }
    }
}

/// Whether the first byte of a packet is that of a DISCONNECT.
#[inline]
pub(super) fn is_disconnect(first: u8) -> bool {
    first & 0xF0 == standfast_proto::mqtt::packet::DISCONNECT
}
