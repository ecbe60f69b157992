use super::*;
use crate::admin::view::{CheckView, DrainView, ListenerView, ReloadView, StickyView};

const NOW: u64 = 1_795_256_102_114;

fn view() -> View {
    let mut view = View {
        at: NOW,
        ..View::default()
    };
    view.node.name = "lb1".into();
    view.node.version = "0.1.0".into();
    view.node.started_at = NOW - 273_600_000;
    view.node.connections = 12_408;
    view.node.connection_limit = 500_000;
    view.node.config.hash = "3f2a77aa0102".into();
    view.node.config.loaded_at = NOW - 60_000;
    view.listeners.push(ListenerView {
        name: ":1883".into(),
        bind: vec![":1883".into()],
        bound: vec!["[::]:1883".parse().unwrap()],
        pool: "mqtt".into(),
        ..ListenerView::default()
    });
    let backend = |name: &str, state, connections| BackendView {
        name: name.into(),
        state,
        since: NOW - 130_000,
        weight: 1,
        weight_configured: 1,
        connections,
        ..BackendView::default()
    };
    view.pools.push(PoolView {
        name: "mqtt".into(),
        mode: "mqtt".into(),
        balance: "sticky".into(),
        connections: 12_408,
        new_per_s: 31.0,
        up: 1,
        min_up: 1,
        healthy: true,
        sticky: Some(StickyView {
            entries: 11_990,
            size: 100_000,
            ..StickyView::default()
        }),
        backends: vec![
            BackendView {
                share: 0.49,
                check: Some(CheckView {
                    at: NOW,
                    passed: true,
                    result: "200 in 3ms".into(),
                    ..CheckView::default()
                }),
                ..backend("mq1", State::Up, 6_102)
            },
            BackendView {
                share: 0.1,
                drain: Some(DrainView {
                    since: NOW - 130_000,
                    from: 6_000,
                    remaining: 1_204,
                    rate: Some(3.0),
                    eta_ms: Some(401_000),
                    by: "uid 0 by control socket".into(),
                }),
                ..backend("mq2", State::Draining, 1_204)
            },
            BackendView {
                why: "3 checks failed: connection refused".into(),
                weight: 5,
                ..backend("mq3", State::Down, 0)
            },
        ],
        ..PoolView::default()
    });
    view
}

#[test]
fn the_house_is_on_one_screen() {
    assert_eq!(
        text(&view(), Style::Plain),
        "\
lb1  running for 3d04h  version 0.1.0  config 3f2a77aa0102 loaded 1m00s ago  12,408 of 500,000 connections
mqtt  :1883  sticky  12,408 connections  31/s new  11,990 of 100,000 homes
  mq1  up        6,102  49%  w1            check 200 in 3ms  for 2m10s
  mq2  draining  1,204  10%  w1            no check          1,204 left, →0 in 6m41s  (since 2m10s ago, uid 0 by control socket)
  mq3  down          0   0%  w5 (file: 1)  no check          for 2m10s: 3 checks failed: connection refused
"
    );
}

#[test]
fn colours_add_nothing_to_the_words() {
    let coloured = text(&view(), Style::Coloured);
    let mut bare = String::new();
    for (n, part) in coloured.split('\u{1b}').enumerate() {
        bare.push_str(if n == 0 {
            part
        } else {
            part.split_once('m').unwrap().1
        });
    }
    assert_ne!(coloured, bare);
    assert_eq!(bare, text(&view(), Style::Plain));
}

#[test]
fn trouble_is_said_in_words() {
    let mut view = view();
    view.pools[0].healthy = false;
    view.pools[0].up = 0;
    view.listeners[0].rejected.insert("per_ip".into(), 1_234);
    view.listeners[0].rejected.insert("rate".into(), 0);
    view.node.restarts = 2;
    view.log.access_dropped = 7;
    view.node.config.last_reload = Some(ReloadView {
        at: NOW - 5_000,
        applied: false,
        text: "standfast.toml:3:1: unknown key".into(),
        by: String::new(),
    });
    let text = text(&view, Style::Plain);
    for words in [
        "UNHEALTHY: 0 up, 1 needed",
        ":1883  turned away: per_ip 1,234\n",
        "! the last reload, 5s ago, was refused and changed nothing: standfast.toml:3:1",
        "! the worker crashed and was started again 2 times",
        "! 7 log lines were dropped",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    assert!(!text.contains("rate 0"));
}

#[test]
fn what_a_backend_answers_cannot_play_with_the_terminal() {
    let mut view = view();
    let check = view.pools[0].backends[0].check.as_mut().unwrap();
    check.result = "200 \u{1b}[2J in 3ms".into();
    assert!(!text(&view, Style::Plain).contains('\u{1b}'));
}

#[test]
fn health_is_about_the_daemon_unless_a_pool_is_named() {
    let mut view = view();
    view.pools[0].healthy = false;
    assert_eq!(health(&view, None), Ok("serving".into()));
    assert!(health(&view, Some("mqtt")).is_err());
    assert!(health(&view, Some("nosuch")).is_err());
    view.pools[0].healthy = true;
    assert!(health(&view, Some("mqtt")).is_ok());
    view.listeners[0].bound.clear();
    assert!(health(&view, None).is_err());
    view.node.stopping = true;
    assert_eq!(health(&view, None), Err("stopping".into()));
}
