//! Reading a header of version 2.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::super::{Header, Parsed, ProxyError, signature};
use super::{
    HEAD, MAX_UNIQUE_ID, SIGNATURE, SSL_CIPHER, SSL_CN, SSL_KEY_ALG, SSL_SIG_ALG, SSL_VERSION, Ssl,
    TLV_ALPN, TLV_AUTHORITY, TLV_CRC32C, TLV_SSL, TLV_UNIQUE_ID,
};

/// Reads the header at the front of `buf`; `max` bounds the whole of it in bytes.
///
/// TLVs are checked for their lengths, and the checksum if there is one; unknown TLVs are passed over.
///
/// # Errors
///
/// As soon as the bytes seen rule out a header of at most `max` bytes.
pub fn parse(buf: &[u8], max: usize) -> Result<Parsed<'_>, ProxyError> {
    signature(buf, &SIGNATURE)?;
    let local = match buf.get(12) {
        Some(0x20) => true,
        Some(0x21) | None => false,
        Some(byte) if byte >> 4 != 2 => {
            let version = byte >> 4;
            return Err(ProxyError::BadVersion { version });
        }
        Some(byte) => {
            let command = byte & 0x0F;
            return Err(ProxyError::BadCommand { command });
        }
    };
    let family = buf.get(13).copied().unwrap_or_default();
    let addresses = match family {
        // A receiver must take LOCAL whatever family it names, and ignore the addresses.
        _ if local => 0,
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        found => return Err(ProxyError::BadFamily { found }),
    };
    let Some(length) = buf.get(14..HEAD) else {
        return Ok(Parsed::Incomplete { need: HEAD });
    };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length < addresses {
        let (needs, left) = (addresses, length);
        return Err(ProxyError::NoRoomForAddresses { needs, left });
    }
    let len = HEAD + length;
    if len > max {
        return Err(ProxyError::TooLong { length: len, max });
    }
    let Some(whole) = buf.get(..len) else {
        return Ok(Parsed::Incomplete { need: len });
    };
    let (addresses, rest) = whole[HEAD..].split_at(addresses);
    // The addresses of a LOCAL header are skipped by not looking at what follows its first 16 bytes.
    let tlvs = Tlvs(if local { &[] } else { rest });
    tlvs.check(whole)?;
    Ok(Parsed::Header(Header {
        len,
        addresses: read_addresses(family, addresses),
        local,
        tlvs,
    }))
}

fn read_addresses(family: u8, bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let port = |at: usize| Some(u16::from_be_bytes(array(bytes, at)?));
    match (family, bytes.len()) {
        (0x11 | 0x12, 12) => {
            let ip = |at| Some(Ipv4Addr::from(array::<4>(bytes, at)?));
            Some(((ip(0)?, port(8)?).into(), (ip(4)?, port(10)?).into()))
        }
        (0x21 | 0x22, 36) => {
            let ip = |at| Some(Ipv6Addr::from(array::<16>(bytes, at)?));
            Some(((ip(0)?, port(32)?).into(), (ip(16)?, port(34)?).into()))
        }
        _ => None,
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// One fact of a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tlv<'a> {
    /// Its type.
    pub kind: u8,
    /// Its value.
    pub value: &'a [u8],
}

/// The facts of a header, read as they are asked for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    /// The application protocol of the client's TLS.
    #[must_use]
    pub fn alpn(self) -> Option<&'a [u8]> {
        self.value_of(TLV_ALPN)
    }

    /// The name that the client asked for.
    #[must_use]
    pub fn authority(self) -> Option<&'a [u8]> {
        self.value_of(TLV_AUTHORITY)
    }

    /// The sender's id of the connection, at most 128 bytes.
    #[must_use]
    pub fn unique_id(self) -> Option<&'a [u8]> {
        self.value_of(TLV_UNIQUE_ID)
    }

    /// The client's TLS.
    #[must_use]
    pub fn ssl(self) -> Option<Ssl<'a>> {
        let (fixed, rest) = self.value_of(TLV_SSL)?.split_first_chunk::<5>()?;
        let [client, verify @ ..] = *fixed;
        let fields = Tlvs(rest);
        Some(Ssl {
            client,
            verify: u32::from_be_bytes(verify),
            version: fields.value_of(SSL_VERSION),
            cn: fields.value_of(SSL_CN),
            cipher: fields.value_of(SSL_CIPHER),
            sig_alg: fields.value_of(SSL_SIG_ALG),
            key_alg: fields.value_of(SSL_KEY_ALG),
        })
    }

    /// The value of the first TLV of this type.
    #[must_use]
    pub fn value_of(mut self, kind: u8) -> Option<&'a [u8]> {
        self.find_map(|tlv| (tlv.kind == kind).then_some(tlv.value))
    }

    /// Checks every length, and the checksum over `header`.
    fn check(self, header: &[u8]) -> Result<(), ProxyError> {
        let mut rest = self;
        while !rest.0.is_empty() {
            let Tlv { kind, value } = rest.split_first()?;
            let length = value.len();
            let bad = |want| Err(ProxyError::BadTlv { kind, length, want });
            match kind {
                TLV_CRC32C => {
                    let Ok(found) = value.try_into().map(u32::from_be_bytes) else {
                        return bad("4 bytes");
                    };
                    check_sum(header, header.len() - rest.0.len() - length, found)?;
                }
                TLV_UNIQUE_ID if length > MAX_UNIQUE_ID => return bad("at most 128 bytes"),
                TLV_SSL => {
                    let Some((_, fields)) = value.split_first_chunk::<5>() else {
                        return bad("at least 5 bytes");
                    };
                    let mut fields = Tlvs(fields);
                    while !fields.0.is_empty() {
                        fields.split_first()?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn split_first(&mut self) -> Result<Tlv<'a>, ProxyError> {
        let Some((&[kind, high, low], rest)) = self.0.split_first_chunk::<3>() else {
            return Err(ProxyError::TlvPastEnd {
                kind: self.0.first().copied().unwrap_or_default(),
                needs: 3,
                left: self.0.len(),
            });
        };
        let needs = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, rest)) = rest.split_at_checked(needs) else {
            let left = rest.len();
            return Err(ProxyError::TlvPastEnd { kind, needs, left });
        };
        self.0 = rest;
        Ok(Tlv { kind, value })
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    /// The next fact. All lengths were checked when the header was parsed, so the end is the end.
    fn next(&mut self) -> Option<Self::Item> {
        self.split_first().ok()
    }
}

/// Checks the checksum at `at`, which is made with zeros in its own place.
fn check_sum(header: &[u8], at: usize, found: u32) -> Result<(), ProxyError> {
    let want = crc32c::crc32c(&header[..at]);
    let want = crc32c::crc32c_append(want, &[0; 4]);
    let want = crc32c::crc32c_append(want, &header[at + 4..]);
    if found == want {
        Ok(())
    } else {
        Err(ProxyError::BadChecksum { found, want })
    }
}
