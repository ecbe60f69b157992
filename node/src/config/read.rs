//! The whole file: which tables there are, and in which of several files.

mod backend;
mod balance;
mod check;
mod globals;
mod listener;
mod pool;

use toml::de::{DeTable, DeValue};

use super::draft::Draft;
use super::problem::At;
use super::reader::{Item, Table, one_of, text};
use super::sink::Sink;
use super::{Overrides, Sources};

const SINGLE: [&str; 4] = ["node", "limits", "log", "control"];

/// Reads all files. The first is the one that may include others.
pub(super) fn read(sources: &Sources, overrides: &Overrides, sink: &mut Sink<'_>) -> Draft {
    let mut draft = globals::defaults(overrides);
    if let Err(why) = super::value::name(&draft.node.name) {
        let message = format!("this node cannot be called {:?}: {why}", draft.node.name);
        let help = format!(
            "give --node or STANDFAST_NODE {}",
            super::value::accepts::NAME
        );
        sink.error(&At::default(), "node.name", message, help);
    }
    let mut seen: [Option<At>; SINGLE.len()] = Default::default();
    for (file, source) in sources.all().enumerate() {
        let text = super::syntax::mend(file, &source.text, sink);
        let (tree, _) = DeTable::parse_recoverable(&text);
        let at = At {
            file,
            start: 0,
            end: 0,
        };
        let mut top = Table::new(tree.get_ref(), at, String::new());
        read_file(&mut top, overrides, sink, &mut draft, &mut seen);
        top.finish(sink);
    }
    if seen[3].is_none() {
        draft
            .control
            .push((globals::default_socket(), At::default()));
    }
    draft
}

fn read_file(
    top: &mut Table<'_, '_>,
    overrides: &Overrides,
    sink: &mut Sink<'_>,
    draft: &mut Draft,
    seen: &mut [Option<At>; SINGLE.len()],
) {
    include(top, sink);
    for (key, seen) in SINGLE.into_iter().zip(seen) {
        let Some(item) = top.take(key) else { continue };
        if let Some(first) = seen {
            let message = format!("`{key}` is defined twice, first at {}", sink.place(first));
            sink.error(&item.key_at, key, message, "write it in one file only");
        }
        seen.get_or_insert_with(|| item.key_at.clone());
        match key {
            "node" => globals::node(&item, overrides, sink, draft),
            "limits" => globals::limits(&item, sink, draft),
            "log" => globals::log(&item, sink, draft),
            _ => globals::control(&item, sink, draft),
        }
    }
    later_tables(top, sink);
    if let Some(item) = top.take("listener") {
        for element in tables(&item, sink) {
            listener::read(element, sink, draft);
        }
    }
    if let Some(item) = top.take("pool") {
        for element in tables(&item, sink) {
            pool::read(element, sink, draft);
        }
    }
}

/// The elements of `[[listener]]` or `[[pool]]`. One table in single brackets is told and read all the same.
fn tables<'t, 'i>(item: &Item<'t, 'i>, sink: &mut Sink<'_>) -> Vec<Table<'t, 'i>> {
    let header = format!("[[{}]]", item.path);
    if let DeValue::Table(_) = item.value {
        let message = format!("`{}` is one table and must be a list of tables", item.path);
        sink.error(
            &item.key_at,
            &item.path,
            message,
            format!("write {header}, once for each"),
        );
    }
    let accepts = format!("a list of tables, each under a line {header}");
    let elements = item.elements();
    elements
        .iter()
        .filter_map(|element| element.table(sink, &accepts))
        .collect()
}

/// Whether the globs are right. What they match has been read by [`super::load`].
fn include(top: &mut Table<'_, '_>, sink: &mut Sink<'_>) {
    let Some(item) = top.take("include") else {
        return;
    };
    if item.at.file > 0 {
        let message = "an included file cannot include others";
        sink.error(
            &item.key_at,
            "include",
            message,
            "name all files in the first file's `include`",
        );
        return;
    }
    item.list(
        sink,
        "a list of file patterns, such as [\"conf.d/*.toml\"]",
        text(super::include::pattern),
    );
}

fn later_tables(top: &mut Table<'_, '_>, sink: &mut Sink<'_>) {
    let off = |v: &DeValue<'_>| v.as_bool() == Some(false);
    top.later_unless(
        sink,
        "web",
        "there is no HTTP port yet (`web = false` is accepted)",
        off,
    );
    top.later(sink, "cluster", "a node works alone");
    top.later(sink, "vip", "this version holds no virtual addresses");
}

impl Table<'_, '_> {
    /// A word out of a few.
    fn choose<T: Copy>(
        &mut self,
        sink: &mut Sink<'_>,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        self.read(sink, key, &one_of(words), super::reader::choice(words))
    }

    /// A duration; with `positive`, not zero.
    fn duration(
        &mut self,
        sink: &mut Sink<'_>,
        key: &'static str,
        positive: bool,
        into: &mut std::time::Duration,
    ) {
        let parse = |t: &str| match super::value::duration(t) {
            Ok(d) if positive && d.is_zero() => Err("it must be more than zero".into()),
            read => read,
        };
        if let Some(read) = self.read(sink, key, super::value::accepts::DURATION, text(parse)) {
            *into = read;
        }
    }

    /// A switch.
    fn switch(&mut self, sink: &mut Sink<'_>, key: &'static str, into: &mut bool) {
        if let Some(read) = self.read(
            sink,
            key,
            super::value::accepts::BOOL,
            super::reader::boolean,
        ) {
            *into = read;
        }
    }
}
