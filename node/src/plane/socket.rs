//! System calls of the data plane: accept, connect, receive, send. Nothing here waits.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketFlags, SocketType, sockopt,
};

use crate::config::Timeouts;

/// What a read came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing at the moment.
    Nothing,
    /// The other side will send nothing more.
    Eof,
    /// The connection broke.
    Broken(Errno),
}

/// Reads what is there into `buffer`.
#[inline]
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Received {
    loop {
        match rustix::net::recv(socket.as_fd(), &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => return Received::Eof,
            Ok((n, _)) => return Received::Bytes(n),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Received::Nothing,
            Err(error) => return Received::Broken(error),
        }
    }
}

/// Writes as much as goes; 0 where nothing does at the moment.
///
/// # Errors
///
/// The connection broke.
#[inline]
pub fn send(socket: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        match rustix::net::send(socket.as_fd(), bytes, SendFlags::NOSIGNAL) {
            Ok(n) => return Ok(n),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(0),
            Err(error) => return Err(error),
        }
    }
}

/// Writes as [`send`], but the last segment waits for what follows: a [`shut`] then rides on it, one packet less.
///
/// # Errors
///
/// The connection broke.
pub fn send_last(socket: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        let flags = SendFlags::NOSIGNAL | SendFlags::MORE;
        match rustix::net::send(socket.as_fd(), bytes, flags) {
            Ok(n) => return Ok(n),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(0),
            Err(error) => return Err(error),
        }
    }
}

/// Tells the other side that nothing more comes.
pub fn shut(socket: impl AsFd) {
    // It may be gone already, which is what is wanted.
    let _ = rustix::net::shutdown(socket, Shutdown::Write);
}

/// Takes a connection from the backlog.
///
/// # Errors
///
/// `AGAIN` where there is none; `MFILE` and others where it could not be taken.
#[inline]
pub fn accept(listener: impl AsFd) -> Result<(OwnedFd, Option<SocketAddr>), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    loop {
        match rustix::net::acceptfrom_with(listener.as_fd(), flags) {
            Ok((socket, address)) => return Ok((socket, address.and_then(ip_address))),
            // A client that left while it waited is no fault, and the next may be there.
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The address that the client of this connection reached.
pub fn local_address(socket: impl AsFd) -> Option<SocketAddr> {
    rustix::net::getsockname(socket).ok().and_then(ip_address)
}

fn ip_address(address: SocketAddrAny) -> Option<SocketAddr> {
    SocketAddr::try_from(address).ok().map(canonical)
}

/// An IPv4 client on a socket for both families is an IPv4 client.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Begins to connect. The answer may be there at once (on loopback) or come later; a write finds out.
///
/// # Errors
///
/// What socket(2), bind(2) or connect(2) answer at once.
pub fn dial(to: SocketAddr, source: Option<IpAddr>) -> Result<OwnedFd, Errno> {
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    // The last ACK of the handshake rides on the CONNECT that follows: one packet less.
    sockopt::set_tcp_quickack(&socket, false)?;
    if let Some(source) = source {
        // The port is chosen at connect, per destination, so that one address serves more than 28 000 connections.
        let _ = crate::sys::set_bind_address_no_port(&socket);
        rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
    }
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// Sets what matters only to a connection that lives on: a backend that is gone is noticed, a path is kept open.
pub fn settle(socket: impl AsFd, timeouts: &Timeouts) {
    let socket = socket.as_fd();
    set_user_timeout(socket, timeouts.user);
    set_keepalive(socket, timeouts.tcp_keepalive);
}

/// How a connect that was begun has ended.
///
/// # Errors
///
/// Why it failed.
pub fn dial_result(socket: impl AsFd) -> Result<(), Errno> {
    sockopt::socket_error(socket)?
}

/// Whether the other side has accepted.
pub fn is_connected(socket: impl AsFd) -> bool {
    rustix::net::getpeername(socket).is_ok_and(|address| address.is_some())
}

/// TCP_USER_TIMEOUT; zero leaves the kernel's own.
fn set_user_timeout(socket: impl AsFd, timeout: Duration) {
    let ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    if ms != 0 {
        // Refused only by kernels older than this program's other needs.
        let _ = sockopt::set_tcp_user_timeout(socket, ms);
    }
}

/// TCP keepalive after `idle`, then every third of it; zero is off. A listener's connections inherit it.
pub fn set_keepalive(socket: impl AsFd, idle: Duration) {
    if idle.is_zero() {
        return;
    }
    let socket = socket.as_fd();
    // The calls fail only for sockets that are not TCP.
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, idle.max(Duration::from_secs(1)));
    let _ = sockopt::set_tcp_keepintvl(socket, (idle / 3).max(Duration::from_secs(1)));
}

/// Whether this machine, rather than the other side, is the cause (no descriptors, ports or memory left).
#[must_use]
pub fn is_ours(error: Errno) -> bool {
    matches!(
        error,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL
    )
}

/// The error as text for logs.
#[must_use]
pub fn describe(error: Errno) -> String {
    io::Error::from(error).to_string()
}
