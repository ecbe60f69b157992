//! Taking connections from the backlog: limits first, then the record.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::record::{Phase, Record, Side};
use super::wheel::ticks;
use super::{Plane, socket};
use crate::clock;
use crate::config::{Mode, Over};
use crate::end::{End, Refusal};
use crate::state::Listener;

/// How many connections are taken before other work gets its turn.
const BUDGET: usize = 256;

/// What TCP_DEFER_ACCEPT costs a client that says nothing: its connection comes to us this much after its SYN.
pub(crate) const DEFERRED: Duration = Duration::from_secs(1);

impl Plane {
    /// Takes what waits in the backlog of a port, as far as limits allow.
    pub(super) fn accept(&mut self, place: usize) {
        for _ in 0..BUDGET {
            let Some(port) = self.ports.get_mut(place).and_then(Option::as_mut) else {
                return;
            };
            port.paused = false;
            port.more = false;
            let listener = port.listener.clone();
            let now = clock::now();
            if !self.has_room(&listener, now) {
                if let Some(port) = self.ports[place].as_mut() {
                    port.paused = true;
                }
                listener.counts.waiting.store(true, Relaxed);
                return;
            }
            let port = self.ports[place].as_ref().expect("looked up above");
            match socket::accept(&port.socket) {
                Ok((socket, address)) => {
                    listener.counts.waiting.store(false, Relaxed);
                    self.accepted(socket, address, listener, now);
                }
                Err(error) => {
                    let limits = &listener.config.limits;
                    // Where the rate refuses, the token is taken only from those that were accepted.
                    if limits.rate.is_some() && limits.over == Over::Wait {
                        listener.counts.return_token();
                    }
                    if error != Errno::AGAIN {
                        // Out of descriptors, most likely: the tick tries again.
                        let error = socket::describe(error);
                        tracing::warn!(listener = %listener.name, %error, "cannot accept a connection");
                        if let Some(port) = self.ports[place].as_mut() {
                            port.paused = true;
                        }
                    }
                    return;
                }
            }
        }
        // The edge is used up, and there may be more.
        if let Some(port) = self.ports[place].as_mut() {
            port.more = true;
        }
    }

    /// Whether one more connection may be taken from the backlog, where limits leave it there.
    fn has_room(&self, listener: &Listener, now: Instant) -> bool {
        let limits = &listener.config.limits;
        if self.shared.live.load(Relaxed) >= self.shared.most.load(Relaxed)
            && limits.over == Over::Wait
        {
            return false;
        }
        if limits.over == Over::Refuse {
            return true;
        }
        let full = limits
            .connections
            .is_some_and(|most| listener.counts.live.load(Relaxed) >= most);
        !full
            && limits
                .rate
                .is_none_or(|rate| listener.counts.take_token(rate, now))
    }

    /// Which limit or rule turns this client away.
    fn refusal(&self, listener: &Listener, ip: IpAddr, now: Instant) -> Option<Refusal> {
        let config = &listener.config;
        if config.deny.iter().any(|net| net.contains(ip))
            || !config.allow.is_empty() && !config.allow.iter().any(|net| net.contains(ip))
        {
            return Some(Refusal::Denied);
        }
        if config.limits.over == Over::Refuse {
            // This client is counted already.
            if self.shared.live.load(Relaxed) > self.shared.most.load(Relaxed) {
                return Some(Refusal::ProcessConnections);
            }
            let live = listener.counts.live.load(Relaxed);
            if config.limits.connections.is_some_and(|most| live > most) {
                return Some(Refusal::Connections);
            }
            let rate = config.limits.rate;
            if rate.is_some_and(|rate| !listener.counts.take_token(rate, now)) {
                return Some(Refusal::Rate);
            }
        }
        None
    }

    fn accepted(
        &mut self,
        socket: OwnedFd,
        address: Option<SocketAddr>,
        listener: Arc<Listener>,
        now: Instant,
    ) {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let client = address.unwrap_or(nowhere);
        listener.counts.accepted.fetch_add(1, Relaxed);
        listener.counts.live.fetch_add(1, Relaxed);
        self.shared.live.fetch_add(1, Relaxed);
        self.shared.open.fetch_add(1, Relaxed);
        let index = self.records.take();
        let id = self.next_id();
        let refusal = self.refusal(&listener, client.ip(), now);
        let proxied = listener.config.accept_proxy.as_ref();
        let expects_proxy =
            proxied.is_some_and(|nets| nets.iter().any(|net| net.contains(client.ip())));
        let record = self.records.get(index);
        *record = Record {
            phase: Phase::Greeting,
            id,
            client,
            last_in: self.wheel.now(),
            ..Record::vacant(now)
        };
        record.facts.expects_proxy = expects_proxy;
        record.half(Side::Client).socket = Some(socket);
        record.listener = Some(listener.clone());
        if let Some(refusal) = refusal {
            self.conclude(index, End::Refused(refusal));
            return;
        }
        if !expects_proxy && !self.enter_ip(index) {
            return;
        }
        if listener.pool.config.mode == Mode::Tcp && !expects_proxy {
            self.route_new(index);
            return;
        }
        self.greet(index);
        self.await_greeting(index, &listener);
    }

    /// Watches a client whose greeting was not there at once.
    fn await_greeting(&mut self, index: u32, listener: &Listener) {
        let record = self.records.get(index);
        if record.phase != Phase::Greeting {
            return;
        }
        let silent = record.setup.is_none();
        let mut deadline = listener.config.connect_deadline;
        if silent && listener.pool.config.mode == Mode::Mqtt {
            // The kernel kept it to itself until then, and the deadline counts from the SYN.
            deadline = deadline.saturating_sub(DEFERRED);
        }
        self.wheel.arm(&mut self.records, index, ticks(deadline));
        if self.watch_once(index, Side::Client).is_err() {
            self.conclude(index, End::Internal);
        }
    }

    /// Counts the client's address; `false` if that was one too many and the connection is over.
    pub(super) fn enter_ip(&mut self, index: u32) -> bool {
        let record = self.records.get(index);
        let Some(listener) = record.listener.clone() else {
            return true;
        };
        let Some(most) = listener.config.limits.per_ip else {
            return true;
        };
        let room = listener.counts.enter(record.client.ip(), most);
        record.facts.counted_ip = room;
        if !room {
            self.conclude(index, End::Refused(Refusal::PerIp));
        }
        room
    }
}
