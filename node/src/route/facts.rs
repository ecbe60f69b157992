//! What a decision is made from: the pool's policy, the client, the backends and the client's home.

use std::net::IpAddr;

use standfast_gossip::sticky::entry::{Hasher, Kind};

use super::balance::Strategy;
use crate::config::{Balance, Key, Sticky};

/// What a pool's configuration says about routing.
#[derive(Clone, Debug)]
pub struct Policy {
    /// For clients that are not stuck.
    pub strategy: Strategy,
    /// With `balance = "sticky"`.
    pub sticky: Option<Stickiness>,
    /// For `source` and `consistent-hash`: the same on all nodes, or they disagree about every client.
    pub hasher: Hasher,
}

/// The part of `pool.sticky` that decides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stickiness {
    /// `sticky.key`.
    pub key: Key,
    /// `sticky.return_home`.
    pub return_home: bool,
    /// `sticky.persistent_only`.
    pub persistent_only: bool,
}

impl Policy {
    /// The policy of a pool.
    pub fn new(balance: Balance, sticky: &Sticky, hasher: Hasher) -> Self {
        if balance != Balance::Sticky {
            return Self {
                strategy: Strategy::of(balance),
                sticky: None,
                hasher,
            };
        }
        let &Sticky {
            key,
            return_home,
            persistent_only,
            fallback,
            ..
        } = sticky;
        let sticky = Stickiness {
            key,
            return_home,
            persistent_only,
        };
        Self {
            strategy: Strategy::of(fallback),
            sticky: Some(sticky),
            hasher,
        }
    }
}

/// What routing may know about a client.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The client identifier; none or empty: anonymous.
    pub client_id: Option<&'a [u8]>,
    /// The client's address, behind an accepted PROXY header the one it says.
    pub client_ip: IpAddr,
    /// Whether the session outlives the connection (clean session off; MQTT 5: an expiry above 0).
    pub persistent: bool,
}

/// What a client is known by, as bytes to hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyBytes<'a> {
    /// A client id, not empty.
    ClientId(&'a [u8]),
    /// An IPv4 address, also where it came mapped into IPv6.
    V4([u8; 4]),
    /// An IPv6 address.
    V6([u8; 16]),
}

impl KeyBytes<'_> {
    /// The kind that goes into a sticky id.
    pub fn kind(&self) -> Kind {
        match self {
            Self::ClientId(_) => Kind::ClientId,
            Self::V4(_) | Self::V6(_) => Kind::ClientIp,
        }
    }

    /// The value that goes into a sticky id.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::ClientId(id) => id,
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
        }
    }
}

impl<'a> Request<'a> {
    /// The value that `key` goes by; none for a client without an id.
    pub fn key(&self, key: Key) -> Option<KeyBytes<'a>> {
        match (key, self.client_ip.to_canonical()) {
            (Key::ClientId, _) => self
                .client_id
                .filter(|id| !id.is_empty())
                .map(KeyBytes::ClientId),
            (Key::ClientIp, IpAddr::V4(ip)) => Some(KeyBytes::V4(ip.octets())),
            (Key::ClientIp, IpAddr::V6(ip)) => Some(KeyBytes::V6(ip.octets())),
        }
    }
}

/// A backend as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The caller's number for it, which the decision gives back.
    pub index: usize,
    /// Its name; unique in the pool.
    pub name: &'a str,
    /// Configured or overridden; 0: only by stickiness.
    pub weight: u32,
    /// How much of its weight a slow start gives it now, 0 to 1.
    pub ramp: f32,
    /// Live connections, of all nodes, and those on their way.
    pub connections: u32,
    /// `backend.max_connections`.
    pub max_connections: Option<u32>,
    /// `backend.backup`.
    pub backup: bool,
    /// Health and orders.
    pub state: CandidateState,
    /// Already tried for this client, without success.
    pub excluded: bool,
}

impl Candidate<'_> {
    pub(super) fn is_full(&self) -> bool {
        self.max_connections
            .is_some_and(|most| self.connections >= most)
    }
}

/// Whether a backend can be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CandidateState {
    /// Checks say so, or there are none.
    Up,
    /// No address yet.
    Unresolved,
    /// Checks say so.
    Down,
    /// An operator empties it.
    Draining,
    /// An operator took it out.
    Disabled,
    /// No check has run yet: usable.
    Unknown,
}

impl CandidateState {
    pub(super) fn is_usable(self) -> bool {
        matches!(self, Self::Up | Self::Unknown)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Unresolved => "unresolved",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
            Self::Unknown => "not checked yet",
        }
    }
}

/// What the sticky table knows about a client.
#[derive(Clone, Copy, Debug)]
pub struct HomeView<'a> {
    /// The name of its home.
    pub name: &'a str,
    /// Where it is or was served last while its home could not.
    pub away: Option<&'a str>,
    /// How long this has been its home, in ms.
    pub age: u64,
    /// Not accepted yet: another connection of the client is on its way there.
    pub provisional: bool,
    /// An operator set it.
    pub pinned: bool,
}
