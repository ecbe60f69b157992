use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn found(v4: &[&str], v6: &[&str]) -> Found {
    Found {
        v4: Some(v4.iter().map(|text| ip(text)).collect()),
        v6: Some(v6.iter().map(|text| ip(text)).collect()),
        ttl: Some(Duration::from_secs(300)),
        ..Found::default()
    }
}

const EVERY: Duration = Duration::from_secs(10);

#[test]
fn the_first_is_taken_ipv4_before_ipv6_whatever_the_order_of_the_answers() {
    for answers in [["10.0.0.2", "10.0.0.1"], ["10.0.0.1", "10.0.0.2"]] {
        let mut core = Core::new(EVERY, Instant::now());
        let to = ip("10.0.0.1");
        let moved = core.handle(&found(&answers, &["fd00::1"]), Instant::now());
        assert_eq!(moved, Some(Moved { from: None, to }));
    }
}

#[test]
fn the_present_one_stays_while_it_is_among_the_answers() {
    let now = Instant::now();
    let mut core = Core::new(EVERY, now);
    core.recall(ip("10.0.0.2"));
    assert_eq!(
        core.handle(&found(&["10.0.0.1", "10.0.0.2"], &[]), now),
        None
    );
    let moved = core.handle(&found(&["10.0.0.3", "10.0.0.1"], &[]), now);
    let (from, to) = (Some(ip("10.0.0.2")), ip("10.0.0.1"));
    assert_eq!(moved, Some(Moved { from, to }));
}

#[test]
fn failures_and_empty_answers_keep_the_last_good_address() {
    let now = Instant::now();
    let mut core = Core::new(EVERY, now);
    core.recall(ip("10.0.0.2"));
    for nothing in [Found::default(), found(&[], &[])] {
        assert_eq!(core.handle(&nothing, now), None);
        assert_eq!(core.present(), Some(ip("10.0.0.2")));
    }
}

#[test]
fn an_unanswered_question_for_one_family_moves_nobody_to_the_other() {
    let now = Instant::now();
    let mut core = Core::new(EVERY, now);
    core.recall(ip("10.0.0.2"));
    let half = Found {
        v4: None,
        ..found(&[], &["fd00::1"])
    };
    assert_eq!(core.handle(&half, now), None);
    let moved = core.handle(&found(&[], &["fd00::1"]), now);
    assert_eq!(moved.map(|moved| moved.to), Some(ip("fd00::1")));
}

#[test]
fn the_next_look_up_comes_by_the_shorter_of_ttl_and_every_and_not_below_a_second() {
    let now = Instant::now();
    for (ttl, wait) in [(Some(0), 1), (Some(4), 4), (Some(86_400), 10), (None, 10)] {
        let mut core = Core::new(EVERY, now);
        let found = Found {
            ttl: ttl.map(Duration::from_secs),
            ..found(&["10.0.0.1"], &[])
        };
        let _ = core.handle(&found, now);
        assert_eq!(core.deadline() - now, Duration::from_secs(wait), "{ttl:?}");
    }
}

#[test]
fn a_name_without_any_address_is_asked_for_every_second() {
    let now = Instant::now();
    let mut core = Core::new(EVERY, now);
    assert_eq!(core.deadline(), now, "at once");
    let _ = core.handle(&Found::default(), now);
    assert_eq!(core.deadline() - now, SHORTEST);
    core.recall(ip("10.0.0.1"));
    let _ = core.handle(&Found::default(), now);
    assert_eq!(core.deadline() - now, EVERY);
}

#[test]
fn a_reload_can_bring_the_next_look_up_nearer() {
    let now = Instant::now();
    let mut core = Core::new(Duration::from_secs(600), now);
    let _ = core.handle(&found(&["10.0.0.1"], &[]), now);
    core.set_every(EVERY, now);
    assert_eq!(core.deadline() - now, EVERY);
}

proptest! {
    #[test]
    fn once_there_is_an_address_there_always_is_and_it_comes_from_an_answer(
        lookups in prop::collection::vec(
            (
                prop::option::of(prop::collection::vec(0_u8..4, 0..3)),
                prop::option::of(prop::collection::vec(0_u16..4, 0..3)),
                prop::option::of(0_u64..100),
            ),
            0..40,
        )
    ) {
        let mut now = Instant::now();
        let mut core = Core::new(EVERY, now);
        let mut before = None;
        for (v4, v6, ttl) in lookups {
            let found = Found {
                v4: v4.map(|v4| v4.into_iter().map(|n| IpAddr::from([10, 0, 0, n])).collect()),
                v6: v6.map(|v6| {
                    v6.into_iter().map(|n| IpAddr::from([0xFD00, 0, 0, 0, 0, 0, 0, n])).collect()
                }),
                ttl: ttl.map(Duration::from_secs),
                ..Found::default()
            };
            let moved = core.handle(&found, now);
            prop_assert_eq!(moved.is_some(), core.present() != before);
            match (before, core.present()) {
                (Some(_), None) => prop_assert!(false, "an address was lost"),
                (_, Some(present)) if moved.is_some() => prop_assert!(found.all().contains(&present)),
                _ => {}
            }
            before = core.present();
            let wait = core.deadline() - now;
            prop_assert!(wait >= SHORTEST && wait <= EVERY);
            now = core.deadline();
        }
    }
}
