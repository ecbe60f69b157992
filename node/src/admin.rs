//! What operators see and change: one view of the process, one set of commands, and the socket that carries both.
//!
//! The parts that know the answers implement [`house::House`]; [`server`] speaks for it on the control sockets, and
//! [`client`] is the command line's end of them.

pub mod bind;
pub mod client;
pub mod command;
pub mod house;
#[cfg(test)]
pub(crate) mod ledger;
pub mod server;
mod session;
pub mod users;
pub mod view;
