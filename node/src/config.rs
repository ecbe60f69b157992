//! From a file to a [`Config`], with every problem of the file found in one run.
//!
//! ```text
//!   files ── load ──▶ Sources ── load_sources ──▶ Loaded { Config, warnings, hash }   or   Problems
//!                                     │
//!                       read: trees to a draft, with places
//!                       cross: names, references, addresses
//!                       advice: what hardly does what was meant
//! ```
//!
//! Counts are decimal (`"100k"` is 100 000), sizes of memory binary (`"128k"` is 131 072 bytes). Keys that the
//! documents name and this version cannot do are refused, so that no file seems to do what it does not.

mod advice;
mod cross;
mod diff;
mod draft;
mod effective;
mod include;
mod keys;
mod model;
mod nearest;
mod problem;
mod read;
mod reader;
mod sink;
mod syntax;
mod value;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use advice::warn_limits;
pub use diff::{Change, diff};
pub use effective::{to_json, to_toml};
pub use model::*;
pub use problem::{Excerpt, Problem, Problems, Severity};

use sink::Sink;

/// One file, read.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Source {
    /// The path that it was read from, as given or as an include matched it.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
}

/// All texts of one configuration. Kept, they give the same configuration again when the files are gone or broken.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sources {
    /// The file that was named.
    pub root: Source,
    /// What its `include` matched, in the order of reading.
    pub included: Vec<Source>,
}

impl Sources {
    /// A configuration of one text; `path` is only for messages.
    #[must_use]
    pub fn of_text(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self {
            root: Source {
                path: path.into(),
                text: text.into(),
            },
            included: Vec::new(),
        }
    }

    /// The root, then what it includes.
    pub fn all(&self) -> impl Iterator<Item = &Source> {
        std::iter::once(&self.root).chain(&self.included)
    }
}

/// What comes from outside the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Overrides {
    /// `--node`, else `STANDFAST_NODE`: wins over `node.name`.
    pub node: Option<String>,
    /// The machine's name, for want of any other.
    pub host_name: String,
    /// CPU cores: the default of `node.threads`.
    pub cores: usize,
}

impl Default for Overrides {
    /// No node name given, host `localhost`, one core: the same everywhere, for tests and tools.
    fn default() -> Self {
        Self {
            node: None,
            host_name: "localhost".into(),
            cores: 1,
        }
    }
}

impl Overrides {
    /// Asks the system for the host's name and its cores.
    #[must_use]
    pub fn of_this_machine(node: Option<String>) -> Self {
        let host_name = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            node,
            host_name,
            cores,
        }
    }
}

/// A configuration without errors.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// The texts that it came from.
    pub sources: Sources,
    /// What hardly does what was meant, in the order of the files.
    pub warnings: Vec<Problem>,
    /// Twelve hexadecimal digits over all effective values except `node.name` and `node.threads`, which differ
    /// between nodes that share a file. The same values give the same hash, whatever the file looks like.
    pub hash: String,
}

/// Reads `path` and what it includes.
///
/// # Errors
///
/// All problems of all files, warnings among them, in the order of the files: at least one is an error.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Loaded, Problems> {
    let root = include::read(path).map_err(|problem| Problems(vec![*problem]))?;
    let mut outside = Vec::new();
    let included = include::included(&root, &mut outside);
    let sources = Sources { root, included };
    let (outcome, mut problems) = examine(sources, overrides, |path| {
        // Permission is the daemon's matter: whoever runs `check` may well not have it.
        matches!(std::fs::metadata(path), Err(e) if e.kind() == std::io::ErrorKind::NotFound)
    });
    outside.append(&mut problems);
    settle(outcome, outside)
}

/// Reads texts that are already in memory; touches no file.
///
/// # Errors
///
/// All problems of all texts, warnings among them, in the order of the texts: at least one is an error.
pub fn load_sources(sources: &Sources, overrides: &Overrides) -> Result<Loaded, Problems> {
    let (outcome, problems) = examine(sources.clone(), overrides, |_| false);
    settle(outcome, problems)
}

fn settle(loaded: Option<Loaded>, problems: Vec<Problem>) -> Result<Loaded, Problems> {
    let fine = problems.iter().all(|p| p.severity == Severity::Warning);
    match loaded {
        Some(loaded) if fine => Ok(Loaded {
            warnings: problems,
            ..loaded
        }),
        _ => Err(Problems(problems)),
    }
}

/// The configuration, where there is no error, and all problems; `missing` says which named files are not there.
fn examine(
    sources: Sources,
    overrides: &Overrides,
    missing: impl Fn(&Path) -> bool,
) -> (Option<Loaded>, Vec<Problem>) {
    let mut sink = Sink::new(sources.all().map(|s| (s.path.as_path(), s.text.as_str())));
    let draft = read::read(&sources, overrides, &mut sink);
    for (path, key, at) in draft.files.iter().filter(|(path, ..)| missing(path)) {
        let message = format!("there is no file {:?}", path.display().to_string());
        sink.error(
            at,
            key,
            message,
            "create it, or name the file that is meant",
        );
    }
    cross::check(&draft, &mut sink);
    advice::advise(&draft, &mut sink);
    let fine = !sink.has_errors();
    let problems = sink.finish();
    let loaded = fine.then(|| {
        let config = draft.into_config();
        let hash = effective::hash(&config);
        Loaded {
            config,
            sources,
            warnings: Vec::new(),
            hash,
        }
    });
    (loaded, problems)
}
