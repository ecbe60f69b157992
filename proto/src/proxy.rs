//! The PROXY protocol: who the client is, said by the proxy in front of it.

use std::net::SocketAddr;

use v2::Tlvs;

pub mod v1;
pub mod v2;

/// The longest header that [`parse`] accepts, in bytes. Real ones have 16 to 600; RabbitMQ refuses 4000.
pub const MAX_LEN: usize = 4096;

/// What a buffer holds so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Parsed<'a> {
    /// Nothing seen rules a header out, but it is not whole.
    Incomplete {
        /// The least length in bytes, counted from the header's first byte, that a further look needs.
        need: usize,
    },
    /// A whole, valid header.
    Header(Header<'a>),
}

/// What a PROXY header says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Header<'a> {
    /// Bytes of the header; what lies behind them is the client's.
    pub len: usize,
    /// Source (the client) and destination (where it connected to), where both are internet addresses.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Whether the proxy speaks for itself (a health check), so that the connection's own addresses hold.
    pub local: bool,
    /// Version 2's further facts; empty in version 1.
    pub tlvs: Tlvs<'a>,
}

/// Why the bytes are no PROXY header. The proxy in front of us is at fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProxyError {
    /// Neither signature.
    #[error(
        "byte {at} is 0x{found:02X}, which begins neither \"PROXY \" nor the signature of PROXY v2"
    )]
    NoSignature {
        /// Where the signature breaks off, from 0.
        at: usize,
        /// The byte there.
        found: u8,
    },
    /// A line of version 1 that does not end in time.
    #[error("PROXY v1 line does not end within 107 bytes")]
    LineTooLong,
    /// A line of version 1 that is malformed.
    #[error("PROXY v1 line has a bad {what}, want {want}")]
    BadLine {
        /// The field.
        what: &'static str,
        /// What would be right.
        want: &'static str,
    },
    /// A version other than 2 behind the binary signature.
    #[error("PROXY version is {version}, want 2")]
    BadVersion {
        /// The version found.
        version: u8,
    },
    /// Neither LOCAL nor PROXY.
    #[error("PROXY v2 command is {command}, want 0 (LOCAL) or 1 (PROXY)")]
    BadCommand {
        /// The command found.
        command: u8,
    },
    /// A family or transport that version 2 does not define.
    #[error(
        "PROXY v2 family and transport are 0x{found:02X}, want 0x00, 0x11, 0x12, 0x21, 0x22, 0x31 or 0x32"
    )]
    BadFamily {
        /// The byte found.
        found: u8,
    },
    /// Longer than [`MAX_LEN`].
    #[error("PROXY v2 header has {length} bytes, the limit is {max}")]
    TooLong {
        /// Bytes of the header.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Too short for the addresses of its family.
    #[error("PROXY v2 header has {left} bytes for addresses, its family needs {needs}")]
    NoRoomForAddresses {
        /// Bytes needed.
        needs: usize,
        /// Bytes left.
        left: usize,
    },
    /// A TLV that runs out of its place.
    #[error("PROXY v2 TLV 0x{kind:02X} needs {needs} bytes, {left} are left")]
    TlvPastEnd {
        /// The TLV's type, 0 where even that is missing.
        kind: u8,
        /// Bytes needed.
        needs: usize,
        /// Bytes left.
        left: usize,
    },
    /// A TLV of a length that its type does not have.
    #[error("PROXY v2 TLV 0x{kind:02X} has {length} bytes, want {want}")]
    BadTlv {
        /// The TLV's type.
        kind: u8,
        /// Its length.
        length: usize,
        /// What would be right.
        want: &'static str,
    },
    /// The checksum does not fit the bytes.
    #[error("PROXY v2 CRC32C is 0x{found:08X}, the bytes give 0x{want:08X}")]
    BadChecksum {
        /// The checksum in the header.
        found: u32,
        /// The checksum of the header.
        want: u32,
    },
}

impl ProxyError {
    /// A short label for metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoSignature { .. } => "no_proxy_header",
            Self::LineTooLong | Self::BadLine { .. } => "bad_proxy_v1",
            Self::BadChecksum { .. } => "bad_proxy_checksum",
            _ => "bad_proxy_v2",
        }
    }
}

/// Reads the header of either version at the front of `buf`, which may hold less than it or more.
///
/// # Errors
///
/// As soon as the bytes seen rule out a header of at most [`MAX_LEN`] bytes.
pub fn parse(buf: &[u8]) -> Result<Parsed<'_>, ProxyError> {
    match buf.first() {
        None => Ok(Parsed::Incomplete { need: v1::SHORTEST }),
        Some(b'P') => v1::parse(buf),
        Some(_) => v2::parse(buf, MAX_LEN),
    }
}

/// Checks that `buf`, as far as it goes, begins with `signature`.
fn signature(buf: &[u8], signature: &[u8]) -> Result<(), ProxyError> {
    match buf.iter().zip(signature).position(|(a, b)| a != b) {
        Some(at) => Err(ProxyError::NoSignature { at, found: buf[at] }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
