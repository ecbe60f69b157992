//! A little load: toy clients that publish, listen, go away now and then, and come back with the same id.
//!
//! Each asks the broker for its name ([`NAME_TOPIC`]), so whether a client came back to where it was is seen from the
//! client's end and does not rest on what the balancer says of itself.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use standfast_proto::mqtt::Level;
use standfast_proto::mqtt::probe::Probe;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::broker::NAME_TOPIC;
use super::packet::{DISCONNECT, Message, Packets, bad, kind, puback, subscribe};

/// Clients that hear each other if they are on the same broker.
const ROOMS: u32 = 8;

/// All clients arrive within so long.
const ARRIVAL: Duration = Duration::from_millis(1000);

/// How long a client waits for its broker's answers. Longer than `when_empty.wait`, which is the balancer's to use up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Seconds of keepalive that clients ask for. They publish far more often.
const KEEP_ALIVE: u16 = 30;

/// What all clients together saw.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Connected now: CONNACK and SUBACK received.
    pub connected: AtomicU64,
    /// Messages sent.
    pub sent: AtomicU64,
    /// Messages received.
    pub received: AtomicU64,
    /// Clients that came back to the broker where they were before.
    pub same: AtomicU64,
    /// Clients that came back to another one.
    pub other: AtomicU64,
    /// Connections that ended although the client wanted to stay.
    pub cut: AtomicU64,
}

/// The clients. Dropping it ends them all.
#[derive(Debug)]
pub(super) struct Load {
    tally: Arc<Tally>,
    _clients: JoinSet<()>,
}

