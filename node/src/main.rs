//! The program `standfast`.

mod start;

use std::process::ExitCode;

use clap::Parser;
use standfast::cli::{self, Cli, Verb};

fn main() -> ExitCode {
    let Cli { global, verb } = Cli::parse();
    match &verb {
        Verb::Run(args) => start::run(&global, args),
        Verb::Demo(args) => start::demo(&global, args),
        other => cli::run(&global, other).into(),
    }
}
