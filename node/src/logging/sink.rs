//! Where lines end: standard streams, files, syslog and the journal, each with its own framing.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use jiff::tz::TimeZone;
use parking_lot::Mutex;

use super::escape::floor;
use super::stamp;
use crate::config::{Facility, Target};

/// Longest datagram to a syslog: what rsyslog takes by default. Longer lines are cut.
const DATAGRAM: usize = 8192;

/// How long a target that failed is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// How long one write may wait for a syslog that does not read.
const STUCK: Duration = Duration::from_secs(1);

/// Name of the program in syslog and the journal.
const TAG: &str = "standfast";

/// Lines of the program and of connections may share a stream, and shall not tear each other.
static STDOUT: Mutex<()> = Mutex::new(());
static STDERR: Mutex<()> = Mutex::new(());

/// A line on its way.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it was said.
    pub at: SystemTime,
    /// RFC 5424's numbers: 0 emergency to 7 debug.
    pub severity: u8,
    /// The whole line for streams and files, without its end.
    pub line: String,
    /// Where in `line` the part begins that is sent to those that keep time and severity themselves.
    pub body: usize,
}

/// An open target.
#[derive(Debug)]
pub struct Sink {
    target: Target,
    facility: Facility,
    paths: Paths,
    zone: TimeZone,
    open: Option<Open>,
    failed: Option<Instant>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum Open {
    Stream(File, Option<&'static Mutex<()>>),
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

/// Where the daemons of this machine listen.
#[derive(Clone, Debug)]
pub struct Paths {
    /// `/dev/log`.
    pub syslog: PathBuf,
    /// `/run/systemd/journal/socket`.
    pub journal: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            syslog: "/dev/log".into(),
            journal: "/run/systemd/journal/socket".into(),
        }
    }
}

/// A target that cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("log target {target}: cannot open it")]
pub struct SinkError {
    /// As written in the configuration.
    pub target: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl Sink {
    /// Opens a target.
    ///
    /// A syslog or journal that does not answer is no error: it may start later, and is tried again.
    ///
    /// # Errors
    ///
    /// When a file cannot be opened, or a standard stream is closed.
    pub fn open(target: Target, facility: Facility) -> Result<Self, SinkError> {
        Self::open_at(target, facility, Paths::default())
    }

    /// As [`Self::open`], with the daemons elsewhere.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_at(target: Target, facility: Facility, paths: Paths) -> Result<Self, SinkError> {
        let mut sink = Self {
            target,
            facility,
            paths,
            zone: TimeZone::system(),
            open: None,
            failed: None,
            buffer: Vec::new(),
        };
        match sink.connect() {
            Ok(open) => sink.open = Some(open),
            Err(source) if sink.must_open() => {
                return Err(SinkError {
                    target: describe(&sink.target),
                    source,
                });
            }
            Err(_) => sink.failed = Some(Instant::now()),
        }
        Ok(sink)
    }

    /// Opens a file again, so that a rotated one is let go of; the others stay.
    pub fn reopen(&mut self) {
        if let Target::File(_) = self.target {
            // The old one is better than none.
            if let Ok(open) = self.connect() {
                self.open = Some(open);
                self.failed = None;
            }
        }
    }

    /// Writes lines, and answers how many were lost.
    pub fn write(&mut self, entries: &[Entry]) -> u64 {
        if !self.ready() {
            return entries.len() as u64;
        }
        if let Some(Open::Stream(..)) = self.open {
            return self.write_stream(entries);
        }
        entries.iter().filter(|entry| !self.send(entry)).count() as u64
    }

    fn must_open(&self) -> bool {
        matches!(
            self.target,
            Target::Stderr | Target::Stdout | Target::File(_)
        )
    }

    /// Whether the target is open, or could be opened now.
    fn ready(&mut self) -> bool {
        if self.open.is_none() && self.failed.is_none_or(|at| at.elapsed() >= RETRY) {
            match self.connect() {
                Ok(open) => {
                    self.open = Some(open);
                    self.failed = None;
                }
                Err(_) => self.failed = Some(Instant::now()),
            }
        }
        self.open.is_some()
    }

    fn connect(&self) -> io::Result<Open> {
        match &self.target {
            Target::Stdout => {
                let fd = io::stdout().as_fd().try_clone_to_owned()?;
                Ok(Open::Stream(fd.into(), Some(&STDOUT)))
            }
            Target::Stderr => {
                let fd = io::stderr().as_fd().try_clone_to_owned()?;
                Ok(Open::Stream(fd.into(), Some(&STDERR)))
            }
            Target::File(path) => {
                let mut options = OpenOptions::new();
                options.create(true).append(true).mode(0o640);
                Ok(Open::Stream(options.open(path)?, None))
            }
            Target::Syslog => unix(&self.paths.syslog),
            Target::Journald => unix(&self.paths.journal),
            Target::SyslogUdp { host, port } => udp(host, *port),
        }
    }

