//! `check`, of a pool and of a backend: the backend's own keys lie over the pool's.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::config::model::{Check, CheckKind, Mode, MqttLevel};
use crate::config::problem::At;
use crate::config::reader::{Item, Read, Table, number32, plain, text};
use crate::config::sink::Sink;
use crate::config::value::{self, Url, accepts};

const CHECK: &str = "false, a URL, or a table with one of { http = \"http://:8889/path\" }, \
     { mqtt = { level = \"3.1.1\" } }, { tcp = true } and { send = \"c000\", expect = \"d000\" }";

/// The keys of one table `check`, as written.
#[derive(Clone)]
pub(super) enum Written {
    /// `check = false`
    Off,
    On(Box<Keys>),
}

#[derive(Clone, Default)]
pub(super) struct Keys {
    kind: Option<Kind>,
    /// Keys that only http has, to refuse them elsewhere.
    http_keys: Vec<(At, String)>,
    method: Option<String>,
    host: Option<String>,
    headers: Option<Vec<(String, String)>>,
    interval: Option<Duration>,
    fast_interval: Option<Duration>,
    timeout: Option<Duration>,
    rise: Option<u32>,
    fall: Option<u32>,
    port: Option<u16>,
}

#[derive(Clone)]
enum Kind {
    Http(Url),
    Mqtt {
        level: MqttLevel,
        username: Option<String>,
        password_file: Option<PathBuf>,
        accept: Vec<u8>,
    },
    Tcp,
    Raw {
        send: Vec<u8>,
        expect: Vec<u8>,
    },
}

/// Files that checks name: the path, its key, its place.
pub(super) type Files = Vec<(PathBuf, String, At)>;

pub(super) fn read(item: &Item<'_, '_>, sink: &mut Sink<'_>, files: &mut Files) -> Option<Written> {
    if item.is_false() {
        return Some(Written::Off);
    }
    let mut keys = Box::<Keys>::default();
    if let DeValue::String(_) = item.value {
        let url = item.read(sink, CHECK, text(value::url))?;
        keys.port = url.port;
        keys.kind = Some(Kind::Http(url));
        return Some(Written::On(keys));
    }
    let mut table = item.table(sink, CHECK)?;
    kinds(&mut table, sink, &mut keys, files);
    for key in ["method", "host", "headers"] {
        let at = table.at_key(key);
        if at != table.at {
            keys.http_keys.push((at, format!("{}.{key}", table.path)));
        }
    }
    keys.method = table.read(sink, "method", "an HTTP method, such as \"GET\"", method);
    keys.host = table.read(sink, "host", "the value of the Host header", header_value);
    keys.headers = table.take("headers").and_then(|item| headers(&item, sink));
    for (key, into) in [
        ("interval", &mut keys.interval),
        ("fast_interval", &mut keys.fast_interval),
        ("timeout", &mut keys.timeout),
    ] {
        let mut read = Duration::ZERO;
        table.duration(sink, key, true, &mut read);
        *into = (!read.is_zero()).then_some(read);
    }
    let times = "a number of checks in a row, from 1 to 1000";
    keys.rise = table.read(sink, "rise", times, number32(1, 1000));
    keys.fall = table.read(sink, "fall", times, number32(1, 1000));
    port(&mut table, sink, &mut keys);
    let off = |v: &DeValue<'_>| v.as_bool() == Some(false);
    table.later_unless(sink, "share", "a node checks every backend itself", off);
    table.finish(sink);
    Some(Written::On(keys))
}

/// What is asked: at most one of the kinds.
fn kinds(table: &mut Table<'_, '_>, sink: &mut Sink<'_>, keys: &mut Keys, files: &mut Files) {
    let mut written: Vec<(&str, At)> = Vec::new();
    if let Some(item) = table.take("http") {
        written.push(("http", item.key_at.clone()));
        if let Some(url) = item.read(sink, accepts::URL, text(value::url)) {
            keys.port = url.port;
            keys.kind = Some(Kind::Http(url));
        }
    }
    if let Some(item) = table.take("mqtt") {
        written.push(("mqtt", item.key_at.clone()));
        keys.kind = mqtt(&item, sink, files).or(keys.kind.take());
    }
    if let Some(item) = table.take("tcp") {
        written.push(("tcp", item.key_at.clone()));
        match item.value.as_bool() {
            Some(true) => keys.kind = Some(Kind::Tcp),
            _ => item.wrong(sink, "true, or leave the key out", ""),
        }
    }
    let send = table.take("send");
    let expect = table.take("expect");
    if let Some(item) = send.as_ref().or(expect.as_ref()) {
        written.push((
            if send.is_some() { "send" } else { "expect" },
            item.key_at.clone(),
        ));
    }
    raw(send.as_ref(), expect.as_ref(), table, sink, keys);
    if let [(first, _), (second, at), ..] = written.as_slice() {
        let message =
            format!("a check is of one kind, and this one has both `{first}` and `{second}`");
        sink.error(
            at,
            &table.path,
            message,
            "keep one of `http`, `mqtt`, `tcp` and `send` with `expect`",
        );
    }
}

