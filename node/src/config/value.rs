//! Words of the file and what they stand for: durations, counts, sizes, addresses, rates, and back.
//!
//! Counts are decimal (`"100k"` is 100 000); sizes of memory are binary (`"128k"` is 131 072 bytes).
//! Every error is the end of a sentence that begins "… cannot be the text …:"; what would be right stands in
//! [`accepts`], so that it is worded once.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::model::{Bind, Cidr, Facility, Rate, Target};

/// What each kind of value looks like, for the help below an error.
pub(super) mod accepts {
    pub const DURATION: &str =
        "a duration with a unit, such as \"250ms\", \"10s\", \"30m\", \"2h\" or \"1d\"";
    pub const COUNT: &str =
        "a whole number, or text with a decimal suffix, such as 102400, \"100k\" or \"1m\"";
    pub const SIZE: &str = "a number of bytes, or text with a binary suffix, such as 131072, \"128k\", \"64m\" or \"1g\"";
    pub const BIND: &str = "an address and port, such as \":1883\" (all addresses), \"10.0.0.1:1883\" or \"[fd00::1]:1883\"";
    pub const ADDR: &str = "a host and port, such as \"10.0.0.11:1883\", \"mq1.example.com:1883\" or \"[fd00::1]:1883\"";
    pub const CIDR: &str =
        "a network or address, such as \"10.0.0.0/8\", \"fd00::/8\" or \"192.0.2.7\"";
    pub const IP: &str = "an IP address, such as \"10.0.0.1\" or \"fd00::1\"";
    pub const RATE: &str = "a rate, such as \"500/s\"";
    pub const MODE: &str = "permission bits in octal, as text, such as \"0660\"";
    pub const NAME: &str =
        "a name of at most 200 characters without spaces, quotes or slashes, such as \"mqtt\"";
    pub const TARGET: &str = "\"stderr\", \"stdout\", \"syslog\", \"syslog://host[:port]\", \"journald\" or the \
         absolute path of a file";
    pub const FACILITY: &str =
        "a syslog facility, such as \"daemon\", \"user\" or \"local0\" to \"local7\"";
    pub const PATH: &str = "the path of a file, such as \"/etc/standfast/password\"";
    pub const URL: &str = "a URL, such as \"http://:8889/path\" (the backend's own host)";
    pub const HEX: &str = "bytes in hexadecimal, such as \"c000\"";
    pub const BOOL: &str = "true or false";
}

/// Longest duration: ten years, so that sums of a few never overflow.
const LONGEST: u64 = 3650 * 86_400_000;

const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// `"250ms"`, `"10s"`, `"1h30m"`; at most ten years, whole milliseconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("it is empty".into());
    }
    let mut sum = 0u64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        if number.is_empty() {
            return Err(format!(
                "{:?} is not a whole number and a unit",
                shorten(rest)
            ));
        }
        let letters = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit = unit.trim();
        if unit.is_empty() {
            return Err("it has no unit".into());
        }
        let Some((_, millis)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("{:?} is no unit (ms, s, m, h, d)", shorten(unit)));
        };
        let part = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(*millis));
        sum = part
            .and_then(|p| sum.checked_add(p))
            .filter(|s| *s <= LONGEST)
            .ok_or("it is more than ten years")?;
        rest = after.trim_start();
    }
    Ok(Duration::from_millis(sum))
}

/// A duration in the largest unit that gives a whole number: `"90s"`, `"2m"`.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".into();
    }
    let (unit, each) = UNITS
        .iter()
        .find(|(_, each)| millis.is_multiple_of(*each))
        .unwrap_or(&("ms", 1));
    format!("{}{unit}", millis / each)
}

/// `"100k"` is 100 000, `"1m"` a million, `"1g"` a thousand millions.
pub(super) fn count(text: &str) -> Result<u64, String> {
    let suffixes = [("k", 1000), ("m", 1_000_000), ("g", 1_000_000_000)];
    scaled(text, &suffixes, "k, m, g")
}

