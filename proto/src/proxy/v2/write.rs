//! Writing a header of version 2, within the number of bytes that its receiver takes.

use std::net::SocketAddr;

use super::{
    Command, HEAD, MAX_UNIQUE_ID, SIGNATURE, SSL_CIPHER, SSL_CN, SSL_KEY_ALG, SSL_SIG_ALG,
    SSL_VERSION, Ssl, TLV_ALPN, TLV_AUTHORITY, TLV_CRC32C, TLV_SSL, TLV_UNIQUE_ID, same_family,
};

const CRC_LEN: usize = 7;

/// A header to be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header<'a> {
    /// Whom it speaks of.
    pub command: Command,
    /// Source (the client) and destination (where it connected to); without them the family is UNSPEC, which all
    /// receivers tried but nginx refuse together with [`Command::Proxy`].
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// What else is said.
    pub facts: Facts<'a>,
}

/// The TLVs of a header.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Facts<'a> {
    /// Whether to add a checksum over the header.
    pub crc32c: bool,
    /// The application protocol of the client's TLS, as `mqtt`.
    pub alpn: Option<&'a [u8]>,
    /// The name that the client asked for (SNI).
    pub authority: Option<&'a [u8]>,
    /// An id of the connection, at most 128 bytes.
    pub unique_id: Option<&'a [u8]>,
    /// The client's TLS; the type, bits and verification are never dropped.
    pub ssl: Option<Ssl<'a>>,
}

/// What was left out of a header to keep it within its limit.
///
/// Things go in this order: cipher, signature algorithm, key algorithm, unique id, authority, ALPN, TLS version, checksum,
/// and last the common name. None is ever cut: half a name is another name.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Dropped(u16);

impl Dropped {
    const CIPHER: u16 = 1 << 0;
    const SIG_ALG: u16 = 1 << 1;
    const KEY_ALG: u16 = 1 << 2;
    const UNIQUE_ID: u16 = 1 << 3;
    const AUTHORITY: u16 = 1 << 4;
    const ALPN: u16 = 1 << 5;
    const VERSION: u16 = 1 << 6;
    const CRC32C: u16 = 1 << 7;
    const CN: u16 = 1 << 8;
    const NAMES: [&'static str; 9] = [
        "cipher",
        "signature algorithm",
        "key algorithm",
        "unique id",
        "authority",
        "alpn",
        "tls version",
        "crc32c",
        "common name",
    ];

    /// Whether all was written.
    #[inline]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the common name was left out, so that a broker that asks for it will refuse the client.
    #[must_use]
    pub fn common_name(self) -> bool {
        self.0 & Self::CN != 0
    }

    /// The names of what was left out, for a log line.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .enumerate()
            .filter_map(move |(bit, name)| (self.0 & (1 << bit) != 0).then_some(name))
    }
}

impl Header<'_> {
    /// Appends the header; what follows its first 16 bytes is at most `limit` bytes long
    /// ([`SAFE_LIMIT`](super::SAFE_LIMIT) suits every broker), or as long as addresses and the bare TLS TLV are.
    ///
    /// Send it in one write with what follows: receivers drop a header that comes in pieces.
    pub fn encode(&self, limit: usize, out: &mut Vec<u8>) -> Dropped {
        let addresses = match self.addresses {
            None => 0,
            Some((src, dst)) if same_family(src, dst).is_ok() => 12,
            Some(_) => 36,
        };
        let (facts, dropped) = self.facts.fit(limit.saturating_sub(addresses));
        let length = addresses + facts.len();
        let start = out.len();
        out.reserve(HEAD + length);
        out.extend_from_slice(&SIGNATURE);
        out.push(match self.command {
            Command::Local => 0x20,
            Command::Proxy => 0x21,
        });
        put_addresses(out, self.addresses, length as u16);
        let checksum_at = facts.put(out);
        if let Some(at) = checksum_at {
            let checksum = crc32c::crc32c(&out[start..]);
            out[at..at + 4].copy_from_slice(&checksum.to_be_bytes());
        }
        debug_assert_eq!(out.len() - start, HEAD + length);
        dropped
    }
}

