//! A real HAProxy: the other half of a differential test, or a receiver of PROXY headers.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::Host;
use crate::program::{Dir, Program, installed};

/// A running HAProxy with an admin socket in its directory. Dropping it kills it.
#[derive(Debug)]
pub struct Haproxy {
    program: Program,
    dir: Dir,
}

impl Haproxy {
    /// Starts with `config` below a `global` section of ours; `{dir}` stands for its directory.
    ///
    /// # Errors
    ///
    /// Where HAProxy is not installed or does not take the configuration.
    pub fn start(config: &str) -> Result<Self> {
        Self::launch(Command::new(installed("haproxy")?), config)
    }

    /// As [`Self::start`], on this host.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_on(host: &Host, config: &str) -> Result<Self> {
        let path = installed("haproxy")?;
        Self::launch(host.command(&path.display().to_string()), config)
    }

    fn launch(mut command: Command, config: &str) -> Result<Self> {
        let dir = Dir::new("haproxy");
        let place = dir.path().display().to_string();
        let global = "global\n  stats socket {dir}/admin.sock mode 600 level admin\n  log stdout format raw local0\n";
        let text = format!("{global}{config}\n").replace("{dir}", &place);
        let file = dir.write("haproxy.cfg", &text);
        command.arg("-db").arg("-f").arg(file);
        let mut program = Program::start("haproxy", &mut command, dir.path())?;
        let socket = dir.path().join("admin.sock");
        program.wait_ready(Duration::from_secs(10), || {
            UnixStream::connect(&socket).is_ok()
        })?;
        Ok(Self { program, dir })
    }

    /// Asks the admin socket one thing (`show stat`, `show table x`, …).
    ///
    /// # Errors
    ///
    /// Where it does not answer.
    pub fn ask(&self, command: &str) -> Result<String> {
        let mut socket = UnixStream::connect(self.dir.path().join("admin.sock"))?;
        writeln!(socket, "{command}")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// One column of `show stat` for a server: `status`, `scur`, `stot`, …
    ///
    /// # Errors
    ///
    /// Where there is no such server or column.
    pub fn stat(&self, backend: &str, server: &str, column: &str) -> Result<String> {
        let text = self.ask("show stat")?;
        let mut lines = text.lines();
        let names = lines.next().context("no header")?.trim_start_matches("# ");
        let place = names.split(',').position(|name| name == column);
        let place = place.with_context(|| format!("no column {column}"))?;
        let start = format!("{backend},{server},");
        let line = lines.find(|line| line.starts_with(&start));
        let line = line.with_context(|| format!("no server {backend}/{server}"))?;
        Ok(line.split(',').nth(place).unwrap_or_default().to_owned())
    }

    /// What it logged (to stdout).
    #[must_use]
    pub fn log(&self) -> String {
        self.program.stdout()
    }

    /// The running process.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }
}
