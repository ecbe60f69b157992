//! The sticky table of one pool: homes of clients, and the proposals of those that no broker accepted yet.
//!
//! ```text
//!  lookup ──(none)──→ propose ──┬─ confirm → home, live + 1 ─→ release → live − 1, ages
//!         ──(a home)────────────┼─ visit   → home kept, live + 1
//!                               └─ abandon
//! ```
//!
//! Homes are made and touched only by `confirm` and `visit`, which follow the broker's CONNACK: whoever was not
//! accepted can fill the proposals, never push out a home. All times are milliseconds of the caller's clock; a clock that
//! goes back makes entries live longer, nothing else.

use std::sync::Arc;

use parking_lot::Mutex;

use super::entry::{BackendRef, Entry, Id};
use super::names::Names;
use super::segment::Segment;

/// How long a proposal counts that nobody confirmed or abandoned, in milliseconds: well above any connect with
/// all its retries, so it only catches what was lost.
const PROPOSAL_LIFE: u64 = 60_000;

/// Proposals have room for one in so many homes…
const PROPOSALS_SHARE: u32 = 8;

/// …but for a small table still so many.
const PROPOSALS_MIN: u32 = 1024;

/// How many slots are walked before the lock is given back: below a millisecond.
const STRIDE: u32 = 8192;

/// Where a client belongs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Home {
    /// The backend.
    pub backend: BackendRef,
    /// Its name.
    pub name: Arc<str>,
    /// Where the client is or was served while its home could not.
    pub away: Option<Arc<str>>,
    /// When the client came to this backend, in ms.
    pub since: u64,
    /// The last beginning or end of a connection, in ms.
    pub seen: u64,
    /// Connections that live now; for a proposal, connections that wait for a CONNACK.
    pub live: u32,
    /// No home yet: another connection of this client is on its way to that backend.
    pub provisional: bool,
    /// An operator set it.
    pub pinned: bool,
}

/// One entry, as lists and snapshots hold it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Who.
    pub id: Id,
    /// The home's name.
    pub backend: Arc<str>,
    /// Where the client is or was served while its home could not.
    pub away: Option<Arc<str>>,
    /// When the client came to this backend, in ms.
    pub since: u64,
    /// The last beginning or end of a connection, in ms.
    pub seen: u64,
    /// Connections that live now.
    pub live: u32,
    /// An operator set it.
    pub pinned: bool,
}

/// Which entries to remove.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Filter<'a> {
    /// The entry of one client.
    Id(Id),
    /// Entries whose home has this name.
    Backend(&'a str),
    /// All.
    All,
}

/// How full a table is, and what left it. The last three only grow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Homes.
    pub entries: u32,
    /// Homes with at least one connection.
    pub live: u32,
    /// Proposals.
    pub proposals: u32,
    /// Room for homes.
    pub capacity: u32,
    /// Homes without connections that went to make room.
    pub evicted: u64,
    /// Homes *with* connections that went to make room: the table is too small.
    pub evicted_live: u64,
    /// Homes that were idle for too long.
    pub expired: u64,
}

/// The sticky table of one pool; shared by reference between threads.
///
/// One lock, so that "the oldest goes first" holds for the whole table (see the README for what it costs). It is held for one
/// entry, or for a bounded stride where all are walked.
#[derive(Debug)]
pub struct Table(Mutex<State>);

#[derive(Debug)]
struct State {
    homes: Segment,
    proposals: Segment,
    names: Names,
    expire: u64,
    evicted: u64,
    evicted_live: u64,
    expired: u64,
}

impl Table {
    /// Room for exactly `capacity` homes (at least 1), each forgotten `expire` ms after its last connection ended.
    ///
    /// Memory is reserved here and touched as entries come.
    pub fn new(capacity: u32, expire: u64) -> Self {
        Self(Mutex::new(State {
            homes: Segment::new(capacity),
            proposals: Segment::new(proposals(capacity)),
            names: Names::default(),
            expire,
            evicted: 0,
            evicted_live: 0,
            expired: 0,
        }))
    }

    /// The number of a backend in this table; the same until [`Self::forget_backend`].
    pub fn intern(&self, name: &str) -> BackendRef {
        self.0.lock().names.intern(name)
    }

