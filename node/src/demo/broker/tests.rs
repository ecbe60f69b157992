use super::super::packet::{DISCONNECT, subscribe};
use super::*;
use standfast_proto::mqtt::probe::Probe;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedReadHalf;

const SOON: Duration = Duration::from_secs(10);

struct Client {
    level: Level,
    packets: Packets<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Client {
    /// Connects; answers the client and the CONNACK.
    async fn greet(to: SocketAddr, level: Level, id: &str, clean: bool) -> (Self, Vec<u8>) {
        let (read, write) = TcpStream::connect(to).await.unwrap().into_split();
        let packets = Packets::new(read);
        let mut client = Self {
            level,
            packets,
            write,
        };
        let probe = Probe {
            level,
            client_id: id,
            clean_start: clean,
            keep_alive: 60,
            username: None,
            password: None,
        };
        let mut connect = Vec::new();
        probe.encode(&mut connect).unwrap();
        client.say(&connect).await;
        let connack = client.hear().await;
        (client, connack)
    }

    async fn new(to: SocketAddr, level: Level, id: &str) -> Self {
        Self::greet(to, level, id, true).await.0
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.write.write_all(bytes).await.unwrap();
    }

    async fn subscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        self.say(&subscribe(self.level, 7, filters)).await;
        self.hear().await
    }

    async fn publish(&mut self, topic: &str, payload: &str, qos: u8) {
        let payload = payload.as_bytes();
        let id = u16::from(qos) * 5;
        let message = Message {
            topic,
            payload,
            qos,
            id,
        };
        self.say(&message.bytes(self.level)).await;
    }

    async fn hear(&mut self) -> Vec<u8> {
        self.packet().await.expect("a packet").raw
    }

    async fn packet(&mut self) -> Option<Packet> {
        let next = timeout(SOON, self.packets.next()).await;
        next.expect("something in time").unwrap_or(None)
    }

    /// The next message: topic, payload, QoS.
    async fn message(&mut self) -> (String, String, u8) {
        let packet = self.packet().await.expect("a message");
        let message = Message::read(&packet, self.level).unwrap();
        let payload = String::from_utf8_lossy(message.payload).into_owned();
        (message.topic.to_owned(), payload, message.qos)
    }
}

#[tokio::test]
async fn clients_of_all_levels_hear_what_they_subscribed_to_and_nothing_else() {
    let broker = Broker::start("b1").unwrap();
    let mut plus = Client::new(broker.addr(), Level::V31, "plus").await;
    let mut hash = Client::new(broker.addr(), Level::V311, "hash").await;
    let mut exact = Client::new(broker.addr(), Level::V5, "exact").await;
    assert_eq!(plus.subscribe(&["room/+/t"]).await, [0x90, 3, 0, 7, 1]);
    assert_eq!(hash.subscribe(&["room/#"]).await, [0x90, 3, 0, 7, 1]);
    assert_eq!(exact.subscribe(&["room/1/t"]).await, [0x90, 4, 0, 7, 0, 1]);

    let mut sender = Client::new(broker.addr(), Level::V5, "sender").await;
    sender.publish("elsewhere", "no", 0).await;
    sender.publish("room/2/t", "two", 0).await;
    sender.publish("room/1/t", "one", 1).await;
    assert_eq!(sender.hear().await, [0x40, 2, 0, 5], "PUBACK");

    let heard = |topic: &str, text: &str, qos| (topic.to_owned(), text.to_owned(), qos);
    assert_eq!(plus.message().await, heard("room/2/t", "two", 0));
    assert_eq!(plus.message().await, heard("room/1/t", "one", 1));
    assert_eq!(hash.message().await, heard("room/2/t", "two", 0));
    assert_eq!(hash.message().await, heard("room/1/t", "one", 1));
    assert_eq!(exact.message().await, heard("room/1/t", "one", 1));
}

#[tokio::test]
async fn a_broker_answers_pings_and_tells_its_name_and_ends_on_disconnect() {
    let broker = Broker::start("b2").unwrap();
    let mut client = Client::new(broker.addr(), Level::V311, "c").await;
    client.say(&[0xC0, 0]).await;
    assert_eq!(client.hear().await, PINGRESP);
    client.subscribe(&[NAME_TOPIC]).await;
    let (topic, name, _) = client.message().await;
    assert_eq!((&*topic, &*name), (NAME_TOPIC, "b2"));
    client.say(&DISCONNECT).await;
    assert!(client.packet().await.is_none());
}

