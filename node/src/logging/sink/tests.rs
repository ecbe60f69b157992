use super::*;
use crate::admin::ledger::Scratch;
use std::time::UNIX_EPOCH;

fn entry(severity: u8, body: &str) -> Entry {
    let head = "2026-11-21T10:15:02.114Z notice ";
    Entry {
        at: UNIX_EPOCH + Duration::from_millis(1_795_256_102_114),
        severity,
        line: format!("{head}{body}"),
        body: head.len(),
    }
}

const LOCAL0: Facility = Facility(16);

fn received(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn syslog_over_udp_carries_facility_severity_host_and_tag() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let target = Target::SyslogUdp {
        host: "127.0.0.1".into(),
        port: server.local_addr().unwrap().port(),
    };
    let mut sink = Sink::open(target, Facility(19)).unwrap();
    sink.zone = TimeZone::UTC;
    assert_eq!(sink.write(&[entry(5, "kind=backend is down")]), 0);
    let mut bytes = [0; 9000];
    let n = server.recv(&mut bytes).unwrap();
    // local3 is 19, notice is 5.
    let expected = format!(
        "<157>Nov 21 10:15:02 {} standfast[{}]: kind=backend is down",
        host_name(),
        std::process::id()
    );
    assert_eq!(received(&bytes[..n]), expected);

    assert_eq!(sink.write(&[entry(6, &"ü".repeat(20_000))]), 0);
    let n = server.recv(&mut bytes).unwrap();
    assert!(n <= DATAGRAM, "a line that no receiver takes is cut: {n}");
    assert!(received(&bytes[..n]).ends_with('ü'));
}

#[test]
fn the_local_syslog_may_come_late_and_go_and_come_again() {
    let scratch = Scratch::new();
    let paths = Paths {
        syslog: scratch.join("log"),
        journal: scratch.join("journal"),
    };
    let listen = || {
        let socket = UnixDatagram::bind(scratch.join("log")).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        socket
    };
    let mut sink = Sink::open_at(Target::Syslog, LOCAL0, paths).unwrap();
    sink.zone = TimeZone::UTC;
    assert_eq!(
        sink.write(&[entry(3, "a"), entry(3, "b")]),
        2,
        "nobody is there"
    );

    let daemon = listen();
    sink.failed = None;
    assert_eq!(sink.write(&[entry(3, "c")]), 0);
    let mut bytes = [0; 9000];
    let n = daemon.recv(&mut bytes).unwrap();
    let pid = std::process::id();
    let expected = format!("<131>Nov 21 10:15:02 standfast[{pid}]: c");
    assert_eq!(received(&bytes[..n]), expected);

    drop(daemon);
    std::fs::remove_file(scratch.join("log")).unwrap();
    let daemon = listen();
    assert_eq!(sink.write(&[entry(3, "d")]), 0, "it is found again at once");
    let n = daemon.recv(&mut bytes).unwrap();
    assert!(received(&bytes[..n]).ends_with(" d"));
}

#[test]
fn the_journal_gets_its_fields() {
    let scratch = Scratch::new();
    let paths = Paths {
        syslog: scratch.join("log"),
        journal: scratch.join("journal"),
    };
    let journal = UnixDatagram::bind(&paths.journal).unwrap();
    journal
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut sink = Sink::open_at(Target::Journald, LOCAL0, paths).unwrap();
    assert_eq!(sink.write(&[entry(4, "kind=pool low")]), 0);
    let mut bytes = [0; 9000];
    let n = journal.recv(&mut bytes).unwrap();
    let expected = format!(
        "PRIORITY=4\nSYSLOG_FACILITY=16\nSYSLOG_IDENTIFIER=standfast\nSYSLOG_PID={}\nMESSAGE=kind=pool low\n",
        std::process::id()
    );
    assert_eq!(received(&bytes[..n]), expected);
}

#[test]
fn a_file_gets_whole_lines_and_is_let_go_of_when_rotated() {
    let scratch = Scratch::new();
    let path = scratch.join("program.log");
    let mut sink = Sink::open(Target::File(path.clone()), LOCAL0).unwrap();
    assert_eq!(sink.write(&[entry(6, "one"), entry(6, "two")]), 0);
    std::fs::rename(&path, scratch.join("program.log.1")).unwrap();
    sink.write(&[entry(6, "three")]);
    sink.reopen();
    sink.write(&[entry(6, "four")]);
    let read = |name: &str| std::fs::read_to_string(scratch.join(name)).unwrap();
    let head = "2026-11-21T10:15:02.114Z notice ";
    assert_eq!(
        read("program.log.1"),
        format!("{head}one\n{head}two\n{head}three\n")
    );
    assert_eq!(read("program.log"), format!("{head}four\n"));
}

#[test]
fn a_file_that_cannot_be_made_is_an_error_that_names_it() {
    let scratch = Scratch::new();
    let path = scratch.join("no").join("such");
    let e = Sink::open(Target::File(path.clone()), LOCAL0).unwrap_err();
    assert!(e.to_string().contains(path.to_str().unwrap()), "{e}");
}
