use std::sync::Mutex;

use tokio::task::JoinHandle;

use super::*;
use crate::config::{self, CheckKind};
use crate::health::state::Failure;
use crate::pool::Signal;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn check() -> Check {
    Check {
        kind: CheckKind::Tcp,
        interval: ms(2000),
        fast_interval: ms(100),
        timeout: ms(1000),
        rise: 2,
        fall: 3,
        port: None,
    }
}

fn settings(check: Option<Check>) -> Arc<Settings> {
    Arc::new(Settings {
        check,
        proxy: None,
        source: None,
        password: None,
    })
}

/// What checks find, and after how long.
type Script = (Duration, Outcome);

const HEALTHY: Script = (Duration::from_millis(1), Outcome::Passed);
const REFUSED: Script = (Duration::from_millis(1), Outcome::Failed(Failure::Dead));
const SILENT: Script = (Duration::from_millis(1000), Outcome::Failed(Failure::Dead));

struct Stage {
    backend: Arc<Backend>,
    events: Events,
    script: Arc<Mutex<Script>>,
    asked: Arc<Mutex<Vec<SocketAddr>>>,
    settings: watch::Sender<Arc<Settings>>,
    changes: mpsc::Receiver<Change>,
    driver: JoinHandle<()>,
}

fn stage(host: &str, of: Option<Check>) -> Stage {
    let config = config::Backend {
        name: "mq1".into(),
        host: host.into(),
        port: 1883,
        weight: 1,
        max_connections: None,
        backup: false,
        disabled: false,
        check: Some(check()),
    };
    let backend = Arc::new(Backend::new("mqtt".into(), config));
    let (settings, receiver) = watch::channel(settings(of));
    let (sender, changes) = mpsc::channel(64);
    let events = Events::default();
    let script = Arc::new(Mutex::new(HEALTHY));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let probe = {
        let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
        move |ask: Ask| {
            asked.lock().expect("nobody panicked").push(ask.traffic);
            let (took, outcome) = *script.lock().expect("nobody panicked");
            async move {
                tokio::time::sleep(took).await;
                Found {
                    outcome,
                    result: format!("{outcome:?}"),
                    status: None,
                    components: Vec::new(),
                    took,
                }
            }
        }
    };
    let driver = tokio::spawn(drive(
        Arc::clone(&backend),
        receiver,
        sender,
        events.clone(),
        probe,
    ));
    Stage {
        backend,
        events,
        script,
        asked,
        settings,
        changes,
        driver,
    }
}

impl Stage {
    fn now_it_is(&self, script: Script) {
        *self.script.lock().expect("nobody panicked") = script;
    }

    fn asked(&self) -> usize {
        self.asked.lock().expect("nobody panicked").len()
    }

    /// The next change, and how long it took to come.
    async fn change(&mut self) -> (Verdict, Verdict, Duration) {
        let from = Instant::now();
        let change = self.changes.recv().await.expect("the driver lives");
        assert_eq!(change.backend.verdict(), change.after);
        (change.before, change.after, from.elapsed())
    }

    async fn up(&mut self) {
        assert_eq!(self.change().await.1, Verdict::Up);
    }
}

