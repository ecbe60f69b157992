use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const MINUTE: u64 = 60_000;

fn id(number: u32) -> Id {
    // Spread like a real id, so that the index sees what it is made for.
    super::super::entry::Hasher::new([1; 16]).id(
        "p",
        super::super::entry::Kind::ClientId,
        &number.to_le_bytes(),
    )
}

/// A client that connected and left.
fn call(table: &Table, client: u32, backend: BackendRef, now: u64) {
    table.propose(id(client), backend, now);
    table.confirm(id(client), backend, now);
    table.release(id(client), now);
}

fn home_of(table: &Table, client: u32, now: u64) -> Option<String> {
    table
        .lookup(id(client), now)
        .map(|home| home.name.to_string())
}

#[test]
fn one_entry_more_than_the_size_evicts_exactly_the_oldest() {
    let table = Table::new(102_400, 30 * MINUTE);
    let mq = table.intern("mq1");
    (0..102_400).for_each(|client| call(&table, client, mq, u64::from(client) / 1000));
    // Client 0 comes again: now client 1 is the one that was away longest.
    call(&table, 0, mq, 200);
    call(&table, 102_400, mq, 200);
    assert!(home_of(&table, 0, 200).is_some());
    assert!(home_of(&table, 1, 200).is_none());
    assert!((2..=102_400).all(|client| home_of(&table, client, 200).is_some()));
    assert_eq!(table.counts().evicted, 1);
    assert_eq!(table.counts().entries, 102_400);
}

#[test]
fn an_idle_entry_is_gone_after_its_time_and_a_touched_one_is_not() {
    let table = Table::new(10, 30 * MINUTE);
    let mq = table.intern("mq1");
    call(&table, 1, mq, 0);
    call(&table, 2, mq, 0);
    call(&table, 2, mq, 29 * MINUTE);
    assert!(home_of(&table, 1, 30 * MINUTE - 1).is_some());
    assert!(home_of(&table, 1, 30 * MINUTE).is_none());
    assert!(home_of(&table, 2, 30 * MINUTE).is_some());
}

#[test]
fn looking_is_not_touching() {
    let table = Table::new(10, 100);
    let mq = table.intern("mq1");
    call(&table, 1, mq, 0);
    (0..100).for_each(|now| assert!(table.lookup(id(1), now).is_some()));
    assert!(table.lookup(id(1), 100).is_none());
}

#[test]
fn an_entry_with_a_connection_never_expires() {
    let table = Table::new(10, 100);
    let mq = table.intern("mq1");
    table.confirm(id(1), mq, 0);
    table.confirm(id(1), mq, 0);
    table.release(id(1), 10);
    assert_eq!(table.expire(1_000_000, 100), 0);
    assert_eq!(
        table.lookup(id(1), 1_000_000).map(|home| home.live),
        Some(1)
    );
    table.release(id(1), 1_000_000);
    assert_eq!(table.expire(1_000_099, 100), 0);
    assert_eq!(table.expire(1_000_100, 100), 1);
    assert_eq!(table.counts().entries, 0);
}

#[test]
fn connected_clients_keep_their_home_while_anyone_idle_can_go() {
    let table = Table::new(3, MINUTE);
    let mq = table.intern("mq1");
    table.confirm(id(1), mq, 0);
    table.confirm(id(2), mq, 0);
    call(&table, 3, mq, 5);
    call(&table, 4, mq, 6);
    assert_eq!(
        [1, 2, 3, 4].map(|client| home_of(&table, client, 6).is_some()),
        [true, true, false, true]
    );
    table.confirm(id(5), mq, 7);
    table.confirm(id(6), mq, 8);
    assert_eq!(
        [1, 2, 4, 5, 6].map(|client| home_of(&table, client, 8).is_some()),
        [false, true, false, true, true]
    );
    assert_eq!(table.counts().evicted_live, 1);
    assert!(
        !table.release(id(1), 9),
        "the end of an evicted client's connection changes nothing"
    );
}

