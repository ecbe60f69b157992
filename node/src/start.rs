//! The two verbs that become a process of their own.

use std::process::ExitCode;

use standfast::cli::exit::Exit;
use standfast::cli::{DemoArgs, Global, RunArgs};

/// `run`: the daemon.
pub fn run(_: &Global, _: &RunArgs) -> ExitCode {
    absent("run")
}

/// `demo`: everything on loopback.
pub fn demo(_: &Global, _: &DemoArgs) -> ExitCode {
    absent("demo")
}

fn absent(verb: &str) -> ExitCode {
    eprintln!("standfast: this build has no daemon: `{verb}` is not in it");
    Exit::Failed.into()
}
