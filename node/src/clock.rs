//! The one place of this crate that reads the time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Wall clock in milliseconds since 1970, for what is shown or kept on disk.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis().try_into().unwrap_or(u64::MAX))
}

/// Monotonic clock, for all that is waited for.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}