#[test]
fn a_flood_of_clients_that_no_broker_accepts_evicts_no_home() {
    let table = Table::new(1000, MINUTE);
    let mq = table.intern("mq1");
    (0..1000).for_each(|client| call(&table, client, mq, 0));
    (10_000..110_000).for_each(|client| table.propose(id(client), mq, 1));
    assert!((0..1000).all(|client| home_of(&table, client, 1).is_some()));
    assert_eq!(
        table.counts().proposals,
        1024,
        "the flood itself is bounded"
    );
    (10_000..110_000).for_each(|client| table.abandon(id(client)));
    assert_eq!(table.counts().proposals, 0);
}

#[test]
fn who_comes_while_the_first_connection_is_on_its_way_is_sent_after_it() {
    let table = Table::new(10, MINUTE);
    let (mq1, mq2) = (table.intern("mq1"), table.intern("mq2"));
    table.propose(id(1), mq1, 0);
    let seen = table.lookup(id(1), 0).expect("a proposal");
    assert!(seen.provisional);
    assert_eq!(seen.backend, mq1);
    table.propose(id(1), mq1, 0);
    table.abandon(id(1));
    assert!(
        table.lookup(id(1), 0).is_some_and(|home| home.live == 1),
        "the other is still on its way"
    );
    table.confirm(id(1), mq2, 1);
    let home = table.lookup(id(1), 1).expect("a home");
    assert_eq!(
        (home.provisional, &*home.name, home.live, home.away),
        (false, "mq2", 1, None)
    );
    assert_eq!(table.counts().proposals, 0);
}

#[test]
fn a_proposal_that_was_lost_does_not_bind_for_ever() {
    let table = Table::new(10, MINUTE);
    let mq = table.intern("mq1");
    table.propose(id(1), mq, 0);
    assert!(table.lookup(id(1), PROPOSAL_LIFE - 1).is_some());
    assert!(table.lookup(id(1), PROPOSAL_LIFE).is_none());
    table.expire(PROPOSAL_LIFE, 0);
    assert_eq!(table.counts().proposals, 0);
}

#[test]
fn a_visit_keeps_the_home_and_remembers_where_it_went() {
    let table = Table::new(10, 100);
    let (mq1, mq2) = (table.intern("mq1"), table.intern("mq2"));
    call(&table, 1, mq1, 0);
    assert!(table.visit(id(1), mq2, 50));
    let home = table
        .lookup(id(1), 5_000)
        .expect("a live connection keeps the entry");
    assert_eq!(
        (&*home.name, home.away.as_deref(), home.since, home.live),
        ("mq1", Some("mq2"), 0, 1)
    );
    table.release(id(1), 5_000);
    table.confirm(id(1), mq1, 5_050);
    let home = table.lookup(id(1), 5_050).expect("a home");
    assert_eq!((&*home.name, home.away, home.since), ("mq1", None, 0));
    assert!(
        !table.visit(id(2), mq2, 50),
        "a visitor without a home gets none"
    );
}

#[test]
fn a_home_that_moves_counts_its_age_anew() {
    let table = Table::new(10, MINUTE);
    let (mq1, mq2) = (table.intern("mq1"), table.intern("mq2"));
    call(&table, 1, mq1, 10);
    call(&table, 1, mq1, 20);
    assert_eq!(
        table.lookup(id(1), 20).map(|home| (home.since, home.seen)),
        Some((10, 20))
    );
    call(&table, 1, mq2, 30);
    assert_eq!(table.lookup(id(1), 30).map(|home| home.since), Some(30));
}

#[test]
fn what_an_operator_sets_is_pinned_until_the_client_moves() {
    let table = Table::new(10, MINUTE);
    let (mq1, mq2) = (table.intern("mq1"), table.intern("mq2"));
    table.set(id(1), mq2, 0);
    table.confirm(id(1), mq2, 1);
    assert!(
        table
            .lookup(id(1), 1)
            .is_some_and(|home| home.pinned && home.backend == mq2 && home.live == 1)
    );
    table.confirm(id(1), mq1, 2);
    assert!(table.lookup(id(1), 2).is_some_and(|home| !home.pinned));
    table.set(id(1), mq2, 3);
    assert!(
        table
            .lookup(id(1), 3)
            .is_some_and(|home| home.pinned && home.live == 2),
        "connections stay counted"
    );
}

