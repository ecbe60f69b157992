//! The configuration as the program uses it: every default filled in, every reference known to hold.
//!
//! Only [`super::load`] makes these values, so what they promise (a listener's pool exists, names are unique, …)
//! needs no second check anywhere. They are plain data: two of them can be compared to find what a reload changes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// One whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// This process: name, state, threads.
    pub node: Node,
    /// Process-wide bounds.
    pub limits: Limits,
    /// Program log and connection lines.
    pub log: Log,
    /// Control sockets; at least one.
    pub control: Vec<ControlSocket>,
    /// In the order of the file.
    pub listeners: Vec<Listener>,
    /// In the order of the file.
    pub pools: Vec<Pool>,
}

/// Table `node`.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// `node.name`.
    pub name: String,
    /// `node.state_dir`.
    pub state_dir: PathBuf,
    /// `node.threads`: data-plane threads, at least 1.
    pub threads: usize,
    /// `node.restart_grace`: how long a crashed worker may take to be back.
    pub restart_grace: Duration,
}

/// Table `limits`.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// `limits.connections`: `None` derives it from the file-descriptor limit.
    pub connections: Option<u32>,
    /// `limits.greeting_memory`, in bytes.
    pub greeting_memory: u64,
    /// `limits.relay_memory`, in bytes.
    pub relay_memory: u64,
}

/// Table `log`.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// `log.format`.
    pub format: LogFormat,
    /// `log.target` or `log.targets`, each with its own level.
    pub targets: Vec<LogTarget>,
    /// `log.access`: where connection lines go; `None` is `off`.
    pub access: Option<Target>,
    /// `log.facility` for connection lines that go to syslog.
    pub access_facility: Facility,
    /// `log.access_format`.
    pub access_format: AccessFormat,
    /// `log.access_connect`: also a line when a client was accepted by its broker.
    pub access_connect: bool,
    /// `log.hash_client_ids`: write a keyed hash in place of client ids.
    pub hash_client_ids: bool,
}

/// `log.level`, least to most talkative.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// `error`
    Error,
    /// `warn` (also written `warning`)
    Warn,
    /// `notice`: syslog's level between; events of the house (a backend is down) are notices.
    Notice,
    /// `info`
    Info,
    /// `debug`
    Debug,
    /// `trace`
    Trace,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// key=value lines.
    Text,
    /// One JSON object a line, the same keys.
    Json,
}

/// One place that log lines go to.
#[derive(Clone, Debug, PartialEq)]
pub struct LogTarget {
    /// Where.
    pub target: Target,
    /// What is written there: this level and worse.
    pub level: Level,
    /// For syslog.
    pub facility: Facility,
}

/// A place for lines.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// `stderr`
    Stderr,
    /// `stdout`
    Stdout,
    /// A file's path, opened again on SIGHUP.
    File(PathBuf),
    /// `syslog`: `/dev/log`.
    Syslog,
    /// `syslog://host[:port]`: UDP, port 514 unless given.
    SyslogUdp {
        /// Name or address.
        host: String,
        /// UDP port.
        port: u16,
    },
    /// `journald`: the journal's native socket.
    Journald,
}

/// A syslog facility, by its number (RFC 5424, table 1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facility(pub u8);

/// `log.access_format`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AccessFormat {
    /// `standfast`: key=value.
    Standfast,
    /// `json`: the same keys.
    Json,
    /// `haproxy-tcplog`.
    HaproxyTcplog,
    /// `nginx-mqtt`.
    NginxMqtt,
}

/// One table `control`.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlSocket {
    /// `control.socket`: path of the unix socket.
    pub socket: PathBuf,
    /// `control.owner`: user name; `None` leaves it.
    pub owner: Option<String>,
    /// `control.group`: group name; `None` leaves it.
    pub group: Option<String>,
    /// `control.mode`: permission bits.
    pub mode: u32,
    /// `control.level`.
    pub level: ControlLevel,
}

/// What a control socket allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ControlLevel {
    /// Reads only.
    Read,
    /// Reads and changes.
    Admin,
}

/// One `[[listener]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// `listener.name`; the first bind as written unless given.
    pub name: String,
    /// `listener.bind`, at least one.
    pub bind: Vec<Bind>,
    /// `listener.pool`: index into [`Config::pools`].
    pub pool: usize,
    /// `listener.accept_proxy.from`: networks that must send a PROXY header; `None` expects one from nobody.
    pub accept_proxy: Option<Vec<Cidr>>,
    /// `listener.allow`; empty allows all.
    pub allow: Vec<Cidr>,
    /// `listener.deny`; wins over `allow`.
    pub deny: Vec<Cidr>,
    /// `listener.connect_deadline`.
    pub connect_deadline: Duration,
    /// `listener.max_connect_packet`, in bytes, fixed header included.
    pub max_connect_packet: usize,
    /// `listener.limits`.
    pub limits: ListenerLimits,
}

