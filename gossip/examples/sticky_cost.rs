//! What a sticky table costs: operations a second with one and two threads, and bytes an entry.
//!
//! `cargo run --release --example sticky_cost -p standfast-gossip [entries]`

use std::time::Instant;

use standfast_gossip::sticky::{BackendRef, Hasher, Id, Kind, Table};

fn main() {
    let entries: u32 = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(1_000_000);
    let hasher = Hasher::new([9; 16]);
    let start = Instant::now();
    let ids: Vec<_> = (0..entries)
        .map(|n| hasher.id("mqtt", Kind::ClientId, format!("device-{n:016}").as_bytes()))
        .collect();
    println!(
        "id of a 23-byte value     {:>6.0} ns",
        nanos(start, entries)
    );

    let before = resident();
    let table = Table::new(entries, 1_800_000);
    let backend = table.intern("mq1");
    println!(
        "an empty table            {:>6} KiB",
        (resident() - before) / 1024
    );
    let start = Instant::now();
    ids.iter().for_each(|&id| connect(&table, id, backend));
    println!(
        "first connect and end     {:>6.0} ns, 5 calls",
        nanos(start, entries)
    );
    let used = resident() - before;
    println!(
        "resident                  {:>6.1} bytes an entry",
        used as f64 / f64::from(entries)
    );

    let mut order: Vec<_> = ids.clone();
    order.sort();
    let start = Instant::now();
    order.iter().for_each(|&id| connect(&table, id, backend));
    println!(
        "random connect and end    {:>6.0} ns, 5 calls, 1 thread",
        nanos(start, entries)
    );

    let start = Instant::now();
    std::thread::scope(|scope| {
        for half in order.chunks(order.len().div_ceil(2)) {
            let table = &table;
            scope.spawn(move || half.iter().for_each(|&id| connect(table, id, backend)));
        }
    });
    println!(
        "the same by two threads   {:>6.0} ns",
        nanos(start, entries)
    );

    let start = Instant::now();
    let listed = table.snapshot(0).count();
    println!("snapshot of {listed} in {:?}", start.elapsed());
}

/// What one client does to the table from its CONNECT to its end.
fn connect(table: &Table, id: Id, backend: BackendRef) {
    if table.lookup(id, 1).is_none() {
        table.propose(id, backend, 1);
    }
    table.confirm(id, table.intern("mq1"), 1);
    table.release(id, 2);
}

fn nanos(start: Instant, n: u32) -> f64 {
    start.elapsed().as_nanos() as f64 / f64::from(n)
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .map_or(0, |pages: u64| pages * 4096)
}
