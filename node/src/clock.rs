//! The one place of this crate that reads the time.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where [`monotonic_ms`] counts from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Wall clock in milliseconds since 1970, for what is shown or kept on disk.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis().try_into().unwrap_or(u64::MAX))
}

/// Milliseconds on the monotonic clock since some moment of this process, for threads to tell each other.
#[must_use]
pub fn monotonic_ms() -> u64 {
    START.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
}

/// Monotonic clock, for all that is waited for.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}
