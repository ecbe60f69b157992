use clap::Parser;

use super::*;
use crate::admin::client::ClientError;
use crate::admin::command::{Command, StickyClear};
use crate::admin::house::{Refused, RefusedKind};
use crate::admin::ledger::{Ledger, Scratch};
use crate::admin::server::Server;
use crate::admin::view::{BackendView, ConnectionRow, Done, Explanation, PoolView, View};
use crate::config::{ControlLevel, ControlSocket};
use std::sync::Arc;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

fn command(line: &str) -> Command {
    change::command_of(&parse(line).unwrap().verb).unwrap()
}

#[test]
fn the_command_line_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn no_verb_prints_help_and_is_a_usage_error() {
    let e = parse("standfast").unwrap_err();
    assert_eq!(e.exit_code(), Exit::Usage as i32);
    let help = e.to_string();
    for verb in [
        "run",
        "check",
        "status",
        "drain",
        "sticky",
        "events",
        "Exit codes",
    ] {
        assert!(help.contains(verb), "{verb} is not in:\n{help}");
    }
    assert_eq!(parse("standfast dance").unwrap_err().exit_code(), 2);
    assert_eq!(parse("standfast --version").unwrap_err().exit_code(), 0);
}

#[test]
fn every_verb_is_explained() {
    fn each(command: &clap::Command) {
        for sub in command.get_subcommands() {
            assert!(sub.get_about().is_some(), "{} has no help", sub.get_name());
            for arg in sub.get_arguments().filter(|arg| arg.get_id() != "help") {
                assert!(
                    arg.get_help().is_some(),
                    "{} {}",
                    sub.get_name(),
                    arg.get_id()
                );
            }
            each(sub);
        }
    }
    each(&Cli::command());
}

#[test]
fn global_options_stand_before_or_after_the_verb() {
    let before = parse("standfast --json --socket /a status").unwrap();
    let after = parse("standfast status --json --socket /a").unwrap();
    for cli in [before, after] {
        assert!(cli.global.json);
        assert_eq!(cli.global.socket.as_deref(), Some("/a".as_ref()));
    }
}

#[test]
fn verbs_become_commands() {
    assert_eq!(
        command("standfast drain mqtt/mq1 --rate 50/s --reason 0x9d --force"),
        Command::Drain {
            backend: "mqtt/mq1".into(),
            rate: Some(50.0),
            reason: Some(0x9d),
            force: true
        }
    );
    assert_eq!(
        command("standfast weight mq1 0"),
        Command::Weight {
            backend: "mq1".into(),
            weight: 0
        }
    );
    assert_eq!(
        command("standfast sticky clear --backend mq1 --pool mqtt"),
        Command::StickyClear {
            pool: Some("mqtt".into()),
            what: StickyClear::Backend("mq1".into())
        }
    );
    assert_eq!(
        command("standfast sticky clear --all"),
        Command::StickyClear {
            pool: None,
            what: StickyClear::All
        }
    );
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for line in [
        "standfast weight mq1 257",
        "standfast weight mq1 -1",
        "standfast drain",
        "standfast drain mq1 --rate 0",
        "standfast drain mq1 --rate fast",
        "standfast drain mq1 --rate inf",
        "standfast drain mq1 --rate 5 --reason 0x10",
        "standfast drain mq1 --reason 0x9d",
        "standfast sticky clear",
        "standfast sticky clear --all --client a",
        "standfast connections --ip somewhere",
        "standfast completion tcsh",
    ] {
        let e = parse(line).expect_err(line);
        assert_eq!(e.exit_code(), Exit::Usage as i32, "{line}");
    }
    assert_eq!(parse_reason("server-moved"), Ok(0x9d));
    assert_eq!(parse_reason("157"), Ok(0x9d));
    assert!(parse_reason("moved").unwrap_err().contains("server-moved"));
}

#[test]
fn each_way_to_fail_has_its_number() {
    let refused = |kind| ClientError::Refused(Refused::new(kind, "no"));
    let path = PathBuf::from("/run/x");
    let cases = [
        (refused(RefusedKind::NotFound), 1),
        (refused(RefusedKind::Failed), 1),
        (refused(RefusedKind::Invalid), 2),
        (refused(RefusedKind::Policy), 5),
        (refused(RefusedKind::TimedOut), 6),
        (
            ClientError::Unreachable {
                path: path.clone(),
                why: String::new(),
            },
            4,
        ),
        (ClientError::NotPermitted { path: path.clone() }, 77),
        (ClientError::TimedOut { path, seconds: 30 }, 6),
    ];
    for (error, number) in cases {
        let text = error.to_string();
        assert_eq!(Failure::from(error).exit as u8, number, "{text}");
    }
}

