//! Ports for programs that must be told a number, chosen so that nobody else has or gets them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

/// Below the kernel's own range (from 32768), so that no outgoing connection takes one between choice and use.
const RANGE: std::ops::Range<u16> = 12_000..30_000;

/// One claim per port for the life of this process: a name in the abstract socket space, which the kernel frees even
/// after a crash. Every test process asks the same way, so none gets another's.
static CLAIMS: Mutex<BTreeMap<u16, UnixListener>> = Mutex::new(BTreeMap::new());

/// A TCP and UDP port that is free on every address, and stays ours until this process ends.
///
/// # Panics
///
/// When thousands are in use.
#[must_use]
pub fn free() -> u16 {
    let mut claims = CLAIMS.lock().expect("no holder panics");
    // Processes start at different places, so that they rarely meet.
    let start = std::process::id().wrapping_mul(97) as usize + claims.len();
    let size = RANGE.len();
    for step in 0..size {
        let port = RANGE.start + u16::try_from((start + step) % size).expect("below 65536");
        if claims.contains_key(&port) {
            continue;
        }
        let name = format!("standfast-tests-port-{port}");
        let Ok(address) = SocketAddr::from_abstract_name(name) else {
            continue;
        };
        let Ok(claim) = UnixListener::bind_addr(&address) else {
            continue;
        };
        if is_unused(port) {
            claims.insert(port, claim);
            return port;
        }
    }
    panic!("no free port in {RANGE:?}");
}

fn is_unused(port: u16) -> bool {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok()
        && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let mut ports: Vec<_> = (0..50).map(|_| free()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50);
    }
}
