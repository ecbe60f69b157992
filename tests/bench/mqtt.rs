//! The few MQTT 3.1.1 packets that the load and the stub broker exchange.

/// What a broker answers to a CONNECT that it accepts.
pub(crate) const CONNACK: [u8; 4] = [0x20, 0x02, 0x00, 0x00];
/// The client's farewell.
pub(crate) const DISCONNECT: [u8; 2] = [0xe0, 0x00];
/// The answer to a PINGREQ.
pub(crate) const PINGRESP: [u8; 2] = [0xd0, 0x00];
/// Every client id of the benchmark has this many bytes.
pub(crate) const CLIENT_ID_BYTES: usize = 16;

const TOPIC: &[u8] = b"bench";

/// A client id that no other connection of the run has: the visit's number and the connection's.
pub(crate) fn client_id(visit: u16, number: u64) -> String {
    format!("{visit:04x}{number:012x}")
}

/// A CONNECT with a clean session and a keepalive of ten minutes.
pub(crate) fn connect(client_id: &str) -> Vec<u8> {
    let id = client_id.as_bytes();
    let mut packet = vec![0x10, (12 + id.len()) as u8];
    packet.extend(b"\x00\x04MQTT\x04\x02\x02\x58");
    packet.extend((id.len() as u16).to_be_bytes());
    packet.extend(id);
    packet
}

/// A PUBLISH with QoS 0 that is `size` bytes long on the wire; `seed` decides its payload.
pub(crate) fn publish(size: usize, seed: u64) -> Vec<u8> {
    let mut packet = vec![0x30];
    // The length counts what follows it, and takes one byte per seven bits itself.
    let length_bytes = (1..=4).find(|&n| size - 1 - n < 1 << (7 * n)).unwrap_or(4);
    let mut left = size - 1 - length_bytes;
    for nth in 1..=length_bytes {
        let more = if nth < length_bytes { 0x80 } else { 0 };
        packet.push((left & 0x7f) as u8 | more);
        left >>= 7;
    }
    packet.extend((TOPIC.len() as u16).to_be_bytes());
    packet.extend(TOPIC);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while packet.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        packet.push(state as u8);
    }
    packet
}

/// The start of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Head {
    /// More bytes are needed to tell.
    Partial,
    /// No packet starts like this.
    Malformed,
    /// A packet of this type that is `size` bytes long, this start included.
    Packet { kind: u8, size: usize },
}

/// Reads type and length of the packet that `bytes` start with (MQTT 3.1.1, section 2.2).
pub(crate) fn head(bytes: &[u8]) -> Head {
    let Some((&first, rest)) = bytes.split_first() else {
        return Head::Partial;
    };
    if first == 0x00 {
        return Head::Malformed;
    }
    let mut left = 0;
    for (nth, &byte) in rest.iter().take(4).enumerate() {
        left |= usize::from(byte & 0x7f) << (7 * nth);
        if byte & 0x80 == 0 {
            return Head::Packet {
                kind: first >> 4,
                size: 2 + nth + left,
            };
        }
    }
    if rest.len() < 4 {
        Head::Partial
    } else {
        Head::Malformed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_has_the_size_asked_for_and_says_so() {
        for size in [
            64, 127, 128, 129, 130, 1024, 16_385, 16_387, 65_536, 3_000_000,
        ] {
            let packet = publish(size, 7);
            assert_eq!(packet.len(), size);
            assert_eq!(head(&packet), Head::Packet { kind: 3, size });
        }
    }

    #[test]
    fn a_connect_is_as_long_as_it_says_and_names_its_client() {
        let id = client_id(3, 0xabc);
        assert_eq!(id.len(), CLIENT_ID_BYTES);
        let packet = connect(&id);
        assert_eq!(
            head(&packet),
            Head::Packet {
                kind: 1,
                size: packet.len()
            }
        );
        assert!(packet.ends_with(id.as_bytes()));
    }

    #[test]
    fn a_start_that_is_cut_short_is_not_judged() {
        assert_eq!(head(&[]), Head::Partial);
        assert_eq!(head(&[0x30]), Head::Partial);
        assert_eq!(head(&[0x30, 0xff, 0xff]), Head::Partial);
        assert_eq!(head(&[0x30, 0xff, 0xff, 0xff, 0xff]), Head::Malformed);
        assert_eq!(head(&[0x00, 0x00]), Head::Malformed);
    }
}
