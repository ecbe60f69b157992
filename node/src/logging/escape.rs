//! Text from outside in lines of a log: nothing in it can end a line, begin a field or move a cursor.

use std::fmt::Write;

/// Longest value that is written, in bytes before escaping; the rest becomes `…`. A client id may have 65 535.
pub const MAX_VALUE: usize = 4096;

/// Appends `value` for a key=value line: bare where that is unmistakable, else in double quotes with escapes.
pub fn push_value(line: &mut String, value: &str) {
    if is_plain(value) {
        line.push_str(value);
        return;
    }
    line.push('"');
    let (kept, cut) = clip(value);
    for c in kept.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            c => push_char(line, c),
        }
    }
    line.push_str(if cut { "…\"" } else { "\"" });
}

/// Appends text that may hold spaces and quotes (the message of a line), without anything that controls a terminal.
pub fn push_text(line: &mut String, text: &str) {
    for c in text.chars() {
        push_char(line, c);
    }
}

/// Appends a JSON string, quotes included.
pub fn push_json(line: &mut String, value: &str) {
    let (kept, cut) = clip(value);
    line.push('"');
    for c in kept.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            // JSON allows most of these bare, terminals and line readers do not.
            c if is_tricky(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(line, "\\u{unit:04x}");
                }
            }
            c => line.push(c),
        }
    }
    line.push_str(if cut { "…\"" } else { "\"" });
}

/// Appends `value` as NGINX escapes variables in its logs: `\xXX` for control bytes, bytes beyond ASCII, `"` and `\`.
pub fn push_hex(line: &mut String, value: &str) {
    let (kept, cut) = clip(value);
    for byte in kept.bytes() {
        match byte {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => {
                let _ = write!(line, "\\x{byte:02X}");
            }
            byte => line.push(char::from(byte)),
        }
    }
    if cut {
        line.push_str("...");
    }
}

fn push_char(line: &mut String, c: char) {
    match c {
        '\n' => line.push_str("\\n"),
        '\r' => line.push_str("\\r"),
        '\t' => line.push_str("\\t"),
        c if is_tricky(c) => {
            let _ = write!(line, "\\u{{{:x}}}", u32::from(c));
        }
        c => line.push(c),
    }
}

/// Whether `value` can stand bare after `key=`. A lone `-` means that there is none.
fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && value != "-"
        && value.len() <= MAX_VALUE
        && value
            .chars()
            .all(|c| !matches!(c, ' ' | '"' | '\\' | '=') && !c.is_whitespace() && !is_tricky(c))
}

/// Controls, line and paragraph separators, and what turns the direction of text: a line could read as another one.
fn is_tricky(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The beginning of `value` that is written, and whether something is cut.
fn clip(value: &str) -> (&str, bool) {
    if value.len() <= MAX_VALUE {
        return (value, false);
    }
    (floor(value, MAX_VALUE), true)
}

/// At most the first `bytes` bytes of a text, cut between characters.
#[must_use]
pub fn floor(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> String {
        let mut line = String::new();
        push_value(&mut line, value);
        line
    }

    fn json(value: &str) -> String {
        let mut line = String::new();
        push_json(&mut line, value);
        line
    }

    #[test]
    fn a_value_is_bare_only_where_that_is_unmistakable() {
        assert_eq!(text("dev-4711"), "dev-4711");
        assert_eq!(text("größe/7"), "größe/7");
        assert_eq!(text("a b"), r#""a b""#);
        assert_eq!(text("a=b"), r#""a=b""#);
        assert_eq!(text(r#"say "x\y""#), r#""say \"x\\y\"""#);
        assert_eq!(text(""), r#""""#);
        assert_eq!(text("-"), r#""-""#);
    }

    #[test]
    fn a_client_cannot_write_a_line_of_its_own() {
        assert_eq!(
            text("x\n2026-11-21T10:15:02.114Z error end=kicked"),
            r#""x\n2026-11-21T10:15:02.114Z error end=kicked""#
        );
        assert_eq!(text("\u{1b}[2Jx\r\0"), r#""\u{1b}[2Jx\r\u{0}""#);
        assert_eq!(text("a\u{202e}b\u{2028}"), r#""a\u{202e}b\u{2028}""#);
        assert_eq!(json("x\n\u{1b}\u{202e}\"\\"), r#""x\n\u001b\u202e\"\\""#);
        let mut line = String::new();
        push_hex(&mut line, "a b\n\"\\é\u{7f}");
        assert_eq!(line, r"a b\x0A\x22\x5C\xC3\xA9\x7F");
    }

    #[test]
    fn json_escapes_read_back_as_what_was_written() {
        for value in ["", "plain", "a\u{1f600}\u{feff}\t", "\u{85}\u{7f}\0"] {
            let back: String = serde_json::from_str(&json(value)).unwrap();
            assert_eq!(back, value);
        }
    }

    #[test]
    fn a_huge_value_is_cut_at_a_character() {
        let line = text(&"é".repeat(40_000));
        assert!(line.len() <= MAX_VALUE + 5, "{}", line.len());
        assert!(line.ends_with("é…\""));
    }
}
