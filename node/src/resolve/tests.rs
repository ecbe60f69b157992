use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::net::UdpSocket;

use super::*;
use crate::pool::Verdict;

/// What a name server says to a name.
#[derive(Clone)]
enum Says {
    Addresses(Vec<IpAddr>, u32),
    Nothing,
}

/// A name server on loopback; names that it does not know do not exist.
#[derive(Clone)]
struct Server {
    at: SocketAddr,
    zone: Arc<Mutex<HashMap<String, Says>>>,
    asked: Arc<Mutex<u32>>,
}

impl Server {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let server = Self {
            at: socket.local_addr().expect("a bound socket has an address"),
            zone: Arc::default(),
            asked: Arc::default(),
        };
        let this = server.clone();
        tokio::spawn(async move {
            let mut buf = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buf).await {
                if let Some(answer) = this.answer(&buf[..length]) {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        server
    }

    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let mut message = Message::from_vec(question).ok()?;
        let query = message.queries.first()?.clone();
        let name = query.name().to_utf8();
        message.metadata.message_type = MessageType::Response;
        message.metadata.recursion_available = true;
        *self.asked.lock() += 1;
        match self.zone.lock().get(name.trim_end_matches('.')) {
            None => message.metadata.response_code = ResponseCode::NXDomain,
            Some(Says::Nothing) => return None,
            Some(Says::Addresses(all, ttl)) => {
                for ip in all {
                    let data = match (ip, query.query_type()) {
                        (IpAddr::V4(ip), RecordType::A) => RData::A((*ip).into()),
                        (IpAddr::V6(ip), RecordType::AAAA) => RData::AAAA((*ip).into()),
                        _ => continue,
                    };
                    message.add_answer(Record::from_rdata(query.name().clone(), *ttl, data));
                }
            }
        }
        message.to_vec().ok()
    }

    fn says(&self, name: &str, says: Says) {
        self.zone.lock().insert(name.into(), says);
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn backend(host: &str) -> config::Backend {
    config::Backend {
        name: "mq1".into(),
        host: host.into(),
        port: 1883,
        weight: 1,
        max_connections: None,
        backup: false,
        disabled: false,
        check: None,
    }
}

struct Stage {
    backend: Arc<Backend>,
    events: Events,
    settings: watch::Sender<config::Resolve>,
}

fn settings(at_start: &[AtStart]) -> config::Resolve {
    config::Resolve {
        at_start: at_start.to_vec(),
        every: Duration::from_secs(1),
    }
}

const DEFAULT: [AtStart; 3] = [AtStart::Last, AtStart::Dns, AtStart::None];

fn stage(host: &str, resolver: Resolver, folder: &Folder, at_start: &[AtStart]) -> Stage {
    let events = Events::default();
    let backend = Arc::new(Backend::new("mqtt".into(), backend(host)));
    let (sender, receiver) = watch::channel(settings(at_start));
    let memory = Addresses::load(&folder.0, &events);
    tokio::spawn(run(
        Arc::clone(&backend),
        resolver,
        receiver,
        memory,
        events.clone(),
    ));
    Stage {
        backend,
        events,
        settings: sender,
    }
}

impl Stage {
    async fn comes_to(&self, address: Option<&str>) {
        let wanted = address.map(|address| address.parse().expect("an address"));
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.backend.address() != wanted {
            assert!(
                Instant::now() < deadline,
                "{:?}, wanted {wanted:?}",
                self.backend.address()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn notes(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let (events, _) = self.events.recent_and_live(99);
            if events.iter().any(|event| event.text.contains(text)) {
                return;
            }
            assert!(Instant::now() < deadline, "{events:?}, wanted {text}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // A writer may still be at work in it; what it leaves is a file of no use in the temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn folder(name: &str) -> Folder {
    let folder = std::env::temp_dir().join(format!("standfast-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder takes a folder");
    Folder(folder)
}

#[tokio::test]
async fn both_families_are_found_with_the_shortest_ttl() {
    let server = Server::start().await;
    let (one, other) = (ip("10.0.0.1"), ip("fd00::1"));
    server.says("mq1.example", Says::Addresses(vec![other, one, one], 7));
    let found = Resolver::with_name_server(server.at)
        .look_up("mq1.example")
        .await;
    assert_eq!((found.v4, found.v6), (Some(vec![one]), Some(vec![other])));
    let ttl = found.ttl.expect("the records have one");
    assert!(
        ttl <= Duration::from_secs(7) && ttl > Duration::from_secs(5),
        "{ttl:?}"
    );
    assert_eq!(found.trouble, None);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_trouble_and_is_asked_for_anew_each_time() {
    let server = Server::start().await;
    let resolver = Resolver::with_name_server(server.at);
    for _ in 0..3 {
        let before = *server.asked.lock();
        let found = resolver.look_up("nobody.example").await;
        assert_eq!((found.v4, found.v6), (Some(vec![]), Some(vec![])));
        assert_eq!(found.trouble.as_deref(), Some("the name has no address"));
        assert!(*server.asked.lock() > before, "answered from a cache");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_leaves_the_matter_open() {
    let gone = UdpSocket::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let at = gone.local_addr().expect("a bound socket has an address");
    drop(gone);
    let found = Resolver::with_name_server(at).look_up("mq1.example").await;
    assert_eq!((found.v4, found.v6), (None, None));
    assert!(found.trouble.is_some());
}

#[tokio::test]
async fn the_hosts_file_knows_localhost_without_asking_anybody() {
    let found = Resolver::system().look_up("localhost").await;
    let all: Vec<_> = found.v4.iter().chain(&found.v6).flatten().collect();
    assert!(
        !all.is_empty() && all.iter().all(|ip| ip.is_loopback()),
        "{found:?}"
    );
    assert_eq!((found.source(), found.ttl), ("hosts", None));
}

#[tokio::test]
async fn a15_a_dead_dns_at_the_start_is_waited_for_and_the_last_address_bridges_the_next() {
    let folder = folder("a15");
    let server = Server::start().await;
    let resolver = Resolver::with_name_server(server.at);
    let first = stage("mq1.example", resolver.clone(), &folder, &DEFAULT);
    first
        .notes("mq1: mq1.example has no address: the name has no address")
        .await;
    assert_eq!(first.backend.address(), None);
    server.says("mq1.example", Says::Addresses(vec![ip("10.0.0.11")], 60));
    first.comes_to(Some("10.0.0.11:1883")).await;
    first.notes("mq1: mq1.example is 10.0.0.11 (dns)").await;

    // Another address, then none: the last good one stays.
    server.says("mq1.example", Says::Addresses(vec![ip("10.0.0.12")], 1));
    first.comes_to(Some("10.0.0.12:1883")).await;
    first.notes("mq1: 10.0.0.11 → 10.0.0.12 (dns)").await;
    server.zone.lock().clear();
    first.notes("mq1: mq1.example stays at 10.0.0.12").await;
    assert_eq!(
        first.backend.address(),
        Some(SocketAddr::new(ip("10.0.0.12"), 1883))
    );
    drop(first);

    // The next life begins with dead DNS.
    server.says("mq1.example", Says::Nothing);
    let second = stage("mq1.example", resolver.clone(), &folder, &DEFAULT);
    second.comes_to(Some("10.0.0.12:1883")).await;
    second
        .notes("mq1: mq1.example is 10.0.0.12 (last known)")
        .await;
    let third = stage("mq1.example", resolver, &folder, &[AtStart::None]);
    server.says("mq1.example", Says::Addresses(vec![ip("10.0.0.13")], 60));
    third.comes_to(Some("10.0.0.13:1883")).await;
    second.comes_to(Some("10.0.0.13:1883")).await;
}

#[tokio::test]
async fn trouble_is_noted_when_it_begins_and_not_at_every_look_up() {
    let folder = folder("trouble");
    let server = Server::start().await;
    let stage = stage(
        "mq1.example",
        Resolver::with_name_server(server.at),
        &folder,
        &DEFAULT,
    );
    let deadline = Instant::now() + Duration::from_secs(20);
    while *server.asked.lock() < 6 {
        assert!(Instant::now() < deadline, "it is asked for again and again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(stage.events.recent_and_live(99).0.len(), 1);
}

#[tokio::test]
async fn a_reload_can_change_host_and_port() {
    let folder = folder("reload");
    let server = Server::start().await;
    server.says("mq1.example", Says::Addresses(vec![ip("10.0.0.11")], 60));
    server.says("mq2.example", Says::Addresses(vec![ip("10.0.0.22")], 60));
    let resolver = Resolver::with_name_server(server.at);
    let stage = stage("mq1.example", resolver, &folder, &DEFAULT);
    stage.comes_to(Some("10.0.0.11:1883")).await;
    for (host, port, wanted) in [
        ("mq1.example", 1884, Some("10.0.0.11:1884")),
        ("mq2.example", 1884, Some("10.0.0.22:1884")),
        ("nobody.example", 1884, None),
        ("10.0.0.33", 1885, Some("10.0.0.33:1885")),
        ("fd00::33", 1885, Some("[fd00::33]:1885")),
        ("mq1.example", 1883, Some("10.0.0.11:1883")),
    ] {
        let config = config::Backend {
            port,
            ..backend(host)
        };
        stage.backend.config.store(Arc::new(config));
        stage.settings.send_replace(settings(&DEFAULT));
        stage.comes_to(wanted).await;
    }
    assert_eq!(stage.backend.verdict(), Verdict::Up);
}
