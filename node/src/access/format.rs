//! A connection line as text, in the four formats that `log.access_format` names.
//!
//! `standfast` and `json` have the same keys in the same order; what is not known is `-` in one and `null` in the
//! other, and durations are words in one and seconds in the other. `haproxy-tcplog` is HAProxy's `option tcplog`
//! without the counts of its last two groups, which are `-` as HAProxy writes what it does not know. `nginx-mqtt` is
//! NGINX's stream log with the client id at the end.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::Line;
use crate::config::AccessFormat;
use crate::end::{End, Refusal};
use crate::logging::escape::{push_hex, push_json, push_value};
use crate::logging::stamp;

/// What a line needs beyond the connection.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// Which format.
    pub format: AccessFormat,
    /// Name of this node.
    pub node: &'a str,
    /// Zone of the two formats that write local time.
    pub zone: &'a TimeZone,
    /// The client id as it shall be shown: as it came, or its hash.
    pub client: Option<&'a str>,
}

/// The text of a line, and where the part begins that is sent to a syslog, which keeps time itself.
#[must_use]
pub fn format(line: &Line, setting: &Setting<'_>) -> (String, usize) {
    match setting.format {
        AccessFormat::Standfast => standfast(line, setting),
        AccessFormat::Json => (json(line, setting), 0),
        AccessFormat::HaproxyTcplog => (haproxy(line, setting), 0),
        AccessFormat::NginxMqtt => (nginx(line, setting), 0),
    }
}

/// A value of the two formats with keys.
enum Value<'a> {
    Text(Option<&'a str>),
    Number(Option<u64>),
    /// Written in hexadecimal, and as a number in JSON.
    Code(Option<u8>),
    Span(Option<Duration>),
}

/// The keys, in their order, and their values.
fn each_key(line: &Line, setting: &Setting<'_>, mut each: impl FnMut(&str, Value<'_>)) {
    let ip = shown(line.client).to_string();
    let id = format!("{:016x}", line.id);
    let end = line.end.map(|end| end.to_string());
    let client = setting.client.filter(|client| !client.is_empty());
    let keepalive = line.proto.map(|_| line.keepalive.into());
    each("client", Value::Text(client));
    each("ip", Value::Text(Some(&ip)));
    each("proto", Value::Number(line.proto.map(u64::from)));
    each("keepalive", Value::Number(keepalive));
    each("listener", Value::Text(Some(&line.listener)));
    each("pool", Value::Text(Some(&line.pool)));
    each("backend", Value::Text(line.backend.as_deref()));
    each("why", Value::Text(line.why));
    each("queue", Value::Span(line.queue));
    each("greeting", Value::Span(line.greeting));
    each("connect", Value::Span(line.connect));
    each("connack", Value::Code(line.connack));
    each("dur", Value::Span(Some(line.duration)));
    each("bytes_in", Value::Number(Some(line.bytes_in)));
    each("bytes_out", Value::Number(Some(line.bytes_out)));
    each("end", Value::Text(end.as_deref()));
    each("node", Value::Text(Some(setting.node)));
    each("id", Value::Text(Some(&id)));
}

fn standfast(line: &Line, setting: &Setting<'_>) -> (String, usize) {
    let mut text = stamp::rfc3339(line.accepted + line.duration);
    text.push(' ');
    let body = text.len();
    text.push_str(kind(line));
    each_key(line, setting, |key, value| {
        let _ = write!(text, " {key}=");
        match value {
            Value::Text(Some(value)) => push_value(&mut text, value),
            Value::Number(Some(value)) => {
                let _ = write!(text, "{value}");
            }
            Value::Code(Some(value)) => {
                let _ = write!(text, "0x{value:02x}");
            }
            Value::Span(Some(value)) => text.push_str(&span(value)),
            Value::Text(None) | Value::Number(None) | Value::Code(None) | Value::Span(None) => {
                text.push('-');
            }
        }
    });
    (text, body)
}

