//! What a configuration may do and hardly should: warnings.

use std::time::Duration;

use super::draft::{Draft, ListenerDraft, PoolDraft};
use super::model::{Balance, Config, Mode};
use super::problem::{Problem, Severity};
use super::sink::Sink;
use super::value::{show_duration, show_size};

/// 1.5 times the keepalive of 60 s that most client libraries ask for unless told otherwise.
const COMMON_SILENCE: Duration = Duration::from_secs(90);

pub(super) fn advise(draft: &Draft, sink: &mut Sink<'_>) {
    for listener in &draft.listeners {
        greetings(draft, listener, sink);
    }
    for pool in &draft.pools {
        unused(draft, pool, sink);
        sticky(draft, pool, sink);
        idle(pool, sink);
        without_takers(pool, sink);
        checks(pool, sink);
    }
}

fn greetings(draft: &Draft, listener: &ListenerDraft, sink: &mut Sink<'_>) {
    let packet = u64::try_from(listener.listener.max_connect_packet).unwrap_or(u64::MAX);
    let memory = draft.limits.greeting_memory;
    if packet > memory {
        let message = format!(
            "`max_connect_packet` is {}, more than `limits.greeting_memory` ({})",
            show_size(packet),
            show_size(memory)
        );
        let help = "a CONNECT of that size can never be held; lower one or raise the other";
        sink.warn(
            &listener.packet_at,
            &format!("{}.max_connect_packet", listener.path),
            message,
            help,
        );
    }
    if let (Some(of_listener), Some(of_all)) = (
        listener.listener.limits.connections,
        draft.limits.connections,
    ) && of_listener > of_all
    {
        let message = format!(
            "this listener may have {of_listener} connections, and the process only {of_all}"
        );
        let path = format!("{}.limits.connections", listener.path);
        sink.warn(
            &listener.limits_at,
            &path,
            message,
            "the smaller one rules; raise `limits.connections`",
        );
    }
}

fn unused(draft: &Draft, pool: &PoolDraft, sink: &mut Sink<'_>) {
    let Some(at) = &pool.name_at else { return };
    // A listener whose pool could not be read may have meant this one.
    let unknown = draft.listeners.iter().any(|l| l.pool.is_none());
    let name = &pool.pool.name;
    let used = draft
        .listeners
        .iter()
        .any(|l| l.pool.as_ref().is_some_and(|(pool, _)| pool == name));
    if !used && !unknown && !draft.listeners.is_empty() {
        let message = format!("no listener sends to pool {name:?}");
        sink.warn(
            at,
            &pool.path,
            message,
            "its backends are checked and get no clients",
        );
    }
}

fn sticky(draft: &Draft, pool: &PoolDraft, sink: &mut Sink<'_>) {
    let name = &pool.pool.name;
    if pool.pool.balance != Balance::Sticky {
        if pool.sticky_written {
            let path = format!("{}.sticky", pool.path);
            let message = format!("pool {name:?} has `sticky`, and its `balance` does not use it");
            sink.warn(
                &pool.sticky_at,
                &path,
                message,
                "write balance = \"sticky\", or remove the table",
            );
        }
        return;
    }
    // Without an entry per live client, the table forgets homes that are in use.
    let feeds = |l: &&ListenerDraft| l.pool.as_ref().is_some_and(|(pool, _)| pool == name);
    let of_listeners: Option<u64> = draft
        .listeners
        .iter()
        .filter(feeds)
        .map(|l| l.listener.limits.connections.map(u64::from))
        .sum();
    let all = draft.limits.connections.map(u64::from);
    let limit = match (of_listeners.filter(|sum| *sum > 0), all) {
        (Some(some), Some(all)) => some.min(all),
        (some, all) => match some.or(all) {
            Some(limit) => limit,
            None => return,
        },
    };
    let size = u64::from(pool.pool.sticky.size);
    if size < limit {
        let message = format!(
            "the sticky table of pool {name:?} holds {size} clients, and {limit} may be connected"
        );
        let help =
            format!("live clients would lose their homes; write sticky = {{ size = {limit} }}");
        sink.warn(
            &pool.sticky_at,
            &format!("{}.sticky.size", pool.path),
            message,
            help,
        );
    }
}

