//! What becomes of the connections of a backend that is marked down.

use std::sync::Mutex;
use std::thread;

use standfast_tests::prelude::*;

const HELD: usize = 30;

struct Scene {
    broker: FakeBroker,
    health: FakeHttp,
    standfast: Standfast,
    held: Vec<Client>,
}

/// A broker with thirty clients, checked at its port or at its readiness.
fn scene(on_down: &str, is_readiness: bool) -> Scene {
    let broker = FakeBroker::start();
    let health = FakeHttp::start();
    let kind = match is_readiness {
        true => format!("http = \"http://:{}/ready\"", health.port()),
        false => "tcp = true".to_owned(),
    };
    let standfast = Standfast::start(&one_pool(&format!(
        "check = {{ {kind}, interval = \"100ms\", fast_interval = \"50ms\" }}\n{on_down}\n{}",
        backends([&broker])
    )));
    standfast.wait_up(&["b1"]);
    let to = standfast.addr("mqtt");
    let held = (0..HELD)
        .map(|n| Client::id(to, &format!("held-{n}")))
        .collect();
    Scene {
        broker,
        health,
        standfast,
        held,
    }
}

/// When each of these clients is closed, from now on.
fn closings(held: Vec<Client>) -> Vec<Duration> {
    let start = Instant::now();
    let times = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for mut client in held {
            let times = &times;
            scope.spawn(move || {
                client.ending(s(10)).expect("closed");
                times.lock().expect("nobody panics").push(start.elapsed());
            });
        }
    });
    let mut times = times.into_inner().expect("nobody panics");
    times.sort_unstable();
    times
}

/// E14: with on_down close: all sessions of a backend marked down closed within the set pace; without: kept
///
/// The broker refuses new connections and keeps those it has, so that nothing but the balancer can have closed them.
/// Thirty at twenty a second.
#[test]
fn e14_sessions_of_a_dead_backend_are_closed_at_the_set_pace() {
    let mut scene = scene("on_down = { close = true, pace = \"20/s\" }", false);
    scene.broker.refuse();
    let times = closings(scene.held);
    let (first, last) = (times[0], times[HELD - 1]);
    let took = last - first;
    // The first second's worth may go at once, as a bucket that is full lets them.
    assert!(took > ms(400) && took < s(3), "{times:?}");
    let quickest = times
        .windows(22)
        .map(|some| some[21] - some[0])
        .min()
        .expect("thirty");
    assert!(quickest > ms(40), "not all at once: {times:?}");
    scene.standfast.wait_ends("backend-down", HELD);
    assert_eq!(scene.standfast.status().connections("b1"), 0);
}

/// E14: with on_down close: all sessions … closed … — at once, where no pace is set.
#[test]
fn e14_without_a_pace_they_are_closed_at_once() {
    let mut scene = scene("on_down = { close = true }", false);
    scene.broker.refuse();
    let times = closings(scene.held);
    assert!(times[HELD - 1] - times[0] < ms(500), "{times:?}");
    scene.standfast.wait_ends("backend-down", HELD);
}

/// E14: … without: kept
///
/// And by default: closed where the port is gone, kept where only the readiness fails.
#[test]
fn e14_sessions_are_kept_where_closing_is_not_asked_for() {
    for (on_down, is_readiness, closed) in [
        ("on_down = { close = false }", false, false),
        ("on_down = { close = false }", true, false),
        ("", true, false),
        ("", false, true),
        ("on_down = { close = true }", true, true),
    ] {
        let mut scene = scene(on_down, is_readiness);
        if is_readiness {
            scene.health.status(503);
        } else {
            scene.broker.refuse();
        }
        scene.standfast.wait_state("b1", "down|not-ready", s(5));
        if closed {
            assert_eq!(closings(scene.held).len(), HELD);
            continue;
        }
        let name = format!("kept with {on_down:?}, readiness: {is_readiness}");
        holds(ms(500), &name, || {
            scene.held.iter_mut().all(Client::is_open)
        });
        for client in &mut scene.held {
            client.ping().expect("it works");
        }
    }
}
