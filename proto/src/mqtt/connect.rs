//! Reading a CONNECT, the first packet of every MQTT client, as strictly as a broker would.

use super::Level;
use super::property::{self, PropertyError, Value, set, walk};
use super::read::{Fault, Reader, Remaining, remaining};

/// No CONNECT is shorter: fixed header, name, level, flags, keep alive, empty client id.
pub const SHORTEST: usize = 2 + SHORTEST_BODY;
const SHORTEST_BODY: usize = 12;

/// How far an incomplete packet is looked at.
///
/// A caller may come back after each byte; this bounds what one look costs, so that a client that sends 128 KiB of
/// properties byte by byte cannot make us read them 128 Ki times. The whole packet is always checked whole.
const EARLY_LOOK: usize = 256;

const NAME: &[u8] = b"\x00\x04MQTT";
const NAME_3_1: &[u8] = b"\x00\x06MQIsdp";
const BRIDGE: u8 = 0x80;

const CLEAN: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_DETAILS: u8 = 0x38;
const WILL_QOS: u8 = 0x18;
const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;

const CONNECT_PROPERTIES: u64 = set(&[
    property::SESSION_EXPIRY,
    property::AUTH_METHOD,
    property::AUTH_DATA,
    property::REQUEST_PROBLEM,
    property::REQUEST_RESPONSE,
    property::RECEIVE_MAXIMUM,
    property::TOPIC_ALIAS_MAXIMUM,
    property::USER_PROPERTY,
    property::MAXIMUM_PACKET,
]);

const WILL_PROPERTIES: u64 = set(&[
    property::PAYLOAD_FORMAT,
    property::MESSAGE_EXPIRY,
    property::CONTENT_TYPE,
    property::RESPONSE_TOPIC,
    property::CORRELATION_DATA,
    property::WILL_DELAY,
    property::USER_PROPERTY,
]);

/// What a buffer holds so far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parsed<'a> {
    /// Nothing seen rules a CONNECT out, but it is not whole.
    Incomplete {
        /// The least length in bytes, counted from the packet's first byte, that a further look needs.
        need: usize,
    },
    /// A whole, valid CONNECT.
    Connect(Connect<'a>),
}

/// What a balancer wants to know of a client, borrowed from the packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Connect<'a> {
    /// Bytes of the packet; what lies behind them in the buffer are further packets.
    pub len: usize,
    /// The protocol's version.
    pub level: Level,
    /// Whether the client says that it is a bridge (0x80 in the level of MQTT 3.1 and 3.1.1).
    pub bridge: bool,
    /// Clean session (3.x), clean start (5).
    pub clean_start: bool,
    /// Seconds; 0 switches the mechanism off.
    pub keep_alive: u16,
    /// May be empty (3.1.1 with clean session, 5): the broker then makes one up.
    pub client_id: &'a str,
    /// Passwords are not kept.
    pub username: Option<&'a str>,
    /// Seconds that the session outlives the connection (5 only, else 0); `u32::MAX` is for ever.
    pub session_expiry: u32,
    /// Whether the client leaves a will.
    pub will: bool,
}

impl Connect<'_> {
    /// Whether the broker keeps the session when this connection ends.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        match self.level {
            Level::V31 | Level::V311 => !self.clean_start,
            Level::V5 => self.session_expiry > 0,
        }
    }
}