impl Load {
    /// Lets clients `client-1` to `client-N` connect to this address.
    pub fn start(to: SocketAddr, clients: u32) -> Self {
        let tally = Arc::<Tally>::default();
        let mut set = JoinSet::new();
        for number in 1..=clients {
            let client = Client::new(number, to, tally.clone());
            set.spawn(client.live(ARRIVAL * (number - 1) / clients));
        }
        Self {
            tally,
            _clients: set,
        }
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

struct Client {
    id: String,
    topic: String,
    level: Level,
    to: SocketAddr,
    tally: Arc<Tally>,
    dice: Dice,
    /// The broker where it was.
    last: Option<Vec<u8>>,
    /// How long its first visit lasts: spread evenly, so that comings and goings begin at once and do not come in waves.
    first_stay: Duration,
}

/// How a visit ended.
enum Parting {
    Wanted,
    Cut,
}

impl Client {
    fn new(number: u32, to: SocketAddr, tally: Arc<Tally>) -> Self {
        let id = format!("client-{number}");
        Self {
            topic: format!("demo/room-{}/{id}", number % ROOMS + 1),
            id,
            level: [Level::V31, Level::V311, Level::V5][number as usize % 3],
            to,
            tally,
            dice: Dice::new(),
            last: None,
            first_stay: Duration::from_secs(1 + u64::from(number * 7 % 20)),
        }
    }

    async fn live(mut self, delay: Duration) {
        sleep(delay).await;
        let mut stay = self.first_stay;
        loop {
            let pause = match self.visit(stay).await {
                Ok(Parting::Wanted) => self.dice.between(300, 1500),
                // Real clients wait a little before they try again, each a little differently.
                Ok(Parting::Cut) | Err(_) => self.dice.between(100, 800),
            };
            sleep(pause).await;
            stay = self.dice.between(5_000, 30_000);
        }
    }

    /// One connection from beginning to end.
    async fn visit(&mut self, stay: Duration) -> io::Result<Parting> {
        let greeted = timeout(PATIENCE, self.greet()).await?;
        let (mut packets, mut write, broker) = greeted?;
        if let Some(last) = self.last.replace(broker.clone()) {
            let same = last == broker;
            let count = if same {
                &self.tally.same
            } else {
                &self.tally.other
            };
            count.fetch_add(1, Relaxed);
        }
        let tally = self.tally.clone();
        let _here = Here::new(&tally);
        let until = Instant::now() + stay;
        match self.talk(&mut packets, &mut write, until).await {
            Ok(()) => {
                // Some forget their manners, as in the field.
                if self.dice.below(4) > 0 {
                    write.write_all(&DISCONNECT).await?;
                }
                Ok(Parting::Wanted)
            }
            Err(_) => {
                tally.cut.fetch_add(1, Relaxed);
                Ok(Parting::Cut)
            }
        }
    }

    /// CONNECT and SUBSCRIBE; answers the name that the broker gives itself.
    async fn greet(&self) -> io::Result<(Packets<OwnedReadHalf>, OwnedWriteHalf, Vec<u8>)> {
        let stream = TcpStream::connect(self.to).await?;
        stream.set_nodelay(true)?;
        let (read, mut write) = stream.into_split();
        let mut packets = Packets::new(read);
        let probe = Probe {
            level: self.level,
            client_id: &self.id,
            clean_start: true,
            keep_alive: KEEP_ALIVE,
            username: None,
            password: None,
        };
        let mut hello = Vec::new();
        probe.encode(&mut hello).map_err(io::Error::other)?;
        write.write_all(&hello).await?;
        let connack = packets.next().await?.ok_or_else(|| bad("closed"))?;
        let mut fields = connack.body();
        fields.u8()?;
        if connack.kind() != kind::CONNACK || fields.u8()? != 0 {
            return Err(bad("not let in"));
        }
        let room = match self.topic.rsplit_once('/') {
            Some((room, _)) => format!("{room}/+"),
            None => self.topic.clone(),
        };
        let filters = [NAME_TOPIC, &room];
        write.write_all(&subscribe(self.level, 1, &filters)).await?;
        loop {
            let packet = packets.next().await?.ok_or_else(|| bad("closed"))?;
            if packet.kind() == kind::PUBLISH {
                let message = Message::read(&packet, self.level)?;
                if message.topic == NAME_TOPIC {
                    let name = message.payload.to_vec();
                    return Ok((packets, write, name));
                }
            }
        }
    }

    /// Publishes and listens until it has stayed long enough; an error where it is not left that long.
    async fn talk(
        &mut self,
        packets: &mut Packets<OwnedReadHalf>,
        write: &mut OwnedWriteHalf,
        until: Instant,
    ) -> io::Result<()> {
        let mut speak_at = Instant::now() + self.dice.between(0, 2000);
        let mut id = 1_u16;
        loop {
            tokio::select! {
                packet = packets.next() => {
                    let packet = packet?.ok_or_else(|| bad("closed"))?;
                    match packet.kind() {
                        kind::PUBLISH => {
                            let message = Message::read(&packet, self.level)?;
                            self.tally.received.fetch_add(1, Relaxed);
                            if message.qos > 0 {
                                write.write_all(&puback(message.id)).await?;
                            }
                        }
                        kind::DISCONNECT => return Err(bad("told to go")),
                        _ => {}
                    }
                }
                () = sleep_until(speak_at) => {
                    let qos = u8::from(self.dice.below(2) == 0);
                    id = id.checked_add(1).unwrap_or(1);
                    let message = Message {
                        topic: &self.topic,
                        payload: b"hello, room",
                        qos,
                        id: if qos > 0 { id } else { 0 },
                    };
                    write.write_all(&message.bytes(self.level)).await?;
                    self.tally.sent.fetch_add(1, Relaxed);
                    speak_at = Instant::now() + self.dice.between(1500, 3500);
                }
                () = sleep_until(until) => return Ok(()),
            }
        }
    }
}

/// A client that is connected, for as long as this lives.
struct Here<'a>(&'a Tally);

impl<'a> Here<'a> {
    fn new(tally: &'a Tally) -> Self {
        tally.connected.fetch_add(1, Relaxed);
        Self(tally)
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.connected.fetch_sub(1, Relaxed);
    }
}

/// Chance, good enough for toys (xorshift64).
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        // Each hasher of the standard library is seeded anew.
        Self(RandomState::new().hash_one(0) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least + 1))
    }
}
