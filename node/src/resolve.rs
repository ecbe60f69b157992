//! How backend host names become addresses, and stay true.
//!
//! ```text
//! addresses.json ─▶ memory::Addresses ─┐
//!                                      ▼
//! hosts file, DNS ─▶ dns::Resolver ─▶ run ──▶ Backend::set_address, Events
//!                                      │
//!                                 state::Core
//! ```

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::config::{self, AtStart};
use crate::events::{Events, Loudness};
use crate::pool::Backend;

pub mod dns;
pub mod memory;
pub mod state;

use dns::Resolver;
use memory::Addresses;
use state::{Core, Moved};

/// Keeps the address of `backend` true until the sender of `settings` is gone.
///
/// A reload that changed the backend's host or port, or the settings, says so by sending settings (the same ones will do).
/// Where no way of `at_start` leads to an address the backend stays without one, and looking goes on.
pub async fn run(
    backend: Arc<Backend>,
    resolver: Resolver,
    mut settings: watch::Receiver<config::Resolve>,
    memory: Addresses,
    events: Events,
) {
    let mut keeper = Keeper {
        backend,
        resolver,
        memory,
        events,
        host: String::new(),
        port: 0,
        core: None,
        told: String::new(),
    };
    loop {
        let present = settings.borrow_and_update().clone();
        tokio::select! {
            biased;
            changed = settings.changed() => if changed.is_err() { return },
            () = keeper.keep(&present) => {}
        }
    }
}

struct Keeper {
    backend: Arc<Backend>,
    resolver: Resolver,
    memory: Addresses,
    events: Events,
    host: String,
    port: u16,
    /// `None` for an address that needs no looking up.
    core: Option<Core>,
    /// The trouble that was noted last; trouble is noted when it begins, not every few seconds.
    told: String,
}

impl Keeper {
    /// Goes on for ever; may be dropped at any await.
    async fn keep(&mut self, settings: &config::Resolve) {
        let config = self.backend.config.load_full();
        if let Ok(ip) = config.host.parse::<IpAddr>() {
            self.core = None;
            self.set(Some(SocketAddr::new(ip, config.port)));
            return std::future::pending().await;
        }
        let same = self.core.is_some() && self.host == config.host;
        self.host.clone_from(&config.host);
        self.port = config.port;
        let now = Instant::now().into_std();
        match self.core.take().filter(|_| same) {
            Some(mut core) => {
                core.set_every(settings.every, now);
                self.set(core.present().map(|ip| SocketAddr::new(ip, config.port)));
                self.core = Some(core);
            }
            None => {
                self.told.clear();
                self.core = Some(Core::new(settings.every, now));
                self.start(&settings.at_start).await;
            }
        }
        loop {
            let due = self.core.as_ref().map(Core::deadline);
            if let Some(due) = due {
                sleep_until(due.into()).await;
            }
            self.look_up().await;
        }
    }

    async fn start(&mut self, ways: &[AtStart]) {
        for way in ways {
            match way {
                AtStart::Last => {
                    if let Some(ip) = self.memory.get(&self.host) {
                        let moved = self.core.as_mut().and_then(|core| core.recall(ip));
                        self.moved(moved, "last known");
                    }
                }
                AtStart::Dns => self.look_up().await,
                AtStart::None => break,
            }
            if self
                .core
                .as_ref()
                .is_some_and(|core| core.present().is_some())
            {
                return;
            }
        }
        // The address of another host, from before a reload, is not this one's.
        self.set(None);
    }

    async fn look_up(&mut self) {
        let found = self.resolver.look_up(&self.host).await;
        let now = Instant::now().into_std();
        let Some(core) = &mut self.core else { return };
        let moved = core.handle(&found, now);
        let present = core.present();
        self.moved(moved, found.source());
        match &found.trouble {
            None => self.told.clear(),
            Some(trouble) => self.trouble(trouble, present),
        }
        if let Some(ip) = present.filter(|_| moved.is_some()) {
            self.memory.remember(&self.host, ip, &self.events).await;
        }
    }

    fn moved(&self, moved: Option<Moved>, by: &str) {
        let Some(Moved { from, to }) = moved else {
            return;
        };
        self.set(Some(SocketAddr::new(to, self.port)));
        let name = &self.backend.name;
        let text = match from {
            Some(from) => format!("{name}: {from} → {to} ({by})"),
            None => format!("{name}: {} is {to} ({by})", self.host),
        };
        self.note(Loudness::Notice, &text);
    }

    fn trouble(&mut self, trouble: &str, present: Option<IpAddr>) {
        let (name, host) = (&self.backend.name, &self.host);
        let what = match present {
            Some(ip) => format!("stays at {ip}"),
            None => "has no address".into(),
        };
        let text = format!("{name}: {host} {what}: {trouble}");
        if self.told != text {
            self.note(Loudness::Warn, &text);
            self.told = text;
        }
    }

    fn set(&self, address: Option<SocketAddr>) {
        // Setting it again would only wake the health driver for nothing.
        if self.backend.address() != address {
            self.backend.set_address(address);
        }
    }

    fn note(&self, loudness: Loudness, text: &str) {
        let subject = format!("{}/{}", self.backend.pool, self.backend.name);
        self.events.note(loudness, "backend", &subject, text, "");
    }
}

#[cfg(test)]
mod tests;