#[tokio::test]
async fn an_id_has_one_session_and_its_newest_connection_owns_it() {
    let broker = Broker::start("b").unwrap();
    let (mut old, connack) = Client::greet(broker.addr(), Level::V5, "same", true).await;
    assert_eq!(connack[2..4], [0, 0], "nothing was kept, accepted");
    let mut new = Client::new(broker.addr(), Level::V311, "same").await;
    assert_eq!(old.hear().await, [0xE0, 1, 0x8E], "session taken over");
    assert!(old.packet().await.is_none());
    new.say(&[0xC0, 0]).await;
    assert_eq!(new.hear().await, PINGRESP);
}

#[tokio::test]
async fn subscriptions_outlive_a_connection_only_where_the_client_asked_for_it() {
    let broker = Broker::start("b").unwrap();
    for (clean, present) in [(true, 0), (false, 0), (false, 1), (true, 0)] {
        let (mut client, connack) = Client::greet(broker.addr(), Level::V311, "c", clean).await;
        assert_eq!(connack, [0x20, 2, present, 0], "clean: {clean}");
        if present == 0 {
            client.subscribe(&["t"]).await;
        }
        client.publish("t", "mine", 0).await;
        assert_eq!(client.message().await.1, "mine");
        client.say(&DISCONNECT).await;
        assert!(client.packet().await.is_none());
    }
}

#[tokio::test]
async fn a_dead_broker_refuses_on_its_port_and_comes_back_without_memory() {
    let mut broker = Broker::start("b").unwrap();
    let (mut held, _) = Client::greet(broker.addr(), Level::V311, "c", false).await;
    broker.stop().await.unwrap();
    assert!(held.packet().await.is_none(), "its connections are cut");
    let refused = TcpStream::connect(broker.addr()).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    broker.restart().unwrap();
    let (_, connack) = Client::greet(broker.addr(), Level::V311, "c", false).await;
    assert_eq!(connack, [0x20, 2, 0, 0], "no session is present");
}

#[tokio::test]
async fn what_is_no_client_is_shown_the_door() {
    let broker = Broker::start("b").unwrap();
    for bytes in [
        &[b'G'; 100][..],
        &[0xC0, 0],
        &[0x10, 0xFF, 0xFF, 0xFF, 0xFF],
    ] {
        let (read, mut write) = TcpStream::connect(broker.addr())
            .await
            .unwrap()
            .into_split();
        write.write_all(bytes).await.unwrap();
        let ended = timeout(SOON, Packets::new(read).next()).await;
        let ended = ended.expect("closed in time");
        assert!(ended.is_err() || ended.is_ok_and(|packet| packet.is_none()));
    }
    let mut client = Client::new(broker.addr(), Level::V311, "second").await;
    let again = packet(0x10, &[0; 12]);
    client.say(&again).await;
    assert!(client.packet().await.is_none(), "a second CONNECT");
}

#[test]
fn wildcards_reach_as_far_as_mqtt_says() {
    for (filter, topic, fits) in [
        ("a/b", "a/b", true),
        ("a/b", "a", false),
        ("a", "a/b", false),
        ("a/+", "a/b", true),
        ("a/+", "a", false),
        ("a/+", "a/b/c", false),
        ("+/+", "/b", true),
        ("a/#", "a", true),
        ("a/#", "a/b/c", true),
        ("#", "a/b", true),
        ("#", "$SYS/x", false),
        ("+/x", "$SYS/x", false),
        ("$SYS/#", "$SYS/x", true),
    ] {
        assert_eq!(matches(filter, topic), fits, "{filter} {topic}");
    }
    for (filter, good) in [
        ("a/+/b/#", true),
        ("#", true),
        ("/", true),
        ("", false),
        ("a/#/b", false),
        ("a#", false),
        ("a/b+", false),
    ] {
        assert_eq!(is_filter(filter), good, "{filter}");
    }
}
