//! Many MQTT connections held by one thread, each expecting its own messages back.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::{PATIENCE, begin};
use crate::mqtt;
use crate::scenario::{Outcome, Spec};

/// Connections that are being made at the same time.
const AT_ONCE: usize = 64;
const READ_BYTES: usize = 256 * 1024;
/// The token of what a caller has registered beside the connections.
const EXTRA: Token = Token(usize::MAX - 1);

/// What happens when an echo is complete.
pub(super) trait Echoes {
    /// `nth` counts the connection's echoes from 0.
    fn echoed(&mut self, link: &mut Link, index: usize, nth: u64, now: Instant);
}

/// Nothing: for connections that only come and go.
pub(super) struct Ignore;

impl Echoes for Ignore {
    fn echoed(&mut self, _: &mut Link, _: usize, _: u64, _: Instant) {}
}

pub(super) struct Fleet {
    poll: Poll,
    events: Events,
    pub(super) links: Vec<Link>,
    scratch: Vec<u8>,
    message_bytes: usize,
    verify: bool,
    connacks: usize,
    /// Connections that ended before they should.
    fallen: usize,
    corrupt: u64,
    /// A connection's first word on why it ended.
    reason: Option<String>,
}

/// One connection.
pub(super) struct Link {
    stream: Option<TcpStream>,
    greeted: bool,
    unsent: Vec<u8>,
    writable_wanted: bool,
    /// Bytes of the echo that is coming in.
    partial: usize,
    pub(super) sent: u64,
    pub(super) echoed: u64,
    /// When what is under way was sent, oldest first.
    pub(super) sent_at: VecDeque<Instant>,
    /// What must come back; kept only to verify.
    expected: VecDeque<Vec<u8>>,
}

impl Fleet {
    pub(super) fn new(spec: &Spec, message_bytes: usize) -> anyhow::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            links: Vec::new(),
            scratch: vec![0; READ_BYTES],
            message_bytes,
            verify: spec.verify,
            connacks: 0,
            fallen: 0,
            corrupt: 0,
            reason: None,
        })
    }

    /// Wakes [`Self::turn`] also for this.
    pub(super) fn watch(&self, source: &mut impl Source) -> std::io::Result<()> {
        self.poll
            .registry()
            .register(source, EXTRA, Interest::READABLE)
    }

    /// Connects `count` clients, numbered from `first`, and waits for their CONNACKs.
    pub(super) fn connect(&mut self, spec: &Spec, first: u64, count: usize) -> anyhow::Result<()> {
        let wanted = self.links.len() + count;
        let mut number = first;
        let mut deadline = Instant::now() + PATIENCE;
        while self.connacks + self.fallen < wanted {
            while self.links.len() < wanted
                && self.links.len() < self.connacks + self.fallen + AT_ONCE
            {
                self.add(spec, number)?;
                number += 1;
                deadline = Instant::now() + PATIENCE;
            }
            if Instant::now() > deadline {
                self.reason.get_or_insert_with(|| "no CONNACK".into());
                break;
            }
            self.turn(Duration::from_millis(100), &mut Ignore)?;
        }
        Ok(())
    }

    fn add(&mut self, spec: &Spec, number: u64) -> anyhow::Result<()> {
        let mut link = Link {
            stream: Some(begin(spec, number)?),
            greeted: false,
            unsent: Vec::new(),
            writable_wanted: false,
            partial: 0,
            sent: 0,
            echoed: 0,
            sent_at: VecDeque::new(),
            expected: VecDeque::new(),
        };
        let token = Token(self.links.len());
        if let Some(stream) = &mut link.stream {
            stream.set_nodelay(true)?;
            self.poll
                .registry()
                .register(stream, token, Interest::READABLE)?;
        }
        link.write(&mqtt::connect(&mqtt::client_id(spec.visit, number)));
        link.want_writable(&self.poll, token)?;
        self.links.push(link);
        Ok(())
    }

    /// Waits for something to happen and handles all of it.
    pub(super) fn turn(
        &mut self,
        timeout: Duration,
        echoes: &mut impl Echoes,
    ) -> anyhow::Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &self.events {
            if event.token() == EXTRA {
                continue;
            }
            let index = event.token().0;
            let link = &mut self.links[index];
            let greeted = link.greeted;
            let kept = link.flush().and_then(|()| {
                link.read(
                    &mut self.scratch,
                    event.is_read_closed(),
                    self.message_bytes,
                    |link, nth, whole| {
                        self.corrupt += u64::from(self.verify && !whole);
                        echoes.echoed(link, index, nth, Instant::now());
                    },
                )
            });
            self.connacks += usize::from(link.greeted && !greeted);
            let kept = kept.and_then(|()| link.want_writable(&self.poll, event.token()));
            if let Err(error) = kept {
                self.fallen += usize::from(link.stream.take().is_some());
                // A connection whose CONNACK was counted must not be counted twice.
                self.connacks -= usize::from(link.greeted);
                self.reason.get_or_insert_with(|| error.to_string());
            }
        }
        Ok(())
    }

    /// Sends one message on this connection; a closed one loses it.
    pub(super) fn send(&mut self, index: usize, template: &[u8]) -> anyhow::Result<()> {
        let link = &mut self.links[index];
        link.send(index, template, self.verify);
        link.want_writable(&self.poll, Token(index))?;
        Ok(())
    }

    /// Messages under way.
    pub(super) fn under_way(&self) -> u64 {
        self.links.iter().map(|link| link.sent - link.echoed).sum()
    }

    /// Waits until no message is under way, with patience but not forever.
    pub(super) fn settle(&mut self, echoes: &mut impl Echoes) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.under_way() > 0 && self.fallen < self.links.len() && Instant::now() < deadline {
            self.turn(Duration::from_millis(50), echoes)?;
        }
        Ok(())
    }

    /// Says goodbye on every connection and adds up what became of them.
    pub(super) fn finish(mut self, outcome: &mut Outcome) {
        for link in &mut self.links {
            outcome.connected += u64::from(link.greeted);
            outcome.lost += link.sent - link.echoed;
            if let Some(mut stream) = link.stream.take() {
                let goodbye = link.greeted && matches!(stream.write(&mqtt::DISCONNECT), Ok(2));
                outcome.disconnected += u64::from(goodbye);
                outcome.failed += u64::from(!goodbye);
            }
        }
        outcome.failed += self.fallen as u64;
        outcome.corrupt += self.corrupt;
        if let Some(reason) = self.reason {
            outcome.complain(|| reason);
        }
    }
}

