//! The table that lives: what is shown, and how it stays in its place on a terminal.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::load::Tally;
use super::look::Seen;
use super::story::Chapter;
use crate::admin::view::{BackendView, State, View};
use crate::cli::human::{Cell, Style, Table, Tone, ago, count, left, rate, right, safe_words};

/// Length of the bar of a backend that has every connection.
const BAR: usize = 24;

/// Events in the table.
const EVENTS: usize = 6;

/// What is shown at one moment.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    /// Where clients connect.
    pub addr: String,
    /// Since the beginning.
    pub since: Duration,
    /// What the balancer told last.
    pub seen: &'a Seen,
    /// Why that is not of this moment, if it is not.
    pub away: Option<String>,
    /// How many clients there are.
    pub clients: u32,
    /// What they saw.
    pub tally: &'a Tally,
    /// Messages sent and received a second.
    pub pace: (f64, f64),
    /// Where the story stands.
    pub chapter: Option<&'static Chapter>,
}

impl Frame<'_> {
    /// The table, a line each; nobody needs the last ones as much as the first.
    pub fn lines(&self, style: Style) -> Vec<String> {
        let mut text = self.head(style);
        text.push('\n');
        text.push_str(&self.backends(style));
        text.push('\n');
        text.push_str(&self.clients(style));
        if let Some(chapter) = self.chapter {
            text.push_str(&format!(
                "\n  {}  {}\n  {}  {}\n",
                style.paint(Tone::Dim, "now  "),
                chapter.told,
                style.paint(Tone::Dim, "watch"),
                chapter.watch
            ));
        }
        text.push('\n');
        text.push_str(&self.events(style));
        text.lines().map(str::to_owned).collect()
    }

    fn head(&self, style: Style) -> String {
        let View { node, pools, .. } = &self.seen.view;
        let homes: u64 = pools
            .iter()
            .filter_map(|pool| pool.sticky.as_ref().map(|sticky| sticky.entries))
            .sum();
        let mut line = format!(
            "standfast demo  {}  {} connections  {} sticky entries  worker {}",
            self.addr,
            count(node.connections),
            count(homes),
            node.pid,
        );
        if node.restarts > 0 {
            line.push_str(&format!(" (started anew {} times)", node.restarts));
        }
        line.push_str(&format!("  {} s", self.since.as_secs()));
        if let Some(why) = &self.away {
            let told = format!("  the balancer does not answer: {why}");
            line.push_str(&style.paint(Tone::Bad, &told));
        }
        line.push('\n');
        line
    }

    fn backends(&self, style: Style) -> String {
        let mut table = Table::default();
        let dim = |cell: Cell| cell.tone(Tone::Dim);
        table.row(vec![
            dim(left("BACKEND")),
            dim(left("STATE")),
            dim(right("CONNECTIONS")),
            dim(right("SHARE")),
            dim(left(format!("{:BAR$}", ""))),
            dim(right("NEW/S")),
            dim(right("STICKY")),
            dim(left("")),
            dim(left("CHECK")),
        ]);
        let backends = self.seen.view.pools.iter().flat_map(|pool| &pool.backends);
        for backend in backends {
            table.row(self.backend(backend));
        }
        table.show(2, style)
    }

    fn backend(&self, backend: &BackendView) -> Vec<Cell> {
        let tone = match backend.state {
            State::Up => Tone::Good,
            State::Down | State::NotReady | State::Unresolved => Tone::Bad,
            State::Draining | State::Disabled | State::Unknown => Tone::Odd,
        };
        let homes = self.seen.homes.get(&backend.name).copied();
        let homes = homes.unwrap_or_default();
        let away = match homes.away {
            0 => String::new(),
            away => format!("{} away", count(away)),
        };
        let check = backend.check.as_ref().map(|check| &*check.result);
        vec![
            left(backend.name.clone()),
            left(format!("{:10}", backend.state.as_str())).tone(tone),
            right(count(backend.connections)),
            right(format!("{:.0}%", backend.share * 100.0)),
            left(bar(backend.share)).tone(tone),
            right(rate(backend.new_per_s)),
            right(count(homes.all)),
            left(format!("{away:7}")).tone(Tone::Odd),
            left(safe_words(check.unwrap_or("no check"))),
        ]
    }

    fn clients(&self, style: Style) -> String {
        let tally = self.tally;
        let of = |counter: &std::sync::atomic::AtomicU64| count(counter.load(Relaxed));
        let mut chosen = BTreeMap::new();
        for backend in self.seen.view.pools.iter().flat_map(|pool| &pool.backends) {
            for (why, times) in &backend.chosen {
                *chosen.entry(why.clone()).or_default() += times;
            }
        }
        let rows = [
            (
                "clients",
                format!(
                    "{} of {} connected, cut off {} times; {} messages sent ({}/s), {} received ({}/s)",
                    of(&tally.connected),
                    self.clients,
                    of(&tally.cut),
                    of(&tally.sent),
                    rate(self.pace.0),
                    of(&tally.received),
                    rate(self.pace.1),
                ),
            ),
            (
                "came back",
                format!(
                    "{} times to the broker it was on, {} times to another",
                    of(&tally.same),
                    of(&tally.other)
                ),
            ),
            ("chosen by", counts(&chosen)),
            ("ended by", counts(&self.seen.view.counters.ends)),
        ];
        rows.map(|(name, value)| {
            let name = style.paint(Tone::Dim, &format!("{name:9}"));
            format!("  {name}  {value}\n")
        })
        .concat()
    }

    fn events(&self, style: Style) -> String {
        let mut table = Table::default();
        let events = &self.seen.events;
        for event in &events[events.len().saturating_sub(EVENTS)..] {
            let tone = match event.level.as_str() {
                "error" => Tone::Bad,
                "warn" => Tone::Odd,
                _ => Tone::Dim,
            };
            let subject = safe_words(&event.subject);
            table.row(vec![
                right(format!("{} ago", ago(event.at, self.seen.view.at))).tone(Tone::Dim),
                left(safe_words(&event.kind)).tone(tone),
                left(format!(
                    "{subject}{}{}",
                    if subject.is_empty() { "" } else { "  " },
                    safe_words(&event.text)
                )),
            ]);
        }
        let head = style.paint(Tone::Dim, "what happened to the balancer, newest last");
        format!("  {head}\n{}", table.show(2, style))
    }
}

