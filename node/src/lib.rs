//! Standfast, the program: configuration, data plane, health checks, balancing, control.

pub mod access;
pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod end;
pub mod events;
pub mod logging;
pub mod pool;
