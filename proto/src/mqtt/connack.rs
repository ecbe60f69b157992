//! The broker's first packet: what it says to the client, and how we refuse a client in its stead.

use super::property::{self, PropertyError, Value, set, walk};
use super::read::{Fault, Reader, Remaining, remaining};
use super::{Level, put_binary, put_var_int};

const CONNACK: u8 = 0x20;

/// The properties of a CONNACK (MQTT 5, section 3.2.2.3).
const PROPERTIES: u64 = set(&[
    property::SESSION_EXPIRY,
    property::ASSIGNED_CLIENT_ID,
    property::SERVER_KEEP_ALIVE,
    property::AUTH_METHOD,
    property::AUTH_DATA,
    property::RESPONSE_INFORMATION,
    property::SERVER_REFERENCE,
    property::REASON_STRING,
    property::RECEIVE_MAXIMUM,
    property::TOPIC_ALIAS_MAXIMUM,
    property::MAXIMUM_QOS,
    property::RETAIN_AVAILABLE,
    property::USER_PROPERTY,
    property::MAXIMUM_PACKET,
    property::WILDCARD_AVAILABLE,
    property::SUBSCRIPTION_IDS_AVAILABLE,
    property::SHARED_AVAILABLE,
]);

/// What a buffer holds so far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parsed<'a> {
    /// Nothing seen rules a CONNACK out, but it is not whole.
    Incomplete {
        /// The least length in bytes, counted from the packet's first byte, that a further look needs.
        need: usize,
    },
    /// A whole CONNACK.
    Connack(Connack<'a>),
}

/// The broker's answer to a CONNECT.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Connack<'a> {
    /// Bytes of the packet.
    pub len: usize,
    /// Return code (3.x) or reason code (5); 0 accepts the client.
    pub code: u8,
    /// Whether the broker had kept a session (always false in 3.1).
    pub session_present: bool,
    /// Seconds to use in place of the client's keep alive (5).
    pub server_keep_alive: Option<u16>,
    /// Seconds to use in place of the client's session expiry (5).
    pub session_expiry: Option<u32>,
    /// The id that the broker made up for a client without one (5).
    pub assigned_client_id: Option<&'a str>,
    /// The broker's words (5).
    pub reason_string: Option<&'a str>,
    /// Where else to connect (5).
    pub server_reference: Option<&'a str>,
}

impl Connack<'_> {
    /// Whether the broker took the client in.
    #[must_use]
    pub fn accepted(&self) -> bool {
        self.code == 0
    }
}

/// Why the broker's first packet could not be read. The bytes are the client's in any case.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConnackError {
    /// Another packet, such as AUTH, or no MQTT at all.
    #[error("first byte is 0x{first:02X}, a CONNACK begins with 0x20")]
    NotConnack {
        /// The first byte.
        first: u8,
    },
    /// The remaining length has more than four bytes, or does not fit the level.
    #[error("remaining length is wrong for a CONNACK of MQTT {level}")]
    BadLength {
        /// The level that the client spoke.
        level: Level,
    },
    /// Longer than the caller cares to look.
    #[error("packet has {length} bytes, the limit is {max}")]
    TooLarge {
        /// Bytes of the packet.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Flags other than session present.
    #[error("acknowledge flags are 0x{flags:02X}, want 0 or 1")]
    BadFlags {
        /// The flags found.
        flags: u8,
    },
    /// The properties.
    #[error("properties: {0}")]
    BadProperties(PropertyError),
}

/// Reads the packet at the front of `buf`, the answer to a CONNECT of `level`; `max` bounds it in bytes.
///
/// A client of MQTT 5 may get the two-byte form of 3.1.1 from a broker that knows no better; that is accepted.
///
/// # Errors
///
/// As soon as the bytes seen rule out a CONNACK of at most `max` bytes. The caller then stops looking.
pub fn parse(buf: &[u8], level: Level, max: usize) -> Result<Parsed<'_>, ConnackError> {
    let Some((&first, rest)) = buf.split_first() else {
        return Ok(Parsed::Incomplete { need: 4 });
    };
    if first != CONNACK {
        return Err(ConnackError::NotConnack { first });
    }
    let (length, took) = match remaining(rest) {
        Remaining::Known { length, took } => (length as usize, took),
        Remaining::Incomplete => {
            let need = 1 + (rest.len() + 1) + 2;
            return Ok(Parsed::Incomplete { need });
        }
        Remaining::Bad => return Err(ConnackError::BadLength { level }),
    };
    if length < 2 || (level != Level::V5 && length != 2) {
        return Err(ConnackError::BadLength { level });
    }
    let len = 1 + took + length;
    if len > max {
        return Err(ConnackError::TooLarge { length: len, max });
    }
    // Unlike a client, a broker is trusted not to send its answer byte by byte: nothing is read until it is whole.
    let Some(whole) = buf.get(..len) else {
        return Ok(Parsed::Incomplete { need: len });
    };
    body(Reader::new(whole, 1 + took, len), level)
        .map(|connack| Parsed::Connack(Connack { len, ..connack }))
}

