//! A server whose every connection runs the script of the test, and other helpers of this binary.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use socket2::SockRef;
use standfast_tests::prelude::*;
use standfast_tests::standfast::processes;

/// Bytes of a TCP segment.
pub const SEGMENT: u32 = 1_400;

/// Listens on a port of 127.0.0.1 and gives each connection to the script, in a thread of its own.
pub struct Scripted {
    address: SocketAddr,
    listener: TcpListener,
}

impl Scripted {
    pub fn start(script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        // As on an Ethernet: with the segments of loopback, the kernel alone would take megabytes for a reader that stalls.
        let segment = SockRef::from(&listener).set_tcp_mss(SEGMENT);
        segment.expect("a size that every kernel takes");
        let address = listener.local_addr().expect("it is bound");
        let accepting = listener.try_clone().expect("descriptors are left");
        let script = Arc::new(script);
        thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let script = Arc::clone(&script);
                thread::spawn(move || script(stream));
            }
        });
        Self { address, listener }
    }

    pub fn addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }
}

/// The next packet of a stream that a script owns.
pub fn read_packet(stream: &mut TcpStream, pending: &mut Vec<u8>) -> Option<Packet> {
    use std::io::Read;
    loop {
        if let Ok(Some((packet, length))) = Packet::split(pending) {
            pending.drain(..length);
            return Some(packet);
        }
        let mut buffer = [0; 16 * 1024];
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(n) => pending.extend(&buffer[..n]),
        }
    }
}

/// CONNACK, accepted, as 3.1.1 has it.
pub const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

/// One pool, served by one data-plane thread.
pub fn one_thread(lines: &str) -> String {
    format!("[node]\nthreads = 1\n{}", one_pool(lines))
}

/// One pool of these backends in `tcp` mode.
pub fn tcp_pool(lines: &str, backends: &[SocketAddr]) -> String {
    one_pool(&format!(
        "mode = \"tcp\"\nbalance = \"round-robin\"\ncheck = false\n{lines}\n{}",
        backends_at(backends.iter().copied())
    ))
}

/// The worker's process.
pub fn worker(standfast: &Standfast) -> u32 {
    within(s(5), "a worker", || {
        processes(standfast.program().pid()).get(1).copied()
    })
}
