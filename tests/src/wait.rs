//! Waiting for conditions, with a deadline: the only place of this crate that lets time pass.

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is asked.
const STEP: Duration = Duration::from_millis(5);

/// Asks `condition` until it holds; panics with `what` when `limit` has passed.
///
/// # Panics
///
/// When the condition does not hold in time.
#[track_caller]
pub fn eventually(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    within(limit, what, || condition().then_some(()));
}

/// Asks `get` until it answers something; panics with `what` when `limit` has passed.
///
/// # Panics
///
/// When there is no answer in time.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, get: impl FnMut() -> Option<T>) -> T {
    match try_within(limit, get) {
        Some(value) => value,
        None => panic!("not within {limit:?}: {what}"),
    }
}

/// As [`within`], but answers `None` where that one panics.
pub fn try_within<T>(limit: Duration, mut get: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = get() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::park_timeout(STEP);
    }
}

/// Asks `condition` for the whole of `time` and panics with `what` as soon as it does not hold: for "nothing happens".
///
/// # Panics
///
/// When the condition fails once.
#[track_caller]
pub fn holds(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        assert!(condition(), "did not hold for {time:?}: {what}");
        thread::park_timeout(STEP);
    }
}

/// Lets `time` pass where time itself is the input: a client that is slow, a broker that is late. Never to wait for
/// somebody else to be done: that is what [`eventually`] is for.
pub fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}
