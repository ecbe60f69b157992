//! The program's own log: every target with its level, its framing and its own thread, changeable while it runs.
//!
//! ```text
//!   tracing ── layer ──▶ one line ──▶ outlet (bounded queue) ──▶ thread ──▶ sink: stream, file, syslog, journal
//! ```
//!
//! tracing has no level `notice`: an event with the field `notice = true` is one.

pub mod escape;
mod layer;
pub mod limit;
pub mod outlet;
pub mod sink;
pub mod stamp;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;

use self::layer::Lines;
use self::outlet::{Outlet, Tally, Work};
use self::sink::{Entry, Sink, SinkError};
use crate::config::{Level, Log, LogFormat, LogTarget};

/// The log of this process. Clones are the same log.
#[derive(Clone, Debug)]
pub struct Logging {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    plan: ArcSwap<Plan>,
    tally: Arc<Tally>,
    /// A filter from the environment decides what is written, in place of the levels.
    filtered: bool,
}

/// What a configuration makes of the log.
#[derive(Debug)]
struct Plan {
    format: LogFormat,
    routes: Vec<Route>,
}

#[derive(Debug)]
struct Route {
    level: Level,
    outlet: Outlet<Entry>,
}

/// Why the log cannot be as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// A target cannot be opened.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// `STANDFAST_LOG` is no filter.
    #[error(
        "STANDFAST_LOG: {text:?} is no filter: {why}; write a level, or module=level, with commas between"
    )]
    Filter {
        /// What was found.
        text: String,
        /// What the parser said.
        why: String,
    },
    /// The system gave no thread.
    #[error("cannot start a thread for the log")]
    Thread(#[source] io::Error),
    /// There is a log already.
    #[error("this process has a log already")]
    Twice,
}

impl Logging {
    /// Opens the targets and becomes the log of this process.
    ///
    /// `filter` is `STANDFAST_LOG`, a filter as tracing has them: with it, it alone decides what is written, to every
    /// target; without it, each target has its level, and other people's libraries are heard from `warn` on (in a
    /// target of level `debug`, in full).
    ///
    /// # Errors
    ///
    /// When a file cannot be opened, the filter is none, or there is a log already.
    pub fn install(log: &Log, filter: Option<&str>) -> Result<Self, LoggingError> {
        let filter = filter.filter(|text| !text.is_empty());
        let parsed = filter.map(|text| {
            EnvFilter::try_new(text).map_err(|e| LoggingError::Filter {
                text: text.to_owned(),
                why: e.to_string(),
            })
        });
        let parsed = parsed.transpose()?;
        let logging = Self::new(log, parsed.is_some())?;
        let lines = Lines(Arc::clone(&logging.shared));
        let registry = tracing_subscriber::registry();
        let installed = match parsed {
            Some(filter) => {
                tracing::subscriber::set_global_default(registry.with(filter).with(lines))
            }
            None => tracing::subscriber::set_global_default(registry.with(lines)),
        };
        installed.map_err(|_| LoggingError::Twice)?;
        Ok(logging)
    }

    fn new(log: &Log, filtered: bool) -> Result<Self, LoggingError> {
        let tally = Arc::default();
        let plan = Plan::new(log, &tally)?;
        Ok(Self {
            shared: Arc::new(Shared {
                plan: ArcSwap::from_pointee(plan),
                tally,
                filtered,
            }),
        })
    }

    /// Goes on as another configuration says.
    ///
    /// # Errors
    ///
    /// When a target cannot be opened; then nothing has changed.
    pub fn reconfigure(&self, log: &Log) -> Result<(), LoggingError> {
        let plan = Plan::new(log, &self.shared.tally)?;
        self.shared.plan.store(Arc::new(plan));
        // What each place in the program was told about its level is asked again.
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// Opens files again, for SIGHUP after a rotation.
    pub fn reopen(&self) {
        for route in &self.shared.plan.load().routes {
            route.outlet.reopen();
        }
    }

    /// Waits until all that was said is written, at most so long; says whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let plan = self.shared.plan.load();
        let late = plan.routes.iter().filter(|r| !r.outlet.flush(deadline));
        // Counted, not searched: every target gets its chance, also after one that is stuck.
        late.count() == 0
    }

    /// Lines dropped since the start, because a target was too slow or refused them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.tally.dropped.load(Relaxed)
    }
}

impl Plan {
    fn new(log: &Log, tally: &Arc<Tally>) -> Result<Self, LoggingError> {
        let mut routes = Vec::new();
        for LogTarget {
            target,
            level,
            facility,
        } in &log.targets
        {
            let sink = Sink::open(target.clone(), *facility)?;
            let work = Writer {
                sink,
                format: log.format,
            };
            let outlet =
                Outlet::start("log", work, Arc::clone(tally)).map_err(LoggingError::Thread)?;
            routes.push(Route {
                level: *level,
                outlet,
            });
        }
        Ok(Self {
            format: log.format,
            routes,
        })
    }

    /// The most talkative level of all targets; `None` where there is no target.
    fn level(&self) -> Option<Level> {
        self.routes.iter().map(|route| route.level).max()
    }
}

/// The thread of one target.
struct Writer {
    sink: Sink,
    format: LogFormat,
}

impl Work for Writer {
    type Item = Entry;

    fn weight(entry: &Entry) -> usize {
        entry.line.capacity()
    }

    fn write(&mut self, batch: &mut Vec<Entry>) -> u64 {
        self.sink.write(batch)
    }

    fn reopen(&mut self) {
        self.sink.reopen();
    }

    /// Said to this target alone: the others have not lost anything.
    fn lost(&mut self, lines: u64) {
        let text = "log lines were dropped: this target is too slow or not there";
        let mut line = layer::Line::new(self.format, now(), Level::Warn);
        line.field("lines", layer::Value::Raw(&lines.to_string()));
        self.sink.write(&[line.finish(text)]);
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(crate::clock::unix_ms())
}

#[cfg(test)]
mod tests;
