//! Skipping a test aloud: by name, with a reason, where the test command can count it.

use std::fs::OpenOptions;
use std::io::Write;

/// Whether this process may make network namespaces.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Tells that the running test is skipped and why: on stderr past the test runner's capture, and as a line in the
/// file that `STANDFAST_SKIPS` names.
pub fn skipped(reason: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed test");
    let line = format!("SKIPPED {name}: {reason}\n");
    // On a line of its own, where the runner has begun one with the test's name.
    let shown = format!("\n{line}");
    // Not eprintln!: the test runner would swallow it, and a skip that nobody reads counts as passed.
    let _ = std::io::stderr().lock().write_all(shown.as_bytes());
    if let Some(path) = std::env::var_os("STANDFAST_SKIPS")
        && let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path)
    {
        let _ = file.write_all(line.as_bytes());
    }
}

/// `require!(root)` or `require!(some_result)`: goes on with the value, or returns from the test and reports it as
/// skipped, with the error as the reason.
#[macro_export]
macro_rules! require {
    (root) => {
        if !$crate::skip::is_root() {
            $crate::skip::skipped("needs root (network namespaces, other users)");
            return;
        }
    };
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(reason) => {
                $crate::skip::skipped(&format!("{reason:#}"));
                return;
            }
        }
    };
}
