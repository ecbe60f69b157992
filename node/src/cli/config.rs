//! `config show`: the file as it is, or as it is understood.

use super::Global;
use super::exit::{Exit, Failure};
use super::out::Out;
use crate::config::{self, Loaded, Overrides, Problems};

/// Prints the configuration.
pub fn show(global: &Global, effective: bool, out: &mut Out) -> Result<Exit, Failure> {
    let loaded = load(global).map_err(|problems| refuse(&problems, out))?;
    for warning in &loaded.warnings {
        out.remark(&warning.to_string());
    }
    if effective && out.is_json() {
        return out.document(&config::to_json(&loaded.config));
    }
    if effective {
        return out.text(&config::to_toml(&loaded.config));
    }
    if out.is_json() {
        return out.document(&loaded.sources);
    }
    let several = loaded.sources.all().count() > 1;
    for source in loaded.sources.all() {
        if several {
            out.text(&format!("# {}\n", source.path.display()))?;
        }
        out.text(&source.text)?;
    }
    Ok(Exit::Done)
}

/// Loads the file that the command line names.
pub fn load(global: &Global) -> Result<Loaded, Problems> {
    let overrides = Overrides::of_this_machine(global.node.clone());
    config::load(&global.config, &overrides)
}

/// Prints each problem, and sums them up.
pub fn refuse(problems: &Problems, out: &mut Out) -> Failure {
    out.remark(&problems.to_string());
    let errors = problems.errors();
    let word = if errors == 1 { "error" } else { "errors" };
    Failure::usage(format!("the configuration has {errors} {word}"))
}
