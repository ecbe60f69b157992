//! Gathers problems while files are read, and knows where in the files they lie.

use std::collections::BTreeSet;
use std::path::Path;

use super::problem::{At, Excerpt, Problem, Severity};

/// Gathers problems and knows where in the files they lie.
pub(super) struct Sink<'s> {
    files: Vec<File<'s>>,
    found: Vec<Found>,
    /// File and line of each syntax error.
    broken: BTreeSet<(usize, usize)>,
    /// Problems beyond [`MOST`], and the worst of them.
    untold: usize,
    worst_untold: Severity,
}

struct File<'s> {
    path: &'s Path,
    text: &'s str,
    /// Byte offset of each line's first character.
    lines: Vec<usize>,
}

struct Found {
    at: At,
    kind: Kind,
    problem: Problem,
}

/// What a problem follows from.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    /// The file is not TOML here.
    Syntax,
    /// Something that stands there.
    Presence,
    /// Something that does not; no news where syntax errors hide parts of the files.
    Absence,
}

/// A file of another kind, named by mistake, would have millions.
const MOST: usize = 1000;

/// Longer lines are cut in excerpts: generated files have lines of megabytes.
const EXCERPT: usize = 240;

impl<'s> Sink<'s> {
    pub fn new(files: impl Iterator<Item = (&'s Path, &'s str)>) -> Self {
        let files = files
            .map(|(path, text)| {
                let after = text
                    .bytes()
                    .enumerate()
                    .filter(|(_, b)| *b == b'\n')
                    .map(|(i, _)| i + 1);
                File {
                    path,
                    text,
                    lines: std::iter::once(0).chain(after).collect(),
                }
            })
            .collect();
        Self {
            files,
            found: Vec::new(),
            broken: BTreeSet::new(),
            untold: 0,
            worst_untold: Severity::Warning,
        }
    }

    /// Something that stands in the file and is wrong.
    pub fn error(
        &mut self,
        at: &At,
        path: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(
            Kind::Presence,
            Severity::Error,
            at,
            path,
            message.into(),
            help.into(),
        );
    }

    /// Something that is wrong because other things are not there.
    pub fn absent(
        &mut self,
        at: &At,
        path: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(
            Kind::Absence,
            Severity::Error,
            at,
            path,
            message.into(),
            help.into(),
        );
    }

    pub fn warn(
        &mut self,
        at: &At,
        path: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(
            Kind::Presence,
            Severity::Warning,
            at,
            path,
            message.into(),
            help.into(),
        );
    }

    /// Something that is not TOML.
    pub fn syntax(&mut self, at: &At, message: impl Into<String>, help: &str) {
        let (line, _) = self.line_column(at.file, at.start);
        self.broken.insert((at.file, line));
        self.push(
            Kind::Syntax,
            Severity::Error,
            at,
            "",
            message.into(),
            help.to_owned(),
        );
    }

    /// `file:line:column`, to name another place in a message.
    pub fn place(&self, at: &At) -> String {
        let (line, column) = self.line_column(at.file, at.start);
        let path = self.files.get(at.file).map_or(Path::new(""), |f| f.path);
        format!("{}:{line}:{column}", path.display())
    }

    pub fn has_errors(&self) -> bool {
        let worst = self.found.iter().map(|f| f.problem.severity).min();
        worst.is_some_and(|worst| worst.min(self.worst_untold) == Severity::Error)
    }

    /// All problems, in the order of files and lines.
    pub fn finish(mut self) -> Vec<Problem> {
        if !self.broken.is_empty() {
            // What follows a syntax error is a guess: only what surely stands there is told.
            let broken = std::mem::take(&mut self.broken);
            self.found.retain(|f| match f.kind {
                Kind::Syntax => true,
                Kind::Presence => !broken.contains(&(f.at.file, f.problem.line)),
                Kind::Absence => false,
            });
        }
        self.found.sort_by(|a, b| {
            let key = |f: &Found| (f.at.file, f.at.start, f.problem.severity);
            key(a)
                .cmp(&key(b))
                .then_with(|| a.problem.message.cmp(&b.problem.message))
        });
        self.found.dedup_by(|b, a| {
            // The parser stumbles on for the rest of a line.
            let same_line = (a.at.file, a.problem.line) == (b.at.file, b.problem.line);
            let stumbles = a.kind == Kind::Syntax && b.kind == Kind::Syntax && same_line;
            stumbles || a.problem == b.problem
        });
        let mut problems: Vec<Problem> = self.found.into_iter().map(|f| f.problem).collect();
        if self.untold > 0 {
            let message = format!("and {} more problems", self.untold);
            let help = "mend these first".to_owned();
            problems.push(Problem::without_place(self.worst_untold, "", message, help));
        }
        problems
    }

    fn push(
        &mut self,
        kind: Kind,
        severity: Severity,
        at: &At,
        path: &str,
        message: String,
        help: String,
    ) {
        if self.found.len() >= MOST {
            self.untold += 1;
            self.worst_untold = self.worst_untold.min(severity);
            return;
        }
        let (line, column) = self.line_column(at.file, at.start);
        let problem = Problem {
            severity,
            file: self
                .files
                .get(at.file)
                .map(|f| f.path.to_owned())
                .unwrap_or_default(),
            line,
            column,
            path: path.to_owned(),
            message,
            help: (!help.is_empty()).then_some(help),
            excerpt: self.excerpt(at, line, column),
        };
        self.found.push(Found {
            at: at.clone(),
            kind,
            problem,
        });
    }

    /// Line and column of a byte; a byte inside a character counts as that character.
    fn line_column(&self, file: usize, offset: usize) -> (usize, usize) {
        let Some(file) = self.files.get(file) else {
            return (1, 1);
        };
        let line = file.lines.partition_point(|start| *start <= offset).max(1);
        let start = file.lines[line - 1];
        let upto = boundary(file.text, offset.min(file.text.len())).max(start);
        let before = file.text.get(start..upto).unwrap_or_default();
        (
            line,
            before.trim_start_matches('\u{feff}').chars().count() + 1,
        )
    }

    fn excerpt(&self, at: &At, line: usize, column: usize) -> Option<Excerpt> {
        let file = self.files.get(at.file)?;
        let start = *file.lines.get(line - 1)?;
        let end = file.lines.get(line).copied().unwrap_or(file.text.len());
        let text = file.text.get(start..end)?.trim_end_matches(['\n', '\r']);
        let text: String = text
            .trim_start_matches('\u{feff}')
            .chars()
            .take(EXCERPT)
            .collect();
        let length = text.chars().count();
        if length == 0 || column > EXCERPT {
            return None;
        }
        let upto = boundary(file.text, at.end.min(end).min(file.text.len()));
        let from = boundary(file.text, at.start.min(upto));
        let meant = file
            .text
            .get(from..upto)?
            .trim_end_matches(['\n', '\r'])
            .chars()
            .count();
        Some(Excerpt {
            text,
            width: meant.clamp(1, (length + 1).saturating_sub(column).max(1)),
        })
    }
}

/// The last boundary between characters at or before `offset`.
fn boundary(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
