//! What happened to the house: health, drains, configuration, commands, with who and why.
//!
//! Each event is one log line and stays in a short memory for `standfast events`.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::clock::unix_ms;

/// How many events `standfast events` can look back on.
const REMEMBERED: usize = 1024;

/// One thing that happened.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
pub struct Event {
    /// Counts up from 1 in this process.
    pub seq: u64,
    /// Unix milliseconds.
    pub at: u64,
    /// `error`, `warn`, `notice` or `info`.
    pub level: String,
    /// What kind: `backend`, `pool`, `config`, `command`, `listener`, `worker`, `node`.
    pub kind: String,
    /// What it concerns: `mqtt/mq1`, `:1883`, …; may be empty.
    pub subject: String,
    /// What happened and why, one line.
    pub text: String,
    /// Who asked for it, for commands: `uid 0 by control socket`; else empty.
    pub by: String,
}

/// The memory of events. Clones share it.
#[derive(Clone, Debug)]
pub struct Events {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    recent: Mutex<(u64, VecDeque<Event>)>,
    live: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            inner: Arc::new(Inner {
                recent: Mutex::new((0, VecDeque::new())),
                live: broadcast::channel(REMEMBERED).0,
            }),
        }
    }
}

/// How loud an event is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loudness {
    /// Something is broken.
    Error,
    /// Somebody should look.
    Warn,
    /// The state of the house changed.
    Notice,
    /// Good to know.
    Info,
}

impl Events {
    /// Notes an event and logs it.
    pub fn note(&self, loudness: Loudness, kind: &str, subject: &str, text: &str, by: &str) {
        let level = match loudness {
            Loudness::Error => {
                tracing::error!(kind, subject, by, "{text}");
                "error"
            }
            Loudness::Warn => {
                tracing::warn!(kind, subject, by, "{text}");
                "warn"
            }
            // tracing has no notice: the field raises the line where levels are finer (syslog, `notice` targets).
            Loudness::Notice => {
                tracing::info!(notice = true, kind, subject, by, "{text}");
                "notice"
            }
            Loudness::Info => {
                tracing::info!(kind, subject, by, "{text}");
                "info"
            }
        };
        let mut recent = self.inner.recent.lock();
        recent.0 += 1;
        let event = Event {
            seq: recent.0,
            at: unix_ms(),
            level: level.into(),
            kind: kind.into(),
            subject: subject.into(),
            text: text.into(),
            by: by.into(),
        };
        if recent.1.len() == REMEMBERED {
            recent.1.pop_front();
        }
        recent.1.push_back(event.clone());
        // Sent under the lock, so that a follower sees the order of the memory. Nobody listening is fine.
        let _ = self.inner.live.send(event);
    }

    /// The last `most` events, oldest first, and a receiver of those that follow without a gap.
    #[must_use]
    pub fn recent_and_live(&self, most: usize) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let recent = self.inner.recent.lock();
        let skip = recent.1.len().saturating_sub(most);
        (
            recent.1.iter().skip(skip).cloned().collect(),
            self.inner.live.subscribe(),
        )
    }
}
