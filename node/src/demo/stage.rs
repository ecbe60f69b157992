//! The balancer of the demo: a folder of its own, a configuration in it, and `standfast run` as a child process.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::broker::Broker;
use super::look::look;
use crate::admin::view::State;
use crate::clock;

/// How long the balancer may take until it serves and has found every broker up.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// How long it may take to end; it closes its connections at a pace.
const END_WITHIN: Duration = Duration::from_secs(15);

/// How often it is asked while something is awaited.
const STEP: Duration = Duration::from_millis(25);

/// Free ports are found by asking the kernel for one and giving it back; somebody else may be quicker.
const TRIES: u32 = 3;

/// Longest path of a unix socket on Linux, its final zero left out.
const SOCKET_PATH: usize = 107;

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub(super) enum StageError {
    /// The system's fault.
    #[error("cannot {what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// The balancer ended.
    #[error("the balancer ended by itself ({status}); it said:\n{said}")]
    Ended {
        /// How.
        status: ExitStatus,
        /// Its output.
        said: String,
    },
    /// The balancer is not ready.
    #[error("the balancer was not ready within {} s; it said:\n{said}", READY_WITHIN.as_secs())]
    NotReady {
        /// Its output.
        said: String,
    },
}

impl StageError {
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }
}

/// A running balancer. Dropping it kills the process and removes the folder.
#[derive(Debug)]
pub(super) struct Stage {
    /// Where clients connect.
    pub addr: SocketAddr,
    /// Its control socket.
    pub socket: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    child: Child,
    output: PathBuf,
    // Last, so that it goes when the process is gone.
    folder: Folder,
}

impl Stage {
    /// Starts a balancer before these brokers; waits until it serves and has found all of them up.
    pub async fn set(brokers: &[Broker]) -> Result<Self, StageError> {
        let mut left = TRIES;
        loop {
            left -= 1;
            let mut stage = Self::try_set(brokers)?;
            match stage.await_ready(brokers.len()).await {
                Ok(()) => return Ok(stage),
                // Its output says whether it was the port; another start tells, too.
                Err(StageError::Ended { .. }) if left > 0 => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn try_set(brokers: &[Broker]) -> Result<Self, StageError> {
        let folder = Folder::new()?;
        let path = |name: &str| folder.0.join(name);
        let (config, socket, output) = (path("standfast.toml"), path("control.sock"), path("said"));
        let addr = free_port().map_err(StageError::io("find a free port"))?;
        fs::write(&config, configuration(&folder.0, addr, brokers))
            .map_err(StageError::io(format!("write {}", config.display())))?;
        let said = fs::File::create(&output)
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(StageError::io(format!("write {}", output.display())))?;
        let child = Command::new("/proc/self/exe")
            .arg0("standfast")
            .args(["run", "--with-parent", "--config"])
            .arg(&config)
            .env_remove("STANDFAST_NODE")
            .env_remove("STANDFAST_SOCKET")
            // Ctrl-C is for the demo, which then ends this process in good order.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(said.0)
            .stderr(said.1)
            .spawn()
            .map_err(StageError::io("start the balancer"))?;
        Ok(Self {
            addr,
            socket,
            config,
            child,
            output,
            folder,
        })
    }

    async fn await_ready(&mut self, brokers: usize) -> Result<(), StageError> {
        let end = clock::now() + READY_WITHIN;
        while clock::now() < end {
            self.check()?;
            if let Ok(seen) = look(&self.socket).await {
                let mut backends = seen.view.pools.iter().flat_map(|pool| &pool.backends);
                if backends.clone().count() == brokers && backends.all(|b| b.state == State::Up) {
                    return Ok(());
                }
            }
            sleep(STEP).await;
        }
        Err(StageError::NotReady { said: self.said() })
    }

    /// The process that was started: the guardian.
    pub fn guardian(&self) -> u32 {
        self.child.id()
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// An error once the balancer has ended.
    pub fn check(&mut self) -> Result<(), StageError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(StageError::Ended {
                status,
                said: self.said(),
            }),
            Err(error) => Err(StageError::io("watch the balancer")(error)),
        }
    }

    fn said(&self) -> String {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        read(&self.output) + &read(&self.folder.0.join("standfast.log"))
    }

    /// Ends the balancer in good order and removes the folder.
    pub async fn clear(mut self) -> Result<(), StageError> {
        let ask = |error| StageError::io("end the balancer")(error);
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .map_err(|errno| ask(errno.into()))?;
        let end = Instant::now() + END_WITHIN;
        loop {
            match self.child.try_wait().map_err(ask)? {
                Some(status) if status.success() => break,
                Some(status) => {
                    let said = self.said();
                    return Err(StageError::Ended { status, said });
                }
                None if Instant::now() >= end => {
                    self.child.kill().map_err(ask)?;
                }
                None => sleep(STEP).await,
            }
        }
        self.folder.remove()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Both fail where it has ended already, which is the usual case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A private folder, removed when it is dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, StageError> {
        // Nobody else can foresee the name, and a folder that is there already is never used.
        let chance = RandomState::new().hash_one(0) as u32;
        let name = format!("standfast-demo-{}-{chance:08x}", std::process::id());
        let wanted = std::env::temp_dir().join(&name);
        let fits = wanted.as_os_str().len() + "/control.sock".len() <= SOCKET_PATH;
        let path = if fits {
            wanted
        } else {
            Path::new("/tmp").join(name)
        };
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(StageError::io(format!("make {}", path.display())))?;
        Ok(Self(path))
    }

    fn remove(&self) -> Result<(), StageError> {
        let what = format!("remove {}", self.0.display());
        fs::remove_dir_all(&self.0).map_err(StageError::io(what))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Gone already where all went well; told where it matters.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// The configuration of the demo: what a first one looks like, with places of its own for what lies in `/run` and
/// `/var/lib` elsewhere.
fn configuration(folder: &Path, addr: SocketAddr, brokers: &[Broker]) -> String {
    let quoted = |name: &str| toml::Value::String(folder.join(name).display().to_string());
    let backends: Vec<_> = brokers
        .iter()
        .map(|broker| {
            let (name, addr) = (broker.name(), broker.addr());
            format!("    {{ name = \"{name}\", addr = \"{addr}\" }},\n")
        })
        .collect();
    format!(
        r#"# Made by `standfast demo`; it goes when the demo ends.

[node]
name      = "demo"
state_dir = {}
threads   = 2

[control]
socket = {}

[log]
target = {}
access = {}

[[listener]]
bind = "{addr}"
pool = "demo"

[[pool]]
name     = "demo"
backends = [
{}]
"#,
        quoted("state"),
        quoted("control.sock"),
        quoted("standfast.log"),
        quoted("connections.log"),
        backends.concat(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Overrides};

    #[tokio::test]
    async fn the_configuration_of_the_demo_is_one_without_problems_or_warnings() {
        let brokers = [Broker::start("b1").unwrap(), Broker::start("b2").unwrap()];
        let folder = Folder::new().unwrap();
        let file = folder.0.join("standfast.toml");
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1883));
        fs::write(&file, configuration(&folder.0, addr, &brokers)).unwrap();
        let loaded = config::load(&file, &Overrides::of_this_machine(None)).unwrap();
        assert_eq!(loaded.warnings, []);
        let pool = &loaded.config.pools[0];
        let ports: Vec<_> = pool.backends.iter().map(|b| b.port).collect();
        assert_eq!(ports, brokers.each_ref().map(|b| b.addr().port()));
        let path = folder.0.clone();
        drop(folder);
        assert!(!path.exists());
    }
}
