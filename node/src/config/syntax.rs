//! Syntax errors: all of them told, and around them as much of the file as can be trusted.

use std::borrow::Cow;

use toml::de::DeTable;

use super::problem::At;
use super::sink::Sink;

/// Tells the syntax errors of a file, and gives the text to read on with, where every byte stands where it stood.
///
/// The parser drops all that follows a line it cannot make sense of. With such lines blanked it goes on.
pub(super) fn mend<'a>(file: usize, text: &'a str, sink: &mut Sink<'_>) -> Cow<'a, str> {
    let (_, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut blanked = text.as_bytes().to_vec();
    for error in errors.iter().take(MOST) {
        tell(file, text, error, sink);
        let mut lost = line_of(text, error.span().map_or(0, |span| span.start));
        if text[lost.clone()].trim_start().starts_with('[') {
            // Without its header a table's keys would count for another table.
            lost.end = next_header(text, lost.end);
        }
        for byte in &mut blanked[lost] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    // Whole lines went, so that no character was cut in half.
    let blanked = String::from_utf8(blanked).unwrap_or_default();
    let (_, more) = DeTable::parse_recoverable(&blanked);
    // Others are echoes of the first ones: half a list, say, whose other half was blanked.
    let duplicates = more.iter().filter(|error| error.message() == DUPLICATE);
    for error in duplicates.take(MOST) {
        tell(file, text, error, sink);
    }
    Cow::Owned(blanked)
}

/// Each of them walks through its line, which may be the whole file; so many suffice to see what is the matter.
const MOST: usize = 200;

const DUPLICATE: &str = "duplicate key";

fn tell(file: usize, text: &str, error: &toml::de::Error, sink: &mut Sink<'_>) {
    let span = error.span().unwrap_or(0..0);
    let at = At {
        file,
        start: span.start,
        end: span.end,
    };
    if error.message() == DUPLICATE {
        let key = super::value::shorten(text.get(span).unwrap_or_default());
        sink.syntax(
            &at,
            format!("`{key}` is written twice in this table"),
            "keep one of them",
        );
    } else {
        let message = format!("this is not TOML: {}", error.message().replace('\n', ", "));
        sink.syntax(&at, message, "");
    }
}

/// The line around a byte, without its end.
fn line_of(text: &str, offset: usize) -> std::ops::Range<usize> {
    let bytes = text.as_bytes();
    let offset = offset.min(bytes.len());
    let start = bytes[..offset]
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |i| i + 1);
    let rest = &bytes[offset..];
    let end = rest
        .iter()
        .position(|b| matches!(b, b'\n' | b'\r'))
        .map_or(bytes.len(), |i| offset + i);
    start..end
}

/// Where the next line begins that looks like a table's header, at or after `from`.
fn next_header(text: &str, from: usize) -> usize {
    let mut at = from;
    for line in text[from..].split_inclusive('\n') {
        if at > from && line.trim_start().starts_with('[') {
            return at;
        }
        at += line.len();
    }
    at
}
