//! Whether backends are usable: checks, what connections noticed, and the verdict that follows from both.
//!
//! ```text
//! connections ── Backend::signal ──┐
//!                                  ▼
//! Settings ────────────────▶ driver::watch ──▶ Backend::set_verdict, Backend::report, Change, Events
//!                               │     ▲
//!                               ▼     │
//!                          state::Core, probe::probe
//! ```

use std::time::Duration;

pub mod driver;
pub mod probe;
pub mod settings;
pub mod state;

/// Share of its weight that a backend starts with when it comes back.
const RAMP_FROM: f32 = 0.05;

/// The share of its weight (0.05 to 1) that a backend gets after having come back: grows evenly over `slow_start`.
///
/// `came_up_ms` and `now_ms` are unix milliseconds, as of [`crate::pool::Backend::came_up`]. It is 1 where slow start
/// is off, and for a backend that never was down: at the start of the program nothing has to warm up first.
#[must_use]
pub fn ramp(came_up_ms: u64, now_ms: u64, slow_start: Duration) -> f32 {
    let whole = slow_start.as_millis() as f32;
    // A clock that was set back shows a time before the backend came up: that is its very beginning.
    let passed = now_ms.saturating_sub(came_up_ms) as f32;
    if came_up_ms == 0 || passed >= whole {
        return 1.0;
    }
    RAMP_FROM + (1.0 - RAMP_FROM) * (passed / whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_came_back_gets_its_share_step_by_step() {
        let ten = Duration::from_secs(10);
        assert!((ramp(1_000, 1_000, ten) - 0.05).abs() < 1e-6);
        assert!((ramp(1_000, 6_000, ten) - 0.525).abs() < 1e-6);
        assert_eq!(ramp(1_000, 11_000, ten), 1.0);
        assert_eq!(ramp(1_000, u64::MAX, ten), 1.0);
    }

    #[test]
    fn nothing_ramps_when_slow_start_is_off_or_the_backend_never_was_down() {
        assert_eq!(ramp(1_000, 1_000, Duration::ZERO), 1.0);
        assert_eq!(ramp(0, 5, Duration::from_secs(10)), 1.0);
    }

    #[test]
    fn a_clock_set_back_counts_as_the_beginning() {
        assert!(ramp(9_000, 1_000, Duration::from_secs(10)) < 0.06);
    }
}
