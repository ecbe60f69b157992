//! Configurations as a whole: what they mean, what is refused, what survives a round trip.

mod meaning;
mod places;
mod properties;
mod refused;

use super::*;

/// What most tests add their lines to.
const BASE: &str = r#"
[[listener]]
bind = ":1883"
pool = "mqtt"
[[pool]]
name = "mqtt"
backends = ["10.0.0.1:1883", "10.0.0.2:1883"]
"#;

fn load_text(text: &str) -> Result<Loaded, Problems> {
    load_sources(&Sources::of_text("t.toml", text), &Overrides::default())
}

/// The configuration of a text that must be fine.
fn config(text: &str) -> Config {
    load_text(text)
        .unwrap_or_else(|problems| panic!("{text}\n{problems}"))
        .config
}

/// `BASE` with `more` at its end, which is inside its pool.
fn with_pool(more: &str) -> String {
    format!("{BASE}{more}\n")
}

/// `BASE` with `more` inside its listener.
fn with_listener(more: &str) -> String {
    BASE.replace("[[pool]]", &format!("{more}\n[[pool]]"))
}

/// All problems of a text, errors or only warnings.
fn problems(text: &str) -> Vec<Problem> {
    match load_text(text) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems.0,
    }
}
