use super::*;
use crate::admin::ledger::Scratch;
use crate::admin::view::ListenerView;
use crate::config::{Overrides, Sources, load_sources};

fn loaded(listener: &str, more: &str) -> Loaded {
    let text = format!(
        "{more}\n[[listener]]\nbind = \"{listener}\"\npool = \"mqtt\"\n\
         [[pool]]\nname = \"mqtt\"\nbackends = [\"127.0.0.1:1884\"]\n"
    );
    load_sources(&Sources::of_text("t.toml", text), &Overrides::default()).unwrap()
}

fn of_group<'a>(findings: &'a [Finding], group: &str) -> Vec<&'a Finding> {
    findings.iter().filter(|f| f.group == group).collect()
}

#[test]
fn a_port_that_somebody_holds_is_an_error_unless_it_is_the_daemon() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = held.local_addr().unwrap();
    let loaded = loaded(&addr.to_string(), "");
    let findings = examine(&loaded, None);
    let [finding] = of_group(&findings, "listeners")[..] else {
        panic!("{findings:?}");
    };
    assert_eq!(finding.mark, Mark::Error, "{finding:?}");
    assert_eq!(verdict(&findings, false), Exit::Failed);

    let mut view = View::default();
    view.listeners.push(ListenerView {
        bound: vec![addr],
        ..ListenerView::default()
    });
    let findings = examine(&loaded, Some(&view));
    assert_eq!(of_group(&findings, "listeners")[0].mark, Mark::Ok);

    drop(held);
    let findings = examine(&loaded, None);
    assert_eq!(of_group(&findings, "listeners")[0].mark, Mark::Ok);
}

#[test]
fn an_address_that_is_not_here_is_a_warning_because_it_may_come() {
    let findings = examine(&loaded("192.0.2.10:18830", ""), None);
    let finding = of_group(&findings, "listeners")[0];
    assert_eq!(finding.mark, Mark::Warning, "{finding:?}");
}

#[test]
fn directories_and_owners_are_looked_at() {
    let scratch = Scratch::new();
    let state = scratch.0.display();
    let more = format!(
        "[node]\nstate_dir = \"{state}\"\n[log]\naccess = \"{state}/no/access.log\"\n\
         [control]\nsocket = \"{state}/c.sock\"\ngroup = \"no-such-group\"\n"
    );
    let findings = examine(&loaded("127.0.0.1:0", &more), None);
    let files = of_group(&findings, "files");
    let marks: Vec<_> = files.iter().map(|f| f.mark).collect();
    assert_eq!(marks, [Mark::Ok, Mark::Warning, Mark::Error], "{files:?}");
    assert!(files[2].text.contains("no-such-group"));
}

#[test]
fn more_connections_than_descriptors_is_a_warning_with_the_number_to_set() {
    let config = loaded("127.0.0.1:0", "limits = { connections = 500 }").config;
    let of = |maximum| {
        let mut list = Findings(Vec::new());
        limits(&mut list, &config, maximum);
        list.0.remove(0)
    };
    let finding = of(Some(1024));
    assert_eq!(finding.mark, Mark::Warning, "{finding:?}");
    assert!(finding.hint.unwrap().contains("1064"));
    assert_eq!(of(Some(1064)).mark, Mark::Ok);
    assert_eq!(of(None).mark, Mark::Ok);
}

#[test]
fn another_configuration_in_force_is_told() {
    let loaded = loaded("127.0.0.1:0", "");
    let mut view = View::default();
    view.node.config.hash = "other".into();
    let findings = examine(&loaded, Some(&view));
    assert_eq!(of_group(&findings, "daemon")[0].mark, Mark::Warning);
    view.node.config.hash.clone_from(&loaded.hash);
    let findings = examine(&loaded, Some(&view));
    assert_eq!(of_group(&findings, "daemon")[0].mark, Mark::Ok);
}

#[test]
fn warnings_fail_only_when_strict_and_the_list_is_grouped() {
    let finding = |group, mark, hint: Option<&str>| Finding {
        group,
        mark,
        text: "text".into(),
        hint: hint.map(str::to_owned),
    };
    let fine = [finding("files", Mark::Ok, None)];
    let odd = [
        finding("files", Mark::Ok, None),
        finding("limits", Mark::Warning, Some("raise it")),
    ];
    assert_eq!(verdict(&fine, true), Exit::Done);
    assert_eq!(verdict(&odd, false), Exit::Done);
    assert_eq!(verdict(&odd, true), Exit::Failed);
    assert_eq!(
        text(&odd, Style::Plain),
        "files\n  √ text\n\nlimits\n  ‼ text\n      raise it\n\n0 errors, 1 warnings\n"
    );
}
