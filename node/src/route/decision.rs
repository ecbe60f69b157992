//! The decision for one client: where to, why, and what becomes of its sticky entry.
//!
//! Pure: told the client, the backends as they are now, and the client's home. The steps that lead to a decision are told to a
//! [`Trace`] by the same code that takes them, so what `explain` prints is what happens.
//!
//! | the home | the client | the entry |
//! | --- | --- | --- |
//! | none | is balanced | made when the broker accepts |
//! | up, or not checked yet | goes home | touched |
//! | full | waits for it: its session is there and nowhere else | — |
//! | draining, disabled, down, unresolved, refused | goes where it was last, else is balanced | kept with `return_home`, else moves |
//! | gone from the configuration | is balanced | moves |
//! | a backup while others serve | is balanced | moves |

use std::borrow::Cow;

use super::balance::{self, Picker};
use super::facts::{Candidate, CandidateState, HomeView, Policy, Request, Stickiness};

/// Where a client goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a client waits for this"]
pub struct Decision {
    /// Where to, or why nowhere now.
    pub outcome: Outcome,
    /// What becomes of the sticky entry.
    pub plan: Plan,
}

/// Where to, or why nowhere now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// To this backend.
    To {
        /// The candidate's [`Candidate::index`].
        index: usize,
        /// For logs and metrics.
        why: Why,
    },
    /// Nowhere, until something changes.
    Wait(Wait),
}

/// Why a client cannot be sent anywhere now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wait {
    /// No backend can serve.
    NoneUp,
    /// All that serve have their `max_connections`.
    AllFull,
    /// All that serve were tried for this client.
    AllTried,
    /// The client's home has its `max_connections`. Who will not wait longer excludes it and asks again.
    HomeFull,
}

impl Wait {
    /// The label for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoneUp => "none-up",
            Self::AllFull => "all-full",
            Self::AllTried => "all-tried",
            Self::HomeFull => "home-full",
        }
    }

    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::NoneUp => "no backend is up: waiting",
            Self::AllFull => "every backend that is up is full: waiting",
            Self::AllTried => "every backend that is up was tried: waiting",
            Self::HomeFull => "the home is full and the client's session is there: waiting",
        }
    }
}

/// Why a client goes where it goes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Why {
    /// To its home.
    StickyHit,
    /// It had no home.
    StickyNew,
    /// It has a home that cannot be used.
    StickyMoved(Moved),
    /// By a hash of its id or address (`consistent-hash`).
    Hash,
    /// Its turn.
    RoundRobin,
    /// Fewest connections.
    Least,
    /// By a hash of its address (`source`).
    Source,
    /// To the home that an operator set.
    Forced,
}

/// Why a home cannot be used.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Moved {
    /// Checks say it is down.
    BackendDown,
    /// An operator empties it.
    Draining,
    /// An operator took it out.
    Disabled,
    /// It was full for too long.
    Full,
    /// It has no address.
    Unresolved,
    /// Connecting to it failed.
    Refused,
    /// It is not in the configuration any more.
    Removed,
    /// It is a backup, and others serve again.
    Backup,
}

impl Why {
    /// Every value, for metrics that shall exist from the start.
    pub const ALL: [Self; 15] = [
        Self::StickyHit,
        Self::StickyNew,
        Self::StickyMoved(Moved::BackendDown),
        Self::StickyMoved(Moved::Draining),
        Self::StickyMoved(Moved::Disabled),
        Self::StickyMoved(Moved::Full),
        Self::StickyMoved(Moved::Unresolved),
        Self::StickyMoved(Moved::Refused),
        Self::StickyMoved(Moved::Removed),
        Self::StickyMoved(Moved::Backup),
        Self::Hash,
        Self::RoundRobin,
        Self::Least,
        Self::Source,
        Self::Forced,
    ];

    /// The label for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StickyHit => "sticky-hit",
            Self::StickyNew => "sticky-new",
            Self::StickyMoved(Moved::BackendDown) => "sticky-moved(backend-down)",
            Self::StickyMoved(Moved::Draining) => "sticky-moved(draining)",
            Self::StickyMoved(Moved::Disabled) => "sticky-moved(disabled)",
            Self::StickyMoved(Moved::Full) => "sticky-moved(full)",
            Self::StickyMoved(Moved::Unresolved) => "sticky-moved(unresolved)",
            Self::StickyMoved(Moved::Refused) => "sticky-moved(refused)",
            Self::StickyMoved(Moved::Removed) => "sticky-moved(removed)",
            Self::StickyMoved(Moved::Backup) => "sticky-moved(backup)",
            Self::Hash => "hash",
            Self::RoundRobin => "round-robin",
            Self::Least => "least",
            Self::Source => "source",
            Self::Forced => "forced",
        }
    }
}

