//! What holds for any text: no panic, the same answer twice, and a round trip through what is written out.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const EXAMPLES: [&str; 6] = [
    include_str!("../../../../deploy/examples/all-keys.toml"),
    include_str!("../../../../deploy/examples/emqx.toml"),
    include_str!("../../../../deploy/examples/hivemq.toml"),
    include_str!("../../../../deploy/examples/minimal.toml"),
    include_str!("../../../../deploy/examples/mosquitto.toml"),
    include_str!("../../../../deploy/examples/nginx-plus.toml"),
];

/// Scraps that change what a file means when they land in it.
const SCRAPS: [&str; 24] = [
    "\n",
    "\"",
    "[",
    "]",
    "{",
    "}",
    "=",
    ",",
    ".",
    "#",
    "'''",
    "\"\"\"",
    "\\",
    "\r\n",
    "ä",
    "0",
    "-1",
    "1e9",
    "true",
    "[[pool]]\n",
    "[pool]\n",
    "[[pool.backend]]\n",
    "a.b = 1\n",
    "check = false\n",
];

fn holds(text: &str) {
    match load_text(text) {
        Err(problems) => {
            assert!(problems.errors() > 0);
            assert_eq!(load_text(text), Err(problems.clone()));
            assert!(!problems.to_string().is_empty());
            let lines = text.split('\n').count();
            for problem in &problems.0 {
                assert!(problem.line <= lines, "{problem}");
            }
        }
        Ok(loaded) => {
            let again = load_text(&to_toml(&loaded.config)).unwrap_or_else(|p| panic!("{p}"));
            assert_eq!(again.config, loaded.config);
            assert_eq!(again.hash, loaded.hash);
            assert_eq!(diff(&loaded.config, &again.config), []);
        }
    }
}

/// One line of a pool that is right by itself.
fn pool_lines() -> impl Strategy<Value = String> {
    let mut lines = vec![
        "slow_start = \"1500ms\"",
        "min_up = 1",
        "source = \"fd00::1\"",
        "on_down = { close = false, pace = \"0.3/s\" }",
        "when_empty = { wait = \"0s\" }",
        "resolve = { at_start = [\"dns\", \"none\"], every = \"1d\" }",
        "proxy = { profile = \"rabbitmq\", version = 1 }",
        "proxy = \"vernemq\"",
        "timeout = { idle = \"3m20s\", tcp_keepalive = \"0s\", user = \"1ms\" }",
        "check = false",
        "check = { send = \"00ff\", expect = \"\\u0030a\" }",
        "check = { tcp = true, port = 5 }",
        "check = { mqtt = { level = \"5\", username = \"ü \\\" \\u0001\", accept = [0, 255] } }",
        "check = { http = \"http://[::1]/\", headers = { \"X-Ä\" = \"1\" } }",
        "check = { http = \"http:///a?b\", host = \"h \\\\ ü\", headers = { B = \"\\\"\", \"a.b\" = \"2\" } }",
        "backend = [{ addr = \"c:1\", backup = true, weight = 0, max_connections = \"1k\" }]",
        "backend = [{ name = \"ünï\", addr = \"[fd00::2]:1\", check = { port = 7 }, disabled = true }]",
    ];
    lines.extend([
        "balance = \"consistent-hash\"",
        "balance = \"consistent-hash\"\nkey = \"client_ip\"",
        "balance = \"round-robin\"\nsticky = { size = 3 }",
        "sticky = { key = \"client_ip\", fallback = \"consistent-hash\", return_home = false }",
        "mode = \"tcp\"",
    ]);
    select(lines).prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC{0,200}") {
        holds(&text);
    }

    #[test]
    fn scraps_of_toml_are_read_without_a_panic(scraps in prop::collection::vec(select(SCRAPS.to_vec()), 0..60)) {
        holds(&scraps.concat());
    }

    #[test]
    fn broken_examples_are_read_without_a_panic(
        example in select(EXAMPLES.to_vec()),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..30, select(SCRAPS.to_vec())), 1..6),
    ) {
        let mut text: Vec<char> = example.chars().collect();
        for (at, cut, scrap) in edits {
            let start = at.index(text.len() + 1);
            let end = (start + cut).min(text.len());
            text.splice(start..end, scrap.chars());
        }
        holds(&text.into_iter().collect::<String>());
    }

    #[test]
    fn what_is_written_out_loads_to_the_same(lines in prop::collection::vec(pool_lines(), 0..6)) {
        holds(&with_pool(&lines.join("\n")));
    }

    #[test]
    fn a_difference_is_empty_only_between_equals(
        a in prop::collection::vec(pool_lines(), 0..4),
        b in prop::collection::vec(pool_lines(), 0..4),
    ) {
        let (a, b) = (load_text(&with_pool(&a.join("\n"))), load_text(&with_pool(&b.join("\n"))));
        if let (Ok(a), Ok(b)) = (a, b) {
            prop_assert_eq!(diff(&a.config, &b.config).is_empty(), a.config == b.config);
            prop_assert_eq!(a.hash == b.hash, a.config == b.config);
        }
    }

    #[test]
    fn durations_sizes_and_rates_read_back_as_they_are_shown(n in 0u64..315_360_000_000, rate in 1e-6f64..1e9) {
        let duration = std::time::Duration::from_millis(n);
        prop_assert_eq!(value::duration(&value::show_duration(duration)), Ok(duration));
        prop_assert_eq!(value::size(&value::show_size(n)), Ok(n));
        let rate = Rate { per_second: rate };
        prop_assert_eq!(value::rate(&value::show_rate(rate)), Ok(rate));
    }
}
