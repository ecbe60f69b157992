//! A check as a client would meet the broker: CONNECT, CONNACK, DISCONNECT.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use standfast_proto::mqtt::connack::{self, Parsed};
use standfast_proto::mqtt::disconnect::GOODBYE;
use standfast_proto::mqtt::{Level, probe::Probe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::{Answer, Ask, Fault, Shown, more};
use crate::config::{CheckKind, MqttLevel};

/// The longest CONNACK that is read, in bytes.
const MAX_CONNACK: usize = 16 * 1024;

/// How long the broker gets to close after our DISCONNECT.
const FAREWELL: Duration = Duration::from_millis(100);

/// Seconds. No check lives so long; a broker that refuses 0 or very long ones takes it.
const KEEP_ALIVE: u16 = 60;

pub(super) async fn ask(
    stream: &mut TcpStream,
    ask: &Ask,
    greeting: Vec<u8>,
    deadline: Instant,
) -> Answer {
    let CheckKind::Mqtt {
        level,
        username,
        accept,
        ..
    } = &ask.check.kind
    else {
        return Err(Fault::not_ready("not an MQTT check"));
    };
    let level = match level {
        MqttLevel::V31 => Level::V31,
        MqttLevel::V311 => Level::V311,
        MqttLevel::V5 => Level::V5,
    };
    let probe = Probe {
        level,
        client_id: &client_id(level),
        clean_start: true,
        keep_alive: KEEP_ALIVE,
        username: username.as_deref(),
        password: ask.settings.password.as_deref(),
    };
    // One write: receivers of PROXY headers drop one that comes in pieces.
    let mut out = greeting;
    probe
        .encode(&mut out)
        .map_err(|error| Fault::not_ready(error.to_string()))?;
    // A broker that refuses at once may have closed already; what it said is still to be read.
    let sent = stream.write_all(&out).await;
    let code = match answer(stream, level).await {
        Ok(code) => code,
        Err(fault) => return Err(sent.map_or_else(|error| Fault::talking(&error), |()| fault)),
    };
    let text = match meaning(level, code) {
        "" => format!("CONNACK {code}"),
        meaning => format!("CONNACK {code} ({meaning})"),
    };
    let shown = Shown::now(text);
    if code == 0 {
        farewell(stream, deadline).await;
    }
    if accept.contains(&code) {
        Ok(shown)
    } else {
        Err(Fault {
            shown,
            ..Fault::not_ready("")
        })
    }
}

async fn answer(stream: &mut TcpStream, level: Level) -> Result<u8, Fault> {
    let mut buf = Vec::new();
    loop {
        match connack::parse(&buf, level, MAX_CONNACK) {
            Ok(Parsed::Connack(connack)) => return Ok(connack.code),
            Ok(Parsed::Incomplete { .. }) => {}
            Err(error) => return Err(Fault::not_ready(format!("no CONNACK: {error}"))),
        }
        if !more(stream, &mut buf).await? {
            return Err(Fault::not_ready("closed without a CONNACK"));
        }
    }
}

/// DISCONNECT, and time for the broker to close, so that its log shows a client that left as it should.
async fn farewell(stream: &mut TcpStream, deadline: Instant) {
    let leaving = async {
        stream.write_all(&GOODBYE).await?;
        stream.shutdown().await?;
        let mut rest = [0; 256];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    let until = deadline.min(Instant::now() + FAREWELL);
    // However it goes, the broker had answered.
    let _ = timeout_at(until, leaving).await;
}

/// A client id that no other check of this or another process has at the same time: with one id, two checks (of two
/// balancers, or of two nodes of one broker cluster) would end each other's connections.
fn client_id(level: Level) -> String {
    static INSTANCE: OnceLock<u32> = OnceLock::new();
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    // The standard library keys its hash tables at random: as much chance as an id needs.
    let instance = INSTANCE.get_or_init(|| RandomState::new().build_hasher().finish() as u32);
    let number = NUMBER.fetch_add(1, Relaxed) % 100_000;
    match level {
        // MQTT 3.1 allows 23 bytes.
        Level::V31 => format!("sf-check-{instance:08x}-{number}"),
        Level::V311 | Level::V5 => format!("standfast-check-{instance:08x}-{number}"),
    }
}

/// What a code says; empty for a success or where the specification has no name.
fn meaning(level: Level, code: u8) -> &'static str {
    match (level, code) {
        (Level::V31 | Level::V311, 1) | (Level::V5, 0x84) => "unacceptable protocol version",
        (Level::V31 | Level::V311, 2) | (Level::V5, 0x85) => "identifier rejected",
        (Level::V31 | Level::V311, 3) | (Level::V5, 0x88) => "server unavailable",
        (Level::V31 | Level::V311, 4) | (Level::V5, 0x86) => "bad user name or password",
        (Level::V31 | Level::V311, 5) | (Level::V5, 0x87) => "not authorized",
        (Level::V5, 0x89) => "server busy",
        (Level::V5, 0x8A) => "banned",
        (Level::V5, 0x97) => "quota exceeded",
        (Level::V5, 0x9C) => "use another server",
        (Level::V5, 0x9D) => "server moved",
        (Level::V5, 0x9F) => "connection rate exceeded",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_differ_and_fit_the_oldest_level() {
        for level in [Level::V31, Level::V311, Level::V5] {
            let (one, other) = (client_id(level), client_id(level));
            assert_ne!(one, other);
            assert!(level != Level::V31 || "sf-check-00000000-99999".len() <= 23);
        }
        assert!(client_id(Level::V31).len() <= 23);
        assert!(client_id(Level::V311).starts_with("standfast-check-"));
    }
}
