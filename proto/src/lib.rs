//! Every byte on every wire.