/// `drained 18, kicked 1`: what happened at all.
fn counts(counters: &BTreeMap<String, u64>) -> String {
    let happened = counters.iter().filter(|(_, times)| **times > 0);
    let told: Vec<_> = happened
        .map(|(what, times)| format!("{what} {}", count(*times)))
        .collect();
    if told.is_empty() {
        "nothing yet".to_owned()
    } else {
        told.join(", ")
    }
}

/// `████▌`, as long as the share says.
fn bar(share: f64) -> String {
    // At most 2 × BAR halves.
    let halves = (share.clamp(0.0, 1.0) * (2 * BAR) as f64).round() as usize;
    let mut bar = "█".repeat(halves / 2);
    if halves % 2 == 1 {
        bar.push('▌');
    }
    bar
}

/// Where tables go.
#[derive(Debug)]
pub(super) struct Screen {
    style: Style,
    lives: bool,
    /// Lines of the last table, which the next one overwrites.
    drawn: usize,
}

impl Screen {
    /// The standard output.
    pub fn new(style: Style) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self {
            style,
            lives: io::stdout().is_terminal() && !dumb,
            drawn: 0,
        }
    }

    /// Whether tables are redrawn in place.
    pub fn lives(&self) -> bool {
        self.lives
    }

    /// Shows a table: in the place of the last one, else below it.
    pub fn show(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        let lines = frame.lines(self.style);
        if !self.lives {
            return say(&format!("{}\n\n", lines.join("\n")));
        }
        let (columns, rows) = size();
        // What has left the screen cannot be overwritten; the line of the cursor is needed, too.
        let fits = lines.len().min(rows.saturating_sub(1));
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A\r", self.drawn));
        }
        for line in &lines[..fits] {
            text.push_str(&clip(line, columns));
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        self.drawn = fits;
        say(&text)
    }
}

/// Prints.
pub(super) fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// The line cut to so many columns; colours take none and are ended.
fn clip(line: &str, columns: usize) -> String {
    let mut clipped = String::with_capacity(line.len());
    let mut left = columns;
    let mut in_colour = false;
    for letter in line.chars() {
        if letter == '\x1b' {
            in_colour = true;
        }
        if in_colour {
            in_colour = letter != 'm';
        } else if left == 0 {
            continue;
        } else {
            left -= 1;
        }
        clipped.push(letter);
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::view::PoolView;

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!(bar(0.0), "");
        assert_eq!(bar(0.5), "█".repeat(BAR / 2));
        assert_eq!(bar(1.0 / 48.0), "▌");
        assert_eq!(bar(7.0), "█".repeat(BAR));
        assert_eq!(bar(f64::NAN), "");
    }

    #[test]
    fn a_line_is_cut_by_what_is_seen_of_it() {
        assert_eq!(clip("\x1b[32mgrün\x1b[0m ist", 4), "\x1b[32mgrün\x1b[0m");
        assert_eq!(clip("\x1b[32mgrün\x1b[0m", 2), "\x1b[32mgr\x1b[0m");
        assert_eq!(clip("kurz", 80), "kurz");
    }

    #[test]
    fn the_table_tells_of_each_backend_and_of_what_clients_saw() {
        let backend = BackendView {
            name: "b2".into(),
            state: State::Draining,
            connections: 7,
            share: 0.25,
            ..BackendView::default()
        };
        let pool = PoolView {
            backends: vec![backend],
            ..PoolView::default()
        };
        let mut seen = Seen::default();
        seen.view.pools.push(pool);
        seen.view.counters.ends.insert("drained".into(), 13);
        seen.view.counters.ends.insert("kicked".into(), 0);
        let homes = super::super::look::Homes { all: 20, away: 13 };
        seen.homes.insert("b2".into(), homes);
        let tally = Tally::default();
        tally.same.store(41, Relaxed);
        let frame = Frame {
            addr: "127.0.0.1:1883".into(),
            since: Duration::from_secs(3),
            seen: &seen,
            away: None,
            clients: 60,
            tally: &tally,
            pace: (20.0, 60.5),
            chapter: super::super::story::STORY.first(),
        };
        let text = frame.lines(Style::Plain).join("\n");
        for part in [
            "b2       draining              7    25%  ██████",
            "20  13 away",
            "41 times to the broker it was on, 0 times to another",
            "ended by   drained 13\n",
            "come and go",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(!text.contains("kicked"), "{text}");
    }
}
