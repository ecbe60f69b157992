//! Standfast, the program: configuration, data plane, health checks, balancing, control.

pub mod access;
pub mod clock;
pub mod config;
pub mod end;
pub mod events;
pub mod health;
pub mod pool;
pub mod resolve;
