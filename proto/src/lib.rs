//! Every byte that standfast reads or writes on a wire, as pure parsers and encoders.
//!
//! Nothing here knows a clock, a socket or a task. Parsers borrow from the buffer they are given, say how many bytes they
//! still need, and refuse as soon as the bytes seen rule out what they look for. Encoders append to a `Vec` and allocate
//! only when it lacks capacity.

pub mod mqtt;
pub mod proxy;
