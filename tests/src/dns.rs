//! A scripted name server: answers A questions for the names it is told, and says that others do not exist.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::Host;

/// A name server on UDP port 53 of a host, whose `resolv.conf` points to it. Dropping it stops it.
#[derive(Debug)]
pub struct FakeDns {
    names: Arc<Mutex<BTreeMap<String, Ipv4Addr>>>,
    is_dead: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    folder: String,
}

impl FakeDns {
    /// Starts it on 127.0.0.53 of `host`, with no names. Programs that start on the host from now on ask it.
    ///
    /// # Errors
    ///
    /// Without root.
    pub fn start_on(host: &Host) -> Result<Self> {
        // `ip netns exec` puts the files of this folder over those of /etc.
        let folder = format!("/etc/netns/{}", host.name());
        std::fs::create_dir_all(&folder)?;
        let text = "nameserver 127.0.0.53\noptions timeout:1 attempts:1\n";
        std::fs::write(format!("{folder}/resolv.conf"), text)?;
        let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 53), 53));
        let socket = host
            .inside(|| UdpSocket::bind(address))
            .context("port 53 of a fresh host")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut server = Self {
            names: Arc::default(),
            is_dead: Arc::default(),
            asked: Arc::default(),
            stop: Arc::default(),
            thread: None,
            folder,
        };
        let (names, is_dead) = (Arc::clone(&server.names), Arc::clone(&server.is_dead));
        let (asked, stop) = (Arc::clone(&server.asked), Arc::clone(&server.stop));
        server.thread = Some(thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !stop.load(SeqCst) {
                let Ok((count, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                asked.fetch_add(1, SeqCst);
                if is_dead.load(SeqCst) {
                    continue;
                }
                let names = names.lock().expect("no holder panics");
                if let Some(reply) = answer(&buffer[..count], &names) {
                    let _ = socket.send_to(&reply, from);
                }
            }
        }));
        Ok(server)
    }

    /// From now on `name` is at `address`.
    pub fn set(&self, name: &str, address: Ipv4Addr) {
        let mut names = self.names.lock().expect("no holder panics");
        names.insert(name.to_owned(), address);
    }

    /// Answers nothing at all, or answers again.
    pub fn dead(&self, is_dead: bool) {
        self.is_dead.store(is_dead, SeqCst);
    }

    /// How often it was asked.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

impl Drop for FakeDns {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// RFC 1035, section 4.1: the question again, with one address, none (another type), or name error.
fn answer(query: &[u8], names: &BTreeMap<String, Ipv4Addr>) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        let label = query.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
    let kind = query.get(at..at + 2)?;
    let question = query.get(12..at + 4)?;
    let found = names.get(&labels.join("."));
    let address = found.filter(|_| kind == [0, 1]);
    let code: u8 = if found.is_some() { 0 } else { 3 };
    let mut reply = query.get(..2)?.to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1]);
    reply.extend([0, u8::from(address.is_some()), 0, 0, 0, 0]);
    reply.extend(question);
    if let Some(address) = address {
        // A pointer to the name in the question; type A, class IN, one second to live.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_name_has_an_address_and_another_is_an_error() {
        let names = BTreeMap::from([("a.b".to_owned(), Ipv4Addr::new(10, 1, 2, 3))]);
        let ask = |name: &[u8]| {
            let head = [7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            answer(&[&head, name, &[0, 0, 1, 0, 1]].concat(), &names).expect("a question")
        };
        let known = ask(b"\x01a\x01B");
        assert_eq!((known[3], known[7]), (0x80, 1));
        assert!(known.ends_with(&[10, 1, 2, 3]));
        let unknown = ask(b"\x01x");
        assert_eq!((unknown[3], unknown[7]), (0x83, 0));
    }
}
