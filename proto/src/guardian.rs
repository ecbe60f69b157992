//! What guardian and worker say to each other: one message per packet of a `SOCK_SEQPACKET` socketpair.
//!
//! ```text
//! worker                               guardian
//!   Hello    ------------------------->          who I am, which generation
//!            <-------------------------  Hello   who I am; a State with descriptor follows if there is one
//!   Plan     ------------------------->          the listeners that the configuration asks for
//!            <-------------------------  Listeners + descriptors
//!   Ready    ------------------------->          clients are served
//!   Heartbeat ------------------------>          ...
//! ```
//!
//! Descriptors travel beside a message, as `SCM_RIGHTS`; the message says what they are.

use std::net::{IpAddr, SocketAddr};

use prost::Message as _;

/// The version of this protocol that [`encode`] writes.
pub const VERSION: u32 = 1;

/// The longest message in bytes; a plan of 500 listeners has about 20 000.
pub const MAX_LEN: usize = 128 * 1024;

/// Everything that can be said, in either direction.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Message {
    /// The first word of both sides.
    #[prost(message, tag = "2")]
    Hello(Hello),
    /// Worker: what to listen on.
    #[prost(message, tag = "3")]
    Plan(Plan),
    /// Guardian: the listeners of a plan, with their descriptors.
    #[prost(message, tag = "4")]
    Listeners(Listeners),
    /// Worker: clients are served from now on.
    #[prost(message, tag = "5")]
    Ready(Ready),
    /// Worker: its loops go round.
    #[prost(message, tag = "6")]
    Heartbeat(Heartbeat),
    /// Either: a memfd with the worker's state is attached.
    #[prost(message, tag = "7")]
    State(State),
    /// Guardian: drain, then end.
    #[prost(message, tag = "8")]
    Stop(Stop),
    /// Guardian: read the configuration again.
    #[prost(message, tag = "9")]
    Reload(Reload),
    /// Guardian: open the log files again.
    #[prost(message, tag = "10")]
    Reopen(Reopen),
    /// Either: I end now, on purpose.
    #[prost(message, tag = "11")]
    Goodbye(Goodbye),
}

/// Who speaks.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// The program's version, for people.
    #[prost(string, tag = "1")]
    pub version: String,
    /// Which life of the worker this is; counts up from 1.
    #[prost(uint64, tag = "2")]
    pub generation: u64,
    /// Guardian: a [`State`] of an earlier worker follows.
    #[prost(bool, tag = "3")]
    pub state_present: bool,
}

/// The listeners that the configuration asks for; it replaces every earlier plan.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Plan {
    /// All of them.
    #[prost(message, repeated, tag = "1")]
    pub listeners: Vec<Listener>,
    /// How long the worker may take to end after [`Stop`], in milliseconds.
    #[prost(uint64, tag = "2")]
    pub stop_grace_ms: u64,
}

/// One address to listen on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Listener {
    /// What [`Listeners`] calls it; unique in a plan.
    #[prost(string, tag = "1")]
    pub key: String,
    /// 4 or 16 bytes; absent for all addresses of both families. See [`Self::address`].
    #[prost(bytes = "vec", optional, tag = "2")]
    pub ip: Option<Vec<u8>>,
    /// 0 lets the kernel choose.
    #[prost(uint32, tag = "3")]
    pub port: u32,
    /// How many sockets share the address (`SO_REUSEPORT`), one per data-plane thread.
    #[prost(uint32, tag = "4")]
    pub sockets: u32,
    /// Whether the kernel waits for the client's first bytes.
    #[prost(bool, tag = "5")]
    pub defer_accept: bool,
}

/// Where a listener is to be bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bind {
    /// Every address of both families, at this port.
    Any(u16),
    /// This address.
    One(SocketAddr),
}

impl Listener {
    /// Where to bind it.
    ///
    /// # Errors
    ///
    /// When ip or port are none.
    pub fn bind(&self) -> Result<Bind, BadListener> {
        let bad = |problem| BadListener {
            key: self.key.clone(),
            problem,
        };
        let port = u16::try_from(self.port).map_err(|_| bad("a port beyond 65535"))?;
        let Some(ip) = &self.ip else {
            return Ok(Bind::Any(port));
        };
        let v4 = <[u8; 4]>::try_from(ip.as_slice()).map(IpAddr::from);
        let ip = v4.or_else(|_| <[u8; 16]>::try_from(ip.as_slice()).map(IpAddr::from));
        let ip = ip.map_err(|_| bad("an ip of neither 4 nor 16 bytes"))?;
        Ok(Bind::One(SocketAddr::new(ip, port)))
    }

