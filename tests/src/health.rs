//! A scripted HTTP server for health checks: records every request with the time, and answers as it is told.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::ports;
use crate::wait::{eventually, pause};

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// When its head was whole.
    pub at: Instant,
    /// `GET`
    pub method: String,
    /// `/api/v1/health/readiness`
    pub path: String,
    /// `HTTP/1.1`
    pub version: String,
    /// Names in lower case. Of a name that comes twice both values, joined with a comma.
    pub headers: BTreeMap<String, String>,
    /// The asking end.
    pub peer: SocketAddr,
}

#[derive(Clone, Debug)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Arc<Vec<u8>>,
    delay: Duration,
}

#[derive(Debug)]
struct Shared {
    default: Mutex<Reply>,
    paths: Mutex<BTreeMap<String, Reply>>,
    requests: Mutex<Vec<Request>>,
}

/// A scripted HTTP server: answers 200 unless told otherwise, one request per connection.
#[derive(Debug)]
pub struct FakeHttp {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<TcpListener>,
}

impl FakeHttp {
    /// On a port of 127.0.0.1.
    ///
    /// # Panics
    ///
    /// When there is no port.
    #[must_use]
    pub fn start() -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free())))
    }

    /// At this address.
    ///
    /// # Panics
    ///
    /// When it is taken.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        let reply = Reply {
            status: 200,
            headers: Vec::new(),
            body: Arc::new(br#"{"status":"UP"}"#.to_vec()),
            delay: Duration::ZERO,
        };
        let shared = Arc::new(Shared {
            default: Mutex::new(reply),
            paths: Mutex::default(),
            requests: Mutex::default(),
        });
        let mut server = Self {
            address,
            shared,
            listener: None,
        };
        server.restart();
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Sets the status of every path that has none of its own.
    pub fn status(&self, status: u16) -> &Self {
        lock(&self.shared.default).status = status;
        self
    }

    /// Sets the body.
    pub fn body(&self, body: impl Into<Vec<u8>>) -> &Self {
        lock(&self.shared.default).body = Arc::new(body.into());
        self
    }

    /// Sets headers beside Content-Length and Connection.
    pub fn headers(&self, headers: &[(&str, &str)]) -> &Self {
        let headers = headers.iter();
        lock(&self.shared.default).headers = headers
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self
    }

    /// Sets how long it thinks before it answers.
    pub fn delay(&self, delay: Duration) -> &Self {
        lock(&self.shared.default).delay = delay;
        self
    }

    /// Sets status and body of one path.
    pub fn path(&self, path: &str, status: u16, body: &str) -> &Self {
        let reply = Reply {
            status,
            body: Arc::new(body.as_bytes().to_vec()),
            ..lock(&self.shared.default).clone()
        };
        lock(&self.shared.paths).insert(path.to_owned(), reply);
        self
    }

    /// What was asked, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// How many requests there were.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.shared.requests).len()
    }

    /// Forgets the requests.
    pub fn forget(&self) {
        lock(&self.shared.requests).clear();
    }

    /// Listens again on the same port.
    ///
    /// # Panics
    ///
    /// When the port is taken.
    pub fn restart(&mut self) {
        assert!(self.listener.is_none(), "it is running");
        let listener = listen(self.address).expect("the port is ours");
        self.listener = Some(listener.try_clone().expect("descriptors are left"));
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            while let Ok((stream, peer)) = listener.accept() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&shared, stream, peer));
            }
        });
    }

    /// Refuses connections.
    pub fn stop(&mut self) {
        if let Some(listener) = self.listener.take() {
            let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
            drop(listener);
            let address = self.address;
            eventually(Duration::from_secs(5), "the listener is closed", || {
                listen(address).is_ok()
            });
        }
    }
}

impl Drop for FakeHttp {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.take() {
            let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn serve(shared: &Shared, mut stream: TcpStream, peer: SocketAddr) -> Option<()> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break String::from_utf8_lossy(&bytes[..end]).into_owned();
        }
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend(&buffer[..count]);
    };
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let entry = headers.entry(name.to_ascii_lowercase()).or_default();
        if !entry.is_empty() {
            entry.push(',');
        }
        entry.push_str(value.trim());
    }
    let request = Request {
        at: Instant::now(),
        method: word(),
        path: word(),
        version: word(),
        headers,
        peer,
    };
    let own = lock(&shared.paths).get(&request.path).cloned();
    lock(&shared.requests).push(request);
    let reply = own.unwrap_or_else(|| lock(&shared.default).clone());
    pause(reply.delay);
    let mut answer = format!(
        "HTTP/1.1 {} Scripted\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str("\r\n");
    // In one write, so that a checker which leaves after the status line does not see a reset before it.
    let whole = [answer.as_bytes(), &reply.body].concat();
    stream.write_all(&whole).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, PATIENCE};

    #[test]
    fn a_request_is_recorded_and_answered_with_the_status_of_its_path() {
        let server = FakeHttp::start();
        server.path("/down", 503, "no");
        let ask = |path: &str| {
            let mut client = Client::open(server.addr()).expect("open");
            let text = format!("GET {path} HTTP/1.1\r\nHost: me\r\n\r\n");
            client.send(text.as_bytes()).expect("open");
            let answer = client.to_end(PATIENCE).expect("an answer");
            String::from_utf8_lossy(&answer).into_owned()
        };
        assert!(ask("/").starts_with("HTTP/1.1 200 "));
        assert!(ask("/down").starts_with("HTTP/1.1 503 "));
        let requests = server.requests();
        assert_eq!(requests[1].path, "/down");
        assert_eq!(requests[1].headers["host"], "me");
    }
}
