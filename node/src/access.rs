//! The connection line: what is known of a connection when it ends (or, with `log.access_connect`, is accepted).

pub mod format;
mod writer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use writer::{AccessLog, Hide};

use crate::end::End;

/// One connection, told when it ends. Plain data, made on a data-plane thread, written elsewhere.
#[derive(Clone, Debug)]
pub struct Line {
    /// Unique in this cluster's life for all practical purposes; 16 hex digits in the log.
    pub id: u64,
    /// When the connection was accepted.
    pub accepted: SystemTime,
    /// From accept to now.
    pub duration: Duration,
    /// As sent in the CONNECT (or assigned by an MQTT 5 broker where it was empty).
    pub client_id: Option<Box<str>>,
    /// The client's address; the one of the PROXY header where one was accepted.
    pub client: SocketAddr,
    /// The address that the client reached.
    pub local: SocketAddr,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// Name of the pool.
    pub pool: Arc<str>,
    /// Name of the backend, once chosen.
    pub backend: Option<Arc<str>>,
    /// Its address, once connected to.
    pub backend_addr: Option<SocketAddr>,
    /// Protocol level: 3, 4, 5; `None` before a CONNECT or in `tcp` mode.
    pub proto: Option<u8>,
    /// Keepalive in force, in seconds; 0 is none.
    pub keepalive: u16,
    /// Why this backend (see `route`).
    pub why: Option<&'static str>,
    /// From accept to the whole CONNECT.
    pub greeting: Option<Duration>,
    /// Waited for a backend to be free or up.
    pub queue: Option<Duration>,
    /// From the first try to the backend's accept.
    pub connect: Option<Duration>,
    /// Code of the CONNACK.
    pub connack: Option<u8>,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Why it ended; `None` for the line at CONNECT.
    pub end: Option<End>,
}
