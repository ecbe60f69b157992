//! A bounded set of entries in the order of their last use: index, slab and two lists through it.
//!
//! ```text
//!  index: hash of id → slot          slots: [entry | newer | older]
//!
//!  idle   newest ⇄ … ⇄ oldest        no connection: the oldest is evicted, or has expired, first
//!  live   newest ⇄ … ⇄ oldest        at least one connection: evicted only when nothing is idle
//!  free   → → →                      slots given back
//! ```

use hashbrown::HashTable;

use super::entry::{BackendRef, Entry, Id};

/// No slot.
const NIL: u32 = u32::MAX;

/// What is reserved at most before any entry comes; a larger table grows into its size.
const RESERVE: u32 = 1 << 24;

#[derive(Clone, Copy, Debug)]
struct Slot {
    entry: Entry,
    newer: u32,
    older: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    newest: u32,
    oldest: u32,
    len: u32,
}

const EMPTY: List = List {
    newest: NIL,
    oldest: NIL,
    len: 0,
};

#[derive(Debug)]
pub(super) struct Segment {
    index: HashTable<u32>,
    slots: Vec<Slot>,
    free: u32,
    idle: List,
    live: List,
    capacity: u32,
}

impl Segment {
    /// Room for `capacity` entries (1 to 2³² − 2), reserved but not touched.
    pub(super) fn new(capacity: u32) -> Self {
        let capacity = capacity.clamp(1, NIL - 1);
        let reserve = capacity.min(RESERVE) as usize;
        let (mut slots, mut index) = (Vec::new(), HashTable::new());
        // Where there is no such room at once, the table grows as entries come.
        let _ = slots.try_reserve_exact(reserve);
        let _ = index.try_reserve(reserve, |_| 0);
        Self {
            index,
            slots,
            free: NIL,
            idle: EMPTY,
            live: EMPTY,
            capacity,
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.idle.len + self.live.len
    }

    pub(super) fn live_len(&self) -> u32 {
        self.live.len
    }

    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    pub(super) fn find(&self, id: Id) -> Option<u32> {
        self.index
            .find(id.index_hash(), |&slot| {
                self.slots[slot as usize].entry.id == id
            })
            .copied()
    }

    pub(super) fn entry(&self, slot: u32) -> &Entry {
        &self.slots[slot as usize].entry
    }

    /// Changes an entry, which makes it the newest of the list it then belongs to.
    pub(super) fn update(&mut self, slot: u32, change: impl FnOnce(&mut Entry)) {
        self.unlink(slot);
        change(&mut self.slots[slot as usize].entry);
        self.link_newest(slot);
    }

    /// Adds an entry as the newest, and gives back the one that had to go for it.
    ///
    /// The id must not be present.
    pub(super) fn insert(&mut self, entry: Entry) -> Option<Entry> {
        let evicted = if self.is_full() { self.evict() } else { None };
        let slot = self.place(entry);
        self.link_newest(slot);
        evicted
    }

    /// Adds an entry as the oldest, unless there is no room or the id is present; says whether it did.
    pub(super) fn insert_oldest(&mut self, entry: Entry) -> bool {
        if self.is_full() || self.find(entry.id).is_some() {
            return false;
        }
        let slot = self.place(entry);
        self.link_oldest(slot);
        true
    }

    pub(super) fn remove(&mut self, slot: u32) -> Entry {
        let entry = *self.entry(slot);
        if let Ok(found) = self
            .index
            .find_entry(entry.id.index_hash(), |&other| other == slot)
        {
            found.remove();
        }
        self.unlink(slot);
        let freed = &mut self.slots[slot as usize];
        freed.entry.backend = BackendRef::NONE;
        freed.older = self.free;
        self.free = slot;
        entry
    }

    /// The entry without connections that was used least recently.
    pub(super) fn oldest_idle(&self) -> Option<u32> {
        (self.idle.oldest != NIL).then_some(self.idle.oldest)
    }

    /// The entry with connections that was used least recently.
    pub(super) fn oldest_live(&self) -> Option<u32> {
        (self.live.oldest != NIL).then_some(self.live.oldest)
    }

    /// One past the last slot that was ever used: slots are numbered from 0 and entries stay in theirs.
    pub(super) fn end(&self) -> u32 {
        self.slots.len() as u32 // at most `capacity`
    }

    /// The entry in a slot below [`Self::end`], if it holds one.
    pub(super) fn at(&self, slot: u32) -> Option<&Entry> {
        let entry = &self.slots.get(slot as usize)?.entry;
        (entry.backend != BackendRef::NONE).then_some(entry)
    }

    /// The same entries in a segment of another size: the most worthy stay.
    pub(super) fn resized(&self, capacity: u32) -> Self {
        let mut resized = Self::new(capacity);
        for list in [self.live, self.idle] {
            let mut slot = list.newest;
            while slot != NIL && resized.insert_oldest(*self.entry(slot)) {
                slot = self.slots[slot as usize].older;
            }
        }
        resized
    }

    fn evict(&mut self) -> Option<Entry> {
        let slot = self.oldest_idle().or(self.oldest_live())?;
        Some(self.remove(slot))
    }

    fn place(&mut self, entry: Entry) -> u32 {
        let filled = Slot {
            entry,
            newer: NIL,
            older: NIL,
        };
        let slot = if self.free == NIL {
            self.slots.push(filled);
            self.slots.len() as u32 - 1 // below `capacity`, which is below NIL
        } else {
            let slot = self.free;
            self.free = self.slots[slot as usize].older;
            self.slots[slot as usize] = filled;
            slot
        };
        let slots = &self.slots;
        let rehash = |&other: &u32| slots[other as usize].entry.id.index_hash();
        self.index
            .insert_unique(entry.id.index_hash(), slot, rehash);
        slot
    }

    fn list_of(&mut self, slot: u32) -> &mut List {
        if self.entry(slot).live > 0 {
            &mut self.live
        } else {
            &mut self.idle
        }
    }

    fn link_newest(&mut self, slot: u32) {
        let list = self.list_of(slot);
        let second = std::mem::replace(&mut list.newest, slot);
        if second == NIL {
            list.oldest = slot;
        }
        list.len += 1;
        self.join(slot, second);
        self.join(NIL, slot);
    }

    fn link_oldest(&mut self, slot: u32) {
        let list = self.list_of(slot);
        let second = std::mem::replace(&mut list.oldest, slot);
        if second == NIL {
            list.newest = slot;
        }
        list.len += 1;
        self.join(second, slot);
        self.join(slot, NIL);
    }

    fn unlink(&mut self, slot: u32) {
        let Slot { newer, older, .. } = self.slots[slot as usize];
        let list = self.list_of(slot);
        if newer == NIL {
            list.newest = older;
        }
        if older == NIL {
            list.oldest = newer;
        }
        list.len -= 1;
        self.join(newer, older);
    }

    fn join(&mut self, newer: u32, older: u32) {
        if let Some(slot) = self.slots.get_mut(newer as usize) {
            slot.older = older;
        }
        if let Some(slot) = self.slots.get_mut(older as usize) {
            slot.newer = newer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_keeps_an_entry_below_eighty_bytes_with_its_share_of_the_index() {
        // hashbrown: at most 16/7 buckets an entry, each a number of four bytes and one control byte.
        let index = 5.0 * 16.0 / 7.0;
        assert!(
            size_of::<Slot>() as f64 + index <= 80.0,
            "{}",
            size_of::<Slot>()
        );
    }
}