/// `"128k"` is 131 072 bytes, `"64m"` 64 MiB, `"1g"` 1 GiB; `"64MiB"` is the same.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (k, m, g) = (1 << 10, 1 << 20, 1 << 30);
    let suffixes = [
        ("kib", k),
        ("mib", m),
        ("gib", g),
        ("k", k),
        ("m", m),
        ("g", g),
    ];
    scaled(text, &suffixes, "k, m, g")
}

/// Bytes in the largest binary unit that gives a whole number; without a suffix as the number alone.
pub(super) fn show_size(bytes: u64) -> String {
    let units = [("g", 1u64 << 30), ("m", 1 << 20), ("k", 1 << 10)];
    match units
        .iter()
        .find(|(_, each)| bytes > 0 && bytes.is_multiple_of(*each))
    {
        Some((unit, each)) => format!("{}{unit}", bytes / each),
        None => bytes.to_string(),
    }
}

fn scaled(text: &str, suffixes: &[(&str, u64)], known: &str) -> Result<u64, String> {
    let folded = text.trim().to_ascii_lowercase();
    let digits = folded
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(folded.len());
    let (number, suffix) = folded.split_at(digits);
    let suffix = suffix.trim();
    let number = number.replace('_', "");
    if number.is_empty() {
        return Err("it does not begin with a number".into());
    }
    let factor = match suffixes.iter().find(|(name, _)| *name == suffix) {
        Some((_, factor)) => *factor,
        None if suffix.is_empty() => 1,
        None => return Err(format!("{:?} is no suffix ({known})", shorten(suffix))),
    };
    let value = number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor));
    value.ok_or_else(|| "it is too large".into())
}

/// `"500/s"`, `"0.5/s"`, `"30/m"`, `"10k/s"`.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    let (number, unit) = text
        .split_once('/')
        .ok_or("it names no time, as in \"500/s\"")?;
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("{:?} is no unit of time (s, m, h)", shorten(other))),
    };
    let number = number.trim();
    let (digits, factor) = match number.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1000.0),
        None => (number, 1.0),
    };
    if !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err("it does not begin with a number".into());
    }
    let value: f64 = digits
        .parse()
        .map_err(|_| "it does not begin with a number")?;
    let per_second = value * factor / seconds;
    if !(per_second > 0.0 && per_second <= 1e9) {
        return Err("a rate is more than 0 and at most 1000000000 a second".into());
    }
    Ok(Rate { per_second })
}

/// A rate as a number a second.
pub(super) fn show_rate(rate: Rate) -> String {
    format!("{}/s", rate.per_second)
}

/// Where a listener listens: `":1883"`, `"10.0.0.1:1883"`, `"[::1]:1883"`.
pub(super) fn bind(text: &str) -> Result<Bind, String> {
    if let Some(port) = text.strip_prefix(':').filter(|p| !p.contains(':')) {
        return Ok(Bind {
            ip: None,
            port: self::port(port)?,
        });
    }
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok(Bind {
            ip: Some(addr.ip()),
            port: addr.port(),
        });
    }
    let (host, port) = host_port(text)?;
    self::port(port)?;
    Err(if host == "*" {
        format!("all addresses are written \":{port}\"")
    } else {
        format!(
            "{:?} is not an IP address, and a listener binds no names",
            shorten(host)
        )
    })
}

/// Host and port of a broker. The host may be a name; an IPv6 address loses its brackets.
pub(super) fn addr(text: &str) -> Result<(String, u16), String> {
    let (host, port) = host_port(text)?;
    let port = self::port(port)?;
    if port == 0 {
        return Err("port 0 is no port of a broker".into());
    }
    if host.is_empty() {
        return Err("it names no host".into());
    }
    host_name(host).map(|host| (host, port))
}

