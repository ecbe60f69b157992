//! The program `standfast`.

mod start;

use std::process::ExitCode;

use clap::Parser;
use standfast::cli::{self, Cli, Verb};

fn main() -> ExitCode {
    let Cli { global, verb } = Cli::parse();
    match &verb {
        Verb::Run(args) => start::guardian(&global, args),
        Verb::Demo(args) => standfast::demo::run(args, cli::style()),
        Verb::Worker => start::worker(&global),
        other => cli::run(&global, other).into(),
    }
}
