//! Those that are compared: how each is configured, started, recognised as ready, and ended.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::mqtt;
use crate::options::Options;
use crate::procfs::{self, Process};
use crate::sys;

/// How long a proxy may take from its start to the first CONNACK through it.
const START: Duration = Duration::from_secs(10);
/// How long a proxy may take to end when asked, before it is made to.
const END: Duration = Duration::from_secs(3);

/// Whom to compare.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// No proxy: what load and broker cost by themselves.
    Direct,
    /// Sticky by client id.
    Standfast,
    /// HAProxy, sticky by client id: what MQTT users are told to run, and the one to beat.
    Haproxy,
    /// HAProxy that does not look at MQTT.
    HaproxyRr,
    /// nginx's stream module, which does not look at MQTT.
    Nginx,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Direct,
        Self::Standfast,
        Self::Haproxy,
        Self::HaproxyRr,
        Self::Nginx,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Standfast => "standfast",
            Self::Haproxy => "haproxy",
            Self::HaproxyRr => "haproxy-rr",
            Self::Nginx => "nginx",
        }
    }

    /// The program, where it is one.
    pub(crate) fn program(self, options: &Options) -> Option<&Path> {
        match self {
            Self::Direct => None,
            Self::Standfast => Some(&options.standfast),
            Self::Haproxy | Self::HaproxyRr => Some(&options.haproxy),
            Self::Nginx => Some(&options.nginx),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // With the width that a table asks for.
        f.pad(self.name())
    }
}

/// A proxy that runs, or the broker in the place of one.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    /// Where clients connect.
    pub(crate) targets: Vec<SocketAddr>,
    dir: PathBuf,
    command: Vec<String>,
    child: Option<Child>,
    family: Vec<Process>,
}

impl Peer {
    /// Starts it and waits until a client is greeted through it.
    pub(crate) fn start(
        kind: Kind,
        options: &Options,
        dir: &Path,
        backends: [SocketAddr; 2],
    ) -> anyhow::Result<Self> {
        let dir = dir.join(kind.name());
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let (targets, command) = match kind {
            Kind::Direct => (backends.to_vec(), Vec::new()),
            _ => {
                let bind = free_address()?;
                let file = dir.join("config");
                fs::write(&file, config(kind, options, &dir, bind, backends))
                    .with_context(|| format!("write {}", file.display()))?;
                (vec![bind], command(kind, options, &dir, &file))
            }
        };
        let mut peer = Self {
            kind,
            targets,
            dir,
            command,
            child: None,
            family: Vec::new(),
        };
        peer.launch(options)?;
        Ok(peer)
    }

    /// Ends it and starts it again.
    pub(crate) fn restart(&mut self, options: &Options) -> anyhow::Result<()> {
        self.stop();
        self.launch(options)
    }

    fn launch(&mut self, options: &Options) -> anyhow::Result<()> {
        if self.kind == Kind::Direct {
            return Ok(());
        }
        let said = File::create(self.dir.join("output"))?;
        // A process that starts afresh must not remember the clients of the one before.
        let state = self.dir.join("state");
        if state.exists() {
            fs::remove_dir_all(&state).with_context(|| format!("empty {}", state.display()))?;
        }
        fs::create_dir(&state).with_context(|| format!("make {}", state.display()))?;
        let child = Command::new(std::env::current_exe()?)
            .args(["launch", "--core", &options.proxy_core.to_string(), "--"])
            .args(&self.command)
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .with_context(|| format!("start {}", self.kind))?;
        let pid = child.id();
        self.child = Some(child);
        self.wait_until_ready().with_context(|| {
            let said = fs::read_to_string(self.dir.join("output")).unwrap_or_default();
            format!("{} is not ready; it said: {}", self.kind, said.trim())
        })?;
        self.family = procfs::family(pid)?;
        for process in &self.family {
            // Where a worker has a session of its own, it needs raising of its own; refusals were reported once.
            drop(sys::raise_session(Some(process.pid)));
        }
        Ok(())
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        loop {
            if let Some(status) = self
                .child
                .as_mut()
                .map(Child::try_wait)
                .transpose()?
                .flatten()
            {
                bail!("it ended: {status}");
            }
            match greet(self.targets[0]) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error).context("no CONNACK"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// The processes whose cost is this peer's; fails when one has ended or another has come.
    pub(crate) fn pids(&self) -> anyhow::Result<Vec<u32>> {
        if let Some(child) = &self.child {
            let now = procfs::family(child.id())?;
            if now != self.family {
                bail!(
                    "the processes of {} were {:?} and are {now:?}",
                    self.kind,
                    self.family
                );
            }
        }
        Ok(self.family.iter().map(|process| process.pid).collect())
    }

    fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let family = procfs::family(child.id()).unwrap_or_default();
        signal(child.id(), Signal::TERM);
        let deadline = Instant::now() + END;
        while family.iter().any(|process| process.is_alive()) && Instant::now() < deadline {
            // Without this the child stays a zombie, which is not alive; what it started may be.
            drop(child.try_wait());
            std::thread::sleep(Duration::from_millis(10));
        }
        for process in family.iter().filter(|process| process.is_alive()) {
            signal(process.pid, Signal::KILL);
        }
        drop(child.wait());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        // It may have ended by itself, which is what was wanted.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Comes, is greeted, goes.
fn greet(target: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(&mqtt::connect("are-you-there"))?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    stream.write_all(&mqtt::DISCONNECT)
}

/// A loopback address that nobody listens on, below the ports that the kernel gives to outgoing connections.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let start = 20_000 + std::process::id() % 8_000;
    (start..32_000)
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port as u16)))
        // Several are asked for before the first is used: each must be another.
        .find(|address| {
            TAKEN.lock().is_ok_and(|mut taken| {
                !taken.contains(address) && {
                    let free = TcpListener::bind(address).is_ok();
                    taken.push(*address);
                    free
                }
            })
        })
        .context("find a free port between 20000 and 32000")
}

