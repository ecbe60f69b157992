//! Closing the connections of a backend at a pace: drains, and `on_down`.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::end::End;
use crate::plane::{Filter, Planes, Select};
use crate::pool::Backend;

/// How often some are closed; with a slow pace, one every few steps.
const STEP: Duration = Duration::from_millis(20);

/// Closes the connections of `backend`, at most `pace` a second (`None`: all at once), until none is left or `go_on`
/// says no. Answers how many were closed.
pub(super) async fn evict(
    planes: &Planes,
    backend: &Arc<Backend>,
    pace: Option<f64>,
    end: End,
    reason: u8,
    go_on: impl Fn() -> bool,
) -> usize {
    let filter = Filter {
        pool: Some(backend.pool.to_string()),
        backend: Some(backend.name.to_string()),
        ..Filter::default()
    };
    close_paced(planes, &Select::Filter(filter), pace, end, reason, go_on).await
}

/// Closes what `select` names, at most `pace` a second, until none is left or `go_on` says no.
pub(super) async fn close_paced(
    planes: &Planes,
    select: &Select,
    pace: Option<f64>,
    end: End,
    reason: u8,
    go_on: impl Fn() -> bool,
) -> usize {
    let Some(pace) = pace else {
        return planes.close(select, usize::MAX, end, reason).await;
    };
    let began = clock::now();
    let mut closed = 0;
    let mut steps = tokio::time::interval(STEP);
    while go_on() {
        steps.tick().await;
        let due = (began.elapsed().as_secs_f64() * pace).floor() as usize;
        let Some(now) = due.checked_sub(closed).filter(|now| *now > 0) else {
            continue;
        };
        let done = planes.close(select, now, end, reason).await;
        closed += done;
        if done < now {
            break;
        }
    }
    closed
}
