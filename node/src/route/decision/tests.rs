use std::net::Ipv4Addr;

use proptest::prelude::*;
use proptest::strategy::Strategy as Generate;

use super::super::balance::Strategy;
use super::*;
use crate::config::Key;
use standfast_gossip::sticky::Hasher;

const STICKY: Stickiness = Stickiness {
    key: Key::ClientId,
    return_home: true,
    persistent_only: false,
};

fn policy(sticky: Option<Stickiness>) -> Policy {
    Policy {
        strategy: Strategy::LeastConnections,
        sticky,
        hasher: Hasher::new([3; 16]),
    }
}

fn backend(index: usize, name: &str) -> Candidate<'_> {
    Candidate {
        index,
        name,
        weight: 1,
        ramp: 1.0,
        connections: 10 * index as u32,
        max_connections: None,
        backup: false,
        state: CandidateState::Up,
        excluded: false,
    }
}

/// mq1 has no connection, mq2 ten, mq3 twenty; indices are the caller's own.
fn three() -> [Candidate<'static>; 3] {
    ["mq1", "mq2", "mq3"].map(|name| {
        let at = usize::from(name.as_bytes()[2] - b'1');
        Candidate {
            index: at + 100,
            ..backend(at, name)
        }
    })
}

fn client() -> Request<'static> {
    Request {
        client_id: Some(b"dev"),
        client_ip: Ipv4Addr::LOCALHOST.into(),
        persistent: true,
    }
}

fn home(name: &str) -> HomeView<'_> {
    HomeView {
        name,
        away: None,
        age: 3 * 3_600_000,
        provisional: false,
        pinned: false,
    }
}

