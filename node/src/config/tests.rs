//! Configurations as a whole: examples, problems, round trips.

use super::*;

fn load_text(text: &str) -> Result<Loaded, Problems> {
    load_sources(&Sources::of_text("t.toml", text), &Overrides::default())
}

#[test]
fn every_example_loads_without_a_single_problem() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of examples") {
        let path = entry.expect("an entry").path();
        let loaded = load(&path, &Overrides::default()).unwrap_or_else(|p| panic!("{p}"));
        assert!(loaded.warnings.is_empty(), "{}", Problems(loaded.warnings));
        let again = load_text(&to_toml(&loaded.config)).unwrap_or_else(|p| panic!("{p}"));
        assert_eq!(again.config, loaded.config);
        seen += 1;
    }
    assert!(seen >= 6);
}
