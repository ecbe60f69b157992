//! The few MQTT packets that toy brokers and toy clients exchange.

use std::io;

use standfast_proto::mqtt::Level;
use standfast_proto::mqtt::packet::MAX_LENGTH;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longer packets end the connection: these are toys.
pub(super) const MAX_PACKET: usize = 64 * 1024;

/// Kinds of packets: the upper half of the first byte.
pub(super) mod kind {
    pub const CONNACK: u8 = 2;
    pub const PUBLISH: u8 = 3;
    pub const PUBACK: u8 = 4;
    pub const SUBSCRIBE: u8 = 8;
    pub const UNSUBSCRIBE: u8 = 10;
    pub const PINGREQ: u8 = 12;
    pub const DISCONNECT: u8 = 14;
}

/// A PINGRESP, whole.
pub(super) const PINGRESP: [u8; 2] = [0xD0, 0];

/// A DISCONNECT without a reason, whole.
pub(super) const DISCONNECT: [u8; 2] = [0xE0, 0];

/// One packet as it came.
#[derive(Debug)]
pub(super) struct Packet {
    /// All its bytes.
    pub raw: Vec<u8>,
    body: usize,
}

impl Packet {
    /// One of [`kind`].
    pub fn kind(&self) -> u8 {
        self.raw[0] >> 4
    }

    /// What stands behind the fixed header.
    pub fn body(&self) -> Fields<'_> {
        Fields(&self.raw[self.body..])
    }
}

/// Cuts a stream into packets. Dropping a pending [`Self::next`] loses nothing.
#[derive(Debug)]
pub(super) struct Packets<R> {
    from: R,
    pending: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Packets<R> {
    pub fn new(from: R) -> Self {
        let pending = Vec::new();
        Self { from, pending }
    }

    /// The next packet; `None` at the end of the stream.
    pub async fn next(&mut self) -> io::Result<Option<Packet>> {
        loop {
            if let Some((body, length)) = extent(&self.pending)? {
                let behind = self.pending.split_off(length);
                let raw = std::mem::replace(&mut self.pending, behind);
                return Ok(Some(Packet { raw, body }));
            }
            if self.from.read_buf(&mut self.pending).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Where the body of the first packet begins and where the packet ends, once all of it is there.
fn extent(bytes: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let mut left = 0;
    for (place, byte) in bytes.iter().skip(1).take(4).enumerate() {
        left |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            let body = place + 2;
            let length = body + left;
            if length > MAX_PACKET {
                return Err(bad("packet of more than 64 KiB"));
            }
            return Ok((bytes.len() >= length).then_some((body, length)));
        }
    }
    if bytes.len() > 4 {
        return Err(bad("remaining length of more than 4 bytes"));
    }
    Ok(None)
}

/// What ends a connection of a toy.
pub(super) fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The fields of a packet, read from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| bad("a field runs past the end of its packet"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn u8(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub fn u16(&mut self) -> io::Result<u16> {
        let taken = self.take(2)?;
        Ok(u16::from_be_bytes([taken[0], taken[1]]))
    }

    pub fn text(&mut self) -> io::Result<&'a str> {
        let length = self.u16()?;
        std::str::from_utf8(self.take(length.into())?).map_err(|_| bad("a string is not UTF-8"))
    }

    /// Passes over the properties of MQTT 5.
    pub fn skip_properties(&mut self, level: Level) -> io::Result<()> {
        if level != Level::V5 {
            return Ok(());
        }
        let mut length = 0;
        for place in 0..4 {
            let byte = self.u8()?;
            length |= usize::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                return self.take(length).map(|_| ());
            }
        }
        Err(bad("length of properties of more than 4 bytes"))
    }
}

/// A message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Message<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    /// 0 or 1.
    pub qos: u8,
    /// With QoS 1; else 0.
    pub id: u16,
}

impl<'a> Message<'a> {
    /// Reads a PUBLISH.
    pub fn read(packet: &'a Packet, level: Level) -> io::Result<Self> {
        let qos = packet.raw[0] >> 1 & 3;
        let mut fields = packet.body();
        let topic = fields.text()?;
        if topic.is_empty() || topic.contains(['+', '#', '\0']) {
            return Err(bad("that is no topic to publish to"));
        }
        let id = match qos {
            0 => 0,
            1 => fields.u16()?,
            _ => return Err(bad("QoS 2 is more than a toy does")),
        };
        fields.skip_properties(level)?;
        let payload = fields.rest();
        Ok(Self {
            topic,
            payload,
            qos,
            id,
        })
    }

