use std::io::{BufRead, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;

use super::*;
use crate::admin::client::{Client, ClientError};
use crate::admin::command::{
    Command, ConnectionFilter, EventQuery, ListEnd, MAX_REQUEST, Request, StickyQuery,
};
use crate::admin::house::RefusedKind;
use crate::admin::ledger::{Ledger, Scratch};
use crate::admin::view::{ConnectionRow, StickyRow, View};
use crate::events::{Event, Loudness};

const PATIENCE: Duration = Duration::from_secs(10);

fn socket(path: &Path, level: ControlLevel) -> ControlSocket {
    ControlSocket {
        socket: path.to_owned(),
        owner: None,
        group: None,
        mode: 0o600,
        level,
    }
}

/// Runs a blocking test body against a served ledger.
fn served(house: Ledger, level: ControlLevel, body: impl FnOnce(&Path, &Ledger) + Send + 'static) {
    let scratch = Scratch::new();
    let path = scratch.join("control.sock");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let house = Arc::new(house);
    runtime.block_on(async {
        let server = Server::new(Arc::clone(&house));
        server.apply(&[socket(&path, level)]).unwrap();
        let (at, house) = (path.clone(), Arc::clone(&house));
        tokio::task::spawn_blocking(move || body(&at, &house))
            .await
            .unwrap();
        server.close().await;
    });
    assert!(!path.exists(), "the socket's name outlived its server");
}

fn all(path: &Path, request: Request) -> Result<Vec<Answer>, ClientError> {
    let mut answers = Vec::new();
    Client::connect(path, PATIENCE)?.ask(request, |answer| {
        answers.push(answer);
        Ok(())
    })?;
    Ok(answers)
}

fn drain() -> Command {
    Command::Drain {
        backend: "mq1".into(),
        rate: Some(50.0),
        reason: Some(0x9d),
        force: false,
    }
}

#[test]
fn status_is_the_view_of_the_house() {
    let mut view = View::default();
    view.node.name = "lb1".into();
    let house = Ledger {
        view: view.clone(),
        ..Ledger::default()
    };
    served(house, ControlLevel::Read, move |path, _| {
        let answers = all(path, Request::Status).unwrap();
        let [Answer::View(shown)] = &answers[..] else {
            panic!("{answers:?}");
        };
        assert_eq!(**shown, view);
    });
}

#[test]
fn a_command_reaches_the_house_with_the_uid_that_gave_it() {
    served(Ledger::default(), ControlLevel::Admin, |path, house| {
        let answers = all(path, Request::Command(drain())).unwrap();
        assert!(matches!(&answers[..], [Answer::Done(done)] if done.node == "lb1"));
        let uid = rustix::process::getuid().as_raw();
        let by = format!("uid {uid} by control socket");
        assert_eq!(*house.told.lock(), [(drain(), by)]);
    });
}

#[test]
fn a_read_socket_refuses_changes_and_never_tells_the_house() {
    served(Ledger::default(), ControlLevel::Read, |path, house| {
        let refused = all(path, Request::Command(drain())).unwrap_err();
        let ClientError::Refused(refused) = refused else {
            panic!("{refused}");
        };
        assert_eq!(refused.kind, RefusedKind::Policy);
        assert!(refused.message.contains("read-only"), "{refused}");
        assert!(house.told.lock().is_empty());
        let dry = Request::Command(Command::Reload { dry_run: true });
        assert!(all(path, dry).is_ok(), "looking at a diff changes nothing");
    });
}

#[test]
fn what_the_house_refuses_arrives_as_it_was_said() {
    let no = Refused::policy("mq1 is the last backend of pool mqtt; use --force");
    let house = Ledger {
        refuses: Some(no.clone()),
        ..Ledger::default()
    };
    served(house, ControlLevel::Admin, move |path, _| {
        let refused = all(path, Request::Command(drain())).unwrap_err();
        assert!(matches!(refused, ClientError::Refused(said) if said == no));
    });
}

#[test]
fn one_connection_asks_many_times() {
    served(Ledger::default(), ControlLevel::Read, |path, _| {
        let mut client = Client::connect(path, PATIENCE).unwrap();
        for _ in 0..3 {
            let mut answers = 0;
            client
                .ask(Request::Status, |_| {
                    answers += 1;
                    Ok(())
                })
                .unwrap();
            assert_eq!(answers, 1);
        }
    });
}

#[test]
fn long_lists_come_in_pages_and_say_whether_there_is_more() {
    let house = Ledger {
        rows: (0..1234)
            .map(|n| ConnectionRow {
                client: Some(format!("dev-{n}")),
                ..ConnectionRow::default()
            })
            .collect(),
        ..Ledger::default()
    };
    served(house, ControlLevel::Read, |path, _| {
        let ask = |limit| {
            let filter = ConnectionFilter {
                limit,
                ..ConnectionFilter::default()
            };
            let mut pages = Vec::new();
            let mut end = None;
            for answer in all(path, Request::Connections(filter)).unwrap() {
                match answer {
                    Answer::Connections(rows) => pages.push(rows.len()),
                    Answer::End(last) => end = Some(last),
                    other => panic!("{other:?}"),
                }
            }
            (pages, end.unwrap())
        };
        assert_eq!(ask(None), (vec![500, 500, 234], ListEnd { more: false }));
        assert_eq!(
            ask(Some(1234)),
            (vec![500, 500, 234], ListEnd { more: false })
        );
        assert_eq!(ask(Some(10)), (vec![10], ListEnd { more: true }));
        assert_eq!(ask(Some(0)), (vec![], ListEnd { more: true }));
    });
}

#[test]
fn sticky_pages_are_asked_for_until_the_table_ends_or_enough_were_seen() {
    let house = Ledger {
        sticky: (0..8)
            .map(|n| StickyRow {
                id: n.to_string(),
                ..StickyRow::default()
            })
            .collect(),
        ..Ledger::default()
    };
    served(house, ControlLevel::Read, |path, _| {
        let ask = |limit| {
            let query = StickyQuery {
                limit,
                ..StickyQuery::default()
            };
            let mut ids = Vec::new();
            let mut more = None;
            for answer in all(path, Request::Sticky(query)).unwrap() {
                match answer {
                    Answer::Sticky(rows) => ids.extend(rows.into_iter().map(|row| row.id)),
                    Answer::End(end) => more = Some(end.more),
                    other => panic!("{other:?}"),
                }
            }
            (ids.join(""), more.unwrap())
        };
        assert_eq!(ask(None), ("01234567".into(), false));
        assert_eq!(ask(Some(4)), ("0123".into(), true));
        assert_eq!(ask(Some(8)), ("01234567".into(), false));
        let unknown = StickyQuery {
            pool: Some("ws".into()),
            ..StickyQuery::default()
        };
        assert!(matches!(
            all(path, Request::Sticky(unknown)),
            Err(ClientError::Refused(_))
        ));
    });
}

#[test]
fn a_follower_reads_what_was_and_then_what_happens() {
    let house = Ledger::default();
    house
        .events
        .note(Loudness::Notice, "backend", "mqtt/mq1", "is down", "");
    served(house, ControlLevel::Read, |path, house| {
        let mut client = Client::connect(path, PATIENCE).unwrap();
        let query = EventQuery {
            most: None,
            follow: true,
        };
        let mut seen: Vec<Event> = Vec::new();
        let stopped = client.ask(Request::Events(query), |answer| {
            let Answer::Events(events) = answer else {
                panic!("{answer:?}");
            };
            seen.extend(events);
            if seen.len() == 1 {
                house
                    .events
                    .note(Loudness::Notice, "backend", "mqtt/mq1", "is up", "");
                return Ok(());
            }
            Err(io::Error::other("seen enough"))
        });
        assert!(stopped.is_err());
        let texts: Vec<_> = seen.iter().map(|e| e.text.as_str()).collect();
        assert_eq!(texts, ["is down", "is up"]);
    });
}

#[test]
fn nonsense_is_answered_and_a_line_without_end_is_cut() {
    served(Ledger::default(), ControlLevel::Admin, |path, house| {
        let mut stream = StdStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut say = |bytes: &[u8]| {
            stream.write_all(bytes).unwrap();
            let mut line = String::new();
            std::io::BufReader::new(&stream)
                .read_line(&mut line)
                .unwrap();
            line
        };
        assert!(say(b"drain mq1\n").contains("not understood"));
        assert!(say(b"{\"v\":9,\"request\":\"status\"}\n").contains("version 1"));
        assert!(say(&vec![b'x'; MAX_REQUEST + 1]).contains("at most"));
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "it hangs up after that");
        assert!(house.told.lock().is_empty());
    });
}

