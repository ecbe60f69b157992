//! What passes arrives unchanged, however it is cut and however slowly it is read, in bounded memory.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use socket2::{Domain, SockRef, Socket, Type};
use standfast_tests::mqtt::publish;
use standfast_tests::prelude::*;

use crate::scripted::{CONNACK, SEGMENT, Scripted, read_packet, tcp_pool};

const CONNECTIONS: u64 = 100;
const MEGABYTE: usize = 1_000_000;

/// Numbers that look like nothing, the same in every run (xorshift).
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).expect("below a usize")
    }
}

/// A megabyte of noise; as MQTT, in PUBLISH packets of any length.
fn message(seed: u64, is_mqtt: bool) -> Vec<u8> {
    let mut noise = Noise::new(seed);
    let mut all = Vec::with_capacity(MEGABYTE + 70_000);
    while all.len() < MEGABYTE {
        let length = match noise.below(10) {
            0 => noise.below(60_000),
            1..=4 => noise.below(3_000),
            _ => noise.below(100),
        };
        let payload: Vec<u8> = (0..length.div_ceil(8))
            .flat_map(|_| noise.next().to_le_bytes())
            .collect();
        if is_mqtt {
            all.extend(publish("noise", &payload));
        } else {
            all.extend(payload);
        }
    }
    all
}

/// What each connection says and hears. Neighbours by number differ; making noise is dear, so few are made.
struct Said(Vec<Vec<u8>>);

impl Said {
    fn new(is_mqtt: bool) -> Self {
        Self((0..7).map(|seed| message(seed, is_mqtt)).collect())
    }

    fn there(&self, number: u64) -> &[u8] {
        self.of(number)
    }

    fn back(&self, number: u64) -> &[u8] {
        self.of(number + 3)
    }

    fn of(&self, number: u64) -> &[u8] {
        &self.0[usize::try_from(number).expect("small") % self.0.len()]
    }
}

/// Writes in pieces of any size while it reads in pieces of any size; stalls in the middle where told to.
fn exchange(stream: &TcpStream, seed: u64, say: &[u8], hear: &[u8], stalls: bool) {
    if stalls {
        // Else the kernel would take all of it, and nobody would notice the stall.
        let small = SockRef::from(stream).set_recv_buffer_size(8 * 1024);
        small.expect("a size that every kernel takes");
    }
    thread::scope(|scope| {
        let mut out = stream.try_clone().expect("descriptors are left");
        scope.spawn(move || {
            let mut noise = Noise::new(seed);
            let mut rest = say;
            while !rest.is_empty() {
                let most = if noise.below(4) == 0 { 9 } else { 50_000 };
                let n = (noise.below(most) + 1).min(rest.len());
                out.write_all(&rest[..n]).expect("open");
                rest = &rest[n..];
            }
        });
        let mut input = stream.try_clone().expect("descriptors are left");
        let mut noise = Noise::new(seed + 7);
        let mut heard = 0;
        let mut stalled = !stalls;
        let mut buffer = vec![0; 40_000];
        while heard < hear.len() {
            if !stalled && heard > MEGABYTE / 10 {
                stalled = true;
                // Time enough for all buffers on the way to fill.
                pause(ms(1_500));
            }
            let most = (noise.below(buffer.len()) + 1).min(hear.len() - heard);
            let n = match input.read(&mut buffer[..most]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read.expect("open"),
            };
            assert!(n > 0, "closed after {heard} bytes");
            assert!(
                buffer[..n] == hear[heard..heard + n],
                "bytes differ behind {heard}"
            );
            heard += n;
        }
    });
}

fn open(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors are left");
    let set = socket.set_tcp_mss(SEGMENT);
    set.expect("a size that every kernel takes");
    socket.connect(&to.into()).expect("it listens");
    socket.into()
}

fn a_megabyte_each_way(is_mqtt: bool) {
    let said = Arc::new(Said::new(is_mqtt));
    let says = Arc::clone(&said);
    let heard = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&heard);
    let server = Scripted::start(move |mut stream| {
        let number = if is_mqtt {
            let mut pending = Vec::new();
            let Some(connect) = read_packet(&mut stream, &mut pending) else {
                return;
            };
            assert!(pending.is_empty(), "the client waits for its CONNACK");
            let _ = stream.write_all(&CONNACK);
            let (_, _, _, id) = connect.as_connect().unwrap_or_default();
            id.parse().expect("a number")
        } else {
            let mut number = [0; 8];
            if stream.read_exact(&mut number).is_err() {
                return;
            }
            u64::from_le_bytes(number)
        };
        let (there, back) = (says.there(number), says.back(number));
        exchange(&stream, number, back, there, number % 5 == 1);
        count.fetch_add(1, Relaxed);
        // The other side is done reading when it closes.
        let _ = stream.read(&mut [0]);
    });
    // A server that stalls for longer than `user` counts as gone.
    let lines = "timeout = { user = \"30s\" }";
    let config = if is_mqtt {
        one_pool(&format!(
            "check = false\n{lines}\n{}",
            backends_at([server.addr()])
        ))
    } else {
        tcp_pool(lines, &[server.addr()])
    };
    let standfast = Standfast::start(&format!("limits = {{ relay_memory = \"4m\" }}\n{config}"));
    let before = standfast.memory();
    let mut most = 0;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let (to, said) = (standfast.addr("mqtt"), &said);
                scope.spawn(move || {
                    let mut stream = &open(to);
                    stream.set_read_timeout(Some(s(60))).expect("not zero");
                    if is_mqtt {
                        let connect = Connect::v311(&number.to_string());
                        stream.write_all(&connect.bytes()).expect("open");
                        let mut connack = [0; CONNACK.len()];
                        stream.read_exact(&mut connack).expect("accepted");
                        assert_eq!(connack, CONNACK);
                    } else {
                        stream.write_all(&number.to_le_bytes()).expect("open");
                    }
                    let (there, back) = (said.there(number), said.back(number));
                    exchange(stream, number + 50, there, back, number % 5 == 0);
                })
            })
            .collect();
        eventually(s(120), "all have heard all", || {
            most = most.max(standfast.memory());
            let said_all = clients.iter().all(|client| client.is_finished());
            said_all && heard.load(Relaxed) == CONNECTIONS
        });
    });
    let grown = most.saturating_sub(before);
    println!("{grown} bytes more at the most");
    // The limit, what reads of 4 KiB add above it, and the allocator's share.
    assert!(grown < 16_000_000, "it grew by {grown} bytes");
}

#[test]
fn a_megabyte_each_way_on_a_hundred_connections_arrives_unchanged_in_mqtt_mode() {
    a_megabyte_each_way(true);
}

#[test]
fn a_megabyte_each_way_on_a_hundred_connections_arrives_unchanged_in_tcp_mode() {
    a_megabyte_each_way(false);
}