impl Link {
    /// Sends a message: the template, or with `verify` one that no other resembles.
    pub(super) fn send(&mut self, index: usize, template: &[u8], verify: bool) {
        if verify {
            let message = mqtt::publish(template.len(), ((index as u64) << 32) + self.sent + 1);
            self.write(&message);
            self.expected.push_back(message);
        } else {
            self.write(template);
        }
        self.sent += 1;
    }

    /// An error shows again when the socket is next read.
    fn write(&mut self, bytes: &[u8]) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let mut rest = bytes;
        while self.unsent.is_empty() && !rest.is_empty() {
            match stream.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(_) => break,
            }
        }
        self.unsent.extend_from_slice(rest);
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let mut sent = 0;
        while sent < self.unsent.len() {
            match stream.write(&self.unsent[sent..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.unsent.drain(..sent);
        Ok(())
    }

    fn want_writable(&mut self, poll: &Poll, token: Token) -> std::io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        if !self.unsent.is_empty() && !self.writable_wanted {
            self.writable_wanted = true;
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().reregister(stream, token, both)?;
        }
        Ok(())
    }

    /// Takes what has come; `echoed` hears of each complete echo, and whether it was what had been sent.
    fn read(
        &mut self,
        scratch: &mut [u8],
        read_closed: bool,
        message_bytes: usize,
        mut echoed: impl FnMut(&mut Self, u64, bool),
    ) -> std::io::Result<()> {
        loop {
            let Some(stream) = &mut self.stream else {
                return Ok(());
            };
            let n = match stream.read(scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut bytes = &scratch[..n];
            if !self.greeted {
                // Four bytes of one write have not been seen to come apart; if they do, it is a failure.
                bytes = bytes
                    .strip_prefix(&mqtt::CONNACK)
                    .ok_or_else(|| std::io::Error::other("something else than a CONNACK"))?;
                self.greeted = true;
            }
            while !bytes.is_empty() {
                let taken = bytes.len().min(message_bytes - self.partial);
                let whole = self.is_expected(&bytes[..taken]);
                bytes = &bytes[taken..];
                self.partial += taken;
                if !whole {
                    // Said once for the message: what follows of it is not compared.
                    if let Some(front) = self.expected.front_mut() {
                        front.clear();
                    }
                }
                if self.partial == message_bytes {
                    let whole = self
                        .expected
                        .pop_front()
                        .is_some_and(|message| !message.is_empty());
                    self.partial = 0;
                    if self.echoed == self.sent {
                        return Err(std::io::Error::other("an echo of nothing"));
                    }
                    let nth = self.echoed;
                    self.echoed += 1;
                    echoed(self, nth, whole);
                }
            }
            if n < scratch.len() && !read_closed {
                return Ok(());
            }
        }
    }

    fn is_expected(&self, bytes: &[u8]) -> bool {
        self.expected.front().is_none_or(|message| {
            message.get(self.partial..self.partial + bytes.len()) == Some(bytes)
        })
    }
}
