//! A toy MQTT broker inside this process, honest about what it does.
//!
//! It speaks MQTT 3.1, 3.1.1 and 5, takes and passes on messages of QoS 0 and 1, knows the wildcards `+` and `#`, keeps
//! one session per client id (its subscriptions, while the client is away, if it asked for that), ends the old connection
//! when an id connects again, and enforces keepalives. It tells who subscribes to [`NAME_TOPIC`] what it is called.
//! It keeps no messages: no retained ones, no wills, nothing for clients that are away, no second try of a QoS 1 message;
//! properties of MQTT 5 are not passed on. All that lies in memory and goes with [`Broker::stop`], as with a broker that dies.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use standfast_proto::mqtt::Level;
use standfast_proto::mqtt::connect::{Connect, Parsed, parse};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::packet::{
    Fields, MAX_PACKET, Message, PINGRESP, Packet, Packets, answer, bad, kind, packet, puback,
    put_text,
};

/// Who subscribes to it is told the broker's name, so that a client can see where it is.
pub(super) const NAME_TOPIC: &str = "$SYS/broker/name";

/// Connections at once; more wait in the backlog.
const CONNECTIONS: usize = 1024;

/// Sessions at once, those of clients that are away included; a client beyond is refused.
const SESSIONS: usize = 2048;

/// Subscriptions of one session; those beyond are refused.
const SUBSCRIPTIONS: usize = 64;

/// Packets that wait for a client that reads slowly; those beyond are dropped.
const OUTBOX: usize = 256;

/// How long a client may take to send its CONNECT, and to read what it is sent.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 128;

/// A toy broker on a port of its own of 127.0.0.1.
#[derive(Debug)]
pub(super) struct Broker {
    name: &'static str,
    addr: SocketAddr,
    life: Life,
}

#[derive(Debug)]
enum Life {
    Serves(JoinHandle<()>),
    /// The socket is bound and does not listen: the port refuses, and nobody else gets it meanwhile.
    Dead(TcpSocket),
    /// Between the two.
    Changing,
}

impl Broker {
    /// Starts on a port that the kernel chooses.
    pub fn start(name: &'static str) -> io::Result<Self> {
        let socket = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let addr = socket.local_addr()?;
        let life = Life::Dead(socket);
        let mut broker = Self { name, addr, life };
        broker.restart()?;
        Ok(broker)
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Dies: every connection and session is gone, and the port refuses.
    pub async fn stop(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.life, Life::Changing) {
            Life::Serves(serving) => {
                serving.abort();
                // Only when the task has been dropped are its sockets closed.
                let _ = serving.await;
                self.life = Life::Dead(bound(self.addr)?);
            }
            other => self.life = other,
        }
        Ok(())
    }

    /// Lives again, on the same port, with nothing remembered.
    pub fn restart(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.life, Life::Changing) {
            Life::Dead(socket) => {
                let listener = socket.listen(BACKLOG)?;
                let house = Arc::new(House {
                    name: self.name,
                    rooms: Mutex::default(),
                });
                let serving = tokio::spawn(accept(listener, house));
                self.life = Life::Serves(serving);
            }
            // The port could not be had when it stopped: now is another try.
            Life::Changing => {
                self.life = Life::Dead(bound(self.addr)?);
                return self.restart();
            }
            serves @ Life::Serves(_) => self.life = serves,
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Life::Serves(serving) = &self.life {
            serving.abort();
        }
    }
}

