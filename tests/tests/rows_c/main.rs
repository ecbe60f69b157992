//! Rows of document C: what HAProxy does in front of EMQX.

mod corpus;
mod greeting;
mod house;
mod idle;
mod proxy;
mod spread;
