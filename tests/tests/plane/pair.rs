//! The pair of processes: deaths, freezes, stops, reloads.

use std::fs;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use standfast_tests::mqtt::packet;
use standfast_tests::prelude::*;
use standfast_tests::standfast::binary;

use crate::scripted::{Scripted, one_thread, read_packet, worker};

/// DISCONNECT of MQTT 5 with reason 0x8B, server shutting down.
const SHUTTING_DOWN: [u8; 2] = [0xE0, 0x8B];

fn pid(process: u32) -> Pid {
    Pid::from_raw(process.cast_signed()).expect("no process has the number 0")
}

fn signal(process: u32, signal: Signal) {
    kill_process(pid(process), signal).expect("it is there");
}

fn is_alive(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // After the name in brackets; Z is a zombie.
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn plain(broker: &FakeBroker) -> String {
    one_pool(&format!("check = false\n{}", backends([broker])))
}

/// Connects one client after another until told to stop; answers how many, and the longest time one took.
fn steady(
    to: std::net::SocketAddr,
    prefix: &'static str,
) -> (Arc<AtomicBool>, thread::JoinHandle<(usize, Duration)>) {
    let over = Arc::new(AtomicBool::new(false));
    let seen = over.clone();
    let connecting = thread::spawn(move || {
        let mut worst = Duration::ZERO;
        let mut count = 0;
        while !seen.load(Relaxed) {
            let began = Instant::now();
            let mut client = Client::open(to).expect("the port never refuses");
            // A worker that dies takes those that it had accepted: they come again.
            if client
                .greet(&Connect::v311(&format!("{prefix}{count}")))
                .is_ok()
            {
                client.disconnect();
                count += 1;
                worst = worst.max(began.elapsed());
            }
        }
        (count, worst)
    });
    (over, connecting)
}

#[test]
fn a_killed_worker_is_replaced_without_a_refusal_and_all_that_was_ordered_holds() {
    let [one, two, three] = FakeBroker::several();
    let standfast = Standfast::start(&one_pool(&format!(
        "check = false\nbalance = \"round-robin\"\n{}",
        backends([&one, &two, &three])
    )));
    for order in [
        &["drain", "b2"][..],
        &["disable", "b3", "--yes"],
        &["weight", "b1", "7"],
    ] {
        let _ = standfast.cli(order).ok();
    }
    let before = standfast.status();
    // What is kept goes to the guardian four times a second.
    pause(ms(600));
    fs::write(standfast.config(), "this is = = no TOML").expect("ours");
    let (over, connecting) = steady(standfast.addr("mqtt"), "s");
    let killed = worker(&standfast);
    let began = Instant::now();
    signal(killed, Signal::KILL);
    let mut tries = 0;
    let served = within(s(10), "a new client is served", || {
        tries += 1;
        let connect = Connect::v311(&format!("after{tries}"));
        Client::connect(standfast.addr("mqtt"), &connect).ok()?;
        Some(began.elapsed())
    });
    println!("served {served:?} after SIGKILL of the worker, at try {tries}");
    assert!(served < s(5), "{served:?}");
    over.store(true, Relaxed);
    let (count, worst) = connecting.join().expect("nothing was refused");
    println!("{count} clients meanwhile, the slowest in {worst:?}");
    let after = within(s(5), "it answers", || {
        let answer = standfast.cli(&["status", "--json"]);
        (answer.code == 0).then(|| answer.json())
    });
    assert_ne!(worker(&standfast), killed);
    for name in ["b1", "b2", "b3"] {
        assert_eq!(before.state(name), after.state(name), "{name}");
        assert_eq!(
            before.backend(name)["weight"],
            after.backend(name)["weight"],
            "{name}"
        );
    }
    assert_eq!(two.count_of("") + three.count_of(""), 0);
}

#[test]
fn a_worker_does_not_outlive_its_guardian() {
    let broker = FakeBroker::start();
    let mut standfast = Standfast::start(&plain(&broker));
    let orphan = worker(&standfast);
    signal(standfast.program().pid(), Signal::KILL);
    eventually(s(5), "the worker is gone", || !is_alive(orphan));
    let _ = standfast.program_mut().ended();
    assert!(
        Client::open(standfast.addr("mqtt")).is_err(),
        "nobody listens"
    );
}

/// A broker that sends one message that never ends in time, and one that never stops sending.
#[test]
fn a_stop_tells_v5_clients_between_two_packets_whatever_their_broker_is_saying() {
    let broker = Scripted::start(|mut stream| {
        let mut pending = Vec::new();
        let Some(connect) = read_packet(&mut stream, &mut pending) else {
            return;
        };
        let (level, _, _, id) = connect.as_connect().unwrap_or_default();
        let connack: &[u8] = if level == 5 {
            &[0x20, 3, 0, 0, 0]
        } else {
            &[0x20, 2, 0, 0]
        };
        let _ = stream.write_all(connack);
        let mut say = |bytes: &[u8]| stream.write_all(bytes).is_ok();
        match id.as_str() {
            "large" => {
                let message = packet(0x30, &vec![b'x'; 400_000]);
                for piece in message.chunks(4_000) {
                    if !say(piece) {
                        return;
                    }
                    // 400 ms for the whole of it.
                    pause(ms(4));
                }
            }
            "stream" => {
                let message = packet(0x30, &vec![b'y'; 1_300_007]);
                while say(&message) {}
                return;
            }
            _ => {}
        }
        let _ = stream.read(&mut [0; 64]);
    });
    let mut standfast = Standfast::start(&one_thread(&format!(
        "check = false\n{}",
        backends_at([broker.addr()])
    )));
    let to = standfast.addr("mqtt");
    let stream = Client::connect(to, &Connect::v5("stream")).expect("accepted");
    let streaming = thread::spawn(move || last_packet(stream));
    let large = Client::connect(to, &Connect::v5("large")).expect("accepted");
    let silent = Client::connect(to, &Connect::v5("silent")).expect("accepted");
    let old = Client::connect(to, &Connect::v311("old")).expect("accepted");
    eventually(s(5), "the large message has begun", || {
        let list = standfast.cli(&["connections", "--json"]).ok().json();
        let rows = list.as_array().or_else(|| list["connections"].as_array());
        rows.is_some_and(|rows| {
            rows.iter()
                .any(|row| row["client"] == "large" && row["bytes_out"].as_u64() > Some(1_000))
        })
    });
    let readers = [large, silent].map(|client| thread::spawn(move || last_packet(client)));
    assert_eq!(standfast.stop(), 0);
    let [large, silent] = readers.map(|reader| reader.join().expect("whole packets to the end"));
    let streamed = streaming.join().expect("whole packets to the end");
    for (who, last) in [("large", large), ("silent", silent), ("stream", streamed)] {
        assert_eq!(last.kind(), 14, "{who}: {}", last.kind());
        assert_eq!(last.body.first(), Some(&SHUTTING_DOWN[1]), "{who}");
    }
    let mut old = old;
    assert_eq!(old.to_end(s(5)).expect("a close"), b"");
    assert!(Client::open(to).is_err(), "nobody listens");
    assert!(!standfast.socket().exists(), "the control socket is gone");
}

/// Reads whole packets until the connection is closed, and answers the last.
fn last_packet(mut client: Client) -> Packet {
    let mut last = None;
    loop {
        match client.packet(s(10)) {
            Ok(packet) => last = Some(packet),
            Err(error) => {
                assert!(error.to_string().contains("was closed"), "{error:#}");
                return last.expect("something was said");
            }
        }
    }
}

#[test]
fn a_stop_of_the_whole_group_closes_connections_as_politely() {
    let broker = FakeBroker::start();
    for how in [Signal::TERM, Signal::INT] {
        let mut standfast = Standfast::start(&plain(&broker));
        let client = Client::connect(standfast.addr("mqtt"), &Connect::v5("c")).expect("accepted");
        // As a terminal and as systemd do it: guardian and worker both get the signal.
        kill_process_group(pid(standfast.program().pid()), how).expect("it is there");
        assert_eq!(last_packet(client).body.first(), Some(&SHUTTING_DOWN[1]));
        let ended = within(s(10), "it ends", || standfast.program_mut().ended());
        assert_eq!(ended.code(), Some(0), "{how:?}");
    }
}

#[test]
fn a_stop_during_the_start_stops_it() {
    let broker = FakeBroker::start();
    let template = Standfast::start(&plain(&broker));
    let config = template.config().to_owned();
    let mut template = template;
    assert_eq!(template.stop(), 0);
    // In fine steps first: the two have greeted each other after a few milliseconds.
    let steps = (0..8_000)
        .step_by(400)
        .chain((8_000..60_000).step_by(8_000));
    for after in steps.map(Duration::from_micros) {
        let mut started = Command::new(binary())
            .args(["run", "--config"])
            .arg(&config)
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the program was built");
        let process = started.id();
        // Its handlers stand when it has a child. Asked without a rest, since what matters happens at once.
        let limit = Instant::now() + s(5);
        while standfast_tests::standfast::processes(process).len() < 2 {
            assert!(Instant::now() < limit, "no worker");
        }
        pause(after);
        signal(process, Signal::TERM);
        let began = Instant::now();
        let ended = within(s(20), "it ends", || started.try_wait().ok().flatten());
        assert_eq!(ended.code(), Some(0), "{after:?} after its start");
        assert!(
            began.elapsed() < s(5),
            "{after:?} after its start: {:?}",
            began.elapsed()
        );
    }
}

#[test]
fn a_storm_of_sighup_leaves_a_worker_that_hears() {
    let broker = FakeBroker::start();
    let mut standfast = Standfast::start(&plain(&broker));
    for _ in 0..300 {
        standfast
            .program()
            .signal(Signal::HUP)
            .expect("it is there");
        thread::yield_now();
        pause(Duration::from_micros(300));
    }
    let done = thread::scope(|scope| {
        let asking = scope.spawn(|| standfast.cli(&["reload"]).code);
        within(s(10), "reload is answered", || {
            asking.is_finished().then_some(())
        });
        asking.join().expect("it asked")
    });
    assert_eq!(done, 0);
    Client::id(standfast.addr("mqtt"), "after").disconnect();
    assert_eq!(standfast.stop(), 0);
}

#[test]
fn a_hung_worker_is_ended_and_replaced() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&plain(&broker));
    let hung = worker(&standfast);
    signal(hung, Signal::STOP);
    eventually(s(12), "it is ended", || !is_alive(hung));
    within(s(10), "a new client is served", || {
        Client::connect(standfast.addr("mqtt"), &Connect::v311("after")).ok()
    });
    assert_ne!(worker(&standfast), hung);
}