#[test]
fn a_socket_has_its_mode_and_group_from_the_start() {
    let scratch = Scratch::new();
    let path = scratch.join("api.sock");
    let gid = rustix::process::getgid().as_raw();
    let config = ControlSocket {
        group: Some(gid.to_string()),
        mode: 0o660,
        ..socket(&path, ControlLevel::Admin)
    };
    let bound = bind(&config).unwrap();
    let file = std::fs::metadata(&path).unwrap();
    assert_eq!(file.permissions().mode() & 0o7777, 0o660);
    assert_eq!(file.gid(), gid);
    let left: Vec<_> = std::fs::read_dir(&scratch.0).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing but the socket: {left:?}");
    drop(bound);
    assert!(!path.exists());
}

#[test]
fn a_socket_that_nobody_answers_is_replaced_and_one_that_lives_is_not() {
    let scratch = Scratch::new();
    let path = scratch.join("control.sock");
    let config = socket(&path, ControlLevel::Admin);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a crashed daemon leaves its socket");
    let first = bind(&config).unwrap();
    assert!(matches!(bind(&config), Err(BindError::InUse { .. })));

    // Another daemon puts its own there: it must not be taken away by the first one's end.
    std::fs::remove_file(&path).unwrap();
    let second = bind(&config).unwrap();
    drop(first);
    assert!(path.exists());
    drop(second);

    std::fs::write(&path, "a file").unwrap();
    assert!(matches!(bind(&config), Err(BindError::NoSocket { .. })));
}

