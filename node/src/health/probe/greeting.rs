//! The PROXY header that a check begins with, where the pool's backends expect one.
//!
//! Mosquitto and RabbitMQ close a connection whose header says LOCAL, so a check that wants an answer says PROXY with its
//! own addresses unless the profile knows better; a bare TCP check wants none, and LOCAL keeps the broker's log quiet.

use standfast_proto::proxy::{v1, v2};
use tokio::net::TcpStream;

use super::Ask;
use crate::config::{CheckKind, ProxyVersion};

/// The header of a check on the traffic port; empty where none is expected.
pub(super) fn header(ask: &Ask, stream: &TcpStream) -> Vec<u8> {
    let local = match ask.check.kind {
        CheckKind::Tcp => true,
        _ => ask.settings.proxy.is_some_and(|proxy| proxy.local_checks),
    };
    write(ask, stream, local)
}

/// The header of a connection that is opened and closed.
pub(super) fn bare(ask: &Ask, stream: &TcpStream) -> Vec<u8> {
    write(ask, stream, true)
}

fn write(ask: &Ask, stream: &TcpStream, local: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(proxy) = ask.settings.proxy else {
        return out;
    };
    let addresses = stream.local_addr().ok().zip(stream.peer_addr().ok());
    match proxy.version {
        // Version 1 has no LOCAL, and its UNKNOWN is refused by most.
        ProxyVersion::V1 => v1::encode(addresses, &mut out),
        ProxyVersion::V2 => {
            let header = v2::Header {
                command: if local {
                    v2::Command::Local
                } else {
                    v2::Command::Proxy
                },
                addresses: addresses.filter(|_| !local),
                facts: v2::Facts {
                    crc32c: proxy.crc32c,
                    ..v2::Facts::default()
                },
            };
            // Addresses and a checksum are far below every broker's limit: nothing is dropped.
            let _ = header.encode(usize::from(proxy.max_tlv_bytes), &mut out);
        }
    }
    out
}
