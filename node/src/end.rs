//! Why a connection ended: one word for the connection line, the counters and the named log formats.

use std::fmt;

/// Why a connection ended. Every closed connection has one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum End {
    /// The client sent DISCONNECT at a packet boundary.
    ClientDisconnect,
    /// The client closed without DISCONNECT.
    ClientClose,
    /// The client's side was reset.
    ClientReset,
    /// The broker closed.
    BackendClose,
    /// The broker's side was reset or gave up (TCP_USER_TIMEOUT).
    BackendReset,
    /// Nothing came from the client for 1.5 × its keepalive.
    KeepaliveTimeout,
    /// Nothing came from the client for `timeout.idle`.
    IdleTimeout,
    /// One side closed and the other did not within `timeout.half_close`.
    HalfCloseTimeout,
    /// No whole CONNECT (or PROXY header) within `connect_deadline`.
    ConnectDeadline,
    /// The first packet was no valid CONNECT; the word is the parser's reason.
    NotMqtt(&'static str),
    /// A limit or a rule of the listener; the word names it.
    Refused(Refusal),
    /// No backend could take the client within `when_empty.wait`.
    NoBackend,
    /// The backend was marked down (`on_down`).
    BackendDown,
    /// Moved by a drain.
    Drained,
    /// Closed by `kick`.
    Kicked,
    /// The program stops.
    Shutdown,
    /// A fault of our own or of this machine (no descriptors, no memory): the log says which.
    Internal,
}

/// Which limit or rule turned a client away.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// `limits.connections`.
    ProcessConnections,
    /// `listener.limits.connections`.
    Connections,
    /// `listener.limits.per_ip`.
    PerIp,
    /// `listener.limits.rate`.
    Rate,
    /// `listener.allow` or `.deny`.
    Denied,
    /// A PROXY header where none is allowed, or none where one is required, or a broken one.
    Proxy,
    /// `limits.greeting_memory`.
    GreetingMemory,
}

impl Refusal {
    /// All of them, for counters.
    pub const ALL: [Self; 7] = [
        Self::ProcessConnections,
        Self::Connections,
        Self::PerIp,
        Self::Rate,
        Self::Denied,
        Self::Proxy,
        Self::GreetingMemory,
    ];

    /// The word in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProcessConnections => "limits.connections",
            Self::Connections => "connections",
            Self::PerIp => "per_ip",
            Self::Rate => "rate",
            Self::Denied => "denied",
            Self::Proxy => "proxy",
            Self::GreetingMemory => "greeting_memory",
        }
    }
}

impl End {
    /// The word in metrics: bounded, without the detail in brackets.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ClientDisconnect => "client-disconnect",
            Self::ClientClose => "client-close",
            Self::ClientReset => "client-reset",
            Self::BackendClose => "backend-close",
            Self::BackendReset => "backend-reset",
            Self::KeepaliveTimeout => "keepalive-timeout",
            Self::IdleTimeout => "idle-timeout",
            Self::HalfCloseTimeout => "half-close-timeout",
            Self::ConnectDeadline => "connect-deadline",
            Self::NotMqtt(_) => "not-mqtt",
            Self::Refused(_) => "refused",
            Self::NoBackend => "no-backend",
            Self::BackendDown => "backend-down",
            Self::Drained => "drained",
            Self::Kicked => "kicked",
            Self::Shutdown => "shutdown",
            Self::Internal => "internal",
        }
    }

    /// All labels, in the order of [`Self::index`].
    pub const LABELS: [&'static str; 17] = [
        "client-disconnect",
        "client-close",
        "client-reset",
        "backend-close",
        "backend-reset",
        "keepalive-timeout",
        "idle-timeout",
        "half-close-timeout",
        "connect-deadline",
        "not-mqtt",
        "refused",
        "no-backend",
        "backend-down",
        "drained",
        "kicked",
        "shutdown",
        "internal",
    ];

    /// Its place in [`Self::LABELS`].
    #[must_use]
    pub fn index(self) -> usize {
        let label = self.label();
        Self::LABELS
            .iter()
            .position(|l| *l == label)
            .unwrap_or(Self::LABELS.len() - 1)
    }
}

/// As the connection line has it: `refused(per_ip)`, `not-mqtt(http)`, else the label.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMqtt(reason) => write!(f, "not-mqtt({reason})"),
            Self::Refused(refusal) => write!(f, "refused({})", refusal.as_str()),
            other => f.write_str(other.label()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_its_own_place_among_the_labels() {
        let ends = [
            End::ClientDisconnect,
            End::ClientClose,
            End::ClientReset,
            End::BackendClose,
            End::BackendReset,
            End::KeepaliveTimeout,
            End::IdleTimeout,
            End::HalfCloseTimeout,
            End::ConnectDeadline,
            End::NotMqtt("http"),
            End::Refused(Refusal::Rate),
            End::NoBackend,
            End::BackendDown,
            End::Drained,
            End::Kicked,
            End::Shutdown,
            End::Internal,
        ];
        for (place, end) in ends.into_iter().enumerate() {
            assert_eq!(end.index(), place, "{end}");
        }
    }
}
