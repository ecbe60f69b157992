//! The stub broker: accepts everyone, echoes what they publish to themselves, and counts.
//!
//! One thread serves; another waits on standard input and answers `stats` with a line of JSON, so that asking costs
//! the serving thread nothing.

use std::io::{BufRead as _, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use anyhow::Context as _;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use crate::mqtt::{self, Head};
use crate::sys;

/// A read takes this much at most: a bulk message and then some.
const READ_BYTES: usize = 256 * 1024;
/// With this much unsent, a connection is read no further until its client reads.
const PAUSE_BYTES: usize = 1024 * 1024;
/// The largest CONNECT that is waited for.
const CONNECT_BYTES: usize = 128 * 1024;

/// What the broker has seen since it started.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Stats {
    pub(crate) accepted: u64,
    pub(crate) connects: u64,
    pub(crate) publishes: u64,
    pub(crate) disconnects: u64,
    /// After a CONNECT, the end came without a DISCONNECT.
    pub(crate) aborted: u64,
    /// Bytes that no client of ours sends.
    pub(crate) nonsense: u64,
    /// Connections now open.
    pub(crate) open: i64,
}

#[derive(Default)]
struct Counters {
    accepted: AtomicU64,
    connects: AtomicU64,
    publishes: AtomicU64,
    disconnects: AtomicU64,
    aborted: AtomicU64,
    nonsense: AtomicU64,
    open: AtomicI64,
}

impl Counters {
    fn stats(&self) -> Stats {
        Stats {
            accepted: self.accepted.load(Ordering::Relaxed),
            connects: self.connects.load(Ordering::Relaxed),
            publishes: self.publishes.load(Ordering::Relaxed),
            disconnects: self.disconnects.load(Ordering::Relaxed),
            aborted: self.aborted.load(Ordering::Relaxed),
            nonsense: self.nonsense.load(Ordering::Relaxed),
            open: self.open.load(Ordering::Relaxed),
        }
    }
}

/// Only one thread adds, so the sum needs no locked instruction.
fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Serves until standard input ends or the parent does.
pub(crate) fn run(listen: &[SocketAddr]) -> anyhow::Result<()> {
    sys::end_with_parent()?;
    sys::raise_open_files()?;
    let counters = Arc::new(Counters::default());
    let mut broker = Broker::new(listen, Arc::clone(&counters))?;
    std::thread::spawn(move || answer(&counters));
    loop {
        broker.turn()?;
    }
}

