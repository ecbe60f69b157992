//! `check`: will this configuration work on this machine? A list, grouped, with what to do about each line.
//!
//! It may run beside the daemon: a port that the daemon holds is as it should be.

use std::fmt::Write;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::exit::{Exit, Failure};
use super::human::{Style, Tone};
use super::out::Out;
use super::{CheckArgs, Global, ask, config as show};
use crate::admin::users;
use crate::admin::view::View;
use crate::config::{Bind, Config, Loaded, Severity, Target, warn_limits};

/// How a line of the list came out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    Ok,
    Warning,
    Error,
}

/// One line of the list.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Finding {
    group: &'static str,
    mark: Mark,
    text: String,
    /// What to do about it.
    hint: Option<String>,
}

/// Checks everything and prints it.
pub fn run(global: &Global, args: &CheckArgs, out: &mut Out) -> Result<Exit, Failure> {
    let loaded = match show::load(global) {
        Ok(loaded) => loaded,
        Err(problems) => {
            if out.is_json() {
                out.document(&serde_json::json!({ "problems": problems }))?;
            }
            return Err(show::refuse(&problems, out));
        }
    };
    let daemon = ask::connect_within(&ask::socket(global), Duration::from_secs(2))
        .and_then(|mut client| ask::view(&mut client))
        .ok();
    let findings = examine(&loaded, daemon.as_ref());
    if out.is_json() {
        out.document(&serde_json::json!({ "findings": findings }))?;
    } else {
        out.text(&text(&findings, out.style()))?;
    }
    Ok(verdict(&findings, args.strict))
}

pub(super) fn verdict(findings: &[Finding], strict: bool) -> Exit {
    let any = |mark| findings.iter().any(|finding| finding.mark == mark);
    if any(Mark::Error) || (strict && any(Mark::Warning)) {
        Exit::Failed
    } else {
        Exit::Done
    }
}

pub(super) fn text(findings: &[Finding], style: Style) -> String {
    let mut text = String::new();
    let mut group = "";
    for finding in findings {
        if finding.group != group {
            let gap = if group.is_empty() { "" } else { "\n" };
            group = finding.group;
            let _ = writeln!(text, "{gap}{group}");
        }
        let mark = match finding.mark {
            Mark::Ok => style.paint(Tone::Good, "√"),
            Mark::Warning => style.paint(Tone::Odd, "‼"),
            Mark::Error => style.paint(Tone::Bad, "×"),
        };
        let _ = writeln!(text, "  {mark} {}", finding.text.replace('\n', "\n    "));
        if let Some(hint) = &finding.hint {
            let _ = writeln!(text, "      {hint}");
        }
    }
    let of = |mark| findings.iter().filter(|f| f.mark == mark).count();
    let (errors, warnings) = (of(Mark::Error), of(Mark::Warning));
    let _ = match (errors, warnings) {
        (0, 0) => writeln!(text, "\nall good"),
        _ => writeln!(text, "\n{errors} errors, {warnings} warnings"),
    };
    text
}

/// All findings, in the order of the screen.
pub(super) fn examine(loaded: &Loaded, daemon: Option<&View>) -> Vec<Finding> {
    let mut list = Findings(Vec::new());
    configuration(&mut list, loaded);
    files(&mut list, &loaded.config);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    // The daemon raises its limit as far as allowed.
    limits(&mut list, &loaded.config, limit.maximum);
    listeners(&mut list, &loaded.config, daemon);
    backends(&mut list, &loaded.config);
    daemon_line(&mut list, loaded, daemon);
    list.0
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, group: &'static str, mark: Mark, text: String, hint: Option<String>) {
        self.0.push(Finding {
            group,
            mark,
            text,
            hint,
        });
    }

    fn ok(&mut self, group: &'static str, text: String) {
        self.add(group, Mark::Ok, text, None);
    }

    fn warn(&mut self, group: &'static str, text: String, hint: &str) {
        self.add(group, Mark::Warning, text, Some(hint.to_owned()));
    }

    fn error(&mut self, group: &'static str, text: String, hint: &str) {
        self.add(group, Mark::Error, text, Some(hint.to_owned()));
    }
}

fn configuration(list: &mut Findings, loaded: &Loaded) {
    let config = &loaded.config;
    let backends: usize = config.pools.iter().map(|pool| pool.backends.len()).sum();
    list.ok(
        "configuration",
        format!(
            "{} is valid: {} listeners, {} pools, {backends} backends (hash {})",
            loaded.sources.root.path.display(),
            config.listeners.len(),
            config.pools.len(),
            loaded.hash
        ),
    );
    for warning in &loaded.warnings {
        let mark = match warning.severity {
            Severity::Warning => Mark::Warning,
            Severity::Error => Mark::Error,
        };
        // The text has its help in it.
        list.add("configuration", mark, warning.to_string(), None);
    }
}

fn files(list: &mut Findings, config: &Config) {
    const GROUP: &str = "files";
    writable(list, "node.state_dir", &config.node.state_dir);
    let targets = config.log.targets.iter().map(|target| &target.target);
    for target in targets.chain(&config.log.access) {
        if let Target::File(path) = target {
            let directory = path.parent().unwrap_or(Path::new("/"));
            writable(list, &format!("log file {}", path.display()), directory);
        }
    }
    for socket in &config.control {
        let path = socket.socket.display();
        let owner = socket.owner.as_deref();
        let group = socket.group.as_deref();
        if let Some(name) = owner.filter(|name| users::user(name).is_none()) {
            let text = format!("control socket {path}: there is no user {name:?}");
            list.error(GROUP, text, "create the user, or change control.owner");
        }
        if let Some(name) = group.filter(|name| users::group(name).is_none()) {
            let text = format!("control socket {path}: there is no group {name:?}");
            list.error(GROUP, text, "create the group, or change control.group");
        }
    }
}

