//! `status`: the house on one screen; and `healthcheck`: the same as one bit.

use std::fmt::Write;
use std::time::Duration;

use super::exit::{Exit, Failure};
use super::human::{Style, Table, Tone, ago, count, left, rate, right, safe_words};
use super::out::Out;
use super::{Global, HealthcheckArgs, ask};
use crate::admin::view::{BackendView, PoolView, State, View};

/// Containers give a health check a few seconds.
const HEALTHCHECK: Duration = Duration::from_secs(3);

pub fn run(global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let view = ask::view(&mut ask::connect(global)?)?;
    if out.is_json() {
        return out.document(&view);
    }
    out.text(&text(&view, out.style()))
}

/// Whether the daemon serves; with a pool, whether that is healthy, too. Backends are not the daemon's fault: a
/// container is not started anew because its brokers are away.
pub fn healthcheck(
    global: &Global,
    args: &HealthcheckArgs,
    out: &mut Out,
) -> Result<Exit, Failure> {
    let view = ask::connect_within(&ask::socket(global), HEALTHCHECK)
        .and_then(|mut client| ask::view(&mut client))
        // For a container there are two answers only.
        .map_err(|failure| Failure::new(Exit::Failed, failure.message))?;
    let health = health(&view, args.pool.as_deref());
    let (exit, text) = match &health {
        Ok(text) => (Exit::Done, text),
        Err(text) => (Exit::Failed, text),
    };
    if out.is_json() {
        out.document(&serde_json::json!({ "healthy": health.is_ok(), "text": text }))?;
    } else {
        out.text(&format!("{text}\n"))?;
    }
    Ok(exit)
}

fn health(view: &View, pool: Option<&str>) -> Result<String, String> {
    if view.node.stopping {
        return Err("stopping".into());
    }
    if let Some(listener) = view.listeners.iter().find(|l| l.bound.is_empty()) {
        return Err(format!("listener {} is not bound", listener.name));
    }
    let Some(name) = pool else {
        return Ok("serving".into());
    };
    match view.pools.iter().find(|pool| pool.name == name) {
        None => Err(format!("there is no pool {name:?}")),
        Some(pool) => {
            let text = format!(
                "pool {name}: {} of {} backends up",
                pool.up,
                pool.backends.len()
            );
            if pool.healthy { Ok(text) } else { Err(text) }
        }
    }
}

/// The screen.
pub fn text(view: &View, style: Style) -> String {
    let mut text = head(view);
    for pool in &view.pools {
        text.push_str(&pool_line(view, pool));
        let mut table = Table::default();
        for backend in &pool.backends {
            table.row(backend_row(backend, view.at));
        }
        text.push_str(&table.show(2, style));
    }
    for listener in &view.listeners {
        let rejected: Vec<_> = listener
            .rejected
            .iter()
            .filter(|(_, n)| **n > 0)
            .map(|(reason, n)| format!("{reason} {}", count(*n)))
            .collect();
        if !rejected.is_empty() {
            let _ = writeln!(
                text,
                "{}  turned away: {}",
                listener.name,
                rejected.join(", ")
            );
        }
    }
    for warning in warnings(view) {
        let _ = writeln!(text, "{} {warning}", style.paint(Tone::Odd, "!"));
    }
    text
}

fn head(view: &View) -> String {
    let node = &view.node;
    let mut line = format!(
        "{}  {} for {}  version {}",
        node.name,
        if node.stopping { "stopping" } else { "running" },
        ago(node.started_at, view.at),
        node.version,
    );
    if !node.config.hash.is_empty() {
        let _ = write!(
            line,
            "  config {} loaded {} ago",
            node.config.hash,
            ago(node.config.loaded_at, view.at)
        );
    }
    let _ = writeln!(
        line,
        "  {} of {} connections",
        count(node.connections),
        count(node.connection_limit)
    );
    line
}

