//! Any text as a configuration: it may be refused, it may not panic, and what is accepted survives being written out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use standfast::config::{Overrides, Sources, diff, load_sources, to_toml};

fuzz_target!(|text: &str| {
    let overrides = Overrides::default();
    match load_sources(&Sources::of_text("fuzz.toml", text), &overrides) {
        Err(problems) => {
            assert!(problems.errors() > 0);
            let _ = problems.to_string();
        }
        Ok(loaded) => {
            let written = Sources::of_text("fuzz.toml", to_toml(&loaded.config));
            let again = load_sources(&written, &overrides).expect("what is written out loads");
            assert_eq!(again.config, loaded.config);
            assert_eq!(again.hash, loaded.hash);
            assert!(diff(&loaded.config, &again.config).is_empty());
        }
    }
});