#[test]
fn the_socket_is_found_in_a_file_with_problems_elsewhere() {
    let text = "[control]\nsocket = \"/run/a.sock\"\n[[listener]]\nbnid = 1\n";
    assert_eq!(ask::socket_in(text), Some("/run/a.sock".into()));
    let text = "[[control]]\nsocket = \"/run/b.sock\"\n[[control]]\nsocket = \"/run/c.sock\"\n";
    assert_eq!(ask::socket_in(text), Some("/run/b.sock".into()));
    assert_eq!(ask::socket_in("[log]\nlevel = \"info\"\n"), None);
}

#[test]
fn a_change_says_what_where_and_how_to_undo_it() {
    let done = Done {
        node: "lb1".into(),
        changed: vec!["mqtt/mq1 is draining".into()],
        undo: Some("standfast undrain mqtt/mq1".into()),
        warnings: Vec::new(),
    };
    assert_eq!(
        change::done_text(&done),
        "lb1: mqtt/mq1 is draining\nundo: standfast undrain mqtt/mq1\n"
    );
    let nothing = Done {
        node: "lb1".into(),
        ..Done::default()
    };
    assert_eq!(
        change::done_text(&nothing),
        "lb1: it is so already, nothing was changed\n"
    );
}

#[test]
fn a_question_says_how_many_connections_it_is_about() {
    let mut view = View::default();
    view.node.name = "lb1".into();
    view.pools.push(PoolView {
        name: "mqtt".into(),
        backends: vec![BackendView {
            name: "mq1".into(),
            connections: 1204,
            ..BackendView::default()
        }],
        ..PoolView::default()
    });
    let drain = command("standfast drain mq1 --rate 50/s");
    assert_eq!(
        change::question(&drain, &view),
        "On lb1, the 1,204 connections of mq1 will be moved, 50 a second."
    );
    let clear = command("standfast sticky clear --all --pool mqtt");
    assert_eq!(
        change::question(&clear, &view),
        "On lb1, all homes in pool mqtt will be forgotten."
    );
}

#[test]
fn an_explanation_is_a_numbered_list() {
    let one = Explanation {
        node: "lb1".into(),
        pool: "mqtt".into(),
        client: "dev 1".into(),
        backend: Some("mq1".into()),
        why: "sticky-hit".into(),
        steps: vec!["its home is mq1".into(), "mq1 is up".into()],
    };
    assert_eq!(
        lists::explanation(&one),
        "\"dev 1\" in pool mqtt on lb1 → mq1  (sticky-hit)\n  1. its home is mq1\n  2. mq1 is up\n"
    );
}

/// Runs a verb, and answers its exit code and what it printed.
fn run(line: &str) -> (Exit, String) {
    let cli = parse(line).unwrap();
    let page = Page::default();
    let mut out = Out::to(cli.global.json, page.clone());
    let exit = run_to(&cli.global, &cli.verb, &mut out);
    let text = String::from_utf8(page.0.lock().clone()).unwrap();
    (exit, text)
}

/// What a command prints on.
#[derive(Clone, Default)]
struct Page(Arc<parking_lot::Mutex<Vec<u8>>>);

impl std::io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs verbs against a served ledger; answers their exit codes and what they printed, and what the house was told.
fn served(
    house: Ledger,
    level: ControlLevel,
    lines: &[&str],
) -> (Vec<(Exit, String)>, Vec<Command>) {
    let scratch = Scratch::new();
    let path = scratch.join("control.sock");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let house = Arc::new(house);
    let server = Server::new(Arc::clone(&house));
    let config = ControlSocket {
        socket: path.clone(),
        owner: None,
        group: None,
        mode: 0o600,
        level,
    };
    runtime.block_on(async { server.apply(&[config]).unwrap() });
    let at = |line: &&str| run(&format!("standfast --socket {} {line}", path.display()));
    let outcomes = lines.iter().map(at).collect();
    runtime.block_on(server.close());
    let told = house.told.lock().iter().map(|(c, _)| c.clone()).collect();
    (outcomes, told)
}

