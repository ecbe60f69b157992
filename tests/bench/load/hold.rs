//! What an idle connection costs in memory, and whether traffic leaves more behind.

use std::time::{Duration, Instant};

use super::PATIENCE;
use super::fleet::{Fleet, Ignore};
use crate::mqtt;
use crate::procfs;
use crate::scenario::{Memory, Outcome, Spec};

/// Connections that come and go first, so that code and tables touched by the first few are not on the bill.
const FIRST_COMERS: usize = 8;
const MESSAGE_BYTES: usize = 1024;
/// A proxy may tidy up on a timer; this long it may take.
const SETTLING: Duration = Duration::from_millis(500);

pub(super) fn run(spec: &Spec) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome {
        message_bytes: MESSAGE_BYTES as u64,
        ..Outcome::default()
    };
    let mut first = Fleet::new(spec, MESSAGE_BYTES)?;
    first.connect(spec, 0, FIRST_COMERS)?;
    burst(&mut first)?;
    first.finish(&mut outcome);
    std::thread::sleep(SETTLING);
    let rest = procfs::pss(&spec.pids)?;

    let begin = Instant::now();
    let mut fleet = Fleet::new(spec, MESSAGE_BYTES)?;
    fleet.connect(spec, FIRST_COMERS as u64, spec.idle)?;
    outcome.count = spec.idle as u64;
    outcome.seconds = begin.elapsed().as_secs_f64();
    std::thread::sleep(SETTLING);
    let held = procfs::pss(&spec.pids)?;
    burst(&mut fleet)?;
    std::thread::sleep(SETTLING);
    let after_burst = procfs::pss(&spec.pids)?;
    burst(&mut fleet)?;
    std::thread::sleep(SETTLING);
    let again = procfs::pss(&spec.pids)?;
    fleet.finish(&mut outcome);

    outcome.memory = Some(Memory {
        connections: spec.idle as u64,
        rest,
        held,
        burst: after_burst,
        again,
    });
    Ok(outcome)
}

/// One message on every connection, all before the first echo is read.
fn burst(fleet: &mut Fleet) -> anyhow::Result<()> {
    let template = mqtt::publish(MESSAGE_BYTES, 1);
    for index in 0..fleet.links.len() {
        fleet.send(index, &template)?;
    }
    let deadline = Instant::now() + 2 * PATIENCE;
    while fleet.under_way() > 0 && Instant::now() < deadline {
        fleet.turn(Duration::from_millis(20), &mut Ignore)?;
    }
    Ok(())
}