fn bound(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Its own earlier connections may still linger on that port.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

async fn accept(listener: TcpListener, house: Arc<House>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let house = house.clone();
                    // How a connection ended, its client knows best.
                    connections.spawn(async move { house.serve(stream).await.unwrap_or_default() });
                }
                // No descriptors, most likely: others end meanwhile.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One life of a broker.
#[derive(Debug)]
struct House {
    name: &'static str,
    rooms: Mutex<Rooms>,
}

#[derive(Debug, Default)]
struct Rooms {
    /// By client id.
    sessions: BTreeMap<String, Session>,
    /// Counts connections, so that an old one does not clear away what a newer one of the same client owns.
    connections: u64,
}

#[derive(Debug)]
struct Session {
    /// The connection that owns it, or owned it last.
    connection: u64,
    /// `None` while the client is away. Replacing it ends the connection that listens.
    outbox: Option<mpsc::Sender<Vec<u8>>>,
    level: Level,
    /// Whether it outlives the connection.
    persistent: bool,
    /// Filter and QoS.
    subscriptions: Vec<(String, u8)>,
    last_id: u16,
}

/// A client that was let in.
#[derive(Debug)]
struct Guest {
    id: String,
    connection: u64,
    level: Level,
    letters: mpsc::Receiver<Vec<u8>>,
}

impl House {
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (read, mut write) = stream.into_split();
        let mut packets = Packets::new(read);
        let Ok(first) = timeout(PATIENCE, packets.next()).await else {
            return Ok(());
        };
        let Some(first) = first? else {
            return Ok(());
        };
        let Ok(Parsed::Connect(connect)) = parse(&first.raw, MAX_PACKET) else {
            return Err(bad("the first packet is no CONNECT"));
        };
        // MQTT 5, section 3.1.2.10: one and a half times the keepalive.
        let silence = match connect.keep_alive {
            0 => Duration::from_secs(u64::from(u32::MAX)),
            seconds => Duration::from_millis(u64::from(seconds) * 1500),
        };
        let (guest, connack) = self.let_in(&connect);
        send(&mut write, &connack).await?;
        let Some(mut guest) = guest else {
            return Ok(());
        };
        let outcome = self
            .look_after(&mut guest, &mut packets, &mut write, silence)
            .await;
        self.see_off(&guest);
        outcome
    }

    /// Gives a client its session; answers the CONNACK in any case.
    fn let_in(&self, connect: &Connect<'_>) -> (Option<Guest>, Vec<u8>) {
        let mut rooms = self.rooms.lock();
        rooms.connections += 1;
        let connection = rooms.connections;
        let level = connect.level;
        let assigned = connect.client_id.is_empty();
        let id = if assigned {
            format!("guest-{connection}")
        } else {
            connect.client_id.to_owned()
        };
        if rooms.sessions.len() >= SESSIONS && !rooms.sessions.contains_key(&id) {
            let code = if level == Level::V5 { 0x88 } else { 3 };
            return (None, connack(level, false, code, None));
        }
        let old = rooms.sessions.remove(&id);
        let kept = old.filter(|old| old.persistent && !connect.clean_start);
        let present = kept.is_some();
        let (outbox, letters) = mpsc::channel(OUTBOX);
        let session = Session {
            connection,
            outbox: Some(outbox),
            level,
            persistent: connect.is_persistent(),
            last_id: kept.as_ref().map_or(0, |kept| kept.last_id),
            subscriptions: kept.map(|kept| kept.subscriptions).unwrap_or_default(),
        };
        rooms.sessions.insert(id.clone(), session);
        let connack = connack(level, present, 0, assigned.then_some(&*id));
        let guest = Guest {
            id,
            connection,
            level,
            letters,
        };
        (Some(guest), connack)
    }

    async fn look_after<R: tokio::io::AsyncRead + Unpin>(
        &self,
        guest: &mut Guest,
        packets: &mut Packets<R>,
        write: &mut OwnedWriteHalf,
        silence: Duration,
    ) -> io::Result<()> {
        let mut quiet = std::pin::pin!(tokio::time::sleep(silence));
        loop {
            tokio::select! {
                packet = packets.next() => {
                    let Some(packet) = packet? else {
                        return Ok(());
                    };
                    quiet.set(tokio::time::sleep(silence));
                    if packet.kind() == kind::DISCONNECT {
                        return Ok(());
                    }
                    for reply in self.handle(guest, &packet)? {
                        send(write, &reply).await?;
                    }
                }
                letter = guest.letters.recv() => match letter {
                    Some(letter) => send(write, &letter).await?,
                    // The id connected again: MQTT 5 has a word for it, 0x8E.
                    None if guest.level == Level::V5 => {
                        return send(write, &packet(kind::DISCONNECT << 4, &[0x8E])).await;
                    }
                    None => return Ok(()),
                },
                () = &mut quiet => return Ok(()),
            }
        }
    }

    /// Answers a packet.
    fn handle(&self, guest: &Guest, packet: &Packet) -> io::Result<Vec<Vec<u8>>> {
        let level = guest.level;
        let mut fields = packet.body();
        Ok(match packet.kind() {
            kind::PUBLISH => {
                let message = Message::read(packet, level)?;
                self.publish(&message);
                Vec::from_iter((message.qos > 0).then(|| puback(message.id)))
            }
            kind::SUBSCRIBE => {
                let id = fields.u16()?;
                fields.skip_properties(level)?;
                let mut replies = self.subscribe(guest, &mut fields)?;
                let codes: Vec<u8> = replies.iter().map(|(code, _)| *code).collect();
                let mut packets = vec![answer(0x90, level, id, &codes)];
                packets.extend(replies.drain(..).filter_map(|(_, greeting)| greeting));
                packets
            }
            kind::UNSUBSCRIBE => {
                let id = fields.u16()?;
                fields.skip_properties(level)?;
                let codes = self.unsubscribe(guest, &mut fields)?;
                let codes = if level == Level::V5 { &codes[..] } else { &[] };
                vec![answer(0xB0, level, id, codes)]
            }
            kind::PINGREQ => vec![PINGRESP.to_vec()],
            // Nothing is sent twice, so nothing waits for it.
            kind::PUBACK => Vec::new(),
            _ => return Err(bad("a toy broker does not expect that packet")),
        })
    }

    /// Notes filters; answers a code for each, and what the subscriber is told at once.
    fn subscribe(
        &self,
        guest: &Guest,
        fields: &mut Fields<'_>,
    ) -> io::Result<Vec<(u8, Option<Vec<u8>>)>> {
        let mut codes = Vec::new();
        let mut rooms = self.rooms.lock();
        while !fields.is_empty() {
            let filter = fields.text()?;
            let qos = (fields.u8()? & 3).min(1);
            let Some(session) = rooms.of(guest) else {
                break;
            };
            let subscriptions = &mut session.subscriptions;
            subscriptions.retain(|(known, _)| known != filter);
            if !is_filter(filter) || subscriptions.len() >= SUBSCRIPTIONS {
                codes.push((0x80, None));
                continue;
            }
            subscriptions.push((filter.to_owned(), qos));
            let greeting = Message {
                topic: NAME_TOPIC,
                payload: self.name.as_bytes(),
                qos: 0,
                id: 0,
            };
            let greets = matches(filter, NAME_TOPIC);
            codes.push((qos, greets.then(|| greeting.bytes(guest.level))));
        }
        Ok(codes)
    }

    fn unsubscribe(&self, guest: &Guest, fields: &mut Fields<'_>) -> io::Result<Vec<u8>> {
        let mut codes = Vec::new();
        let mut rooms = self.rooms.lock();
        while !fields.is_empty() {
            let filter = fields.text()?;
            let Some(session) = rooms.of(guest) else {
                break;
            };
            let before = session.subscriptions.len();
            session.subscriptions.retain(|(known, _)| known != filter);
            // 0x11: no subscription existed.
            codes.push(if session.subscriptions.len() < before {
                0
            } else {
                0x11
            });
        }
        Ok(codes)
    }

    /// Passes a message on, once to each session that wants it, with the best QoS that it asked for.
    fn publish(&self, message: &Message<'_>) {
        for session in self.rooms.lock().sessions.values_mut() {
            let Some(outbox) = &session.outbox else {
                continue;
            };
            let fitting = session.subscriptions.iter();
            let fitting = fitting.filter(|(filter, _)| matches(filter, message.topic));
            let Some(qos) = fitting.map(|(_, qos)| message.qos.min(*qos)).max() else {
                continue;
            };
            session.last_id = session.last_id.checked_add(1).unwrap_or(1);
            let passed = Message {
                qos,
                id: session.last_id,
                ..*message
            };
            // Whoever reads too slowly misses messages.
            let _ = outbox.try_send(passed.bytes(session.level));
        }
    }

    /// Clears up after a connection, unless the client is back on another one.
    fn see_off(&self, guest: &Guest) {
        let mut rooms = self.rooms.lock();
        if let Some(session) = rooms.of(guest) {
            session.outbox = None;
            if !session.persistent {
                rooms.sessions.remove(&guest.id);
            }
        }
    }
}

