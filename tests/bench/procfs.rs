//! What `/proc` tells about a proxy's processes.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// On-CPU time of every thread of these processes, in nanoseconds.
pub(crate) fn cpu_nanos(pids: &[u32]) -> anyhow::Result<u64> {
    let mut sum = 0;
    for pid in pids {
        let tasks = format!("/proc/{pid}/task");
        for task in fs::read_dir(&tasks).with_context(|| format!("read {tasks}"))? {
            let path = task?.path().join("schedstat");
            // A thread may end between the listing and the look.
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let first = text.split_whitespace().next().unwrap_or_default();
            sum += first
                .parse::<u64>()
                .with_context(|| format!("parse {}", path.display()))?;
        }
    }
    Ok(sum)
}

/// Proportional set size, in bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Pss {
    pub(crate) all: u64,
    /// Of that, pages of files: code for the most part, which the kernel takes and brings back as it likes.
    pub(crate) files: u64,
}

impl Pss {
    pub(crate) fn without_files(&self) -> u64 {
        self.all.saturating_sub(self.files)
    }
}

/// Proportional set size of these processes together.
pub(crate) fn pss(pids: &[u32]) -> anyhow::Result<Pss> {
    let mut sum = Pss::default();
    for pid in pids {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let bytes = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            let value =
                value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            value
                .map(|kilobytes| 1024 * kilobytes)
                .with_context(|| format!("find {name} in {path}"))
        };
        sum.all += bytes("Pss:")?;
        sum.files += bytes("Pss_File:")?;
    }
    Ok(sum)
}

/// A process, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    started: u64,
}

impl Process {
    /// Whether it still runs (a zombie does not).
    pub(crate) fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.started == self.started && stat.state != "Z")
    }
}

/// `root` and all that descend from it, oldest number first.
pub(crate) fn family(root: u32) -> anyhow::Result<Vec<Process>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("list processes")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(stat) = stat(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        if let Some(stat) = stat(pid) {
            found.push(Process {
                pid,
                started: stat.started,
            });
        }
        open.extend(children.remove(&pid).unwrap_or_default());
    }
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

struct Stat {
    state: String,
    parent: u32,
    started: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name stands in brackets and may hold anything, brackets included.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split_whitespace().collect();
    Some(Stat {
        state: (*fields.first()?).to_owned(),
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_cpu_and_memory_and_is_its_own_family() {
        let me = std::process::id();
        assert!(cpu_nanos(&[me]).expect("schedstat of this process") > 0);
        let pss = pss(&[me]).expect("smaps of this process");
        assert!(
            pss.without_files() > 10_000 && pss.files > 10_000,
            "{pss:?}"
        );
        let family = family(me).expect("list of processes");
        assert!(
            family
                .iter()
                .any(|process| process.pid == me && process.is_alive()),
            "{family:?}"
        );
    }
}