/// A name or address as a host, without brackets.
pub(super) fn host_name(host: &str) -> Result<String, String> {
    if let Some(inner) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return match inner.parse::<Ipv6Addr>() {
            Ok(_) => Ok(inner.to_owned()),
            Err(_) => Err(format!("{:?} is not an IPv6 address", shorten(inner))),
        };
    }
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if host.is_empty() || host.len() > 253 || !host.chars().all(letters) {
        return Err(format!(
            "{:?} is neither a host name nor an address",
            shorten(host)
        ));
    }
    // All digits and dots, yet no address: no resolver will help.
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if numeric && host.parse::<IpAddr>().is_err() {
        return Err(format!("{:?} is not an IP address", shorten(host)));
    }
    Ok(host.to_owned())
}

/// Splits at the colon before the port; brackets stay on the host.
fn host_port(text: &str) -> Result<(&str, &str), String> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err("an IPv6 address stands in brackets before its port".into());
    }
    if text.contains("://") {
        return Err("a host and port stand alone, without a scheme".into());
    }
    let (host, port) = text
        .rsplit_once(':')
        .filter(|(_, p)| !p.contains(']'))
        .ok_or("it has no port")?;
    if host.contains(':') && !host.starts_with('[') {
        return Err("an IPv6 address stands in brackets before its port".into());
    }
    Ok((host, port))
}

/// A port of TCP or UDP.
pub(super) fn port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse().ok().filter(|_| digits);
    port.ok_or_else(|| format!("{:?} is not a port (0 to 65535)", shorten(text)))
}

/// A host and port as one text, with brackets for IPv6.
pub(super) fn show_addr(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// `"10.0.0.0/8"`; one address is a network of its own.
pub(super) fn cidr(text: &str) -> Result<Cidr, String> {
    let (ip, prefix) = match text.split_once('/') {
        Some((ip, prefix)) => (ip, Some(prefix)),
        None => (text, None),
    };
    let ip: IpAddr = ip
        .parse()
        .map_err(|_| format!("{:?} is not an IP address", shorten(ip)))?;
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => longest,
        Some(p) => match p.parse::<u8>() {
            Ok(n) if n <= longest && p.bytes().all(|b| b.is_ascii_digit()) => n,
            _ => {
                return Err(format!(
                    "{:?} is not a prefix length (0 to {longest})",
                    shorten(p)
                ));
            }
        },
    };
    let network = match ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    };
    if network != ip {
        return Err(format!(
            "it has bits beyond its prefix; the network is \"{network}/{prefix}\""
        ));
    }
    Ok(Cidr { ip, prefix })
}

/// Permission bits: `"0660"`.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let octal =
        !text.is_empty() && text.len() <= 6 && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    if !octal {
        return Err("it is not octal".into());
    }
    match u32::from_str_radix(text, 8) {
        Ok(bits) if bits <= 0o777 => Ok(bits),
        _ => Err("it is more than 0777".into()),
    }
}

/// Names of nodes, listeners, pools and backends, which stand in logs, metrics and URLs.
pub(super) fn name(text: &str) -> Result<String, String> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '\\' | '/');
    if text.is_empty() {
        Err("a name is not empty".into())
    } else if text.chars().count() > 200 {
        Err("it is too long".into())
    } else if let Some(c) = text.chars().find(|c| odd(*c)) {
        Err(format!("a name has no {c:?}"))
    } else {
        Ok(text.to_owned())
    }
}

/// Where lines go.
pub(super) fn target(text: &str) -> Result<Target, String> {
    Ok(match text {
        "stderr" => Target::Stderr,
        "stdout" => Target::Stdout,
        "syslog" => Target::Syslog,
        "journald" => Target::Journald,
        _ => match text.strip_prefix("syslog://") {
            Some(rest) => syslog(rest)?,
            None if text.starts_with('/') => Target::File(path(text)?),
            None => {
                let near =
                    super::nearest::nearest(text, ["stderr", "stdout", "syslog", "journald"]);
                return Err(match near {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => "the path of a file begins with a slash".into(),
                });
            }
        },
    })
}

