//! When to check a backend, and when its checks settle what it is.
//!
//! ```text
//!             1 passed                  fall failed                 fall failed, all of the last fall Dead
//!  Unknown ─────────────▶ Up ──────────────────────▶ NotReady ──────────────────────────▶ Dead
//!     │                    ▲                             │  ▲                               │
//!     │ fall failed        └────── rise passed ──────────┘  └────── rise found NotReady ────┤
//!     └──────▶ NotReady or Dead    ▲                                                        │
//!                                  └──────────────── rise passed ───────────────────────────┘
//! ```
//!
//! Calm: one check an interval. In a hurry (after a failure, a signal, or while a check stays unanswered, until the matter is
//! settled): one check a fast interval, started without waiting for the one before. Results count in the order in which
//! the checks were started, so an answer that was long under way never overrules a younger one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config;
use crate::pool::Verdict;

/// How often checks run and how many decide.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    /// From one check's start to the next when all is calm.
    pub interval: Duration,
    /// The same in a hurry; never above `interval`.
    pub fast_interval: Duration,
    /// The longest that a check may take.
    pub timeout: Duration,
    /// Successes in a row that bring a backend up, at least 1.
    pub rise: u32,
    /// Failures in a row that take it down, at least 1.
    pub fall: u32,
}

/// The shortest time between two checks, whatever the configuration says.
const SHORTEST: Duration = Duration::from_millis(1);

impl From<&config::Check> for Pace {
    fn from(check: &config::Check) -> Self {
        let interval = check.interval.max(SHORTEST);
        Self {
            interval,
            fast_interval: check.fast_interval.clamp(SHORTEST, interval),
            timeout: check.timeout.max(SHORTEST),
            rise: check.rise.max(1),
            fall: check.fall.max(1),
        }
    }
}

impl Pace {
    /// How many checks may be under way at once: not more than fit in a timeout, nor than could settle anything.
    #[must_use]
    pub fn overlap(&self) -> usize {
        let fit = self.timeout.as_nanos() / self.fast_interval.as_nanos().max(1) + 1;
        let useful = u128::from(self.rise.max(self.fall)) + 1;
        usize::try_from(fit.min(useful)).unwrap_or(usize::MAX)
    }
}