#[tokio::test(start_paused = true)]
async fn killed_and_noticed_it_is_down_within_a_third_of_a_second() {
    for after in [1, 500, 1999] {
        let mut stage = stage("127.0.0.1", Some(check()));
        stage.up().await;
        tokio::time::sleep(ms(after)).await;
        stage.now_it_is(REFUSED);
        stage.backend.signal(Signal::Refused);
        let (before, verdict, took) = stage.change().await;
        assert_eq!((before, verdict), (Verdict::Up, Verdict::Dead));
        assert!(took <= ms(300), "{took:?}");
        let (events, _) = stage.events.recent_and_live(9);
        let last = events.last().expect("an event was noted");
        assert_eq!(
            (last.level.as_str(), last.subject.as_str()),
            ("notice", "mqtt/mq1")
        );
        assert_eq!(last.text, "mq1 is down: Failed(Dead) (3 failures in 0.2 s)");
        assert_eq!(stage.backend.report.lock().in_a_row, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn gone_and_noticed_it_is_down_within_one_and_a_half_seconds() {
    let mut stage = stage("127.0.0.1", Some(check()));
    stage.up().await;
    tokio::time::sleep(ms(700)).await;
    stage.now_it_is(SILENT);
    stage.backend.signal(Signal::Slow);
    let (_, verdict, took) = stage.change().await;
    assert_eq!(verdict, Verdict::Dead);
    assert!(took <= ms(1500), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn hung_and_noticed_by_nobody_it_is_down_within_four_seconds_and_up_again_after() {
    let mut stage = stage("127.0.0.1", Some(check()));
    stage.up().await;
    stage.now_it_is(SILENT);
    let (_, verdict, took) = stage.change().await;
    assert_eq!(verdict, Verdict::Dead);
    assert!(took <= ms(4000), "{took:?}");
    stage.now_it_is(HEALTHY);
    let (_, verdict, took) = stage.change().await;
    assert_eq!(verdict, Verdict::Up);
    assert!(took <= ms(2200), "{took:?}");
    assert!(stage.backend.came_up() > 0);
}

#[tokio::test(start_paused = true)]
async fn one_reset_alone_marks_nobody_down() {
    let mut stage = stage("127.0.0.1", Some(check()));
    stage.up().await;
    tokio::time::sleep(ms(1990)).await;
    let before = stage.asked();
    stage.backend.signal(Signal::Reset);
    tokio::time::sleep(ms(150)).await;
    assert_eq!(stage.asked() - before, 2, "two checks at once");
    tokio::time::sleep(ms(60_000)).await;
    assert!(stage.changes.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn maintenance_has_no_checks_and_its_end_starts_one_at_once() {
    let mut stage = stage("127.0.0.1", Some(check()));
    stage.up().await;
    stage.backend.set_admin(Admin::Disabled, "by hand");
    tokio::time::sleep(ms(1)).await;
    let before = stage.asked();
    tokio::time::sleep(ms(60_000)).await;
    stage.backend.signal(Signal::Refused);
    tokio::time::sleep(ms(1_000)).await;
    assert_eq!(stage.asked(), before);
    stage.now_it_is(REFUSED);
    stage.backend.set_admin(Admin::Active, "by hand");
    let (_, verdict, took) = stage.change().await;
    assert_eq!(verdict, Verdict::Dead);
    assert!(took <= ms(300), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a15_a_backend_without_address_is_checked_as_soon_as_it_has_one() {
    let mut stage = stage("mq1.example", Some(check()));
    tokio::time::sleep(ms(60_000)).await;
    assert_eq!(
        (stage.asked(), stage.backend.verdict()),
        (0, Verdict::Unknown)
    );
    let one: SocketAddr = "10.0.0.1:1883".parse().expect("an address");
    stage.backend.set_address(Some(one));
    let (before, after, took) = stage.change().await;
    assert_eq!((before, after), (Verdict::Unknown, Verdict::Up));
    assert!(took <= ms(10), "{took:?}");
    let other: SocketAddr = "10.0.0.2:1883".parse().expect("an address");
    stage.backend.set_address(Some(other));
    stage.backend.set_address(Some(other));
    tokio::time::sleep(ms(10)).await;
    let asked = stage.asked.lock().expect("nobody panicked").clone();
    assert_eq!(asked, [one, other], "the new one at once, and once");
}

#[tokio::test(start_paused = true)]
async fn without_a_check_it_is_up_for_good_and_a_check_can_come_and_go() {
    let mut stage = stage("127.0.0.1", None);
    stage.up().await;
    stage.now_it_is(REFUSED);
    stage.backend.signal(Signal::Refused);
    tokio::time::sleep(ms(10_000)).await;
    assert_eq!((stage.asked(), stage.backend.verdict()), (0, Verdict::Up));
    stage.settings.send_replace(settings(Some(check())));
    assert_eq!(stage.change().await.1, Verdict::Dead);
    stage.settings.send_replace(settings(None));
    let (before, after, _) = stage.change().await;
    assert_eq!((before, after), (Verdict::Dead, Verdict::Up));
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_the_verdict_and_an_equal_check_is_no_news() {
    let mut stage = stage("127.0.0.1", Some(check()));
    stage.up().await;
    tokio::time::sleep(ms(100)).await;
    let before = stage.asked();
    stage.settings.send_replace(settings(Some(check())));
    tokio::time::sleep(ms(1)).await;
    assert_eq!(stage.asked(), before);
    let other = Check {
        interval: ms(5000),
        ..check()
    };
    stage.settings.send_replace(settings(Some(other)));
    tokio::time::sleep(ms(1)).await;
    assert_eq!(stage.asked(), before + 1);
    assert!(stage.changes.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_the_backend_leaves_its_pool() {
    let stage = stage("127.0.0.1", Some(check()));
    drop(stage.settings);
    stage.driver.await.expect("it ends without a panic");
}

#[tokio::test]
async fn with_real_sockets_a_listener_that_closes_is_noticed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let at = listener
        .local_addr()
        .expect("a bound socket has an address");
    let mut stage = stage("127.0.0.1", Some(check()));
    stage.backend.set_address(Some(at));
    let (sender, mut changes) = mpsc::channel(8);
    let receiver = stage.settings.subscribe();
    stage.driver.abort();
    while stage.changes.recv().await.is_some() {}
    stage.backend.set_verdict(Verdict::Unknown, "test");
    tokio::spawn(watch(
        Arc::clone(&stage.backend),
        receiver,
        sender,
        stage.events.clone(),
    ));
    assert_eq!(
        changes.recv().await.map(|change| change.after),
        Some(Verdict::Up)
    );
    drop(listener);
    stage.backend.signal(Signal::Refused);
    let down = tokio::time::timeout(ms(1000), changes.recv()).await;
    let down = down
        .expect("it is noticed at once")
        .expect("the driver lives");
    assert_eq!(down.after, Verdict::Dead);
    let report = stage.backend.report.lock().clone();
    assert!(report.result == "connection refused", "{report:?}");
    assert_eq!((report.passed, report.failed_total), (false, 3));
}