/// As a paused container or machine: time goes on, both processes do not. Nobody is to blame for it.
#[test]
fn a_freeze_of_both_processes_ends_neither() {
    let broker = FakeBroker::start();
    for guardian_first in [true, false] {
        let standfast = Standfast::start(&plain(&broker));
        let mut client = Client::connect(
            standfast.addr("mqtt"),
            &Connect::v311("frozen").keepalive(0),
        )
        .expect("accepted");
        let both = [standfast.program().pid(), worker(&standfast)];
        both.iter()
            .for_each(|process| signal(*process, Signal::STOP));
        // Longer than the guardian's patience.
        pause(s(7));
        let [first, second] = if guardian_first {
            both
        } else {
            [both[1], both[0]]
        };
        signal(first, Signal::CONT);
        signal(second, Signal::CONT);
        client.ping().expect("the connection stands");
        holds(s(2), "the worker lives", || is_alive(both[1]));
        client.ping().expect("the connection stands");
    }
}

#[test]
fn a_guardian_that_cannot_start_a_worker_tries_again() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&plain(&broker));
    let guardian = standfast.program().pid();
    let limit = |most: u32| {
        let set = Command::new("prlimit")
            .args([
                "--pid",
                &guardian.to_string(),
                &format!("--nofile={most}:20000"),
            ])
            .status();
        assert!(set.is_ok_and(|status| status.success()));
    };
    limit(4);
    signal(worker(&standfast), Signal::KILL);
    holds(s(1), "the guardian lives", || is_alive(guardian));
    limit(1024);
    within(s(10), "a new client is served", || {
        Client::connect(standfast.addr("mqtt"), &Connect::v311("after")).ok()
    });
}

fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count)
}

/// 50 reloads that add and remove listeners and backends, while clients come and go and others stay.
#[test]
fn fifty_reloads_refuse_nobody_drop_nobody_and_keep_no_descriptor() {
    let brokers: [FakeBroker; 2] = FakeBroker::several();
    let text = |round: usize| {
        let mut text = format!(
            "[[listener]]\nbind = \"127.0.0.1:${{port:mqtt}}\"\npool = \"mqtt\"\n\
             [[pool]]\nname = \"mqtt\"\nbalance = \"round-robin\"\ncheck = {{ tcp = true, interval = \"1s\" }}\n\
             backends = [{{ name = \"b1\", addr = \"{}\" }}",
            brokers[0].addr()
        );
        if round % 2 == 1 {
            text += &format!(", {{ name = \"b2\", addr = \"{}\" }}", brokers[1].addr());
        }
        text += "]\n";
        if !round.is_multiple_of(3) {
            text += "[[listener]]\nbind = \"127.0.0.1:${port:extra}\"\npool = \"mqtt\"\n";
        }
        text
    };
    let mut standfast = Standfast::start(&text(1));
    let extra = standfast.addr("extra");
    let mut held: Vec<Client> = (0..10)
        .map(|number| {
            Client::id(
                if number % 2 == 0 {
                    standfast.addr("mqtt")
                } else {
                    extra
                },
                &format!("held{number}"),
            )
        })
        .collect();
    let processes = [standfast.program().pid(), worker(&standfast)];
    let (over, connecting) = steady(standfast.addr("mqtt"), "s");
    let _ = standfast.reload(&text(0)).ok();
    let begun = processes.map(descriptors);
    for round in 1..=50 {
        let _ = standfast.reload(&text(round)).ok();
        // Data-plane threads let go of a socket a moment after the command was answered.
        eventually(s(5), "the extra port is open or not, as said", || {
            Client::open(extra).is_ok() != round.is_multiple_of(3)
        });
    }
    let _ = standfast.reload(&text(0)).ok();
    over.store(true, Relaxed);
    let (count, worst) = connecting.join().expect("nothing was refused");
    println!("{count} clients meanwhile, the slowest in {worst:?}");
    assert_eq!(standfast.count_ends("no-backend"), 0);
    for client in &mut held {
        client.ping().expect("the connection stands");
    }
    // Connections of checks and commands come and go.
    eventually(s(10), "no descriptor is left over", || {
        let now = processes.map(descriptors);
        now[0] <= begun[0] && now[1] <= begun[1] + 2
    });
    assert_eq!([standfast.program().pid(), worker(&standfast)], processes);
}
