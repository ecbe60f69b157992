//! The log of a whole process: one test, because a process has one log.

use std::time::Duration;

use standfast::config::{AccessFormat, Facility, Level, Log, LogFormat, LogTarget, Target};
use standfast::logging::{Logging, LoggingError};

#[test]
fn a_filter_of_the_environment_decides_in_place_of_the_levels() {
    let path = std::env::temp_dir().join(format!("sf-log-{}", std::process::id()));
    let log = Log {
        format: LogFormat::Text,
        targets: vec![LogTarget {
            target: Target::File(path.clone()),
            level: Level::Warn,
            facility: Facility(3),
        }],
        access: None,
        access_facility: Facility(3),
        access_format: AccessFormat::Standfast,
        access_connect: false,
        hash_client_ids: false,
    };
    let logging = Logging::install(&log, Some("info,standfast::relay=debug")).unwrap();
    tracing::info!(target: "standfast::node", "heard");
    tracing::debug!(target: "standfast::node", "not heard");
    tracing::debug!(target: "standfast::relay", client = "a", "heard, too");
    assert!(logging.flush(Duration::from_secs(10)));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let lines: Vec<_> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap().1)
        .collect();
    assert_eq!(
        lines,
        [
            "info heard",
            "debug module=standfast::relay client=a heard, too"
        ]
    );
    let again = Logging::install(&log, None);
    assert!(matches!(again, Err(LoggingError::Twice)));
    let _ = std::fs::remove_file(&path);
}
