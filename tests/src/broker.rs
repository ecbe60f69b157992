//! A scripted broker: records every first packet and PROXY header with the time, and answers as it is told.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::header::split_header;
pub use crate::header::{Header, SIGNATURE};
use crate::mqtt::{Packet, kind, packet};
use crate::ports;
use crate::wait::{eventually, pause};

/// One connection that sent a whole first packet.
#[derive(Clone, Debug)]
pub struct Visit {
    /// When the first packet was whole.
    pub at: Instant,
    /// The other end, as the socket says.
    pub peer: SocketAddr,
    /// What came before the first packet.
    pub header: Option<Header>,
    /// The first packet as it came.
    pub first: Vec<u8>,
    /// Client id; empty where the first packet was no CONNECT.
    pub id: String,
    /// Protocol level, with the bridge's bit.
    pub level: u8,
    /// Seconds.
    pub keepalive: u16,
    /// Clean session.
    pub clean: bool,
    /// Everything after the first packet ([`After::Collect`] only).
    pub received: Vec<u8>,
    /// Bytes after the first packet.
    pub count: usize,
    /// Whether a DISCONNECT came.
    pub disconnected: bool,
    /// When the connection ended, if it did.
    pub ended: Option<Instant>,
}

/// What a broker does with a CONNECT.
#[derive(Clone, Debug)]
pub enum Answer {
    /// CONNACK with this code (properties empty in MQTT 5).
    Code(u8),
    /// These bytes.
    Raw(Vec<u8>),
    /// Nothing, ever: the port opens, the broker hangs.
    Never,
    /// FIN.
    Close,
    /// RST.
    Reset,
}

/// What a broker does after its CONNACK.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum After {
    /// Speaks MQTT: answers PINGREQ and SUBSCRIBE, sends each PUBLISH back.
    Echo,
    /// Sends every byte back; passes a half close on.
    EchoBytes,
    /// Reads and keeps everything; closes when told to or when the client does.
    Collect,
    /// Reads nothing at all: the client's bytes pile up.
    Deaf,
}

/// What header a broker asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wants {
    /// None; one that comes is recorded all the same.
    Nothing,
    /// Closes connections that do not begin with one.
    Header,
    /// As [`Self::Header`], and closes on LOCAL, as Mosquitto does.
    NotLocal,
}

#[derive(Clone, Debug)]
struct Behaviour {
    answer: Answer,
    delay: Duration,
    after: After,
    wants: Wants,
}

#[derive(Debug)]
struct Shared {
    behaviour: Mutex<Behaviour>,
    visits: Mutex<Vec<Arc<Mutex<Visit>>>>,
    contacts: Mutex<Vec<Instant>>,
    open: Mutex<BTreeMap<usize, Open>>,
    next: AtomicUsize,
    turned_away: AtomicUsize,
}

/// One open connection: a copy of its socket, and its visit once there is one.
type Open = (TcpStream, Option<Arc<Mutex<Visit>>>);

/// A scripted broker. Dropping it closes everything.
#[derive(Debug)]
pub struct FakeBroker {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<TcpListener>,
}

