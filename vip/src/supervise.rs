//! How the guardian judges its worker: when to start it, when to end it, when to give up.
//!
//! ```text
//! Resting ──due──▶ Starting ──Ready──▶ Serving ──Exited──▶ Resting (at once, or after a while if it keeps dying)
//!                     │ Exited before it was ever ready, with a word of its own: Finished
//! any ──Stop──▶ Stopping ──Exited──▶ Finished
//! ```

use std::time::{Duration, Instant};

/// A worker that is not ready by then is stuck.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A worker whose data plane has not come round for so long is stuck. Far longer than a starved one needs, since
/// ending it costs its connections.
pub const HUNG_AFTER: Duration = Duration::from_secs(5);

/// A worker that has served so long died of something new: the next is started at once.
const PROVEN_AFTER: Duration = Duration::from_secs(10);

/// The first pause before a worker that died young is started again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Input {
    /// The time of [`Supervisor::deadline`] has come, or anything may be due.
    Timeout,
    /// The worker serves.
    Ready,
    /// The worker says how long its slowest data-plane loop has not come round.
    Heartbeat {
        /// Age of the oldest lap.
        lap_age: Duration,
    },
    /// The worker's process ended; `code` is `None` where a signal ended it.
    Exited {
        /// Exit code.
        code: Option<i32>,
    },
    /// The node is to stop; the worker gets so long to close its connections.
    Stop {
        /// How long.
        grace: Duration,
    },
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "an output that is dropped is an order that nobody carries out"]
pub enum Output {
    /// Start a worker.
    Start,
    /// Ask the worker to stop.
    Ask,
    /// End the worker's process now.
    Kill(Fault),
    /// Nothing is left to do: exit with this code.
    Finish(i32),
}

/// Why a worker is ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// It was not ready in time.
    NotReady,
    /// Its heartbeat stopped, or told of a loop that is stuck.
    Hung,
    /// It did not stop in time.
    DoesNotStop,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum State {
    Resting { until: Instant },
    Starting { until: Instant },
    Serving { since: Instant, heard: Instant },
    Stopping { until: Instant },
    Finished,
}

/// The judge of one worker at a time.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Supervisor {
    state: State,
    /// Whether any worker of this guardian was ever ready.
    proven: bool,
    /// Workers that died young, in a row.
    young_deaths: u32,
}