/// A directory that must be there and take files of whoever runs this.
fn writable(list: &mut Findings, what: &str, directory: &Path) {
    const GROUP: &str = "files";
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let shown = directory.display();
    let access = rustix::fs::access(
        directory,
        rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
    );
    match access {
        Ok(()) if directory.is_dir() => list.ok(GROUP, format!("{what}: {shown} can be written")),
        Ok(()) => list.error(
            GROUP,
            format!("{what}: {shown} is no directory"),
            "name a directory",
        ),
        Err(rustix::io::Errno::NOENT) => list.warn(
            GROUP,
            format!("{what}: there is no directory {shown}"),
            "create it for the user that runs the daemon (systemd does: StateDirectory=, LogsDirectory=)",
        ),
        Err(e) => list.warn(
            GROUP,
            format!("{what}: {shown} cannot be written by this user: {e}"),
            "run the check as the user that runs the daemon",
        ),
    }
}

/// `maximum` file descriptors; `None` is no limit.
fn limits(list: &mut Findings, config: &Config, maximum: Option<u64>) {
    const GROUP: &str = "limits";
    let most = maximum.unwrap_or(u64::MAX);
    let problems = warn_limits(config, most);
    for problem in &problems {
        list.add(
            GROUP,
            Mark::Warning,
            problem.message.clone(),
            problem.help.clone(),
        );
    }
    if problems.is_empty() {
        let room = most.saturating_sub(64) / 2;
        let text = match maximum {
            None => "file descriptors are not limited".into(),
            Some(most) => format!("{most} file descriptors hold {room} connections"),
        };
        list.ok(GROUP, text);
    }
}

fn listeners(list: &mut Findings, config: &Config, daemon: Option<&View>) {
    const GROUP: &str = "listeners";
    for listener in &config.listeners {
        for bind in &listener.bind {
            let name = bind.to_string();
            match try_bind(*bind) {
                Ok(()) => list.ok(GROUP, format!("{name} is free")),
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                    let ours = daemon.is_some_and(|view| holds(view, *bind));
                    if ours {
                        list.ok(GROUP, format!("{name} is held by the running daemon"));
                    } else {
                        list.error(
                            GROUP,
                            format!("{name} is in use by another process"),
                            "see who: ss -tlnp; stop it, or change listener.bind",
                        );
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => list.error(
                    GROUP,
                    format!("{name} is not permitted to this user"),
                    "ports below 1024 need CAP_NET_BIND_SERVICE (the systemd unit gives it)",
                ),
                Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable => list.warn(
                    GROUP,
                    format!("{name} is no address of this machine"),
                    "right if it is an address that moves here later; else change listener.bind",
                ),
                Err(e) => list.error(
                    GROUP,
                    format!("{name} cannot be bound: {e}"),
                    "change listener.bind",
                ),
            }
        }
    }
}

/// Whether the running daemon listens there.
fn holds(view: &View, bind: Bind) -> bool {
    let mut bound = view.listeners.iter().flat_map(|l| &l.bound);
    bound.any(|addr| {
        addr.port() == bind.port
            && bind
                .ip
                .is_none_or(|ip| ip.to_canonical() == addr.ip().to_canonical())
    })
}

/// Binds and listens, and lets go at once: two processes may bind one address with reuse, and only one may listen.
fn try_bind(bind: Bind) -> io::Result<()> {
    use socket2::{Domain, Socket, Type};
    let addr = SocketAddr::new(
        bind.ip.unwrap_or(std::net::Ipv6Addr::UNSPECIFIED.into()),
        bind.port,
    );
    let try_addr = |addr: SocketAddr| {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        if addr.is_ipv6() {
            // One socket for both families where the listener wants both.
            socket.set_only_v6(bind.ip.is_some())?;
        }
        // As the daemon does: connections of an earlier run that linger are no hindrance.
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(1)
    };
    match try_addr(addr) {
        // A machine without IPv6.
        Err(e) if bind.ip.is_none() && e.raw_os_error() == Some(libc::EAFNOSUPPORT) => try_addr(
            SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), bind.port),
        ),
        other => other,
    }
}

fn backends(list: &mut Findings, config: &Config) {
    const GROUP: &str = "backends";
    for pool in &config.pools {
        for backend in &pool.backends {
            let name = format!("{}/{}", pool.name, backend.name);
            match (backend.host.as_str(), backend.port).to_socket_addrs() {
                Ok(mut addrs) => match addrs.next() {
                    Some(addr) => list.ok(GROUP, format!("{name} is {addr}")),
                    None => unresolved(list, &name, &backend.host, "it has no address"),
                },
                Err(e) => unresolved(list, &name, &backend.host, &e.to_string()),
            }
        }
    }
}

fn unresolved(list: &mut Findings, name: &str, host: &str, why: &str) {
    list.warn(
        "backends",
        format!("{name}: the name {host} does not resolve now: {why}"),
        "correct the name or the resolver; the daemon starts without it and keeps trying",
    );
}

fn daemon_line(list: &mut Findings, loaded: &Loaded, daemon: Option<&View>) {
    const GROUP: &str = "daemon";
    let Some(view) = daemon else {
        return;
    };
    let running = &view.node.config.hash;
    if *running == loaded.hash {
        list.ok(
            GROUP,
            format!("{} runs with this configuration", view.node.name),
        );
    } else {
        list.warn(
            GROUP,
            format!(
                "{} runs with another configuration (hash {running})",
                view.node.name
            ),
            "apply this one: standfast reload",
        );
    }
}

#[cfg(test)]
mod tests;
