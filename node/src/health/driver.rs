//! Checks one backend for as long as it is in its pool, and tells everybody what becomes of it.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::probe::{Ask, Found, probe};
use super::settings::Settings;
use super::state::{Core, Input, Outcome, Output, Pace};
use crate::clock::unix_ms;
use crate::config::Check;
use crate::events::{Events, Loudness};
use crate::pool::{Admin, Backend, Verdict};

/// A verdict that has changed, for what a change sets in motion (`on_down`, balancing).
#[derive(Clone, Debug)]
pub struct Change {
    /// Of whom; the backend shows the new verdict already.
    pub backend: Arc<Backend>,
    /// What was settled before.
    pub before: Verdict,
    /// What is settled now; never the same.
    pub after: Verdict,
}

/// Checks `backend` until the sender of `settings` is gone, or nobody receives `changes` any more.
///
/// Verdict, report and events go where they belong; each change of the verdict is sent, and waits for room in `changes`.
/// A changed check, a changed address and the end of maintenance ([`Backend::poke`]) start a check at once.
pub async fn watch(
    backend: Arc<Backend>,
    settings: watch::Receiver<Arc<Settings>>,
    changes: mpsc::Sender<Change>,
    events: Events,
) {
    drive(backend, settings, changes, events, |ask| async move {
        probe(&ask).await
    })
    .await;
}

/// [`watch`], with another way to probe.
pub(super) async fn drive<F>(
    backend: Arc<Backend>,
    mut settings: watch::Receiver<Arc<Settings>>,
    changes: mpsc::Sender<Change>,
    events: Events,
    probe: impl Fn(Ask) -> F,
) where
    F: Future<Output = Found> + Send + 'static,
{
    let mut driver = Driver::new(Arc::clone(&backend), changes, events, probe);
    let mut present = settings.borrow_and_update().clone();
    let mut input = driver.meet(&present);
    loop {
        if let Some(input) = input
            && driver.step(input).await.is_err()
        {
            return;
        }
        let deadline = driver.core.as_ref().and_then(Core::deadline);
        input = tokio::select! {
            biased;
            changed = settings.changed() => {
                if changed.is_err() {
                    return;
                }
                present = settings.borrow_and_update().clone();
                driver.meet(&present)
            }
            () = backend.poked() => driver.meet(&present),
            // After a stall, what checks found meanwhile is heard before others are started.
            Some(ended) = driver.checks.join_next_with_id() => driver.ended(ended),
            () = backend.signalled() => Some(Input::Signal),
            () = due(deadline) => Some(Input::Timeout),
        };
    }
}