impl FakeBroker {
    /// On a port of 127.0.0.1, answering CONNECT with code 0 and sending each PUBLISH back.
    ///
    /// # Panics
    ///
    /// When there is no port.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free())))
    }

    /// `count` of them.
    #[must_use]
    pub fn several<const COUNT: usize>() -> [Self; COUNT] {
        std::array::from_fn(|_| Self::start())
    }

    /// At this address.
    ///
    /// # Panics
    ///
    /// When it is taken.
    #[must_use]
    #[track_caller]
    pub fn at(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour {
                answer: Answer::Code(0),
                delay: Duration::ZERO,
                after: After::Echo,
                wants: Wants::Nothing,
            }),
            visits: Mutex::default(),
            contacts: Mutex::default(),
            open: Mutex::default(),
            next: AtomicUsize::new(0),
            turned_away: AtomicUsize::new(0),
        });
        let mut broker = Self {
            address,
            shared,
            listener: None,
        };
        broker.restart();
        broker
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Sets what it does with a CONNECT.
    pub fn answer(&self, answer: Answer) -> &Self {
        lock(&self.shared.behaviour).answer = answer;
        self
    }

    /// Sets how long it thinks before it answers.
    pub fn delay(&self, delay: Duration) -> &Self {
        lock(&self.shared.behaviour).delay = delay;
        self
    }

    /// Sets what it does after the CONNACK.
    pub fn after(&self, after: After) -> &Self {
        lock(&self.shared.behaviour).after = after;
        self
    }

    /// Sets what header it asks for.
    pub fn wants(&self, wants: Wants) -> &Self {
        lock(&self.shared.behaviour).wants = wants;
        self
    }

    /// Listens again on the same port, after [`Self::stop`] or [`Self::refuse`].
    ///
    /// # Panics
    ///
    /// When the port is taken.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.listener.is_none(), "it is running");
        let listener = listen(self.address).expect("the port is ours");
        self.listener = Some(listener.try_clone().expect("descriptors are left"));
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            // Ends when `refuse` shuts the listener down.
            while let Ok((stream, peer)) = listener.accept() {
                lock(&shared.contacts).push(Instant::now());
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&shared, stream, peer));
            }
        });
    }

    /// Refuses new connections and keeps those it has.
    pub fn refuse(&mut self) {
        if let Some(listener) = self.listener.take() {
            let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
            drop(listener);
            // The accepting thread holds a copy of the socket: the port is free once it let go.
            let address = self.address;
            eventually(Duration::from_secs(5), "the listener is closed", || {
                listen(address).is_ok()
            });
        }
    }

    /// Dies: refuses new connections and closes those it has.
    pub fn stop(&mut self) {
        self.refuse();
        self.close_all();
    }

    /// Closes all its connections and goes on listening.
    pub fn close_all(&self) {
        for (stream, _) in lock(&self.shared.open).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Sends bytes to the client of this id.
    ///
    /// # Errors
    ///
    /// Where it is not connected.
    pub fn send(&self, id: &str, bytes: &[u8]) -> Result<()> {
        self.stream_of(id)?.write_all(bytes).context("sending")
    }

    /// Closes the sending side towards the client of this id.
    ///
    /// # Errors
    ///
    /// Where it is not connected.
    pub fn half_close(&self, id: &str) -> Result<()> {
        let stream = self.stream_of(id)?;
        stream.shutdown(Shutdown::Write).context("half close")
    }

    fn stream_of(&self, id: &str) -> Result<TcpStream> {
        let open = lock(&self.shared.open);
        let mut streams = open.values().rev();
        let found = streams.find_map(|(stream, visit)| {
            let visit = visit.as_ref()?;
            (lock(visit).id == id).then_some(stream)
        });
        Ok(found
            .with_context(|| format!("{id} is not here"))?
            .try_clone()?)
    }

    /// Everything it saw, oldest first.
    #[must_use]
    pub fn visits(&self) -> Vec<Visit> {
        let visits = lock(&self.shared.visits);
        visits.iter().map(|visit| lock(visit).clone()).collect()
    }

    /// The visits of clients whose id begins with `prefix`: checks have ids of their own.
    #[must_use]
    pub fn visits_of(&self, prefix: &str) -> Vec<Visit> {
        let mut visits = self.visits();
        visits.retain(|visit| visit.id.starts_with(prefix));
        visits
    }

    /// How many [`Self::visits_of`] there were.
    #[must_use]
    pub fn count_of(&self, prefix: &str) -> usize {
        self.visits_of(prefix).len()
    }

    /// Client ids with this prefix, in the order of their coming.
    #[must_use]
    pub fn ids(&self, prefix: &str) -> Vec<String> {
        let visits = self.visits_of(prefix);
        visits.into_iter().map(|visit| visit.id).collect()
    }

    /// When each TCP connection was accepted, whatever came over it.
    #[must_use]
    pub fn contacts(&self) -> Vec<Instant> {
        lock(&self.shared.contacts).clone()
    }

    /// Connections open now.
    #[must_use]
    pub fn live(&self) -> usize {
        lock(&self.shared.open).len()
    }

    /// Open connections of clients whose id begins with `prefix`.
    #[must_use]
    pub fn live_of(&self, prefix: &str) -> usize {
        let visits = self.visits_of(prefix);
        visits.iter().filter(|visit| visit.ended.is_none()).count()
    }

    /// Connections closed because of a missing or unwanted header.
    #[must_use]
    pub fn turned_away(&self) -> usize {
        self.shared.turned_away.load(SeqCst)
    }

    /// Forgets visits and contacts.
    pub fn forget(&self) {
        lock(&self.shared.visits).clear();
        lock(&self.shared.contacts).clear();
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.take() {
            let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
        }
        self.close_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked elsewhere shall show its own message, not this one.
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A broker that restarts takes its port back while old connections linger.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// One connection, from accept to end.
fn serve(shared: &Shared, stream: TcpStream, peer: SocketAddr) {
    let place = shared.next.fetch_add(1, SeqCst);
    let _ = stream.set_nodelay(true);
    let Ok(copy) = stream.try_clone() else {
        return;
    };
    lock(&shared.open).insert(place, (copy, None));
    let visit = converse(shared, stream, peer, place);
    let removed = lock(&shared.open).remove(&place);
    if let Some((stream, _)) = removed {
        let _ = stream.shutdown(Shutdown::Both);
    }
    if let Some(visit) = visit {
        lock(&visit).ended = Some(Instant::now());
    }
}

fn converse(
    shared: &Shared,
    mut stream: TcpStream,
    peer: SocketAddr,
    place: usize,
) -> Option<Arc<Mutex<Visit>>> {
    let mut bytes = Vec::new();
    let header = read_header(&mut stream, &mut bytes).ok()?;
    let behaviour = lock(&shared.behaviour).clone();
    let is_welcome = match (behaviour.wants, &header) {
        (Wants::Nothing, _) => true,
        (Wants::Header, header) => header.is_some(),
        (Wants::NotLocal, header) => header.as_ref().is_some_and(|header| !header.local),
    };
    if !is_welcome {
        shared.turned_away.fetch_add(1, SeqCst);
        return None;
    }
    let (first, length) = loop {
        match Packet::split(&bytes) {
            Ok(Some(found)) => break found,
            Ok(None) => read_more(&mut stream, &mut bytes)?,
            Err(_) => return None,
        }
    };
    let rest = bytes.split_off(length);
    let (level, keepalive, clean, id) = first.as_connect().unwrap_or_default();
    let visit = Arc::new(Mutex::new(Visit {
        at: Instant::now(),
        peer,
        header,
        first: bytes,
        id,
        level,
        keepalive,
        clean,
        received: Vec::new(),
        count: 0,
        disconnected: false,
        ended: None,
    }));
    lock(&shared.visits).push(Arc::clone(&visit));
    if let Some(entry) = lock(&shared.open).get_mut(&place) {
        entry.1 = Some(Arc::clone(&visit));
    }
    pause(behaviour.delay);
    let said = match &behaviour.answer {
        Answer::Code(code) if level & 0x7f == 5 => packet(0x20, &[0, *code, 0]),
        Answer::Code(code) => packet(0x20, &[0, *code]),
        Answer::Raw(bytes) => bytes.clone(),
        Answer::Never => Vec::new(),
        Answer::Close => return Some(visit),
        Answer::Reset => {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            // Both copies of the socket must go for the reset to leave.
            lock(&shared.open).remove(&place);
            return Some(visit);
        }
    };
    if stream.write_all(&said).is_ok() {
        go_on(&mut stream, rest, behaviour.after, &visit);
    }
    Some(visit)
}

fn go_on(stream: &mut TcpStream, mut bytes: Vec<u8>, after: After, visit: &Mutex<Visit>) {
    if after == After::Deaf {
        // Only an error or an end that comes without reading: ask the socket for the peer's reset.
        while stream.take_error().is_ok_and(|error| error.is_none()) && stream.peer_addr().is_ok() {
            pause(Duration::from_millis(20));
        }
        return;
    }
    loop {
        {
            let mut visit = lock(visit);
            visit.count += bytes.len();
            if after == After::Collect {
                visit.received.extend(&bytes);
            }
        }
        match after {
            After::Echo => {
                if answer_packets(stream, &mut bytes, visit).is_none() {
                    return;
                }
            }
            After::EchoBytes => {
                if stream.write_all(&bytes).is_err() {
                    return;
                }
                bytes.clear();
            }
            After::Collect | After::Deaf => bytes.clear(),
        }
        let before = bytes.len();
        if read_more(stream, &mut bytes).is_none() {
            return;
        }
        if before > 0 {
            // What is left of an unfinished packet was counted with it already.
            let mut visit = lock(visit);
            visit.count -= before;
        }
    }
}

/// Answers the whole packets of `bytes` and leaves the rest; `None` ends the connection.
fn answer_packets(stream: &mut TcpStream, bytes: &mut Vec<u8>, visit: &Mutex<Visit>) -> Option<()> {
    while let Some((heard, length)) = Packet::split(bytes).ok()? {
        let raw: Vec<u8> = bytes.drain(..length).collect();
        let is_v5 = lock(visit).level & 0x7f == 5;
        let reply = match heard.kind() {
            kind::PINGREQ => packet(0xd0, &[]),
            kind::PUBLISH => raw,
            kind::SUBSCRIBE if is_v5 => packet(0x90, &[heard.body[0], heard.body[1], 0, 0]),
            kind::SUBSCRIBE => packet(0x90, &[heard.body[0], heard.body[1], 0]),
            kind::DISCONNECT => {
                lock(visit).disconnected = true;
                return None;
            }
            _ => Vec::new(),
        };
        stream.write_all(&reply).ok()?;
    }
    Some(())
}

fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 16 * 1024];
    match stream.read(&mut buffer) {
        Ok(0) | Err(_) => None,
        Ok(count) => {
            bytes.extend(&buffer[..count]);
            Some(())
        }
    }
}

