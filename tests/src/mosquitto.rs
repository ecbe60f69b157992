//! Real Mosquitto brokers (the system's, and a newer one that knows PROXY version 2) and Mosquitto's clients.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::ports;
use crate::program::{Dir, Program, build_dir, installed};
use crate::wait::within;

/// A running broker. Dropping it kills it.
#[derive(Debug)]
pub struct Mosquitto {
    program: Program,
    address: SocketAddr,
    binary: PathBuf,
    dir: Dir,
}

impl Mosquitto {
    /// The system's broker on a port of 127.0.0.1, open to everybody; `extra` lines follow the listener's.
    ///
    /// # Errors
    ///
    /// Where it is not installed or does not take the configuration.
    pub fn start(extra: &str) -> Result<Self> {
        Self::start_binary(&installed("mosquitto")?, extra)
    }

    /// A broker of version 2.1 or newer: `STANDFAST_MOSQUITTO21`, or what `tests/tools/newer.sh` unpacked.
    ///
    /// # Errors
    ///
    /// Where there is none: a reason to skip, by name.
    pub fn start_newer(extra: &str) -> Result<Self> {
        Self::start_binary(&newer()?, extra)
    }

    fn start_binary(binary: &Path, extra: &str) -> Result<Self> {
        let dir = Dir::new("mosquitto");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
        // As root it would become `mosquitto`, who may not read this directory.
        let text = format!(
            "user root\nlog_type all\nlog_dest stderr\nlog_timestamp false\nconnection_messages true\n\
             allow_anonymous true\nlistener {} 127.0.0.1\n{extra}\n",
            address.port()
        );
        dir.write("mosquitto.conf", &text);
        let mut broker = Self {
            program: launch(binary, &dir)?,
            address,
            binary: binary.to_owned(),
            dir,
        };
        broker.wait_ready()?;
        Ok(broker)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let address = self.address;
        let patience = Duration::from_secs(10);
        self.program
            .wait_ready(patience, || TcpStream::connect(address).is_ok())
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Its log until now.
    #[must_use]
    pub fn log(&self) -> String {
        self.program.stderr()
    }

    /// Waits for a line of its log that contains `text`.
    ///
    /// # Panics
    ///
    /// Where none comes in 10 s.
    #[must_use]
    #[track_caller]
    pub fn log_line(&self, text: &str) -> String {
        let what = format!("a broker's log line with {text:?}");
        within(Duration::from_secs(10), &what, || {
            let log = self.log();
            let mut lines = log.lines();
            lines.find(|line| line.contains(text)).map(str::to_owned)
        })
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.program.kill();
    }

    /// Starts it again on its port.
    ///
    /// # Errors
    ///
    /// Where it does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.program.kill();
        self.program = launch(&self.binary, &self.dir)?;
        self.wait_ready()
    }

    /// The running process.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }
}

fn launch(binary: &Path, dir: &Dir) -> Result<Program> {
    let mut command = Command::new(binary);
    command.arg("-c").arg(dir.path().join("mosquitto.conf"));
    Program::start("mosquitto", &mut command, dir.path())
}

/// Where the newer broker is.
///
/// # Errors
///
/// Says how to get it.
pub fn newer() -> Result<PathBuf> {
    let path = std::env::var_os("STANDFAST_MOSQUITTO21").map(PathBuf::from);
    let unpacked = || Some(build_dir().parent()?.join("newer/bin/mosquitto"));
    let path = path.or_else(unpacked).context("no build directory")?;
    if !path.is_file() {
        bail!(
            "mosquitto 2.1 or newer is not there (tests/tools/newer.sh target/newer sid mosquitto)"
        );
    }
    Ok(path)
}

/// `mosquitto_pub`, one message.
#[derive(Clone, Debug)]
pub struct Publish<'a> {
    /// Where to.
    pub to: SocketAddr,
    /// Client id.
    pub id: &'a str,
    /// Topic.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a str,
    /// More arguments: `-q 1`, `-V mqttv5`, …
    pub more: &'a [&'a str],
}

impl Publish<'_> {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// Where it is not installed, or fails: with what it said.
    pub fn run(&self) -> Result<Output> {
        let output = Command::new(installed("mosquitto_pub")?)
            .args(["-h", &self.to.ip().to_string()])
            .args(["-p", &self.to.port().to_string()])
            .args(["-i", self.id, "-t", self.topic, "-m", self.payload])
            .args(self.more)
            .output()?;
        if !output.status.success() {
            bail!(
                "mosquitto_pub: {} {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(output)
    }
}

/// A running `mosquitto_sub`. Dropping it ends it.
#[derive(Debug)]
pub struct Subscriber {
    program: Program,
    _dir: Dir,
}

impl Subscriber {
    /// Starts it and waits until the broker has acknowledged the subscription.
    ///
    /// # Errors
    ///
    /// Where it is not installed or not let in.
    pub fn start(to: SocketAddr, id: &str, topic: &str, more: &[&str]) -> Result<Self> {
        let dir = Dir::new("subscriber");
        let mut command = Command::new("stdbuf");
        // Its debug lines tell of the SUBACK; line by line, so that they come when they are true.
        command
            .args(["-oL", "-eL"])
            .arg(installed("mosquitto_sub")?)
            .args(["-d", "-h", &to.ip().to_string()])
            .args(["-p", &to.port().to_string()])
            .args(["-i", id, "-t", topic])
            .args(more);
        let program = Program::start("mosquitto_sub", &mut command, dir.path())?;
        let mut subscriber = Self { program, _dir: dir };
        let out = subscriber.program.pid();
        subscriber
            .wait_for("Subscribed (mid")
            .with_context(|| format!("mosquitto_sub {out}"))?;
        Ok(subscriber)
    }

    fn wait_for(&mut self, text: &str) -> Result<()> {
        let patience = Duration::from_secs(10);
        let done = crate::wait::try_within(patience, || {
            if self.output().contains(text) {
                return Some(Ok(()));
            }
            let status = self.program.ended()?;
            Some(Err(anyhow::anyhow!("ended with {status}")))
        });
        done.unwrap_or_else(|| bail!("nothing in {patience:?}"))
            .with_context(|| format!("waiting for {text:?} in {:?}", self.output()))
    }

    /// Everything it said until now: debug lines and payloads.
    #[must_use]
    pub fn output(&self) -> String {
        format!("{}{}", self.program.stdout(), self.program.stderr())
    }

    /// Waits until a message with this payload has come.
    ///
    /// # Panics
    ///
    /// Where none comes in 10 s.
    #[track_caller]
    pub fn expect(&self, payload: &str) {
        let what = format!("a message {payload:?}");
        within(Duration::from_secs(10), &what, || {
            let output = self.output();
            output.lines().any(|line| line == payload).then_some(())
        });
    }

    /// The running process.
    pub fn program_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}
