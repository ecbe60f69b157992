//! The benchmark: standfast, HAProxy and nginx under the same load in one run, as ratios.
//!
//! One program plays every part. Called plainly it starts itself once more in a session of its own, and that
//! conductor starts the proxies, the stub broker and, for each visit, the load generator:
//!
//! ```text
//! bench ── conduct ─┬─ launch → standfast | haproxy | nginx
//!                   ├─ broker
//!                   └─ load (one process a visit)
//! ```
//!
//! `README.md` beside this file says what is measured and how.

mod broker;
mod conduct;
mod histogram;
mod load;
mod mqtt;
mod options;
mod peers;
mod procfs;
mod report;
mod scenario;
mod sys;

use std::process::{Command, ExitCode};

use anyhow::Context as _;
use clap::Parser as _;

use options::{Cli, Part};

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().part {
        None => in_a_session_of_its_own(),
        Some(Part::Conduct(options)) => conduct::run(*options),
        Some(Part::Broker { listen }) => broker::run(&listen).map(|()| ExitCode::SUCCESS),
        Some(Part::Load { spec }) => load::run(&spec).map(|()| ExitCode::SUCCESS),
        Some(Part::Launch { core, command }) => Err(peers::launch(core, &command)),
    }
}

/// The scheduler shares a core between sessions first, so what is raised must be a session that is ours alone.
fn in_a_session_of_its_own() -> anyhow::Result<ExitCode> {
    let me = std::env::current_exe().context("find this program")?;
    let status = Command::new(me)
        .arg("conduct")
        .args(std::env::args_os().skip(1))
        .status()
        .context("start the conductor")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