impl Moved {
    fn describe(self) -> &'static str {
        match self {
            Self::BackendDown => "is down",
            Self::Draining => "is draining",
            Self::Disabled => "is disabled",
            Self::Full => "is full",
            Self::Unresolved => "has no address",
            Self::Refused => "refused this client",
            Self::Removed => "is not in the configuration",
            Self::Backup => "is a backup and others serve",
        }
    }
}

/// What becomes of a client's sticky entry.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Plan {
    /// There is none, and none is made.
    None,
    /// It goes home: touched when the broker accepts.
    Stay,
    /// A new one: proposed now, made when the broker accepts.
    Propose,
    /// It is served elsewhere and keeps its home.
    Keep,
    /// Its home becomes the backend that accepts it.
    Move,
}

impl Plan {
    /// Whether the client's connection stands in the table as a proposal until the broker answers.
    pub fn proposes(self) -> bool {
        matches!(self, Self::Propose | Self::Keep | Self::Move)
    }

    /// Whether the backend that accepts the client is its home from then on.
    pub fn makes_home(self) -> bool {
        matches!(self, Self::Stay | Self::Propose | Self::Move)
    }
}

/// One rule that had a say, for `explain`.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Step {
    /// Which rule, one word: `client`, `sticky`, `home`, `candidates`, `balance`, `wait`.
    pub rule: &'static str,
    /// What it said.
    pub text: Cow<'static, str>,
}

/// Who listens to the steps of a decision.
pub trait Trace {
    /// Hears of a step; `say` makes it, and is not called where nobody wants to know.
    fn step<S: Into<Cow<'static, str>>>(&mut self, say: impl FnOnce() -> (&'static str, S));
}

/// Nobody listens: the way of every connection, without a byte allocated for words.
#[derive(Clone, Copy, Debug)]
pub struct NoTrace;

impl Trace for NoTrace {
    fn step<S: Into<Cow<'static, str>>>(&mut self, _: impl FnOnce() -> (&'static str, S)) {}
}

impl Trace for Vec<Step> {
    fn step<S: Into<Cow<'static, str>>>(&mut self, say: impl FnOnce() -> (&'static str, S)) {
        let (rule, text) = say();
        self.push(Step {
            rule,
            text: text.into(),
        });
    }
}

/// Decides where a client goes. Names in `candidates` are unique.
pub fn decide<T: Trace>(
    policy: &Policy,
    request: &Request<'_>,
    candidates: &[Candidate<'_>],
    home: Option<HomeView<'_>>,
    picker: &mut Picker,
    trace: &mut T,
) -> Decision {
    let mut case = Case {
        policy,
        request,
        candidates,
        picker,
        trace,
    };
    let Some(sticky) = policy.sticky else {
        return case.balance(None, Plan::None);
    };
    if request.key(sticky.key).is_none() {
        case.trace
            .step(|| ("client", "no client id: nothing to stick to"));
        return case.balance(None, Plan::None);
    }
    match home {
        Some(home) if home.provisional => case.follow(sticky, home),
        Some(home) => case.go_home(sticky, home),
        None => case.settle(sticky),
    }
}

/// Decides as the next connection of this client would, and says how; nothing is changed by it.
pub fn explain(
    policy: &Policy,
    request: &Request<'_>,
    candidates: &[Candidate<'_>],
    home: Option<HomeView<'_>>,
    picker: &Picker,
) -> (Decision, Vec<Step>) {
    let mut steps = Vec::new();
    let decision = decide(
        policy,
        request,
        candidates,
        home,
        &mut picker.clone(),
        &mut steps,
    );
    (decision, steps)
}

/// Everything that a decision is made from.
struct Case<'a, T> {
    policy: &'a Policy,
    request: &'a Request<'a>,
    candidates: &'a [Candidate<'a>],
    picker: &'a mut Picker,
    trace: &'a mut T,
}

impl<'a, T: Trace> Case<'a, T> {
    /// No entry yet.
    fn settle(&mut self, sticky: Stickiness) -> Decision {
        self.trace.step(|| ("sticky", "no entry"));
        if self.may_enter(sticky) {
            return self.balance(Some(Why::StickyNew), Plan::Propose);
        }
        self.trace.step(|| {
            (
                "sticky",
                "the session ends with the connection: no entry is made (persistent_only)",
            )
        });
        self.balance(None, Plan::None)
    }

    /// No entry yet, but another connection of the same client is on its way.
    fn follow(&mut self, sticky: Stickiness, home: HomeView<'_>) -> Decision {
        let Some(target) = self.find(home.name).filter(|target| self.is_open(target)) else {
            return self.settle(sticky);
        };
        self.trace.step(|| {
            (
                "sticky",
                format!(
                    "another connection of this client is on its way to {}",
                    home.name
                ),
            )
        });
        let plan = if self.may_enter(sticky) {
            Plan::Propose
        } else {
            Plan::None
        };
        to(&target, Why::StickyNew, plan)
    }