    fn write_stream(&mut self, entries: &[Entry]) -> u64 {
        self.buffer.clear();
        for entry in entries {
            self.buffer.extend_from_slice(entry.line.as_bytes());
            self.buffer.push(b'\n');
        }
        let Some(Open::Stream(file, shared)) = &mut self.open else {
            return entries.len() as u64;
        };
        let guard = shared.map(|lock| lock.lock());
        let outcome = write_all(file, &self.buffer);
        drop(guard);
        match outcome {
            Ok(()) => 0,
            Err(written) => {
                // A disk that is full today may have room in a second; what did not fit is lost.
                let through = &self.buffer[..written];
                let whole = through.iter().filter(|byte| **byte == b'\n').count();
                (entries.len() - whole) as u64
            }
        }
    }

    /// Sends one datagram; connects anew once if the daemon was started again meanwhile.
    fn send(&mut self, entry: &Entry) -> bool {
        self.buffer.clear();
        self.frame(entry);
        for _ in 0..2 {
            if !self.ready() {
                return false;
            }
            let sent = match &self.open {
                Some(Open::Unix(socket)) => socket.send(&self.buffer),
                Some(Open::Udp(socket)) => socket.send(&self.buffer),
                _ => return false,
            };
            match sent {
                Ok(_) => return true,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                // UDP tells of a datagram before this one; both cases are worth one more try.
                Err(_) => self.open = None,
            }
        }
        self.failed = Some(Instant::now());
        false
    }

    fn frame(&mut self, entry: &Entry) {
        let body = &entry.line[entry.body..];
        let priority = u16::from(self.facility.0) * 8 + u16::from(entry.severity);
        let pid = std::process::id();
        let head = match &self.target {
            Target::Journald => format!(
                "PRIORITY={}\nSYSLOG_FACILITY={}\nSYSLOG_IDENTIFIER={TAG}\nSYSLOG_PID={pid}\nMESSAGE=",
                entry.severity, self.facility.0
            ),
            // Through /dev/log without a host: it is this one.
            Target::Syslog => format!(
                "<{priority}>{} {TAG}[{pid}]: ",
                stamp::rfc3164(entry.at, &self.zone)
            ),
            _ => format!(
                "<{priority}>{} {} {TAG}[{pid}]: ",
                stamp::rfc3164(entry.at, &self.zone),
                host_name()
            ),
        };
        let room = DATAGRAM.saturating_sub(head.len() + 1);
        self.buffer.extend_from_slice(head.as_bytes());
        self.buffer.extend_from_slice(floor(body, room).as_bytes());
        if let Target::Journald = self.target {
            self.buffer.push(b'\n');
        }
    }
}

/// Writes everything; in case of an error, answers how much was written. Waits for a pipe that does not block.
fn write_all(file: &mut File, mut bytes: &[u8]) -> Result<(), usize> {
    let all = bytes.len();
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(all - bytes.len()),
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let mut wait = [rustix::event::PollFd::new(
                    &*file,
                    rustix::event::PollFlags::OUT,
                )];
                let _ = rustix::event::poll(&mut wait, None);
            }
            Err(_) => return Err(all - bytes.len()),
        }
    }
    Ok(())
}

fn unix(path: &Path) -> io::Result<Open> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_write_timeout(Some(STUCK))?;
    Ok(Open::Unix(socket))
}

fn udp(host: &str, port: u16) -> io::Result<Open> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        let from = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        match UdpSocket::bind(from).and_then(|socket| socket.connect(address).map(|()| socket)) {
            Ok(socket) => {
                socket.set_write_timeout(Some(STUCK))?;
                return Ok(Open::Udp(socket));
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn host_name() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    // RFC 3164 wants the name without its domain.
    name.split('.').next().unwrap_or("-").to_owned()
}

/// As it is written in the configuration.
#[must_use]
pub fn describe(target: &Target) -> String {
    match target {
        Target::Stderr => "stderr".into(),
        Target::Stdout => "stdout".into(),
        Target::File(path) => path.display().to_string(),
        Target::Syslog => "syslog".into(),
        Target::SyslogUdp { host, port } => format!("syslog://{host}:{port}"),
        Target::Journald => "journald".into(),
    }
}

#[cfg(test)]
mod tests;