    /// The name behind a number, unless forgotten.
    pub fn name(&self, backend: BackendRef) -> Option<Arc<str>> {
        self.0.lock().names.name(backend).cloned()
    }

    /// Where a client belongs; not a touch. Without a home, where another of its connections is going.
    pub fn lookup(&self, id: Id, now: u64) -> Option<Home> {
        let state = &mut *self.0.lock();
        let proposal = state.proposal(id, now).copied();
        if let Some(slot) = state.home(id, now) {
            let entry = *state.homes.entry(slot);
            if let Some(mut home) = state.view(&entry) {
                if let Some(proposal) = proposal {
                    home.away = state.names.name(proposal.backend).cloned();
                }
                return Some(home);
            }
        }
        state.view(&proposal?).map(|home| Home {
            provisional: true,
            ..home
        })
    }

    /// A connection of this client is about to try `backend`: others that come meanwhile shall go there too.
    ///
    /// The caller chose with [`Self::lookup`]'s answer in hand, so an older proposal is replaced. Each call is ended
    /// by one [`Self::confirm`], [`Self::visit`] or [`Self::abandon`].
    pub fn propose(&self, id: Id, backend: BackendRef, now: u64) {
        let state = &mut *self.0.lock();
        match state.proposals.find(id) {
            Some(slot) => state.proposals.update(slot, |entry| {
                entry.backend = backend;
                entry.seen = now;
                entry.live = entry.live.saturating_add(1);
            }),
            None => drop(state.proposals.insert(new_entry(id, backend, now, 1))),
        }
    }

    /// The connection that proposed came to nothing.
    pub fn abandon(&self, id: Id) {
        let state = &mut *self.0.lock();
        let Some(slot) = state.proposals.find(id) else {
            return;
        };
        if state.proposals.entry(slot).live <= 1 {
            state.proposals.remove(slot);
        } else {
            state.proposals.update(slot, |entry| entry.live -= 1);
        }
    }

    /// The broker behind `backend` accepted the client: this is its home now, with one connection more.
    pub fn confirm(&self, id: Id, backend: BackendRef, now: u64) {
        let state = &mut *self.0.lock();
        state.settle(id);
        match state.home(id, now) {
            Some(slot) => state.homes.update(slot, |entry| {
                move_home(entry, backend, now);
                entry.away = BackendRef::NONE;
                entry.seen = now;
                entry.live = entry.live.saturating_add(1);
            }),
            None => state.insert(new_entry(id, backend, now, 1)),
        }
    }

    /// The broker behind `backend` accepted the client while its home stays what it is: one connection more.
    ///
    /// False where there is no home any more; then nothing is counted.
    pub fn visit(&self, id: Id, backend: BackendRef, now: u64) -> bool {
        let state = &mut *self.0.lock();
        state.settle(id);
        let Some(slot) = state.home(id, now) else {
            return false;
        };
        state.homes.update(slot, |entry| {
            entry.away = if entry.backend == backend {
                BackendRef::NONE
            } else {
                backend
            };
            entry.seen = now;
            entry.live = entry.live.saturating_add(1);
        });
        true
    }

    /// A connection that was confirmed, or counted as a visit, has ended. False where there is no home any more.
    pub fn release(&self, id: Id, now: u64) -> bool {
        let state = &mut *self.0.lock();
        let Some(slot) = state.homes.find(id) else {
            return false;
        };
        state.homes.update(slot, |entry| {
            entry.seen = now;
            entry.live = entry.live.saturating_sub(1);
        });
        true
    }

    /// An operator says where a client belongs; its connections stay where they are.
    pub fn set(&self, id: Id, backend: BackendRef, now: u64) {
        let state = &mut *self.0.lock();
        match state.home(id, now) {
            Some(slot) => state.homes.update(slot, |entry| {
                move_home(entry, backend, now);
                entry.away = BackendRef::NONE;
                entry.seen = now;
                entry.pinned = true;
            }),
            None => state.insert(Entry {
                pinned: true,
                ..new_entry(id, backend, now, 0)
            }),
        }
    }

