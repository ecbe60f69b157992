//! Rows of document D: what NGINX Plus does in front of HiveMQ.

mod check;
mod first_packet;
mod log;
mod persistence;
mod runtime;
