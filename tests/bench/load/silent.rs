//! A good client that comes and goes, first alone, then among connections that never become clients.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::{PATIENCE, begin};
use crate::histogram::{Histogram, Summary};
use crate::mqtt;
use crate::scenario::{Outcome, Silent, Spec};

/// The good client's pace.
const GAP: Duration = Duration::from_millis(2);
/// Bad connections made a second at first.
const FILL_PER_SECOND: f64 = 2500.0;
/// Bad connections made a second in place of those that the proxy closed.
const REFILL_PER_SECOND: f64 = 500.0;
const GARBAGE: &[u8] = b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n";

pub(super) fn run(spec: &Spec) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut bad = Bad::new()?;
    let length = Duration::from_secs_f64(spec.seconds * 2.0);
    let mut number = 0;

    let quiet = good_client(spec, length, &mut number, &mut bad, &mut outcome)?;
    bad.fill(spec)?;
    let held = bad.held();
    let opened = bad.opened;
    let noisy = good_client(spec, length, &mut number, &mut bad, &mut outcome)?;

    outcome.count = quiet.count + noisy.count;
    outcome.latency = noisy;
    outcome.silent = Some(Silent {
        quiet,
        noisy,
        held,
        reopened: bad.opened - opened,
    });
    Ok(outcome)
}

/// Connects again and again for a while, seeing to the bad ones between.
fn good_client(
    spec: &Spec,
    length: Duration,
    number: &mut u64,
    bad: &mut Bad,
    outcome: &mut Outcome,
) -> anyhow::Result<Summary> {
    let mut latency = Histogram::new();
    let end = Instant::now() + length;
    let mut planned = Instant::now();
    while planned < end && outcome.failed < 10 {
        bad.tend(spec)?;
        std::thread::sleep(planned.saturating_duration_since(Instant::now()));
        let begun = Instant::now();
        match come_and_go(spec, *number) {
            Ok(()) => {
                outcome.connected += 1;
                outcome.disconnected += 1;
                latency.add(begun.elapsed().as_nanos() as u64);
            }
            Err(error) => {
                outcome.failed += 1;
                outcome.complain(|| format!("the good client: {error}"));
            }
        }
        *number += 1;
        planned = Instant::now() + GAP;
    }
    Ok(latency.summary())
}

/// Returns when the DISCONNECT is sent.
fn come_and_go(spec: &Spec, number: u64) -> std::io::Result<()> {
    let target = spec.targets[number as usize % spec.targets.len()];
    let mut stream = std::net::TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&mqtt::connect(&mqtt::client_id(spec.visit, number)))?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    if answer != mqtt::CONNACK {
        return Err(std::io::Error::other("something else than a CONNACK"));
    }
    stream.write_all(&mqtt::DISCONNECT)
}

/// The bad connections: of those asked for, two in three say nothing and one half a CONNECT; a tenth more say
/// nonsense, are closed for it, and come again.
struct Bad {
    poll: Poll,
    events: Events,
    streams: Vec<Option<TcpStream>>,
    /// Slots from here on are for those that say nonsense.
    polite: usize,
    closed: Vec<usize>,
    opened: u64,
    per_second: f64,
    /// How many may be opened now.
    allowance: f64,
    counted_at: Instant,
}

impl Bad {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            streams: Vec::new(),
            polite: 0,
            closed: Vec::new(),
            opened: 0,
            per_second: FILL_PER_SECOND,
            allowance: 0.0,
            counted_at: Instant::now(),
        })
    }

    fn held(&self) -> u64 {
        self.streams.iter().flatten().count() as u64
    }

    /// Opens all of them; those that the proxy closes meanwhile wait for [`Self::tend`].
    fn fill(&mut self, spec: &Spec) -> anyhow::Result<()> {
        self.polite = spec.silent;
        let all = spec.silent + spec.silent / 10;
        self.streams.resize_with(all, || None);
        self.closed = (0..all).rev().collect();
        let deadline = Instant::now() + 2 * PATIENCE;
        while self.opened < all as u64 && Instant::now() < deadline {
            self.tend(spec)?;
            std::thread::sleep(Duration::from_millis(2));
        }
        self.per_second = REFILL_PER_SECOND;
        Ok(())
    }

    /// Notices which were closed and opens others in their place, at a bounded pace.
    fn tend(&mut self, spec: &Spec) -> anyhow::Result<()> {
        if self.streams.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let earned = (now - self.counted_at).as_secs_f64() * self.per_second;
        // After a pause there is no flood.
        self.allowance = (self.allowance + earned).min(self.per_second / 50.0);
        self.counted_at = now;

        match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &self.events {
            let slot = event.token().0;
            let Some(stream) = &mut self.streams[slot] else {
                continue;
            };
            if event.is_writable() && !event.is_read_closed() && !event.is_error() {
                // What the socket does not take is no loss.
                let _ = match slot {
                    _ if slot >= self.polite => stream.write(GARBAGE),
                    _ if slot % 3 == 0 => stream.write(&mqtt::connect("half of a CONNECT")[..9]),
                    _ => Ok(0),
                };
            }
            let closed = match stream.read(&mut [0; 256]) {
                Ok(n) => n == 0,
                Err(error) => error.kind() != ErrorKind::WouldBlock,
            };
            if closed {
                self.streams[slot] = None;
                self.closed.insert(0, slot);
            }
        }
        while self.allowance >= 1.0 {
            let Some(slot) = self.closed.pop() else { break };
            self.allowance -= 1.0;
            let mut stream = begin(spec, self.opened)?;
            self.opened += 1;
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut stream, Token(slot), both)?;
            self.streams[slot] = Some(stream);
        }
        Ok(())
    }
}