impl Supervisor {
    /// Before the first worker; it is due at once.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            state: State::Resting { until: now },
            proven: false,
            young_deaths: 0,
        }
    }

    /// When to call [`Self::handle`] with [`Input::Timeout`], unless something happens first.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Resting { until } | State::Starting { until } | State::Stopping { until } => {
                Some(until)
            }
            State::Serving { heard, .. } => Some(heard + HUNG_AFTER),
            State::Finished => None,
        }
    }

    /// Takes an input and answers what to do, if anything.
    pub fn handle(&mut self, input: Input, now: Instant) -> Option<Output> {
        match (self.state, input) {
            (State::Finished, _) => None,

            (State::Resting { until }, Input::Timeout) if now >= until => {
                self.state = State::Starting {
                    until: now + READY_WITHIN,
                };
                Some(Output::Start)
            }
            (State::Resting { .. }, Input::Stop { .. }) => {
                self.state = State::Finished;
                Some(Output::Finish(0))
            }

            (State::Starting { .. }, Input::Ready) => {
                self.proven = true;
                self.state = State::Serving {
                    since: now,
                    heard: now,
                };
                None
            }
            (State::Starting { until }, Input::Timeout) if now >= until => {
                Some(self.kill(Fault::NotReady, now))
            }
            (State::Starting { .. }, Input::Exited { code: Some(code) }) if !self.proven => {
                // It said itself what is wrong (a bad file, a port that is taken): trying again changes nothing.
                self.state = State::Finished;
                Some(Output::Finish(code))
            }

            (State::Serving { since, .. }, Input::Heartbeat { lap_age }) => {
                self.state = State::Serving {
                    since,
                    heard: now.checked_sub(lap_age).unwrap_or(now).max(since),
                };
                self.hung(now)
            }
            (State::Serving { .. }, Input::Timeout) => self.hung(now),

            (State::Starting { .. }, Input::Exited { .. }) => {
                self.rest(now, false);
                None
            }
            (State::Serving { since, .. }, Input::Exited { .. }) => {
                self.rest(now, now.saturating_duration_since(since) >= PROVEN_AFTER);
                None
            }

            (State::Starting { .. } | State::Serving { .. }, Input::Stop { grace }) => {
                self.state = State::Stopping { until: now + grace };
                Some(Output::Ask)
            }
            (State::Stopping { .. }, Input::Exited { code }) => {
                self.state = State::Finished;
                Some(Output::Finish(code.unwrap_or(1)))
            }
            (State::Stopping { until }, Input::Timeout) if now >= until => {
                self.state = State::Stopping {
                    until: now + LONGEST_PAUSE,
                };
                Some(Output::Kill(Fault::DoesNotStop))
            }
            (State::Stopping { until }, Input::Stop { .. }) => {
                // Asked twice: somebody is in a hurry.
                self.state = State::Stopping {
                    until: until.min(now),
                };
                None
            }

            // Early timeouts, and news of a worker that the state already knows.
            (State::Resting { .. }, _)
            | (State::Starting { .. }, Input::Timeout | Input::Heartbeat { .. })
            | (State::Serving { .. }, Input::Ready)
            | (State::Stopping { .. }, Input::Timeout | Input::Ready | Input::Heartbeat { .. }) => {
                None
            }
        }
    }

    fn hung(&mut self, now: Instant) -> Option<Output> {
        match self.state {
            State::Serving { heard, .. } if now >= heard + HUNG_AFTER => {
                Some(self.kill(Fault::Hung, now))
            }
            _ => None,
        }
    }

    fn kill(&mut self, fault: Fault, now: Instant) -> Output {
        // Its exit follows; until then nothing else is due but another look.
        self.state = State::Starting {
            until: now + READY_WITHIN,
        };
        Output::Kill(fault)
    }

    fn rest(&mut self, now: Instant, was_proven: bool) {
        let pause = if was_proven || self.young_deaths == 0 {
            // The first death costs no time: the listeners stand, and clients wait in their backlog.
            Duration::ZERO
        } else {
            let doublings = (self.young_deaths - 1).min(16);
            (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE)
        };
        self.young_deaths = if was_proven { 0 } else { self.young_deaths + 1 };
        self.state = State::Resting { until: now + pause };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn serving() -> (Supervisor, Instant) {
        let now = Instant::now();
        let mut supervisor = Supervisor::new(now);
        assert_eq!(supervisor.handle(Input::Timeout, now), Some(Output::Start));
        assert_eq!(supervisor.handle(Input::Ready, now), None);
        (supervisor, now)
    }

    #[test]
    fn a_worker_that_dies_is_started_again_at_once() {
        let (mut supervisor, now) = serving();
        assert_eq!(supervisor.handle(Input::Exited { code: None }, now), None);
        assert_eq!(supervisor.deadline(), Some(now));
        assert_eq!(supervisor.handle(Input::Timeout, now), Some(Output::Start));
    }

    #[test]
    fn a_worker_that_keeps_dying_is_started_ever_more_slowly_up_to_a_bound() {
        let (mut supervisor, mut now) = serving();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let _ = supervisor.handle(Input::Exited { code: None }, now);
            let due = supervisor.deadline().expect("a worker is due");
            pauses.push((due - now).as_millis());
            now = due;
            assert_eq!(supervisor.handle(Input::Timeout, now), Some(Output::Start));
            let _ = supervisor.handle(Input::Ready, now);
        }
        assert_eq!(
            pauses,
            [
                0, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000
            ]
        );
    }

    #[test]
    fn a_first_worker_that_says_what_is_wrong_ends_the_guardian_with_its_code() {
        let now = Instant::now();
        let mut supervisor = Supervisor::new(now);
        let _ = supervisor.handle(Input::Timeout, now);
        let exited = Input::Exited { code: Some(2) };
        assert_eq!(supervisor.handle(exited, now), Some(Output::Finish(2)));
        assert_eq!(supervisor.deadline(), None);
    }

    #[test]
    fn a_worker_whose_loop_is_stuck_is_ended_although_its_heartbeat_goes_on() {
        let (mut supervisor, start) = serving();
        let stuck = |now: Instant| Input::Heartbeat {
            lap_age: now - start,
        };
        let before = start + HUNG_AFTER - Duration::from_millis(1);
        assert_eq!(supervisor.handle(stuck(before), before), None);
        let at = start + HUNG_AFTER;
        assert_eq!(
            supervisor.handle(stuck(at), at),
            Some(Output::Kill(Fault::Hung))
        );
    }

    #[test]
    fn a_worker_that_falls_silent_is_ended() {
        let (mut supervisor, start) = serving();
        let at = supervisor.deadline().expect("a heartbeat is due");
        assert_eq!(at, start + HUNG_AFTER);
        assert_eq!(
            supervisor.handle(Input::Timeout, at),
            Some(Output::Kill(Fault::Hung))
        );
    }

    #[test]
    fn a_stop_waits_for_the_grace_and_then_ends_the_worker() {
        let (mut supervisor, now) = serving();
        let grace = Duration::from_secs(20);
        assert_eq!(
            supervisor.handle(Input::Stop { grace }, now),
            Some(Output::Ask)
        );
        assert_eq!(supervisor.handle(Input::Timeout, now + grace / 2), None);
        let late = supervisor.handle(Input::Timeout, now + grace);
        assert_eq!(late, Some(Output::Kill(Fault::DoesNotStop)));
        let exited = Input::Exited { code: Some(0) };
        assert_eq!(
            supervisor.handle(exited, now + grace),
            Some(Output::Finish(0))
        );
    }

    proptest! {
        #[test]
        fn there_is_never_a_second_worker(inputs in prop::collection::vec((0_u8..6, 0_u64..20_000), 1..100)) {
            let mut now = Instant::now();
            let mut supervisor = Supervisor::new(now);
            let mut running = false;
            for (input, later) in inputs {
                now += Duration::from_millis(later);
                let input = match input {
                    0 | 1 => Input::Timeout,
                    2 if running => Input::Ready,
                    3 if running => Input::Heartbeat { lap_age: Duration::from_millis(later / 2) },
                    4 if running => { running = false; Input::Exited { code: None } }
                    5 => Input::Stop { grace: Duration::from_secs(1) },
                    _ => continue,
                };
                match supervisor.handle(input, now) {
                    Some(Output::Start) => { prop_assert!(!running); running = true; }
                    Some(Output::Kill(_) | Output::Ask) => prop_assert!(running),
                    Some(Output::Finish(_)) => prop_assert!(!running),
                    None => {}
                }
            }
        }
    }
}