fn answer(counters: &Counters) {
    for line in std::io::stdin().lock().lines() {
        match line.as_deref() {
            Ok("stats") => {
                let text = serde_json::to_string(&counters.stats()).unwrap_or_default();
                let mut out = std::io::stdout().lock();
                if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
                    break;
                }
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    std::process::exit(0);
}

struct Broker {
    poll: Poll,
    listeners: Vec<TcpListener>,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    counters: Arc<Counters>,
    events: Option<Events>,
    scratch: Vec<u8>,
    reply: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    conversation: Conversation,
    /// Bytes that the socket did not take.
    unsent: Vec<u8>,
    paused: bool,
    writable_wanted: bool,
}

impl Broker {
    fn new(listen: &[SocketAddr], counters: Arc<Counters>) -> anyhow::Result<Self> {
        let poll = Poll::new().context("make an epoll instance")?;
        let mut listeners = Vec::new();
        for (index, &address) in listen.iter().enumerate() {
            let socket = Socket::new(
                Domain::IPV4,
                Type::STREAM.nonblocking(),
                Some(Protocol::TCP),
            )?;
            socket.set_reuse_address(true)?;
            // Accepted sockets inherit it.
            socket.set_tcp_nodelay(true)?;
            socket
                .bind(&address.into())
                .with_context(|| format!("bind {address}"))?;
            socket.listen(4096)?;
            let mut listener = TcpListener::from_std(socket.into());
            poll.registry()
                .register(&mut listener, Token(index), Interest::READABLE)?;
            listeners.push(listener);
        }
        Ok(Self {
            poll,
            listeners,
            clients: Vec::new(),
            free: Vec::new(),
            counters,
            events: Some(Events::with_capacity(1024)),
            scratch: vec![0; READ_BYTES],
            reply: Vec::with_capacity(READ_BYTES),
        })
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        let mut events = self
            .events
            .take()
            .unwrap_or_else(|| Events::with_capacity(1024));
        match self.poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            let index = event.token().0;
            if index < self.listeners.len() {
                self.accept(index)?;
            } else {
                self.serve(index - self.listeners.len(), event.is_read_closed());
            }
        }
        self.events = Some(events);
        Ok(())
    }

    fn accept(&mut self, listener: usize) -> anyhow::Result<()> {
        loop {
            let mut stream = match self.listeners[listener].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error).context("accept"),
            };
            let slot = self.free.pop().unwrap_or_else(|| {
                self.clients.push(None);
                self.clients.len() - 1
            });
            let token = Token(slot + self.listeners.len());
            self.poll
                .registry()
                .register(&mut stream, token, Interest::READABLE)?;
            self.clients[slot] = Some(Client {
                stream,
                conversation: Conversation::default(),
                unsent: Vec::new(),
                paused: false,
                writable_wanted: false,
            });
            count(&self.counters.accepted);
            self.counters.open.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reads and answers what there is; forgets the client when that was the end.
    fn serve(&mut self, slot: usize, read_closed: bool) {
        let Some(Some(client)) = self.clients.get_mut(slot) else {
            return;
        };
        let token = Token(slot + self.listeners.len());
        let stays = client.flush().is_ok()
            && client.read(
                read_closed,
                &mut self.scratch,
                &mut self.reply,
                &self.counters,
            )
            && client.want_writable(&self.poll, token).is_ok();
        if !stays {
            if client.conversation.greeted && !client.conversation.said_goodbye {
                count(&self.counters.aborted);
            }
            self.clients[slot] = None;
            self.free.push(slot);
            self.counters.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Client {
    /// Whether the connection goes on.
    fn read(
        &mut self,
        read_closed: bool,
        scratch: &mut [u8],
        reply: &mut Vec<u8>,
        counters: &Counters,
    ) -> bool {
        loop {
            self.paused = self.unsent.len() > PAUSE_BYTES;
            if self.paused {
                return true;
            }
            let n = match self.stream.read(scratch) {
                Ok(0) => return false,
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            reply.clear();
            let goes_on = self.conversation.hear(&scratch[..n], reply, counters);
            if self.send(reply).is_err() || !goes_on {
                return false;
            }
            // A short read emptied the socket, and what comes later makes a new event; an end that was
            // announced together with these bytes does not.
            if n < scratch.len() && !read_closed {
                return true;
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return self.flush();
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.unsent.extend_from_slice(rest);
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.unsent.drain(..sent);
        Ok(())
    }

    fn want_writable(&mut self, poll: &Poll, token: Token) -> std::io::Result<()> {
        let wanted = !self.unsent.is_empty();
        if wanted && !self.writable_wanted {
            // Once asked for it stays: an edge comes only after a write that blocked.
            self.writable_wanted = true;
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().reregister(&mut self.stream, token, both)?;
        }
        Ok(())
    }
}

/// Where a client is in what it says.
#[derive(Default)]
struct Conversation {
    greeted: bool,
    said_goodbye: bool,
    /// Bytes of the current PUBLISH that are still to come and go.
    echoing: usize,
    /// The start of a packet whose rest has not come.
    partial: Vec<u8>,
}

impl Conversation {
    /// Appends the answers to `reply`; whether the connection goes on.
    fn hear(&mut self, bytes: &[u8], reply: &mut Vec<u8>, counters: &Counters) -> bool {
        if self.partial.is_empty() {
            return self.understand(bytes, reply, counters);
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(bytes);
        self.understand(&joined, reply, counters)
    }

    fn understand(&mut self, mut bytes: &[u8], reply: &mut Vec<u8>, counters: &Counters) -> bool {
        loop {
            let echoed = self.echoing.min(bytes.len());
            reply.extend_from_slice(&bytes[..echoed]);
            bytes = &bytes[echoed..];
            self.echoing -= echoed;
            if bytes.is_empty() {
                return true;
            }
            let (kind, size) = match mqtt::head(bytes) {
                Head::Packet { kind, size } => (kind, size),
                Head::Partial => {
                    self.partial = bytes.to_vec();
                    return true;
                }
                Head::Malformed => (0, 0),
            };
            match kind {
                1 if !self.greeted && size <= CONNECT_BYTES => {
                    if bytes.len() < size {
                        self.partial = bytes.to_vec();
                        return true;
                    }
                    self.greeted = true;
                    count(&counters.connects);
                    reply.extend_from_slice(&mqtt::CONNACK);
                    bytes = &bytes[size..];
                }
                3 if self.greeted => {
                    self.echoing = size;
                    count(&counters.publishes);
                }
                12 if self.greeted && size == 2 => {
                    reply.extend_from_slice(&mqtt::PINGRESP);
                    bytes = &bytes[size..];
                }
                14 if self.greeted => {
                    self.said_goodbye = true;
                    count(&counters.disconnects);
                    return false;
                }
                _ => {
                    count(&counters.nonsense);
                    return false;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear_in_pieces_of(size: usize, said: &[u8]) -> (Vec<u8>, bool, Stats) {
        let counters = Counters::default();
        let mut conversation = Conversation::default();
        let mut reply = Vec::new();
        let goes_on = said
            .chunks(size)
            .all(|piece| conversation.hear(piece, &mut reply, &counters));
        (reply, goes_on, counters.stats())
    }

    #[test]
    fn the_cuts_between_reads_do_not_change_the_answers() {
        let mut said = mqtt::connect("c");
        said.extend(mqtt::publish(64, 1));
        said.extend([0xc0, 0x00]);
        said.extend(mqtt::publish(1024, 2));
        said.extend(mqtt::DISCONNECT);
        let mut expected = mqtt::CONNACK.to_vec();
        expected.extend(mqtt::publish(64, 1));
        expected.extend(mqtt::PINGRESP);
        expected.extend(mqtt::publish(1024, 2));
        for size in [1, 2, 3, 7, 63, 64, 65, 4096] {
            let (reply, goes_on, stats) = hear_in_pieces_of(size, &said);
            assert!(reply == expected, "pieces of {size}");
            assert!(!goes_on, "a DISCONNECT ends it");
            assert_eq!(
                (stats.connects, stats.publishes, stats.disconnects),
                (1, 2, 1)
            );
        }
    }

    #[test]
    fn nonsense_ends_the_connection_and_is_counted() {
        let before_connect = mqtt::publish(64, 1);
        let mut twice = mqtt::connect("c");
        twice.extend(mqtt::connect("c"));
        for said in [
            &before_connect[..],
            &twice[..],
            b"GET / HTTP/1.0\r\n\r\n",
            &[0; 8],
        ] {
            let (_, goes_on, stats) = hear_in_pieces_of(4096, said);
            assert!(!goes_on);
            assert_eq!(stats.nonsense, 1);
        }
    }
}
