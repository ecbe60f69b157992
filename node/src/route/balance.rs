//! Choosing among backends for a client that no sticky entry sends anywhere.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::sync::Arc;

use standfast_gossip::sticky::entry::Hasher;

use super::decision::{Trace, Wait, Why};
use super::facts::{Candidate, CandidateState, Request};
use super::rendezvous;
use crate::config::{Balance, Key};

/// Effective weights are in thousandths, so that a slow start has steps.
const UNIT: f64 = 1000.0;

/// The smallest share of a slow start: a backend that just came back serves at once where it is the only one.
const RAMP_MIN: f32 = 0.01;

/// How a pool spreads clients that are not stuck.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Strategy {
    /// Smooth weighted round robin.
    RoundRobin,
    /// The fewest connections for its weight.
    LeastConnections,
    /// By a hash of the client's address.
    Source,
    /// By a hash of the client's id or address.
    ConsistentHash(Key),
}

impl Strategy {
    /// The strategy behind `pool.balance` or `sticky.fallback`; for `sticky` itself the default fallback.
    pub fn of(balance: Balance) -> Self {
        match balance {
            Balance::RoundRobin => Self::RoundRobin,
            Balance::Sticky | Balance::LeastConnections => Self::LeastConnections,
            Balance::Source => Self::Source,
            Balance::ConsistentHash(key) => Self::ConsistentHash(key),
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastConnections => "least-connections",
            Self::Source => "source",
            Self::ConsistentHash(_) => "consistent-hash",
        }
    }

    fn is_hash(self) -> bool {
        matches!(self, Self::Source | Self::ConsistentHash(_))
    }
}

/// What round robin remembers: smooth as nginx does it, by name, so it survives a reload.
///
/// One per pool and process: with one per thread the shares are right only on average.
#[derive(Clone, Debug, Default)]
pub struct Picker {
    turns: Vec<(Arc<str>, i64)>,
}