/// Why the bytes are not the CONNECT of MQTT 3.1, 3.1.1 or 5. The client is at fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConnectError {
    /// The first byte begins no MQTT packet.
    #[error("first byte is 0x{first:02X}, a CONNECT begins with 0x10")]
    NotMqtt {
        /// The first byte.
        first: u8,
    },
    /// A TLS ClientHello.
    #[error(
        "a TLS ClientHello on a listener without TLS, want a plain CONNECT or tls on the listener"
    )]
    TlsHello,
    /// An HTTP request, so a browser or a WebSocket client.
    #[error(
        "an HTTP request on a listener for plain MQTT, want a CONNECT or websocket on the listener"
    )]
    Http,
    /// The signature of a PROXY header.
    #[error(
        "a PROXY v{version} header, want a CONNECT, or the sender's network in the listener's proxy setting"
    )]
    ProxyHeader {
        /// 1 or 2.
        version: u8,
    },
    /// Another packet of MQTT.
    #[error("first packet is of type {packet}, want CONNECT (type 1)")]
    NotConnect {
        /// The packet's type, 2 to 15.
        packet: u8,
    },
    /// CONNECT with flags in its first byte.
    #[error("first byte is 0x{first:02X}, a CONNECT has no flags there: 0x10")]
    BadFlags {
        /// The first byte.
        first: u8,
    },
    /// The remaining length has more than four bytes.
    #[error("remaining length has more than 4 bytes")]
    BadRemainingLength,
    /// Too short for any CONNECT.
    #[error("remaining length is {length}, no CONNECT has less than {SHORTEST_BODY}")]
    TooShort {
        /// The remaining length.
        length: usize,
    },
    /// A field that does not fit the packet.
    #[error("{what} needs {needs} bytes, {left} are left in the packet")]
    PastEnd {
        /// The field.
        what: &'static str,
        /// Bytes that it needs.
        needs: usize,
        /// Bytes left.
        left: usize,
    },
    /// Longer than the caller allows.
    #[error("packet has {length} bytes, the limit is {max}")]
    TooLarge {
        /// Bytes of the packet.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Neither `MQTT` nor `MQIsdp`.
    #[error("protocol name begins {:?}, want \"\\0\\u{{4}}MQTT\" or \"\\0\\u{{6}}MQIsdp\"", String::from_utf8_lossy(.found))]
    BadProtocolName {
        /// The bytes in the place of length and name, with zeros where they were not received.
        found: [u8; 8],
    },
    /// A level that does not belong to the name.
    #[error("protocol level is 0x{level:02X}, want {want}")]
    BadLevel {
        /// The level found.
        level: u8,
        /// What would be right with that name.
        want: &'static str,
    },
    /// Flags that contradict each other.
    #[error("connect flags are 0x{flags:02X}: {problem}")]
    BadConnectFlags {
        /// The flags found.
        flags: u8,
        /// The contradiction.
        problem: &'static str,
    },
    /// A string that MQTT forbids.
    #[error("{what} {problem}")]
    BadString {
        /// The field.
        what: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The properties of the packet or of its will.
    #[error("properties of the {of}: {problem}")]
    BadProperties {
        /// `CONNECT` or `will`.
        of: &'static str,
        /// What is wrong with them.
        problem: PropertyError,
    },
    /// Bytes between the last field and the end of the packet.
    #[error("{count} bytes follow the last field, want the packet to end there")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// An empty client id where the client must have one.
    #[error("client id is empty, want {want}")]
    BadClientId {
        /// The client's level, in which the refusal is to be worded.
        level: Level,
        /// What would be right.
        want: &'static str,
    },
}

impl ConnectError {
    /// Every label that [`Self::reason`] gives.
    pub const REASONS: [&'static str; 15] = [
        "not_mqtt",
        "tls_hello",
        "http",
        "proxy_header",
        "not_connect",
        "bad_flags",
        "bad_length",
        "too_large",
        "bad_protocol_name",
        "bad_level",
        "bad_connect_flags",
        "bad_string",
        "bad_properties",
        "trailing_bytes",
        "bad_client_id",
    ];

    /// A short label for metrics; one of [`Self::REASONS`].
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotMqtt { .. } => "not_mqtt",
            Self::TlsHello => "tls_hello",
            Self::Http => "http",
            Self::ProxyHeader { .. } => "proxy_header",
            Self::NotConnect { .. } => "not_connect",
            Self::BadFlags { .. } => "bad_flags",
            Self::BadRemainingLength | Self::TooShort { .. } | Self::PastEnd { .. } => "bad_length",
            Self::TooLarge { .. } => "too_large",
            Self::BadProtocolName { .. } => "bad_protocol_name",
            Self::BadLevel { .. } => "bad_level",
            Self::BadConnectFlags { .. } => "bad_connect_flags",
            Self::BadString { .. } => "bad_string",
            Self::BadProperties { .. } => "bad_properties",
            Self::TrailingBytes { .. } => "trailing_bytes",
            Self::BadClientId { .. } => "bad_client_id",
        }
    }
}

