//! What the threads of the worker share: the configuration as it lives, the limits, the logs.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;

use crate::access::AccessLog;
use crate::config::{self, Rate};
use crate::end::{End, Refusal};
use crate::events::Events;
use crate::pool::Pool;

/// One configuration as it lives.
#[derive(Debug)]
pub struct Snapshot {
    /// In the order of the configuration.
    pub listeners: Vec<Arc<Listener>>,
    /// In the order of the configuration.
    pub pools: Vec<Arc<Pool>>,
}

/// One listener of one configuration, with the counts that live on.
#[derive(Debug)]
pub struct Listener {
    /// Its name.
    pub name: Arc<str>,
    /// Its configuration.
    pub config: config::Listener,
    /// Where its clients go.
    pub pool: Arc<Pool>,
    /// Counts, shared with the listener of the same name in the next configuration.
    pub counts: Arc<ListenerCounts>,
}

/// Counts of a listener, over reloads.
#[derive(Debug, Default)]
pub struct ListenerCounts {
    /// Connections at present.
    pub live: AtomicU32,
    /// Connections accepted since the start, refused ones included.
    pub accepted: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    not_mqtt: Mutex<HashMap<&'static str, u64>>,
    per_ip: Mutex<HashMap<IpAddr, u32>>,
    bucket: Mutex<Option<Bucket>>,
    /// Whether new connections are being left in the backlog.
    pub waiting: AtomicBool,
    /// Where its sockets stand, once they do.
    pub bound: Mutex<Vec<SocketAddr>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl ListenerCounts {
    /// Counts a connection that was turned away.
    pub fn count(&self, end: End) {
        match end {
            End::Refused(refusal) => {
                if let Some(place) = Refusal::ALL.iter().position(|r| *r == refusal) {
                    self.refused[place].fetch_add(1, Relaxed);
                }
            }
            End::NotMqtt(reason) => *self.not_mqtt.lock().entry(reason).or_default() += 1,
            _ => {}
        }
    }

    /// Connections refused, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refusal::ALL
            .iter()
            .zip(&self.refused)
            .map(|(refusal, count)| (refusal.as_str(), count.load(Relaxed)))
    }

    /// Connections that were not MQTT, by reason.
    #[must_use]
    pub fn not_mqtt(&self) -> Vec<(&'static str, u64)> {
        let mut counts: Vec<_> = self.not_mqtt.lock().iter().map(|(k, v)| (*k, *v)).collect();
        counts.sort_unstable();
        counts
    }

    /// Counts a connection of `ip`, unless that would be more than `most`.
    pub fn enter(&self, ip: IpAddr, most: u32) -> bool {
        let mut per_ip = self.per_ip.lock();
        let count = per_ip.entry(ip).or_default();
        let room = *count < most;
        if room {
            *count += 1;
        }
        room
    }

    /// A connection counted by [`Self::enter`] is over.
    pub fn leave(&self, ip: IpAddr) {
        let mut per_ip = self.per_ip.lock();
        if let Some(count) = per_ip.get_mut(&ip) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                per_ip.remove(&ip);
            }
        }
    }

    /// Takes a token of the rate limit, if there is one; bursts of one second's worth are allowed.
    pub fn take_token(&self, rate: Rate, now: Instant) -> bool {
        let burst = rate.per_second.max(1.0);
        let mut bucket = self.bucket.lock();
        let bucket = bucket.get_or_insert(Bucket {
            tokens: burst,
            at: now,
        });
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * rate.per_second;
        bucket.tokens = (bucket.tokens + gained).min(burst);
        bucket.at = now;
        let enough = bucket.tokens >= 1.0;
        if enough {
            bucket.tokens -= 1.0;
        }
        enough
    }

    /// Gives a token back that was not used.
    pub fn return_token(&self) {
        if let Some(bucket) = self.bucket.lock().as_mut() {
            bucket.tokens += 1.0;
        }
    }
}

/// What all data-plane threads share.
#[derive(Debug)]
pub struct Shared {
    /// Client connections at present.
    pub live: AtomicU32,
    /// Connections that still have a socket, those that are being closed included.
    pub open: AtomicU32,
    /// Most client connections at once.
    pub most: AtomicU32,
    /// Bytes that unrouted connections hold.
    pub greeting_bytes: AtomicU64,
    /// `limits.greeting_memory`.
    pub most_greeting_bytes: AtomicU64,
    /// Bytes that stalled readers hold.
    pub relay_bytes: AtomicU64,
    /// `limits.relay_memory`.
    pub most_relay_bytes: AtomicU64,
    /// Ended connections, by [`End::index`].
    pub ends: [AtomicU64; End::LABELS.len()],
    /// Where connection lines go.
    pub access: AccessLog,
    /// What happened.
    pub events: Events,
    /// Makes connection numbers different from those of another process.
    pub seed: u64,
}

impl Shared {
    /// Whether stalled readers hold so much that reads have to shrink.
    #[inline]
    #[must_use]
    pub fn relay_is_tight(&self) -> bool {
        self.relay_bytes.load(Relaxed) > self.most_relay_bytes.load(Relaxed)
    }
}
