//! The log of connections: data-plane threads hand lines over and never wait; a thread formats and writes them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use jiff::tz::TimeZone;

use super::Line;
use super::format::{Setting, format};
use crate::config::{AccessFormat, Log};
use crate::logging::LoggingError;
use crate::logging::outlet::{Outlet, Tally, Work};
use crate::logging::sink::{Entry, Sink, describe};

/// Severity of connection lines in syslog: info.
const INFO: u8 = 6;

/// Hides a client id: pool and client id to what is written. Keyed, or the ids could be guessed back.
pub type Hide = Arc<dyn Fn(&str, &str) -> String + Send + Sync>;

/// The log of connections. Clones are the same log.
#[derive(Clone)]
pub struct AccessLog {
    shared: Arc<Shared>,
}

struct Shared {
    node: Arc<str>,
    hide: Hide,
    outlet: ArcSwapOption<Outlet<Line>>,
    connect_lines: AtomicBool,
    tally: Arc<Tally>,
}

impl AccessLog {
    /// Opens the target that `log.access` names, if any.
    ///
    /// `hide` makes what is written in place of client ids with `log.hash_client_ids`.
    ///
    /// # Errors
    ///
    /// When a file cannot be opened or the system gives no thread.
    pub fn start(log: &Log, node: &str, hide: Hide) -> Result<Self, LoggingError> {
        let access = Self {
            shared: Arc::new(Shared {
                node: node.into(),
                hide,
                outlet: ArcSwapOption::empty(),
                connect_lines: AtomicBool::new(false),
                tally: Arc::default(),
            }),
        };
        access.reconfigure(log)?;
        Ok(access)
    }

    /// Hands a line over; drops and counts it if the target is too slow. Never waits.
    pub fn write(&self, line: Line) {
        if line.end.is_none() && !self.wants_connect_lines() {
            return;
        }
        if let Some(outlet) = &*self.shared.outlet.load() {
            outlet.write(line);
        }
    }

    /// Whether there is a target at all: without one no line need be made.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.shared.outlet.load().is_some()
    }

    /// `log.access_connect`: whether a line is wanted when a client was accepted by its broker.
    #[must_use]
    pub fn wants_connect_lines(&self) -> bool {
        self.shared.connect_lines.load(Relaxed)
    }

    /// Goes on as another configuration says; lines that wait are still written as they were to be.
    ///
    /// # Errors
    ///
    /// When a file cannot be opened; then nothing has changed.
    pub fn reconfigure(&self, log: &Log) -> Result<(), LoggingError> {
        let outlet = match &log.access {
            None => None,
            Some(target) => {
                let work = Writer {
                    sink: Sink::open(target.clone(), log.access_facility)?,
                    format: log.access_format,
                    node: Arc::clone(&self.shared.node),
                    hide: log.hash_client_ids.then(|| Arc::clone(&self.shared.hide)),
                    zone: TimeZone::system(),
                    target: describe(target),
                };
                let outlet = Outlet::start("access-log", work, Arc::clone(&self.shared.tally));
                Some(Arc::new(outlet.map_err(LoggingError::Thread)?))
            }
        };
        self.shared.connect_lines.store(log.access_connect, Relaxed);
        self.shared.outlet.store(outlet);
        Ok(())
    }

    /// Opens a file again, for SIGHUP after a rotation.
    pub fn reopen(&self) {
        if let Some(outlet) = self.shared.outlet.load_full() {
            outlet.reopen();
        }
    }

    /// Waits until all lines are written, at most so long; says whether they are.
    pub fn flush(&self, patience: Duration) -> bool {
        let outlet = self.shared.outlet.load_full();
        outlet.is_none_or(|outlet| outlet.flush(Instant::now() + patience))
    }

    /// Lines dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.tally.dropped.load(Relaxed)
    }

    /// Lines written since the start.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.shared.tally.written.load(Relaxed)
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog")
            .field("on", &self.is_on())
            .field("tally", &self.shared.tally)
            .finish_non_exhaustive()
    }
}

/// The thread's side.
struct Writer {
    sink: Sink,
    format: AccessFormat,
    node: Arc<str>,
    hide: Option<Hide>,
    zone: TimeZone,
    target: String,
}

impl Work for Writer {
    type Item = Line;

    fn weight(line: &Line) -> usize {
        line.client_id.as_ref().map_or(0, |id| id.len())
    }

    fn write(&mut self, batch: &mut Vec<Line>) -> u64 {
        let entries: Vec<_> = batch.iter().map(|line| self.entry(line)).collect();
        self.sink.write(&entries)
    }

    fn reopen(&mut self) {
        self.sink.reopen();
    }

    fn lost(&mut self, lines: u64) {
        tracing::warn!(
            lines,
            target_name = self.target,
            "connection lines were dropped: their target is too slow or not there"
        );
    }
}

impl Writer {
    fn entry(&self, line: &Line) -> Entry {
        let client = line
            .client_id
            .as_deref()
            .filter(|client| !client.is_empty());
        let hidden = match (&self.hide, client) {
            (Some(hide), Some(client)) => Some(hide(&line.pool, client)),
            _ => None,
        };
        let setting = Setting {
            format: self.format,
            node: &self.node,
            zone: &self.zone,
            client: hidden.as_deref().or(client),
        };
        let (text, body) = format(line, &setting);
        Entry {
            at: line.accepted + line.duration,
            severity: INFO,
            line: text,
            body,
        }
    }
}

#[cfg(test)]
mod tests;