/// Reads the packet at the front of `buf`, which may hold less than it or more.
///
/// `max` bounds the whole packet in bytes, fixed header included. While the packet is incomplete its first 256 bytes are
/// checked as far as they go; when it is whole all of it is (MQTT 3.1 section 3.1, MQTT 3.1.1 and 5 section 3.1).
/// It does not allocate.
///
/// # Errors
///
/// As soon as the bytes seen rule out a CONNECT of at most `max` bytes.
#[inline]
pub fn parse(buf: &[u8], max: usize) -> Result<Parsed<'_>, ConnectError> {
    let Some((&first, rest)) = buf.split_first() else {
        return Ok(Parsed::Incomplete { need: SHORTEST });
    };
    if first != 0x10 {
        return Err(stranger(first, buf));
    }
    let (length, took) = match remaining(rest) {
        Remaining::Known { length, took } => (length as usize, took),
        Remaining::Incomplete => {
            let need = 1 + (rest.len() + 1) + SHORTEST_BODY;
            return Ok(Parsed::Incomplete { need });
        }
        Remaining::Bad => return Err(ConnectError::BadRemainingLength),
    };
    if length < SHORTEST_BODY {
        return Err(ConnectError::TooShort { length });
    }
    let header = 1 + took;
    let len = header + length;
    if len > max {
        return Err(ConnectError::TooLarge { length: len, max });
    }
    let received = match buf.get(..len) {
        Some(whole) => whole,
        None => &buf[..buf.len().min(EARLY_LOOK)],
    };
    match body(Reader::new(received, header, len)) {
        Ok(connect) => Ok(Parsed::Connect(Connect { len, ..connect })),
        Err(Stop::Short) => Ok(Parsed::Incomplete { need: len }),
        Err(Stop::Bad(error)) => Err(error),
    }
}

