//! Each kind of problem with its words.

use super::*;

/// Asserts that `text` has a problem of these words, with this start of its help.
#[track_caller]
fn refused(text: &str, severity: Severity, message: &str, help: &str) {
    let found = problems(text);
    let same = found.iter().find(|p| p.message == message);
    let Some(problem) = same else {
        panic!("no problem {message:?} in\n{}", Problems(found))
    };
    assert_eq!(problem.severity, severity, "{problem}");
    let given = problem.help.as_deref().unwrap_or_default();
    assert!(given.starts_with(help), "help is {given:?}");
    assert_eq!(
        load_text(text).is_err(),
        severity == Severity::Error || found.iter().any(|p| p.severity == Severity::Error)
    );
}

#[track_caller]
fn error(text: &str, message: &str, help: &str) {
    refused(text, Severity::Error, message, help);
}

#[track_caller]
fn warning(text: &str, message: &str, help: &str) {
    refused(text, Severity::Warning, message, help);
    assert!(load_text(text).is_ok());
}

#[test]
fn unknown_keys_name_the_nearest_key() {
    let top = format!("[listner]\n{BASE}");
    error(
        &top,
        "unknown key `listner` at the top of the file",
        "did you mean `listener`?",
    );
    error(
        &with_pool("balanse = 1"),
        "unknown key `balanse` in `pool[0]`",
        "did you mean `balance`?",
    );
    error(
        &with_pool("timeout = { conect = \"1s\" }"),
        "unknown key `conect` in `timeout`",
        "did you mean `connect`?",
    );
    error(
        &with_pool("[[pool.backend]]\naddr = \"x:1\"\nwieght = 1"),
        "unknown key `wieght` in `backend[0]`",
        "did you mean `weight`?",
    );
}

#[test]
fn a_key_of_another_table_names_its_home() {
    let text = with_pool("connect_deadline = \"5s\"");
    error(
        &text,
        "unknown key `connect_deadline` in `pool[0]`",
        "there is such a key as `listener.connect_deadline`",
    );
    let text = with_listener("backup = true");
    error(
        &text,
        "unknown key `backup` in `listener[0]`",
        "there is such a key as `pool.backends.backup`",
    );
}

#[test]
fn a_key_like_no_other_lists_what_is_known() {
    error(
        &with_pool("zzzz = 1"),
        "unknown key `zzzz` in `pool[0]`",
        "known keys here: admit, backend, ",
    );
}

#[test]
fn wrong_types_say_what_was_found() {
    for (line, found) in [
        ("slow_start = 5", "`slow_start` cannot be the integer 5"),
        ("slow_start = 5.5", "`slow_start` cannot be the float 5.5"),
        ("slow_start = true", "`slow_start` cannot be true"),
        ("slow_start = [1]", "`slow_start` cannot be a list"),
        ("slow_start = { a = 1 }", "`slow_start` cannot be a table"),
        (
            "slow_start = 2026-01-01",
            "`slow_start` cannot be a date or time",
        ),
    ] {
        error(
            &with_pool(line),
            found,
            "accepted is a duration with a unit",
        );
    }
    error(
        &with_pool("timeout = 5"),
        "`timeout` cannot be the integer 5",
        "accepted is a table, such as { connect",
    );
    error(
        &format!("node = 3\n{BASE}"),
        "`node` cannot be the integer 3",
        "accepted is a table",
    );
    let text =
        "[listener]\nbind = \":1\"\npool = \"p\"\n[[pool]]\nname = \"p\"\nbackends = [\"a:1\"]\n";
    error(
        text,
        "`listener` is one table and must be a list of tables",
        "write [[listener]]",
    );
    assert_eq!(problems(text).len(), 1, "the rest of such a table is read");
}

