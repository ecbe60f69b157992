//! One check of one backend, from connecting to a result that can be shown.

use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::settings::Settings;
use super::state::{Failure, Outcome};
use crate::config::{Check, CheckKind};

mod body;
mod greeting;
mod http;
mod mqtt;
mod raw;

/// The least time for the second look at the traffic port, where the check itself has used up its own.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// What to check.
#[derive(Clone, Debug)]
pub struct Ask {
    /// How.
    pub settings: Arc<Settings>,
    /// The check of the settings.
    pub check: Check,
    /// Where clients' connections go.
    pub traffic: SocketAddr,
    /// The backend's host as configured, for a Host header.
    pub host: String,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What it says of the backend.
    pub outcome: Outcome,
    /// In a few words: `200 in 3ms`, `connection refused`, `CONNACK 5 (not authorized)`.
    pub result: String,
    /// Status in the body of a Health API.
    pub status: Option<String>,
    /// Components of the body and their status, at most 32, depth first.
    pub components: Vec<(String, String)>,
    /// From connecting to the answer, or to giving up.
    pub took: Duration,
}

/// What a good answer shows.
#[derive(Debug, Default)]
struct Shown {
    text: String,
    status: Option<String>,
    components: Vec<(String, String)>,
    /// When the answer was there; what came after was for display and farewell.
    at: Option<Instant>,
}

impl Shown {
    fn now(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            at: Some(Instant::now()),
            ..Self::default()
        }
    }
}

/// Why a check failed.
#[derive(Debug)]
struct Fault {
    outcome: Outcome,
    shown: Shown,
}

impl Fault {
    fn new(outcome: Outcome, text: impl Into<String>) -> Self {
        Self {
            outcome,
            shown: Shown::now(text),
        }
    }

    fn dead(text: impl Into<String>) -> Self {
        Self::new(Outcome::Failed(Failure::Dead), text)
    }

    fn not_ready(text: impl Into<String>) -> Self {
        Self::new(Outcome::Failed(Failure::NotReady), text)
    }

    /// An error before the connection was there.
    fn connecting(error: &io::Error) -> Self {
        if is_ours(error) {
            return Self::new(Outcome::Void, format!("not checked: {}", words(error)));
        }
        Self::dead(words(error))
    }

    /// An error on a connection that was there. Whoever resets or closes it is alive: a broker at its connection limit
    /// does so, and must not lose the connections that it has.
    fn talking(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                Self::dead(words(error))
            }
            _ => Self::not_ready(words(error)),
        }
    }
}

type Answer = Result<Shown, Fault>;

/// Checks a backend once. Ends within the check's timeout, or a tenth of a second later where the traffic port is asked
/// too.
pub async fn probe(ask: &Ask) -> Found {
    let started = Instant::now();
    let deadline = started + ask.check.timeout;
    let answer = look(ask, started, deadline).await;
    let (outcome, shown) = match answer {
        Ok(shown) => (Outcome::Passed, shown),
        Err(fault) => (fault.outcome, fault.shown),
    };
    let took = shown.at.unwrap_or_else(Instant::now) - started;
    let mut result = shown.text;
    if outcome == Outcome::Passed {
        let _ = write!(result, " in {}", brief(took));
    }
    Found {
        outcome,
        result,
        status: shown.status,
        components: shown.components,
        took,
    }
}

/// Asks where the check asks; if nobody is there, and that is not where clients go, the traffic port has the last word on
/// whether the backend is dead.
async fn look(ask: &Ask, started: Instant, deadline: Instant) -> Answer {
    let at = place(ask, deadline).await?;
    if at == ask.traffic {
        return exchange(ask, at, deadline).await;
    }
    let mut first = pin!(exchange(ask, at, deadline));
    let mut second = pin!(opens(ask, deadline));
    let mut opened = None;
    // A silent check port leaves no time for a second look after it: that begins at half-time. An answering one is
    // spared it, so that the traffic port sees no connections without a CONNECT while all is well.
    let half = started + ask.check.timeout / 2;
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut first => break answer,
            open = &mut second, if opened.is_none() && Instant::now() >= half => opened = Some(open),
            () = sleep_until(half), if Instant::now() < half => {}
        }
    };
    match answer {
        Err(fault) if fault.outcome == Outcome::Failed(Failure::Dead) => {
            let open = match opened {
                Some(open) => open,
                None => second.await,
            };
            let port = ask.traffic.port();
            let text = fault.shown.text;
            Err(match open {
                Ok(()) => Fault::not_ready(format!("{text} at {at}, port {port} answers")),
                Err(other) => Fault::new(
                    other.outcome,
                    format!("{text} at {at}, port {port}: {}", other.shown.text),
                ),
            })
        }
        answer => answer,
    }
}