/// Variable header and payload; the caller fills in `len`.
#[inline]
fn body(mut r: Reader<'_>) -> Result<Connect<'_>, Stop> {
    let old_name = name(&mut r)?;
    let (level, bridge) = level(old_name, r.u8("protocol level")?)?;
    let flags = r.u8("connect flags")?;
    check_flags(level, flags)?;
    let keep_alive = r.u16("keep alive")?;

    let mut session_expiry = 0;
    if level == Level::V5 {
        let list = r.section("properties of the CONNECT")?;
        walk(list, CONNECT_PROPERTIES, |id, value| {
            if let (property::SESSION_EXPIRY, Value::Number(seconds)) = (id, value) {
                session_expiry = seconds;
            }
        })
        .map_err(|stop| Stop::property("CONNECT", stop))?;
    }

    let client_id = r.text("client id")?;
    let clean_start = flags & CLEAN != 0;
    if client_id.is_empty() {
        check_empty_client_id(level, clean_start)?;
    }
    if flags & WILL != 0 {
        will(&mut r, level)?;
    }
    // MQTT 3.1 lets the packet end where the flags still promise a user name and password.
    let promised =
        |r: &Reader<'_>, flag| flags & flag != 0 && (level != Level::V31 || r.left() > 0);
    let username = if promised(&r, USERNAME) {
        Some(r.text("user name")?)
    } else {
        None
    };
    if promised(&r, PASSWORD) {
        r.binary("password")?;
    }
    if r.left() > 0 {
        let count = r.left();
        return Err(ConnectError::TrailingBytes { count }.into());
    }
    Ok(Connect {
        len: 0,
        level,
        bridge,
        clean_start,
        keep_alive,
        client_id,
        username,
        session_expiry,
        will: flags & WILL != 0,
    })
}

/// Reads the protocol name: whether it is the old one.
#[inline]
fn name(r: &mut Reader<'_>) -> Result<bool, Stop> {
    let received = r.received();
    if begins_like(received, NAME) {
        r.take(NAME.len(), "protocol name")?;
        Ok(false)
    } else if begins_like(received, NAME_3_1) {
        r.take(NAME_3_1.len(), "protocol name")?;
        Ok(true)
    } else {
        let mut found = [0; 8];
        let shown = received.len().min(found.len());
        found[..shown].copy_from_slice(&received[..shown]);
        Err(ConnectError::BadProtocolName { found }.into())
    }
}

/// Whether `bytes`, as far as they go, are the beginning of `want` or `want` and more.
#[inline]
fn begins_like(bytes: &[u8], want: &[u8]) -> bool {
    let both = bytes.len().min(want.len());
    bytes[..both] == want[..both]
}

#[inline]
fn level(old_name: bool, level: u8) -> Result<(Level, bool), ConnectError> {
    let bridge = level & BRIDGE != 0;
    match (old_name, level) {
        (true, 0x03 | 0x83) => Ok((Level::V31, bridge)),
        (false, 0x04 | 0x84) => Ok((Level::V311, bridge)),
        (false, 0x05) => Ok((Level::V5, false)),
        (true, _) => Err(ConnectError::BadLevel {
            level,
            want: "3 behind the name MQIsdp (0x83 from a bridge)",
        }),
        (false, _) => Err(ConnectError::BadLevel {
            level,
            want: "4 or 5 behind the name MQTT (0x84 from a bridge)",
        }),
    }
}

#[inline]
fn check_flags(level: Level, flags: u8) -> Result<(), ConnectError> {
    // MQTT 3.1 does not use bit 0, and disregards the details of a will that is not there.
    let strict = level != Level::V31;
    let problem = if strict && flags & 0x01 != 0 {
        "the reserved bit is set, want 0"
    } else if flags & WILL != 0 && flags & WILL_QOS == WILL_QOS {
        "the will has QoS 3, want 0 to 2"
    } else if strict && flags & WILL == 0 && flags & WILL_DETAILS != 0 {
        "QoS or retain of a will without a will, want 0"
    } else if level != Level::V5 && flags & PASSWORD != 0 && flags & USERNAME == 0 {
        "a password without a user name, want both (or MQTT 5)"
    } else {
        return Ok(());
    };
    Err(ConnectError::BadConnectFlags { flags, problem })
}

fn check_empty_client_id(level: Level, clean_start: bool) -> Result<(), ConnectError> {
    let want = match level {
        Level::V31 => "at least one character in MQTT 3.1",
        Level::V311 if !clean_start => "one, or a clean session",
        Level::V311 | Level::V5 => return Ok(()),
    };
    Err(ConnectError::BadClientId { level, want })
}

fn will(r: &mut Reader<'_>, level: Level) -> Result<(), Stop> {
    if level == Level::V5 {
        let mut response = "";
        let list = r.section("properties of the will")?;
        walk(list, WILL_PROPERTIES, |id, value| {
            if let (property::RESPONSE_TOPIC, Value::Text(topic)) = (id, value) {
                response = topic;
            }
        })
        .map_err(|stop| Stop::property("will", stop))?;
        check_wildcards("response topic of the will", response)?;
    }
    let topic = r.text("will topic")?;
    if topic.is_empty() {
        let (what, problem) = ("will topic", "is empty, want at least one character");
        return Err(ConnectError::BadString { what, problem }.into());
    }
    check_wildcards("will topic", topic)?;
    r.binary("will message")?;
    Ok(())
}

fn check_wildcards(what: &'static str, topic: &str) -> Result<(), ConnectError> {
    if topic.bytes().any(|byte| matches!(byte, b'+' | b'#')) {
        let problem = "has a wildcard, want a topic name without + and #";
        return Err(ConnectError::BadString { what, problem });
    }
    Ok(())
}

/// Names what begins with something else than the first byte of a CONNECT.
#[cold]
fn stranger(first: u8, buf: &[u8]) -> ConnectError {
    const METHODS: [&[u8]; 9] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"HEAD ",
        b"OPTIONS ",
        b"DELETE ",
        b"CONNECT ",
        b"PATCH ",
        b"TRACE ",
    ];
    // Three bytes tell these words apart from the packets of MQTT that begin with the same letter.
    let begins = |word| buf.len() >= 3 && begins_like(buf, word);
    let (packet, flags) = (first >> 4, first & 0x0F);
    let flags_fit = match packet {
        3 => flags & 0x06 != 0x06,
        6 | 8 | 10 => flags == 2,
        _ => flags == 0,
    };
    if first == 0x16 && buf.get(1).is_none_or(|version| *version == 3) {
        ConnectError::TlsHello
    } else if METHODS.into_iter().any(begins) {
        ConnectError::Http
    } else if begins(b"PROXY ") {
        ConnectError::ProxyHeader { version: 1 }
    } else if begins(b"\r\n\r\n\0\r\nQUIT\n") {
        ConnectError::ProxyHeader { version: 2 }
    } else if packet == 1 {
        ConnectError::BadFlags { first }
    } else if packet > 1 && flags_fit {
        ConnectError::NotConnect { packet }
    } else {
        ConnectError::NotMqtt { first }
    }
}

/// Why the fields could not be read to the end.
enum Stop {
    Short,
    Bad(ConnectError),
}

impl Stop {
    fn property(of: &'static str, stop: property::Stop) -> Self {
        match stop {
            property::Stop::Short => Self::Short,
            property::Stop::Bad(problem) => Self::Bad(ConnectError::BadProperties { of, problem }),
        }
    }
}

impl From<ConnectError> for Stop {
    fn from(error: ConnectError) -> Self {
        Self::Bad(error)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Bad(match fault {
            Fault::Short => return Self::Short,
            Fault::PastEnd { what, needs, left } => ConnectError::PastEnd { what, needs, left },
            Fault::Text { what, problem } => ConnectError::BadString { what, problem },
            Fault::VarInt { what } => ConnectError::BadProperties {
                of: what.strip_prefix("properties of the ").unwrap_or(what),
                problem: PropertyError::BadLength,
            },
        })
    }
}

#[cfg(test)]
mod tests;