fn raw(
    send: Option<&Item<'_, '_>>,
    expect: Option<&Item<'_, '_>>,
    table: &Table<'_, '_>,
    sink: &mut Sink<'_>,
    keys: &mut Keys,
) {
    let bytes =
        |item: &Item<'_, '_>, sink: &mut Sink<'_>| item.read(sink, accepts::HEX, text(value::hex));
    let send_bytes = send.map(|item| bytes(item, sink));
    let Some(item) = expect else {
        if send.is_some() {
            let help =
                "write expect = \"…\", the bytes in hexadecimal that the answer must start with";
            sink.absent(
                &table.at_key("send"),
                &table.path,
                "this check has `send` and no `expect`",
                help,
            );
        }
        return;
    };
    let Some(expect) = bytes(item, sink) else {
        return;
    };
    if expect.is_empty() {
        item.wrong(
            sink,
            accepts::HEX,
            "it is empty; to see that the port opens write tcp = true",
        );
    }
    keys.kind = Some(Kind::Raw {
        send: send_bytes.flatten().unwrap_or_default(),
        expect,
    });
}

fn mqtt(item: &Item<'_, '_>, sink: &mut Sink<'_>, files: &mut Files) -> Option<Kind> {
    let default = || (MqttLevel::V311, None, None, vec![0]);
    let (mut level, mut username, mut password_file, mut accept) = default();
    if item.value.as_bool() != Some(true) {
        let mut table = item.table(
            sink,
            "true or a table { level, username, password_file, accept }",
        )?;
        let levels = "\"3.1\", \"3.1.1\" or \"5\"";
        level = table
            .read(sink, "level", levels, mqtt_level)
            .unwrap_or(level);
        username = table.read(sink, "username", "a user's name", username_text);
        password_file = table.read(sink, "password_file", accepts::PATH, text(value::path));
        if let Some(path) = &password_file {
            super::globals::relative(&table, "password_file", path, sink);
            let full = format!("{}.password_file", table.path);
            files.push((path.clone(), full.clone(), table.at_key("password_file")));
            if username.is_none() && level != MqttLevel::V5 && table.at_key("username") == table.at
            {
                let message = "a password without a user name exists in MQTT 5 only";
                sink.absent(
                    &table.at_key("password_file"),
                    &full,
                    message,
                    "write `username` as well",
                );
            }
        }
        if let Some(item) = table.take("accept") {
            let code = "a CONNACK code from 0 to 255, such as 0 (accepted) or 5 (not authorised)";
            let codes = item.list(sink, code, number32(0, 255));
            if item.elements().is_empty() {
                item.wrong(sink, "a list of at least one CONNACK code", "it is empty");
            }
            accept = codes
                .into_iter()
                .filter_map(|(code, _)| u8::try_from(code).ok())
                .collect();
        }
        table.finish(sink);
    }
    Some(Kind::Mqtt {
        level,
        username,
        password_file,
        accept,
    })
}

fn mqtt_level(v: &DeValue<'_>) -> Read<MqttLevel> {
    let word = match v {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(n) => n.to_string(),
        DeValue::Float(n) => n.to_string(),
        _ => return Err(String::new()),
    };
    match word.as_str() {
        "3.1" => Ok(MqttLevel::V31),
        "3.1.1" => Ok(MqttLevel::V311),
        "5" | "5.0" => Ok(MqttLevel::V5),
        _ => Err(String::new()),
    }
}

/// MQTT's strings hold 65 535 bytes and no NUL (MQTT 5, section 1.5.4).
fn username_text(v: &DeValue<'_>) -> Read<String> {
    let name = plain(v)?;
    if name.len() > 65_535 || name.contains('\0') {
        return Err("MQTT cannot carry it".into());
    }
    Ok(name)
}

fn port(table: &mut Table<'_, '_>, sink: &mut Sink<'_>, keys: &mut Keys) {
    let Some(item) = table.take("port") else {
        return;
    };
    let Some(port) = item.read(sink, "a port from 1 to 65535", number32(1, 65_535)) else {
        return;
    };
    let port = u16::try_from(port).unwrap_or(0);
    if let (Some(Kind::Http(_)), Some(url)) = (&keys.kind, keys.port)
        && url != port
    {
        let message = format!("the check's `port` is {port}, and its URL says {url}");
        sink.error(
            &item.key_at,
            &item.path,
            message,
            "write the port in one place",
        );
    }
    keys.port = Some(port);
}

fn method(v: &DeValue<'_>) -> Read<String> {
    let method = plain(v)?;
    if method.is_empty()
        || method.len() > 32
        || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
    {
        return Err("a method is a word in capital letters".into());
    }
    Ok(method)
}

