//! What the row tests are made of: the program under test, scripted brokers and health endpoints, raw clients, real
//! brokers, and hosts made of network namespaces. Plain threads and blocking sockets, so that a test reads from top to
//! bottom.
//!
//! `README.md` beside this crate shows a test and lists what there is.

pub mod black_hole;
pub mod broker;
pub mod client;
pub mod config;
pub mod dns;
pub mod haproxy;
pub mod header;
pub mod health;
pub mod mosquitto;
pub mod mqtt;
pub mod netns;
pub mod ports;
pub mod program;
pub mod rabbitmq;
pub mod rows;
pub mod simple;
pub mod skip;
pub mod standfast;
pub mod wait;

/// What nearly every test uses.
pub mod prelude {
    pub use crate::black_hole::BlackHole;
    pub use crate::broker::{After, Answer, FakeBroker, Wants};
    pub use crate::client::{Client, Ending};
    pub use crate::dns::FakeDns;
    pub use crate::haproxy::Haproxy;
    pub use crate::header::Header;
    pub use crate::health::FakeHttp;
    pub use crate::mosquitto::{Mosquitto, Publish, Subscriber};
    pub use crate::mqtt::{Connect, Packet};
    pub use crate::netns::{Bridge, Host};
    pub use crate::rabbitmq::RabbitMq;
    pub use crate::require;
    pub use crate::simple::{haproxy_listen, listener_and_pool, one_pool, places_of, visit};
    pub use crate::standfast::{Cli, Standfast, StatusExt, backends, backends_at};
    pub use crate::wait::{eventually, holds, pause, within};
    pub use std::time::{Duration, Instant};

    /// Milliseconds, short.
    #[must_use]
    pub fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Seconds, short.
    #[must_use]
    pub fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }
}