fn idle(pool: &PoolDraft, sink: &mut Sink<'_>) {
    let Some(cap) = pool.pool.timeout.idle.filter(|cap| *cap < COMMON_SILENCE) else {
        return;
    };
    if pool.pool.mode == Mode::Mqtt {
        let message = format!("`timeout.idle` caps silence at {}", show_duration(cap));
        let help = "clients with the common keepalive of 60s may be silent for 90s; write \"keepalive\" or more";
        sink.warn(
            &pool.idle_at,
            &format!("{}.timeout.idle", pool.path),
            message,
            help,
        );
    }
}

fn without_takers(pool: &PoolDraft, sink: &mut Sink<'_>) {
    let backends = &pool.pool.backends;
    let name = &pool.pool.name;
    if pool.partial || backends.is_empty() {
        return;
    }
    if backends.iter().all(|b| b.disabled) {
        let message = format!("every backend of pool {name:?} is disabled");
        sink.warn(&pool.at, &pool.path, message, "no client will be served");
    } else if backends.iter().all(|b| b.weight == 0) {
        let message = format!("every backend of pool {name:?} has weight 0");
        sink.warn(
            &pool.at,
            &pool.path,
            message,
            "no new client will be served",
        );
    }
}

fn checks(pool: &PoolDraft, sink: &mut Sink<'_>) {
    for (backend, place) in pool.pool.backends.iter().zip(&pool.backends) {
        let Some(check) = &backend.check else {
            continue;
        };
        // A table of the pool holds for many backends; the same words at the same place are told once.
        let (at, path) = if place.own_check {
            (&place.check_at, &place.path)
        } else {
            (&pool.check_at, &pool.path)
        };
        let path = format!("{path}.check");
        let (fast, interval) = (
            show_duration(check.fast_interval),
            show_duration(check.interval),
        );
        if check.fast_interval > check.interval {
            let message = format!(
                "`check.fast_interval` ({fast}) is longer than `check.interval` ({interval})"
            );
            sink.warn(
                at,
                &path,
                message,
                "after a failure a check should come sooner",
            );
        }
        if check.timeout > check.interval {
            let timeout = show_duration(check.timeout);
            let message =
                format!("`check.timeout` ({timeout}) is longer than `check.interval` ({interval})");
            sink.warn(
                at,
                &path,
                message,
                "checks of a hanging backend come later than the interval says",
            );
        }
    }
}

/// Warns where the configuration wants more connections than `fd_limit` file descriptors allow: a relayed client
/// takes two, and 64 are kept back for listeners, logs, checks and the control socket.
#[must_use]
pub fn warn_limits(config: &Config, fd_limit: u64) -> Vec<Problem> {
    let room = fd_limit.saturating_sub(64) / 2;
    let mut problems = Vec::new();
    let mut warn = |path: &str, what: String, wanted: u32| {
        if u64::from(wanted) > room {
            let message = format!(
                "{what} is {wanted}, and {fd_limit} file descriptors hold {room} connections"
            );
            let help = format!(
                "raise the limit (LimitNOFILE=, ulimit -n) to {} or more",
                u64::from(wanted) * 2 + 64
            );
            problems.push(Problem::without_place(
                Severity::Warning,
                path,
                message,
                help,
            ));
        }
    };
    if let Some(wanted) = config.limits.connections {
        warn("limits.connections", "`limits.connections`".into(), wanted);
    }
    for (i, listener) in config.listeners.iter().enumerate() {
        // The process-wide limit was told of above.
        if let (Some(wanted), None) = (listener.limits.connections, config.limits.connections) {
            let what = format!("`limits.connections` of listener {:?}", listener.name);
            warn(&format!("listener[{i}].limits.connections"), what, wanted);
        }
    }
    problems
}