/// Values that would break out of their header line are refused.
fn header_value(v: &DeValue<'_>) -> Read<String> {
    let value = plain(v)?;
    if value.len() > 4096 {
        return Err("it is longer than 4096 bytes".into());
    }
    if value.chars().any(char::is_control) {
        return Err("a header has no control characters".into());
    }
    Ok(value)
}

fn headers(item: &Item<'_, '_>, sink: &mut Sink<'_>) -> Option<Vec<(String, String)>> {
    let table = item.table(
        sink,
        "a table of headers, such as { Accept = \"application/json\" }",
    )?;
    let mut headers = Vec::new();
    for (name, item) in table.all() {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || name.len() > 256 || !name.bytes().all(token) {
            let message = format!("{:?} is no name of a header", value::shorten(name));
            sink.error(
                &item.key_at,
                &item.path,
                message,
                "names are letters, digits and dashes",
            );
        }
        for (taken, key) in [
            ("host", "host"),
            ("content-length", ""),
            ("transfer-encoding", ""),
        ] {
            if name.eq_ignore_ascii_case(taken) {
                let help = if key.is_empty() {
                    "checks send no body"
                } else {
                    "write `check.host`"
                };
                sink.error(
                    &item.key_at,
                    &item.path,
                    format!("the header {name} is written by the check"),
                    help,
                );
            }
        }
        if let Some(value) = item.read(sink, "text", header_value) {
            headers.push((name.to_owned(), value));
        }
    }
    Some(headers)
}

/// The check that holds: `own` over `pool` over the default of the mode.
pub(super) fn resolve(pool: Option<&Written>, own: Option<&Written>, mode: Mode) -> Option<Check> {
    let base = match pool {
        Some(Written::On(keys)) => (**keys).clone(),
        Some(Written::Off) if own.is_none() => return None,
        _ => Keys::default(),
    };
    let keys = match own {
        None => base,
        Some(Written::Off) => return None,
        Some(Written::On(own)) => over(base, own),
    };
    // A URL with a host of its own has nothing to do with the backend's MQTT port.
    let foreign = matches!(&keys.kind, Some(Kind::Http(url)) if url.host.is_some());
    Some(Check {
        port: keys.port.or(foreign.then_some(80)),
        interval: keys.interval.unwrap_or(Duration::from_secs(2)),
        fast_interval: keys.fast_interval.unwrap_or(Duration::from_millis(100)),
        timeout: keys.timeout.unwrap_or(Duration::from_secs(1)),
        rise: keys.rise.unwrap_or(2),
        fall: keys.fall.unwrap_or(3),
        kind: match keys.kind {
            Some(Kind::Http(url)) => CheckKind::Http {
                address: url.host,
                path: url.path,
                method: keys.method.unwrap_or_else(|| "GET".into()),
                host: keys.host,
                headers: keys.headers.unwrap_or_default(),
            },
            Some(Kind::Mqtt {
                level,
                username,
                password_file,
                accept,
            }) => CheckKind::Mqtt {
                level,
                username,
                password_file,
                accept,
            },
            Some(Kind::Raw { send, expect }) => CheckKind::Raw { send, expect },
            Some(Kind::Tcp) => CheckKind::Tcp,
            None if mode == Mode::Tcp => CheckKind::Tcp,
            None => CheckKind::Mqtt {
                level: MqttLevel::V311,
                username: None,
                password_file: None,
                accept: vec![0],
            },
        },
    })
}

fn over(base: Keys, own: &Keys) -> Keys {
    let own = own.clone();
    // Another kind of question brings its own port and headers along.
    let (kind, method, host, headers, port) = if own.kind.is_some() {
        (own.kind, own.method, own.host, own.headers, own.port)
    } else {
        (
            base.kind,
            own.method.or(base.method),
            own.host.or(base.host),
            own.headers.or(base.headers),
            own.port.or(base.port),
        )
    };
    Keys {
        kind,
        http_keys: own.http_keys,
        method,
        host,
        headers,
        port,
        interval: own.interval.or(base.interval),
        fast_interval: own.fast_interval.or(base.fast_interval),
        timeout: own.timeout.or(base.timeout),
        rise: own.rise.or(base.rise),
        fall: own.fall.or(base.fall),
    }
}

/// Refuses `method`, `host` and `headers` on a check that is not of kind http.
pub(super) fn http_only(written: &Written, pool: Option<&Written>, sink: &mut Sink<'_>) {
    let Written::On(keys) = written else { return };
    let inherited = match pool {
        Some(Written::On(pool)) => pool.kind.as_ref(),
        _ => None,
    };
    if matches!(keys.kind.as_ref().or(inherited), Some(Kind::Http(_))) {
        return;
    }
    for (at, path) in &keys.http_keys {
        let key = path.rsplit('.').next().unwrap_or(path);
        let message = format!("`check.{key}` belongs to an http check, and this is none");
        sink.absent(
            at,
            path,
            message,
            "write http = \"http://:8889/path\", or remove the key",
        );
    }
}