    /// Removes entries and says how many; their connections are no longer counted.
    pub fn clear(&self, filter: Filter<'_>) -> u32 {
        match filter {
            Filter::Id(id) => {
                let state = &mut *self.0.lock();
                state
                    .homes
                    .find(id)
                    .map(|slot| state.homes.remove(slot))
                    .map_or(0, |_| 1)
            }
            Filter::Backend(name) => {
                let backend = self.0.lock().names.find(name);
                backend.map_or(0, |backend| {
                    self.remove_if(|entry| entry.backend == backend)
                })
            }
            Filter::All => {
                let state = &mut *self.0.lock();
                let (gone, capacity) = (state.homes.len(), state.homes.capacity());
                state.homes = Segment::new(capacity);
                gone
            }
        }
    }

    /// A backend is gone from the configuration for good: its entries go, and say how many there were.
    ///
    /// Already when this begins its name is unknown, so no lookup finds one of them.
    pub fn forget_backend(&self, name: &str) -> u32 {
        let forgotten = self.0.lock().names.forget(name);
        forgotten.map_or(0, |backend| {
            self.remove_if(|entry| entry.backend == backend)
        })
    }

    /// Drops at most `budget` entries that have expired, and says how many; call it now and then.
    pub fn expire(&self, now: u64, budget: u32) -> u32 {
        let state = &mut *self.0.lock();
        while let Some(slot) = state.proposals.oldest_live() {
            if now.saturating_sub(state.proposals.entry(slot).seen) < PROPOSAL_LIFE {
                break;
            }
            state.proposals.remove(slot);
        }
        let mut gone = 0;
        while let Some(slot) = state.homes.oldest_idle() {
            if gone == budget || !state.has_expired(slot, now) {
                break;
            }
            state.homes.remove(slot);
            gone += 1;
        }
        state.expired += u64::from(gone);
        gone
    }

    /// Another size and another life for idle entries; the newest are kept.
    pub fn resize(&self, capacity: u32, expire: u64) {
        let state = &mut *self.0.lock();
        state.expire = expire;
        if state.homes.capacity() != capacity.max(1) {
            state.homes = state.homes.resized(capacity);
            state.proposals = state.proposals.resized(proposals(capacity));
        }
    }

    /// How full the table is, and what left it.
    pub fn counts(&self) -> Counts {
        let state = self.0.lock();
        Counts {
            entries: state.homes.len(),
            live: state.homes.live_len(),
            proposals: state.proposals.len(),
            capacity: state.homes.capacity(),
            evicted: state.evicted,
            evicted_live: state.evicted_live,
            expired: state.expired,
        }
    }

    /// At most `n` entries from `cursor` on (0 at first), and the cursor of the next page, if there may be one.
    ///
    /// A page may be short, even empty, and not be the last. An entry that stays in the table is listed exactly once, unless
    /// the table is resized meanwhile.
    pub fn page(&self, cursor: u32, n: usize) -> (Vec<Record>, Option<u32>) {
        let state = self.0.lock();
        let (mut rows, end) = (Vec::new(), state.homes.end());
        let mut slot = cursor;
        while slot < end && rows.len() < n.max(1) && slot - cursor < STRIDE {
            rows.extend(state.homes.at(slot).and_then(|entry| state.record(entry)));
            slot += 1;
        }
        (rows, (slot < end).then_some(slot))
    }

