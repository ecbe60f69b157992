//! What operators see and change: one view of the process, one set of commands, and the socket that carries both.
//!
//! The parts that know the answers implement [`house::House`].

pub mod command;
pub mod house;
pub mod view;
