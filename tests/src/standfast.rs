//! The program under test: started with a configuration, asked by its own command line, stopped with the test.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

pub use crate::config::{backends, backends_at};
use crate::config::{binds, complete, first_socket};
use crate::netns::Host;
use crate::program::{Dir, Program, build_dir};
use crate::wait::{eventually, within};

/// How long a start, a stop or a command may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one command said.
#[derive(Clone, Debug)]
pub struct Cli {
    /// Exit code; 255 where a signal ended it.
    pub code: i32,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
}

impl Cli {
    /// Its stdout as JSON.
    ///
    /// # Panics
    ///
    /// Where it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("{error} in {self:?}"),
        }
    }

    /// Itself, when the exit code was 0.
    ///
    /// # Panics
    ///
    /// Where it was not.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

/// The built program: `STANDFAST_BIN`, else the one of this build.
///
/// # Panics
///
/// Where it was not built.
#[must_use]
pub fn binary() -> PathBuf {
    let path = std::env::var_os("STANDFAST_BIN")
        .map_or_else(|| build_dir().join("standfast"), PathBuf::from);
    assert!(
        path.is_file(),
        "{} is missing: cargo build -p standfast",
        path.display()
    );
    path
}

/// A command of the program that needs no running one (`check`, `import`, …), in an empty environment of its own.
#[must_use]
pub fn command(arguments: &[&str]) -> Cli {
    run(Command::new(binary()).args(arguments))
}