fn ask(sticky: Stickiness, candidates: &[Candidate<'_>], home: Option<HomeView<'_>>) -> Decision {
    decide(
        &policy(Some(sticky)),
        &client(),
        candidates,
        home,
        &mut Picker::default(),
        &mut NoTrace,
    )
}

fn goes(index: usize, why: Why, plan: Plan) -> Decision {
    Decision {
        outcome: Outcome::To { index, why },
        plan,
    }
}

#[test]
fn a_client_goes_home_also_to_a_backend_without_weight() {
    let mut candidates = three();
    assert_eq!(
        ask(STICKY, &candidates, Some(home("mq3"))),
        goes(102, Why::StickyHit, Plan::Stay)
    );
    candidates[2].weight = 0;
    assert_eq!(
        ask(STICKY, &candidates, Some(home("mq3"))),
        goes(102, Why::StickyHit, Plan::Stay)
    );
    candidates[2].state = CandidateState::Unknown;
    assert_eq!(
        ask(STICKY, &candidates, Some(home("mq3"))),
        goes(102, Why::StickyHit, Plan::Stay)
    );
}

#[test]
fn a_new_client_is_balanced_and_proposed() {
    assert_eq!(
        ask(STICKY, &three(), None),
        goes(100, Why::StickyNew, Plan::Propose)
    );
}

#[test]
fn who_comes_at_once_follows_who_is_on_the_way() {
    let mut candidates = three();
    let on_its_way = HomeView {
        provisional: true,
        ..home("mq3")
    };
    assert_eq!(
        ask(STICKY, &candidates, Some(on_its_way)),
        goes(102, Why::StickyNew, Plan::Propose)
    );
    candidates[2].excluded = true;
    assert_eq!(
        ask(STICKY, &candidates, Some(on_its_way)),
        goes(100, Why::StickyNew, Plan::Propose)
    );
    candidates[2].excluded = false;
    candidates[2].max_connections = Some(20);
    assert_eq!(
        ask(STICKY, &candidates, Some(on_its_way)),
        goes(100, Why::StickyNew, Plan::Propose)
    );
}

#[test]
fn a_home_that_cannot_be_used_is_kept_or_moves_as_configured() {
    type Change = fn(&mut Candidate<'_>);
    let table: [(Change, Moved); 6] = [
        (|home| home.state = CandidateState::Down, Moved::BackendDown),
        (
            |home| home.state = CandidateState::Draining,
            Moved::Draining,
        ),
        (
            |home| home.state = CandidateState::Disabled,
            Moved::Disabled,
        ),
        (
            |home| home.state = CandidateState::Unresolved,
            Moved::Unresolved,
        ),
        (|home| home.excluded = true, Moved::Refused),
        (
            |home| {
                home.excluded = true;
                home.max_connections = Some(0);
            },
            Moved::Full,
        ),
    ];
    for (change, reason) in table {
        let mut candidates = three();
        change(&mut candidates[0]);
        let why = Why::StickyMoved(reason);
        assert_eq!(
            ask(STICKY, &candidates, Some(home("mq1"))),
            goes(101, why, Plan::Keep)
        );
        let moving = Stickiness {
            return_home: false,
            ..STICKY
        };
        assert_eq!(
            ask(moving, &candidates, Some(home("mq1"))),
            goes(101, why, Plan::Move)
        );
        let pinned = HomeView {
            pinned: true,
            ..home("mq1")
        };
        assert_eq!(
            ask(moving, &candidates, Some(pinned)),
            goes(101, why, Plan::Keep)
        );
    }
}

#[test]
fn a_client_away_from_home_stays_where_it_is_while_that_lasts() {
    let mut candidates = three();
    candidates[0].state = CandidateState::Draining;
    let away = HomeView {
        away: Some("mq3"),
        ..home("mq1")
    };
    let why = Why::StickyMoved(Moved::Draining);
    assert_eq!(
        ask(STICKY, &candidates, Some(away)),
        goes(102, why, Plan::Keep)
    );
    candidates[2].state = CandidateState::Down;
    assert_eq!(
        ask(STICKY, &candidates, Some(away)),
        goes(101, why, Plan::Keep)
    );
    candidates[0].state = CandidateState::Up;
    assert_eq!(
        ask(STICKY, &candidates, Some(away)),
        goes(100, Why::StickyHit, Plan::Stay)
    );
}

#[test]
fn a_home_that_is_full_is_waited_for() {
    let mut candidates = three();
    candidates[1].max_connections = Some(10);
    let decision = ask(STICKY, &candidates, Some(home("mq2")));
    assert_eq!(
        decision,
        Decision {
            outcome: Outcome::Wait(Wait::HomeFull),
            plan: Plan::None
        }
    );
    candidates[1].max_connections = Some(11);
    assert_eq!(
        ask(STICKY, &candidates, Some(home("mq2"))),
        goes(101, Why::StickyHit, Plan::Stay)
    );
}

#[test]
fn a_home_out_of_the_configuration_moves_in_any_case() {
    let why = Why::StickyMoved(Moved::Removed);
    assert_eq!(
        ask(STICKY, &three(), Some(home("mq9"))),
        goes(100, why, Plan::Move)
    );
}

#[test]
fn a_backup_is_a_home_only_while_no_other_serves() {
    let mut candidates = three();
    candidates[2].backup = true;
    let why = Why::StickyMoved(Moved::Backup);
    assert_eq!(
        ask(STICKY, &candidates, Some(home("mq3"))),
        goes(100, why, Plan::Move)
    );
    let pinned = HomeView {
        pinned: true,
        ..home("mq3")
    };
    assert_eq!(
        ask(STICKY, &candidates, Some(pinned)),
        goes(102, Why::Forced, Plan::Stay)
    );
    candidates[0].state = CandidateState::Down;
    candidates[1].state = CandidateState::Down;
    assert_eq!(
        ask(STICKY, &candidates, Some(home("mq3"))),
        goes(102, Why::StickyHit, Plan::Stay)
    );
    let why = Why::StickyMoved(Moved::BackendDown);
    assert_eq!(
        ask(STICKY, &candidates, Some(home("mq1"))),
        goes(102, why, Plan::Keep)
    );
}

#[test]
fn anonymous_clients_are_balanced_and_leave_no_entry() {
    for client_id in [None, Some(&b""[..])] {
        let request = Request {
            client_id,
            ..client()
        };
        let decision = decide(
            &policy(Some(STICKY)),
            &request,
            &three(),
            None,
            &mut Picker::default(),
            &mut NoTrace,
        );
        assert_eq!(decision, goes(100, Why::Least, Plan::None));
    }
    let by_ip = Stickiness {
        key: Key::ClientIp,
        ..STICKY
    };
    let request = Request {
        client_id: None,
        ..client()
    };
    let decision = decide(
        &policy(Some(by_ip)),
        &request,
        &three(),
        None,
        &mut Picker::default(),
        &mut NoTrace,
    );
    assert_eq!(decision, goes(100, Why::StickyNew, Plan::Propose));
}

#[test]
fn with_persistent_only_other_sessions_make_and_move_no_entry() {
    let sticky = Stickiness {
        persistent_only: true,
        return_home: false,
        ..STICKY
    };
    let request = Request {
        persistent: false,
        ..client()
    };
    let ask = |candidates: &[Candidate<'_>], home| {
        decide(
            &policy(Some(sticky)),
            &request,
            candidates,
            home,
            &mut Picker::default(),
            &mut NoTrace,
        )
    };
    let mut candidates = three();
    assert_eq!(ask(&candidates, None), goes(100, Why::Least, Plan::None));
    // Its old session is there, and must end there.
    assert_eq!(
        ask(&candidates, Some(home("mq2"))),
        goes(101, Why::StickyHit, Plan::Stay)
    );
    candidates[1].state = CandidateState::Down;
    let why = Why::StickyMoved(Moved::BackendDown);
    assert_eq!(
        ask(&candidates, Some(home("mq2"))),
        goes(100, why, Plan::Keep)
    );
    let persistent = decide(
        &policy(Some(sticky)),
        &client(),
        &candidates,
        None,
        &mut Picker::default(),
        &mut NoTrace,
    );
    assert_eq!(persistent, goes(100, Why::StickyNew, Plan::Propose));
}

#[test]
fn other_strategies_leave_the_table_alone() {
    let decision = decide(
        &policy(None),
        &client(),
        &three(),
        Some(home("mq3")),
        &mut Picker::default(),
        &mut NoTrace,
    );
    assert_eq!(decision, goes(100, Why::Least, Plan::None));
}

#[test]
fn a_homeless_client_waits_when_nobody_can_have_it_and_so_does_one_whose_home_is_down() {
    let mut candidates = three();
    candidates
        .iter_mut()
        .for_each(|candidate| candidate.state = CandidateState::Down);
    for home in [None, Some(home("mq1")), Some(home("mq9"))] {
        let decision = ask(STICKY, &candidates, home);
        assert_eq!(
            decision,
            Decision {
                outcome: Outcome::Wait(Wait::NoneUp),
                plan: Plan::None
            }
        );
    }
}

#[test]
fn the_steps_of_a_drain_read_as_an_operator_would_tell_it() {
    let mut candidates = three();
    candidates[0].state = CandidateState::Draining;
    candidates[1].connections = 12;
    (candidates[2].connections, candidates[2].weight) = (10, 2);
    let (decision, steps) = explain(
        &policy(Some(STICKY)),
        &client(),
        &candidates,
        Some(home("mq1")),
        &Picker::default(),
    );
    assert_eq!(
        decision,
        goes(102, Why::StickyMoved(Moved::Draining), Plan::Keep)
    );
    let lines: Vec<_> = steps
        .iter()
        .map(|step| format!("{}: {}", step.rule, step.text))
        .collect();
    assert_eq!(
        lines,
        [
            "sticky: the entry says mq1 (since 3h)",
            "home: mq1 is draining: looking elsewhere, home kept",
            "candidates: left out: mq1 (draining)",
            "balance: least-connections among mq2 (12/w1), mq3 (10/w2) → mq3",
        ]
    );
}

#[test]
fn labels_are_distinct_and_bounded() {
    let labels: std::collections::HashSet<_> = Why::ALL.iter().map(|why| why.as_str()).collect();
    assert_eq!(labels.len(), Why::ALL.len());
    assert_eq!(
        Why::StickyMoved(Moved::BackendDown).as_str(),
        "sticky-moved(backend-down)"
    );
}

#[test]
fn ages_are_short() {
    let ages =
        [0, 59_999, 60_000, 3_599_999, 3_600_000, 86_400_000 * 3].map(|ms| Age(ms).to_string());
    assert_eq!(ages, ["0s", "59s", "1m", "59m", "1h", "3d"]);
}

const NAMES: [&str; 5] = ["mq0", "mq1", "mq2", "mq3", "mq4"];

fn states() -> impl Generate<Value = CandidateState> {
    use CandidateState::*;
    prop::sample::select(vec![
        Up, Up, Up, Unresolved, Down, Draining, Disabled, Unknown,
    ])
}

fn some_candidates() -> impl Generate<Value = Vec<Candidate<'static>>> {
    let one = (
        0..4u32,
        0..=4u8,
        0..8u32,
        prop::option::of(0..8u32),
        any::<bool>(),
        states(),
        any::<bool>(),
    );
    proptest::collection::vec(one, 0..NAMES.len()).prop_map(|all| {
        let build =
            |(at, (weight, ramp, connections, max_connections, backup, state, excluded))| {
                Candidate {
                    index: at + 7,
                    name: NAMES[at],
                    weight,
                    ramp: f32::from(ramp) / 4.0,
                    connections,
                    max_connections,
                    backup,
                    state,
                    excluded,
                }
            };
        all.into_iter().enumerate().map(build).collect()
    })
}

fn strategies() -> impl Generate<Value = Strategy> {
    prop::sample::select(vec![
        Strategy::RoundRobin,
        Strategy::LeastConnections,
        Strategy::Source,
        Strategy::ConsistentHash(Key::ClientId),
        Strategy::ConsistentHash(Key::ClientIp),
    ])
}

fn homes() -> impl Generate<Value = Option<HomeView<'static>>> {
    let name = || prop::sample::select(NAMES.to_vec());
    let home = (
        name(),
        prop::option::of(name()),
        any::<bool>(),
        any::<bool>(),
    );
    prop::option::of(home.prop_map(|(name, away, provisional, pinned)| HomeView {
        name,
        away,
        age: 0,
        provisional,
        pinned: pinned && !provisional,
    }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_is_decided_the_backend_can_be_used_and_explain_says_the_same(
        candidates in some_candidates(),
        home in homes(),
        strategy in strategies(),
        sticky in prop::option::of((any::<bool>(), any::<bool>())),
        persistent in any::<bool>(),
        anonymous in any::<bool>(),
        warm in 0..5usize,
    ) {
        let sticky = sticky.map(|(return_home, persistent_only)| Stickiness { return_home, persistent_only, ..STICKY });
        let policy = Policy { strategy, sticky, hasher: Hasher::new([3; 16]) };
        let request = Request { client_id: (!anonymous).then_some(b"dev"), persistent, ..client() };
        let mut picker = Picker::default();
        for _ in 0..warm {
            let _ = decide(&policy, &request, &candidates, None, &mut picker, &mut NoTrace);
        }
        let (told, steps) = explain(&policy, &request, &candidates, home, &picker);
        let decision = decide(&policy, &request, &candidates, home, &mut picker, &mut NoTrace);
        prop_assert_eq!(told, decision);
        prop_assert!(!steps.is_empty());

        let primary = candidates.iter().any(|c| !c.backup && c.weight > 0 && c.state.is_usable());
        match decision.outcome {
            Outcome::To { index, why } => {
                let chosen = candidates.iter().find(|c| c.index == index).expect("one of them");
                prop_assert!(chosen.state.is_usable() && !chosen.excluded && !chosen.is_full());
                let stuck = home.filter(|_| sticky.is_some() && !anonymous).is_some_and(|home| {
                    home.name == chosen.name || home.away == Some(chosen.name)
                });
                prop_assert!(chosen.weight > 0 || stuck);
                prop_assert!(!chosen.backup || !primary || why == Why::Forced);
                prop_assert_eq!(decision.plan == Plan::Stay, matches!(why, Why::StickyHit | Why::Forced));
                if sticky.is_none() || anonymous {
                    prop_assert_eq!(decision.plan, Plan::None);
                }
                let last = steps.last().expect("not empty");
                prop_assert!(last.text.contains(chosen.name), "{:?}", last);
            }
            Outcome::Wait(Wait::HomeFull) => {
                let home = home.expect("a home that is full");
                let full = candidates.iter().find(|c| c.name == home.name).expect("it is known");
                prop_assert!(full.is_full() && !full.excluded && !home.provisional);
            }
            Outcome::Wait(_) => {
                let open = |c: &Candidate<'_>| {
                    c.state.is_usable() && c.weight > 0 && !c.excluded && !c.is_full() && c.backup != primary
                };
                prop_assert!(!candidates.iter().any(open), "somebody could have served");
            }
        }
    }
}
