//! `standfast demo`: the main job on this machine, with nothing to install and no root.
//!
//! ```text
//! toy clients ──▶ standfast run (a child process, as in earnest) ──▶ toy brokers
//!      └──────────────── this process ───────────────────────────────────┘
//! ```
//!
//! Only brokers and clients are toys. The balancer is the program itself with a small configuration, and what the table
//! shows is what its control socket and the clients tell.

mod broker;
mod load;
mod look;
mod packet;
mod screen;
mod stage;
mod story;

use std::io;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::admin::command::Command;
use crate::cli::DemoArgs;
use crate::cli::human::Style;
use crate::clock;
use broker::Broker;
use load::Load;
use look::{Seen, look, order};
use screen::{Frame, Screen, say};
use stage::{Stage, StageError};
use story::{Chapter, DRAIN_RATE, DRAINED, Deed, KILLED, Story};

/// How often a table on a terminal is drawn anew.
const REDRAW: Duration = Duration::from_secs(1);

/// How often a table is printed where it cannot be drawn in place.
const REPRINT: Duration = Duration::from_secs(5);

/// Runs the demo until it is told to end.
#[must_use]
pub fn run(args: &DemoArgs, style: Style) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(StageError::io("start"))
        .and_then(|runtime| runtime.block_on(play(args, Screen::new(style))));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("standfast: demo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn play(args: &DemoArgs, screen: Screen) -> Result<(), StageError> {
    let mut end = std::pin::pin!(told_to_end()?);
    let mut brokers = Vec::new();
    for name in ["b1", "b2", "b3"] {
        brokers.push(Broker::start(name).map_err(StageError::io(format!("start broker {name}")))?);
    }
    let stage = tokio::select! {
        stage = Stage::set(&brokers) => stage?,
        () = &mut end => return Ok(()),
    };
    let load = Load::start(stage.addr, args.clients);
    let seen = look(&stage.socket).await.unwrap_or_default();
    let mut demo = Demo {
        load,
        stage,
        brokers,
        screen,
        seen,
        clients: args.clients,
        story: args.story.then(Story::default),
        chapter: None,
        began: clock::now(),
        counted: (clock::now(), 0, 0),
        shown: false,
    };
    demo.introduce().map_err(printing)?;
    let outcome = demo.go_on(args.seconds.map(Duration::from_secs), end).await;
    demo.close().await?;
    outcome
}

