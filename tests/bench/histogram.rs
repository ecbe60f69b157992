//! Latencies counted in buckets 1.6 % wide, small enough to stay in the cache beside what is measured.

use serde::{Deserialize, Serialize};

/// Buckets per power of two.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.ilog2();

/// Durations in nanoseconds, by count.
pub(crate) struct Histogram {
    counts: Vec<u32>,
    total: u64,
    max: u64,
}

/// What a visit reports of its latencies, in microseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        let buckets = STEPS as usize * (u64::BITS - STEP_BITS + 1) as usize;
        Self {
            counts: vec![0; buckets],
            total: 0,
            max: 0,
        }
    }

    pub(crate) fn add(&mut self, nanos: u64) {
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
        self.max = 0;
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary {
            count: self.total,
            p50: self.quantile(0.50) as f64 / 1e3,
            p99: self.quantile(0.99) as f64 / 1e3,
            max: self.max as f64 / 1e3,
        }
    }

    /// The lower edge of the bucket that holds the quantile; 0 when nothing was added.
    fn quantile(&self, q: f64) -> u64 {
        let rank = (q * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, &count) in self.counts.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                return lower_edge(index as u64);
            }
        }
        0
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - STEP_BITS;
    (u64::from(shift + 1) * STEPS + (nanos >> shift) - STEPS) as usize
}

fn lower_edge(index: u64) -> u64 {
    if index < STEPS {
        return index;
    }
    let shift = index / STEPS - 1;
    (STEPS + index % STEPS) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_starts_at_most_one_step_below_its_values() {
        for nanos in (0..200_000).chain([1 << 40, u64::MAX]) {
            let edge = lower_edge(bucket(nanos) as u64);
            assert!(edge <= nanos, "{nanos} fell below {edge}");
            assert!(nanos - edge <= nanos / STEPS, "{nanos} is far above {edge}");
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let mut histogram = Histogram::new();
        (1..=1000).for_each(|micros| histogram.add(micros * 1000));
        let summary = histogram.summary();
        assert_eq!(summary.count, 1000);
        assert!((490.0..=500.0).contains(&summary.p50), "{summary:?}");
        assert!((974.0..=990.0).contains(&summary.p99), "{summary:?}");
        assert_eq!(summary.max, 1000.0);
    }

    #[test]
    fn an_empty_histogram_says_zero() {
        assert_eq!(Histogram::new().summary(), Summary::default());
    }
}
