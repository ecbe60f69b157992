//! The load generator: one visit to one proxy, then a line of JSON that says how it went.

mod echo;
mod fleet;
mod hold;
mod setup;
mod silent;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use crate::procfs;
use crate::scenario::{Outcome, Scenario, Spec};
use crate::sys;

/// How long what is under way may take to finish once nothing new is begun.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn run(spec: &str) -> anyhow::Result<()> {
    let spec: Spec = serde_json::from_str(spec).context("parse what to do")?;
    sys::end_with_parent()?;
    sys::raise_open_files()?;
    sys::pin(None, spec.core)?;
    let outcome = match spec.scenario {
        Scenario::Setup => setup::run(&spec)?,
        Scenario::Msg1 => echo::closed_loop(&spec, 1, 64, 1)?,
        Scenario::Msg100 => echo::closed_loop(&spec, 100, 64, 1)?,
        Scenario::Msg1000 => echo::closed_loop(&spec, 1000, 64, 1)?,
        Scenario::Msg5000s => echo::open_loop(&spec, 1000, 64, 5000)?,
        Scenario::Bulk => echo::closed_loop(&spec, 4, 64 * 1024, 4)?,
        Scenario::Idle => hold::run(&spec)?,
        Scenario::Silent => silent::run(&spec)?,
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

/// Begins the `number`th connection of the visit.
///
/// Source addresses take turns: one alone has 28 000 ports, and a second of short connections uses more.
fn begin(spec: &Spec, number: u64) -> std::io::Result<TcpStream> {
    let target = spec.targets[number as usize % spec.targets.len()];
    let socket = Socket::new(
        Domain::IPV4,
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    sys::bind_address_no_port(&socket)?;
    let source = Ipv4Addr::new(127, 0, 1, 1 + (number % 8) as u8);
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        outcome => outcome?,
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// Warm-up, then the measured window: says when to look and when to stop.
struct Window {
    opens: Instant,
    closes: Option<Instant>,
    length: Duration,
    opened: Option<Reading>,
}

struct Reading {
    at: Instant,
    proxy: u64,
    load: u64,
}

impl Reading {
    fn take(spec: &Spec) -> anyhow::Result<Self> {
        let load = procfs::cpu_nanos(&[std::process::id()])?;
        let proxy = procfs::cpu_nanos(&spec.pids)?;
        Ok(Self {
            at: Instant::now(),
            proxy,
            load,
        })
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Moment {
    Before,
    /// The window opens now: forget what was counted.
    Opens,
    During,
    /// The window is over and its readings are in the outcome: count no more.
    Closes,
}

impl Window {
    fn new(spec: &Spec) -> Self {
        Self {
            opens: Instant::now() + Duration::from_secs_f64(spec.warmup),
            closes: None,
            length: Duration::from_secs_f64(spec.seconds),
            opened: None,
        }
    }

    /// Which moment `now` is; reads the clocks of the proxy's threads at the window's ends.
    fn look(&mut self, now: Instant, spec: &Spec, outcome: &mut Outcome) -> anyhow::Result<Moment> {
        let Some(closes) = self.closes else {
            if now < self.opens {
                return Ok(Moment::Before);
            }
            let reading = Reading::take(spec)?;
            self.closes = Some(reading.at + self.length);
            self.opened = Some(reading);
            return Ok(Moment::Opens);
        };
        let Some(opened) = self.opened.as_ref().filter(|_| now >= closes) else {
            return Ok(Moment::During);
        };
        let closed = Reading::take(spec)?;
        outcome.seconds = (closed.at - opened.at).as_secs_f64();
        outcome.cpu_ns = closed.proxy - opened.proxy;
        outcome.load_cpu_ns = closed.load - opened.load;
        Ok(Moment::Closes)
    }
}

impl Outcome {
    /// Keeps the first few complaints; the rest are in the counts.
    fn complain(&mut self, words: impl FnOnce() -> String) {
        if self.trouble.len() < 5 {
            self.trouble.push(words());
        }
    }
}