#[test]
fn wrong_words_name_the_nearest_word() {
    error(
        &with_pool("balance = \"least_conections\""),
        "`balance` cannot be the text \"least_conections\": did you mean \"least-connections\"?",
        "accepted is \"sticky\", \"round-robin\", \"least-connections\", \"source\" or \"consistent-hash\"",
    );
    error(
        &format!("{BASE}[log]\nfacility = \"locl0\""),
        "`log.facility` cannot be the text \"locl0\": did you mean \"local0\"?",
        "accepted is a syslog facility",
    );
    error(
        &format!("{BASE}[log]\ntarget = \"stdot\""),
        "`log.target` cannot be the text \"stdot\": did you mean \"stdout\"?",
        "accepted is \"stderr\"",
    );
}

#[test]
fn values_out_of_their_range_say_the_range() {
    error(
        &with_pool("backend = [{ addr = \"x:1\", weight = 257 }]"),
        "`weight` cannot be the integer 257: it is not from 0 to 256",
        "accepted is a whole number from 0 to 256",
    );
    error(
        &with_pool("sticky = { size = 0 }"),
        "`sticky.size` cannot be the integer 0: it is not from 1 to 100000000",
        "accepted is a whole number",
    );
    error(
        &with_pool("timeout = { connect = \"0s\" }"),
        "`timeout.connect` cannot be the text \"0s\": it must be more than zero",
        "accepted is a duration",
    );
    error(
        &with_pool("timeout = { user = -1 }"),
        "`timeout.user` cannot be the integer -1",
        "accepted is a duration",
    );
}

#[test]
fn what_is_missing_is_asked_for() {
    let pool = "[[pool]]\nname = \"p\"\nbackends = [\"a:1\"]\n";
    error("", "no listener is defined", "write [[listener]]");
    error("", "no pool is defined", "write [[pool]]");
    error(
        &format!("[[listener]]\npool = \"p\"\n{pool}"),
        "this listener has no `bind`",
        "write bind = …",
    );
    error(
        &format!("[[listener]]\nbind = \":1\"\n{pool}"),
        "this listener has no `pool`",
        "write pool = …",
    );
    error(
        "[[pool]]\nbackends = [\"a:1\"]",
        "this pool has no `name`",
        "write name = \"mqtt\"",
    );
    error(
        "[[pool]]\nname = \"p\"",
        "this pool has no backends",
        "write backends = ",
    );
    error(
        "[[pool]]\nname = \"p\"\nbackends = []",
        "this pool has no backends",
        "write backends = ",
    );
    error(
        &with_pool("backend = [{ weight = 1 }]"),
        "this backend has no `addr`",
        "write addr = …",
    );
    error(
        &with_pool("proxy = {}"),
        "`proxy` names neither version nor profile",
        "write version = 2",
    );
    error(
        &with_listener("accept_proxy = {}"),
        "`accept_proxy` has no `from`",
        "write from = ",
    );
    error(
        &with_pool("check = { send = \"00\" }"),
        "this check has `send` and no `expect`",
        "write expect = ",
    );
    error(
        &format!("{BASE}[log]\ntargets = [{{ level = \"info\" }}]"),
        "this entry of `log.targets` names no target",
        "write target = …",
    );
}

#[test]
fn a_listener_names_a_pool_that_exists() {
    let text = BASE.replace("pool = \"mqtt\"", "pool = \"mqt\"");
    let message = "listener \":1883\" sends to pool \"mqt\", which is not defined";
    error(&text, message, "did you mean \"mqtt\"? defined pools: mqtt");
}

#[test]
fn addresses_are_bound_once() {
    let second =
        |bind: &str| format!("[[listener]]\nname = \"b\"\nbind = {bind}\npool = \"mqtt\"\n{BASE}");
    let help = "give each listener an address or a port of its own";
    error(
        &second("\":1883\""),
        ":1883 is bound twice, first at t.toml:3:8",
        help,
    );
    error(
        &second("\"127.0.0.1:1883\""),
        ":1883 overlaps with 127.0.0.1:1883, which is bound at t.toml:3:8",
        help,
    );
    let text = second("[\"0.0.0.0:1\", \"10.0.0.1:1\"]");
    error(
        &text,
        "10.0.0.1:1 overlaps with 0.0.0.0:1, which is bound at t.toml:3:9",
        help,
    );
    for fine in [
        "\"[::]:1884\"",
        "[\"0.0.0.0:1\", \"[::]:1\"]",
        "[\":0\", \":0\"]",
        "\":1884\"",
    ] {
        assert_eq!(problems(&second(fine)), [], "{fine}");
    }
}

