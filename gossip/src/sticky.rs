//! Which backend a client belongs to, remembered past the end of its connection.

pub mod entry;
mod names;
mod segment;
pub mod snapshot;
pub mod table;

pub use entry::{BackendRef, Hasher, Id, Kind};
pub use table::{Counts, Filter, Home, Record, Table};
