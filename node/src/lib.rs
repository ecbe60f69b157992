//! Standfast, the program: configuration, data plane, health checks, balancing, control.

pub mod config;
pub mod route;
