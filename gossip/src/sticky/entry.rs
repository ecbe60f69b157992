//! One sticky entry, and the keyed hash that stands for a client in it.

use std::fmt;
use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// Who an entry is about: a keyed hash of pool, key kind and the whole value.
///
/// 128 bits, so that two clients of one table meet with a chance of about 1e-27 at a million entries,
/// and a client id of 65 535 bytes costs no more than one of five.
/// The default, all zero, stands for no client.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Id(pub [u8; 16]);

impl Id {
    /// The part that the index of a table goes by; uniform, because the whole id is a keyed hash.
    pub(super) fn index_hash(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({self})")
    }
}

/// What kind of value a client is known by. The numbers are part of every id: never reuse one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// The client identifier of the CONNECT.
    ClientId = 1,
    /// The client's address: 4 or 16 bytes.
    ClientIp = 2,
    /// The common name of the client's certificate.
    CommonName = 3,
}

/// Makes ids: SipHash-1-3 with a 128-bit result, under a key that is secret and the same on all nodes.
#[derive(Clone)]
pub struct Hasher(SipHasher13);

impl Hasher {
    /// A hasher under `key`, which should be random: who knows it can make ids that collide.
    pub fn new(key: [u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(&key))
    }

    /// The id of the client that `value` names in `pool`.
    pub fn id(&self, pool: &str, kind: Kind, value: &[u8]) -> Id {
        let mut state = self.0;
        // Every part is preceded by its length: ("ab", "c") and ("a", "bc") are different clients.
        state.write(&(pool.len() as u64).to_le_bytes());
        state.write(pool.as_bytes());
        state.write(&[kind as u8]);
        state.write(&(value.len() as u64).to_le_bytes());
        state.write(value);
        Id(state.finish128().as_bytes())
    }

    /// A number that tells keys apart without giving them away: a snapshot made under another key is of no use.
    pub fn fingerprint(&self) -> u64 {
        let mut state = self.0;
        state.write(b"standfast sticky key");
        state.finish128().h1
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher(..)")
    }
}

/// A backend's number in one table; never given to another backend of that table.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct BackendRef(pub(super) u32);

impl BackendRef {
    /// No backend: a free slot, or a client that is not away.
    pub(super) const NONE: Self = Self(u32::MAX);
}

/// What a table holds about one client. Times are in milliseconds of the caller's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) id: Id,
    /// When the client came to this backend.
    pub(super) since: u64,
    /// The last beginning or end of a connection.
    pub(super) seen: u64,
    pub(super) backend: BackendRef,
    /// Where the client was served last while its home could not, or `NONE`.
    pub(super) away: BackendRef,
    /// Connections that live now (in the segment of proposals: that wait for a CONNACK).
    pub(super) live: u32,
    /// Whether an operator said so.
    pub(super) pinned: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ids_with_an_equal_prefix_stay_distinct() {
        let hasher = Hasher::new([7; 16]);
        let id = |last: char| {
            let value = format!("{}{last}", "x".repeat(199));
            hasher.id("mqtt", Kind::ClientId, value.as_bytes())
        };
        assert_ne!(id('a'), id('b'));
        assert_eq!(id('a'), id('a'));
    }

    #[test]
    fn pool_kind_value_and_key_all_count_and_their_borders_too() {
        let hasher = Hasher::new([7; 16]);
        let ids = [
            hasher.id("mqtt", Kind::ClientId, b"dev"),
            hasher.id("mqttd", Kind::ClientId, b"ev"),
            hasher.id("mqt", Kind::ClientId, b"tdev"),
            hasher.id("mqtt", Kind::ClientIp, b"dev"),
            hasher.id("mqtt", Kind::CommonName, b"dev"),
            hasher.id("mqtt", Kind::ClientId, b"dev\0"),
            hasher.id("mqtt", Kind::ClientId, b""),
            Hasher::new([8; 16]).id("mqtt", Kind::ClientId, b"dev"),
        ];
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    /// Ids are kept on disk and compared between nodes: what is hashed is a contract.
    #[test]
    fn an_id_is_the_siphash_of_the_parts_with_their_lengths() {
        let mut bytes = Vec::new();
        bytes.extend(4u64.to_le_bytes());
        bytes.extend(b"mqtt");
        bytes.push(1);
        bytes.extend(3u64.to_le_bytes());
        bytes.extend(b"dev");
        let wanted = SipHasher13::new_with_key(&[7; 16]).hash(&bytes).as_bytes();
        let id = Hasher::new([7; 16]).id("mqtt", Kind::ClientId, b"dev");
        assert_eq!(id, Id(wanted));
        assert_eq!(id.to_string().len(), 32);
    }

    #[test]
    fn the_fingerprint_tells_keys_apart() {
        let of = |key| Hasher::new(key).fingerprint();
        assert_eq!(of([1; 16]), of([1; 16]));
        assert_ne!(of([1; 16]), of([2; 16]));
    }
}
