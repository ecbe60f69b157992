//! Makes `tests/ROWS.md`; `--check` fails where it is stale or a row has no test; `--ran LOG` where a row was not shown.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use standfast_tests::rows::{complaints, not_shown, page, required, tests_in};

fn main() -> Result<ExitCode> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rows = required(&fs::read_to_string(home.join("rows.toml"))?)?;
    let tests = tests_in(&home.join("tests"))?;
    let file = home.join("ROWS.md");
    let wanted = page(&rows, &tests);
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let wrong = match words.as_slice() {
        [] => {
            fs::write(&file, wanted)?;
            println!("{} rows, {} tests", rows.len(), tests.len());
            complaints(&rows, &tests)
        }
        ["--check"] => {
            let mut wrong = complaints(&rows, &tests);
            if fs::read_to_string(&file).unwrap_or_default() != wanted {
                wrong.push(String::from(
                    "tests/ROWS.md is stale: cargo run -p standfast-tests --bin rows",
                ));
            }
            wrong
        }
        ["--ran", log] => {
            let log = fs::read(log).with_context(|| format!("reading {log}"))?;
            not_shown(&rows, &tests, &String::from_utf8_lossy(&log))
        }
        _ => bail!("rows [--check | --ran LOG]"),
    };
    for line in &wrong {
        println!("{line}");
    }
    // Making the page succeeds even where rows are missing: it shows which.
    let is_bad = !wrong.is_empty() && !words.is_empty();
    Ok(ExitCode::from(u8::from(is_bad)))
}
