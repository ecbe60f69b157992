//! How often one source may be warned about: the first time at once, then once in a while with how often it happened.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Remembers who was warned about lately. Bounded: sources come from outside.
#[derive(Clone, Debug)]
pub struct Limit<K> {
    every: Duration,
    capacity: usize,
    seen: HashMap<K, Seen>,
    /// All sources that found no room.
    others: Option<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    said: Instant,
    silent: u64,
}

impl<K: Eq + Hash> Limit<K> {
    /// One line per source and `every`; at most `capacity` sources are told apart at a time.
    #[must_use]
    pub fn new(every: Duration, capacity: usize) -> Self {
        Self {
            every,
            capacity,
            seen: HashMap::new(),
            others: None,
        }
    }

    /// Whether to write a line about `source` now, and if so how many were left out since the last one.
    pub fn say(&mut self, source: K, now: Instant) -> Option<u64> {
        let fresh = Seen {
            said: now,
            silent: 0,
        };
        if let Some(seen) = self.seen.get_mut(&source) {
            return seen.say(now, self.every);
        }
        if self.seen.len() >= self.capacity {
            let every = self.every;
            self.seen.retain(|_, seen| now < seen.said + every);
        }
        if self.seen.len() < self.capacity {
            self.seen.insert(source, fresh);
            return Some(0);
        }
        match &mut self.others {
            Some(others) => others.say(now, self.every),
            none => {
                *none = Some(fresh);
                Some(0)
            }
        }
    }
}

impl Seen {
    fn say(&mut self, now: Instant, every: Duration) -> Option<u64> {
        if now < self.said + every {
            self.silent += 1;
            return None;
        }
        self.said = now;
        Some(std::mem::take(&mut self.silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(10);

    #[test]
    fn a_source_is_named_once_and_then_with_what_was_left_out() {
        let mut limit = Limit::new(EVERY, 8);
        let start = Instant::now();
        assert_eq!(limit.say("a", start), Some(0));
        assert_eq!(limit.say("a", start + EVERY / 2), None);
        assert_eq!(limit.say("a", start + EVERY / 2), None);
        assert_eq!(limit.say("b", start + EVERY / 2), Some(0));
        assert_eq!(limit.say("a", start + EVERY), Some(2));
        assert_eq!(limit.say("a", start + EVERY), None);
    }

    #[test]
    fn a_flood_of_sources_costs_no_memory_and_no_flood_of_lines() {
        let mut limit = Limit::new(EVERY, 8);
        let start = Instant::now();
        let said = (0..10_000).filter(|n| limit.say(*n, start).is_some());
        assert_eq!(
            said.count(),
            9,
            "eight sources, and one line for all others"
        );
        assert_eq!(limit.seen.len(), 8);
        assert_eq!(limit.say(77, start + EVERY), Some(0), "old ones made room");
    }
}
