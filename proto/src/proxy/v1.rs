//! PROXY protocol version 1: a line of text.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::v2::Tlvs;
use super::{Header, Parsed, ProxyError, signature};

/// The longest line, its CR LF included.
pub const MAX_LEN: usize = 107;

/// The shortest line: `PROXY UNKNOWN` and CR LF.
pub const SHORTEST: usize = 15;

const SIGNATURE: &[u8] = b"PROXY ";
const END: &[u8] = b"\r\n";

/// Appends the line; without addresses, or when they are of no common family, `PROXY UNKNOWN`.
///
/// An address of IPv4 beside one of IPv6 is written as the IPv6 address that maps it.
pub fn encode(addresses: Option<(SocketAddr, SocketAddr)>, out: &mut Vec<u8>) {
    let Some((src, dst)) = addresses else {
        out.extend_from_slice(b"PROXY UNKNOWN\r\n");
        return;
    };
    let (ports, ips) = ((src.port(), dst.port()), super::v2::same_family(src, dst));
    match ips {
        Ok((src, dst)) => line(out, "TCP4", &src, &dst, ports),
        Err((src, dst)) => line(out, "TCP6", &src, &dst, ports),
    }
}

fn line(
    out: &mut Vec<u8>,
    family: &str,
    src: &dyn fmt::Display,
    dst: &dyn fmt::Display,
    (src_port, dst_port): (u16, u16),
) {
    use std::io::Write as _;
    write!(out, "PROXY {family} {src} {dst} {src_port} {dst_port}\r\n")
        .expect("a Vec takes every byte");
}

/// Reads the line at the front of `buf`.
///
/// # Errors
///
/// As soon as the bytes seen rule a line out.
pub fn parse(buf: &[u8]) -> Result<Parsed<'_>, ProxyError> {
    signature(buf, SIGNATURE)?;
    let window = &buf[..buf.len().min(MAX_LEN)];
    let Some(cr) = window.iter().position(|byte| !matches!(byte, b' '..=b'~')) else {
        if window.len() == MAX_LEN {
            return Err(ProxyError::LineTooLong);
        }
        let need = SHORTEST.max(window.len() + END.len());
        return Ok(Parsed::Incomplete {
            need: need.min(MAX_LEN),
        });
    };
    if window[cr] != b'\r' {
        return Err(bad("character", "printable ASCII up to CR LF"));
    }
    match window.get(cr + 1) {
        Some(b'\n') => {}
        Some(_) => return Err(bad("end", "LF behind CR")),
        None if window.len() == MAX_LEN => return Err(ProxyError::LineTooLong),
        None => return Ok(Parsed::Incomplete { need: cr + 2 }),
    }
    let line = std::str::from_utf8(&window[..cr]).expect("only printable ASCII is in it");
    Ok(Parsed::Header(Header {
        len: cr + END.len(),
        addresses: addresses(&line[SIGNATURE.len().min(line.len())..])?,
        local: false,
        tlvs: Tlvs::default(),
    }))
}

fn bad(what: &'static str, want: &'static str) -> ProxyError {
    ProxyError::BadLine { what, want }
}

fn addresses(rest: &str) -> Result<Option<(SocketAddr, SocketAddr)>, ProxyError> {
    let mut fields = rest.split(' ');
    let mut next = || fields.next().unwrap_or_default();
    let ip: fn(&str) -> Option<IpAddr> = match next() {
        // What follows UNKNOWN up to the end of the line is to be ignored.
        "UNKNOWN" => return Ok(None),
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return Err(bad("family", "TCP4, TCP6 or UNKNOWN")),
    };
    let src = ip(next()).ok_or(bad("source address", "an address of the line's family"))?;
    let dst = ip(next()).ok_or(bad(
        "destination address",
        "an address of the line's family",
    ))?;
    let want = "0 to 65535 without leading zeros";
    let src_port = port(next()).ok_or(bad("source port", want))?;
    let dst_port = port(next()).ok_or(bad("destination port", want))?;
    if fields.next().is_some() {
        return Err(bad("end", "CR LF behind the second port"));
    }
    Ok(Some((
        SocketAddr::new(src, src_port),
        SocketAddr::new(dst, dst_port),
    )))
}

fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    (plain && !leading_zero).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(line: &[u8]) -> Result<Header<'_>, ProxyError> {
        match parse(line)? {
            Parsed::Header(header) => Ok(header),
            Parsed::Incomplete { need } => panic!("{line:?} wants {need} bytes"),
        }
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("a test's address")
    }

    #[test]
    fn the_examples_of_the_specification_are_read() {
        let tcp4 = b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n";
        let most = address("255.255.255.255:65535");
        let header = whole(tcp4).expect("valid");
        assert_eq!((header.addresses, header.len), (Some((most, most)), 56));

        let tcp6 = b"PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
        assert!(
            whole(tcp6).is_err(),
            "the abbreviation of the specification is no address"
        );

        let long = b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(long.len(), MAX_LEN);
        let header = whole(long).expect("valid");
        assert_eq!((header.addresses, header.len), (None, MAX_LEN));
        assert_eq!(whole(b"PROXY UNKNOWN\r\nGET").expect("valid").len, SHORTEST);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (src, dst, line) in [
            (
                "192.0.2.1:1",
                "198.51.100.7:1883",
                "PROXY TCP4 192.0.2.1 198.51.100.7 1 1883\r\n",
            ),
            (
                "[2001:db8::1]:50000",
                "[::1]:8883",
                "PROXY TCP6 2001:db8::1 ::1 50000 8883\r\n",
            ),
            (
                "192.0.2.1:7",
                "[2001:db8::2]:1883",
                "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 7 1883\r\n",
            ),
            (
                "[::ffff:192.0.2.1]:7",
                "10.0.0.1:2",
                "PROXY TCP4 192.0.2.1 10.0.0.1 7 2\r\n",
            ),
        ] {
            let mut out = Vec::new();
            encode(Some((address(src), address(dst))), &mut out);
            assert_eq!(std::str::from_utf8(&out), Ok(line));
            let (read, _) = whole(&out).expect("valid").addresses.expect("not UNKNOWN");
            assert_eq!(read.ip().to_canonical(), address(src).ip().to_canonical());
        }
        let mut out = Vec::new();
        encode(None, &mut out);
        assert_eq!(out, b"PROXY UNKNOWN\r\n");
    }

    #[test]
    fn malformed_lines_are_refused_and_say_where() {
        for (line, want) in [
            ("PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", "bad family"),
            ("PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "bad family"),
            ("PROXY \r\n", "bad family"),
            ("PROXY TCP4\r\n", "bad source address"),
            ("PROXY TCP4 ::1 ::1 1 2\r\n", "bad source address"),
            ("PROXY TCP6 1.2.3.4 ::1 1 2\r\n", "bad source address"),
            ("PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n", "bad source address"),
            (
                "PROXY TCP4 1.2.3.4 1.2.3 1 2\r\n",
                "bad destination address",
            ),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", "bad source port"),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", "bad source port"),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", "bad source port"),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "bad destination port"),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", "bad end"),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", "bad end"),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "bad character"),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\r\n", "bad end"),
            ("PROXY\tTCP4", "byte 5 is 0x09"),
        ] {
            let error = whole(line.as_bytes()).expect_err(line).to_string();
            assert!(error.contains(want), "{line:?}: {error}");
        }
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
        assert_eq!(whole(&endless), Err(ProxyError::LineTooLong));
        let late = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 92], b"\r\n"].concat();
        assert_eq!(whole(&late), Err(ProxyError::LineTooLong), "108 bytes");
    }
}