#[test]
fn verbs_end_with_the_number_that_fits() {
    let lines = [
        "status",
        "status --json",
        "connections",
        "sticky list",
        "sticky list --pool ws",
        "sticky show nobody",
        "explain dev-1",
        "events --json",
        "drain mq1",
        "disable mq1 --yes",
        "reload",
        "healthcheck",
        "healthcheck --pool nosuch",
        "version",
        "completion bash",
    ];
    let (outcomes, told) = served(Ledger::default(), ControlLevel::Admin, &lines);
    let exits: Vec<_> = outcomes.iter().map(|(exit, _)| *exit).collect();
    use Exit::{Done, Failed};
    assert_eq!(
        exits,
        [
            Done, Done, Done, Done, Failed, Failed, Done, Done, Done, Done, Done, Done, Failed,
            Done, Done
        ]
    );
    assert_eq!(told.len(), 4, "drain, disable, reload twice: {told:?}");
    assert_eq!(
        told[2..],
        [
            Command::Reload { dry_run: true },
            Command::Reload { dry_run: false }
        ]
    );
}

#[test]
fn a_read_socket_ends_changes_with_5_and_answers_questions() {
    let lines = ["drain mq1", "status", "reload --dry-run", "reload"];
    let (outcomes, told) = served(Ledger::default(), ControlLevel::Read, &lines);
    let exits: Vec<_> = outcomes.iter().map(|(exit, _)| *exit).collect();
    assert_eq!(
        exits,
        [Exit::Refused, Exit::Done, Exit::Done, Exit::Refused]
    );
    assert!(
        told.iter()
            .all(|c| matches!(c, Command::Reload { dry_run: true }))
    );
}

#[test]
fn without_a_daemon_verbs_end_with_4_and_healthcheck_with_1() {
    let scratch = Scratch::new();
    let socket = scratch.join("none.sock");
    let at = |verb: &str| run(&format!("standfast {verb} --socket {}", socket.display()));
    assert_eq!(at("status").0, Exit::Unreachable);
    assert_eq!(at("healthcheck").0, Exit::Failed);
    let (exit, text) = at("drain mq1 --json");
    assert_eq!(exit, Exit::Unreachable);
    let error: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(error["exit"], 4);
}

#[test]
fn config_and_check_end_with_2_where_the_file_is_broken() {
    let scratch = Scratch::new();
    let file = scratch.join("standfast.toml");
    let at = |verb: &str| {
        let file = file.display();
        run(&format!("standfast {verb} --config {file} --socket /none")).0
    };
    assert_eq!(at("config show"), Exit::Usage, "no file");
    std::fs::write(&file, "[[listener]]\nbnid = \":1883\"\n").unwrap();
    assert_eq!(at("check"), Exit::Usage);
    assert_eq!(at("config show --effective"), Exit::Usage);
    let good = "[[listener]]\nbind = \"127.0.0.1:0\"\npool = \"mqtt\"\n\
                [[pool]]\nname = \"mqtt\"\nbackends = [\"127.0.0.1:1884\"]\n";
    std::fs::write(&file, good).unwrap();
    assert_eq!(at("config show"), Exit::Done);
    assert_eq!(at("config show --effective --json"), Exit::Done);
}

#[test]
fn every_read_verb_prints_one_json_document() {
    let mut house = Ledger::default();
    house.view.node.name = "lb1".into();
    house.rows = (0..700)
        .map(|n| ConnectionRow {
            client: Some(format!("dev-{n}\n")),
            ..ConnectionRow::default()
        })
        .collect();
    let lines = [
        "status",
        "connections --limit 0",
        "connections --client dev-69*",
        "sticky list",
        "explain dev-1",
        "events",
        "healthcheck",
        "version",
    ];
    let json: Vec<_> = lines.iter().map(|line| format!("{line} --json")).collect();
    let json: Vec<_> = json.iter().map(String::as_str).collect();
    let (outcomes, _) = served(house, ControlLevel::Read, &json);
    let parsed: Vec<serde_json::Value> = outcomes
        .iter()
        .zip(lines)
        .map(|((_, text), line)| serde_json::from_str(text).expect(line))
        .collect();
    assert_eq!(parsed[0]["node"]["name"], "lb1");
    assert_eq!(parsed[1].as_array().unwrap().len(), 700);
    let some = parsed[2].as_array().unwrap().len();
    assert_eq!(some, 11, "69, and 690 to 699");
    assert_eq!(parsed[3], serde_json::json!([]));
    assert_eq!(parsed[4][0]["backend"], "mq1");
    assert_eq!(parsed[7]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_client_id_cannot_play_with_the_terminal() {
    let house = Ledger {
        rows: vec![ConnectionRow {
            client: Some("\u{1b}[2Jevil\n".into()),
            ..ConnectionRow::default()
        }],
        ..Ledger::default()
    };
    let (outcomes, _) = served(house, ControlLevel::Read, &["connections"]);
    let text = &outcomes[0].1;
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(!text.contains('\u{1b}') && text.contains("evil"), "{text}");
}
