//! MQTT bytes for tests, written down a second time on purpose: were they the program's own, a fault would agree with
//! itself.

/// Packet types, as in the first half of the first byte.
pub mod kind {
    /// CONNECT
    pub const CONNECT: u8 = 1;
    /// CONNACK
    pub const CONNACK: u8 = 2;
    /// PUBLISH
    pub const PUBLISH: u8 = 3;
    /// PUBACK
    pub const PUBACK: u8 = 4;
    /// SUBSCRIBE
    pub const SUBSCRIBE: u8 = 8;
    /// SUBACK
    pub const SUBACK: u8 = 9;
    /// PINGREQ
    pub const PINGREQ: u8 = 12;
    /// PINGRESP
    pub const PINGRESP: u8 = 13;
    /// DISCONNECT
    pub const DISCONNECT: u8 = 14;
}

/// PINGREQ.
pub const PING: [u8; 2] = [0xc0, 0];
/// DISCONNECT of MQTT 3.1 and 3.1.1, and the short form of MQTT 5.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// A remaining length (MQTT 5, section 1.5.5).
#[must_use]
pub fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = u8::try_from(value % 128).expect("below 128");
        value /= 128;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

/// Bytes with their length in two bytes before them.
///
/// # Panics
///
/// For more than 65 535 bytes.
#[must_use]
pub fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a string of MQTT has at most 65535 bytes");
    [&length.to_be_bytes(), bytes].concat()
}

/// A packet from its first byte and body.
#[must_use]
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first][..], &varint(body.len()), body].concat()
}

/// PUBLISH with QoS 0 (no properties: for MQTT 3.1 and 3.1.1).
#[must_use]
pub fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    packet(0x30, &[&sized(topic.as_bytes())[..], payload].concat())
}

/// SUBSCRIBE with packet id 1 and QoS 1 (MQTT 3.1 and 3.1.1).
#[must_use]
pub fn subscribe(topic: &str) -> Vec<u8> {
    let body = [&[0, 1][..], &sized(topic.as_bytes()), &[1]].concat();
    packet(0x82, &body)
}

/// A CONNECT, part by part.
#[derive(Clone, Debug)]
pub struct Connect {
    /// `MQTT`, or `MQIsdp` for 3.1.
    pub protocol: Vec<u8>,
    /// 3, 4 or 5; with bit 7 for a bridge.
    pub level: u8,
    /// Client id.
    pub id: Vec<u8>,
    /// Clean session, clean start.
    pub clean: bool,
    /// Seconds.
    pub keepalive: u16,
    /// User name.
    pub username: Option<Vec<u8>>,
    /// Password.
    pub password: Option<Vec<u8>>,
    /// Topic and payload of the will.
    pub will: Option<(Vec<u8>, Vec<u8>)>,
    /// Raw properties of MQTT 5, without their length.
    pub properties: Vec<u8>,
    /// Flags to set beyond those that the parts call for: bit 0 is the reserved one.
    pub more_flags: u8,
}

impl Connect {
    /// MQTT 3.1.1, clean session, keepalive 60 s.
    #[must_use]
    pub fn v311(id: &str) -> Self {
        Self {
            protocol: b"MQTT".to_vec(),
            level: 4,
            id: id.as_bytes().to_vec(),
            clean: true,
            keepalive: 60,
            username: None,
            password: None,
            will: None,
            properties: Vec::new(),
            more_flags: 0,
        }
    }

    /// MQTT 3.1, else as [`Self::v311`].
    #[must_use]
    pub fn v31(id: &str) -> Self {
        Self {
            protocol: b"MQIsdp".to_vec(),
            level: 3,
            ..Self::v311(id)
        }
    }

    /// MQTT 5, else as [`Self::v311`].
    #[must_use]
    pub fn v5(id: &str) -> Self {
        Self {
            level: 5,
            ..Self::v311(id)
        }
    }

    /// Sets the bit by which Mosquitto's bridges say what they are.
    #[must_use]
    pub fn bridge(mut self) -> Self {
        self.level |= 0x80;
        self
    }

    /// Sets clean session.
    #[must_use]
    pub fn clean(mut self, clean: bool) -> Self {
        self.clean = clean;
        self
    }

    /// Sets the keepalive, in seconds.
    #[must_use]
    pub fn keepalive(mut self, seconds: u16) -> Self {
        self.keepalive = seconds;
        self
    }

