//! Walks a TOML tree: takes known keys, turns values into types, and tells of what it did not know.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::keys;
use super::nearest::nearest;
use super::problem::At;
use super::sink::Sink;
use super::value::shorten;

/// A table of the file, of which known keys are taken one after another.
pub(super) struct Table<'t, 'i> {
    entries: Vec<(&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>)>,
    /// Where the table begins: its header, or its braces.
    pub at: At,
    /// `pool[0].check`; empty for the file itself.
    pub path: String,
    known: Vec<&'static str>,
}

/// A value of the file with its place.
pub(super) struct Item<'t, 'i> {
    pub key_at: At,
    pub at: At,
    pub path: String,
    pub value: &'t DeValue<'i>,
}

/// What a parse function answers: the value, or why not. An empty reason says that the type is wrong.
pub(super) type Read<T> = Result<T, String>;

impl<'t, 'i> Table<'t, 'i> {
    pub fn new(tree: &'t DeTable<'i>, at: At, path: String) -> Self {
        let mut entries: Vec<_> = tree.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        Self {
            entries,
            at,
            path,
            known: Vec::new(),
        }
    }

    /// The value of `key`, which is known from now on.
    pub fn take(&mut self, key: &'static str) -> Option<Item<'t, 'i>> {
        self.known.push(key);
        let (found, value) = *self.entries.iter().find(|(k, _)| k.get_ref() == key)?;
        Some(self.item(found, value))
    }

    /// All entries, whatever their keys.
    pub fn all(&self) -> impl Iterator<Item = (&'t str, Item<'t, 'i>)> {
        self.entries
            .iter()
            .map(|(k, v)| (k.get_ref().as_ref(), self.item(k, v)))
    }

    /// Where `key` stands; the table's own place if it does not.
    pub fn at_key(&self, key: &str) -> At {
        let found = self.entries.iter().find(|(k, _)| k.get_ref() == key);
        found.map_or(self.at.clone(), |(k, _)| place(self.at.file, k.span()))
    }