#[test]
fn names_that_do_not_exist_are_said_and_nothing_is_left_behind() {
    let scratch = Scratch::new();
    let path = scratch.join("control.sock");
    let config = ControlSocket {
        group: Some("no such group".into()),
        ..socket(&path, ControlLevel::Admin)
    };
    let e = bind(&config).unwrap_err();
    assert!(e.to_string().contains("no group \"no such group\""), "{e}");
    assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 0);
}

#[tokio::test]
async fn a_reload_opens_closes_and_changes_sockets_in_place() {
    let scratch = Scratch::new();
    let (a, b) = (scratch.join("a.sock"), scratch.join("b.sock"));
    let server = Server::new(Arc::new(Ledger::default()));
    server.apply(&[socket(&a, ControlLevel::Admin)]).unwrap();
    let before = std::fs::metadata(&a).unwrap().ino();

    let both = [
        socket(&a, ControlLevel::Read),
        socket(&b, ControlLevel::Admin),
    ];
    server.apply(&both).unwrap();
    assert_eq!(
        std::fs::metadata(&a).unwrap().ino(),
        before,
        "kept in place"
    );
    let at = a.clone();
    let refused = tokio::task::spawn_blocking(move || all(&at, Request::Command(drain())))
        .await
        .unwrap();
    assert!(matches!(refused, Err(ClientError::Refused(r)) if r.kind == RefusedKind::Policy));

    let wider = ControlSocket {
        mode: 0o666,
        ..socket(&b, ControlLevel::Admin)
    };
    server.apply(std::slice::from_ref(&wider)).unwrap();
    assert_eq!(
        std::fs::metadata(&b).unwrap().permissions().mode() & 0o777,
        0o666
    );
    let at = b.clone();
    let done = tokio::task::spawn_blocking(move || all(&at, Request::Command(drain())))
        .await
        .unwrap();
    assert!(done.is_ok(), "the new one answers");
    let deadline = std::time::Instant::now() + PATIENCE;
    while a.exists() {
        assert!(
            std::time::Instant::now() < deadline,
            "a.sock was not removed"
        );
        tokio::task::yield_now().await;
    }
    server.close().await;
    assert!(!b.exists());
}

#[test]
fn who_is_not_answered_learns_what_to_do() {
    let scratch = Scratch::new();
    let path = scratch.join("control.sock");
    let e = Client::connect(&path, PATIENCE).unwrap_err();
    assert!(matches!(e, ClientError::Unreachable { .. }));
    assert!(e.to_string().contains("standfast run"), "{e}");

    // Accepted by the kernel, answered by nobody.
    let _silent = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut client = Client::connect(&path, Duration::from_millis(50)).unwrap();
    let e = client.ask(Request::Status, |_| Ok(())).unwrap_err();
    assert!(matches!(e, ClientError::TimedOut { .. }), "{e}");
}
