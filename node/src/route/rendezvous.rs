//! Weighted rendezvous hashing: every backend draws for every client, and the best draw wins.
//!
//! A draw depends on the client and that backend's name alone, so a backend that goes takes only its own clients
//! along, gets exactly those back, and the order in the file does not matter. A weight of two wins twice as
//! often. It costs one short hash per backend, which for the few backends of a pool is cheaper than a ring is to
//! keep.

use standfast_gossip::sticky::entry::{Hasher, Id, Kind};

/// What a backend of this name and weight (above 0) draws for a client: the highest wins.
pub fn draw(hasher: &Hasher, client: Id, name: &str, weight: u64) -> f64 {
    let Id([a, b, c, d, e, f, g, h, ..]) = hasher.id(name, Kind::ClientId, &client.0);
    let bits = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    // 53 bits, in the middle of their step: never 0, never 1.
    let uniform = ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    weight as f64 / -uniform.ln()
}
