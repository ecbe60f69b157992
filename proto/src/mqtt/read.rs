//! A reader that tells bytes that have not come yet from bytes that can never come.

/// Why a field could not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// The field lies in the packet, but its bytes were not received yet.
    Short,
    /// The field would run beyond the end of the packet or section.
    PastEnd {
        what: &'static str,
        needs: usize,
        left: usize,
    },
    /// A string that MQTT forbids.
    Text {
        what: &'static str,
        problem: &'static str,
    },
    /// A variable byte integer of more than four bytes, or longer than it need be.
    VarInt { what: &'static str },
}

/// Reads one packet or one section of it: `bytes` is what was received, `end` where the packet ends.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    /// `bytes` begins with the packet's first byte and may be shorter than `end`, the packet's whole length.
    #[inline]
    pub(super) fn new(bytes: &'a [u8], at: usize, end: usize) -> Self {
        Self { bytes, at, end }
    }

    /// Bytes of the packet that were not read yet, received or not.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.end - self.at
    }

    /// The unread bytes that were received.
    #[inline]
    pub(super) fn received(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Fault> {
        if count > self.left() {
            return Err(Fault::PastEnd {
                what,
                needs: count,
                left: self.left(),
            });
        }
        let to = self.at + count;
        let taken = self.bytes.get(self.at..to).ok_or(Fault::Short)?;
        self.at = to;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Fault> {
        let taken = self.take(N, what)?;
        Ok(taken.try_into().expect("take gives as many as were asked"))
    }

    #[inline]
    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, Fault> {
        Ok(self.array::<1>(what)?[0])
    }

    #[inline]
    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, Fault> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    #[inline]
    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, Fault> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    /// Binary data behind its two-byte length.
    #[inline]
    pub(super) fn binary(&mut self, what: &'static str) -> Result<&'a [u8], Fault> {
        let length = self.u16(what)?;
        self.take(length.into(), what)
    }

    /// A UTF-8 string behind its two-byte length, without U+0000 (MQTT 5, section 1.5.4).
    #[inline]
    pub(super) fn text(&mut self, what: &'static str) -> Result<&'a str, Fault> {
        let bytes = self.binary(what)?;
        let problem = match std::str::from_utf8(bytes) {
            Ok(text) if !bytes.contains(&0) => return Ok(text),
            Ok(_) => "has U+0000 in it",
            Err(_) => "is not UTF-8",
        };
        Err(Fault::Text { what, problem })
    }

    /// A variable byte integer in its shortest form (MQTT 5, section 1.5.5).
    #[inline]
    pub(super) fn var_int(&mut self, what: &'static str) -> Result<u32, Fault> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8(what)?;
            value |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(Fault::VarInt { what })
    }

    /// A section behind a variable byte integer, such as the properties: its reader ends where the section does.
    #[inline]
    pub(super) fn section(&mut self, what: &'static str) -> Result<Self, Fault> {
        let length = self.var_int(what)? as usize;
        if length > self.left() {
            return Err(Fault::PastEnd {
                what,
                needs: length,
                left: self.left(),
            });
        }
        let end = self.at + length;
        let section = Self { end, ..*self };
        self.at = end;
        Ok(section)
    }
}

/// The remaining length of a packet's fixed header.
pub(super) enum Remaining {
    /// More bytes of it must come.
    Incomplete,
    /// The length, and how many bytes it took.
    Known { length: u32, took: usize },
    /// A fifth byte would follow.
    Bad,
}

/// Reads the remaining length behind the first byte (MQTT 3.1.1, section 2.2.3).
///
/// A length padded with zero groups is accepted, as brokers do: small devices send it, and it means one thing only.
#[inline]
pub(super) fn remaining(bytes: &[u8]) -> Remaining {
    let mut length = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        length |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Remaining::Known {
                length,
                took: index + 1,
            };
        }
    }
    if bytes.len() < 4 {
        Remaining::Incomplete
    } else {
        Remaining::Bad
    }
}
