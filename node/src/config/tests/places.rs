//! Lines and columns, several files, and what a problem looks like.

use super::*;

#[test]
fn columns_count_characters_and_lines_end_in_either_way() {
    let text = "[[listener]]\r\nname = \"ä\"\r\nlimits = { rate = \"ü/s\", per_ip = 0 }\r\n";
    let found = problems(text);
    let at: Vec<_> = found
        .iter()
        .filter(|p| p.line == 3)
        .map(|p| (p.line, p.column))
        .collect();
    assert_eq!(at, [(3, 19), (3, 35)]);
    let excerpt = found
        .iter()
        .find(|p| p.column == 19)
        .and_then(|p| p.excerpt.clone());
    let text = "limits = { rate = \"ü/s\", per_ip = 0 }".to_owned();
    assert_eq!(excerpt, Some(Excerpt { text, width: 5 }));
}

#[test]
fn a_byte_order_mark_moves_no_column() {
    let text = format!("\u{feff}nod = 1\n{BASE}");
    assert_eq!((problems(&text)[0].line, problems(&text)[0].column), (1, 1));
}

#[test]
fn a_problem_shows_its_line_with_a_caret_below() {
    let text = with_listener("\tconnect_deadline = 10");
    let shown = Problems(problems(&text)).to_string();
    let expected = "t.toml:5:21: error: `connect_deadline` cannot be the integer 10\n  \
                    5 | \tconnect_deadline = 10\n    \
                    | \t                   ^^\n  \
                    help: accepted is a duration with a unit, such as \"250ms\", \"10s\", \"30m\", \"2h\" or \"1d\"";
    assert_eq!(shown, expected);
}

#[test]
fn a_problem_as_json_has_place_and_help_apart() {
    let json = serde_json::to_value(&problems(&with_listener("bnd = 1"))[0]).expect("JSON");
    assert_eq!(json["severity"], "error");
    assert_eq!(json["file"], "t.toml");
    assert_eq!(json["line"], 5);
    assert_eq!(json["column"], 1);
    assert_eq!(json["path"], "listener[0].bnd");
    assert_eq!(json["help"], "did you mean `bind`?");
    let back: Problem = serde_json::from_value(json).expect("a problem");
    assert_eq!(back, problems(&with_listener("bnd = 1"))[0]);
}

#[test]
fn problems_come_in_the_order_of_the_file_every_time() {
    let text = "[[pool]]\nnam = 1\nmode = 2\n[[listener]]\nbind = 5\n[node]\nthreads = \"x\"\n";
    let first = problems(text);
    let lines: Vec<_> = first.iter().map(|p| p.line).collect();
    assert!(lines.is_sorted(), "{lines:?}");
    assert!(first.len() >= 6);
    assert_eq!(problems(text), first);
}

#[test]
fn all_syntax_errors_are_told_with_what_else_is_wrong() {
    let text = "/* x */\n[[listener]]\nbind = \":1883\"\npool = \"mqtt\"\nconnect_deadline = 5\n= 3\n\
                [[pool]]\nname = \"mqtt\"\nbackends = [\"a:1\"]\nmode = \"tpc\"\n";
    let found: Vec<_> = problems(text)
        .into_iter()
        .map(|p| (p.line, p.message))
        .collect();
    let lines: Vec<_> = found.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 5, 6, 10], "{found:?}");
    assert!(found[0].1.starts_with("this is not TOML: "), "{found:?}");
    assert!(found[3].1.contains("did you mean \"tcp\"?"), "{found:?}");
}

