//! PROXY headers as a broker reads them, written down a second time on purpose.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The first 12 bytes of a PROXY header, version 2.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// A PROXY header as it came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// All of it.
    pub raw: Vec<u8>,
    /// 1 or 2.
    pub version: u8,
    /// Version 2: command LOCAL instead of PROXY.
    pub local: bool,
    /// Where the client is, as the header says.
    pub source: Option<SocketAddr>,
    /// Where the client connected to, as the header says.
    pub destination: Option<SocketAddr>,
    /// Version 2: the bytes after the addresses.
    pub tlvs: Vec<u8>,
}

/// `None`: more bytes are needed. `Some(None)`: no header begins here.
pub(crate) fn split_header(bytes: &[u8]) -> Option<Option<(Header, usize)>> {
    let common = bytes.len().min(12);
    if common == 0 {
        return None;
    }
    if bytes[..common] == SIGNATURE[..common] {
        let head = bytes.get(..16)?;
        let length = 16 + usize::from(u16::from_be_bytes([head[14], head[15]]));
        let raw = bytes.get(..length)?.to_vec();
        let (source, destination, tlvs) = addresses(head[13], &raw[16..]);
        return Some(Some((
            Header {
                version: 2,
                local: head[12] & 0x0f == 0,
                source,
                destination,
                tlvs,
                raw,
            },
            length,
        )));
    }
    let word = b"PROXY ";
    let common = bytes.len().min(word.len());
    if bytes[..common] == word[..common] {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
        let raw = bytes[..end].to_vec();
        let text = String::from_utf8_lossy(&raw).into_owned();
        let words: Vec<_> = text.split_whitespace().collect();
        let address = |ip: usize, port: usize| {
            let ip: IpAddr = words.get(ip)?.parse().ok()?;
            Some(SocketAddr::new(ip, words.get(port)?.parse().ok()?))
        };
        let header = Header {
            version: 1,
            local: false,
            source: address(2, 4),
            destination: address(3, 5),
            tlvs: Vec::new(),
            raw,
        };
        return Some(Some((header, end)));
    }
    Some(None)
}

fn addresses(family: u8, body: &[u8]) -> (Option<SocketAddr>, Option<SocketAddr>, Vec<u8>) {
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    match family {
        0x11 if body.len() >= 12 => {
            let ip = |at: usize| Ipv4Addr::new(body[at], body[at + 1], body[at + 2], body[at + 3]);
            (
                Some(SocketAddr::from((ip(0), port(8)))),
                Some(SocketAddr::from((ip(4), port(10)))),
                body[12..].to_vec(),
            )
        }
        0x21 if body.len() >= 36 => {
            let ip = |at: usize| {
                let octets: [u8; 16] = body[at..at + 16].try_into().expect("16 bytes");
                Ipv6Addr::from(octets)
            };
            (
                Some(SocketAddr::from((ip(0), port(32)))),
                Some(SocketAddr::from((ip(16), port(34)))),
                body[36..].to_vec(),
            )
        }
        _ => (None, None, body.to_vec()),
    }
}
