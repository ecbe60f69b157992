use std::path::Path;

use super::*;
use crate::admin::ledger::Scratch;
use crate::config::{AccessFormat, Facility, Target};
use crate::events::{Events, Loudness};

fn to(path: &Path, level: Level) -> LogTarget {
    LogTarget {
        target: Target::File(path.to_owned()),
        level,
        facility: Facility(3),
    }
}

fn log(format: LogFormat, targets: Vec<LogTarget>) -> Log {
    Log {
        format,
        targets,
        access: None,
        access_facility: Facility(3),
        access_format: AccessFormat::Standfast,
        access_connect: false,
        hash_client_ids: false,
    }
}

/// Runs `body` with this log, and answers what is in each file afterwards, without the times.
fn logged(format: LogFormat, levels: &[Level], body: impl FnOnce(&Logging)) -> Vec<Vec<String>> {
    let scratch = Scratch::new();
    let path = |n: usize| scratch.join(&format!("{n}.log"));
    let targets = levels.iter().enumerate();
    let targets = targets.map(|(n, level)| to(&path(n), *level)).collect();
    let logging = Logging::new(&log(format, targets), false).unwrap();
    let registry = tracing_subscriber::registry().with(Lines(Arc::clone(&logging.shared)));
    tracing::subscriber::with_default(registry, || body(&logging));
    assert!(logging.flush(Duration::from_secs(10)));
    let read = |n| {
        let text = std::fs::read_to_string(path(n)).unwrap();
        text.lines().map(|line| line.to_owned()).collect()
    };
    (0..levels.len()).map(read).collect()
}

/// A line without its time, which must be one.
fn untimed(line: &str) -> &str {
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
    rest
}

#[test]
fn one_line_reaches_one_target_and_not_the_other() {
    let files = logged(LogFormat::Text, &[Level::Info, Level::Notice], |_| {
        tracing::info!("listening");
        tracing::info!(notice = true, "a backend is down");
        tracing::warn!("low on descriptors");
        tracing::debug!("nobody hears this");
        tracing::info!(notice = false, "not one");
    });
    let all: Vec<_> = files[0].iter().map(|l| untimed(l)).collect();
    assert_eq!(
        all,
        [
            "info listening",
            "notice a backend is down",
            "warn low on descriptors",
            "info not one"
        ]
    );
    let some: Vec<_> = files[1].iter().map(|l| untimed(l)).collect();
    assert_eq!(
        some,
        ["notice a backend is down", "warn low on descriptors"]
    );
}

#[test]
fn a_line_has_its_keys_before_its_message_and_leaves_out_the_empty_ones() {
    let files = logged(LogFormat::Text, &[Level::Info], |_| {
        Events::default().note(
            Loudness::Notice,
            "backend",
            "mqtt/mq 1",
            "down: \"refused\"",
            "",
        );
        let e = io::Error::other("no\nspace");
        tracing::error!(
            count = 3,
            ratio = 0.5,
            error = &e as &dyn std::error::Error,
            "cannot"
        );
    });
    let lines: Vec<_> = files[0].iter().map(|l| untimed(l)).collect();
    assert_eq!(
        lines,
        [
            r#"notice kind=backend subject="mqtt/mq 1" down: "refused""#,
            r#"error count=3 ratio=0.5 error="no\nspace" cannot"#,
        ]
    );
}

#[test]
fn json_has_the_same_keys() {
    let files = logged(LogFormat::Json, &[Level::Info], |_| {
        tracing::warn!(client = "a\"\n", count = 3, yes = true, "odd\u{1b}");
    });
    let line: serde_json::Value = serde_json::from_str(&files[0][0]).unwrap();
    let time = line["time"].as_str().unwrap();
    assert!(time.ends_with('Z'), "{time}");
    let expected = serde_json::json!({
        "time": time, "level": "warn", "client": "a\"\n", "count": 3, "yes": true, "message": "odd\u{1b}"
    });
    assert_eq!(line, expected);
}

#[test]
fn messages_cannot_end_their_line() {
    let files = logged(LogFormat::Text, &[Level::Info], |_| {
        tracing::info!("{}", "one\n2026-11-21T10:15:02.114Z error two\u{1b}[0m");
    });
    assert_eq!(files[0].len(), 1);
    assert!(files[0][0].ends_with(r"one\n2026-11-21T10:15:02.114Z error two\u{1b}[0m"));
}

#[test]
fn other_libraries_are_heard_from_warn_on() {
    let files = logged(LogFormat::Text, &[Level::Info, Level::Debug], |_| {
        tracing::info!(target: "hickory", "chatter");
        tracing::warn!(target: "hickory", "trouble");
    });
    assert_eq!(files[0].len(), 1);
    assert_eq!(untimed(&files[0][0]), "warn module=hickory trouble");
    assert_eq!(files[1].len(), 2);
}

#[test]
fn a_reload_changes_level_and_target_and_a_bad_one_changes_nothing() {
    let scratch = Scratch::new();
    let second = scratch.join("second.log");
    let files = logged(LogFormat::Text, &[Level::Warn], |logging| {
        let say = || {
            // One place in the program, which must learn of the change.
            tracing::info!("said");
        };
        say();
        let bad = log(
            LogFormat::Text,
            vec![to(&scratch.join("no/such.log"), Level::Info)],
        );
        assert!(logging.reconfigure(&bad).is_err());
        tracing::warn!("still here");
        // What is queued is written in any case; this test wants to read it.
        assert!(logging.flush(Duration::from_secs(10)));
        let good = log(LogFormat::Text, vec![to(&second, Level::Info)]);
        logging.reconfigure(&good).unwrap();
        say();
        assert!(logging.flush(Duration::from_secs(10)));
    });
    assert_eq!(untimed(&files[0][0]), "warn still here");
    assert_eq!(files[0].len(), 1);
    let text = std::fs::read_to_string(second).unwrap();
    assert_eq!(untimed(text.trim_end()), "info said");
}

#[test]
fn a_filter_that_is_none_is_refused_with_its_text() {
    let log = log(LogFormat::Text, Vec::new());
    let e = Logging::install(&log, Some("standfast=lots")).unwrap_err();
    assert!(e.to_string().contains("standfast=lots"), "{e}");
}