fn run(command: &mut Command) -> Cli {
    for name in ["CONFIG", "SOCKET", "NODE", "LOG"] {
        let name = format!("STANDFAST_{name}");
        if !command.get_envs().any(|(set, _)| set == name.as_str()) {
            command.env_remove(name);
        }
    }
    let output = command.output().expect("the program was built");
    Cli {
        code: output.status.code().unwrap_or(255),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A running standfast. Dropping it kills it.
///
/// The configuration may say `${port:NAME}` (a free port, the same wherever that name stands) and `${dir}` (a directory
/// of this instance). What it does not say of `node.name`, `node.state_dir`, `node.threads`, `control.socket`,
/// `log.access`, `log.access_format` and `web` is filled in: state, control socket and connection lines (as JSON) lie in
/// `${dir}`, and the page is off.
#[derive(Debug)]
pub struct Standfast {
    program: Program,
    ports: BTreeMap<String, u16>,
    socket: PathBuf,
    config: PathBuf,
    host: Option<String>,
    // Last, so that it goes when the program is gone.
    dir: Dir,
}

impl Standfast {
    /// Starts with this configuration; waits until the control socket answers and every listener listens.
    ///
    /// # Panics
    ///
    /// Where it does not start, with what it said.
    #[must_use]
    #[track_caller]
    pub fn start(config: &str) -> Self {
        match Self::try_start(config) {
            Ok(started) => started,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// As [`Self::start`], on this host.
    ///
    /// # Panics
    ///
    /// As [`Self::start`].
    #[must_use]
    #[track_caller]
    pub fn start_on(host: &Host, config: &str) -> Self {
        let started = Self::launch(Dir::new("standfast"), config, Some(host), &[]);
        match started {
            Ok(started) => started,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// As [`Self::start`], with the error instead of a panic.
    ///
    /// # Errors
    ///
    /// Where it does not start, with what it said.
    pub fn try_start(config: &str) -> Result<Self> {
        Self::launch(Dir::new("standfast"), config, None, &[])
    }

    /// As [`Self::try_start`], through a wrapper such as `prlimit --nofile=100` or `setpriv --reuid=…`.
    ///
    /// # Errors
    ///
    /// As [`Self::try_start`].
    pub fn try_start_through(wrapper: &[&str], config: &str) -> Result<Self> {
        Self::launch(Dir::new("standfast"), config, None, wrapper)
    }

    fn launch(dir: Dir, config: &str, host: Option<&Host>, wrapper: &[&str]) -> Result<Self> {
        let mut ports = BTreeMap::new();
        let table = complete(config, dir.path(), &mut ports)?;
        let socket = first_socket(&table).unwrap_or_else(|| dir.path().join("control.sock"));
        let file = dir.write("standfast.toml", &toml::to_string(&table)?);
        let host = host.map(|host| host.name().to_owned());
        let program = spawn(&dir, &file, host.as_deref(), wrapper)?;
        let mut started = Self {
            program,
            ports,
            socket,
            config: file,
            host,
            dir,
        };
        started.wait_started(&table)?;
        Ok(started)
    }

    fn wait_started(&mut self, table: &toml::Table) -> Result<()> {
        let binds = binds(table);
        let pid = self.program.pid();
        let command = self.control(&["status", "--json"]);
        let mut command = command;
        self.program.wait_ready(PATIENCE, || {
            run(&mut command).code == 0 && binds.iter().all(|port| listens(pid, *port))
        })
    }

    /// The address of the listener on `${port:NAME}`, on 127.0.0.1.
    ///
    /// # Panics
    ///
    /// Where the configuration has no such port.
    #[must_use]
    #[track_caller]
    pub fn addr(&self, name: &str) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port(name)))
    }

    /// The port `${port:NAME}`.
    ///
    /// # Panics
    ///
    /// Where the configuration has no such port.
    #[must_use]
    #[track_caller]
    pub fn port(&self, name: &str) -> u16 {
        match self.ports.get(name) {
            Some(port) => *port,
            None => panic!("no ${{port:{name}}} in the configuration"),
        }
    }

    /// The directory `${dir}`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The started process.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The started process, to be signalled or waited for.
    pub fn program_mut(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Runs a command against this instance.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Cli {
        run(&mut self.control(arguments))
    }

    /// Runs a command through another control socket than the first.
    #[must_use]
    pub fn cli_at(&self, socket: &Path, arguments: &[&str]) -> Cli {
        run(self.control(arguments).env("STANDFAST_SOCKET", socket))
    }

    fn control(&self, arguments: &[&str]) -> Command {
        let mut command = on_host(self.host.as_deref(), &binary());
        command
            .args(arguments)
            .env("STANDFAST_SOCKET", &self.socket)
            .env("STANDFAST_CONFIG", &self.config);
        command
    }

    /// `status --json`.
    ///
    /// # Panics
    ///
    /// Where it does not answer.
    #[must_use]
    #[track_caller]
    pub fn status(&self) -> Value {
        self.cli(&["status", "--json"]).ok().json()
    }

    /// Waits until this backend is in one of these states, separated by `|`.
    ///
    /// # Panics
    ///
    /// Where it is not within `limit`.
    #[track_caller]
    pub fn wait_state(&self, backend: &str, states: &str, limit: Duration) {
        let mut seen = String::new();
        let what = format!("{backend} is {states}");
        let found = crate::wait::try_within(limit, || {
            seen = self.status().state(backend);
            states.split('|').any(|state| state == seen).then_some(())
        });
        assert!(found.is_some(), "not within {limit:?}: {what}, but {seen}");
    }

    /// Waits until all these backends are up.
    ///
    /// # Panics
    ///
    /// Where they are not within 20 s.
    #[track_caller]
    pub fn wait_up(&self, backends: &[&str]) {
        for backend in backends {
            self.wait_state(backend, "up", PATIENCE);
        }
    }

    /// Writes a new configuration (placeholders keep their ports) and says `reload`.
    ///
    /// # Panics
    ///
    /// Where the text is no TOML.
    #[must_use]
    #[track_caller]
    pub fn reload(&mut self, config: &str) -> Cli {
        let table = complete(config, self.dir.path(), &mut self.ports).expect("TOML");
        self.reload_raw(&toml::to_string(&table).expect("a table is TOML"))
    }

    /// Writes exactly this as the configuration and says `reload`.
    ///
    /// # Panics
    ///
    /// Where the file cannot be written.
    #[must_use]
    pub fn reload_raw(&self, config: &str) -> Cli {
        fs::write(&self.config, config).expect("the test's own directory is writable");
        self.cli(&["reload"])
    }

    /// Ends it with SIGTERM and starts it again with the same state, ports and configuration file.
    ///
    /// # Panics
    ///
    /// Where it does not end or start.
    #[track_caller]
    pub fn restart(&mut self) {
        let ended = self.program.terminate(PATIENCE);
        assert!(ended.is_ok(), "{ended:?}");
        let text = fs::read_to_string(&self.config).expect("the file is there");
        let table: toml::Table = text.parse().expect("it was TOML");
        self.program = spawn(&self.dir, &self.config, self.host.as_deref(), &[])
            .expect("it was started before");
        if let Err(error) = self.wait_started(&table) {
            panic!("{error:#}");
        }
    }

    /// Ends it with SIGTERM: its exit code.
    ///
    /// # Panics
    ///
    /// Where it does not end in 20 s.
    #[track_caller]
    pub fn stop(&mut self) -> i32 {
        match self.program.terminate(PATIENCE) {
            Ok(status) => status.code().unwrap_or(255),
            Err(error) => panic!("{error:#}"),
        }
    }

    /// The connection lines until now, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        let lines = text.lines();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits for the line of this client's connection.
    ///
    /// # Panics
    ///
    /// Where none comes within 20 s.
    #[must_use]
    #[track_caller]
    pub fn line_of(&self, client: &str) -> Value {
        let what = format!("a connection line of {client}");
        within(PATIENCE, &what, || {
            let mut lines = self.lines().into_iter();
            lines.find(|line| line["client"] == client)
        })
    }

    /// The `why` of every connection line of this client, oldest first.
    #[must_use]
    pub fn whys(&self, client: &str) -> Vec<String> {
        let lines = self.lines().into_iter();
        let own = lines.filter(|line| line["client"] == client);
        own.map(|line| line["why"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Waits until this client has `count` connection lines, and answers the `why` of the last.
    ///
    /// # Panics
    ///
    /// Where they do not come within 20 s.
    #[must_use]
    #[track_caller]
    pub fn nth_why(&self, client: &str, count: usize) -> String {
        let what = format!("{count} connection lines of {client}");
        within(PATIENCE, &what, || {
            let mut whys = self.whys(client);
            (whys.len() == count).then(|| whys.pop())?
        })
    }

    /// Waits for a line that satisfies `is_it`.
    ///
    /// # Panics
    ///
    /// Where none comes within 20 s.
    #[must_use]
    #[track_caller]
    pub fn line_where(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        within(PATIENCE, what, || self.lines().into_iter().find(&is_it))
    }

    /// Waits until `count` connections have lines whose `end` begins with `end`.
    ///
    /// # Panics
    ///
    /// Where they do not within 20 s.
    #[track_caller]
    pub fn wait_ends(&self, end: &str, count: usize) {
        let what = format!("{count} connection lines with end={end}");
        eventually(PATIENCE, &what, || self.count_ends(end) >= count);
    }

    /// How many connection lines have an `end` that begins with `end`.
    #[must_use]
    pub fn count_ends(&self, end: &str) -> usize {
        let begins = |line: &Value| line["end"].as_str().is_some_and(|it| it.starts_with(end));
        self.lines().iter().filter(|line| begins(line)).count()
    }

    /// Resident memory of all its processes, in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let pages: u64 = processes(self.program.pid())
            .into_iter()
            .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/statm")).ok())
            .filter_map(|line| line.split(' ').nth(1)?.parse::<u64>().ok())
            .sum();
        pages * 4096
    }
}

/// Questions to `status --json`.
pub trait StatusExt {
    /// The object of one backend, named `mq1` or `pool/mq1`.
    fn backend(&self, name: &str) -> &Value;
    /// `up`, `down`, `drain`, …
    fn state(&self, backend: &str) -> String;
    /// Live connections of one backend.
    fn connections(&self, backend: &str) -> u64;
}

impl StatusExt for Value {
    #[track_caller]
    fn backend(&self, name: &str) -> &Value {
        let (pool, backend) = match name.split_once('/') {
            Some((pool, backend)) => (Some(pool), backend),
            None => (None, name),
        };
        let pools = self["pools"].as_array().into_iter().flatten();
        let mut backends = pools
            .filter(|it| pool.is_none_or(|pool| it["name"] == pool))
            .flat_map(|it| it["backends"].as_array().into_iter().flatten());
        match backends.find(|it| it["name"] == backend) {
            Some(found) => found,
            None => panic!("no backend {name} in {self:#}"),
        }
    }

    #[track_caller]
    fn state(&self, backend: &str) -> String {
        let state = &self.backend(backend)["state"];
        state.as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn connections(&self, backend: &str) -> u64 {
        let count = &self.backend(backend)["connections"];
        match count.as_u64() {
            Some(count) => count,
            None => panic!("no number: {count:?}"),
        }
    }
}

fn spawn(dir: &Dir, config: &Path, host: Option<&str>, wrapper: &[&str]) -> Result<Program> {
    let mut command = match wrapper.split_first() {
        Some((first, rest)) => {
            let mut command = on_host(host, Path::new(first));
            command.args(rest).arg(binary());
            command
        }
        None => on_host(host, &binary()),
    };
    command.arg("run").arg("--config").arg(config);
    for name in ["CONFIG", "SOCKET", "NODE", "LOG"] {
        command.env_remove(format!("STANDFAST_{name}"));
    }
    Program::start("standfast", &mut command, dir.path())
}

fn on_host(host: Option<&str>, program: &Path) -> Command {
    match host {
        Some(host) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", host]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Whether something listens on this TCP port in the network of process `pid`: asked of the kernel, because a probing
/// connection would be counted.
fn listens(pid: u32, port: u16) -> bool {
    let wanted = format!(":{port:04X}");
    ["tcp", "tcp6"].into_iter().any(|file| {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
        text.lines().any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            // 0A is LISTEN.
            matches!(words.as_slice(), [_, local, _, "0A", ..] if local.ends_with(&wanted))
        })
    })
}

/// A process and all its descendants.
#[must_use]
pub fn processes(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(
                text.split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports;

    #[test]
    fn a_listening_port_is_seen_without_connecting() {
        let port = ports::free();
        assert!(!listens(std::process::id(), port));
        let _listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("ours");
        assert!(listens(std::process::id(), port));
    }
}
