//! Rows of document A: what HAProxy does in front of HiveMQ.

mod health;
mod house;
mod limits;
mod spread;

use standfast_tests::prelude::*;

/// One listener `mqtt` and one pool of the same name with these lines.
fn one_pool(lines: &str) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:${{port:mqtt}}\"\npool = \"mqtt\"\n[[pool]]\nname = \"mqtt\"\n{lines}\n"
    )
}

/// A whole visit: CONNECT, CONNACK, DISCONNECT.
#[track_caller]
fn visit(standfast: &Standfast, id: &str) {
    Client::id(standfast.addr("mqtt"), id).disconnect();
}