#[test]
fn entries_are_cleared_by_client_by_backend_and_all() {
    let table = Table::new(100, MINUTE);
    let (mq1, mq2) = (table.intern("mq1"), table.intern("mq2"));
    (0..10).for_each(|client| call(&table, client, if client < 4 { mq1 } else { mq2 }, 0));
    assert_eq!(table.clear(Filter::Id(id(0))), 1);
    assert_eq!(table.clear(Filter::Id(id(0))), 0);
    assert_eq!(table.clear(Filter::Backend("mq1")), 3);
    assert_eq!(table.clear(Filter::Backend("nobody")), 0);
    assert_eq!(table.counts().entries, 6);
    assert_eq!(table.clear(Filter::All), 6);
    assert_eq!(table.counts().entries, 0);
    call(&table, 1, mq1, 0);
    assert_eq!(home_of(&table, 1, 0).as_deref(), Some("mq1"));
}

#[test]
fn a_forgotten_backend_takes_its_entries_along_and_a_new_one_of_that_name_gets_none() {
    let table = Table::new(100_000, MINUTE);
    let (mq1, mq2) = (table.intern("mq1"), table.intern("mq2"));
    (0..50_000).for_each(|client| call(&table, client, if client % 2 == 0 { mq1 } else { mq2 }, 0));
    table.visit(id(1), mq1, 0);
    assert_eq!(table.forget_backend("mq1"), 25_000);
    assert_eq!(table.counts().entries, 25_000);
    assert_eq!(table.name(mq1), None);
    assert_ne!(table.intern("mq1"), mq1);
    assert_eq!(home_of(&table, 0, 0), None);
    assert_eq!(table.lookup(id(1), 0).map(|home| home.away), Some(None));
}

#[test]
fn pages_list_every_entry_once_while_others_come_and_go() {
    let table = Table::new(100_000, MINUTE);
    let mq = table.intern("mq1");
    (0..30_000).for_each(|client| call(&table, client, mq, 0));
    table.clear(Filter::Id(id(5)));
    let (mut listed, mut cursor, mut other) = (Vec::new(), Some(0), 50_000);
    while let Some(at) = cursor {
        let (rows, next) = table.page(at, 700);
        assert!(rows.len() <= 700);
        listed.extend(rows.into_iter().map(|row| row.id));
        cursor = next;
        call(&table, other, mq, 0);
        table.clear(Filter::Id(id(other - 1)));
        other += 1;
    }
    let distinct: HashSet<_> = listed.iter().copied().collect();
    assert_eq!(distinct.len(), listed.len());
    assert!(
        (0..30_000)
            .filter(|&client| client != 5)
            .all(|client| distinct.contains(&id(client)))
    );
}

#[test]
fn a_smaller_table_keeps_the_newest_and_the_connected() {
    let table = Table::new(100, MINUTE);
    let mq = table.intern("mq1");
    table.confirm(id(0), mq, 0);
    (1..100).for_each(|client| call(&table, client, mq, u64::from(client)));
    table.resize(10, MINUTE);
    let kept: Vec<_> = (0..100)
        .filter(|&client| home_of(&table, client, 100).is_some())
        .collect();
    assert_eq!(kept, [0, 91, 92, 93, 94, 95, 96, 97, 98, 99]);
    call(&table, 200, mq, 100);
    assert_eq!(home_of(&table, 91, 100), None, "their order survives too");
    table.resize(1000, 50);
    assert_eq!(table.counts().entries, 10);
    assert!(home_of(&table, 92, 142).is_none(), "the new time counts");
    assert!(home_of(&table, 0, 142).is_some());
}

#[test]
fn a_table_without_room_still_holds_one() {
    let table = Table::new(0, MINUTE);
    let mq = table.intern("mq1");
    call(&table, 1, mq, 0);
    call(&table, 2, mq, 0);
    assert_eq!(
        (home_of(&table, 1, 0), home_of(&table, 2, 0).as_deref()),
        (None, Some("mq1"))
    );
}