fn body(mut r: Reader<'_>, level: Level) -> Result<Connack<'_>, ConnackError> {
    let bad_length = |_: Fault| ConnackError::BadLength { level };
    let flags = r.u8("flags").map_err(bad_length)?;
    // MQTT 3.1 has a reserved byte here without a rule for its value.
    if level != Level::V31 && flags > 1 {
        return Err(ConnackError::BadFlags { flags });
    }
    let mut connack = Connack {
        code: r.u8("code").map_err(bad_length)?,
        session_present: level != Level::V31 && flags == 1,
        ..Connack::default()
    };
    if r.left() == 0 {
        return Ok(connack);
    }
    let list = r.section("properties").map_err(bad_length)?;
    if r.left() > 0 {
        return Err(ConnackError::BadLength { level });
    }
    walk(list, PROPERTIES, |id, value| match (id, value) {
        (property::SERVER_KEEP_ALIVE, Value::Number(seconds)) => {
            connack.server_keep_alive = u16::try_from(seconds).ok();
        }
        (property::SESSION_EXPIRY, Value::Number(seconds)) => {
            connack.session_expiry = Some(seconds);
        }
        (property::ASSIGNED_CLIENT_ID, Value::Text(id)) => connack.assigned_client_id = Some(id),
        (property::REASON_STRING, Value::Text(text)) => connack.reason_string = Some(text),
        (property::SERVER_REFERENCE, Value::Text(to)) => connack.server_reference = Some(to),
        _ => {}
    })
    .map_err(|stop| match stop {
        property::Stop::Short => ConnackError::BadLength { level },
        property::Stop::Bad(problem) => ConnackError::BadProperties(problem),
    })?;
    Ok(connack)
}

/// Why a client is turned away, in terms that every level has a code for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// The level is not spoken here.
    UnsupportedLevel,
    /// The client id is not acceptable.
    BadClientId,
    /// No backend can take the client now.
    ServerUnavailable,
    /// Too many clients; 3.x has one code for this and the one above.
    ServerBusy,
    /// User name or password is wrong.
    BadCredentials,
    /// The client may not connect.
    NotAuthorized,
    /// The client should go to another server for now; 3.x says unavailable.
    UseAnotherServer,
    /// More connections in a time than allowed; 3.x says unavailable.
    ConnectionRateExceeded,
}

impl Refusal {
    /// The return code (MQTT 3.1.1, section 3.2.2.3) or reason code (MQTT 5, section 3.2.2.2).
    #[must_use]
    pub const fn code(self, level: Level) -> u8 {
        let (three, five) = match self {
            Self::UnsupportedLevel => (1, 0x84),
            Self::BadClientId => (2, 0x85),
            Self::ServerUnavailable => (3, 0x88),
            Self::ServerBusy => (3, 0x89),
            Self::BadCredentials => (4, 0x86),
            Self::NotAuthorized => (5, 0x87),
            Self::UseAnotherServer => (3, 0x9C),
            Self::ConnectionRateExceeded => (3, 0x9F),
        };
        match level {
            Level::V31 | Level::V311 => three,
            Level::V5 => five,
        }
    }
}

/// Appends a CONNACK that turns the client away, without properties.
pub fn refuse(level: Level, why: Refusal, out: &mut Vec<u8>) {
    let code = why.code(level);
    match level {
        Level::V31 | Level::V311 => out.extend_from_slice(&[CONNACK, 2, 0, code]),
        Level::V5 => out.extend_from_slice(&[CONNACK, 3, 0, code, 0]),
    }
}

/// Appends a CONNACK with what `connack` holds (`len` is not used); strings beyond 65 535 bytes are left out.
///
/// In 3.x there is room for code and session present alone.
pub fn encode(level: Level, connack: &Connack<'_>, out: &mut Vec<u8>) {
    let flags = u8::from(connack.session_present && level != Level::V31);
    if level != Level::V5 {
        out.extend_from_slice(&[CONNACK, 2, flags, connack.code]);
        return;
    }
    let mut list = Vec::new();
    if let Some(seconds) = connack.session_expiry {
        list.push(property::SESSION_EXPIRY);
        list.extend_from_slice(&seconds.to_be_bytes());
    }
    if let Some(seconds) = connack.server_keep_alive {
        list.push(property::SERVER_KEEP_ALIVE);
        list.extend_from_slice(&seconds.to_be_bytes());
    }
    for (id, text) in [
        (property::ASSIGNED_CLIENT_ID, connack.assigned_client_id),
        (property::REASON_STRING, connack.reason_string),
        (property::SERVER_REFERENCE, connack.server_reference),
    ] {
        if let Some(text) = text.filter(|text| text.len() <= usize::from(u16::MAX)) {
            list.push(id);
            put_binary(&mut list, text.as_bytes());
        }
    }
    let mut body = vec![flags, connack.code];
    put_var_int(&mut body, list.len() as u32);
    out.push(CONNACK);
    put_var_int(out, (body.len() + list.len()) as u32);
    out.append(&mut body);
    out.append(&mut list);
}

#[cfg(test)]
mod tests;