    /// Says where to bind it.
    #[must_use]
    pub fn at(mut self, bind: Bind) -> Self {
        let (ip, port) = match bind {
            Bind::Any(port) => (None, port),
            Bind::One(address) => (Some(address.ip()), address.port()),
        };
        self.ip = ip.map(|ip| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        });
        self.port = port.into();
        self
    }
}

/// A listener that cannot be bound as it is described.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("listener {key:?} in the plan has {problem}")]
pub struct BadListener {
    /// Its key.
    pub key: String,
    /// What is wrong.
    pub problem: &'static str,
}

/// What became of a plan.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Listeners {
    /// The key of each attached descriptor, in their order; a key stands once per socket.
    #[prost(string, repeated, tag = "1")]
    pub keys: Vec<String>,
    /// What could not be bound.
    #[prost(message, repeated, tag = "2")]
    pub errors: Vec<BindError>,
    /// Whether more messages of this kind follow for the same plan: a message carries 253 descriptors at most.
    #[prost(bool, tag = "3")]
    pub more: bool,
}

/// A listener that could not be bound.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BindError {
    /// Its key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Why, for people.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// Clients are served from now on.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Ready {}

/// The worker's loops go round.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Heartbeat {
    /// How long ago the slowest data-plane loop ended a lap, in milliseconds.
    #[prost(uint64, tag = "1")]
    pub lap_age_ms: u64,
}

/// A memfd with the worker's state is attached.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct State {}

/// Drain, then end.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Stop {}

/// Read the configuration again.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Reload {}

/// Open the log files again.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Reopen {}

/// The speaker ends on purpose.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Goodbye {
    /// Why, for people.
    #[prost(string, tag = "1")]
    pub reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(oneof = "Message", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    message: Option<Message>,
}

/// Why a message cannot be sent or understood.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GuardianError {
    /// Longer than [`MAX_LEN`].
    #[error("message has {length} bytes, the limit between guardian and worker is {MAX_LEN}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Not what [`encode`] writes.
    #[error("message is malformed")]
    Malformed(#[source] prost::DecodeError),
    /// From a program that is too old or too new.
    #[error(
        "the other side speaks version {theirs} of the protocol between guardian and worker, \
         this program {VERSION} and its neighbours; restart the service to bring both to one release"
    )]
    Version {
        /// The version of the message.
        theirs: u32,
    },
    /// From a neighbouring version, and of a kind that this one does not know; to be passed over.
    #[error("a message of version {theirs} is of a kind that this version does not know")]
    Unknown {
        /// The version of the message.
        theirs: u32,
    },
}

/// The bytes of one packet.
///
/// # Errors
///
/// When there would be more than [`MAX_LEN`].
pub fn encode(message: Message) -> Result<Vec<u8>, GuardianError> {
    encode_as(VERSION, message)
}

fn encode_as(version: u32, message: Message) -> Result<Vec<u8>, GuardianError> {
    let envelope = Envelope {
        version,
        message: Some(message),
    };
    match envelope.encoded_len() {
        length if length > MAX_LEN => Err(GuardianError::TooLong { length }),
        _ => Ok(envelope.encode_to_vec()),
    }
}

/// Reads one packet.
///
/// Versions next to [`VERSION`] are accepted, since an upgrade replaces one side first; so a release may only add.
///
/// # Errors
///
/// When the bytes are too many, malformed, of a version further away, or of a kind that is not known.
pub fn decode(bytes: &[u8]) -> Result<Message, GuardianError> {
    let length = bytes.len();
    if length > MAX_LEN {
        return Err(GuardianError::TooLong { length });
    }
    // The version is asked first: what a stranger means by the other fields is anybody's guess.
    let theirs = Version::decode(bytes)
        .map_err(GuardianError::Malformed)?
        .version;
    if theirs == 0 || theirs.abs_diff(VERSION) > 1 {
        return Err(GuardianError::Version { theirs });
    }
    let envelope = Envelope::decode(bytes).map_err(GuardianError::Malformed)?;
    envelope.message.ok_or(GuardianError::Unknown { theirs })
}

/// The part of the envelope that no version may change.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Version {
    #[prost(uint32, tag = "1")]
    version: u32,
}

#[cfg(test)]
mod tests;
