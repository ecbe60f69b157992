//! Which row is shown by which test: read from `rows.toml` and from the test sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// One row that must be shown.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Row {
    /// `A01`
    pub id: String,
    /// What a test must show.
    pub shows: String,
}

#[derive(Deserialize)]
struct File {
    row: Vec<Row>,
}

/// One test of a row.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Test {
    /// `A01`
    pub row: String,
    /// `a01_three_hundred_ids_…`
    pub name: String,
    /// `rows_a.rs`
    pub file: String,
    /// Its doc comment, on one line.
    pub doc: String,
}

/// The rows of `rows.toml`.
///
/// # Errors
///
/// Where the text is not as it should be.
pub fn required(text: &str) -> Result<Vec<Row>> {
    let file: File = toml::from_str(text).context("rows.toml")?;
    Ok(file.row)
}

/// The row tests in the `.rs` files of a folder and its folders, in the order of rows and names.
///
/// # Errors
///
/// Where a file cannot be read.
pub fn tests_in(folder: &Path) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    collect(folder, "", &mut tests)?;
    tests.sort();
    Ok(tests)
}

fn collect(folder: &Path, prefix: &str, tests: &mut Vec<Test>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            collect(&path, &format!("{name}/"), tests)?;
        } else if name.ends_with(".rs") {
            tests.extend(tests_of(&name, &fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

/// The row tests of one source text: functions under `#[test]` whose names begin with a row's id.
#[must_use]
pub fn tests_of(file: &str, source: &str) -> Vec<Test> {
    let mut tests = Vec::new();
    let mut doc = String::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push_str(text.trim());
            doc.push(' ');
        } else if line == "#[test]" {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            let name = rest.split('(').next().unwrap_or_default();
            if let Some(row) = row_of(name).filter(|_| is_test) {
                tests.push(Test {
                    row,
                    name: name.to_owned(),
                    file: file.to_owned(),
                    doc: std::mem::take(&mut doc).trim().to_owned(),
                });
            }
            doc.clear();
            is_test = false;
        } else if !line.starts_with("#[") {
            doc.clear();
            is_test = false;
        }
    }
    tests
}

/// `A01` for `a01_something`.
fn row_of(name: &str) -> Option<String> {
    let (id, _) = name.split_once('_')?;
    let mut letters = id.chars();
    let is_letter = letters.next()?.is_ascii_lowercase();
    let digits = letters.as_str();
    let is_id = is_letter && digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_id.then(|| id.to_ascii_uppercase())
}

/// `ROWS.md`.
#[must_use]
pub fn page(rows: &[Row], tests: &[Test]) -> String {
    let mut text = String::from(
        "# Which test shows which row\n\n\
         Made by `cargo run -p standfast-tests --bin rows` from `rows.toml` and the tests; `--check` in CI.\n\n\
         | row | a test shows it works when | test |\n| --- | --- | --- |\n",
    );
    for row in rows {
        let names: Vec<_> = tests
            .iter()
            .filter(|test| test.row == row.id)
            .map(|test| format!("`{}` ({})", test.name, test.file))
            .collect();
        let names = match names.is_empty() {
            true => "**none**".to_owned(),
            false => names.join("<br>"),
        };
        text.push_str(&format!("| {} | {} | {names} |\n", row.id, row.shows));
    }
    text
}

/// What is wrong with the tests: rows without one, quotes that are not there, ids that are no rows.
#[must_use]
pub fn complaints(rows: &[Row], tests: &[Test]) -> Vec<String> {
    let mut found = Vec::new();
    for row in rows {
        let mut own = tests.iter().filter(|test| test.row == row.id).peekable();
        if own.peek().is_none() {
            found.push(format!("row {} has no test", row.id));
        } else if !own.any(|test| test.doc.contains(&row.shows)) {
            found.push(format!(
                "no test of row {} quotes it: {:?}",
                row.id, row.shows
            ));
        }
    }
    let ids: BTreeSet<_> = rows.iter().map(|row| row.id.as_str()).collect();
    for test in tests.iter().filter(|test| !ids.contains(test.row.as_str())) {
        found.push(format!("{} is named after no row of rows.toml", test.name));
    }
    found
}

/// What a run showed: for each row without a single passed test, why.
///
/// `log` is the output of the test runner with the `SKIPPED name: reason` lines in it.
#[must_use]
pub fn not_shown(rows: &[Row], tests: &[Test], log: &str) -> Vec<String> {
    let skips: BTreeMap<_, _> = log
        .lines()
        .filter_map(|line| line.strip_prefix("SKIPPED ")?.split_once(": "))
        .map(|(path, reason)| (last_word(path), reason))
        .collect();
    let passed: BTreeSet<_> = log
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... ok"))
        .map(last_word)
        .filter(|name| !skips.contains_key(name))
        .collect();
    let mut found = Vec::new();
    for row in rows {
        let own: Vec<_> = tests.iter().filter(|test| test.row == row.id).collect();
        if own.iter().any(|test| passed.contains(test.name.as_str())) {
            continue;
        }
        let reasons: Vec<_> = own
            .iter()
            .map(|test| match skips.get(test.name.as_str()) {
                Some(reason) => format!("{} skipped: {reason}", test.name),
                None => format!("{} did not pass", test.name),
            })
            .collect();
        let reasons = match reasons.is_empty() {
            true => "no test".to_owned(),
            false => reasons.join("; "),
        };
        found.push(format!("row {} is missing: {reasons}", row.id));
    }
    found
}

/// `a01_x` of `spread::a01_x`.
fn last_word(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "
        /// Row A01: one
        /// and two.
        #[test]
        fn a01_first() {}

        /// A helper, no test.
        fn a02_helper() {}
    ";

    fn rows() -> Vec<Row> {
        required("[[row]]\nid = \"A01\"\nshows = \"one and two\"\n").expect("TOML")
    }

    #[test]
    fn tests_are_found_with_their_quotes() {
        let tests = tests_of("x.rs", SOURCE);
        assert_eq!(tests.len(), 1);
        assert_eq!(
            (tests[0].row.as_str(), tests[0].name.as_str()),
            ("A01", "a01_first")
        );
        assert_eq!(complaints(&rows(), &tests), Vec::<String>::new());
    }

    #[test]
    fn a_row_without_a_test_and_a_quote_that_differs_are_told() {
        assert_eq!(complaints(&rows(), &[]), ["row A01 has no test"]);
        let tests = tests_of("x.rs", &SOURCE.replace("and two", "and three"));
        assert_eq!(complaints(&rows(), &tests).len(), 1);
    }

    #[test]
    fn a_skipped_row_counts_as_missing() {
        let tests = tests_of("x.rs", SOURCE);
        let log = "SKIPPED m::a01_first: no root\ntest m::a01_first ... ok\n";
        assert_eq!(
            not_shown(&rows(), &tests, log),
            ["row A01 is missing: a01_first skipped: no root"]
        );
        assert_eq!(not_shown(&rows(), &tests, "test a01_first ... ok").len(), 0);
    }
}
