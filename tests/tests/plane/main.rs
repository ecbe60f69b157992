//! The data plane and the pair of processes, seen from outside: bytes, edges, ends, limits, deaths and reloads.

mod bytes;
mod edges;
mod ends;
mod limits;
mod pair;
mod scripted;