impl Rooms {
    /// The guest's session, if this connection still owns it.
    fn of(&mut self, guest: &Guest) -> Option<&mut Session> {
        let session = self.sessions.get_mut(&guest.id)?;
        (session.connection == guest.connection).then_some(session)
    }
}

async fn send(write: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
    timeout(PATIENCE, write.write_all(bytes)).await?
}

/// A CONNACK. To MQTT 5 it says what this broker cannot: QoS 2, retained messages, shared subscriptions and their ids.
fn connack(level: Level, present: bool, code: u8, assigned: Option<&str>) -> Vec<u8> {
    // MQTT 3.1 has no flag for it.
    let mut body = vec![u8::from(present && level != Level::V31), code];
    if level == Level::V5 {
        let mut properties = vec![0x24, 1, 0x25, 0, 0x29, 0, 0x2A, 0];
        if let Some(id) = assigned {
            properties.push(0x12);
            put_text(&mut properties, id);
        }
        // Assigned ids are short, so one byte holds the length.
        body.push(properties.len() as u8);
        body.extend(properties);
    }
    packet(kind::CONNACK << 4, &body)
}

/// Whether a filter is well formed: `+` stands for a whole level, `#` for all that follow.
fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    !filter.is_empty()
        && std::iter::from_fn(|| levels.next().map(|level| (level, levels.peek().is_none()))).all(
            |(level, last)| match level {
                "+" => true,
                "#" => last,
                word => !word.contains(['+', '#', '\0']),
            },
        )
}

/// Whether a topic fits a filter (MQTT 5, section 4.7). Wildcards do not reach topics that begin with `$`.
fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut words = topic.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match words.next() {
            Some(word) if level == "+" || level == word => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

#[cfg(test)]
mod tests;