#[test]
fn names_are_given_once() {
    let text = format!(
        "{}\n{}",
        with_listener("name = \"a\""),
        "[[listener]]\nname = \"a\"\nbind = \":2\"\npool = \"mqtt\""
    );
    error(
        &text,
        "listener \"a\" is defined twice, first at t.toml:5:1",
        "give each listener",
    );
    let text = "[[listener]]\nbind = \":0\"\npool = \"mqtt\"\n".repeat(2) + BASE;
    error(
        &text,
        "listener \":0\" is defined twice, first at t.toml:2:1",
        "give each listener",
    );
    let text = with_pool("[[pool.backend]]\nname = \"10.0.0.1:1883\"\naddr = \"c:1\"");
    let message = "pool \"mqtt\" has two backends \"10.0.0.1:1883\", the first at t.toml:7:13";
    error(&text, message, "remove one, or give each a name");
    let text = format!("control = [\"/a\", \"/a\"]\n{BASE}");
    error(
        &text,
        "two control sockets have the path /a, the first at t.toml:1:12",
        "give each a path",
    );
    error(
        &with_listener("name = \"a b\""),
        "`name` cannot be the text \"a b\": a name has no ' '",
        "accepted is a name of at most 200 characters",
    );
}

#[test]
fn a_pool_can_be_healthy() {
    error(
        &with_pool("min_up = 3"),
        "`min_up` is 3, and pool \"mqtt\" has 2 backends",
        "the pool would never",
    );
    let text = BASE.replace(
        "[\"10.0.0.1:1883\", \"10.0.0.2:1883\"]",
        "[{ addr = \"a:1\", backup = true }]",
    );
    error(
        &text,
        "every backend of pool \"mqtt\" is a backup",
        "a backup serves when no other is up",
    );
}

#[test]
fn a_check_is_of_one_kind() {
    error(
        &with_pool("check = { tcp = true, mqtt = {} }"),
        "a check is of one kind, and this one has both `mqtt` and `tcp`",
        "keep one of",
    );
    error(
        &with_pool("check = { tcp = true, method = \"GET\" }"),
        "`check.method` belongs to an http check, and this is none",
        "write http = ",
    );
    error(
        &with_pool("check = { http = \"http://:80/\", port = 81 }"),
        "the check's `port` is 81, and its URL says 80",
        "write the port in one place",
    );
    error(
        &with_pool("check = true"),
        "`check` cannot be true",
        "accepted is false, a URL, or a table with one of",
    );
    error(
        &with_pool(
            "check = { http = \"http://:80/\", headers = { \"a b\" = \"c\", Host = \"x\" } }",
        ),
        "\"a b\" is no name of a header",
        "names are letters",
    );
    error(
        &with_pool("check = { http = \"http://:80/\", headers = { A = \"b\\r\\nC: d\" } }"),
        "`check.headers.A` cannot be the text \"b\\r\\nC: d\": a header has no control characters",
        "accepted is text",
    );
}

