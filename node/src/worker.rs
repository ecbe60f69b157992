//! The worker: the process that serves clients. It joins all other parts.
//!
//! ```text
//! guardian ◀──channel──▶ worker ──▶ data-plane threads (accept, greet, route, relay)
//!                          │
//!                          ├─ health and names, one task a backend
//!                          ├─ control sockets
//!                          └─ daemon: configuration, commands, drains, what is kept
//! ```
//!
//! Everything but the data plane runs in one current-thread runtime on the main thread.

mod build;
pub mod daemon;
mod evict;
mod guard;
mod house;
mod keep;
mod look;
mod reload;

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use standfast_proto::guardian::{Goodbye, Heartbeat, Hello, Message, Ready, VERSION};
use tokio::sync::mpsc;

use crate::admin::server::Server;
use crate::channel::Channel;
use crate::clock;
use crate::config::{self, Loaded, Overrides};
use daemon::Daemon;
use guard::{Guard, Wish};
use keep::Kept;

/// How often the guardian hears that the data plane goes round; well within `node.restart_grace`.
const HEARTBEAT: Duration = Duration::from_millis(50);

/// Exit code of a configuration that cannot be used.
const BAD_CONFIG: u8 = 2;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// The configuration file.
    pub config: PathBuf,
    /// `--node`.
    pub node: Option<String>,
}

/// Runs the worker on the channel that is its standard input.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    // Should the guardian die in a way that leaves the channel open, the kernel ends this process too.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // A terminal and systemd signal the whole group. The guardian says what is to be done; these only must not end us.
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        let _ = signal_hook::flag::register(signal, Arc::default());
    }
    match start(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("standfast: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let channel = Channel::from_fd(io::stdin().as_fd().try_clone_to_owned()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let code = runtime.block_on(serve(arguments, channel));
    // Tasks that wait for the network or a name server must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

async fn serve(arguments: &Arguments, channel: Channel) -> anyhow::Result<ExitCode> {
    let (wishes, mut wished) = mpsc::channel(16);
    let (kept, generation, early) = greet(&channel).await?;
    if early.contains(&Wish::Stop) {
        return Ok(ExitCode::SUCCESS);
    }
    let overrides = Overrides::of_this_machine(arguments.node.clone());
    let loaded = match load(arguments, &overrides, kept.as_ref()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(ExitCode::from(BAD_CONFIG));
        }
    };
    for warning in &loaded.warnings {
        eprintln!("{warning}");
    }
    let fd_limit = raise_fd_limit();
    for wish in early {
        // More than the queue holds say nothing new.
        let _ = wishes.try_send(wish);
    }
    let guard = Guard::new(channel, wishes)?;
    let daemon = Daemon::start(
        arguments, overrides, loaded, guard, kept, generation, fd_limit,
    )
    .await?;
    let server = Arc::new(Server::new(daemon.clone()));
    daemon.serve_control(server.clone())?;
    daemon.guard().say(&Message::Ready(Ready {}), &[])?;
    let beats = tokio::spawn(beat(daemon.clone()));
    while let Some(wish) = wished.recv().await {
        match wish {
            Wish::Reopen => daemon.reopen_logs(),
            Wish::Reload => {
                // Told as an event and in `status`; whoever sent the signal is not there to hear it.
                let _ = daemon.reload(false, "SIGHUP").await;
            }
            Wish::Stop => {
                daemon.stop().await;
                break;
            }
            Wish::Gone => {
                tracing::error!("the guardian is gone: the worker ends too");
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    beats.abort();
    server.close().await;
    let goodbye = Goodbye {
        reason: "stopped".into(),
    };
    let _ = daemon.guard().say(&Message::Goodbye(goodbye), &[]);
    Ok(ExitCode::SUCCESS)
}

/// Exchanges greetings with the guardian; answers what an earlier worker left, which life of the worker this is, and
/// what was wished before.
async fn greet(channel: &Channel) -> anyhow::Result<(Option<Kept>, u64, Vec<Wish>)> {
    let hello = Hello {
        version: env!("CARGO_PKG_VERSION").into(),
        generation: 0,
        state_present: false,
    };
    channel.send(&Message::Hello(hello), &[])?;
    let readable = crate::sys::watch(channel.as_fd().try_clone_to_owned()?)?;
    let mut generation = None;
    let mut early = Vec::new();
    loop {
        let mut ready = readable.readable().await?;
        let parcel = match channel.receive() {
            Ok(parcel) => parcel,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready.clear_ready();
                continue;
            }
            Err(error) => {
                anyhow::bail!("cannot hear the guardian (protocol version {VERSION}): {error}")
            }
        };
        match parcel.message {
            Message::Hello(hello) if !hello.state_present => {
                return Ok((None, hello.generation, early));
            }
            Message::Hello(hello) => generation = Some(hello.generation),
            Message::State(_) => {
                let kept = parcel
                    .fds
                    .into_iter()
                    .next()
                    .and_then(|fd| match Kept::read(fd) {
                        Ok(kept) => Some(kept),
                        Err(error) => {
                            eprintln!(
                                "standfast: what the last worker left cannot be read: {error}"
                            );
                            None
                        }
                    });
                return Ok((kept, generation.unwrap_or(1), early));
            }
            Message::Stop(_) => early.push(Wish::Stop),
            Message::Reload(_) => early.push(Wish::Reload),
            Message::Reopen(_) => early.push(Wish::Reopen),
            _ => {}
        }
    }
}

/// The configuration: of the file, or, after a crash, the one that was in force, whatever the file says by now.
fn load(
    arguments: &Arguments,
    overrides: &Overrides,
    kept: Option<&Kept>,
) -> Result<Loaded, config::Problems> {
    if let Some(kept) = kept
        && let Ok(loaded) = config::load_sources(&kept.sources, overrides)
    {
        return Ok(loaded);
    }
    config::load(&arguments.config, overrides)
}

/// Raises the file-descriptor limit as far as allowed; answers the limit in force.
pub(crate) fn raise_fd_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum;
    let raised = Rlimit {
        current: most,
        maximum: most,
    };
    // Refused only where it is in force already.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Tells the guardian that the data plane goes round.
async fn beat(daemon: Arc<Daemon>) {
    let mut beats = tokio::time::interval(HEARTBEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = clock::now();
    loop {
        beats.tick().await;
        let now = clock::now();
        // Where this loop was held up too, the whole process was: no data-plane loop is to blame for that time.
        let late = now
            .saturating_duration_since(last)
            .saturating_sub(HEARTBEAT);
        last = now;
        let late_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
        let lap_age_ms = daemon.planes().oldest_lap_ms().saturating_sub(late_ms);
        let message = Message::Heartbeat(Heartbeat { lap_age_ms });
        if daemon.guard().offer(&message).is_err() {
            return;
        }
    }
}
