//! The tables that a file has once: `node`, `limits`, `log`, `control`.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::config::Overrides;
use crate::config::draft::Draft;
use crate::config::model::{
    AccessFormat, ControlLevel, ControlSocket, Facility, Level, Limits, Log, LogFormat, LogTarget,
    Node, Target,
};
use crate::config::problem::At;
use crate::config::reader::{Item, Read, Table, integer, number, number32, plain, text};
use crate::config::sink::Sink;
use crate::config::value::{self, accepts};

const LEVELS: [(&str, Level); 7] = [
    ("error", Level::Error),
    ("warn", Level::Warn),
    ("warning", Level::Warn),
    ("notice", Level::Notice),
    ("info", Level::Info),
    ("debug", Level::Debug),
    ("trace", Level::Trace),
];

/// 3, `daemon`: what a system's own services use.
const FACILITY: Facility = Facility(3);

/// What holds for tables that no file has.
pub(super) fn defaults(overrides: &Overrides) -> Draft {
    Draft {
        node: Node {
            name: overrides
                .node
                .clone()
                .unwrap_or_else(|| overrides.host_name.clone()),
            state_dir: PathBuf::from("/var/lib/standfast"),
            threads: overrides.cores.max(1),
            restart_grace: Duration::from_millis(200),
        },
        limits: Limits {
            connections: None,
            greeting_memory: 64 << 20,
            relay_memory: 256 << 20,
        },
        limits_at: At::default(),
        log: Log {
            format: LogFormat::Text,
            targets: vec![LogTarget {
                target: Target::Stderr,
                level: Level::Info,
                facility: FACILITY,
            }],
            access: Some(Target::Stdout),
            access_facility: FACILITY,
            access_format: AccessFormat::Standfast,
            access_connect: false,
            hash_client_ids: false,
        },
        control: Vec::new(),
        listeners: Vec::new(),
        pools: Vec::new(),
        files: Vec::new(),
    }
}

pub(super) fn default_socket() -> ControlSocket {
    ControlSocket {
        socket: PathBuf::from("/run/standfast/control.sock"),
        owner: None,
        group: None,
        mode: 0o600,
        level: ControlLevel::Admin,
    }
}

pub(super) fn node(
    item: &Item<'_, '_>,
    overrides: &Overrides,
    sink: &mut Sink<'_>,
    draft: &mut Draft,
) {
    let Some(mut table) = item.table(
        sink,
        "a table, such as { state_dir = \"/var/lib/standfast\" }",
    ) else {
        return;
    };
    let node = &mut draft.node;
    if let Some(name) = table.read(sink, "name", accepts::NAME, text(value::name)) {
        match &overrides.node {
            Some(given) if *given != name => {
                let message = format!(
                    "`node.name` is {name:?}, but this process was started as node {given:?}"
                );
                let help =
                    "the name given at the start (--node, STANDFAST_NODE) wins; remove one of them";
                sink.warn(&table.at_key("name"), "node.name", message, help);
            }
            _ => node.name = name,
        }
    }
    if let Some(dir) = table.read(
        sink,
        "state_dir",
        "the path of a directory",
        text(value::path),
    ) {
        relative(&table, "state_dir", &dir, sink);
        node.state_dir = dir;
    }
    let threads = "a number of threads from 1 to 1024";
    if let Some(n) = table.read(sink, "threads", threads, number(value::count, 1, 1024)) {
        node.threads = usize::try_from(n).unwrap_or(1);
    }
    table.duration(sink, "restart_grace", false, &mut node.restart_grace);
    let fast = |v: &DeValue<'_>| v.as_str() == Some("fast");
    table.later_unless(
        sink,
        "crash_safe",
        "bytes in flight do not survive a worker's crash",
        fast,
    );
    table.finish(sink);
}

pub(super) fn limits(item: &Item<'_, '_>, sink: &mut Sink<'_>, draft: &mut Draft) {
    let Some(mut table) = item.table(sink, "a table, such as { connections = 100000 }") else {
        return;
    };
    let limits = &mut draft.limits;
    draft.limits_at = table.at_key("connections");
    if let Some(n) = table.read(
        sink,
        "connections",
        accepts::COUNT,
        number32(1, 100_000_000),
    ) {
        limits.connections = Some(n);
    }
    let memory = number(value::size, 64 << 10, 1 << 50);
    if let Some(n) = table.read(sink, "greeting_memory", accepts::SIZE, &memory) {
        limits.greeting_memory = n;
    }
    if let Some(n) = table.read(sink, "relay_memory", accepts::SIZE, &memory) {
        limits.relay_memory = n;
    }
    table.finish(sink);
}

