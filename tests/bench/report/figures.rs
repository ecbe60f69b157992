//! Figures out of visits, their spread over rounds, and ratios between peers of the same round.

use std::collections::BTreeMap;
use std::fmt;

use crate::conduct::Visit;
use crate::peers::Kind;
use crate::procfs::Pss;
use crate::scenario::{Memory, Placement, Scenario, Silent};

/// One number that a visit yields.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Figure {
    /// CPU of the proxy: µs per connection or message; in bulk ns per byte, both directions counted.
    Cpu(Scenario, Placement),
    /// Connections or messages a second; in bulk MB a second, both directions counted.
    Rate(Scenario, Placement),
    /// Latency in µs.
    P50(Scenario, Placement),
    /// Latency in µs.
    P99(Scenario, Placement),
    /// Memory in bytes per held connection, pages of files left out.
    Idle,
    /// The same with them.
    IdleWithFiles,
    /// The same after a message on every connection at once.
    Burst,
    /// The same after another.
    Again,
    /// Memory without connections, in MiB.
    Rest,
    /// A good client's connect to CONNACK in µs, alone.
    QuietP50,
    /// The same.
    QuietP99,
    /// The same, among bad connections.
    NoisyP50,
    /// The same.
    NoisyP99,
}

impl Figure {
    /// Whether it can be compared between peers without being swamped by the machine's other work.
    pub(super) fn is_a_median(self) -> bool {
        matches!(self, Self::P50(..) | Self::QuietP50 | Self::NoisyP50)
    }

    /// Its value on this visit; `None` when the visit yields another figure or is spoilt.
    pub(super) fn of(self, visit: &Visit) -> Option<f64> {
        let outcome = &visit.outcome;
        if !visit.invalid.is_empty() || outcome.count == 0 {
            return None;
        }
        let here = |scenario: Scenario, placement| {
            (scenario.is_timed() && visit.scenario == scenario && visit.placement == placement)
                .then_some(())
        };
        let bulk = visit.scenario == Scenario::Bulk;
        let bytes = (outcome.count * outcome.message_bytes * 2) as f64;
        let per_connection = |held: fn(&Memory) -> &Pss, bytes: fn(&Pss) -> u64| {
            let memory = outcome.memory.as_ref()?;
            let more = bytes(held(memory)) as f64 - bytes(&memory.rest) as f64;
            Some(more / memory.connections as f64)
        };
        let silent = |pick: fn(&Silent) -> f64| outcome.silent.as_ref().map(pick);
        match self {
            Self::Cpu(scenario, placement) => here(scenario, placement).map(|()| match bulk {
                true => outcome.cpu_ns as f64 / bytes,
                false => outcome.cpu_ns as f64 / 1e3 / outcome.count as f64,
            }),
            Self::Rate(scenario, placement) => here(scenario, placement).map(|()| match bulk {
                true => bytes / 1e6 / outcome.seconds,
                false => outcome.count as f64 / outcome.seconds,
            }),
            Self::P50(scenario, placement) => {
                here(scenario, placement).map(|()| outcome.latency.p50)
            }
            Self::P99(scenario, placement) => {
                here(scenario, placement).map(|()| outcome.latency.p99)
            }
            Self::Idle => per_connection(|memory| &memory.held, Pss::without_files),
            Self::IdleWithFiles => per_connection(|memory| &memory.held, |pss| pss.all),
            Self::Burst => per_connection(|memory| &memory.burst, Pss::without_files),
            Self::Again => per_connection(|memory| &memory.again, Pss::without_files),
            Self::Rest => outcome
                .memory
                .as_ref()
                .map(|memory| memory.rest.all as f64 / 1024.0 / 1024.0),
            Self::QuietP50 => silent(|silent| silent.quiet.p50),
            Self::QuietP99 => silent(|silent| silent.quiet.p99),
            Self::NoisyP50 => silent(|silent| silent.noisy.p50),
            Self::NoisyP99 => silent(|silent| silent.noisy.p99),
        }
    }
}

