//! A program that a test started: its output in files, and its end with the test.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};

use crate::wait::try_within;

/// A directory of one test, removed with it unless the test panics.
#[derive(Debug)]
pub struct Dir(PathBuf);

impl Dir {
    /// A fresh directory under the system's temporary directory.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[must_use]
    pub fn new(what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("standfast-tests-{}-{count}-{what}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the temporary directory is writable");
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it and answers its path.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("the test's own directory is writable");
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for reading: {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A running program. Dropping it kills it and everything it started in its process group.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    group: Pid,
    out: PathBuf,
    err: PathBuf,
}

impl Program {
    /// Starts `command` in a process group of its own, stdout to `DIR/NAME.out` and stderr to `DIR/NAME.err`
    /// (appended, so that a second life adds to the first).
    ///
    /// # Errors
    ///
    /// Where the program is not installed or cannot start.
    pub fn start(name: &str, command: &mut Command, dir: &Path) -> Result<Self> {
        let out = dir.join(format!("{name}.out"));
        let err = dir.join(format!("{name}.err"));
        let open = |path| File::options().create(true).append(true).open(path);
        let child = command
            .stdin(Stdio::null())
            .stdout(open(&out)?)
            .stderr(open(&err)?)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let group = Pid::from_child(&child);
        let name = name.to_owned();
        Ok(Self {
            name,
            child,
            group,
            out,
            err,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to stdout so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.out)
    }

    /// What it wrote to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.err)
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until `ready`; an early end of the program or a missed deadline is an error with its output in it.
    ///
    /// # Errors
    ///
    /// As said.
    pub fn wait_ready(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let mut end = None;
        let is_ready = try_within(limit, || {
            if let Some(status) = self.ended() {
                end = Some(status);
                return Some(false);
            }
            ready().then_some(true)
        });
        match is_ready {
            Some(true) => Ok(()),
            Some(false) => bail!("{} ended with {:?}: {}", self.name, end, self.last_words()),
            None => bail!(
                "{} not ready within {limit:?}: {}",
                self.name,
                self.last_words()
            ),
        }
    }

    /// Sends a signal to the program alone.
    ///
    /// # Errors
    ///
    /// Where it is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(self.group, signal)?)
    }

    /// Sends a signal to the program and everything in its process group, as a terminal does.
    ///
    /// # Errors
    ///
    /// Where all of them are gone.
    pub fn signal_group(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process_group(self.group, signal)?)
    }

    /// SIGTERM, and its end within `limit`.
    ///
    /// # Errors
    ///
    /// Where it does not end in time (it is killed then).
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        let _ = self.signal(Signal::TERM);
        let ended = try_within(limit, || self.ended());
        self.kill();
        ended.with_context(|| format!("{} did not end within {limit:?} of SIGTERM", self.name))
    }

    /// SIGKILL to the whole group, and its end.
    pub fn kill(&mut self) {
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
    }

    fn last_words(&self) -> String {
        let text = format!("{}{}", self.stdout(), self.stderr());
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} said last:\n{}", self.name, self.last_words());
        }
        self.kill();
    }
}

fn read(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// The path of an installed program, looked for in `PATH` and the `sbin` folders.
///
/// # Errors
///
/// Names the program where it is missing.
pub fn installed(name: &str) -> Result<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"])
        .map(|folder| Path::new(folder).join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("{name} is not installed"))
}

/// The folder that Cargo builds into, found from this executable: `target/debug` for `target/debug/deps/rows_a-…`.
///
/// # Panics
///
/// Never in a test that Cargo built.
#[must_use]
pub fn build_dir() -> PathBuf {
    let this = std::env::current_exe().expect("a running program has a path");
    let folder = this.parent().expect("a file has a folder");
    if folder.ends_with("deps") {
        folder.parent().expect("deps lies in a folder").to_owned()
    } else {
        folder.to_owned()
    }
}
