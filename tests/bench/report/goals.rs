//! What standfast promises of its costs, held against a run.

use std::fmt;

use super::figures::{Book, Figure, short};
use crate::mqtt::CLIENT_ID_BYTES;
use crate::options::Options;
use crate::peers::Kind;
use crate::scenario::{Placement, Scenario};

/// How a goal stands.
pub(super) struct Verdict {
    goal: String,
    found: Option<String>,
    /// `None` where the run has no figure for it.
    pub(super) met: Option<bool>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not judged",
        };
        write!(f, "- {}: {word}", self.goal)?;
        self.found
            .as_ref()
            .map_or(Ok(()), |found| write!(f, " ({found})"))
    }
}

/// Bytes per connection that two readings of the same memory may differ by: pages are counted whole.
const SAME: f64 = 16.0;
/// A good client's median among bad ones may be this much of its median alone.
const UNDELAYED: f64 = 1.25;

pub(super) fn judge(book: &Book, options: &Options) -> Vec<Verdict> {
    use Kind::{Haproxy, Standfast};
    let mut verdicts = Vec::new();
    for (scenario, what, most) in [
        (Scenario::Setup, "CPU per connection", 0.82),
        (
            Scenario::Msg1000,
            "CPU per message at 1000 connections",
            0.82,
        ),
        (Scenario::Msg1, "CPU per message at one connection", 0.94),
    ] {
        let ratio = book.ratio(Standfast, Haproxy, Figure::Cpu(scenario, Placement::One));
        verdicts.push(Verdict {
            goal: format!("{what}, one core, at most {most} of haproxy"),
            found: ratio.map(|ratio| ratio.to_string()),
            met: ratio.map(|ratio| ratio.median <= most),
        });
    }
    let idle = book.spread(Standfast, Figure::Idle);
    let all = book.spread(Standfast, Figure::IdleWithFiles);
    let beyond = all.map(|all| all.median - CLIENT_ID_BYTES as f64);
    verdicts.push(Verdict {
        goal: format!(
            "{} idle connections, at most 512 B each beyond the client id",
            options.idle
        ),
        found: beyond.map(|beyond| format!("{} B", short(beyond))),
        met: beyond.map(|beyond| beyond <= 512.0),
    });
    let again = book.spread(Standfast, Figure::Again);
    let growth = again
        .zip(idle)
        .map(|(again, idle)| again.median - idle.median);
    verdicts.push(Verdict {
        goal: format!("no more after bursts over all of them (within {SAME} B)"),
        found: growth.map(|growth| format!("{} B more", short(growth))),
        met: growth.map(|growth| growth <= SAME),
    });
    let delay = book.quotient((Standfast, Figure::NoisyP50), (Standfast, Figure::QuietP50));
    verdicts.push(Verdict {
        goal: format!(
            "{} silent or garbage connections do not delay a good client (median at most {UNDELAYED} of that alone)",
            options.silent
        ),
        found: delay.map(|delay| delay.to_string()),
        met: delay.map(|delay| delay.median <= UNDELAYED),
    });
    verdicts
}