/// Where the check asks.
async fn place(ask: &Ask, deadline: Instant) -> Result<SocketAddr, Fault> {
    let port = ask.check.port.unwrap_or_else(|| ask.traffic.port());
    let CheckKind::Http {
        address: Some(host),
        ..
    } = &ask.check.kind
    else {
        return Ok(SocketAddr::new(ask.traffic.ip(), port));
    };
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let unknown = || Fault::not_ready(format!("no address for {host}"));
    let found = timeout_at(deadline, tokio::net::lookup_host((host.as_str(), port))).await;
    let mut addresses = found.map_err(|_| unknown())?.map_err(|_| unknown())?;
    addresses.next().ok_or_else(unknown)
}

async fn exchange(ask: &Ask, at: SocketAddr, deadline: Instant) -> Answer {
    let mut stream = connect(at, ask.settings.source, deadline).await?;
    // A port of its own for checks speaks no PROXY protocol.
    let greeting = if at == ask.traffic {
        greeting::header(ask, &stream)
    } else {
        Vec::new()
    };
    let conversation = async {
        match &ask.check.kind {
            CheckKind::Http { .. } => {
                http::ask(&mut stream, ask, greeting, at.port(), deadline).await
            }
            CheckKind::Mqtt { .. } => mqtt::ask(&mut stream, ask, greeting, deadline).await,
            CheckKind::Raw { send, expect } => raw::ask(&mut stream, greeting, send, expect).await,
            CheckKind::Tcp => {
                let shown = Shown::now("connected");
                part(&mut stream, &greeting).await;
                Ok(shown)
            }
        }
    };
    timeout_at(deadline, conversation)
        .await
        .unwrap_or_else(|_| {
            Err(Fault::dead(format!(
                "no answer in {}",
                brief(ask.check.timeout)
            )))
        })
}

/// Whether the traffic port takes connections.
async fn opens(ask: &Ask, deadline: Instant) -> Result<(), Fault> {
    let deadline = deadline.max(Instant::now() + SECOND_LOOK);
    let mut stream = connect(ask.traffic, ask.settings.source, deadline).await?;
    let greeting = greeting::bare(ask, &stream);
    let _ = timeout_at(deadline, part(&mut stream, &greeting)).await;
    Ok(())
}

/// Says what a bare connection has to say, and closes it. That the port opened is all that was asked.
async fn part(stream: &mut TcpStream, greeting: &[u8]) {
    if stream.write_all(greeting).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

async fn connect(
    at: SocketAddr,
    source: Option<IpAddr>,
    deadline: Instant,
) -> Result<TcpStream, Fault> {
    let connecting = async {
        let socket = match at {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_nodelay(true)?;
        // A source of the other family cannot reach it; then the kernel chooses.
        if let Some(source) = source.filter(|source| source.is_ipv4() == at.is_ipv4()) {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        socket.connect(at).await
    };
    match timeout_at(deadline, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(Fault::connecting(&error)),
        Err(_) => Err(Fault::dead("connect not answered")),
    }
}

/// Reads more into `buf`; answers whether there was more.
async fn more(stream: &mut TcpStream, buf: &mut Vec<u8>) -> Result<bool, Fault> {
    let mut chunk = [0; 4096];
    let read = stream.read(&mut chunk).await;
    let read = read.map_err(|error| Fault::talking(&error))?;
    buf.extend_from_slice(&chunk[..read]);
    Ok(read > 0)
}

/// Whether an error on the way to a connection is this machine's own lack of something, which says nothing of the backend.
fn is_ours(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EMFILE
                | libc::ENFILE
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::EADDRNOTAVAIL
                | libc::EADDRINUSE
                | libc::EAGAIN
        )
    )
}

/// The few words for an error.
fn words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "connection reset".into(),
        ErrorKind::TimedOut => "no answer".into(),
        ErrorKind::HostUnreachable => "host unreachable".into(),
        ErrorKind::NetworkUnreachable => "network unreachable".into(),
        _ => error.to_string(),
    }
}

/// `0ms` to `999ms`, else seconds with a decimal.
fn brief(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{}ms", took.as_millis())
    } else {
        format!("{:.1}s", took.as_secs_f32())
    }
}

#[cfg(test)]
mod tests;
