//! What is asked of the kernel beyond sockets and files: cores, priorities, limits, and ending with one's parent.

use std::os::fd::AsRawFd;

use anyhow::Context as _;
use rustix::process::{Pid, Resource, Rlimit, Signal};
use rustix::thread::CpuSet;

/// Ties the process (its first thread, where `pid` is a process) to one core; `None` is the caller.
pub(crate) fn pin(pid: Option<u32>, core: usize) -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    let pid = pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
    rustix::thread::sched_setaffinity(pid, &cores).with_context(|| format!("use core {core}"))
}

/// Ends this process when the one that started it ends, however that one ends.
pub(crate) fn end_with_parent() -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .context("ask to end with the parent")
}

/// Raises the soft limit of open files to the hard one.
pub(crate) fn raise_open_files() -> anyhow::Result<u64> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    rustix::process::setrlimit(Resource::Nofile, raised)
        .context("raise the limit of open files")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Puts the scheduler group of `pid`'s session (the caller's for `None`) ahead of its neighbours.
///
/// The kernel shares a core between sessions before it looks at the nice values inside them.
pub(crate) fn raise_session(pid: Option<u32>) -> std::io::Result<()> {
    let who = pid.map_or_else(|| "self".into(), |pid| pid.to_string());
    std::fs::write(format!("/proc/{who}/autogroup"), "-15")
}

/// Raises this process's own nice value; those that it starts inherit it.
pub(crate) fn raise_self() -> std::io::Result<()> {
    Ok(rustix::process::setpriority_process(None, -15)?)
}

/// Lets a socket be bound to an address alone: its port is chosen by `connect`, per destination.
#[expect(
    unsafe_code,
    reason = "neither rustix nor socket2 knows IP_BIND_ADDRESS_NO_PORT"
)]
pub(crate) fn bind_address_no_port(socket: &impl AsRawFd) -> std::io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is one int, which lives across the call, and its size is given.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