/// `listener.limits`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListenerLimits {
    /// Connections at once.
    pub connections: Option<u32>,
    /// Connections at once from one client address.
    pub per_ip: Option<u32>,
    /// New connections a second (bursts of one second's worth).
    pub rate: Option<Rate>,
    /// What happens beyond `connections` or `rate`; beyond `per_ip` is always refused.
    pub over: Over,
}

/// `listener.limits.over`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Over {
    /// `wait`: leave new connections in the backlog.
    #[default]
    Wait,
    /// `refuse`: accept and close, counted.
    Refuse,
}

/// Where a listener listens: `host:port`, or `:port` for all addresses of both families.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Bind {
    /// `None` is every address, IPv4 and IPv6.
    pub ip: Option<IpAddr>,
    /// TCP port; 0 lets the kernel choose (tests).
    pub port: u16,
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            None => write!(f, ":{}", self.port),
            Some(ip) => SocketAddr::new(ip, self.port).fmt(f),
        }
    }
}

/// A network: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cidr {
    /// Network address, host bits zero.
    pub ip: IpAddr,
    /// Prefix length, at most 32 or 128.
    pub prefix: u8,
}

impl Cidr {
    /// Whether `ip` lies in this network. An IPv4-mapped IPv6 address counts as its IPv4 address.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.ip, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.prefix.min(32));
                let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.prefix.min(128));
                let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// Events a second, written `"500/s"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// More than 0.
    pub per_second: f64,
}

/// One `[[pool]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// `pool.name`, unique.
    pub name: String,
    /// `pool.mode`.
    pub mode: Mode,
    /// `pool.balance`, with `pool.key` for `consistent-hash`.
    pub balance: Balance,
    /// `pool.sticky`; used when `balance` is [`Balance::Sticky`].
    pub sticky: Sticky,
    /// `pool.proxy`: `None` sends no PROXY header.
    pub proxy: Option<Proxy>,
    /// `pool.on_down`.
    pub on_down: OnDown,
    /// `pool.timeout`.
    pub timeout: Timeouts,
    /// `pool.when_empty`.
    pub when_empty: WhenEmpty,
    /// `pool.slow_start`; zero is off.
    pub slow_start: Duration,
    /// `pool.resolve`.
    pub resolve: Resolve,
    /// `pool.min_up`.
    pub min_up: u32,
    /// `pool.source`: `None` lets the kernel choose.
    pub source: Option<IpAddr>,
    /// `pool.backends`, at least one, names unique in the pool.
    pub backends: Vec<Backend>,
}

/// `pool.mode`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// A CONNECT is required.
    Mqtt,
    /// Bytes pass untouched.
    Tcp,
}

/// `pool.balance`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Balance {
    /// `sticky`
    Sticky,
    /// `round-robin`
    RoundRobin,
    /// `least-connections`
    LeastConnections,
    /// `source`
    Source,
    /// `consistent-hash`
    ConsistentHash(Key),
}

/// What a client is known by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Key {
    /// `client_id`
    ClientId,
    /// `client_ip`
    ClientIp,
}

/// `pool.sticky`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sticky {
    /// `sticky.key`.
    pub key: Key,
    /// `sticky.size`, in entries.
    pub size: u32,
    /// `sticky.expire`, counted from the end of the last connection.
    pub expire: Duration,
    /// `sticky.fallback`: for a first visit; never [`Balance::Sticky`].
    pub fallback: Balance,
    /// `sticky.return_home`.
    pub return_home: bool,
    /// `sticky.persistent_only`: only sessions that outlive their connection get an entry.
    pub persistent_only: bool,
}

/// `pool.proxy`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Proxy {
    /// `proxy.version`.
    pub version: ProxyVersion,
    /// `proxy.profile`, which set what follows.
    pub profile: Option<Profile>,
    /// Whether a CRC32C TLV is sent (version 2).
    pub crc32c: bool,
    /// The longest header that the broker takes, in bytes after the first 16 (version 2).
    pub max_tlv_bytes: u16,
    /// Whether an MQTT or raw check may say LOCAL; if not, it sends PROXY with real addresses.
    pub local_checks: bool,
}

/// `proxy.version`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyVersion {
    /// Version 1, text.
    V1,
    /// Version 2, binary.
    V2,
}

