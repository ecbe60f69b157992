//! How a connection is ended with a word: DISCONNECT of MQTT 5 from a server, of any level from a client.

use super::{put_binary, put_var_int};

/// A DISCONNECT without a reason, as a client of any level says goodbye. A server of 3.x never sends one.
pub const GOODBYE: [u8; 2] = [0xE0, 0];

/// The longest reason string that [`encode`] writes, in bytes; a longer one is cut between characters.
pub const MAX_REASON_STRING: usize = 256;

/// A reason code of DISCONNECT (MQTT 5, section 3.14.2.1).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Reason(pub u8);

impl Reason {
    /// The connection ends normally.
    pub const NORMAL: Self = Self(0x00);
    /// Nothing better fits.
    pub const UNSPECIFIED: Self = Self(0x80);
    /// The bytes are not valid MQTT.
    pub const MALFORMED_PACKET: Self = Self(0x81);
    /// The bytes are valid, but not allowed here.
    pub const PROTOCOL_ERROR: Self = Self(0x82);
    /// The client may not do this (any more).
    pub const NOT_AUTHORIZED: Self = Self(0x87);
    /// The server cannot go on serving this client now.
    pub const SERVER_BUSY: Self = Self(0x89);
    /// The server shuts down.
    pub const SERVER_SHUTTING_DOWN: Self = Self(0x8B);
    /// Nothing was heard for 1.5 times the keep alive.
    pub const KEEP_ALIVE_TIMEOUT: Self = Self(0x8D);
    /// Another connection came with this client id.
    pub const SESSION_TAKEN_OVER: Self = Self(0x8E);
    /// An operator ended the connection.
    pub const ADMINISTRATIVE_ACTION: Self = Self(0x98);
    /// The client should use another server for now.
    pub const USE_ANOTHER_SERVER: Self = Self(0x9C);
    /// The client should use another server for good.
    pub const SERVER_MOVED: Self = Self(0x9D);
    /// Too many connections in a time.
    pub const CONNECTION_RATE_EXCEEDED: Self = Self(0x9F);
}

/// Appends a DISCONNECT of MQTT 5 as a server sends it, with `text` as its reason string.
pub fn encode(reason: Reason, text: Option<&str>, out: &mut Vec<u8>) {
    const REASON_STRING: u8 = super::property::REASON_STRING;
    let Some(text) = text.filter(|text| !text.is_empty() && !text.contains('\0')) else {
        out.extend_from_slice(&[0xE0, 2, reason.0, 0]);
        return;
    };
    let mut end = text.len().min(MAX_REASON_STRING);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    let list = 1 + 2 + text.len() as u32;
    let length_of_list = if list < 0x80 { 1 } else { 2 };
    out.push(0xE0);
    put_var_int(out, 1 + length_of_list + list);
    out.push(reason.0);
    put_var_int(out, list);
    out.push(REASON_STRING);
    put_binary(out, text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_code_alone_has_four_bytes() {
        let mut out = Vec::new();
        encode(Reason::SERVER_SHUTTING_DOWN, None, &mut out);
        assert_eq!(out, [0xE0, 2, 0x8B, 0]);
    }

    #[test]
    fn a_reason_string_follows_as_the_only_property() {
        let mut out = Vec::new();
        encode(Reason::ADMINISTRATIVE_ACTION, Some("drain"), &mut out);
        assert_eq!(out, *b"\xE0\x0A\x98\x08\x1F\x00\x05drain");
    }

    #[test]
    fn a_long_reason_string_is_cut_between_characters() {
        for filler in ["é", "x", "€"] {
            let text = filler.repeat(400);
            let mut out = Vec::new();
            encode(Reason::SERVER_BUSY, Some(&text), &mut out);
            let kept = &out[out.len() - (MAX_REASON_STRING / filler.len()) * filler.len()..];
            assert!(text.starts_with(std::str::from_utf8(kept).expect("cut between characters")));
            let mut packets = Vec::new();
            let mut tracker = crate::mqtt::packet::Tracker::new();
            tracker
                .advance(&out, |first| packets.push(first))
                .expect("a valid length");
            assert_eq!((packets, tracker.at_boundary()), (vec![0xE0], true));
        }
    }
}