fn syslog(rest: &str) -> Result<Target, String> {
    let (host, port) = match host_port(rest) {
        Ok((host, port)) => (host, self::port(port)?),
        Err(_) => (rest, 514),
    };
    if port == 0 {
        return Err("port 0 is no port of a syslog server".into());
    }
    Ok(Target::SyslogUdp {
        host: host_name(host)?,
        port,
    })
}

/// A target as it is written.
pub(super) fn show_target(target: &Target) -> String {
    match target {
        Target::Stderr => "stderr".into(),
        Target::Stdout => "stdout".into(),
        Target::Syslog => "syslog".into(),
        Target::Journald => "journald".into(),
        Target::File(path) => path.display().to_string(),
        Target::SyslogUdp { host, port } => format!("syslog://{}", show_addr(host, *port)),
    }
}

/// The path of a file.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        Err("it is empty".into())
    } else if text.contains('\0') {
        Err("a path has no NUL character".into())
    } else {
        Ok(PathBuf::from(text))
    }
}

/// Syslog's facilities by number (RFC 5424, table 1), with HAProxy's names for 13 to 15.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "cron2", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// A facility by its name.
pub(super) fn facility(text: &str) -> Result<Facility, String> {
    match FACILITIES
        .iter()
        .zip(0u8..)
        .find(|(name, _)| **name == text)
    {
        Some((_, number)) => Ok(Facility(number)),
        None => Err(match super::nearest::nearest(text, FACILITIES) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "there is no such facility".into(),
        }),
    }
}

/// A facility's name.
pub(super) fn show_facility(facility: Facility) -> &'static str {
    FACILITIES
        .get(usize::from(facility.0))
        .copied()
        .unwrap_or("daemon")
}

/// Bytes in hexadecimal, at most 4096 of them; spaces between digits do not count.
pub(super) fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u32> = (text.chars().filter(|c| !c.is_whitespace()))
        .map(|c| {
            c.to_digit(16)
                .ok_or_else(|| format!("{c:?} is no hexadecimal digit"))
        })
        .collect::<Result<_, _>>()?;
    if !digits.len().is_multiple_of(2) {
        return Err("it has an odd number of digits".into());
    }
    if digits.len() > 8192 {
        return Err("it is longer than 4096 bytes".into());
    }
    Ok(digits
        .chunks_exact(2)
        .map(|d| u8::try_from(d[0] * 16 + d[1]).unwrap_or(0))
        .collect())
}

/// Bytes as hexadecimal.
pub(super) fn show_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

/// A URL of a health check, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Url {
    /// `None` is the backend's own host.
    pub host: Option<String>,
    /// As written.
    pub port: Option<u16>,
    /// With query; begins with a slash.
    pub path: String,
}

/// `http://[host][:port]/path`.
pub(super) fn url(text: &str) -> Result<Url, String> {
    if text.starts_with("https://") {
        return Err("checks over TLS do not exist yet".into());
    }
    let rest = text
        .strip_prefix("http://")
        .ok_or("it does not begin with http://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("it holds a user name; write check.headers with Authorization".into());
    }
    let path = if path.is_empty() { "/" } else { path };
    if !path.starts_with('/') || path.contains('#') || !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("{:?} is no path of a request", shorten(path)));
    }
    let (host, port) = match authority.rsplit_once(':').filter(|(_, p)| !p.contains(']')) {
        Some((host, port)) => (host, Some(self::port(port)?)),
        None => (authority, None),
    };
    if port == Some(0) {
        return Err("port 0 is no port of a server".into());
    }
    let host = if host.is_empty() {
        None
    } else {
        Some(host_name(host)?)
    };
    Ok(Url {
        host,
        port,
        path: path.to_owned(),
    })
}

/// Text as it appears in messages: the first 60 characters.
pub(super) fn shorten(text: &str) -> String {
    if text.chars().count() <= 60 {
        return text.to_owned();
    }
    text.chars().take(57).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests;
