//! What no library has a safe call for: two socket options, and an epoll instance for tokio to watch.
#![expect(
    unsafe_code,
    reason = "setsockopt for options that socket2 and rustix do not wrap, and tokio's AsyncFd"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Lets the kernel keep a new connection to itself until bytes have come or about `seconds` have passed
/// (TCP_DEFER_ACCEPT, tcp(7)).
///
/// # Errors
///
/// What setsockopt(2) answers.
pub(crate) fn set_defer_accept(socket: impl AsFd, seconds: i32) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)
}

/// Lets the kernel choose the port at connect, per destination, so that one source address serves more connections
/// than there are ports (IP_BIND_ADDRESS_NO_PORT, ip(7)).
///
/// # Errors
///
/// What setsockopt(2) answers.
pub(crate) fn set_bind_address_no_port(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

fn set(socket: impl AsFd, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the call, and the pointer and length describe `value`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(&value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The epoll instance of `poll`, which tokio tells to be readable while it holds events.
///
/// # Errors
///
/// The descriptor could not be duplicated or registered.
pub(crate) fn watch_epoll(poll: &mio::Poll) -> io::Result<AsyncFd<OwnedFd>> {
    let epoll = poll.registry().as_fd().try_clone_to_owned()?;
    // SAFETY: the AsyncFd owns the descriptor, which is neither replaced nor closed while it does.
    Ok(unsafe { AsyncFd::register_with_interest(epoll, Interest::READABLE)? })
}

/// A descriptor that tokio tells to be readable.
///
/// # Errors
///
/// It could not be registered.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the AsyncFd owns the descriptor, which is neither replaced nor closed while it does.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE)? })
}
