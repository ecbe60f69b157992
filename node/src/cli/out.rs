//! What a command prints: results on stdout, everything else on stderr, nothing into a pipe that is gone.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::exit::{Exit, Failure};
use super::human::Style;

/// Where a command prints.
pub struct Out {
    json: bool,
    style: Style,
    results: Box<dyn Write>,
    remarks: Box<dyn Write>,
}

impl Out {
    /// Colours only for people: on a terminal, and not with `NO_COLOR`.
    pub fn new(json: bool) -> Self {
        let asked_not_to = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let style = if io::stdout().is_terminal() && !asked_not_to && !dumb {
            Style::Coloured
        } else {
            Style::Plain
        };
        Self {
            json,
            style,
            results: Box::new(io::stdout()),
            remarks: Box::new(io::stderr()),
        }
    }

    /// Prints elsewhere, without colours.
    #[cfg(test)]
    pub fn to(json: bool, results: impl Write + 'static) -> Self {
        Self {
            json,
            style: Style::Plain,
            results: Box::new(results),
            remarks: Box::new(io::sink()),
        }
    }

    /// Whether `--json` was given.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// How text for people is dressed.
    pub fn style(&self) -> Style {
        self.style
    }

    /// Prints a result as it is.
    pub fn text(&mut self, text: &str) -> Result<Exit, Failure> {
        self.bytes(text.as_bytes())
    }

    /// Prints a result as it is.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<Exit, Failure> {
        let printed = self.results.write_all(bytes);
        match printed.and_then(|()| self.results.flush()) {
            Ok(()) => Ok(Exit::Done),
            // `standfast connections | head` has seen enough.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
            Err(e) => Err(Failure::new(Exit::Failed, format!("cannot print: {e}"))),
        }
    }

    /// Prints a result as one JSON document over several lines.
    pub fn document(&mut self, value: &impl Serialize) -> Result<Exit, Failure> {
        let mut text = serde_json::to_string_pretty(value)
            .map_err(|e| Failure::new(Exit::Failed, format!("cannot print: {e}")))?;
        text.push('\n');
        self.text(&text)
    }

    /// Prints a remark that is no result.
    pub fn remark(&mut self, text: &str) {
        // Nobody reads it: so be it.
        let _ = writeln!(self.remarks, "{text}");
    }

    /// Prints why there is no result.
    pub fn failure(&mut self, failure: &Failure) -> Exit {
        self.remark(&format!("standfast: {}", failure.message));
        if self.json {
            let value = serde_json::json!({
                "error": failure.message,
                "exit": failure.exit as u8,
            });
            let _ = self.document(&value);
        }
        failure.exit
    }

    /// Prints the version of this program.
    pub fn version(&mut self) -> Result<Exit, Failure> {
        let version = env!("CARGO_PKG_VERSION");
        if self.json {
            return self.document(&serde_json::json!({ "name": "standfast", "version": version }));
        }
        self.text(&format!("standfast {version}\n"))
    }
}
