//! An address where nobody answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::ports;

/// An address that swallows SYNs: a listener with a full backlog, so that connecting there never ends by itself.
#[derive(Debug)]
pub struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _filling: Vec<Socket>,
}

impl BlackHole {
    /// On a port of 127.0.0.1.
    ///
    /// # Panics
    ///
    /// When the kernel does not play along.
    #[must_use]
    pub fn start() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
        let new = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors are left");
        let listener = new();
        listener.bind(&address.into()).expect("the port is ours");
        listener.listen(0).expect("a bound socket listens");
        let mut filling = Vec::new();
        for _ in 0..16 {
            let socket = new();
            let timeout = Duration::from_millis(200);
            let is_full = socket.connect_timeout(&address.into(), timeout).is_err();
            filling.push(socket);
            if is_full {
                return Self {
                    address,
                    _listener: listener,
                    _filling: filling,
                };
            }
        }
        panic!("the backlog of {address} never filled up");
    }

    /// Where it is.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_black_hole_never_answers() {
        let hole = BlackHole::start();
        let error = TcpStream::connect_timeout(&hole.addr(), Duration::from_millis(300))
            .expect_err("nobody accepts");
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    }
}