fn pool_line(view: &View, pool: &PoolView) -> String {
    let mut line = pool.name.clone();
    for listener in view.listeners.iter().filter(|l| l.pool == pool.name) {
        let _ = write!(line, "  {}", listener.bind.join(" "));
        if listener.waiting {
            line.push_str(" (full: clients wait)");
        }
    }
    if pool.mode == "tcp" {
        line.push_str("  tcp");
    }
    let _ = write!(
        line,
        "  {}  {} connections  {}/s new",
        pool.balance,
        count(pool.connections),
        rate(pool.new_per_s)
    );
    if let Some(sticky) = &pool.sticky {
        let _ = write!(
            line,
            "  {} of {} homes",
            count(sticky.entries),
            count(sticky.size)
        );
    }
    if pool.waiting > 0 {
        let _ = write!(line, "  {} waiting", count(pool.waiting));
    }
    if !pool.healthy {
        let _ = write!(line, "  UNHEALTHY: {} up, {} needed", pool.up, pool.min_up);
    }
    line.push('\n');
    line
}

fn backend_row(backend: &BackendView, now: u64) -> Vec<super::human::Cell> {
    let tone = match backend.state {
        State::Up => Tone::Good,
        State::Down | State::NotReady | State::Unresolved => Tone::Bad,
        State::Draining | State::Disabled | State::Unknown => Tone::Odd,
    };
    let mut state = backend.state.as_str().to_owned();
    if backend.backup {
        state.push_str(" backup");
    }
    let weight = if backend.weight == backend.weight_configured {
        format!("w{}", backend.weight)
    } else {
        format!("w{} (file: {})", backend.weight, backend.weight_configured)
    };
    let check = match &backend.check {
        None => String::from("no check"),
        Some(check) if check.at == 0 => String::from("not checked yet"),
        Some(check) => {
            let mut found = format!("check {}", safe_words(&check.result));
            if let Some(status) = check.status.as_ref().filter(|s| *s != "UP") {
                let _ = write!(found, " {}", safe_words(status));
            }
            found
        }
    };
    vec![
        left(backend.name.clone()),
        left(state).tone(tone),
        right(count(backend.connections)),
        right(format!("{:.0}%", backend.share * 100.0)),
        left(weight),
        left(check),
        left(story(backend, now)),
    ]
}

/// How a backend came to its state; silent where that is as it should be.
fn story(backend: &BackendView, now: u64) -> String {
    if let Some(drain) = &backend.drain {
        let mut text = format!("{} left", count(drain.remaining));
        if let Some(eta) = drain.eta_ms {
            let _ = write!(text, ", →0 in {}", ago(0, eta));
        }
        let _ = write!(text, "  (since {} ago", ago(drain.since, now));
        if !drain.by.is_empty() {
            let _ = write!(text, ", {}", drain.by);
        }
        text.push(')');
        return text;
    }
    let since = ago(backend.since, now);
    match backend.state {
        State::Up => format!("for {since}"),
        _ if backend.why.is_empty() => format!("for {since}"),
        _ => format!("for {since}: {}", safe_words(&backend.why)),
    }
}

/// What the daemon warns of, and what this screen can see for itself.
fn warnings(view: &View) -> Vec<String> {
    let mut warnings = view.warnings.clone();
    if let Some(reload) = view.node.config.last_reload.as_ref().filter(|r| !r.applied) {
        warnings.push(format!(
            "the last reload, {} ago, was refused and changed nothing: {}",
            ago(reload.at, view.at),
            safe_words(&reload.text)
        ));
    }
    if view.node.restarts > 0 {
        warnings.push(format!(
            "the worker crashed and was started again {} times; the log says why",
            count(view.node.restarts)
        ));
    }
    let dropped = view.log.dropped + view.log.access_dropped;
    if dropped > 0 {
        warnings.push(format!(
            "{} log lines were dropped, because their target is too slow or not there",
            count(dropped)
        ));
    }
    for pool in &view.pools {
        if let Some(sticky) = pool.sticky.as_ref().filter(|s| s.evicted_live > 0) {
            warnings.push(format!(
                "pool {}: {} clients that are connected lost their homes: sticky.size {} is too small",
                pool.name,
                count(sticky.evicted_live),
                count(sticky.size)
            ));
        }
    }
    warnings
}

#[cfg(test)]
pub(super) mod tests;