pub(super) fn log(item: &Item<'_, '_>, sink: &mut Sink<'_>, draft: &mut Draft) {
    let Some(mut table) = item.table(
        sink,
        "a table, such as { target = \"stderr\", level = \"info\" }",
    ) else {
        return;
    };
    let log = &mut draft.log;
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    if let Some(format) = table.choose(sink, "format", &formats) {
        log.format = format;
        if format == LogFormat::Json {
            log.access_format = AccessFormat::Json;
        }
    }
    let level = table.choose(sink, "level", &LEVELS).unwrap_or(Level::Info);
    let facility = table
        .read(sink, "facility", accepts::FACILITY, text(value::facility))
        .unwrap_or(FACILITY);
    log.access_facility = facility;
    let whole = |target| LogTarget {
        target,
        level,
        facility,
    };
    let one = table.read(sink, "target", accepts::TARGET, text(value::target));
    log.targets = vec![whole(one.unwrap_or(Target::Stderr))];
    if let Some(item) = table.take("targets") {
        let first = table.at_key("target");
        if first != table.at {
            let message = format!(
                "`log.targets` stands beside `log.target` ({})",
                sink.place(&first)
            );
            sink.error(&item.key_at, &item.path, message, "write one of them");
        }
        let elements = item.elements();
        log.targets = elements
            .iter()
            .filter_map(|e| log_target(e, &whole, sink))
            .collect();
        if elements.is_empty() {
            item.wrong(sink, "a list with at least one target", "it is empty");
        }
    }
    let off = "\"off\" or a target: ".to_owned() + accepts::TARGET;
    let access = |t: &str| {
        if t == "off" {
            Ok(None)
        } else {
            value::target(t).map(Some)
        }
    };
    let off_or = |v: &DeValue<'_>| {
        if v.as_bool() == Some(false) {
            Ok(None)
        } else {
            text(access)(v)
        }
    };
    if let Some(access) = table.read(sink, "access", &off, off_or) {
        log.access = access;
    }
    let formats = [
        ("standfast", AccessFormat::Standfast),
        ("json", AccessFormat::Json),
        ("haproxy-tcplog", AccessFormat::HaproxyTcplog),
        ("nginx-mqtt", AccessFormat::NginxMqtt),
    ];
    if let Some(format) = table.choose(sink, "access_format", &formats) {
        log.access_format = format;
    }
    table.switch(sink, "access_connect", &mut log.access_connect);
    table.switch(sink, "hash_client_ids", &mut log.hash_client_ids);
    table.finish(sink);
}

fn log_target(
    item: &Item<'_, '_>,
    whole: &impl Fn(Target) -> LogTarget,
    sink: &mut Sink<'_>,
) -> Option<LogTarget> {
    if let DeValue::String(_) = item.value {
        return item
            .read(sink, accepts::TARGET, text(value::target))
            .map(whole);
    }
    let mut table = item.table(
        sink,
        "a target as text, or a table { target, level, facility }",
    )?;
    let target = table.read(sink, "target", accepts::TARGET, text(value::target));
    if target.is_none() && table.at_key("target") == table.at {
        let help = format!("write target = …, {}", accepts::TARGET);
        sink.absent(
            &table.at,
            &table.path,
            "this entry of `log.targets` names no target",
            help,
        );
    }
    let mut found = target.map(whole);
    let level = table.choose(sink, "level", &LEVELS);
    let facility = table.read(sink, "facility", accepts::FACILITY, text(value::facility));
    if let Some(found) = &mut found {
        found.level = level.unwrap_or(found.level);
        found.facility = facility.unwrap_or(found.facility);
    }
    table.finish(sink);
    found
}

pub(super) fn control(item: &Item<'_, '_>, sink: &mut Sink<'_>, draft: &mut Draft) {
    let elements = item.elements();
    if elements.is_empty() {
        item.wrong(
            sink,
            "a table or a list of at least one",
            "the command line needs a socket to talk to",
        );
    }
    for element in elements {
        let mut socket = default_socket();
        if let DeValue::String(_) = element.value {
            if let Some(path) = element.read(sink, SOCKET, text(socket_path)) {
                socket.socket = path;
                draft.control.push((socket, element.at.clone()));
            }
            continue;
        }
        let accepts = "the path of a socket, or a table { socket, owner, group, mode, level }";
        let Some(mut table) = element.table(sink, accepts) else {
            continue;
        };
        if let Some(path) = table.read(sink, "socket", SOCKET, text(socket_path)) {
            relative(&table, "socket", &path, sink);
            socket.socket = path;
        }
        socket.owner = table.read(sink, "owner", "a user's name", account);
        socket.group = table.read(sink, "group", "a group's name", account);
        if let Some(mode) = table.read(sink, "mode", accepts::MODE, mode) {
            socket.mode = mode;
        }
        let levels = [("read", ControlLevel::Read), ("admin", ControlLevel::Admin)];
        if let Some(level) = table.choose(sink, "level", &levels) {
            socket.level = level;
        }
        draft.control.push((socket, table.at_key("socket")));
        table.finish(sink);
    }
}

const SOCKET: &str = "the path of a socket, such as \"/run/standfast/control.sock\"";

/// The kernel's `sun_path` holds 108 bytes with the NUL at its end.
fn socket_path(t: &str) -> Read<PathBuf> {
    if t.len() > 107 {
        return Err("the path of a socket has at most 107 bytes".into());
    }
    value::path(t)
}

fn account(v: &DeValue<'_>) -> Read<String> {
    let name = plain(v)?;
    if name.is_empty() || name.contains(['\0', ':', '\n']) {
        return Err("no account has such a name".into());
    }
    Ok(name)
}

fn mode(v: &DeValue<'_>) -> Read<u32> {
    match v {
        // 0o660 says that it is octal; a bare 660 most likely meant it and is something else.
        DeValue::Integer(n) if n.radix() == 8 => {
            let bits = integer(n)
                .and_then(|n| u32::try_from(n).ok())
                .filter(|n| *n <= 0o777);
            bits.ok_or_else(|| "it is more than 0777".into())
        }
        _ => text(value::mode)(v),
    }
}

/// Warns of a path that depends on the folder the program was started in.
pub(super) fn relative(
    table: &Table<'_, '_>,
    key: &str,
    path: &std::path::Path,
    sink: &mut Sink<'_>,
) {
    if path.is_relative() {
        let full = if table.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", table.path)
        };
        let message = format!(
            "`{key}` is a relative path, {:?}",
            path.display().to_string()
        );
        let help =
            "it counts from the folder that the program was started in; write the whole path";
        sink.warn(&table.at_key(key), &full, message, help);
    }
}
