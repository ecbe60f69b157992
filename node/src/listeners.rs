//! The listening sockets, as the guardian holds them: bound once, kept over every worker and reload.
//!
//! Each address has one socket per data-plane thread (SO_REUSEPORT), so threads share no queue. Whoever holds the
//! sockets keeps the port open: while a worker is away, clients wait in the backlog and are not refused.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};
use standfast_proto::guardian::{self, Bind, BindError};

use crate::plane::socket::set_keepalive;
use crate::sys;

/// How many connections may wait to be accepted, per socket; the kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// How long a client that says nothing stays with the kernel (TCP_DEFER_ACCEPT); larger values delay its deadline.
const DEFER: i32 = 1;

/// TCP keepalive of client connections, which inherit it from here.
const KEEPALIVE: std::time::Duration = std::time::Duration::from_secs(60);

/// The sockets of one address.
#[derive(Debug)]
struct Bound {
    plan: guardian::Listener,
    sockets: Vec<OwnedFd>,
}

impl Bound {
    /// Whether these sockets can be what is wanted without being bound anew.
    fn serves(&self, wanted: &guardian::Listener) -> bool {
        self.plan.bind() == wanted.bind() && self.plan.sockets == wanted.sockets
    }

    /// Makes them what is wanted; always `true`, for `retain`.
    fn adapt(&mut self, wanted: &guardian::Listener) -> bool {
        if self.plan.defer_accept != wanted.defer_accept {
            for socket in &self.sockets {
                // 0 turns it off; a socket that listens always takes it.
                let _ = sys::set_defer_accept(socket, if wanted.defer_accept { DEFER } else { 0 });
            }
            self.plan.defer_accept = wanted.defer_accept;
        }
        true
    }
}

/// All listening sockets.
#[derive(Debug, Default)]
pub struct Listeners {
    bound: BTreeMap<String, Bound>,
}

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Key and socket, once per socket.
    pub sockets: Vec<(String, OwnedFd)>,
    /// What could not be bound; then nothing was changed.
    pub errors: Vec<BindError>,
}

impl Listeners {
    /// Makes the sockets what a plan asks for: new ones bound, those that it does not name closed, the rest untouched.
    ///
    /// All or nothing: where one cannot be bound, those of before stay.
    pub fn apply(&mut self, plan: &[guardian::Listener]) -> Outcome {
        let mut outcome = Outcome::default();
        let mut fresh = BTreeMap::new();
        for listener in plan {
            if self
                .bound
                .get(&listener.key)
                .is_some_and(|bound| bound.serves(listener))
            {
                continue;
            }
            match bind_all(listener) {
                Ok(sockets) => {
                    let plan = listener.clone();
                    fresh.insert(listener.key.clone(), Bound { plan, sockets });
                }
                Err(error) => outcome.errors.push(BindError {
                    key: listener.key.clone(),
                    message: describe(&error),
                }),
            }
        }
        if !outcome.errors.is_empty() {
            return outcome;
        }
        self.bound.append(&mut fresh);
        self.bound.retain(|key, bound| {
            let wanted = plan.iter().find(|listener| listener.key == *key);
            wanted.is_some_and(|wanted| bound.adapt(wanted))
        });
        for (key, bound) in &self.bound {
            for socket in &bound.sockets {
                match socket.try_clone() {
                    Ok(socket) => outcome.sockets.push((key.clone(), socket)),
                    Err(error) => outcome.errors.push(BindError {
                        key: key.clone(),
                        message: error.to_string(),
                    }),
                }
            }
        }
        outcome
    }

    /// Closes all: from now on connections are refused.
    pub fn close(&mut self) {
        self.bound.clear();
    }
}

fn bind_all(listener: &guardian::Listener) -> io::Result<Vec<OwnedFd>> {
    let at = listener.bind().map_err(io::Error::other)?;
    let mut sockets = Vec::new();
    for _ in 0..listener.sockets.max(1) {
        // With port 0 the kernel chooses once, and the rest share its choice.
        let at = match (at, sockets.first()) {
            (Bind::Any(0), Some(first)) => Bind::Any(port_of(first)?),
            (Bind::One(address), Some(first)) if address.port() == 0 => {
                Bind::One(SocketAddr::new(address.ip(), port_of(first)?))
            }
            (at, _) => at,
        };
        let how = How {
            first: sockets.is_empty(),
            defer_accept: listener.defer_accept,
        };
        sockets.push(bind(at, how)?);
    }
    Ok(sockets.into_iter().map(OwnedFd::from).collect())
}

fn port_of(socket: &Socket) -> io::Result<u16> {
    let address = socket.local_addr()?.as_socket();
    Ok(address.map_or(0, |address| address.port()))
}

/// How a socket is to be.
#[derive(Clone, Copy)]
struct How {
    /// It is the first of its address: nobody else may listen there.
    first: bool,
    defer_accept: bool,
}

fn bind(at: Bind, how: How) -> io::Result<Socket> {
    match at {
        Bind::One(address) => bind_one(address, true, how),
        Bind::Any(port) => {
            let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            bind_one(both, false, how).or_else(|error| {
                // A host without IPv6.
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
                ) {
                    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
                    bind_one(v4, true, how)
                } else {
                    Err(error)
                }
            })
        }
    }
}

fn bind_one(address: SocketAddr, only_v6: bool, how: How) -> io::Result<Socket> {
    if how.first {
        // SO_REUSEPORT would let another instance of the same user share the port in silence; a socket without it
        // finds that somebody listens.
        plain(address, only_v6)?.bind(&address.into())?;
    }
    let socket = plain(address, only_v6)?;
    socket.set_reuse_port(true)?;
    // Connections inherit these.
    socket.set_tcp_nodelay(true)?;
    set_keepalive(&socket, KEEPALIVE);
    if how.defer_accept {
        sys::set_defer_accept(&socket, DEFER)?;
    }
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn plain(address: SocketAddr, only_v6: bool) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    Ok(socket)
}

/// An error of bind as an operator can use it.
fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            "the address is in use by another program (ss -ltnp shows which)".into()
        }
        Some(libc::EACCES) => {
            "permission denied: a port below 1024 needs CAP_NET_BIND_SERVICE".into()
        }
        Some(libc::EADDRNOTAVAIL) => "this host does not have the address".into(),
        _ => error.to_string(),
    }
}