#[test]
fn a_syntax_error_brings_no_problem_of_what_it_hides() {
    // Neither "no bind" nor "pool is not defined": both may stand in the broken lines.
    let found = problems("[[listener]]\nbind = :1883\npool = \"mqtt\"\n[[pool]\nname = \"mqtt\"\n");
    assert!(
        found
            .iter()
            .all(|p| p.message.starts_with("this is not TOML")),
        "{found:?}"
    );
    assert_eq!(found.iter().map(|p| p.line).collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn a_key_that_is_written_twice_is_named() {
    let found = problems(&with_pool("min_up = 1\nmin_up = 2"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].line, found[0].message.as_str()),
        (9, "`min_up` is written twice in this table")
    );
}

#[test]
fn a_flood_of_problems_is_cut_and_stays_an_error() {
    let text = format!("{BASE}{}", "x = 1\n[[pool.backend]]\n".repeat(3000));
    let found = problems(&text);
    assert!(found.len() <= 1001, "{}", found.len());
    let last = found.last().expect("problems");
    assert!(
        last.message.starts_with("and ") && last.severity == Severity::Error,
        "{last}"
    );
}

fn sources(root: &str, included: &[(&str, &str)]) -> Sources {
    let source = |(path, text): &(&str, &str)| Source {
        path: path.into(),
        text: (*text).to_owned(),
    };
    Sources {
        root: source(&("root.toml", root)),
        included: included.iter().map(source).collect(),
    }
}

#[test]
fn pools_and_listeners_of_all_files_make_one_configuration() {
    let pool = "[[pool]]\nname = \"mqtt\"\nbackends = [\"a:1\"]\n";
    let listener = "[[listener]]\nbind = \":1\"\npool = \"mqtt\"\n";
    let all = sources(
        "include = [\"conf.d/*.toml\"]\n",
        &[("l.toml", listener), ("p.toml", pool)],
    );
    let loaded = load_sources(&all, &Overrides::default()).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(loaded.config.listeners.len(), 1);
    assert_eq!(
        loaded.config.pools[loaded.config.listeners[0].pool].name,
        "mqtt"
    );
    assert_eq!(loaded.sources, all);
}

#[test]
fn a_name_defined_in_two_files_names_both_places() {
    let pool = "[[pool]]\nname = \"mqtt\"\nbackends = [\"a:1\"]\n";
    let all = sources(BASE, &[("two.toml", pool)]);
    let found = load_sources(&all, &Overrides::default())
        .expect_err("an error")
        .0;
    let found = found
        .iter()
        .find(|p| p.severity == Severity::Error)
        .expect("an error");
    assert_eq!(
        found.message,
        "pool \"mqtt\" is defined twice, first at root.toml:6:1"
    );
    assert_eq!(
        (found.file.as_path(), found.line),
        (Path::new("two.toml"), 2)
    );
}

#[test]
fn a_table_that_exists_once_may_stand_in_one_file_only() {
    let all = sources(
        &format!("{BASE}[limits]\n"),
        &[("two.toml", "[limits]\nconnections = 5\n")],
    );
    let found = load_sources(&all, &Overrides::default())
        .expect_err("an error")
        .0;
    let errors: Vec<_> = found
        .iter()
        .filter(|p| p.severity == Severity::Error)
        .collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(
        errors[0].message,
        "`limits` is defined twice, first at root.toml:8:2"
    );
}

#[test]
fn an_included_file_includes_nothing() {
    let all = sources(BASE, &[("two.toml", "include = [\"*.toml\"]\n")]);
    let found = load_sources(&all, &Overrides::default())
        .expect_err("an error")
        .0;
    assert_eq!(found[0].message, "an included file cannot include others");
}

/// A folder of its own for a test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("standfast-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("conf.d")).expect("a folder");
        Self(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.0.join(name), text).expect("a file");
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn globs_are_read_in_lexical_order_from_the_folder_of_the_file() {
    let folder = Folder::new("globs");
    let pool = |name: &str| format!("[[pool]]\nname = \"{name}\"\nbackends = [\"a:1\"]\n");
    let root = "include = [\"conf.d/*.toml\", \"*.toml\", \"conf.d/1?-a.toml\"]\n\
                [[listener]]\nbind = \":1\"\npool = \"b\"\n";
    let root = folder.write("root.toml", root);
    folder.write("conf.d/20-b.toml", pool("b"));
    folder.write("conf.d/10-a.toml", pool("a"));
    folder.write("conf.d/.hidden.toml", "not TOML");
    folder.write("conf.d/notes.txt", "not TOML");
    let loaded = load(&root, &Overrides::default()).unwrap_or_else(|p| panic!("{p}"));
    let names: Vec<_> = loaded
        .config
        .pools
        .iter()
        .map(|p| p.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b"]);
    // Kept texts give the same again without the files.
    drop(folder);
    let again = load_sources(&loaded.sources, &Overrides::default()).expect("the kept texts");
    assert_eq!((again.config, again.hash), (loaded.config, loaded.hash));
}

#[test]
fn files_that_cannot_be_read_are_told_with_their_cause() {
    let folder = Folder::new("unreadable");
    let message = |path: &Path| {
        load(path, &Overrides::default())
            .expect_err("an error")
            .to_string()
    };
    let missing = folder.0.join("none.toml");
    assert!(
        message(&missing)
            .ends_with("none.toml: error: cannot read the file: no such file or directory")
    );
    let binary = folder.write("binary.toml", b"a\0b");
    assert!(
        message(&binary).contains("it holds NUL bytes"),
        "{}",
        message(&binary)
    );
    let latin = folder.write("latin.toml", b"# ok\n# \xe4\n");
    assert!(
        message(&latin).contains("latin.toml:2:3: error: cannot read the file: it is not UTF-8")
    );
    let root = folder.write("root.toml", format!("include = [\"gone.toml\"]\n{BASE}"));
    assert!(
        message(&root)
            .contains("root.toml:1:12: error: `include` names \"gone.toml\", and there is no such")
    );
}

#[test]
fn a_password_file_that_is_not_there_is_an_error_of_load_alone() {
    let folder = Folder::new("password");
    let path = folder.0.join("password");
    let check = format!("check = {{ mqtt = {{ username = \"u\", password_file = {path:?} }} }}");
    let root = folder.write("root.toml", with_pool(&check));
    let found = load(&root, &Overrides::default()).expect_err("an error").0;
    assert_eq!(found[0].message, format!("there is no file {path:?}"));
    assert_eq!(found[0].path, "pool[0].check.mqtt.password_file");
    assert_eq!(problems(&with_pool(&check)), []);
    folder.write("password", "secret\n");
    load(&root, &Overrides::default()).unwrap_or_else(|p| panic!("{p}"));
}
