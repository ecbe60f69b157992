//! `include`: patterns of files, and the files that they match.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::Source;
use super::problem::Problem;
use super::reader::{Table, text};
use super::sink::Sink;

/// Larger files are no configuration; a wrong path (a device, a log) must not fill the memory.
const LARGEST: u64 = 4 << 20;

/// Checks a pattern: `*` and `?` in names of folders and files.
pub(super) fn pattern(text: &str) -> Result<String, String> {
    if text.is_empty() || text.ends_with('/') || text.contains('\0') {
        return Err("it names no file".into());
    }
    if text.contains("**") {
        return Err("`**` is not supported".into());
    }
    if text.contains(['[', ']', '{', '}']) {
        return Err("only `*` and `?` are supported".into());
    }
    Ok(text.to_owned())
}

/// Reads one file as text.
///
/// # Errors
///
/// A problem that names the file, and the place where it is not UTF-8.
pub(super) fn read(path: &Path) -> Result<Source, Box<Problem>> {
    let unreadable = |why: &str| Box::new(Problem::unreadable(path, why));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| unreadable(&cause(&e)))?;
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| unreadable(&cause(&e)))?;
    if bytes.len() as u64 > LARGEST {
        return Err(unreadable("it is larger than 4 MiB"));
    }
    if bytes.contains(&0) {
        return Err(unreadable("it holds NUL bytes and is no text"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source {
            path: path.to_owned(),
            text,
        }),
        Err(error) => {
            let upto = error.utf8_error().valid_up_to();
            let valid = String::from_utf8_lossy(&error.as_bytes()[..upto]).into_owned();
            let line = valid.matches('\n').count() + 1;
            let column = valid.rsplit('\n').next().unwrap_or("").chars().count() + 1;
            let mut problem = unreadable("it is not UTF-8 from here on");
            (problem.line, problem.column) = (line, column);
            problem.help = Some("save the file as UTF-8".into());
            Err(problem)
        }
    }
}

/// The system's word for an error, without its number.
fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}

/// Reads what the root's `include` names, in the order of its list and lexically within a pattern.
pub(super) fn included(root: &Source, problems: &mut Vec<Problem>) -> Vec<Source> {
    let mut sink = Sink::new(std::iter::once((root.path.as_path(), root.text.as_str())));
    let (tree, _) = DeTable::parse_recoverable(&root.text);
    let mut top = Table::new(tree.get_ref(), super::problem::At::default(), String::new());
    let Some(item) = top.take("include") else {
        return Vec::new();
    };
    let folder = root.path.parent().unwrap_or(Path::new(""));
    let mut seen = vec![same(&root.path)];
    let mut sources = Vec::new();
    for element in item.elements() {
        // A pattern that is wrong is told when the whole file is read.
        let DeValue::String(written) = element.value else {
            continue;
        };
        let Ok(pattern) = text(pattern)(element.value) else {
            continue;
        };
        let (paths, errors) = expand(&folder.join(&pattern));
        for error in errors {
            let message = format!("`include` {written:?}: {error}");
            sink.warn(
                &element.at,
                &element.path,
                message,
                "files in there are not read",
            );
        }
        if paths.is_empty() && !pattern.contains(['*', '?']) {
            let message = format!("`include` names {written:?}, and there is no such file");
            sink.error(
                &element.at,
                &element.path,
                message,
                "paths count from the folder of this file",
            );
        }
        for path in paths {
            // Patterns may overlap, and may match the file that includes.
            let real = same(&path);
            if seen.contains(&real) {
                continue;
            }
            seen.push(real);
            match read(&path) {
                Ok(source) => sources.push(source),
                Err(problem) => problems.push(*problem),
            }
        }
    }
    problems.extend(sink.finish());
    sources
}

fn same(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Files that match, sorted, and folders that could not be listed.
fn expand(pattern: &Path) -> (Vec<PathBuf>, Vec<String>) {
    let mut paths = vec![PathBuf::new()];
    let mut errors = Vec::new();
    for part in pattern.components() {
        let name = part.as_os_str().to_string_lossy();
        if !name.contains(['*', '?']) {
            paths = paths
                .into_iter()
                .map(|p| p.join(part))
                .filter(|p| p.exists())
                .collect();
            continue;
        }
        let mut next = Vec::new();
        for folder in &paths {
            match children(folder, &name) {
                Ok(found) => next.extend(found),
                // Beside folders there are files, which have nothing in them.
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) => {}
                Err(e) => errors.push(format!("cannot list {}: {}", folder.display(), cause(&e))),
            }
        }
        paths = next;
    }
    paths.retain(|p| !p.is_dir());
    paths.sort();
    (paths, errors)
}

fn children(folder: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let list = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(list)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        // As in shells: what is hidden must be asked for by its dot.
        if text.starts_with('.') && !pattern.starts_with('.') {
            continue;
        }
        if matches(pattern, &text) {
            found.push(folder.join(&name));
        }
    }
    Ok(found)
}

/// Whether a name fits a pattern of `*` (any characters) and `?` (one).
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last star stands, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else {
                    return false;
                };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_as_in_a_shell() {
        for (pattern, name, fits) in [
            ("*.toml", "a.toml", true),
            ("*.toml", "a.toml~", false),
            ("??-*.toml", "10-mqtt.toml", true),
            ("??-*.toml", "1-mqtt.toml", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("*", "", true),
            ("?", "ä", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