/// Appends family, length and addresses.
fn put_addresses(out: &mut Vec<u8>, addresses: Option<(SocketAddr, SocketAddr)>, length: u16) {
    let length = length.to_be_bytes();
    let Some((src, dst)) = addresses else {
        out.extend_from_slice(&[0x00, length[0], length[1]]);
        return;
    };
    match same_family(src, dst) {
        Ok((from, to)) => {
            out.extend_from_slice(&[0x11, length[0], length[1]]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        Err((from, to)) => {
            out.extend_from_slice(&[0x21, length[0], length[1]]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
    }
    out.extend_from_slice(&src.port().to_be_bytes());
    out.extend_from_slice(&dst.port().to_be_bytes());
}

impl Facts<'_> {
    /// Drops what does not fit into `limit` bytes, in the order that [`Dropped`] documents.
    fn fit(mut self, limit: usize) -> (Self, Dropped) {
        // The length field of the header has 16 bits, and addresses need 36 of its bytes.
        let limit = limit.min(usize::from(u16::MAX) - 36);
        let mut dropped = Dropped::default();
        if self.unique_id.is_some_and(|id| id.len() > MAX_UNIQUE_ID) {
            self.unique_id = None;
            dropped.0 |= Dropped::UNIQUE_ID;
        }
        for bit in 0..Dropped::NAMES.len() {
            if self.len() <= limit {
                break;
            }
            if self.clear(1 << bit) {
                dropped.0 |= 1 << bit;
            }
        }
        (self, dropped)
    }

    /// Takes one fact out; whether it was there.
    fn clear(&mut self, bit: u16) -> bool {
        let of_ssl = match bit {
            Dropped::UNIQUE_ID => return self.unique_id.take().is_some(),
            Dropped::AUTHORITY => return self.authority.take().is_some(),
            Dropped::ALPN => return self.alpn.take().is_some(),
            Dropped::CRC32C => return std::mem::take(&mut self.crc32c),
            of_ssl => of_ssl,
        };
        let Some(ssl) = &mut self.ssl else {
            return false;
        };
        let field = match of_ssl {
            Dropped::CIPHER => &mut ssl.cipher,
            Dropped::SIG_ALG => &mut ssl.sig_alg,
            Dropped::KEY_ALG => &mut ssl.key_alg,
            Dropped::VERSION => &mut ssl.version,
            _ => &mut ssl.cn,
        };
        field.take().is_some()
    }

    /// Bytes of all TLVs.
    fn len(&self) -> usize {
        let crc = if self.crc32c { CRC_LEN } else { 0 };
        let plain = [self.alpn, self.authority, self.unique_id];
        let ssl = self.ssl.as_ref().map_or(0, |ssl| 3 + ssl.len());
        crc + plain.into_iter().map(tlv_len).sum::<usize>() + ssl
    }

    /// Appends all TLVs, in the order that HAProxy writes them; returns where the checksum belongs.
    fn put(&self, out: &mut Vec<u8>) -> Option<usize> {
        let mut checksum_at = None;
        if self.crc32c {
            put_tlv(out, TLV_CRC32C, Some(&[0; 4]));
            checksum_at = Some(out.len() - 4);
        }
        put_tlv(out, TLV_ALPN, self.alpn);
        put_tlv(out, TLV_AUTHORITY, self.authority);
        put_tlv(out, TLV_UNIQUE_ID, self.unique_id);
        if let Some(ssl) = &self.ssl {
            out.push(TLV_SSL);
            out.extend_from_slice(&(ssl.len() as u16).to_be_bytes());
            out.push(ssl.client);
            out.extend_from_slice(&ssl.verify.to_be_bytes());
            for (kind, value) in ssl.fields() {
                put_tlv(out, kind, value);
            }
        }
        checksum_at
    }
}

impl<'a> Ssl<'a> {
    fn fields(&self) -> [(u8, Option<&'a [u8]>); 5] {
        [
            (SSL_VERSION, self.version),
            (SSL_CN, self.cn),
            (SSL_KEY_ALG, self.key_alg),
            (SSL_SIG_ALG, self.sig_alg),
            (SSL_CIPHER, self.cipher),
        ]
    }

    /// Bytes of the TLV's value.
    fn len(&self) -> usize {
        let fields = self.fields().into_iter();
        5 + fields.map(|(_, value)| tlv_len(value)).sum::<usize>()
    }
}

fn tlv_len(value: Option<&[u8]>) -> usize {
    value.map_or(0, |value| 3 + value.len())
}

fn put_tlv(out: &mut Vec<u8>, kind: u8, value: Option<&[u8]>) {
    if let Some(value) = value {
        out.push(kind);
        out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        out.extend_from_slice(value);
    }
}