#[test]
fn pools_of_bytes_know_no_client_ids() {
    let why = "a pool of mode \"tcp\" reads no CONNECT and knows no client ids";
    for (lines, key) in [
        ("sticky = { key = \"client_id\" }", "sticky.key"),
        ("sticky = \"client_id\"", "sticky"),
        ("balance = \"consistent-hash\"\nkey = \"client_id\"", "key"),
    ] {
        let message = format!("`{key}` cannot be the text \"client_id\": {why}");
        error(
            &with_pool(&format!("mode = \"tcp\"\n{lines}")),
            &message,
            "accepted is \"client_ip\"",
        );
    }
    error(
        &with_pool("mode = \"tcp\"\nwhen_empty = { then = \"refuse\" }"),
        "`when_empty.then` cannot be the text \"refuse\": a pool of mode \"tcp\" speaks no MQTT to refuse in",
        "accepted is \"close\"",
    );
    error(
        &with_pool("mode = \"tcp\"\nsticky = { persistent_only = true }"),
        "`sticky.persistent_only` cannot be true: a pool of mode \"tcp\" reads no CONNECT and knows no sessions",
        "accepted is false",
    );
}

#[test]
fn a_key_of_hashing_is_refused_elsewhere() {
    let message = "`key` belongs to balance = \"consistent-hash\"";
    error(
        &with_pool("key = \"client_ip\""),
        message,
        "for stickiness write sticky",
    );
    error(
        &with_pool("balance = \"source\"\nkey = \"client_ip\""),
        message,
        "remove the key",
    );
}

#[test]
fn what_later_versions_do_is_refused_with_a_sentence() {
    let later = "is not available in this version: ";
    for (text, key) in [
        (format!("web = {{ bind = \":8404\" }}\n{BASE}"), "web"),
        (format!("cluster = {{ name = \"x\" }}\n{BASE}"), "cluster"),
        (format!("[[vip]]\naddr = \"10.0.0.1/24\"\n{BASE}"), "vip"),
        (
            format!("node = {{ crash_safe = \"strict\" }}\n{BASE}"),
            "node.crash_safe",
        ),
        (with_listener("tls = { cert = \"x\" }"), "tls"),
        (with_listener("transport = \"websocket\""), "transport"),
        (with_listener("sni = { a = \"mqtt\" }"), "sni"),
        (with_listener("identity = { bind = \"cn\" }"), "identity"),
        (
            with_listener("limits = { handshakes = \"5/s\" }"),
            "limits.handshakes",
        ),
        (
            BASE.replace("pool = \"mqtt\"", "health_of = \"mqtt\""),
            "health_of",
        ),
        (with_pool("admit = { rate = \"5/s\" }"), "admit"),
        (with_pool("source = \"vip\""), "source"),
        (with_pool("tls = { ca = \"x\" }"), "tls"),
        (with_pool("transport = \"websocket\""), "transport"),
        (with_pool("sticky = { key = \"cn\" }"), "sticky.key"),
        (with_pool("check = { share = true }"), "check.share"),
        (
            with_pool("proxy = { version = 2, tls = true }"),
            "proxy.tls",
        ),
        (with_pool("proxy = { version = 2, cn = true }"), "proxy.cn"),
        (
            with_pool("backend = [{ addr = { lb1 = \"a:1\" } }]"),
            "addr",
        ),
    ] {
        let found = problems(&text);
        let start = format!("`{key}` {later}");
        let told = found
            .iter()
            .filter(|p| p.message.starts_with(&start))
            .count();
        let errors = found
            .iter()
            .filter(|p| p.severity == Severity::Error)
            .count();
        assert_eq!((told, errors), (1, 1), "{key}: {}", Problems(found));
    }
}

#[test]
fn what_is_so_anyway_may_be_written() {
    for text in [
        format!("web = false\n{BASE}"),
        format!("node = {{ crash_safe = \"fast\" }}\n{BASE}"),
        with_listener("transport = \"tcp\""),
        with_pool(
            "transport = \"tcp\"\ncheck = { share = false }\nproxy = { version = 2, tls = false, cn = false }",
        ),
    ] {
        assert_eq!(problems(&text), [], "{text}");
    }
}

