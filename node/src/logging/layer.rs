//! From a tracing event to a line, and to the targets whose level it reaches.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::escape::{push_json, push_text, push_value};
use super::sink::Entry;
use super::{Shared, now, stamp};
use crate::config::{Level, LogFormat};

/// The field that makes an event of level info a notice.
const NOTICE: &str = "notice";

/// The layer.
pub(super) struct Lines(pub(super) Arc<Shared>);

impl<S: Subscriber> Layer<S> for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        if self.0.filtered {
            return None;
        }
        Some(match self.0.plan.load().level() {
            None => LevelFilter::OFF,
            Some(Level::Error) => LevelFilter::ERROR,
            Some(Level::Warn) => LevelFilter::WARN,
            Some(Level::Notice | Level::Info) => LevelFilter::INFO,
            Some(Level::Debug) => LevelFilter::DEBUG,
            Some(Level::Trace) => LevelFilter::TRACE,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let plan = self.0.plan.load();
        let metadata = event.metadata();
        let mut level = level_of(metadata);
        if level == Level::Notice {
            let mut notice = IsNotice(false);
            event.record(&mut notice);
            level = if notice.0 { Level::Notice } else { Level::Info };
        }
        let ours = is_ours(metadata);
        let takes = |target| self.0.filtered || reaches(level, target, ours);
        let mut routes = plan.routes.iter().filter(|r| takes(r.level)).peekable();
        if routes.peek().is_none() {
            return;
        }
        let mut line = Line::new(plan.format, now(), level);
        if level >= Level::Debug || !ours {
            line.field("module", Value::Text(metadata.target()));
        }
        let mut fields = Fields {
            line,
            message: String::new(),
        };
        event.record(&mut fields);
        let entry = fields.line.finish(&fields.message);
        while let Some(route) = routes.next() {
            if routes.peek().is_none() {
                route.outlet.write(entry);
                break;
            }
            route.outlet.write(entry.clone());
        }
    }
}

impl Lines {
    /// Whether any target could take an event of this place in the program.
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        if self.0.filtered {
            return true;
        }
        // No line shows spans.
        if !metadata.is_event() {
            return false;
        }
        let (level, ours) = (level_of(metadata), is_ours(metadata));
        let plan = self.0.plan.load();
        plan.routes
            .iter()
            .any(|route| reaches(level, route.level, ours))
    }
}

/// Whether a line of `level` goes to a target of level `target`.
fn reaches(level: Level, target: Level, ours: bool) -> bool {
    level <= target && (ours || level <= Level::Warn || target >= Level::Debug)
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("standfast")
}

/// The level of a place in the program; a notice where its events may be one.
fn level_of(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO if metadata.fields().field(NOTICE).is_some() => Level::Notice,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

fn name_of(level: Level) -> (&'static str, u8) {
    match level {
        Level::Error => ("error", 3),
        Level::Warn => ("warn", 4),
        Level::Notice => ("notice", 5),
        Level::Info => ("info", 6),
        Level::Debug => ("debug", 7),
        Level::Trace => ("trace", 7),
    }
}

struct IsNotice(bool);

impl Visit for IsNotice {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0 |= field.name() == NOTICE && value;
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// A line in the making.
pub(super) struct Line {
    format: LogFormat,
    entry: Entry,
}

/// A value of a line.
pub(super) enum Value<'a> {
    /// To be escaped.
    Text(&'a str),
    /// A number or a boolean.
    Raw(&'a str),
}

impl Line {
    pub(super) fn new(format: LogFormat, at: SystemTime, level: Level) -> Self {
        let (level, severity) = name_of(level);
        let mut line = String::with_capacity(160);
        let time = stamp::rfc3339(at);
        let body = match format {
            LogFormat::Text => {
                let _ = write!(line, "{time} {level}");
                line.len() + 1
            }
            LogFormat::Json => {
                let _ = write!(line, r#"{{"time":"{time}","level":"{level}""#);
                0
            }
        };
        Self {
            format,
            entry: Entry {
                at,
                severity,
                line,
                body,
            },
        }
    }

    /// Adds a field, unless it is empty.
    pub(super) fn field(&mut self, name: &str, value: Value<'_>) {
        let line = &mut self.entry.line;
        if matches!(value, Value::Text("")) {
            return;
        }
        match self.format {
            LogFormat::Text => {
                let _ = write!(line, " {name}=");
                match value {
                    Value::Text(text) => push_value(line, text),
                    Value::Raw(text) => line.push_str(text),
                }
            }
            LogFormat::Json => {
                line.push(',');
                push_json(line, name);
                line.push(':');
                match value {
                    Value::Text(text) => push_json(line, text),
                    Value::Raw(text) => line.push_str(text),
                }
            }
        }
    }

    pub(super) fn finish(mut self, message: &str) -> Entry {
        let line = &mut self.entry.line;
        match self.format {
            LogFormat::Text => {
                line.push(' ');
                push_text(line, message);
            }
            LogFormat::Json => {
                line.push_str(",\"message\":");
                push_json(line, message);
                line.push('}');
            }
        }
        self.entry
    }
}

/// Takes the fields of an event: the message apart, the mark of a notice not at all.
struct Fields {
    line: Line,
    message: String,
}

impl Fields {
    fn take(&mut self, field: &Field, value: Value<'_>) {
        match (field.name(), value) {
            (NOTICE, _) => {}
            ("message", Value::Text(text) | Value::Raw(text)) => self.message = text.to_owned(),
            (name, value) => self.line.field(name, value),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, Value::Text(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, Value::Raw(if value { "true" } else { "false" }));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, Value::Raw(&value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, Value::Raw(&value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no words for the others.
        if value.is_finite() {
            self.take(field, Value::Raw(&value.to_string()));
        } else {
            self.take(field, Value::Text(&value.to_string()));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(source) = cause {
            let _ = write!(text, ": {source}");
            cause = source.source();
        }
        self.take(field, Value::Text(&text));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, Value::Text(&format!("{value:?}")));
    }
}
