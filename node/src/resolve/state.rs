//! Which of a name's addresses is used, and when to ask again.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The shortest time between two look-ups of a name, and the pause after a failed one while there is no address at all.
const SHORTEST: Duration = Duration::from_secs(1);

/// What a look-up found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// IPv4 addresses, none of them twice; `None` where that could not be found out.
    pub v4: Option<Vec<IpAddr>>,
    /// The same for IPv6.
    pub v6: Option<Vec<IpAddr>>,
    /// How long this may be believed; `None` is for ever.
    pub ttl: Option<Duration>,
    /// Whether the hosts file said so.
    pub from_hosts: bool,
    /// What went wrong, where it leaves open what the addresses are, or there are none.
    pub trouble: Option<String>,
}

impl Found {
    /// Where it comes from: `dns` or `hosts`.
    #[must_use]
    pub fn source(&self) -> &'static str {
        if self.from_hosts { "hosts" } else { "dns" }
    }

    /// All addresses, in a fixed order, IPv4 first.
    fn all(&self) -> Vec<IpAddr> {
        let all = self.v4.iter().chain(&self.v6).flatten();
        let mut all: Vec<_> = all.copied().collect();
        all.sort_unstable();
        all
    }
}

/// An address that has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Moved {
    /// The one before.
    pub from: Option<IpAddr>,
    /// The one now; never the same.
    pub to: IpAddr,
}

/// The address of one name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Core {
    every: Duration,
    present: Option<IpAddr>,
    last: Instant,
    next: Instant,
}

impl Core {
    /// A name of which nothing is known. `every` is the longest time between two look-ups.
    #[must_use]
    pub fn new(every: Duration, now: Instant) -> Self {
        Self {
            every: every.max(SHORTEST),
            present: None,
            last: now,
            next: now,
        }
    }

    /// The address in use.
    #[must_use]
    pub fn present(&self) -> Option<IpAddr> {
        self.present
    }

    /// When to look the name up.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.next
    }

    /// A reload changed how often to look.
    pub fn set_every(&mut self, every: Duration, now: Instant) {
        self.every = every.max(SHORTEST);
        self.next = self.next.min(self.last + self.every).max(now);
    }

    /// Takes an address from earlier times, until a look-up knows better.
    pub fn recall(&mut self, ip: IpAddr) -> Option<Moved> {
        self.go(ip)
    }

    /// Takes in what a look-up found. The present address stays while it is among the answers, and while it is not known
    /// that it is not.
    pub fn handle(&mut self, found: &Found, now: Instant) -> Option<Moved> {
        self.last = now;
        let all = found.all();
        let ttl = found.ttl.filter(|_| !all.is_empty());
        let wait = match ttl {
            Some(ttl) => ttl.min(self.every),
            None if all.is_empty() && self.present.is_none() => SHORTEST,
            None => self.every,
        };
        self.next = now + wait.max(SHORTEST);
        let stays = self.present.is_some_and(|present| {
            let family = if present.is_ipv4() {
                &found.v4
            } else {
                &found.v6
            };
            family.as_ref().is_none_or(|known| known.contains(&present))
        });
        match all.first() {
            Some(first) if !stays => self.go(*first),
            _ => None,
        }
    }

    fn go(&mut self, to: IpAddr) -> Option<Moved> {
        let from = self.present.replace(to);
        (from != Some(to)).then_some(Moved { from, to })
    }
}

#[cfg(test)]
mod tests;
