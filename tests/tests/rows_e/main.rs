//! Rows of document E: what HAProxy does in front of Mosquitto.

mod address;
mod house;
mod on_down;
mod tls;
