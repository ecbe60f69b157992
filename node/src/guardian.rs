//! The guardian: the small process that holds what must outlive the data plane.
//!
//! It starts the worker, binds the listeners and hands them over as descriptors, so that the port stays open while a
//! worker is away, and keeps the state that a next worker needs. It parses neither clients' bytes nor TOML and runs no
//! tokio: little can go wrong in it. The VIP's duty will live here.
//!
//! ```text
//! guardian ──starts──▶ worker      worker dies: the guardian starts another and gives it listeners and state
//!     ▲   socketpair     │         guardian dies: the worker ends too
//!     └──────────────────┘
//! ```

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use standfast_proto::guardian::{self as words, Message};
use standfast_vip::supervise::{Input, Output, Supervisor};

use crate::channel::{Channel, MAX_FDS, Parcel};
use crate::clock;
use crate::listeners::{Listeners, Outcome};

/// How long a worker may take to close its connections when the node stops, unless its plan says so.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// How long the guardian sleeps at most. Where a sleep took much longer, this process was frozen, and most likely the
/// worker with it.
const SLEEP: Duration = Duration::from_secs(1);

/// The signals that mean something here, in the order in which their streams are polled.
const SIGNALS: [i32; 4] = [SIGCHLD, SIGHUP, SIGTERM, SIGINT];

/// The guardian and what it holds.
struct Guardian {
    supervisor: Supervisor,
    /// Arguments of the worker's command line.
    arguments: Vec<OsString>,
    listeners: Listeners,
    /// What the last worker left for the next: a memfd that this process never reads.
    state: Option<OwnedFd>,
    worker: Option<Worker>,
    generation: u64,
    stop_grace: Duration,
    /// The node stops: nothing is bound any more.
    stopping: bool,
    finished: Option<i32>,
}

struct Worker {
    child: Child,
    channel: Channel,
}

/// Runs the guardian until the node stops; answers the exit code.
///
/// # Errors
///
/// Signals cannot be caught, or the worker's process cannot be started.
pub fn run(arguments: Vec<OsString>) -> io::Result<i32> {
    // It holds one socket for each address and thread; the worker inherits the limit.
    crate::worker::raise_fd_limit();
    let signals = SIGNALS.map(signal_stream);
    let mut streams = Vec::new();
    for stream in signals {
        streams.push(stream?);
    }
    let mut guardian = Guardian {
        supervisor: Supervisor::new(clock::now()),
        arguments,
        listeners: Listeners::default(),
        state: None,
        worker: None,
        generation: 0,
        stop_grace: STOP_GRACE,
        stopping: false,
        finished: None,
    };
    loop {
        guardian.step(Input::Timeout)?;
        if let Some(code) = guardian.finished {
            return Ok(code);
        }
        let lain_down = clock::now();
        let (signals, parcel) = guardian.wait(&streams)?;
        if lain_down.elapsed() > 2 * SLEEP {
            // A paused container or machine: what the worker did not say meanwhile is no fault of its.
            let lap_age = Duration::ZERO;
            guardian.step(Input::Heartbeat { lap_age })?;
        }
        // What the worker said last is heard before its end is.
        if parcel {
            guardian.hear()?;
        }
        for signal in signals {
            guardian.on_signal(signal)?;
        }
    }
}

/// A stream that becomes readable when the signal comes.
fn signal_stream(signal: i32) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    write.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signal, write)?;
    Ok(read)
}

