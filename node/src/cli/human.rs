//! Numbers, times and tables as people read them.

use std::time::Duration;

use crate::access::format::span;
use crate::logging::escape::{push_text, push_value};

/// How text is dressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Style {
    /// Without colours.
    Plain,
    /// With colours, which say nothing that the words do not.
    Coloured,
}

/// What a colour underlines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Somebody should look, or somebody wanted it so.
    Odd,
    /// Broken.
    Bad,
    /// Less important.
    Dim,
}

impl Style {
    /// Dresses a text.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => 32,
            Tone::Odd => 33,
            Tone::Bad => 31,
            Tone::Dim => 2,
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

/// `12,408`
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `0`, `0.4`, `31`
pub fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 10.0 {
        format!("{per_second:.1}")
    } else {
        format!("{per_second:.0}")
    }
}

/// `512 B`, `1.5 KiB`, `20 GiB`
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 10.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// How long ago `then` is at `now`, in unix milliseconds: `3d04h`, `12s`.
pub fn ago(then: u64, now: u64) -> String {
    // Milliseconds of an age are noise on a screen, except for the very young.
    match now.saturating_sub(then) {
        ms @ 0..1000 => format!("{ms}ms"),
        ms @ 1000..60_000 => format!("{}s", ms / 1000),
        ms => span(Duration::from_millis(ms)),
    }
}

/// Text from outside, safe on a terminal.
pub fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    push_value(&mut safe, text);
    safe
}

/// Words with spaces between them, without what could play with the terminal.
pub fn safe_words(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    push_text(&mut safe, text);
    safe
}

/// Rows under each other. The first row is the head.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
}

/// One cell.
#[derive(Debug)]
pub struct Cell {
    text: String,
    right: bool,
    tone: Option<Tone>,
}

/// A text, aligned to the left.
pub fn left(text: impl Into<String>) -> Cell {
    Cell {
        text: text.into(),
        right: false,
        tone: None,
    }
}

/// A number, aligned to the right.
pub fn right(text: impl Into<String>) -> Cell {
    Cell {
        right: true,
        ..left(text)
    }
}

impl Cell {
    /// Dressed, where there are colours.
    pub fn tone(mut self, tone: Tone) -> Self {
        self.tone = Some(tone);
        self
    }
}

impl Table {
    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The rows, each indented by `indent` spaces, columns two spaces apart, nothing after the last word.
    pub fn show(&self, indent: usize, style: Style) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max()
        };
        let widths: Vec<_> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(indent);
            let mut gap = 0;
            for (cell, width) in row.iter().zip(&widths) {
                let space = width - cell.text.chars().count();
                let (before, after) = if cell.right { (space, 0) } else { (0, space) };
                if !cell.text.is_empty() {
                    line.extend(std::iter::repeat_n(' ', gap + before));
                    match cell.tone {
                        Some(tone) => line.push_str(&style.paint(tone, &cell.text)),
                        None => line.push_str(&cell.text),
                    }
                    gap = after + 2;
                } else if *width > 0 {
                    gap += width + 2;
                }
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_204), "1,204");
        assert_eq!(count(1_024_000), "1,024,000");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(20 << 30), "20 GiB");
        assert_eq!(rate(0.0), "0");
        assert_eq!(rate(0.44), "0.4");
        assert_eq!(rate(31.2), "31");
        assert_eq!(ago(1_000, 13_400), "12s");
        assert_eq!(ago(5_000, 1_000), "0ms", "clocks may go backwards");
    }

    #[test]
    fn a_table_aligns_its_columns_whatever_the_colours() {
        let mut table = Table::default();
        table.row(vec![
            left("mq1"),
            left("up").tone(Tone::Good),
            right("6,102"),
            left("w1"),
        ]);
        table.row(vec![
            left("größe"),
            left("down").tone(Tone::Bad),
            right("0"),
            left(""),
        ]);
        table.row(vec![left("x"), left(""), right("12"), left("w2")]);
        let plain = "  mq1    up    6,102  w1\n  größe  down      0\n  x               12  w2\n";
        assert_eq!(table.show(2, Style::Plain), plain);
        let coloured = table.show(2, Style::Coloured);
        assert!(coloured.contains("\u{1b}[32mup\u{1b}[0m"), "{coloured:?}");
        let mut bare = String::new();
        for (n, part) in coloured.split('\u{1b}').enumerate() {
            bare.push_str(if n == 0 {
                part
            } else {
                part.split_once('m').unwrap().1
            });
        }
        assert_eq!(bare, plain, "the words say everything");
    }
}
