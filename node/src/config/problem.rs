//! Problems of a configuration: where, what was found, what would be right.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but probably does not do what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One thing in a configuration that is wrong or doubtful.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Problem {
    /// Whether the configuration can be used in spite of it.
    pub severity: Severity,
    /// The file; empty where the problem lies in no file (a limit of this machine, say).
    pub file: PathBuf,
    /// Line, from 1; 0 where there is none (the file could not be read).
    pub line: usize,
    /// Column in characters, from 1; 0 where there is none.
    pub column: usize,
    /// The key, such as `pool[1].backends[0].addr`; empty for the file as a whole.
    pub path: String,
    /// What was found.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// The line of the file, and how many characters of it from `column` on are meant.
    pub excerpt: Option<Excerpt>,
}

/// The place of a [`Problem`] as it stands in the file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Excerpt {
    /// The line, cut where it is very long.
    pub text: String,
    /// How many characters to underline, at least 1.
    pub width: usize,
}

impl Problem {
    /// A problem that lies in no line of a file.
    #[must_use]
    pub fn without_place(severity: Severity, path: &str, message: String, help: String) -> Self {
        Self {
            severity,
            file: PathBuf::new(),
            line: 0,
            column: 0,
            path: path.to_owned(),
            message,
            help: Some(help),
            excerpt: None,
        }
    }

    /// A file that cannot be read.
    #[must_use]
    pub fn unreadable(file: &Path, cause: &str) -> Self {
        Self {
            severity: Severity::Error,
            file: file.to_owned(),
            line: 0,
            column: 0,
            path: String::new(),
            message: format!("cannot read the file: {cause}"),
            help: None,
            excerpt: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.as_os_str().is_empty() {
            write!(f, "{}:", self.file.display())?;
            if self.line > 0 {
                write!(f, "{}:{}:", self.line, self.column)?;
            }
            f.write_str(" ")?;
        }
        write!(f, "{}: {}", self.severity, self.message)?;
        if let Some(excerpt) = &self.excerpt {
            let number = self.line.to_string();
            // Tabs stay tabs, so that the caret stands under its character whatever the tab width.
            let indent: String = (excerpt.text.chars())
                .take(self.column.saturating_sub(1))
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            write!(f, "\n  {number} | {}", excerpt.text)?;
            write!(f, "\n  {:w$} | {indent}", "", w = number.len())?;
            f.write_str(&"^".repeat(excerpt.width.max(1)))?;
        }
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// Why a configuration was refused: every error and warning of it, in the order of the files.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// How many of them are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.0
            .iter()
            .filter(|p| p.severity == Severity::Error)
            .count()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A stretch of one of the files, in bytes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct At {
    pub file: usize,
    pub start: usize,
    pub end: usize,
}

/// Gathers problems and knows where in the files they lie.
pub(super) struct Sink<'s> {
    files: Vec<File<'s>>,
    found: Vec<Found>,
    broken: BTreeSet<(usize, usize)>,
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

    pub fn syntax(&mut self, at: &At, message: impl Into<String>) {
        let (line, _) = self.line_column(at.file, at.start);
        self.broken.insert((at.file, line));
        self.push(
            Kind::Syntax,
            Severity::Error,
            at,
            "",
            message.into(),
            String::new(),
        );
    }

    /// `file:line:column`, to name another place in a message.
    pub fn place(&self, at: &At) -> String {
        let (line, column) = self.line_column(at.file, at.start);
        let path = self.files.get(at.file).map_or(Path::new(""), |f| f.path);
        format!("{}:{line}:{column}", path.display())
    }

    pub fn has_errors(&self) -> bool {
        self.found
            .iter()
            .any(|f| f.problem.severity == Severity::Error)
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
        self.found.dedup_by(|a, b| a.problem == b.problem);
        self.found.into_iter().map(|f| f.problem).collect()
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
        let upto = file
            .text
            .floor_char_boundary(offset.min(file.text.len()))
            .max(start);
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
        let upto = file
            .text
            .floor_char_boundary(at.end.min(end).min(file.text.len()));
        let from = file.text.floor_char_boundary(at.start.min(upto));
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
