//! Faults of the set-ups that people follow today: each is shown with the real HAProxy or broker beside a standfast that
//! does not have it.

mod checks;
mod limits;
mod maintenance;
mod stick;