fn json(line: &Line, setting: &Setting<'_>) -> String {
    let time = stamp::rfc3339(line.accepted + line.duration);
    let mut text = format!(r#"{{"time":"{time}","event":"{}""#, kind(line));
    each_key(line, setting, |key, value| {
        let _ = write!(text, r#","{key}":"#);
        match value {
            Value::Text(Some(value)) => push_json(&mut text, value),
            Value::Number(Some(value)) => {
                let _ = write!(text, "{value}");
            }
            Value::Code(Some(value)) => {
                let _ = write!(text, "{value}");
            }
            Value::Span(Some(value)) => {
                let _ = write!(text, "{}.{:03}", value.as_secs(), value.subsec_millis());
            }
            Value::Text(None) | Value::Number(None) | Value::Code(None) | Value::Span(None) => {
                text.push_str("null");
            }
        }
    });
    text.push('}');
    text
}

/// The line at the end of a connection, or the one at its CONNECT.
fn kind(line: &Line) -> &'static str {
    match line.end {
        Some(_) => "connection",
        None => "connect",
    }
}

/// `%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq`
fn haproxy(line: &Line, setting: &Setting<'_>) -> String {
    let client = shown(line.client);
    let mut text = format!(
        "{}:{} [{}] ",
        client.ip(),
        client.port(),
        stamp::haproxy(line.accepted, setting.zone)
    );
    // Names are the operator's, but a space in one would move all fields that follow.
    push_name(&mut text, &line.listener);
    text.push(' ');
    push_name(&mut text, &line.pool);
    text.push('/');
    push_name(&mut text, line.backend.as_deref().unwrap_or("<NOSRV>"));
    let _ = write!(
        text,
        " {}/{}/{} {} {} -/-/-/-/- -/-",
        millis(line.queue),
        millis(line.connect),
        line.duration.as_millis(),
        line.bytes_out,
        termination(line)
    );
    text
}

fn push_name(text: &mut String, name: &str) {
    let from = text.len();
    push_hex(text, name);
    if text[from..].contains(' ') {
        let escaped = text[from..].replace(' ', "\\x20");
        text.truncate(from);
        text.push_str(&escaped);
    }
}

/// −1 is HAProxy's word for a stage that was not reached.
fn millis(span: Option<Duration>) -> i128 {
    span.map_or(-1, |span| span.as_millis().try_into().unwrap_or(i128::MAX))
}

/// HAProxy's two letters: who ended the connection, and in which stage.
///
/// `C` client, `c` its timeout, `S` server, `P` refused by us, `R` a limit, `D` the server was marked down, `K` an
/// operator, `I` a fault of our own; `R` waiting for the CONNECT, `Q` for a backend, `C` connecting, `D` data.
fn termination(line: &Line) -> String {
    let who = match line.end {
        None | Some(End::ClientDisconnect) => return "--".into(),
        Some(End::ClientClose | End::ClientReset) => 'C',
        Some(End::BackendClose | End::BackendReset) => 'S',
        Some(End::KeepaliveTimeout | End::IdleTimeout | End::HalfCloseTimeout) => 'c',
        Some(End::ConnectDeadline) => 'c',
        Some(End::NotMqtt(_) | End::Refused(Refusal::Denied | Refusal::Proxy)) => 'P',
        Some(End::Refused(
            Refusal::ProcessConnections
            | Refusal::Connections
            | Refusal::PerIp
            | Refusal::Rate
            | Refusal::GreetingMemory,
        )) => 'R',
        // The wait for one ran out, or there was none to wait for.
        Some(End::NoBackend) if line.backend.is_none() => 's',
        Some(End::NoBackend) => 'S',
        Some(End::BackendDown) => 'D',
        Some(End::Drained | End::Kicked | End::Shutdown) => 'K',
        Some(End::Internal) => 'I',
    };
    let stage = if line.connect.is_some() {
        'D'
    } else if line.backend.is_some() {
        'C'
    } else if line.greeting.is_some() {
        'Q'
    } else {
        'R'
    };
    format!("{who}{stage}")
}

/// `$remote_addr [$time_local] TCP $status $bytes_received $bytes_sent $upstream_addr $client_id`
fn nginx(line: &Line, setting: &Setting<'_>) -> String {
    let mut text = format!(
        "{} [{}] TCP {} {} {} ",
        shown(line.client).ip(),
        stamp::common_log(line.accepted + line.duration, setting.zone),
        status(line),
        line.bytes_in,
        line.bytes_out,
    );
    match line.backend_addr {
        Some(addr) => {
            let _ = write!(text, "{} ", shown(addr));
        }
        None => text.push_str("- "),
    }
    match setting.client {
        None | Some("") => text.push('-'),
        // A client that calls itself so is not the same as none.
        Some("-") => text.push_str("\\x2D"),
        Some(client) => push_hex(&mut text, client),
    }
    text
}

/// NGINX's codes for streams: 200 done, 400 not understood, 403 forbidden, 500 our fault, 502 no backend, 503 limit.
fn status(line: &Line) -> u16 {
    match line.end {
        Some(End::NotMqtt(_) | End::ConnectDeadline | End::Refused(Refusal::Proxy)) => 400,
        Some(End::Refused(Refusal::Denied)) => 403,
        Some(End::Refused(
            Refusal::ProcessConnections
            | Refusal::Connections
            | Refusal::PerIp
            | Refusal::Rate
            | Refusal::GreetingMemory,
        )) => 503,
        Some(End::NoBackend) => 502,
        // Before it was connected to, a backend that goes is a backend that was not there.
        Some(End::BackendClose | End::BackendReset | End::BackendDown)
            if line.connect.is_none() =>
        {
            502
        }
        Some(End::Internal) => 500,
        Some(
            End::ClientDisconnect
            | End::ClientClose
            | End::ClientReset
            | End::BackendClose
            | End::BackendReset
            | End::BackendDown
            | End::KeepaliveTimeout
            | End::IdleTimeout
            | End::HalfCloseTimeout
            | End::Drained
            | End::Kicked
            | End::Shutdown,
        )
        | None => 200,
    }
}

/// An IPv4 client of a listener for both families is shown as IPv4.
fn shown(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// A duration in two units at most: `7ms`, `12.345s`, `5m03s`, `5h03m`, `3d04h`.
#[must_use]
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..60 => format!("{seconds}.{:03}s", span.subsec_millis()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
pub(super) mod tests;
