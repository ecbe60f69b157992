//! What the control server needs of the process it speaks for.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::command::{Command, ConnectionFilter, StickyPage, StickyQuery};
use super::view::{ConnectionRow, Done, Explanation, View};
use crate::events::Events;

/// The process as an operator meets it. Implemented by the worker, and by a ledger in tests.
pub trait House: Send + Sync + 'static {
    /// Everything that is shown.
    fn view(&self) -> View;

    /// Live connections, in no order, at most [`ConnectionFilter::limit`] if it is set.
    fn connections(
        &self,
        filter: ConnectionFilter,
    ) -> impl Future<Output = Vec<ConnectionRow>> + Send;

    /// One page of sticky entries from [`StickyQuery::cursor`] on, at most [`StickyQuery::limit`] if it is set.
    ///
    /// # Errors
    ///
    /// When the pool or backend is not known, or the pool has no table.
    fn sticky(&self, query: &StickyQuery) -> Result<StickyPage, Refused>;

    /// Where a client would be sent, and why, in one pool or in all.
    ///
    /// # Errors
    ///
    /// When the pool is not known, or goes by an address and none is given.
    fn explain(
        &self,
        client: &str,
        pool: Option<&str>,
        ip: Option<IpAddr>,
    ) -> Result<Vec<Explanation>, Refused>;

    /// Carries out a change and notes it as an event. `by` says who asked: `uid 0 by control socket`.
    ///
    /// The socket's level has been checked. The future is not dropped before it is done, even if the client goes.
    fn command(
        &self,
        command: Command,
        by: &str,
    ) -> impl Future<Output = Result<Done, Refused>> + Send;

    /// The memory of events.
    fn events(&self) -> &Events;
}

/// No, and why.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// What kind of no.
    pub kind: RefusedKind,
    /// What was found and what would be right: one sentence, or several lines.
    pub message: String,
}

/// What kind of no; it chooses the exit code.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusedKind {
    /// There is no such thing, or the name is ambiguous: exit 1.
    NotFound,
    /// It was tried and failed: exit 1.
    Failed,
    /// The request or the configuration is not valid: exit 2.
    Invalid,
    /// Rules forbid it (read-only socket, the last backend without `force`): exit 5.
    Policy,
    /// It took too long, and what is so now is not known: exit 6.
    TimedOut,
    /// A kind of a later release: exit 1.
    #[serde(other)]
    Other,
}

impl Refused {
    /// A refusal of this kind.
    pub fn new(kind: RefusedKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(RefusedKind::NotFound, message)
    }

    /// It was tried and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(RefusedKind::Failed, message)
    }

    /// It is not valid.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(RefusedKind::Invalid, message)
    }

    /// Rules forbid it.
    pub fn policy(message: impl Into<String>) -> Self {
        Self::new(RefusedKind::Policy, message)
    }
}

/// Whether `written` (`mq1` or `mqtt/mq1`) names this backend of this pool.
#[must_use]
pub fn names(written: &str, pool: &str, backend: &str) -> bool {
    written == backend
        || written
            .strip_prefix(pool)
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|rest| rest == backend)
}

/// The one backend that `written` names, out of all backends as `(pool, backend, value)`.
///
/// # Errors
///
/// When there is none, with those there are; when there are several, with their full names.
pub fn find<'a, T>(
    written: &str,
    all: impl IntoIterator<Item = (&'a str, &'a str, T)>,
) -> Result<T, Refused> {
    let mut known = Vec::new();
    let mut fits = Vec::new();
    for (pool, backend, value) in all {
        let full = format!("{pool}/{backend}");
        if names(written, pool, backend) {
            fits.push((full, value));
        } else {
            known.push(full);
        }
    }
    if fits.len() > 1 {
        let names: Vec<_> = fits.into_iter().map(|(full, _)| full).collect();
        return Err(Refused::not_found(format!(
            "backend {written:?} is ambiguous; write one of: {}",
            names.join(", ")
        )));
    }
    fits.pop().map(|(_, value)| value).ok_or_else(|| {
        Refused::not_found(format!(
            "there is no backend {written:?}; there are: {}",
            known.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(&str, &str, u8); 3] = [("mqtt", "mq1", 1), ("mqtt", "mq2", 2), ("ws", "mq1", 3)];

    #[test]
    fn a_backend_is_found_by_its_own_name_or_with_its_pool() {
        assert_eq!(find("mq2", ALL), Ok(2));
        assert_eq!(find("mqtt/mq1", ALL), Ok(1));
        assert_eq!(find("ws/mq1", ALL), Ok(3));
    }

    #[test]
    fn an_ambiguous_name_is_refused_with_the_candidates() {
        let refused = find("mq1", ALL).unwrap_err();
        assert_eq!(refused.kind, RefusedKind::NotFound);
        assert_eq!(
            refused.message,
            r#"backend "mq1" is ambiguous; write one of: mqtt/mq1, ws/mq1"#
        );
    }

    #[test]
    fn an_unknown_name_is_refused_with_what_there_is() {
        let refused = find("mqtt/mq9", ALL).unwrap_err();
        assert_eq!(
            refused.message,
            r#"there is no backend "mqtt/mq9"; there are: mqtt/mq1, mqtt/mq2, ws/mq1"#
        );
    }

    #[test]
    fn a_kind_of_a_later_release_is_still_a_refusal() {
        let refused: Refused =
            serde_json::from_str(r#"{"kind":"not-leader","message":"ask lb2"}"#).unwrap();
        assert_eq!(refused.kind, RefusedKind::Other);
    }
}
