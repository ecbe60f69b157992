//! Messages that come back: closed loop for what a message costs, open loop for how long it takes.

use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::os::fd::AsRawFd as _;

use super::fleet::{Echoes, Fleet, Link};
use super::{Moment, Window};
use crate::histogram::Histogram;
use crate::mqtt;
use crate::scenario::{Outcome, Spec};

/// Sends the next message when one is back.
struct Closed {
    template: Vec<u8>,
    verify: bool,
    sending: bool,
    count: u64,
    latency: Histogram,
}

impl Echoes for Closed {
    fn echoed(&mut self, link: &mut Link, index: usize, _: u64, now: Instant) {
        self.count += 1;
        if let Some(sent_at) = link.sent_at.pop_front() {
            self.latency.add((now - sent_at).as_nanos() as u64);
        }
        if self.sending {
            link.sent_at.push_back(now);
            link.send(index, &self.template, self.verify);
        }
    }
}

/// Keeps `depth` messages of `bytes` in flight on each of `connections`.
pub(super) fn closed_loop(
    spec: &Spec,
    connections: usize,
    bytes: usize,
    depth: usize,
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome {
        message_bytes: bytes as u64,
        ..Outcome::default()
    };
    let mut fleet = Fleet::new(spec, bytes)?;
    fleet.connect(spec, 0, connections)?;
    let mut closed = Closed {
        template: mqtt::publish(bytes, 1),
        verify: spec.verify,
        sending: true,
        count: 0,
        latency: Histogram::new(),
    };
    for index in 0..connections {
        for _ in 0..depth {
            fleet.links[index].sent_at.push_back(Instant::now());
            fleet.send(index, &closed.template)?;
        }
    }
    let mut window = Window::new(spec);
    loop {
        match window.look(Instant::now(), spec, &mut outcome)? {
            Moment::Opens => {
                closed.count = 0;
                closed.latency.clear();
            }
            Moment::Closes => break,
            Moment::Before | Moment::During => {}
        }
        fleet.turn(Duration::from_millis(20), &mut closed)?;
    }
    outcome.count = closed.count;
    outcome.latency = closed.latency.summary();
    closed.sending = false;
    fleet.settle(&mut closed)?;
    fleet.finish(&mut outcome);
    Ok(outcome)
}

/// Takes the time from the moment that the plan says.
struct Open {
    begin: Instant,
    gap: Duration,
    connections: u64,
    count: u64,
    latency: Histogram,
}

impl Open {
    fn planned(&self, number: u64) -> Instant {
        self.begin + Duration::from_nanos(self.gap.as_nanos() as u64 * number)
    }
}

impl Echoes for Open {
    fn echoed(&mut self, _: &mut Link, index: usize, nth: u64, now: Instant) {
        let planned = self.planned(nth * self.connections + index as u64);
        self.count += 1;
        self.latency
            .add(now.saturating_duration_since(planned).as_nanos() as u64);
    }
}

/// Sends `rate` messages a second, on each connection in turn, whatever becomes of them.
pub(super) fn open_loop(
    spec: &Spec,
    connections: usize,
    bytes: usize,
    rate: u32,
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome {
        message_bytes: bytes as u64,
        ..Outcome::default()
    };
    let mut fleet = Fleet::new(spec, bytes)?;
    fleet.connect(spec, 0, connections)?;
    let template = mqtt::publish(bytes, 1);
    let gap = Duration::from_secs(1) / rate;

    // epoll waits whole milliseconds; the plan needs a fifth of one.
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
    let every = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(gap.subsec_nanos()),
    };
    let ticks = Itimerspec {
        it_interval: every,
        it_value: every,
    };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &ticks)?;
    fleet.watch(&mut SourceFd(&timer.as_raw_fd()))?;

    let mut open = Open {
        begin: Instant::now(),
        gap,
        connections: connections as u64,
        count: 0,
        latency: Histogram::new(),
    };
    let mut number = 0;
    let mut window = Window::new(spec);
    loop {
        let now = Instant::now();
        match window.look(now, spec, &mut outcome)? {
            Moment::Opens => {
                open.count = 0;
                open.latency.clear();
            }
            Moment::Closes => break,
            Moment::Before | Moment::During => {}
        }
        // The timer goes on only when it has been read; before its next expiry there is nothing to read.
        let _ = rustix::io::read(&timer, &mut [0; 8]);
        while open.planned(number) <= now {
            fleet.send(number as usize % connections, &template)?;
            number += 1;
        }
        fleet.turn(Duration::from_millis(20), &mut open)?;
    }
    outcome.count = open.count;
    outcome.latency = open.latency.summary();
    fleet.settle(&mut open)?;
    fleet.finish(&mut outcome);
    Ok(outcome)
}
