//! Deadlines of all records of one data-plane thread: a wheel of lists that run through the records themselves.
//!
//! Arming and disarming are a few stores and allocate nothing. A tick is [`TICK`]; deadlines beyond one turn wait in
//! the slot that comes last and are looked at once a turn.

use std::time::Duration;

/// How fine deadlines are: one is met at most this much late.
pub const TICK: Duration = Duration::from_millis(50);

/// Slots of the wheel; one turn is 51.2 s, so a keepalive of a minute is looked at twice.
const SLOTS: usize = 1024;

/// End of a list, and the slot of a hook that is in none.
const NIL: u32 = u32::MAX;

/// The part of the wheel that lives in a record.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    next: u32,
    prev: u32,
    slot: u32,
    due: u32,
}

impl Default for Hook {
    fn default() -> Self {
        Self {
            next: NIL,
            prev: NIL,
            slot: NIL,
            due: 0,
        }
    }
}

/// Where the hooks are: the slab of records.
pub trait Hooks {
    /// The hook of a record that is in use.
    fn hook(&mut self, index: u32) -> &mut Hook;
}

/// The wheel.
#[derive(Debug)]
pub struct Wheel {
    heads: Box<[u32; SLOTS]>,
    now: u32,
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            heads: Box::new([NIL; SLOTS]),
            now: 0,
        }
    }
}

/// Whole ticks that are not shorter than `duration`.
#[must_use]
pub fn ticks(duration: Duration) -> u32 {
    let ticks = duration.as_millis().div_ceil(TICK.as_millis());
    u32::try_from(ticks)
        .unwrap_or(u32::MAX / 2)
        .min(u32::MAX / 2)
}

impl Wheel {
    /// The present tick.
    #[must_use]
    pub fn now(&self) -> u32 {
        self.now
    }

    /// Sets the deadline of a record to `after` ticks from now, in place of the one it had.
    pub fn arm(&mut self, hooks: &mut impl Hooks, index: u32, after: u32) {
        self.disarm(hooks, index);
        // The present tick has begun already: one more makes the wait at least as long as asked.
        let due = self.now.wrapping_add(after).wrapping_add(1);
        self.place(hooks, index, due);
    }

    /// Takes the deadline of a record away.
    pub fn disarm(&mut self, hooks: &mut impl Hooks, index: u32) {
        let Hook {
            next, prev, slot, ..
        } = *hooks.hook(index);
        if slot == NIL {
            return;
        }
        hooks.hook(index).slot = NIL;
        if next != NIL {
            hooks.hook(next).prev = prev;
        }
        if prev == NIL {
            self.heads[slot as usize] = next;
        } else {
            hooks.hook(prev).next = next;
        }
    }

    /// Goes on by one tick and collects the records whose deadline is due; they are disarmed.
    pub fn tick(&mut self, hooks: &mut impl Hooks, due: &mut Vec<u32>) {
        self.now = self.now.wrapping_add(1);
        let mut index = std::mem::replace(&mut self.heads[self.now as usize % SLOTS], NIL);
        while index != NIL {
            let hook = hooks.hook(index);
            let (next, at) = (hook.next, hook.due);
            hook.slot = NIL;
            if at.wrapping_sub(self.now).cast_signed() <= 0 {
                due.push(index);
            } else {
                self.place(hooks, index, at);
            }
            index = next;
        }
    }

    fn place(&mut self, hooks: &mut impl Hooks, index: u32, due: u32) {
        let ahead = due.wrapping_sub(self.now).clamp(1, SLOTS as u32 - 1);
        let slot = self.now.wrapping_add(ahead) % SLOTS as u32;
        let next = std::mem::replace(&mut self.heads[slot as usize], index);
        *hooks.hook(index) = Hook {
            next,
            prev: NIL,
            slot,
            due,
        };
        if next != NIL {
            hooks.hook(next).prev = index;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Hooks for Vec<Hook> {
        fn hook(&mut self, index: u32) -> &mut Hook {
            &mut self[index as usize]
        }
    }

    #[test]
    fn a_deadline_beyond_one_turn_is_met_in_its_tick() {
        let mut wheel = Wheel::default();
        let mut hooks = vec![Hook::default()];
        wheel.arm(&mut hooks, 0, 3000);
        let mut due = Vec::new();
        for _ in 0..3000 {
            wheel.tick(&mut hooks, &mut due);
        }
        assert!(due.is_empty());
        wheel.tick(&mut hooks, &mut due);
        assert_eq!(due, [0]);
    }

    proptest! {
        #[test]
        fn each_armed_deadline_is_met_once_and_on_time(
            steps in prop::collection::vec((0_u32..8, 0_u32..2500, 0_u8..4), 1..200)
        ) {
            let mut wheel = Wheel::default();
            let mut hooks = vec![Hook::default(); 8];
            let mut expected: [Option<u32>; 8] = [None; 8];
            for (index, after, action) in steps {
                match action {
                    0 => {
                        wheel.disarm(&mut hooks, index);
                        expected[index as usize] = None;
                    }
                    1 | 2 => {
                        wheel.arm(&mut hooks, index, after);
                        expected[index as usize] = Some(wheel.now() + after + 1);
                    }
                    _ => for _ in 0..after {
                        let mut due = Vec::new();
                        wheel.tick(&mut hooks, &mut due);
                        due.sort_unstable();
                        let now = wheel.now();
                        let mut should: Vec<u32> = (0..8).filter(|i| expected[*i as usize] == Some(now)).collect();
                        should.sort_unstable();
                        prop_assert_eq!(&due, &should);
                        for index in due { expected[index as usize] = None; }
                    },
                }
            }
        }
    }
}