#[test]
fn a_restored_table_knows_homes_ages_and_order_but_no_connections() {
    let table = Table::new(100, MINUTE);
    let (mq1, mq2) = (table.intern("mq1"), table.intern("mq2"));
    (0..100).for_each(|client| call(&table, client, mq1, u64::from(client)));
    table.confirm(id(7), mq1, 500);
    table.visit(id(8), mq2, 600);
    table.set(id(9), mq2, 700);
    let records: Vec<_> = table.snapshot(1000).collect();
    assert_eq!(records.len(), 100);

    let restored = Table::new(50, MINUTE);
    call(&restored, 8, restored.intern("mq3"), 1000);
    assert_eq!(restored.restore(records, 1000), 49);
    let home = |client| restored.lookup(id(client), 1000);
    assert_eq!(
        home(7).map(|home| (home.since, home.seen, home.live)),
        Some((7, 1000, 0))
    );
    assert_eq!(
        home(8).map(|home| home.name.to_string()).as_deref(),
        Some("mq3"),
        "what is known here counts more"
    );
    assert!(home(9).is_some_and(|home| home.pinned && &*home.name == "mq2"));
    assert!((53..100).all(|client| home(client).is_some()));
    assert_eq!(home(52), None);
    call(&restored, 200, mq1, 1000);
    assert_eq!((home(53), home(54).is_some()), (None, true));
}

#[test]
fn expired_records_are_not_restored_and_times_ahead_are_cut_to_now() {
    let record = |client, seen| Record {
        id: id(client),
        backend: "mq1".into(),
        away: None,
        since: seen,
        seen,
        live: 0,
        pinned: false,
    };
    let table = Table::new(10, 100);
    assert_eq!(
        table.restore([record(1, 0), record(2, 901), record(3, u64::MAX)], 1000),
        2
    );
    assert_eq!(
        table
            .lookup(id(3), 1000)
            .map(|home| (home.since, home.seen)),
        Some((1000, 1000))
    );
}

#[test]
fn threads_lose_no_count() {
    let table = Table::new(1000, MINUTE);
    let mq = table.intern("mq1");
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let table = &table;
            scope.spawn(move || {
                for round in 0..5_000u32 {
                    let client = (round * 7 + thread) % 100;
                    table.propose(id(client), mq, 0);
                    table.confirm(id(client), mq, 0);
                    table.release(id(client), 0);
                }
                table.confirm(id(0), mq, 0);
            });
        }
    });
    assert_eq!(table.lookup(id(0), 0).map(|home| home.live), Some(4));
    assert_eq!((table.counts().entries, table.counts().live), (100, 1));
}

/// What the table promises, without any of its structure.
#[derive(Default)]
struct Model {
    homes: HashMap<u32, (u32, u64, u32)>,
    /// Least recently used first.
    order: Vec<u32>,
    proposals: HashMap<u32, (u32, u32)>,
}

const ROOM: usize = 6;
const EXPIRE: u64 = 40;

impl Model {
    fn touch(&mut self, client: u32) {
        self.order.retain(|&other| other != client);
        self.order.push(client);
    }

    fn purge(&mut self, client: u32, now: u64) {
        if self
            .homes
            .get(&client)
            .is_some_and(|&(_, seen, live)| live == 0 && now - seen >= EXPIRE)
        {
            self.remove(client);
        }
    }

    fn remove(&mut self, client: u32) {
        self.homes.remove(&client);
        self.order.retain(|&other| other != client);
    }

    fn make_room(&mut self) {
        if self.homes.len() == ROOM {
            let idle = self.order.iter().find(|client| self.homes[client].2 == 0);
            let victim = *idle.unwrap_or(&self.order[0]);
            self.remove(victim);
        }
    }