/// Median, least and greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// `None` when there is nothing to spread.
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Some(Self { median, min, max })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, min, max] = [self.median, self.min, self.max].map(short);
        if min == max {
            f.write_str(&median)
        } else {
            write!(f, "{median} ({min}–{max})")
        }
    }
}

/// Three digits that matter, and all those before the point.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Every peer's visits by round.
pub(super) struct Book<'a>(BTreeMap<(Kind, usize), Vec<&'a Visit>>);

impl<'a> Book<'a> {
    pub(super) fn new(visits: &'a [Visit]) -> Self {
        let mut book: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for visit in visits {
            book.entry((visit.peer, visit.round))
                .or_default()
                .push(visit);
        }
        Self(book)
    }

    /// A figure by round: the mean of the visits that yield it.
    fn values(&self, peer: Kind, figure: Figure) -> BTreeMap<usize, f64> {
        let of_peer = self.0.range((peer, 0)..=(peer, usize::MAX));
        of_peer
            .filter_map(|(&(_, round), visits)| Some((round, mean(visits, figure)?)))
            .collect()
    }

    pub(super) fn spread(&self, peer: Kind, figure: Figure) -> Option<Spread> {
        Spread::of(self.values(peer, figure).into_values().collect())
    }

    /// Of the peers' figures in the same round.
    pub(super) fn ratio(&self, peer: Kind, base: Kind, figure: Figure) -> Option<Spread> {
        self.quotient((peer, figure), (base, figure))
    }

    /// One figure of a round by another of the same round.
    pub(super) fn quotient(&self, upper: (Kind, Figure), lower: (Kind, Figure)) -> Option<Spread> {
        let lower = self.values(lower.0, lower.1);
        let upper = self.values(upper.0, upper.1);
        Spread::of(
            upper
                .iter()
                .filter_map(|(round, value)| Some(value / lower.get(round)?))
                .collect(),
        )
    }
}

fn mean(visits: &[&Visit], figure: Figure) -> Option<f64> {
    let values: Vec<f64> = visits.iter().filter_map(|visit| figure.of(visit)).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Stats;
    use crate::scenario::Outcome;

    fn visit(round: usize, peer: Kind, cpu_ns: u64) -> Visit {
        Visit {
            round,
            peer,
            scenario: Scenario::Setup,
            placement: Placement::One,
            outcome: Outcome {
                count: 10,
                cpu_ns,
                seconds: 0.5,
                ..Outcome::default()
            },
            broker: Stats::default(),
            invalid: Vec::new(),
        }
    }

    #[test]
    fn a_ratio_is_taken_within_a_round_and_a_spoilt_visit_has_none() {
        let mut spoilt = visit(2, Kind::Standfast, 1);
        spoilt.invalid.push("1 lost message".into());
        let visits = [
            visit(0, Kind::Haproxy, 100_000),
            visit(0, Kind::Standfast, 50_000),
            visit(1, Kind::Standfast, 100_000),
            visit(1, Kind::Standfast, 200_000),
            visit(1, Kind::Haproxy, 200_000),
            visit(2, Kind::Haproxy, 100_000),
            spoilt,
        ];
        let book = Book::new(&visits);
        let figure = Figure::Cpu(Scenario::Setup, Placement::One);
        let ratio = book.ratio(Kind::Standfast, Kind::Haproxy, figure);
        assert_eq!(
            ratio,
            Some(Spread {
                median: 0.625,
                min: 0.5,
                max: 0.75
            })
        );
        assert_eq!(
            book.spread(Kind::Standfast, figure),
            Some(Spread {
                median: 10.0,
                min: 5.0,
                max: 15.0
            })
        );
        assert_eq!(book.spread(Kind::Nginx, figure), None);
        assert_eq!(book.spread(Kind::Standfast, Figure::Idle), None);
    }

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!(
            [0.8215, 7.654, 32.84, 3618.4].map(short),
            ["0.822", "7.65", "32.8", "3618"]
        );
    }
}