async fn due(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The runtime's clock, which tests can stop; else it is the one of [`crate::clock::now`].
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// What checks go by: a change of it starts them anew.
#[derive(Clone, PartialEq)]
struct Aim {
    check: Check,
    settings: Arc<Settings>,
    traffic: SocketAddr,
    host: String,
}

struct Driver<P> {
    backend: Arc<Backend>,
    changes: mpsc::Sender<Change>,
    events: Events,
    probe: P,
    core: Option<Core>,
    /// What is checked; `None` while nothing is.
    aim: Option<Aim>,
    checks: JoinSet<Found>,
    numbers: HashMap<Id, u64>,
    /// What the check that is being stepped on found.
    found: Option<Found>,
    /// What the last failed or passed check said, for the event.
    last_failed: String,
    last_passed: String,
}

/// Nobody wants to hear of changes any more.
struct Unwanted;

impl<F, P> Driver<P>
where
    F: Future<Output = Found> + Send + 'static,
    P: Fn(Ask) -> F,
{
    fn new(backend: Arc<Backend>, changes: mpsc::Sender<Change>, events: Events, probe: P) -> Self {
        Self {
            backend,
            changes,
            events,
            probe,
            core: None,
            aim: None,
            checks: JoinSet::new(),
            numbers: HashMap::new(),
            found: None,
            last_failed: String::new(),
            last_passed: String::new(),
        }
    }

    /// Looks at what is to be checked; `None` where that is what it was.
    fn meet(&mut self, settings: &Arc<Settings>) -> Option<Input> {
        let aim = self.aim_by(settings);
        if aim == self.aim && aim.is_some() {
            return None;
        }
        self.checks.abort_all();
        self.numbers.clear();
        self.aim = aim;
        let Some(check) = &settings.check else {
            self.core = None;
            return Some(Input::Stop);
        };
        let pace = Pace::from(check);
        if self.core.is_none() {
            let mut name = DefaultHasher::new();
            (&self.backend.pool, &self.backend.name).hash(&mut name);
            self.core = Some(Core::new(
                pace,
                self.backend.verdict(),
                name.finish(),
                now(),
            ));
        }
        Some(if self.aim.is_some() {
            Input::Start(pace)
        } else {
            Input::Stop
        })
    }

    /// `None` where nothing is to be checked: no check, maintenance, no address.
    fn aim_by(&self, settings: &Arc<Settings>) -> Option<Aim> {
        Some(Aim {
            check: settings.check.clone()?,
            settings: Arc::clone(settings),
            traffic: self
                .backend
                .address()
                .filter(|_| self.backend.admin() != Admin::Disabled)?,
            host: self.backend.config.load().host.clone(),
        })
    }

    fn ended(&mut self, ended: Result<(Id, Found), JoinError>) -> Option<Input> {
        let (id, found) = match ended {
            Ok((id, found)) => (id, Some(found)),
            Err(error) => (error.id(), None),
        };
        // Checks that were given up are in the set until they are collected, and have no number any more.
        let check = self.numbers.remove(&id)?;
        let outcome = found.as_ref().map_or(Outcome::Void, |found| found.outcome);
        self.found = found;
        Some(Input::Ended { check, outcome })
    }

    async fn step(&mut self, input: Input) -> Result<(), Unwanted> {
        let Some(core) = &mut self.core else {
            return self.settle(Verdict::Up, "not checked").await;
        };
        let found = self.found.take();
        if let Some(found) = &found {
            let last = match found.outcome {
                Outcome::Passed => Some(&mut self.last_passed),
                Outcome::Failed(_) => Some(&mut self.last_failed),
                Outcome::Void => None,
            };
            if let Some(last) = last {
                last.clone_from(&found.result);
            }
        }
        let outputs: Vec<_> = core.handle(input, now()).collect();
        let in_a_row = core.in_a_row();
        if let Some(found) = found {
            self.report(found, in_a_row);
        }
        for output in outputs {
            match output {
                Output::Check(number) => self.check(number),
                Output::Settled {
                    verdict,
                    in_a_row,
                    over,
                } => {
                    let why = self.why(verdict, in_a_row, over);
                    self.settle(verdict, &why).await?;
                }
            }
        }
        Ok(())
    }

    fn check(&mut self, number: u64) {
        // The core starts checks only between Start and Stop, which come and go with the aim.
        let Some(aim) = &self.aim else { return };
        let ask = Ask {
            settings: Arc::clone(&aim.settings),
            check: aim.check.clone(),
            traffic: aim.traffic,
            host: aim.host.clone(),
        };
        let task = self.checks.spawn((self.probe)(ask));
        self.numbers.insert(task.id(), number);
    }

    fn report(&self, found: Found, in_a_row: u32) {
        let mut report = self.backend.report.lock();
        match found.outcome {
            Outcome::Passed => report.passed_total += 1,
            Outcome::Failed(_) => report.failed_total += 1,
            Outcome::Void => {}
        }
        report.at = unix_ms();
        report.passed = found.outcome == Outcome::Passed;
        report.result = found.result;
        report.took_us = found.took.as_micros().try_into().unwrap_or(u64::MAX);
        report.status = found.status;
        report.components = found.components;
        report.in_a_row = in_a_row;
    }

    fn why(&self, verdict: Verdict, in_a_row: u32, over: Duration) -> String {
        let (last, what) = if verdict.is_down() {
            (&self.last_failed, "failures")
        } else {
            (&self.last_passed, "checks passed")
        };
        match in_a_row {
            0 | 1 => last.clone(),
            many => format!("{last} ({many} {what} in {:.1} s)", over.as_secs_f32()),
        }
    }

    async fn settle(&self, verdict: Verdict, why: &str) -> Result<(), Unwanted> {
        let before = self.backend.set_verdict(verdict, why);
        if before == verdict {
            return Ok(());
        }
        let name = &self.backend.name;
        let (loudness, what) = match (before, verdict) {
            (_, Verdict::Dead) => (Loudness::Notice, "down"),
            (_, Verdict::NotReady) => (Loudness::Notice, "not ready"),
            (Verdict::Unknown, _) => (Loudness::Info, "up"),
            _ => (Loudness::Notice, "up"),
        };
        let subject = format!("{}/{name}", self.backend.pool);
        let text = format!("{name} is {what}: {why}");
        self.events.note(loudness, "backend", &subject, &text, "");
        let change = Change {
            backend: Arc::clone(&self.backend),
            before,
            after: verdict,
        };
        self.changes.send(change).await.map_err(|_| Unwanted)
    }
}

#[cfg(test)]
mod tests;