    /// The PUBLISH, without properties.
    pub fn bytes(&self, level: Level) -> Vec<u8> {
        let mut body = Vec::with_capacity(5 + self.topic.len() + self.payload.len());
        put_text(&mut body, self.topic);
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        put_no_properties(&mut body, level);
        body.extend(self.payload);
        packet(kind::PUBLISH << 4 | self.qos << 1, &body)
    }
}

/// A packet with this first byte.
pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    debug_assert!(body.len() <= MAX_LENGTH as usize);
    let mut bytes = vec![first];
    let mut left = body.len();
    while left >= 0x80 {
        bytes.push((left & 0x7F) as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes.extend(body);
    bytes
}

/// A SUBSCRIBE to these filters with QoS 1.
pub(super) fn subscribe(level: Level, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    put_no_properties(&mut body, level);
    for filter in filters {
        put_text(&mut body, filter);
        body.push(1);
    }
    packet(0x82, &body)
}

/// A packet that answers the one with this id: SUBACK, UNSUBACK.
pub(super) fn answer(first: u8, level: Level, id: u16, codes: &[u8]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    put_no_properties(&mut body, level);
    body.extend(codes);
    packet(first, &body)
}

/// A PUBACK; its short form is the same in all levels.
pub(super) fn puback(id: u16) -> Vec<u8> {
    packet(kind::PUBACK << 4, &id.to_be_bytes())
}

/// Topics and ids here are the toys' own or came in a packet of at most 64 KiB, so their length fits.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(&text.as_bytes()[..length.into()]);
}

fn put_no_properties(out: &mut Vec<u8>, level: Level) {
    if level == Level::V5 {
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packets_are_found_in_a_stream_however_it_is_cut() {
        let long = Message {
            topic: "a/b",
            payload: &[7; 300],
            qos: 1,
            id: 9,
        };
        let mut bytes = long.bytes(Level::V5);
        bytes.extend(PINGRESP);
        for size in 1..bytes.len() {
            let mut stream = in_pieces(&bytes, size);
            let first = stream.next().await.unwrap().unwrap();
            assert_eq!(Message::read(&first, Level::V5).unwrap(), long);
            assert_eq!(stream.next().await.unwrap().unwrap().raw, PINGRESP);
            assert!(stream.next().await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn what_no_toy_can_take_is_an_error() {
        for bytes in [
            &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1][..],
            &[0x30, 0x81, 0x80, 0x04],
        ] {
            assert!(Packets::new(bytes).next().await.is_err(), "{bytes:x?}");
        }
        for body in [
            &[0, 9, b'a'][..],
            &[0, 0],
            &[0, 1, b'#'],
            &[0, 1, 0xFF],
            &[],
        ] {
            let raw = packet(0x30, body);
            let read = Packets::new(&raw[..]).next().await.unwrap().unwrap();
            assert!(Message::read(&read, Level::V311).is_err(), "{body:x?}");
        }
    }

    /// A stream that gives `size` bytes at a time.
    fn in_pieces(bytes: &[u8], size: usize) -> Packets<impl AsyncRead + Unpin> {
        let (mut write, read) = tokio::io::duplex(size);
        let bytes = bytes.to_vec();
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            let _ = write.write_all(&bytes).await;
        });
        Packets::new(read)
    }
}
