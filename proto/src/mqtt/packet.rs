//! Where packets end: follows a stream of MQTT by the lengths alone, in eight bytes of state.

/// The largest remaining length: four groups of seven bits.
pub const MAX_LENGTH: u32 = 0x0FFF_FFFF;

/// The first byte of a DISCONNECT.
pub const DISCONNECT: u8 = 0xE0;

/// A PINGREQ, whole.
pub const PINGREQ: [u8; 2] = [0xC0, 0];

/// The stream is not MQTT (any more).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "packet 0x{first:02X} has a remaining length of more than 4 bytes, so packets cannot be told apart"
)]
pub struct FramingError {
    /// The first byte of the packet with the bad length.
    pub first: u8,
}

/// Follows packet boundaries over any fragmentation.
///
/// ```text
/// boundary --first byte--> length --last length byte--> body --last byte--> boundary
///                            \--a fifth length byte--> off
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tracker {
    /// In `Length`: the bits read so far. In `Body`: bytes still to come.
    left: u32,
    phase: Phase,
    first: u8,
}

const _: () = assert!(size_of::<Tracker>() <= 8);

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
enum Phase {
    #[default]
    Boundary,
    /// One to four bytes of length are awaited; the variants are the shift of the next.
    Length0,
    Length7,
    Length14,
    Length21,
    Body,
    Off,
}

impl Phase {
    const ALL: [Self; 7] = [
        Self::Boundary,
        Self::Length0,
        Self::Length7,
        Self::Length14,
        Self::Length21,
        Self::Body,
        Self::Off,
    ];

    /// How far the next length byte is shifted, and the phase when yet another follows.
    fn length(self) -> Option<(u32, Self)> {
        match self {
            Self::Length0 => Some((0, Self::Length7)),
            Self::Length7 => Some((7, Self::Length14)),
            Self::Length14 => Some((14, Self::Length21)),
            Self::Length21 => Some((21, Self::Off)),
            Self::Boundary | Self::Body | Self::Off => None,
        }
    }
}

impl Tracker {
    /// A tracker that stands before the first byte of a packet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            left: 0,
            phase: Phase::Boundary,
            first: 0,
        }
    }

    /// Follows `bytes`, the next of the stream; `on_packet` hears the first byte of each packet that they complete.
    ///
    /// Thus a DISCONNECT is reported when its last byte was seen, and a packet cut in the middle never is.
    ///
    /// # Errors
    ///
    /// A remaining length of more than four bytes. It is reported once; from then on the tracker is
    /// [off](Self::is_off), follows nothing and is at no boundary.
    #[inline]
    pub fn advance(
        &mut self,
        bytes: &[u8],
        mut on_packet: impl FnMut(u8),
    ) -> Result<(), FramingError> {
        let mut rest = bytes;
        if self.phase != Phase::Boundary {
            rest = self.resume(rest, &mut on_packet)?;
        }
        loop {
            // The common case stands alone: whole packets shorter than 128 bytes.
            while let [first, length, behind @ ..] = rest
                && *length < 0x80
                && let Some(next) = behind.get(usize::from(*length)..)
            {
                on_packet(*first);
                rest = next;
            }
            let [first, behind @ ..] = rest else {
                return Ok(());
            };
            self.first = *first;
            self.phase = Phase::Length0;
            rest = self.resume(behind, &mut on_packet)?;
        }
    }

    /// Goes on inside a packet and returns what lies behind it.
    fn resume<'a>(
        &mut self,
        mut rest: &'a [u8],
        on_packet: &mut impl FnMut(u8),
    ) -> Result<&'a [u8], FramingError> {
        while let Some((shift, more)) = self.phase.length() {
            let [byte, behind @ ..] = rest else {
                return Ok(rest);
            };
            rest = behind;
            self.left |= u32::from(byte & 0x7F) << shift;
            self.phase = if byte & 0x80 == 0 { Phase::Body } else { more };
            if self.phase == Phase::Off {
                return Err(FramingError { first: self.first });
            }
        }
        if self.phase != Phase::Body {
            return Ok(&[]);
        }
        match rest.get(self.left as usize..) {
            Some(next) => {
                on_packet(self.first);
                *self = Self::new();
                Ok(next)
            }
            None => {
                self.left -= rest.len() as u32;
                Ok(&[])
            }
        }
    }

    /// Whether the last byte seen ended a packet, so that another packet may be put in here.
    #[inline]
    #[must_use]
    pub fn at_boundary(self) -> bool {
        self.phase == Phase::Boundary
    }

    /// Whether a bad length ended the tracking.
    #[must_use]
    pub fn is_off(self) -> bool {
        self.phase == Phase::Off
    }

    /// The state as one number, for a record that travels to another process.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        u64::from(self.left) | u64::from(self.first) << 32 | (self.phase as u64) << 40
    }

    /// The tracker that [`Self::to_bits`] described, or nothing if the number describes none.
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Self> {
        let phase = *Phase::ALL.get(usize::try_from(bits >> 40).ok()?)?;
        let left = bits as u32;
        let bound = match phase {
            Phase::Boundary | Phase::Length0 => 1,
            Phase::Length7 => 1 << 7,
            Phase::Length14 => 1 << 14,
            Phase::Length21 => 1 << 21,
            Phase::Body | Phase::Off => MAX_LENGTH + 1,
        };
        let done = phase == Phase::Body && left == 0;
        (left < bound && !done).then_some(Self {
            left,
            phase,
            first: (bits >> 32) as u8,
        })
    }
}

#[cfg(test)]
mod tests;