/// Ctrl-C, or a signal that asks for the end.
fn told_to_end() -> Result<impl Future<Output = ()>, StageError> {
    let stream = |kind| signal(kind).map_err(StageError::io("catch signals"));
    let mut interrupt = stream(SignalKind::interrupt())?;
    let mut terminate = stream(SignalKind::terminate())?;
    let mut hangup = stream(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

fn printing(error: io::Error) -> StageError {
    StageError::io("print")(error)
}

/// Everything that plays a part.
struct Demo {
    // First, so that clients go before what they are connected to.
    load: Load,
    stage: Stage,
    brokers: Vec<Broker>,
    screen: Screen,
    /// What the balancer told last.
    seen: Seen,
    clients: u32,
    story: Option<Story>,
    chapter: Option<&'static Chapter>,
    began: Instant,
    /// When messages were counted last, and how many were sent and received by then.
    counted: (Instant, u64, u64),
    shown: bool,
}

impl Demo {
    /// Says what runs where, and what can be tried.
    fn introduce(&self) -> io::Result<()> {
        let stage = &self.stage;
        let program = std::env::current_exe()?;
        let brokers: Vec<_> = self
            .brokers
            .iter()
            .map(|broker| format!("{} on {}", broker.name(), broker.addr()))
            .collect();
        say(&format!(
            "\
One balancer, three toy brokers and {clients} toy clients, all on 127.0.0.1; nothing of it needs root.

  balancer  standfast run --config {config}
            guardian {guardian}, worker {worker}; clients connect to {addr}
  brokers   {brokers}: in this process and its memory
  clients   client-1 to client-{clients}: they publish, listen, go away now and then, and come back

A client that comes back is brought to the broker it was on: that is where a real one has its session.
Try in another terminal:

  alias sf='{program} --socket {socket}'
  sf status
  sf explain client-7
  sf sticky show client-7
  sf drain demo/b1 --rate 5/s --yes   # and back: sf undrain demo/b1
  sf connections --backend demo/b2
  sf events -f
  mosquitto_sub -h {host} -p {port} -i you -t 'demo/#' -v
  mosquitto_pub -h {host} -p {port} -i me -t demo/room-1/me -m hello
  kill -9 {worker}   # the worker: another one starts at once, with the sticky table of the last minute

The log and the connection lines are in {folder}. Ctrl-C ends everything.

",
            clients = self.clients,
            config = stage.config.display(),
            guardian = stage.guardian(),
            worker = self.seen.view.node.pid,
            addr = stage.addr,
            brokers = brokers.join(", "),
            program = program.display(),
            socket = stage.socket.display(),
            host = stage.addr.ip(),
            port = stage.addr.port(),
            folder = stage.folder().display(),
        ))
    }

    /// Shows tables and tells the story until the end.
    async fn go_on(
        &mut self,
        most: Option<Duration>,
        mut end: impl Future<Output = ()> + Unpin,
    ) -> Result<(), StageError> {
        let due = async move {
            match most {
                Some(most) => tokio::time::sleep(most).await,
                None => std::future::pending().await,
            }
        };
        let mut due = std::pin::pin!(due);
        let pace = if self.screen.lives() { REDRAW } else { REPRINT };
        let mut seconds = interval(REDRAW);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut print_at = self.began;
        loop {
            tokio::select! {
                _ = seconds.tick() => {}
                () = &mut end => break,
                () = &mut due => break,
            }
            self.stage.check()?;
            self.tell().await;
            let everybody = self.load.tally().connected.load(Relaxed) >= u64::from(self.clients);
            // Before a first table that stays on paper, all clients have arrived.
            if clock::now() >= print_at && (self.screen.lives() || self.shown || everybody) {
                self.show().await?;
                print_at = clock::now() + pace - REDRAW / 2;
            }
        }
        self.show().await
    }

    async fn show(&mut self) -> Result<(), StageError> {
        let away = match look(&self.stage.socket).await {
            Ok(seen) => {
                self.seen = seen;
                None
            }
            Err(_) => Some("its worker is on the way".to_owned()),
        };
        let tally = self.load.tally();
        let (sent, received) = (tally.sent.load(Relaxed), tally.received.load(Relaxed));
        let (then, sent_then, received_then) = self.counted;
        let seconds = (clock::now() - then).as_secs_f64().max(0.001);
        self.counted = (clock::now(), sent, received);
        let frame = Frame {
            addr: self.stage.addr.to_string(),
            since: clock::now() - self.began,
            seen: &self.seen,
            away,
            clients: self.clients,
            tally,
            pace: (
                (sent - sent_then) as f64 / seconds,
                (received - received_then) as f64 / seconds,
            ),
            chapter: self.chapter,
        };
        self.shown = true;
        self.screen.show(&frame).map_err(printing)
    }

    /// Does what the story wants done by now.
    async fn tell(&mut self) {
        let since = clock::now() - self.began;
        while let Some(chapter) = self.story.as_mut().and_then(|story| story.due(since)) {
            let socket = &self.stage.socket;
            let done = match chapter.deed {
                Deed::Watch => Ok(()),
                Deed::Drain => {
                    let drain = Command::Drain {
                        backend: DRAINED.into(),
                        rate: Some(DRAIN_RATE),
                        reason: None,
                        force: false,
                    };
                    order(socket, drain).await.map_err(io::Error::other)
                }
                Deed::Undrain => {
                    let backend = DRAINED.into();
                    let undrain = Command::Undrain { backend };
                    order(socket, undrain).await.map_err(io::Error::other)
                }
                Deed::Kill => self.brokers[KILLED].stop().await,
                Deed::Revive => self.brokers[KILLED].restart(),
            };
            // Whoever tries commands meanwhile may be in the way of a chapter: then it is not told.
            if done.is_ok() {
                self.chapter = Some(chapter);
            }
        }
    }

    /// Ends everything, clients first, and says so.
    async fn close(self) -> Result<(), StageError> {
        let Self {
            load,
            stage,
            brokers,
            ..
        } = self;
        drop(load);
        let folder = stage.folder().display().to_string();
        stage.clear().await?;
        drop(brokers);
        say(&format!(
            "Ended: clients, balancer and brokers are gone, and so is {folder}.\n"
        ))
        .map_err(printing)
    }
}