impl Guardian {
    /// Waits until something happens or is due: the signals that came, and whether the worker spoke.
    fn wait(&self, streams: &[UnixStream]) -> io::Result<(Vec<i32>, bool)> {
        let timeout = self.supervisor.deadline().map(|deadline| {
            let left = deadline.saturating_duration_since(clock::now()).min(SLEEP);
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        let mut fds: Vec<PollFd<'_>> = streams
            .iter()
            .map(|stream| PollFd::new(stream, PollFlags::IN))
            .collect();
        if let Some(worker) = &self.worker {
            fds.push(PollFd::new(&worker.channel, PollFlags::IN));
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok((Vec::new(), false)),
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut signals = Vec::new();
        for ((signal, mut stream), _) in SIGNALS
            .into_iter()
            .zip(streams)
            .zip(&ready)
            .filter(|(_, ready)| **ready)
        {
            let mut bytes = [0; 64];
            while stream.read(&mut bytes).is_ok_and(|n| n == bytes.len()) {}
            signals.push(signal);
        }
        Ok((
            signals,
            ready.get(SIGNALS.len()).is_some_and(|ready| *ready),
        ))
    }

    fn on_signal(&mut self, signal: i32) -> io::Result<()> {
        match signal {
            SIGHUP => {
                self.say(&Message::Reopen(words::Reopen {}), &[]);
                self.say(&Message::Reload(words::Reload {}), &[]);
                Ok(())
            }
            SIGCHLD => self.reap(),
            _ => {
                let grace = self.stop_grace;
                self.step(Input::Stop { grace })
            }
        }
    }

    /// Gives an input to the supervisor and carries out what it answers.
    fn step(&mut self, input: Input) -> io::Result<()> {
        match self.supervisor.handle(input, clock::now()) {
            None => Ok(()),
            Some(Output::Start) => match self.start() {
                // Out of processes or descriptors for the moment: the listeners stand, and it is tried again.
                Err(error) if self.generation > 1 => {
                    eprintln!("standfast: cannot start a worker: {error}");
                    self.step(Input::Exited { code: None })
                }
                started => started,
            },
            Some(Output::Ask) => {
                // Nothing new comes in from here on, also where a plan is on its way.
                self.stopping = true;
                self.listeners.close();
                self.say(&Message::Stop(words::Stop {}), &[]);
                Ok(())
            }
            Some(Output::Kill(fault)) => {
                eprintln!("standfast: ending the worker: {fault:?}");
                if let Some(worker) = &mut self.worker {
                    worker.child.kill()?;
                }
                Ok(())
            }
            Some(Output::Finish(code)) => {
                self.finished = Some(code);
                Ok(())
            }
        }
    }

    fn start(&mut self) -> io::Result<()> {
        self.generation += 1;
        let (ours, theirs) = Channel::pair()?;
        // The very program that runs, even where its file has been replaced meanwhile.
        let child = Command::new("/proc/self/exe")
            .arg0("standfast")
            .args(&self.arguments)
            .stdin(Stdio::from(theirs.into_fd()))
            .spawn()?;
        self.worker = Some(Worker {
            child,
            channel: ours,
        });
        Ok(())
    }

    /// Takes the worker's end, if it has ended.
    fn reap(&mut self) -> io::Result<()> {
        let Some(worker) = &mut self.worker else {
            return Ok(());
        };
        let Some(status) = worker.child.try_wait()? else {
            return Ok(());
        };
        // Its last words may still be in the channel.
        while self.worker.is_some() && self.hear_one()? {}
        self.worker = None;
        self.tell_end(status);
        self.step(Input::Exited {
            code: status.code(),
        })
    }

    fn tell_end(&self, status: ExitStatus) {
        // Exits that are the worker's own decision were explained by it.
        if let Some(signal) = status.signal() {
            eprintln!(
                "standfast: worker {} was ended by signal {signal}",
                self.generation
            );
        }
    }

    /// Hears all that the worker has said.
    fn hear(&mut self) -> io::Result<()> {
        while self.hear_one()? {}
        Ok(())
    }

    fn hear_one(&mut self) -> io::Result<bool> {
        let Some(worker) = &self.worker else {
            return Ok(false);
        };
        match worker.channel.receive() {
            Ok(parcel) => {
                self.on_parcel(parcel)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                eprintln!("standfast: the worker said what cannot be understood: {error}");
                Ok(true)
            }
            // Closed: the process is gone or about to be; SIGCHLD tells. Until then there is nothing to poll.
            Err(_) => {
                self.await_end()?;
                Ok(false)
            }
        }
    }

    /// The worker closed its channel: it is ending. Polling the channel on would spin.
    fn await_end(&mut self) -> io::Result<()> {
        if let Some(mut worker) = self.worker.take() {
            // It cannot serve without its guardian, so nothing is lost by making sure.
            let _ = worker.child.kill();
            let status = worker.child.wait()?;
            self.tell_end(status);
            self.step(Input::Exited {
                code: status.code(),
            })?;
        }
        Ok(())
    }

    fn on_parcel(&mut self, parcel: Parcel) -> io::Result<()> {
        let Parcel { message, mut fds } = parcel;
        match message {
            Message::Hello(_) => {
                let hello = words::Hello {
                    version: env!("CARGO_PKG_VERSION").into(),
                    generation: self.generation,
                    state_present: self.state.is_some(),
                };
                self.say(&Message::Hello(hello), &[]);
                if let Some(state) = &self.state {
                    self.say(&Message::State(words::State {}), &[state.as_fd()]);
                }
            }
            Message::Plan(plan) => self.on_plan(&plan),
            Message::Ready(_) => self.step(Input::Ready)?,
            Message::Heartbeat(heartbeat) => {
                let lap_age = Duration::from_millis(heartbeat.lap_age_ms);
                self.step(Input::Heartbeat { lap_age })?;
            }
            Message::State(_) => {
                if let Some(state) = fds.pop() {
                    self.state = Some(state);
                }
            }
            // The guardian says these; a worker that says them means nothing by it.
            Message::Goodbye(_)
            | Message::Listeners(_)
            | Message::Stop(_)
            | Message::Reload(_)
            | Message::Reopen(_) => {}
        }
        Ok(())
    }

    fn on_plan(&mut self, plan: &words::Plan) {
        if plan.stop_grace_ms != 0 {
            self.stop_grace = Duration::from_millis(plan.stop_grace_ms);
        }
        let outcome = if self.stopping {
            Outcome::default()
        } else {
            self.listeners.apply(&plan.listeners)
        };
        let chunks: Vec<_> = outcome.sockets.chunks(MAX_FDS).collect();
        let answers = chunks.len().max(1);
        for place in 0..answers {
            let sockets = chunks.get(place).copied().unwrap_or_default();
            let answer = words::Listeners {
                keys: sockets.iter().map(|(key, _)| key.clone()).collect(),
                errors: if place == 0 {
                    outcome.errors.clone()
                } else {
                    Vec::new()
                },
                more: place + 1 < answers,
            };
            let fds: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, fd)| fd.as_fd()).collect();
            self.say(&Message::Listeners(answer), &fds);
        }
    }

    fn say(&self, message: &Message, fds: &[BorrowedFd<'_>]) {
        if let Some(worker) = &self.worker
            && let Err(error) = worker.channel.send(message, fds)
        {
            // It is ending, or stuck: the supervisor will know.
            eprintln!("standfast: cannot speak to the worker: {error}");
        }
    }
}
