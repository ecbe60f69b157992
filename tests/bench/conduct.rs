//! The conductor: starts everyone, sends the load to each in turn, and judges what comes back.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec};
use serde::Serialize;

use crate::broker::Stats;
use crate::options::Options;
use crate::peers::{Kind, Peer, free_address};
use crate::report::{self, Machine};
use crate::scenario::{Outcome, Placement, Scenario, Spec};
use crate::sys;

/// One visit of the load generator to one peer.
#[derive(Serialize)]
pub(crate) struct Visit {
    pub(crate) round: usize,
    pub(crate) peer: Kind,
    pub(crate) scenario: Scenario,
    pub(crate) placement: Placement,
    pub(crate) outcome: Outcome,
    /// What the broker saw of it.
    pub(crate) broker: Stats,
    /// Why its figures do not count; empty when they do.
    pub(crate) invalid: Vec<String>,
}

pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let options = options.settled();
    sys::end_with_parent()?;
    rustix::process::setsid().context("make a session")?;
    let mut notes = Vec::new();
    if let Err(error) = sys::raise_session(None).and_then(|()| sys::raise_self()) {
        notes.push(format!(
            "priority not raised ({error}): neighbours disturb more; run as root"
        ));
    }
    let cores = std::thread::available_parallelism()?.get();
    let two_cores = cores > options.load_core.max(options.proxy_core);
    if two_cores {
        sys::pin(None, options.load_core)?;
    } else {
        notes.push(format!(
            "{cores} core: the columns with two cores are left out"
        ));
    }
    let mut peers = options.peers.clone();
    peers.retain(|kind| {
        let found = kind
            .program(&options)
            .is_none_or(|program| program.exists());
        if !found {
            notes.push(format!("{kind} left out: its program is not there"));
        }
        found
    });
    let dir = Scratch::new()?;
    let mut conductor = Conductor {
        broker: BrokerProcess::start()?,
        options,
        visits: Vec::new(),
        numbers: Cell::new(0),
        two_cores,
    };
    for round in 0..conductor.options.rounds {
        conductor.round(round, &peers, &dir.0)?;
    }
    let machine = Machine::ask(&conductor.options, &peers);
    let report = report::Report::new(&conductor.visits, &peers, &conductor.options);
    println!("{}", report.text(&machine, &notes));
    if let Some(file) = &conductor.options.json {
        let raw = serde_json::json!({ "machine": machine.to_string(), "visits": conductor.visits });
        let text = serde_json::to_string_pretty(&raw)?;
        fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

struct Conductor {
    options: Options,
    broker: BrokerProcess,
    visits: Vec<Visit>,
    numbers: Cell<u16>,
    two_cores: bool,
}

impl Conductor {
    fn round(&mut self, round: usize, kinds: &[Kind], dir: &std::path::Path) -> anyhow::Result<()> {
        let mut peers = Vec::new();
        for &kind in kinds {
            peers.push(Peer::start(
                kind,
                &self.options,
                dir,
                self.broker.addresses,
            )?);
        }
        // Whoever was first in this round is last in the next: nobody always inherits a warm or a tired machine.
        let turn = round % peers.len().max(1);
        peers.rotate_left(turn);
        // The first to come pays for kernel memory that the others find ready: this visit is on the house.
        for peer in &peers {
            drop(self.visit(round, peer, Scenario::Setup, Placement::One)?);
        }
        for scenario in self.options.scenarios.clone() {
            for &placement in scenario.placements() {
                if placement == Placement::Own && !self.two_cores {
                    continue;
                }
                let passes = if scenario.is_timed() {
                    self.options.passes
                } else {
                    1
                };
                for _ in 0..passes {
                    self.pass(round, &mut peers, scenario, placement)?;
                    peers.reverse();
                }
                if passes % 2 == 1 {
                    peers.reverse();
                }
            }
        }
        Ok(())
    }

    /// Visits everyone once.
    fn pass(
        &mut self,
        round: usize,
        peers: &mut [Peer],
        scenario: Scenario,
        placement: Placement,
    ) -> anyhow::Result<()> {
        for peer in peers {
            if peer.kind == Kind::Direct && scenario == Scenario::Idle {
                continue;
            }
            if scenario.wants_a_fresh_process() {
                peer.restart(&self.options)?;
            }
            let visit = self.visit(round, peer, scenario, placement)?;
            eprintln!("{}", report::line(&visit));
            self.visits.push(visit);
        }
        Ok(())
    }

    /// Numbers visits, so that no client id comes twice while a proxy may remember it.
    fn next_visit(&self) -> u16 {
        self.numbers.replace(self.numbers.get().wrapping_add(1))
    }

    fn visit(
        &mut self,
        round: usize,
        peer: &Peer,
        scenario: Scenario,
        placement: Placement,
    ) -> anyhow::Result<Visit> {
        let options = &self.options;
        let core = match placement {
            Placement::One => options.proxy_core,
            Placement::Own => options.load_core,
        };
        sys::pin(Some(self.broker.child.id()), core)?;
        let pids = match peer.kind {
            // What stands in for the proxy's cost is that of broker and load together; the load's is added below.
            Kind::Direct => vec![self.broker.child.id()],
            _ => peer.pids()?,
        };
        let spec = Spec {
            scenario,
            targets: peer.targets.clone(),
            pids,
            visit: self.next_visit(),
            core,
            warmup: options.warmup,
            seconds: options.seconds,
            idle: options.idle,
            silent: options.silent,
            verify: options.verify,
        };
        let before = self.broker.settled_stats()?;
        let mut outcome = load(&spec)?;
        let after = self.broker.settled_stats()?;
        if peer.kind == Kind::Direct {
            outcome.cpu_ns += outcome.load_cpu_ns;
        }
        let broker = Stats {
            accepted: after.accepted - before.accepted,
            connects: after.connects - before.connects,
            publishes: after.publishes - before.publishes,
            disconnects: after.disconnects - before.disconnects,
            aborted: after.aborted - before.aborted,
            nonsense: after.nonsense - before.nonsense,
            open: after.open,
        };
        let mut invalid = complaints(&outcome, &broker, scenario);
        if let Err(error) = peer.pids() {
            invalid.push(error.to_string());
        }
        Ok(Visit {
            round,
            peer: peer.kind,
            scenario,
            placement,
            outcome,
            broker,
            invalid,
        })
    }
}

/// Everything that makes a visit's figures worthless.
fn complaints(outcome: &Outcome, broker: &Stats, scenario: Scenario) -> Vec<String> {
    let mut found = outcome.trouble.clone();
    let mut unless = |good: bool, words: String| {
        if !good {
            found.push(words);
        }
    };
    let Outcome {
        failed,
        lost,
        corrupt,
        connected,
        disconnected,
        ..
    } = *outcome;
    unless(failed == 0, format!("{failed} failed connections"));
    unless(lost == 0, format!("{lost} lost messages"));
    unless(corrupt == 0, format!("{corrupt} corrupted messages"));
    unless(outcome.count > 0, "nothing done in the window".into());
    unless(
        broker.open == 0,
        format!("{} connections left open at the broker", broker.open),
    );
    unless(
        broker.connects == connected,
        format!("the broker saw {} CONNECTs of {connected}", broker.connects),
    );
    unless(
        broker.disconnects == disconnected,
        format!(
            "the broker saw {} DISCONNECTs of {disconnected}",
            broker.disconnects
        ),
    );
    // Half a CONNECT or nonsense may reach the broker through a proxy that does not look.
    let nonsense = if scenario == Scenario::Silent {
        0
    } else {
        broker.nonsense
    };
    unless(
        nonsense == 0,
        format!("{nonsense} connections carried nonsense to the broker"),
    );
    found
}

/// Runs the load generator to its end, or ends it when it takes too long.
fn load(spec: &Spec) -> anyhow::Result<Outcome> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["load", &serde_json::to_string(spec)?])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start the load generator")?;
    let out = child.stdout.take().context("the load generator's output")?;
    let limit = Duration::from_secs_f64(60.0 + 10.0 * (spec.seconds + spec.warmup));
    let line = read_line(&mut BufReader::new(out), Instant::now() + limit);
    if line.is_err() {
        drop(child.kill());
    }
    let status = child.wait()?;
    let line = line.context("wait for the load generator")?;
    if !status.success() {
        bail!("the load generator failed: {status}");
    }
    serde_json::from_str(&line).with_context(|| format!("parse the outcome {line:?}"))
}

