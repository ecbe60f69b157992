//! Which backend a client belongs to, remembered past the end of its connection.

pub mod entry;
mod names;
mod segment;
pub mod snapshot;
pub mod table;
