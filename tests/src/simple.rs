//! What many tests begin with: one listener and one pool, a client that comes and goes, a plain HAProxy beside it.

use std::net::SocketAddr;
use std::thread;

use crate::broker::FakeBroker;
use crate::client::Client;
use crate::standfast::Standfast;

/// One listener `mqtt` and one pool of the same name with these lines.
#[must_use]
pub fn one_pool(lines: &str) -> String {
    listener_and_pool("", lines)
}

/// As [`one_pool`], with lines for the listener too.
#[must_use]
pub fn listener_and_pool(listener: &str, pool: &str) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:${{port:mqtt}}\"\npool = \"mqtt\"\n{listener}\n\
         [[pool]]\nname = \"mqtt\"\n{pool}\n"
    )
}

/// A whole visit at the listener `mqtt`: CONNECT, CONNACK, DISCONNECT.
///
/// # Panics
///
/// Where the client is not accepted.
#[track_caller]
pub fn visit(standfast: &Standfast, id: &str) {
    Client::id(standfast.addr("mqtt"), id).disconnect();
}

/// Which of these brokers has seen this client, by their places, in the order of its visits.
#[must_use]
pub fn places_of(brokers: &[FakeBroker], id: &str) -> Vec<usize> {
    let visits = brokers.iter().enumerate().flat_map(|(place, broker)| {
        let visits = broker.visits().into_iter();
        let own = visits.filter(|visit| visit.id == id);
        own.map(move |visit| (visit.at, place)).collect::<Vec<_>>()
    });
    let mut visits: Vec<_> = visits.collect();
    visits.sort_unstable();
    visits.into_iter().map(|(_, place)| place).collect()
}

/// A HAProxy `listen l` in TCP mode on this port of 127.0.0.1, with the servers `s1`, `s2`, …; `options` follow each
/// server, `lines` stand in the section.
#[must_use]
pub fn haproxy_listen(port: u16, lines: &str, servers: &[SocketAddr], options: &str) -> String {
    let mut text = format!(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         listen l\n  bind 127.0.0.1:{port}\n{lines}\n"
    );
    for (place, server) in servers.iter().enumerate() {
        text.push_str(&format!("  server s{} {server} {options}\n", place + 1));
    }
    text
}

/// HAProxy's lines that wait for a CONNECT and let nothing else pass.
pub const HAPROXY_MQTT_ONLY: &str = "  tcp-request inspect-delay 300ms\n  \
     tcp-request content reject unless { req.payload(0,0),mqtt_is_valid }";

/// Makes room for `count` file descriptors in this process and in those that it starts.
///
/// # Errors
///
/// Where this machine does not allow so many.
pub fn descriptors(count: usize) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let count = u64::try_from(count)?;
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= count) {
        return Ok(());
    }
    let maximum = now.maximum.map(|maximum| maximum.max(count));
    let wanted = Rlimit {
        current: Some(count),
        maximum,
    };
    setrlimit(Resource::Nofile, wanted)
        .map_err(|error| anyhow::anyhow!("{count} file descriptors: {error}"))
}

/// Connects the clients `id-0`, `id-1`, … once each, a few at a time, and cuts them off.
///
/// # Panics
///
/// Where one of them is not accepted.
pub fn connect_all(to: SocketAddr, count: usize) {
    const HANDS: usize = 8;
    thread::scope(|scope| {
        for hand in 0..HANDS {
            scope.spawn(move || {
                for number in (hand..count).step_by(HANDS) {
                    let client = Client::id(to, &format!("id-{number}"));
                    // A reset leaves no port behind that waits for its time.
                    client.reset().expect("the kernel lets us");
                }
            });
        }
    });
}

/// Which broker has seen each of those clients last.
///
/// # Panics
///
/// Where one of them was at several, or at none.
#[must_use]
#[track_caller]
pub fn homes_seen(brokers: &[FakeBroker], count: usize) -> Vec<usize> {
    let mut homes = vec![usize::MAX; count];
    for (place, broker) in brokers.iter().enumerate() {
        for id in broker.ids("id-") {
            let number: usize = id["id-".len()..].parse().expect("ours");
            assert_eq!(homes[number], usize::MAX, "{id} was there twice");
            homes[number] = place;
        }
    }
    assert!(
        homes.iter().all(|place| *place < brokers.len()),
        "everybody was somewhere"
    );
    homes
}