    /// All entries, page by page, as they shall be written to disk: connections do not survive, so those who have
    /// one are as fresh as `now`.
    pub fn snapshot(&self, now: u64) -> impl Iterator<Item = Record> + '_ {
        let mut cursor = Some(0);
        std::iter::from_fn(move || {
            let (rows, next) = self.page(cursor?, STRIDE as usize);
            cursor = next;
            Some(rows)
        })
        .flatten()
        .map(move |row| {
            if row.live > 0 {
                Record {
                    seen: now,
                    live: 0,
                    ..row
                }
            } else {
                row
            }
        })
    }

    /// Takes entries from a snapshot, and says how many: those that have not expired, the newest first while there
    /// is room, all of them older than what is here already.
    pub fn restore(&self, records: impl IntoIterator<Item = Record>, now: u64) -> u32 {
        let mut records: Vec<_> = records.into_iter().collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.seen));
        let mut taken = 0;
        for chunk in records.chunks(STRIDE as usize) {
            let state = &mut *self.0.lock();
            taken += chunk
                .iter()
                .filter(|record| state.restore(record, now))
                .count() as u32;
        }
        taken
    }

    fn remove_if(&self, condemned: impl Fn(&Entry) -> bool) -> u32 {
        let (mut gone, mut from) = (0, 0u32);
        loop {
            let state = &mut *self.0.lock();
            let end = state.homes.end();
            for slot in from..end.min(from.saturating_add(STRIDE)) {
                if state.homes.at(slot).is_some_and(&condemned) {
                    state.homes.remove(slot);
                    gone += 1;
                }
            }
            from = from.saturating_add(STRIDE);
            if from >= end {
                return gone;
            }
        }
    }
}

impl State {
    /// The slot of a home that has not expired.
    fn home(&mut self, id: Id, now: u64) -> Option<u32> {
        let slot = self.homes.find(id)?;
        let forgotten = self.names.name(self.homes.entry(slot).backend).is_none();
        if forgotten || self.has_expired(slot, now) {
            self.homes.remove(slot);
            self.expired += u64::from(!forgotten);
            return None;
        }
        Some(slot)
    }

    fn proposal(&mut self, id: Id, now: u64) -> Option<&Entry> {
        let entry = self.proposals.entry(self.proposals.find(id)?);
        (now.saturating_sub(entry.seen) < PROPOSAL_LIFE).then_some(entry)
    }

    fn has_expired(&self, slot: u32, now: u64) -> bool {
        let entry = self.homes.entry(slot);
        entry.live == 0 && now.saturating_sub(entry.seen) >= self.expire
    }

    /// One of the connections of a proposal has arrived: all that come now find a home.
    fn settle(&mut self, id: Id) {
        if let Some(slot) = self.proposals.find(id) {
            self.proposals.remove(slot);
        }
    }

    fn insert(&mut self, entry: Entry) {
        match self.homes.insert(entry) {
            Some(evicted) if evicted.live > 0 => self.evicted_live += 1,
            Some(_) => self.evicted += 1,
            None => {}
        }
    }

    fn restore(&mut self, record: &Record, now: u64) -> bool {
        // A time ahead of ours is from another clock: such an entry must not outlive all others.
        let seen = record.seen.min(now);
        if now - seen >= self.expire {
            return false;
        }
        let backend = self.names.intern(&record.backend);
        let away = record
            .away
            .as_deref()
            .map_or(BackendRef::NONE, |name| self.names.intern(name));
        self.homes.insert_oldest(Entry {
            id: record.id,
            since: record.since.min(seen),
            seen,
            backend,
            away,
            live: 0,
            pinned: record.pinned,
        })
    }

    fn record(&self, entry: &Entry) -> Option<Record> {
        let Home {
            name,
            away,
            since,
            seen,
            live,
            pinned,
            ..
        } = self.view(entry)?;
        Some(Record {
            id: entry.id,
            backend: name,
            away,
            since,
            seen,
            live,
            pinned,
        })
    }

    fn view(&self, entry: &Entry) -> Option<Home> {
        Some(Home {
            backend: entry.backend,
            name: self.names.name(entry.backend)?.clone(),
            away: self.names.name(entry.away).cloned(),
            since: entry.since,
            seen: entry.seen,
            live: entry.live,
            provisional: false,
            pinned: entry.pinned,
        })
    }
}

fn proposals(capacity: u32) -> u32 {
    (capacity / PROPOSALS_SHARE).max(PROPOSALS_MIN)
}

fn new_entry(id: Id, backend: BackendRef, now: u64, live: u32) -> Entry {
    Entry {
        id,
        since: now,
        seen: now,
        backend,
        away: BackendRef::NONE,
        live,
        pinned: false,
    }
}

fn move_home(entry: &mut Entry, backend: BackendRef, now: u64) {
    if entry.backend != backend {
        entry.backend = backend;
        entry.since = now;
        entry.pinned = false;
    }
}

#[cfg(test)]
mod tests;
