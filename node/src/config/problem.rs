//! Problems of a configuration: where, what was found, what would be right.

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