/// `proxy.profile`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Profile {
    /// `mosquitto` 2.1 or newer, `enable_proxy_protocol 2`.
    Mosquitto,
    /// `emqx`
    Emqx,
    /// `hivemq`
    Hivemq,
    /// `rabbitmq`
    Rabbitmq,
    /// `vernemq`
    Vernemq,
}

/// A health check.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What is asked.
    pub kind: CheckKind,
    /// `check.interval`.
    pub interval: Duration,
    /// `check.fast_interval`: after a failure or a passive signal, until settled.
    pub fast_interval: Duration,
    /// `check.timeout`: for one whole check.
    pub timeout: Duration,
    /// `check.rise`: successes in a row that bring a backend up.
    pub rise: u32,
    /// `check.fall`: failures in a row that take it down.
    pub fall: u32,
    /// `check.port` (or the port of the http URL): `None` is the backend's own.
    pub port: Option<u16>,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckKind {
    /// `check.http`: 2xx and 3xx are healthy; redirects are not followed.
    Http {
        /// Host of the URL, where it names one other than the backend (`http://:8889/x` names none).
        address: Option<String>,
        /// Path with query, starts with `/`.
        path: String,
        /// `check.method`.
        method: String,
        /// `check.host`: Host header; `None` sends the backend's address and check port.
        host: Option<String>,
        /// `check.headers`.
        headers: Vec<(String, String)>,
    },
    /// `check.mqtt`: CONNECT, CONNACK, DISCONNECT.
    Mqtt {
        /// `mqtt.level`.
        level: MqttLevel,
        /// `mqtt.username`.
        username: Option<String>,
        /// `mqtt.password_file`: read when the configuration is loaded, last newline cut.
        password_file: Option<PathBuf>,
        /// `mqtt.accept`: CONNACK codes that mean up.
        accept: Vec<u8>,
    },
    /// `check.tcp`: the port opens.
    Tcp,
    /// `check.send`, `check.expect`: bytes out, and the bytes that the answer must start with.
    Raw {
        /// Sent after connecting.
        send: Vec<u8>,
        /// The answer must start with it.
        expect: Vec<u8>,
    },
}

/// A protocol level of MQTT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MqttLevel {
    /// `3.1`
    V31,
    /// `3.1.1`
    V311,
    /// `5`
    V5,
}

/// `pool.on_down`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OnDown {
    /// `on_down.close`.
    pub close: CloseWhen,
    /// `on_down.pace`: connections closed a second; `None` closes all at once.
    pub pace: Option<Rate>,
}

/// `on_down.close`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CloseWhen {
    /// `"dead"`: the backend's port or host is gone; kept when only its readiness fails.
    Dead,
    /// `true`: in both cases.
    Always,
    /// `false`: never.
    Never,
}

/// `pool.timeout`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeouts {
    /// `timeout.connect`: to reach a backend.
    pub connect: Duration,
    /// `timeout.idle`: `None` is `"keepalive"`; `Some` caps it.
    pub idle: Option<Duration>,
    /// `timeout.half_close`.
    pub half_close: Duration,
    /// `timeout.user`: TCP_USER_TIMEOUT to backends.
    pub user: Duration,
    /// `timeout.tcp_keepalive`: zero is off.
    pub tcp_keepalive: Duration,
}

/// `pool.when_empty`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WhenEmpty {
    /// `when_empty.wait`.
    pub wait: Duration,
    /// `when_empty.then`.
    pub then: Then,
}

/// `when_empty.then`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// `close`
    Close,
    /// `refuse`: CONNACK 3 (3.1, 3.1.1) or 0x88 (5).
    Refuse,
}

/// `pool.resolve`.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolve {
    /// `resolve.at_start`, tried in order.
    pub at_start: Vec<AtStart>,
    /// `resolve.every`.
    pub every: Duration,
}

/// One way to an address at start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AtStart {
    /// `last`: the address that was known when the program last ran.
    Last,
    /// `dns`
    Dns,
    /// `none`: start without, and keep trying.
    None,
}

/// One backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// `backend.name`; the address as written unless given. Unique in its pool.
    pub name: String,
    /// Host of `backend.addr`: name or address.
    pub host: String,
    /// Port of `backend.addr`.
    pub port: u16,
    /// `backend.weight`, 0 to 256; 0 takes no new clients by balancing.
    pub weight: u32,
    /// `backend.max_connections`.
    pub max_connections: Option<u32>,
    /// `backend.backup`.
    pub backup: bool,
    /// `backend.disabled`.
    pub disabled: bool,
    /// The pool's check with this backend's own keys over it; `None` is `check = false`.
    pub check: Option<Check>,
}