    /// The value of `key` where it is there and right.
    pub fn read<T>(
        &mut self,
        sink: &mut Sink<'_>,
        key: &'static str,
        accepts: &str,
        parse: impl FnOnce(&DeValue<'i>) -> Read<T>,
    ) -> Option<T> {
        self.take(key)?.read(sink, accepts, parse)
    }

    /// The table under `key`.
    pub fn table(
        &mut self,
        sink: &mut Sink<'_>,
        key: &'static str,
        accepts: &str,
    ) -> Option<Table<'t, 'i>> {
        self.take(key)?.table(sink, accepts)
    }

    /// Refuses `key`, which the documents name but this version cannot do yet.
    pub fn later(&mut self, sink: &mut Sink<'_>, key: &'static str, what: &str) {
        if let Some(item) = self.take(key) {
            item.later(sink, what);
        }
    }

    /// Refuses `key` unless it says what is so without it.
    pub fn later_unless(
        &mut self,
        sink: &mut Sink<'_>,
        key: &'static str,
        what: &str,
        so: impl FnOnce(&DeValue<'i>) -> bool,
    ) {
        if let Some(item) = self.take(key).filter(|item| !so(item.value)) {
            item.later(sink, what);
        }
    }

    /// Tells of every key that nobody took.
    pub fn finish(self, sink: &mut Sink<'_>) {
        for (key, value) in &self.entries {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let item = self.item(key, value);
            let place = match short(&self.path) {
                "" => "at the top of the file".to_owned(),
                table => format!("in `{table}`"),
            };
            let help = match nearest(name, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => match keys::elsewhere(name) {
                    Some(home) => format!("there is such a key as `{home}`"),
                    None => {
                        let mut known = self.known.clone();
                        known.sort_unstable();
                        format!("known keys here: {}", known.join(", "))
                    }
                },
            };
            sink.error(
                &item.key_at,
                &item.path,
                format!("unknown key `{}` {place}", shorten(name)),
                help,
            );
        }
    }

    fn item(&self, key: &Spanned<DeString<'i>>, value: &'t Spanned<DeValue<'i>>) -> Item<'t, 'i> {
        let name = key.get_ref().as_ref();
        let path = if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        };
        let file = self.at.file;
        Item {
            key_at: place(file, key.span()),
            at: place(file, value.span()),
            path,
            value: value.get_ref(),
        }
    }
}

impl<'t, 'i> Item<'t, 'i> {
    /// The value, or a problem that says what was found and what is accepted.
    pub fn read<T>(
        &self,
        sink: &mut Sink<'_>,
        accepts: &str,
        parse: impl FnOnce(&DeValue<'i>) -> Read<T>,
    ) -> Option<T> {
        match parse(self.value) {
            Ok(value) => Some(value),
            Err(why) => {
                self.wrong(sink, accepts, &why);
                None
            }
        }
    }

    /// Tells that this value is not accepted.
    pub fn wrong(&self, sink: &mut Sink<'_>, accepts: &str, why: &str) {
        let colon = if why.is_empty() { "" } else { ": " };
        let message = format!(
            "`{}` cannot be {}{colon}{why}",
            short(&self.path),
            describe(self.value)
        );
        sink.error(
            &self.at,
            &self.path,
            message,
            format!("accepted is {accepts}"),
        );
    }

    pub fn later(&self, sink: &mut Sink<'_>, what: &str) {
        let message = format!(
            "`{}` is not available in this version: {what}",
            short(&self.path)
        );
        sink.error(
            &self.key_at,
            &self.path,
            message,
            "remove the key until a version has it",
        );
    }

    pub fn table(&self, sink: &mut Sink<'_>, accepts: &str) -> Option<Table<'t, 'i>> {
        match self.value {
            DeValue::Table(tree) => Some(Table::new(tree, self.at.clone(), self.path.clone())),
            _ => {
                self.wrong(sink, accepts, "");
                None
            }
        }
    }

    /// The elements of a list; anything else counts as a list of one.
    pub fn elements(&self) -> Vec<Item<'t, 'i>> {
        let DeValue::Array(array) = self.value else {
            let Self {
                key_at,
                at,
                path,
                value,
            } = self;
            return vec![Item {
                key_at: key_at.clone(),
                at: at.clone(),
                path: path.clone(),
                value,
            }];
        };
        let element = |(i, v): (usize, &'t Spanned<DeValue<'i>>)| {
            let at = place(self.at.file, v.span());
            Item {
                key_at: at.clone(),
                at,
                path: format!("{}[{i}]", self.path),
                value: v.get_ref(),
            }
        };
        array.iter().enumerate().map(element).collect()
    }

    /// The elements that are right, each with its place; one problem for each that is not.
    pub fn list<T>(
        &self,
        sink: &mut Sink<'_>,
        accepts: &str,
        parse: impl Fn(&DeValue<'i>) -> Read<T>,
    ) -> Vec<(T, At)> {
        let elements = self.elements();
        elements
            .iter()
            .filter_map(|e| Some((e.read(sink, accepts, &parse)?, e.at.clone())))
            .collect()
    }

    pub fn is_false(&self) -> bool {
        matches!(self.value, DeValue::Boolean(false))
    }
}

/// The part of a path behind its last list: `timeout.connect` of `pool[0].timeout.connect`.
pub(super) fn short(path: &str) -> &str {
    path.rsplit_once("].").map_or(path, |(_, last)| last)
}

fn place(file: usize, span: Range<usize>) -> At {
    At {
        file,
        start: span.start,
        end: span.end,
    }
}

/// What a value is, in words.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {:?}", shorten(text)),
        DeValue::Integer(n) => format!("the integer {}", shorten(&n.to_string())),
        DeValue::Float(n) => format!("the float {}", shorten(&n.to_string())),
        DeValue::Boolean(b) => b.to_string(),
        DeValue::Datetime(_) => "a date or time".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// Reads text with `parse`.
pub(super) fn text<'i, T>(parse: impl Fn(&str) -> Read<T>) -> impl Fn(&DeValue<'i>) -> Read<T> {
    move |value| match value {
        DeValue::String(text) => parse(text),
        _ => Err(String::new()),
    }
}

/// Text as it stands.
pub(super) fn plain(value: &DeValue<'_>) -> Read<String> {
    text(|t| Ok(t.to_owned()))(value)
}

pub(super) fn boolean(value: &DeValue<'_>) -> Read<bool> {
    value.as_bool().ok_or_else(String::new)
}

/// A whole number, as integer or as text that `parse` understands, from `least` to `most`.
pub(super) fn number<'i>(
    parse: fn(&str) -> Read<u64>,
    least: u64,
    most: u64,
) -> impl Fn(&DeValue<'i>) -> Read<u64> {
    move |value| {
        let number = match value {
            DeValue::String(text) => parse(text)?,
            DeValue::Integer(n) => {
                integer(n).ok_or_else(|| format!("it is not from {least} to {most}"))?
            }
            _ => return Err(String::new()),
        };
        if (least..=most).contains(&number) {
            Ok(number)
        } else {
            Err(format!("it is not from {least} to {most}"))
        }
    }
}

/// Like [`number`], for fields of 32 bits.
pub(super) fn number32<'i>(least: u32, most: u32) -> impl Fn(&DeValue<'i>) -> Read<u32> {
    move |value| {
        let number = number(super::value::count, u64::from(least), u64::from(most))(value)?;
        u32::try_from(number).map_err(|_| "it is too large".into())
    }
}

/// A non-negative integer of 64 bits.
pub(super) fn integer(n: &toml::de::DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(
        n.as_str().strip_prefix('+').unwrap_or(n.as_str()),
        n.radix(),
    )
    .ok()
}

/// One of a few words.
pub(super) fn choice<'i, T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&DeValue<'i>) -> Read<T> {
    move |value| {
        let DeValue::String(text) = value else {
            return Err(String::new());
        };
        if let Some((_, found)) = words.iter().find(|(word, _)| word == text) {
            return Ok(*found);
        }
        let near = nearest(text, words.iter().map(|(word, _)| *word));
        Err(near.map_or(String::new(), |near| format!("did you mean {near:?}?")))
    }
}

/// The words of a [`choice`] as help.
pub(super) fn one_of<T>(words: &[(&'static str, T)]) -> String {
    let quoted: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