    /// Sets user name and password.
    #[must_use]
    pub fn login(mut self, name: &str, password: &[u8]) -> Self {
        self.username = Some(name.as_bytes().to_vec());
        self.password = Some(password.to_vec());
        self
    }

    /// Sets a will.
    #[must_use]
    pub fn will(mut self, topic: &str, payload: &[u8]) -> Self {
        self.will = Some((topic.as_bytes().to_vec(), payload.to_vec()));
        self
    }

    /// The packet.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut flags = self.more_flags | (u8::from(self.clean) << 1);
        flags |= u8::from(self.will.is_some()) << 2;
        flags |= u8::from(self.password.is_some()) << 6;
        flags |= u8::from(self.username.is_some()) << 7;
        let is_v5 = self.level & 0x7f == 5;
        let mut body = sized(&self.protocol);
        body.extend([self.level, flags]);
        body.extend(self.keepalive.to_be_bytes());
        if is_v5 {
            body.extend(varint(self.properties.len()));
            body.extend(&self.properties);
        }
        body.extend(sized(&self.id));
        if let Some((topic, payload)) = &self.will {
            if is_v5 {
                body.push(0);
            }
            body.extend(sized(topic));
            body.extend(sized(payload));
        }
        for part in [&self.username, &self.password].into_iter().flatten() {
            body.extend(sized(part));
        }
        packet(0x10, &body)
    }
}

/// One whole packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packet {
    /// The first byte: type and flags.
    pub first: u8,
    /// What follows the remaining length.
    pub body: Vec<u8>,
}

impl Packet {
    /// The packet's type: see [`kind`].
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// Its bytes on the wire (with the shortest remaining length).
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        packet(self.first, &self.body)
    }

    /// The first whole packet of `bytes` and its length; `None` while it is incomplete.
    ///
    /// # Errors
    ///
    /// Where the remaining length has more than four bytes.
    pub fn split(bytes: &[u8]) -> Result<Option<(Self, usize)>, &'static str> {
        let mut length = 0usize;
        for place in 0..4 {
            let Some(&byte) = bytes.get(1 + place) else {
                return Ok(None);
            };
            length |= usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                let start = 2 + place;
                let Some(body) = bytes.get(start..start + length) else {
                    return Ok(None);
                };
                let packet = Self {
                    first: bytes[0],
                    body: body.to_vec(),
                };
                return Ok(Some((packet, start + length)));
            }
        }
        Err("remaining length of more than four bytes")
    }

    /// Reads a CONNECT's level, keepalive, clean flag and client id; `None` for anything else.
    #[must_use]
    pub fn as_connect(&self) -> Option<(u8, u16, bool, String)> {
        if self.kind() != kind::CONNECT {
            return None;
        }
        let (_, rest) = take_sized(&self.body)?;
        let (head, mut rest) = rest.split_at_checked(4)?;
        let (level, flags) = (head[0], head[1]);
        let keepalive = u16::from_be_bytes([head[2], head[3]]);
        if level & 0x7f == 5 {
            let (properties, skip) = take_varint(rest)?;
            rest = rest.get(skip + properties..)?;
        }
        let (id, _) = take_sized(rest)?;
        let id = String::from_utf8_lossy(id).into_owned();
        Some((level, keepalive, flags & 2 != 0, id))
    }
}

fn take_sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn take_varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (place, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, place + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_is_the_same_after_writing_and_reading() {
        for connect in [Connect::v31("a"), Connect::v311("bb"), Connect::v5("ccc")] {
            let bytes = connect.clone().keepalive(7).will("t", b"x").bytes();
            let (packet, length) = Packet::split(&bytes).expect("legal").expect("whole");
            assert_eq!(length, bytes.len());
            let (level, keepalive, clean, id) = packet.as_connect().expect("a CONNECT");
            assert_eq!((level, keepalive, clean), (connect.level, 7, true));
            assert_eq!(id.as_bytes(), connect.id);
        }
    }

    #[test]
    fn a_publish_of_the_reference_counts_the_bytes_of_the_standard() {
        // "topic" with four bytes: 2 + 2 + 5 + 4.
        assert_eq!(publish("topic", b"1234").len(), 13);
        assert_eq!(varint(321), [0xc1, 0x02]);
    }
}
