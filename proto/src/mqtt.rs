//! The part of MQTT 3.1, 3.1.1 and 5 that a balancer has to understand: who connects, and where packets end.

pub mod connack;
pub mod connect;
pub mod disconnect;
pub mod packet;
pub mod probe;
pub mod property;
mod read;

/// The version of MQTT that a client speaks.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3.
    V31,
    /// MQTT 3.1.1: protocol name `MQTT`, level 4.
    V311,
    /// MQTT 5: protocol name `MQTT`, level 5.
    V5,
}

impl Level {
    /// The protocol level on the wire: 3, 4 or 5.
    #[inline]
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V31 => 3,
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }

    /// The level with this number on the wire (without the bridge bit).
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            3 => Some(Self::V31),
            4 => Some(Self::V311),
            5 => Some(Self::V5),
            _ => None,
        }
    }
}

impl std::fmt::Display for Level {
    /// `3.1`, `3.1.1` or `5`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5",
        })
    }
}

/// Appends a variable byte integer (MQTT 5, section 1.5.5); `value` is at most [`packet::MAX_LENGTH`].
fn put_var_int(out: &mut Vec<u8>, mut value: u32) {
    debug_assert!(value <= packet::MAX_LENGTH);
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a two-byte length and the bytes; the caller has checked that they are at most 65 535.
fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(bytes.len() <= usize::from(u16::MAX));
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}