/// What a failed check says of the backend.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Failure {
    /// Nobody is there: refused, unreachable, or no answer.
    Dead,
    /// Somebody answered, and it was not what means healthy.
    NotReady,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Outcome {
    /// Healthy.
    Passed,
    /// Not.
    Failed(Failure),
    /// The check could not be made for want of something on this side (descriptors, ports, memory). Counts as nothing.
    Void,
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Input {
    /// Checks begin, or begin anew: another check, another address, maintenance is over. The verdict stays.
    Start(Pace),
    /// Checks end: maintenance, or no address.
    Stop,
    /// A connection noticed something.
    Signal,
    /// The check with this number ended.
    Ended {
        /// As of [`Output::Check`].
        check: u64,
        /// How.
        outcome: Outcome,
    },
    /// [`Core::deadline`] has come.
    Timeout,
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "an output that is dropped is an order that nobody carries out"]
pub enum Output {
    /// Start a check. The number counts up; say it in [`Input::Ended`].
    Check(u64),
    /// The verdict has changed.
    Settled {
        /// To this.
        verdict: Verdict,
        /// By so many results in a row.
        in_a_row: u32,
        /// Since the first of them was started.
        over: Duration,
    },
}

/// What is known of one backend, and when to look again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Core {
    pace: Pace,
    /// Where in the interval the second check falls, in thousandths, so that backends are not all checked at once.
    phase: u16,
    verdict: Verdict,
    running: bool,
    started: u64,
    next: Instant,
    /// When the last check of a hurry was started.
    hurried: Option<Instant>,
    last: Option<Instant>,
    hurry: Option<Hurry>,
    /// Checks not counted yet, oldest first.
    pending: VecDeque<Pending>,
    streak: Streak,
    /// How long the last check that passed took.
    usual: Duration,
    outputs: Vec<Output>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Hurry {
    /// Checks before this one saw the backend before the cause, and prove nothing.
    from: u64,
    passed: u32,
    /// So many successes end it.
    enough: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Pending {
    check: u64,
    started: Instant,
    /// Started in no hurry. Only such a one can be the first sign of trouble.
    calm: bool,
    outcome: Option<Outcome>,
}

/// Results in a row.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Streak {
    passed: u32,
    failed: u32,
    /// Failures of one kind in a row.
    dead: u32,
    not_ready: u32,
    since: Option<Instant>,
}

impl Core {
    /// A backend of which `verdict` is known, not checked until [`Input::Start`]. `phase` (any number, best from its name)
    /// spreads checks over the interval.
    #[must_use]
    pub fn new(pace: Pace, verdict: Verdict, phase: u64, now: Instant) -> Self {
        Self {
            pace,
            phase: (phase % 1000) as u16,
            verdict,
            running: false,
            started: 0,
            next: now,
            hurried: None,
            last: None,
            hurry: None,
            pending: VecDeque::new(),
            streak: Streak::default(),
            usual: Duration::ZERO,
            outputs: Vec::new(),
        }
    }

    /// What is settled.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Successes or failures in a row until now.
    #[must_use]
    pub fn in_a_row(&self) -> u32 {
        self.streak.passed.max(self.streak.failed)
    }

    /// Whether checks run at the fast interval.
    #[must_use]
    pub fn hurries(&self) -> bool {
        self.hurry.is_some()
    }

    /// Checks started and not counted yet.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.pending.len()
    }

    /// When to call [`Self::handle`] with [`Input::Timeout`], unless something happens first.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let start = self.may_start().then_some(self.next);
        start.into_iter().chain(self.slow_at()).min()
    }

    /// Takes in what happened; answers what to do, in the order of doing it.
    pub fn handle(&mut self, input: Input, now: Instant) -> impl Iterator<Item = Output> {
        match input {
            Input::Start(pace) => self.start(pace, now),
            Input::Stop => self.stop(),
            // A backend that is down gets no connections: what late ones noticed is no news.
            Input::Signal if self.running && !self.verdict.is_down() => {
                // At once, unless the last hurry ended a moment ago: signals in a stream are no flood of checks.
                let soonest = self.after_fast(self.hurried, now);
                self.hurry_up(self.started + 1, self.pace.rise, soonest);
            }
            Input::Ended { check, outcome } => self.ended(check, outcome, now),
            Input::Signal | Input::Timeout => {}
        }
        if self.slow_at().is_some_and(|at| now >= at) {
            let slow = self.pending.front().map_or(self.started, |slow| slow.check);
            let soonest = self.after_fast(self.last, now);
            self.hurry_up(slow, 1, soonest);
        }
        if self.may_start() && now >= self.next {
            self.check(now);
        }
        self.outputs.drain(..)
    }

    fn start(&mut self, pace: Pace, now: Instant) {
        self.stop();
        self.pace = pace;
        self.running = true;
        self.next = now;
    }

    /// Forgets what is under way and what was counted: it was another check's, or of another place or time.
    fn stop(&mut self) {
        self.running = false;
        self.hurry = None;
        self.pending.clear();
        self.streak = Streak::default();
    }

    fn may_start(&self) -> bool {
        let most = if self.hurry.is_some() {
            self.pace.overlap()
        } else {
            1
        };
        self.running && self.pending.len() < most
    }

    /// When a check under way has been silent for so long that others are started beside it.
    fn slow_at(&self) -> Option<Instant> {
        let waits = self.running && self.hurry.is_none() && !self.verdict.is_down();
        let oldest = self.pending.front().filter(|one| waits && one.calm)?;
        // A broker that always takes its time is not slow by that.
        let patience = (2 * self.pace.fast_interval).max(2 * self.usual);
        let most = self.pace.timeout.saturating_sub(self.pace.fast_interval);
        Some(oldest.started + patience.min(most))
    }

    fn check(&mut self, now: Instant) {
        self.started += 1;
        let wait = if self.hurry.is_some() {
            self.hurried = Some(now);
            self.pace.fast_interval
        } else if self.last.is_none() {
            let phase = self.pace.interval * u32::from(self.phase) / 1000;
            phase.max(self.pace.fast_interval)
        } else {
            self.pace.interval
        };
        self.last = Some(now);
        self.next = now + wait;
        self.pending.push_back(Pending {
            check: self.started,
            started: now,
            calm: self.hurry.is_none(),
            outcome: None,
        });
        self.outputs.push(Output::Check(self.started));
    }

    /// Checks at the fast interval until `enough` checks from number `from` on have passed, or all is settled otherwise.
    fn hurry_up(&mut self, from: u64, enough: u32, soonest: Instant) {
        if self.hurry.is_none() {
            self.next = self.next.min(soonest);
        }
        self.hurry = Some(Hurry {
            from,
            passed: 0,
            enough,
        });
    }

    fn after_fast(&self, start: Option<Instant>, now: Instant) -> Instant {
        start.map_or(now, |start| now.max(start + self.pace.fast_interval))
    }

    fn calm_down(&mut self) {
        if self.hurry.take().is_some()
            && let Some(last) = self.last
        {
            self.next = last + self.pace.interval;
        }
    }

    fn ended(&mut self, check: u64, outcome: Outcome, now: Instant) {
        // Checks of before a restart are not in the list, and say nothing of what is checked now.
        if let Some(pending) = self.pending.iter_mut().find(|one| one.check == check) {
            pending.outcome = Some(outcome);
            if outcome == Outcome::Passed {
                self.usual = now.saturating_duration_since(pending.started);
            }
        }
        while let Some(&Pending {
            check,
            started,
            outcome: Some(outcome),
            ..
        }) = self.pending.front()
        {
            self.pending.pop_front();
            self.count(check, started, outcome, now);
        }
    }

    fn count(&mut self, check: u64, started: Instant, outcome: Outcome, now: Instant) {
        if outcome == Outcome::Void {
            return;
        }
        self.streak.add(outcome, started);
        let settled = self.judge(outcome);
        let settled_now = settled != self.verdict;
        if settled_now {
            self.verdict = settled;
            self.outputs.push(Output::Settled {
                verdict: settled,
                in_a_row: self.in_a_row(),
                over: now.saturating_duration_since(self.streak.since.unwrap_or(now)),
            });
        }
        match (self.verdict, outcome) {
            (Verdict::Up, Outcome::Passed) if settled_now => self.calm_down(),
            // On the way down, or to be confirmed on the way up.
            (Verdict::Up | Verdict::Unknown, Outcome::Failed(_))
            | (Verdict::NotReady | Verdict::Dead, Outcome::Passed)
            | (Verdict::NotReady, Outcome::Failed(Failure::Dead)) => {
                let soonest = self.after_fast(self.last, now);
                self.hurry_up(check + 1, self.pace.rise, soonest);
            }
            (Verdict::Up | Verdict::Unknown, Outcome::Passed) => self.passed(check),
            // Down as before: no storm upon a backend that is away for hours.
            (Verdict::NotReady, Outcome::Failed(Failure::NotReady))
            | (Verdict::Dead, Outcome::Failed(_)) => self.calm_down(),
            (_, Outcome::Void) => {}
        }
    }

    fn passed(&mut self, check: u64) {
        let Some(hurry) = &mut self.hurry else { return };
        if check >= hurry.from {
            hurry.passed += 1;
            if hurry.passed >= hurry.enough {
                self.calm_down();
            }
        }
    }

    /// What the results in a row make of the verdict.
    fn judge(&self, outcome: Outcome) -> Verdict {
        let Pace { rise, fall, .. } = self.pace;
        let Streak {
            passed,
            failed,
            dead,
            not_ready,
            ..
        } = self.streak;
        match (self.verdict, outcome) {
            (Verdict::Unknown, Outcome::Passed) => Verdict::Up,
            (Verdict::NotReady | Verdict::Dead, Outcome::Passed) if passed >= rise => Verdict::Up,
            // Dead closes connections, so nothing less than a whole row of it will do.
            (Verdict::Unknown | Verdict::Up | Verdict::NotReady, Outcome::Failed(_))
                if dead >= fall =>
            {
                Verdict::Dead
            }
            (Verdict::Unknown | Verdict::Up, Outcome::Failed(_)) if failed >= fall => {
                Verdict::NotReady
            }
            (Verdict::Dead, Outcome::Failed(_)) if not_ready >= rise => Verdict::NotReady,
            (verdict, _) => verdict,
        }
    }
}

impl Streak {
    fn add(&mut self, outcome: Outcome, started: Instant) {
        match outcome {
            Outcome::Passed => {
                self.failed = 0;
                self.dead = 0;
                self.not_ready = 0;
                self.passed = self.passed.saturating_add(1);
            }
            Outcome::Failed(kind) => {
                self.passed = 0;
                self.failed = self.failed.saturating_add(1);
                let (same, other) = match kind {
                    Failure::Dead => (&mut self.dead, &mut self.not_ready),
                    Failure::NotReady => (&mut self.not_ready, &mut self.dead),
                };
                *same = same.saturating_add(1);
                *other = 0;
            }
            Outcome::Void => return,
        }
        if self.passed.max(self.failed) == 1 {
            self.since = Some(started);
        }
    }
}

#[cfg(test)]
mod tests;