/// One line, or an error when it has not begun by then. Who writes lines here writes each at once.
fn read_line(from: &mut BufReader<ChildStdout>, deadline: Instant) -> anyhow::Result<String> {
    if from.buffer().is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(from.get_ref(), PollFlags::IN)];
        if rustix::event::poll(&mut fds, Some(&left))? == 0 {
            bail!("no answer in time");
        }
    }
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(line)
}

struct BrokerProcess {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    addresses: [SocketAddr; 2],
}

impl BrokerProcess {
    fn start() -> anyhow::Result<Self> {
        let addresses = [free_address()?, free_address()?];
        let mut child = Command::new(std::env::current_exe()?)
            .args([
                "broker",
                "--listen",
                &format!("{},{}", addresses[0], addresses[1]),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the broker")?;
        let ask = child.stdin.take().context("the broker's input")?;
        let answers = BufReader::new(child.stdout.take().context("the broker's output")?);
        let mut broker = Self {
            child,
            ask,
            answers,
            addresses,
        };
        // An answer says that it listens.
        broker.stats()?;
        Ok(broker)
    }

    fn stats(&mut self) -> anyhow::Result<Stats> {
        self.ask.write_all(b"stats\n").context("ask the broker")?;
        let line = read_line(&mut self.answers, Instant::now() + Duration::from_secs(5))
            .context("wait for the broker")?;
        serde_json::from_str(&line).context("parse the broker's answer")
    }

    /// What it has seen, once no connection is open; after five seconds, whatever it is.
    fn settled_stats(&mut self) -> anyhow::Result<Stats> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut last = None;
        loop {
            let stats = self.stats()?;
            // Twice the same: what was on its way through a proxy has come.
            if (stats.open == 0 && last == Some(stats)) || Instant::now() > deadline {
                return Ok(stats);
            }
            last = Some(stats);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A directory for configurations and sockets that is gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("standfast-bench-{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