    fn enter(&mut self, client: u32, backend: u32, now: u64, live: u32) {
        self.purge(client, now);
        match self.homes.get_mut(&client) {
            Some(home) => *home = (backend, now, home.2 + live),
            None => {
                self.make_room();
                self.homes.insert(client, (backend, now, live));
            }
        }
        self.touch(client);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Propose(u32, u32),
    Abandon(u32),
    Confirm(u32, u32),
    Visit(u32),
    Release(u32),
    Set(u32, u32),
    Clear(u32),
    Expire,
    Resize,
    Wait(u64),
}

fn ops() -> impl Strategy<Value = Op> {
    let (client, backend) = (0..14u32, 0..3u32);
    prop_oneof![
        2 => (client.clone(), backend.clone()).prop_map(|(c, b)| Op::Propose(c, b)),
        1 => client.clone().prop_map(Op::Abandon),
        5 => (client.clone(), backend.clone()).prop_map(|(c, b)| Op::Confirm(c, b)),
        1 => client.clone().prop_map(Op::Visit),
        5 => client.clone().prop_map(Op::Release),
        1 => (client.clone(), backend).prop_map(|(c, b)| Op::Set(c, b)),
        1 => client.prop_map(Op::Clear),
        1 => Just(Op::Expire),
        1 => Just(Op::Resize),
        3 => (0..20u64).prop_map(Op::Wait),
    ]
}

proptest! {
    #[test]
    fn the_table_does_what_the_model_says(ops in proptest::collection::vec(ops(), 1..200)) {
        let table = Table::new(ROOM as u32, EXPIRE);
        let backends = ["mq0", "mq1", "mq2"].map(|name| table.intern(name));
        let mut model = Model::default();
        let mut now = 0;
        for op in ops {
            match op {
                Op::Propose(c, b) => {
                    table.propose(id(c), backends[b as usize], now);
                    let pending = model.proposals.get(&c).map_or(0, |&(_, pending)| pending);
                    model.proposals.insert(c, (b, pending + 1));
                }
                Op::Abandon(c) => {
                    table.abandon(id(c));
                    if let Some((_, pending)) = model.proposals.get_mut(&c) {
                        *pending -= 1;
                        if *pending == 0 {
                            model.proposals.remove(&c);
                        }
                    }
                }
                Op::Confirm(c, b) => {
                    table.confirm(id(c), backends[b as usize], now);
                    model.proposals.remove(&c);
                    model.enter(c, b, now, 1);
                }
                Op::Visit(c) => {
                    model.purge(c, now);
                    model.proposals.remove(&c);
                    let known = model.homes.get(&c).copied();
                    prop_assert_eq!(table.visit(id(c), backends[0], now), known.is_some());
                    if let Some((home, ..)) = known {
                        model.enter(c, home, now, 1);
                    }
                }
                Op::Release(c) => {
                    // As in the program: only what was counted is released, and that has not expired.
                    if let Some(home) = model.homes.get_mut(&c).filter(|home| home.2 > 0) {
                        *home = (home.0, now, home.2 - 1);
                        model.touch(c);
                        prop_assert!(table.release(id(c), now));
                    }
                }
                Op::Set(c, b) => {
                    table.set(id(c), backends[b as usize], now);
                    model.enter(c, b, now, 0);
                }
                Op::Clear(c) => {
                    let known = model.homes.contains_key(&c);
                    prop_assert_eq!(table.clear(Filter::Id(id(c))), u32::from(known));
                    model.remove(c);
                }
                Op::Expire => {
                    table.expire(now, u32::MAX);
                    (0..14).for_each(|client| model.purge(client, now));
                    prop_assert_eq!(table.counts().entries as usize, model.homes.len());
                }
                Op::Resize => {
                    table.resize(ROOM as u32 + 1, EXPIRE);
                    table.resize(ROOM as u32, EXPIRE);
                }
                Op::Wait(ms) => now += ms,
            }
            prop_assert!(table.counts().entries as usize <= ROOM);
            prop_assert_eq!(table.counts().proposals as usize, model.proposals.len());
            for client in 0..14 {
                let row = table.page(0, 100).0.into_iter().find(|row| row.id == id(client));
                let found = row.map(|row| (row.backend.to_string(), row.seen, row.live));
                let wanted = model.homes.get(&client).map(|&(b, seen, live)| (format!("mq{b}"), seen, live));
                prop_assert_eq!(found, wanted, "client {}", client);
            }
        }
        for client in 0..14 {
            model.purge(client, now);
            let wanted = model.homes.get(&client).map(|home| home.0);
            let wanted = wanted.or(model.proposals.get(&client).map(|proposal| proposal.0));
            prop_assert_eq!(home_of(&table, client, now), wanted.map(|b| format!("mq{b}")));
        }
    }
}
