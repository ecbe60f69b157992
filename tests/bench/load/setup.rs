//! Clients that come, are greeted, and go: 64 at a time.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::{Moment, PATIENCE, Window, begin};
use crate::histogram::Histogram;
use crate::mqtt;
use crate::scenario::{Outcome, Spec};

const AT_ONCE: usize = 64;
/// After so many failures the visit is over.
const TOO_MANY: u64 = 1000;

pub(super) fn run(spec: &Spec) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut crowd = Crowd {
        poll: Poll::new()?,
        clients: (0..AT_ONCE).map(|_| None).collect(),
        number: 0,
        count: 0,
        latency: Histogram::new(),
    };
    let mut events = Events::with_capacity(AT_ONCE);
    for slot in 0..AT_ONCE {
        crowd.open(slot, spec, &mut outcome);
    }
    let mut window = Window::new(spec);
    loop {
        match window.look(Instant::now(), spec, &mut outcome)? {
            Moment::Opens => {
                crowd.count = 0;
                crowd.latency.clear();
            }
            Moment::Closes => break,
            Moment::Before | Moment::During => {}
        }
        crowd.turn(&mut events, true, spec, &mut outcome)?;
        if outcome.failed > TOO_MANY {
            outcome.complain(|| "gave up".into());
            break;
        }
    }
    outcome.count = crowd.count;
    outcome.latency = crowd.latency.summary();
    let deadline = Instant::now() + PATIENCE;
    while crowd.clients.iter().any(Option::is_some) && Instant::now() < deadline {
        crowd.turn(&mut events, false, spec, &mut outcome)?;
    }
    let unanswered = crowd.clients.iter().flatten().count() as u64;
    if unanswered > 0 {
        outcome.failed += unanswered;
        outcome.complain(|| format!("{unanswered} without CONNACK"));
    }
    Ok(outcome)
}

struct Crowd {
    poll: Poll,
    clients: Vec<Option<Client>>,
    number: u64,
    count: u64,
    latency: Histogram,
}

struct Client {
    stream: TcpStream,
    begun: Instant,
    /// The CONNECT, while the socket has not taken it.
    unsent: Option<Vec<u8>>,
}

impl Crowd {
    fn turn(
        &mut self,
        events: &mut Events,
        more: bool,
        spec: &Spec,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        match self.poll.poll(events, Some(Duration::from_millis(20))) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &*events {
            let slot = event.token().0;
            let Some(client) = &mut self.clients[slot] else {
                continue;
            };
            match client.go_on() {
                Ok(false) => continue,
                Ok(true) => {
                    outcome.connected += 1;
                    outcome.disconnected += 1;
                    self.count += 1;
                    self.latency.add(client.begun.elapsed().as_nanos() as u64);
                }
                Err(error) => {
                    outcome.failed += 1;
                    outcome.complain(|| error.to_string());
                }
            }
            self.clients[slot] = None;
            if more {
                self.open(slot, spec, outcome);
            }
        }
        Ok(())
    }

    fn open(&mut self, slot: usize, spec: &Spec, outcome: &mut Outcome) {
        let number = self.number;
        self.number += 1;
        match self.try_open(slot, spec, number) {
            Ok(client) => self.clients[slot] = Some(client),
            Err(error) => {
                outcome.failed += 1;
                outcome.complain(|| error.to_string());
            }
        }
    }

    fn try_open(&self, slot: usize, spec: &Spec, number: u64) -> std::io::Result<Client> {
        let begun = Instant::now();
        let mut stream = begin(spec, number)?;
        let packet = mqtt::connect(&mqtt::client_id(spec.visit, number));
        // On loopback the handshake is done before `connect` returns; where not, the socket says so.
        let unsent = match stream.write(&packet) {
            Ok(_) => None,
            Err(error) if is_not_yet(&error) => Some(packet),
            Err(error) => return Err(error),
        };
        let interest = match unsent {
            None => Interest::READABLE,
            Some(_) => Interest::READABLE | Interest::WRITABLE,
        };
        self.poll
            .registry()
            .register(&mut stream, Token(slot), interest)?;
        Ok(Client {
            stream,
            begun,
            unsent,
        })
    }
}

fn is_not_yet(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected
    )
}

impl Client {
    /// Whether this client has been greeted and has said goodbye.
    fn go_on(&mut self) -> std::io::Result<bool> {
        if let Some(packet) = self.unsent.take() {
            match self.stream.write(&packet) {
                Ok(_) => {}
                Err(error) if is_not_yet(&error) => {
                    self.unsent = Some(packet);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        let mut answer = [0; 8];
        match self.stream.read(&mut answer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) if answer[..n] == mqtt::CONNACK => {
                self.stream.write_all(&mqtt::DISCONNECT)?;
                Ok(true)
            }
            Ok(_) => Err(std::io::Error::other("something else than a CONNACK")),
            Err(error) if is_not_yet(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