impl Picker {
    /// Whose turn it is among the candidates that `may` go: a position in `candidates`.
    fn next(
        &mut self,
        candidates: &[Candidate<'_>],
        may: impl Fn(&Candidate<'_>) -> bool,
    ) -> Option<usize> {
        self.follow(candidates);
        let (mut total, mut best) = (0, None);
        for (at, candidate) in candidates
            .iter()
            .enumerate()
            .filter(|(_, candidate)| may(candidate))
        {
            let weight = effective(candidate) as i64; // at most 1000 × 2³²
            let turn = &mut self.turns[at].1;
            *turn += weight;
            total += weight;
            if best.is_none_or(|(_, most)| *turn > most) {
                best = Some((at, *turn));
            }
        }
        let (at, _) = best?;
        self.turns[at].1 -= total;
        Some(at)
    }

    /// Makes `turns` stand in the order of `candidates`; who is new starts at 0.
    fn follow(&mut self, candidates: &[Candidate<'_>]) {
        let same = self.turns.len() == candidates.len()
            && self
                .turns
                .iter()
                .zip(candidates)
                .all(|((name, _), candidate)| **name == *candidate.name);
        if same {
            return;
        }
        let old = std::mem::take(&mut self.turns);
        self.turns = candidates
            .iter()
            .map(|candidate| {
                let known = old.iter().find(|(name, _)| **name == *candidate.name);
                known.cloned().unwrap_or_else(|| (candidate.name.into(), 0))
            })
            .collect();
    }
}

/// Chooses for a client without a home: a position in `candidates` and why, or why none can be had.
///
/// Backups count only while no other backend with a weight is up or not judged yet. Of those that count, a backend that is
/// up goes before one that no check has judged yet, except by hash, where a start must not move clients.
pub(super) fn choose<T: Trace>(
    strategy: Strategy,
    hasher: &Hasher,
    request: &Request<'_>,
    candidates: &[Candidate<'_>],
    picker: &mut Picker,
    trace: &mut T,
) -> Result<(usize, Why), Wait> {
    let backup = !candidates
        .iter()
        .any(|candidate| !candidate.backup && is_serving(candidate));
    let may = |candidate: &Candidate<'_>| obstacle(candidate, backup).is_none();
    let only_up = !strategy.is_hash()
        && candidates
            .iter()
            .any(|candidate| may(candidate) && candidate.state == CandidateState::Up);
    let may = |candidate: &Candidate<'_>| {
        may(candidate) && (!only_up || candidate.state == CandidateState::Up)
    };

    trace.step(|| ("candidates", describe_left_out(candidates, backup, only_up)));
    let chosen = pick(strategy, hasher, request, candidates, picker, may);
    let Some((at, why)) = chosen else {
        let wait = why_none(candidates, backup);
        trace.step(|| ("wait", wait.describe()));
        return Err(wait);
    };
    trace.step(|| {
        (
            "balance",
            describe_choice(strategy, why, candidates, at, may),
        )
    });
    Ok((at, why))
}

fn pick(
    strategy: Strategy,
    hasher: &Hasher,
    request: &Request<'_>,
    candidates: &[Candidate<'_>],
    picker: &mut Picker,
    may: impl Fn(&Candidate<'_>) -> bool,
) -> Option<(usize, Why)> {
    let (key, why) = match strategy {
        Strategy::RoundRobin => (None, Why::RoundRobin),
        Strategy::LeastConnections => {
            let fewest = candidates
                .iter()
                .filter(|candidate| may(candidate))
                .min_by(|a, b| load_order(a, b))?;
            let tied =
                |candidate: &Candidate<'_>| may(candidate) && load_order(candidate, fewest).is_eq();
            return picker.next(candidates, tied).map(|at| (at, Why::Least));
        }
        Strategy::Source => (request.key(Key::ClientIp), Why::Source),
        // All clients without an id would hash to one backend.
        Strategy::ConsistentHash(key) => match request.key(key) {
            Some(key) => (Some(key), Why::Hash),
            None => (None, Why::RoundRobin),
        },
    };
    let Some(key) = key else {
        return picker.next(candidates, may).map(|at| (at, why));
    };
    let client = hasher.id("", key.kind(), key.bytes());
    let draw = |candidate: &Candidate<'_>| {
        rendezvous::draw(hasher, client, candidate.name, effective(candidate))
    };
    let draws = candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| may(candidate));
    let draws = draws.map(|(at, candidate)| (at, candidate.name, draw(candidate)));
    // Equal draws are one in 2⁵³; the name decides, so that all nodes agree.
    let best =
        draws.max_by(|(_, name, a), (_, other, b)| a.total_cmp(b).then_with(|| name.cmp(other)))?;
    Some((best.0, why))
}

/// A weight in thousandths, scaled by slow start; never 0.
fn effective(candidate: &Candidate<'_>) -> u64 {
    let ramp = f64::from(candidate.ramp.clamp(RAMP_MIN, 1.0));
    ((f64::from(candidate.weight) * ramp * UNIT).round() as u64).max(1)
}

/// Orders by connections for the weight, counting the one that is to come.
fn load_order(a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    let cross = |a: &Candidate<'_>, b: &Candidate<'_>| {
        (u128::from(a.connections) + 1) * u128::from(effective(b))
    };
    cross(a, b).cmp(&cross(b, a))
}

/// Whether a backend takes new clients by balancing at all, were it not full or tried already.
pub(super) fn is_serving(candidate: &Candidate<'_>) -> bool {
    candidate.weight > 0 && candidate.state.is_usable()
}

/// Why a backend cannot be chosen while backups do (or do not) count.
fn obstacle(candidate: &Candidate<'_>, backup: bool) -> Option<&'static str> {
    if !candidate.state.is_usable() {
        Some(candidate.state.as_str())
    } else if candidate.weight == 0 {
        Some("weight 0")
    } else if candidate.backup != backup {
        Some("backup")
    } else if candidate.excluded {
        Some("refused")
    } else if candidate.is_full() {
        Some("full")
    } else {
        None
    }
}

fn why_none(candidates: &[Candidate<'_>], backup: bool) -> Wait {
    let serving = || {
        candidates
            .iter()
            .filter(|candidate| candidate.backup == backup && is_serving(candidate))
    };
    if serving().next().is_none() {
        Wait::NoneUp
    } else if serving().all(|candidate| candidate.excluded) {
        Wait::AllTried
    } else {
        Wait::AllFull
    }
}

fn describe_left_out(candidates: &[Candidate<'_>], backup: bool, only_up: bool) -> String {
    let mut text = String::new();
    for candidate in candidates {
        let reason = obstacle(candidate, backup).or_else(|| {
            (only_up && candidate.state != CandidateState::Up).then_some("not checked yet")
        });
        if let Some(reason) = reason {
            let comma = if text.is_empty() { "left out: " } else { ", " };
            let _ = write!(text, "{comma}{} ({reason})", candidate.name);
        }
    }
    if text.is_empty() {
        "all backends can be chosen".into()
    } else {
        text
    }
}

fn describe_choice(
    strategy: Strategy,
    why: Why,
    candidates: &[Candidate<'_>],
    chosen: usize,
    may: impl Fn(&Candidate<'_>) -> bool,
) -> String {
    let mut text = String::from(strategy.label());
    match strategy {
        Strategy::Source | Strategy::ConsistentHash(Key::ClientIp) => {
            text.push_str(" of the client's address")
        }
        Strategy::ConsistentHash(Key::ClientId) if why == Why::RoundRobin => {
            text.push_str(" without a client id: round-robin");
        }
        Strategy::ConsistentHash(Key::ClientId) => text.push_str(" of the client id"),
        Strategy::RoundRobin | Strategy::LeastConnections => {}
    }
    text.push_str(" among ");
    for (number, candidate) in candidates
        .iter()
        .filter(|candidate| may(candidate))
        .enumerate()
    {
        let comma = if number == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}{} (", candidate.name);
        if strategy == Strategy::LeastConnections {
            let _ = write!(text, "{}/", candidate.connections);
        }
        let _ = write!(text, "w{}", candidate.weight);
        if candidate.ramp < 1.0 {
            let _ = write!(text, " at {:.0} %", candidate.ramp * 100.0);
        }
        text.push(')');
    }
    let _ = write!(text, " → {}", candidates[chosen].name);
    text
}

#[cfg(test)]
mod tests;