#[test]
fn doubtful_things_are_warnings() {
    let unused = format!("{BASE}[[pool]]\nname = \"other\"\nbackends = [\"a:1\"]\n");
    warning(
        &unused,
        "no listener sends to pool \"other\"",
        "its backends are checked",
    );
    warning(
        &with_pool("timeout = { idle = \"60s\" }"),
        "`timeout.idle` caps silence at 1m",
        "clients with the common keepalive",
    );
    warning(
        &format!("limits = {{ connections = \"200k\" }}\n{BASE}"),
        "the sticky table of pool \"mqtt\" holds 100000 clients, and 200000 may be connected",
        "live clients would lose their homes; write sticky = { size = 200000 }",
    );
    warning(
        &with_listener("limits = { connections = \"200k\" }"),
        "the sticky table of pool \"mqtt\" holds 100000 clients, and 200000 may be connected",
        "live clients",
    );
    warning(
        &with_pool("[[pool.backend]]\nname = \"x\"\naddr = \"10.0.0.1:1883\""),
        "two backends of pool \"mqtt\" have the address 10.0.0.1:1883, the first at t.toml:7:13",
        "a backend that counts double",
    );
    warning(
        &with_pool("balance = \"source\"\nsticky = { size = 5 }"),
        "pool \"mqtt\" has `sticky`, and its `balance` does not use it",
        "write balance = \"sticky\"",
    );
    warning(
        &with_pool("check = { interval = \"1s\", timeout = \"2s\" }"),
        "`check.timeout` (2s) is longer than `check.interval` (1s)",
        "checks of a hanging backend",
    );
    warning(
        &with_pool("check = { interval = \"1s\", fast_interval = \"2s\" }"),
        "`check.fast_interval` (2s) is longer than `check.interval` (1s)",
        "after a failure",
    );
    warning(
        &format!("[node]\nstate_dir = \"state\"\n{BASE}"),
        "`state_dir` is a relative path, \"state\"",
        "it counts from the folder",
    );
    let text = BASE.replace(
        "[\"10.0.0.1:1883\", \"10.0.0.2:1883\"]",
        "[{ addr = \"a:1\", weight = 0 }]",
    );
    warning(
        &text,
        "every backend of pool \"mqtt\" has weight 0",
        "no new client",
    );
    let text = text.replace("weight = 0", "disabled = true");
    warning(
        &text,
        "every backend of pool \"mqtt\" is disabled",
        "no client",
    );
    let text = format!("[limits]\ngreeting_memory = \"64k\"\n{BASE}");
    warning(
        &text,
        "`max_connect_packet` is 128k, more than `limits.greeting_memory` (64k)",
        "a CONNECT of that size",
    );
}

#[test]
fn a_check_of_the_pool_is_warned_of_once_for_all_backends() {
    let found = problems(&with_pool(
        "check = { interval = \"1s\", timeout = \"2s\" }",
    ));
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_table_of_the_smaller_limit_needs_no_warning() {
    let text = format!(
        "limits = {{ connections = \"200k\" }}\n{}",
        with_listener("limits = { connections = 20000 }")
    );
    assert_eq!(problems(&text), []);
}

#[test]
fn more_connections_than_descriptors_are_warned_of() {
    let wanted = config(&format!("limits = {{ connections = 1000 }}\n{BASE}"));
    assert_eq!(warn_limits(&wanted, 2064), []);
    let found = warn_limits(&wanted, 2063);
    let shown = "warning: `limits.connections` is 1000, and 2063 file descriptors hold 999 connections\n  \
                 help: raise the limit (LimitNOFILE=, ulimit -n) to 2064 or more";
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].to_string(), shown);
    let wanted = config(&with_listener("limits = { connections = 1000 }"));
    assert_eq!(
        warn_limits(&wanted, 1024)[0].path,
        "listener[0].limits.connections"
    );
}

#[test]
fn a_node_has_a_name_that_can_stand_in_logs() {
    let overrides = Overrides {
        node: Some("lb 1".into()),
        ..Overrides::default()
    };
    let found = load_sources(&Sources::of_text("t", BASE), &overrides).expect_err("an error");
    assert_eq!(
        found.0[0].message,
        "this node cannot be called \"lb 1\": a name has no ' '"
    );
}
