//! PROXY protocol version 2: a binary header with addresses and facts about the client's TLS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

mod read;
mod write;

pub use read::{Tlv, Tlvs, parse};
pub use write::{Dropped, Facts, Header};

/// The twelve bytes that no other protocol begins with.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length.
const HEAD: usize = 16;

/// The longest rest (all behind the first 16 bytes) that every receiver tried takes: mosquitto refuses more.
pub const SAFE_LIMIT: usize = 500;

const TLV_ALPN: u8 = 0x01;
const TLV_AUTHORITY: u8 = 0x02;
const TLV_CRC32C: u8 = 0x03;
const TLV_UNIQUE_ID: u8 = 0x05;
const TLV_SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_CN: u8 = 0x22;
const SSL_CIPHER: u8 = 0x23;
const SSL_SIG_ALG: u8 = 0x24;
const SSL_KEY_ALG: u8 = 0x25;

/// The client came over TLS.
pub const CLIENT_SSL: u8 = 0x01;
/// The client showed a certificate on this connection.
pub const CLIENT_CERT_CONN: u8 = 0x02;
/// The client showed a certificate in this TLS session, perhaps on an earlier connection.
pub const CLIENT_CERT_SESS: u8 = 0x04;

/// Bytes of a unique id at most (section 2.2.5 of the specification).
pub const MAX_UNIQUE_ID: usize = 128;

/// Whether the header speaks of a client or of the proxy itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// The proxy's own connection, such as a health check: receivers use the connection's addresses.
    ///
    /// Mosquitto and RabbitMQ close on it.
    Local,
    /// A client's connection.
    Proxy,
}

/// What is known of the client's TLS.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ssl<'a> {
    /// [`CLIENT_SSL`], [`CLIENT_CERT_CONN`] and [`CLIENT_CERT_SESS`].
    ///
    /// A resumed session has no certificate on the connection, but must still say that it had one in the session:
    /// mosquitto's `require_certificate` asks for that bit.
    pub client: u8,
    /// 0 if a certificate was shown and verified.
    pub verify: u32,
    /// As `TLSv1.3`.
    pub version: Option<&'a [u8]>,
    /// The common name of the certificate, in UTF-8.
    pub cn: Option<&'a [u8]>,
    /// As `ECDHE-RSA-AES128-GCM-SHA256`.
    pub cipher: Option<&'a [u8]>,
    /// As `SHA256`.
    pub sig_alg: Option<&'a [u8]>,
    /// As `RSA2048`.
    pub key_alg: Option<&'a [u8]>,
}

/// Brings both addresses to one family: IPv4 where both are it or map it, else IPv6.
pub(super) fn same_family(
    src: SocketAddr,
    dst: SocketAddr,
) -> Result<(Ipv4Addr, Ipv4Addr), (Ipv6Addr, Ipv6Addr)> {
    match (src.ip().to_canonical(), dst.ip().to_canonical()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Ok((src, dst)),
        (src, dst) => Err((as_v6(src), as_v6(dst))),
    }
}

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests;
