//! The verbs that start a process: `run` is the guardian, which starts the worker.

use std::ffi::OsString;
use std::process::ExitCode;

use rustix::process::{Signal, set_parent_process_death_signal};
use standfast::cli::{Global, RunArgs};
use standfast::{guardian, worker};

/// `standfast run`: the guardian, in the foreground.
pub(crate) fn guardian(global: &Global, args: &RunArgs) -> ExitCode {
    if args.with_parent {
        // A demo that is killed leaves no balancer behind.
        let _ = set_parent_process_death_signal(Some(Signal::TERM));
    }
    let mut arguments: Vec<OsString> = vec!["worker".into(), "--config".into()];
    arguments.push(global.config.clone().into());
    if let Some(node) = &global.node {
        arguments.extend(["--node".into(), node.into()]);
    }
    match guardian::run(arguments) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            eprintln!("standfast: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The worker, on the channel that the guardian made its standard input.
pub(crate) fn worker(global: &Global) -> ExitCode {
    worker::run(&worker::Arguments {
        config: global.config.clone(),
        node: global.node.clone(),
    })
}