static TAKEN: std::sync::Mutex<Vec<SocketAddr>> = std::sync::Mutex::new(Vec::new());

fn command(kind: Kind, options: &Options, dir: &Path, file: &Path) -> Vec<String> {
    let program = kind
        .program(options)
        .unwrap_or(Path::new(""))
        .display()
        .to_string();
    let (dir, file) = (dir.display().to_string(), file.display().to_string());
    let args = match kind {
        Kind::Direct => vec![],
        Kind::Standfast => vec!["run", "--config", &file],
        Kind::Haproxy | Kind::HaproxyRr => vec!["-db", "-f", &file],
        Kind::Nginx => vec!["-p", &dir, "-e", "stderr", "-c", &file],
    };
    std::iter::once(program.as_str())
        .chain(args)
        .map(str::to_owned)
        .collect()
}

fn config(
    kind: Kind,
    options: &Options,
    dir: &Path,
    bind: SocketAddr,
    [one, two]: [SocketAddr; 2],
) -> String {
    let dir = dir.display();
    match kind {
        Kind::Direct => String::new(),
        Kind::Standfast => format!(
            r#"web = false

[node]
threads = 1
state_dir = "{dir}/state"

[log]
level = "warn"
access = "off"

[control]
socket = "{dir}/control.sock"

[[listener]]
bind = "{bind}"
pool = "mqtt"

[[pool]]
name = "mqtt"
balance = "sticky"
check = false
backends = ["{one}", "{two}"]
"#
        ),
        Kind::Haproxy | Kind::HaproxyRr => {
            let sticky = if kind == Kind::HaproxyRr {
                ""
            } else {
                "
    tcp-request inspect-delay 10s
    tcp-request content reject unless { req.payload(0,0),mqtt_is_valid }
    stick-table type string len 32 size 100k expire 30m
    stick on req.payload(0,0),mqtt_field_value(connect,client_identifier)"
            };
            format!(
                "global
    nbthread 1
    maxconn 9900

defaults
    mode tcp
    timeout connect 5s
    timeout client 10m
    timeout server 10m

listen mqtt
    bind {bind}
    balance roundrobin{sticky}
    server one {one}
    server two {two}
"
            )
        }
        Kind::Nginx => {
            let module = &options.nginx_stream;
            let load = if module.exists() {
                format!("load_module {};", module.display())
            } else {
                String::new()
            };
            format!(
                "{load}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {dir}/nginx.pid;
error_log stderr warn;

events {{
    worker_connections 19900;
    multi_accept on;
}}

stream {{
    access_log off;
    upstream mqtt {{
        server {one};
        server {two};
    }}
    server {{
        listen {bind} backlog=4096;
        proxy_pass mqtt;
        proxy_connect_timeout 5s;
        proxy_timeout 10m;
    }}
}}
"
            )
        }
    }
}

/// Becomes `command` on this core; returns only when that fails.
pub(crate) fn launch(core: usize, command: &[String]) -> anyhow::Error {
    let prepared = sys::end_with_parent()
        .and_then(|()| sys::raise_open_files())
        .and_then(|_| sys::pin(None, core));
    if let Err(error) = prepared {
        return error;
    }
    let Some((program, args)) = command.split_first() else {
        return anyhow::anyhow!("nothing to launch");
    };
    let error = Command::new(program).args(args).exec();
    anyhow::Error::new(error).context(format!("become {program}"))
}
