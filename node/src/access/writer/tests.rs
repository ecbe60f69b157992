use super::*;
use crate::access::format::tests::line;
use crate::admin::ledger::Scratch;
use crate::config::{Facility, LogFormat, Target};
use std::path::Path;

const SOON: Duration = Duration::from_secs(10);

fn log(path: &Path, format: AccessFormat) -> Log {
    Log {
        format: LogFormat::Text,
        targets: Vec::new(),
        access: Some(Target::File(path.to_owned())),
        access_facility: Facility(16),
        access_format: format,
        access_connect: false,
        hash_client_ids: false,
    }
}

fn start(log: &Log) -> AccessLog {
    let hide: Hide = Arc::new(|pool, client| format!("hidden-{pool}-{}", client.len()));
    AccessLog::start(log, "lb1", hide).unwrap()
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn many_threads_write_and_no_line_is_torn_or_lost() {
    let scratch = Scratch::new();
    let path = scratch.join("access.log");
    let access = start(&log(&path, AccessFormat::Standfast));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    access.write(line());
                }
            });
        }
    });
    assert!(access.flush(SOON));
    let lines = lines(&path);
    assert_eq!(lines.len(), 2000);
    assert!(lines.iter().all(|line| *line == lines[0]));
    assert_eq!((access.written(), access.dropped()), (2000, 0));
}

#[test]
fn client_ids_are_hidden_on_request_and_empty_ones_stay_empty() {
    let scratch = Scratch::new();
    let path = scratch.join("access.log");
    let log = Log {
        hash_client_ids: true,
        ..log(&path, AccessFormat::NginxMqtt)
    };
    let access = start(&log);
    access.write(line());
    access.write(Line {
        client_id: Some("".into()),
        ..line()
    });
    assert!(access.flush(SOON));
    let lines = lines(&path);
    assert!(lines[0].ends_with(" hidden-mqtt-8"), "{}", lines[0]);
    assert!(lines[1].ends_with(" -"), "{}", lines[1]);
}

#[test]
fn a_reload_moves_to_another_file_and_format_and_a_bad_one_changes_nothing() {
    let scratch = Scratch::new();
    let (first, second) = (scratch.join("a.log"), scratch.join("b.log"));
    let access = start(&log(&first, AccessFormat::Standfast));
    access.write(line());
    let bad = log(&scratch.join("no/such.log"), AccessFormat::Json);
    assert!(access.reconfigure(&bad).is_err());
    access.write(line());
    assert!(access.flush(SOON));
    assert_eq!(lines(&first).len(), 2);

    access
        .reconfigure(&log(&second, AccessFormat::Json))
        .unwrap();
    access.write(line());
    assert!(access.flush(SOON));
    assert!(lines(&second)[0].starts_with("{\"time\":"));
    assert_eq!(lines(&first).len(), 2);

    let off = Log {
        access: None,
        ..log(&second, AccessFormat::Json)
    };
    access.reconfigure(&off).unwrap();
    assert!(!access.is_on());
    access.write(line());
    assert!(access.flush(SOON));
    assert_eq!(lines(&second).len(), 1);
    assert_eq!(access.written(), 3, "the sum outlives reloads");
}

#[test]
fn lines_at_connect_are_written_only_when_asked_for() {
    let scratch = Scratch::new();
    let path = scratch.join("access.log");
    let early = || Line {
        end: None,
        ..line()
    };
    let access = start(&log(&path, AccessFormat::Standfast));
    access.write(early());
    assert!(access.flush(SOON));
    assert!(lines(&path).is_empty());
    let log = Log {
        access_connect: true,
        ..log(&path, AccessFormat::Standfast)
    };
    access.reconfigure(&log).unwrap();
    access.write(early());
    assert!(access.flush(SOON));
    assert_eq!(lines(&path).len(), 1);
}

#[test]
fn rotation_moves_on_to_a_new_file() {
    let scratch = Scratch::new();
    let path = scratch.join("access.log");
    let access = start(&log(&path, AccessFormat::Standfast));
    access.write(line());
    assert!(access.flush(SOON));
    std::fs::rename(&path, scratch.join("access.log.1")).unwrap();
    access.reopen();
    access.write(line());
    assert!(access.flush(SOON));
    assert_eq!(lines(&path).len(), 1);
    assert_eq!(lines(&scratch.join("access.log.1")).len(), 1);
}
