//! Who the broker thinks its client is, and whom we believe.

use std::net::SocketAddr;

use standfast_tests::broker::SIGNATURE;
use standfast_tests::prelude::*;

fn start(broker: SocketAddr, lines: &str) -> Standfast {
    Standfast::start(&one_pool(&format!("{lines}\n{}", backends_at([broker]))))
}

/// A PROXY header that says 192.0.2.7:40007.
fn headers() -> [Vec<u8>; 2] {
    let mut binary = SIGNATURE.to_vec();
    binary.extend([
        0x21, 0x11, 0, 12, 192, 0, 2, 7, 192, 0, 2, 1, 0x9c, 0x47, 7, 91,
    ]);
    [
        binary,
        b"PROXY TCP4 192.0.2.7 192.0.2.1 40007 1883\r\n".to_vec(),
    ]
}

const TOLD: &str = "192.0.2.7:40007";

/// E04: PROXY header from an unlisted source → closed and counted
///
/// Listed is 127.0.4.0/24. From there a header is required and believed; from elsewhere it is refused.
#[test]
fn e04_a_header_is_believed_from_listed_networks_only() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&listener_and_pool(
        "accept_proxy = { from = [\"127.0.4.0/24\"] }",
        &format!(
            "check = false\nproxy = {{ version = 2 }}\n{}",
            backends([&broker])
        ),
    ));
    let to = standfast.addr("mqtt");
    let listed = [127, 0, 4, 1].into();
    let mut turned_away = 0;
    for (number, header) in headers().into_iter().enumerate() {
        for size in [header.len(), 1] {
            let id = format!("told-{number}-{size}");
            let mut client = Client::open_from(listed, to).expect("it listens");
            client.send_in_pieces(&header, size, ms(0)).expect("open");
            client.greet(&Connect::v311(&id)).expect("accepted");
            let passed_on = broker.visits_of(&id)[0].header.clone().expect("a header");
            assert_eq!(passed_on.source, TOLD.parse().ok());
            client.disconnect();
            assert_eq!(standfast.line_of(&id)["ip"], TOLD);
        }
        // A forger.
        let mut client = Client::open(to).expect("it listens");
        let _ = client.send(&[&header[..], &Connect::v311("forged").bytes()].concat());
        client.ending(s(2)).expect("closed");
        turned_away += 1;
    }
    // Listed, and no header: the balancer before us is set up wrong.
    let mut client = Client::open_from(listed, to).expect("it listens");
    let _ = client.send(&Connect::v311("forgotten").bytes());
    client.ending(s(2)).expect("closed");
    turned_away += 1;
    standfast.wait_ends("refused(proxy)", turned_away);
    let counted = &standfast.status()["listeners"][0]["rejected"]["proxy"];
    assert_eq!(*counted, turned_away);
    assert_eq!(broker.count_of("for"), 0);
    // Unlisted without a header is an ordinary client.
    let client = Client::id(to, "direct");
    let passed_on = broker.visits_of("direct")[0]
        .header
        .clone()
        .expect("a header");
    assert_eq!(passed_on.source, Some(client.local()));
}

/// E04: … from an unlisted source → closed … — where no network is listed at all.
#[test]
fn e04_without_a_list_every_header_is_refused() {
    let broker = FakeBroker::start();
    let standfast = start(broker.addr(), "check = false");
    for header in headers() {
        let mut client = Client::open(standfast.addr("mqtt")).expect("it listens");
        let _ = client.send(&[&header[..], &Connect::v311("forged").bytes()].concat());
        client.ending(s(2)).expect("closed");
    }
    standfast.wait_ends("refused(proxy)", 2);
    assert_eq!(broker.contacts().len(), 0);
}

/// E13: a broker on loopback of the same host works
///
/// As the document has it: clients come to the host's address, the broker listens on 127.0.0.1 only.
#[test]
fn e13_a_broker_on_loopback_of_the_same_host_works() {
    require!(root);
    let bridge = require!(Bridge::with_hosts(2));
    let (balancer, outside) = (bridge.host(1), bridge.host(2));
    let broker = balancer.inside(|| FakeBroker::at(([127, 0, 0, 1], 1884).into()));
    let standfast = Standfast::start_on(
        balancer,
        "[[listener]]\nbind = \"10.77.0.1:1883\"\npool = \"mqtt\"\n[[pool]]\nname = \"mqtt\"\n\
         check = { interval = \"100ms\" }\nproxy = { version = 2 }\nbackends = [{ name = \"b1\", addr = \"127.0.0.1:1884\" }]",
    );
    standfast.wait_up(&["b1"]);
    let to = SocketAddr::new(balancer.ip(), 1883);
    let mut client = outside.inside(|| Client::id(to, "from-outside"));
    client.ping().expect("it works");
    let header = broker.visits_of("from-outside")[0]
        .header
        .clone()
        .expect("a header");
    assert_eq!(header.source, Some(client.local()));
    assert_eq!(client.local().ip(), outside.ip());
    // Directly, nobody outside reaches the broker.
    let direct = SocketAddr::new(balancer.ip(), 1884);
    assert!(
        outside
            .inside(|| std::net::TcpStream::connect_timeout(&direct, s(2)))
            .is_err()
    );
}