/// Takes a PROXY header off the beginning; `Ok(None)` where none begins there.
fn read_header(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<Option<Header>> {
    loop {
        if let Some(result) = split_header(bytes) {
            return Ok(result.map(|(header, length)| {
                bytes.drain(..length);
                header
            }));
        }
        read_more(stream, bytes).context("ended before the first packet")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::mqtt::{Connect, publish};

    #[test]
    fn a_broker_answers_echoes_and_remembers() {
        let broker = FakeBroker::start();
        let mut client = Client::id(broker.addr(), "one");
        client.publish("t", b"hello").expect("open");
        let heard = client.packet(crate::client::PATIENCE).expect("an echo");
        assert_eq!(heard.bytes(), publish("t", b"hello"));
        client.ping().expect("an answer");
        client.disconnect();
        let limit = Duration::from_secs(5);
        eventually(limit, "it saw the end", || {
            broker.live() == 0 && broker.visits()[0].ended.is_some()
        });
        let visits = broker.visits();
        assert_eq!(visits[0].id, "one");
        assert!(visits[0].disconnected);
        assert_eq!(visits[0].count, publish("t", b"hello").len() + 2 + 2);
    }

    #[test]
    fn a_header_is_taken_off_and_a_missing_one_closes() {
        let broker = FakeBroker::start();
        broker.wants(Wants::NotLocal);
        let mut head = SIGNATURE.to_vec();
        head.extend([
            0x21, 0x11, 0, 12, 10, 0, 0, 1, 10, 0, 0, 2, 0x30, 0x39, 7, 91,
        ]);
        let mut client = Client::open(broker.addr()).expect("open");
        client.send(&head).expect("open");
        client.greet(&Connect::v5("two")).expect("CONNACK");
        let header = broker.visits()[0].header.clone().expect("a header");
        assert_eq!(header.source, "10.0.0.1:12345".parse().ok());
        assert_eq!(header.destination, "10.0.0.2:1883".parse().ok());
        assert!(Client::connect(broker.addr(), &Connect::v311("three")).is_err());
        assert_eq!(broker.turned_away(), 1);
    }

    #[test]
    fn a_stopped_broker_refuses_and_comes_back_on_its_port() {
        let mut broker = FakeBroker::start();
        let mut held = Client::id(broker.addr(), "held");
        broker.refuse();
        assert!(Client::open(broker.addr()).is_err());
        held.ping().expect("held connections live on");
        broker.stop();
        held.ending(Duration::from_secs(5)).expect("closed");
        broker.restart();
        let _ = Client::id(broker.addr(), "back");
    }
}