    fn go_home(&mut self, sticky: Stickiness, home: HomeView<'_>) -> Decision {
        self.trace.step(|| {
            let set = if home.pinned {
                ", set by an operator"
            } else {
                ""
            };
            (
                "sticky",
                format!(
                    "the entry says {} (since {}{set})",
                    home.name,
                    Age(home.age)
                ),
            )
        });
        let found = self.find(home.name);
        let (reason, target) = match (
            found,
            found.and_then(|target| self.unfit(&target, home.pinned)),
        ) {
            (None, _) => (Moved::Removed, None),
            (Some(_), Some(reason)) => (reason, self.away(home)),
            (Some(target), None) if target.is_full() => {
                self.trace.step(|| ("home", Wait::HomeFull.describe()));
                return wait(Wait::HomeFull);
            }
            (Some(target), None) => {
                let why = if home.pinned {
                    Why::Forced
                } else {
                    Why::StickyHit
                };
                self.trace.step(|| {
                    (
                        "home",
                        format!("{} is {}", home.name, target.state.as_str()),
                    )
                });
                return to(&target, why, Plan::Stay);
            }
        };
        let plan = self.plan_for(sticky, home, reason);
        self.trace.step(|| {
            let entry = if plan == Plan::Keep {
                "home kept"
            } else {
                "the home moves"
            };
            (
                "home",
                format!(
                    "{} {}: looking elsewhere, {entry}",
                    home.name,
                    reason.describe()
                ),
            )
        });
        match target {
            Some(target) => {
                self.trace
                    .step(|| ("home", format!("meanwhile it is served by {}", target.name)));
                to(&target, Why::StickyMoved(reason), plan)
            }
            None => self.balance(Some(Why::StickyMoved(reason)), plan),
        }
    }

    fn balance(&mut self, why: Option<Why>, plan: Plan) -> Decision {
        let Policy {
            strategy, hasher, ..
        } = self.policy;
        match balance::choose(
            *strategy,
            hasher,
            self.request,
            self.candidates,
            self.picker,
            self.trace,
        ) {
            Ok((at, by)) => to(&self.candidates[at], why.unwrap_or(by), plan),
            Err(reason) => wait(reason),
        }
    }

    fn may_enter(&self, sticky: Stickiness) -> bool {
        self.request.persistent || !sticky.persistent_only
    }

    fn plan_for(&self, sticky: Stickiness, home: HomeView<'_>, reason: Moved) -> Plan {
        match reason {
            _ if !self.may_enter(sticky) => Plan::Keep,
            Moved::Removed | Moved::Backup => Plan::Move,
            _ if sticky.return_home || home.pinned => Plan::Keep,
            _ => Plan::Move,
        }
    }

    /// Where the client was served last while its home could not, if that is still possible: moving on would
    /// leave a session behind at each step.
    fn away(&self, home: HomeView<'_>) -> Option<Candidate<'a>> {
        self.find(home.away?).filter(|target| self.is_open(target))
    }

    fn find(&self, name: &str) -> Option<Candidate<'a>> {
        self.candidates
            .iter()
            .find(|candidate| candidate.name == name)
            .copied()
    }

    fn is_open(&self, target: &Candidate<'_>) -> bool {
        self.unfit(target, false).is_none() && !target.is_full()
    }

    /// Why a home cannot be used; that it is full now is another matter.
    fn unfit(&self, home: &Candidate<'_>, pinned: bool) -> Option<Moved> {
        match home.state {
            CandidateState::Draining => Some(Moved::Draining),
            CandidateState::Disabled => Some(Moved::Disabled),
            CandidateState::Down => Some(Moved::BackendDown),
            CandidateState::Unresolved => Some(Moved::Unresolved),
            CandidateState::Up | CandidateState::Unknown if home.excluded && home.is_full() => {
                Some(Moved::Full)
            }
            CandidateState::Up | CandidateState::Unknown if home.excluded => Some(Moved::Refused),
            CandidateState::Up | CandidateState::Unknown => {
                let others = || {
                    self.candidates
                        .iter()
                        .any(|other| !other.backup && balance::is_serving(other))
                };
                (home.backup && !pinned && others()).then_some(Moved::Backup)
            }
        }
    }
}

fn to(target: &Candidate<'_>, why: Why, plan: Plan) -> Decision {
    Decision {
        outcome: Outcome::To {
            index: target.index,
            why,
        },
        plan,
    }
}

fn wait(reason: Wait) -> Decision {
    Decision {
        outcome: Outcome::Wait(reason),
        plan: Plan::None,
    }
}

/// A duration in ms as people say it.
struct Age(u64);

impl std::fmt::Display for Age {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0 / 1000;
        match seconds {
            0..60 => write!(f, "{seconds}s"),
            60..3600 => write!(f, "{}m", seconds / 60),
            3600..86_400 => write!(f, "{}h", seconds / 3600),
            _ => write!(f, "{}d", seconds / 86_400),
        }
    }
}

#[cfg(test)]
mod tests;
