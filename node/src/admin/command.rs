//! The words on the control socket: one JSON object a line, in both directions, with the version of this dialect.
//!
//! A client sends requests one after another; each is answered by one or more [`Answer`]s, the last of which is not a
//! part of something longer: [`Answer::is_last`]. Fields may be added within a version; others are ignored.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::house::Refused;
use super::view::{ConnectionRow, Done, Explanation, StickyRow, View};
use crate::events::Event;

/// The dialect.
pub const VERSION: u32 = 1;

/// Longest request line, newline included. A client id has at most 65 535 bytes, six times that when escaped.
pub const MAX_REQUEST: usize = 1 << 20;

/// What a client sends.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Ask {
    /// [`VERSION`].
    pub v: u32,
    /// The question or the order.
    pub request: Request,
}

/// What the daemon sends.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Reply {
    /// [`VERSION`].
    pub v: u32,
    /// The answer or a part of it.
    pub answer: Answer,
}

/// A question or an order.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The whole view.
    Status,
    /// Live connections.
    Connections(ConnectionFilter),
    /// Sticky entries.
    Sticky(StickyQuery),
    /// Where a client goes, and why.
    Explain(ExplainQuery),
    /// Events, oldest first.
    Events(EventQuery),
    /// A change.
    Command(Command),
}

/// An answer, or a part of one.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    View(Box<View>),
    /// Part of the answer to [`Request::Connections`].
    Connections(Vec<ConnectionRow>),
    /// Part of the answer to [`Request::Sticky`].
    Sticky(Vec<StickyRow>),
    /// To [`Request::Explain`].
    Explained(Vec<Explanation>),
    /// Part of the answer to [`Request::Events`].
    Events(Vec<Event>),
    /// To [`Request::Command`].
    Done(Done),
    /// The end of a list.
    End(ListEnd),
    /// No, and why; also in the middle of a list.
    Refused(Refused),
}

impl Answer {
    /// Whether nothing follows that belongs to the same request.
    #[must_use]
    pub fn is_last(&self) -> bool {
        match self {
            Self::Connections(_) | Self::Sticky(_) | Self::Events(_) => false,
            Self::View(_)
            | Self::Explained(_)
            | Self::Done(_)
            | Self::End(_)
            | Self::Refused(_) => true,
        }
    }
}

/// The end of a list.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ListEnd {
    /// Whether there is more that was not asked for.
    pub more: bool,
}

/// Which connections; every field that is given must fit.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ConnectionFilter {
    /// Client id, exactly; with a `*` at the end, its beginning.
    pub client: Option<String>,
    /// Common name of the client's certificate.
    pub cn: Option<String>,
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// Backend: `mq1` or `pool/mq1`.
    pub backend: Option<String>,
    /// Pool.
    pub pool: Option<String>,
    /// Listener.
    pub listener: Option<String>,
    /// At most so many; `None` is all.
    pub limit: Option<usize>,
}

impl ConnectionFilter {
    /// Whether a connection is asked for. ([`Self::cn`] fits nothing as long as rows have no name of a certificate.)
    #[must_use]
    pub fn fits(&self, row: &ConnectionRow) -> bool {
        let client = self.client.as_deref().is_none_or(|wanted| {
            let client = row.client.as_deref().unwrap_or_default();
            match wanted.strip_suffix('*') {
                Some(start) => client.starts_with(start),
                None => client == wanted,
            }
        });
        let ip = self.ip.is_none_or(|wanted| {
            let ip: Option<std::net::SocketAddr> = row.ip.parse().ok();
            ip.is_some_and(|ip| ip.ip().to_canonical() == wanted.to_canonical())
        });
        let backend = self.backend.as_deref().is_none_or(|wanted| {
            let name = row.backend.as_deref().unwrap_or_default();
            super::house::names(wanted, &row.pool, name)
        });
        let pool = self.pool.as_ref().is_none_or(|pool| *pool == row.pool);
        let listener = self.listener.as_ref().is_none_or(|l| *l == row.listener);
        client && ip && backend && pool && listener && self.cn.is_none()
    }
}

/// Which sticky entries.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct StickyQuery {
    /// Pool; `None` is every pool that has a table.
    pub pool: Option<String>,
    /// One client: the value of the pool's key, e.g. a client id.
    pub client: Option<String>,
    /// Entries whose home this is: `mq1` or `pool/mq1`.
    pub backend: Option<String>,
    /// Where a page before has ended; `None` begins.
    pub cursor: Option<String>,
    /// At most so many; `None` is all (a page is as long as the house likes).
    pub limit: Option<usize>,
}

/// Part of a sticky table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StickyPage {
    /// Entries; may be empty although more follow.
    pub rows: Vec<StickyRow>,
    /// What to ask for next; `None` after the last page. The house's own word.
    pub next: Option<String>,
}

/// A question about one client.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ExplainQuery {
    /// Client id.
    pub client: String,
    /// Pool; `None` is every pool.
    pub pool: Option<String>,
    /// Its address, for pools that go by it.
    pub ip: Option<IpAddr>,
}

/// Which events.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct EventQuery {
    /// The last so many; `None` is all that is remembered.
    pub most: Option<usize>,
    /// Go on with those that happen.
    pub follow: bool,
}

/// A change. Backends are written `mq1` or `pool/mq1`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// No new clients; with a rate, the present ones are moved.
    Drain {
        /// Which backend.
        backend: String,
        /// Clients moved a second; `None` waits for them to leave.
        rate: Option<f64>,
        /// Reason code of the DISCONNECT that MQTT 5 clients are sent.
        reason: Option<u8>,
        /// Even if no other backend of the pool is up.
        force: bool,
    },
    /// The opposite of [`Self::Drain`].
    Undrain {
        /// Which backend.
        backend: String,
    },
    /// Maintenance: no checks, no connections.
    Disable {
        /// Which backend.
        backend: String,
        /// Even if no other backend of the pool is up.
        force: bool,
    },
    /// The opposite of [`Self::Disable`].
    Enable {
        /// Which backend.
        backend: String,
    },
    /// Another weight, until the next reload.
    Weight {
        /// Which backend.
        backend: String,
        /// 0 to 256.
        weight: u32,
    },
    /// A client's home.
    StickySet {
        /// Pool; `None` where the backend tells.
        pool: Option<String>,
        /// The value of the pool's key, e.g. a client id.
        client: String,
        /// Which backend.
        backend: String,
    },
    /// Forget homes.
    StickyClear {
        /// Pool; `None` is every pool that has a table.
        pool: Option<String>,
        /// Which.
        what: StickyClear,
    },
    /// Close a client's connections.
    Kick {
        /// Client id.
        client: String,
        /// Pool; `None` is every pool.
        pool: Option<String>,
    },
    /// Apply the file.
    Reload {
        /// Only say what it would change.
        dry_run: bool,
    },
}

/// Which homes to forget.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StickyClear {
    /// Of one client.
    Client(String),
    /// Whose home is this backend.
    Backend(String),
    /// All.
    All,
}
