//! Standfast, the program: configuration, data plane, health checks, balancing, control.

pub mod access;
pub mod admin;
pub mod channel;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod end;
pub mod events;
pub mod guardian;
pub mod health;
pub mod listeners;
pub mod logging;
pub mod plane;
pub mod pool;
pub mod resolve;
pub mod route;
pub mod state;
mod sys;
pub mod worker;
