use std::net::Ipv4Addr;

use super::super::balance::Strategy;
use super::super::decision::{Moved, Why};
use super::super::facts::{CandidateState, Stickiness};
use super::*;
use crate::config::Key;

const NAMES: [&str; 3] = ["mq1", "mq2", "mq3"];
const EXPIRE: u64 = 1000;

fn policy(return_home: bool) -> Policy {
    let sticky = Stickiness {
        key: Key::ClientId,
        return_home,
        persistent_only: false,
    };
    Policy {
        strategy: Strategy::RoundRobin,
        sticky: Some(sticky),
        hasher: Hasher::new([1; 16]),
    }
}

fn router(return_home: bool) -> Router {
    Router::new(
        "mqtt".into(),
        policy(return_home),
        Arc::new(Table::new(1000, EXPIRE)),
        Hasher::new([2; 16]),
    )
}

fn backends() -> [Candidate<'static>; 3] {
    [0, 1, 2].map(|index| Candidate {
        index,
        name: NAMES[index],
        weight: 1,
        ramp: 1.0,
        connections: 0,
        max_connections: None,
        backup: false,
        state: CandidateState::Up,
        excluded: false,
    })
}

fn client(id: &str) -> Request<'_> {
    Request {
        client_id: Some(id.as_bytes()),
        client_ip: Ipv4Addr::LOCALHOST.into(),
        persistent: true,
    }
}

fn place(decision: Decision) -> (usize, Why) {
    match decision.outcome {
        Outcome::To { index, why } => (index, why),
        Outcome::Wait(reason) => panic!("waits: {reason:?}"),
    }
}

/// A client that connects, is accepted and leaves; where it was.
fn call(router: &Router, id: &str, backends: &[Candidate<'_>], now: u64) -> (usize, Why) {
    let (decision, claim) = router.route(&client(id), backends, now);
    if let Some(claim) = claim
        && router.accepted(claim, now)
    {
        router.ended(claim.id, now);
    }
    place(decision)
}

#[test]
fn one_client_fifty_times_is_one_backend_and_others_are_dealt() {
    let (router, backends) = (router(true), backends());
    let (first, why) = call(&router, "dev", &backends, 0);
    assert_eq!(why, Why::StickyNew);
    for now in 0..50 {
        call(&router, &format!("other-{now}"), &backends, now);
        assert_eq!(
            call(&router, "dev", &backends, now),
            (first, Why::StickyHit)
        );
    }
    let mut shares = [0; 3];
    (0..300).for_each(|n| shares[call(&router, &format!("new-{n}"), &backends, 50).0] += 1);
    assert_eq!(shares, [100, 100, 100]);
}

#[test]
fn two_connections_at_once_of_a_new_client_go_to_one_backend() {
    let (router, backends) = (router(true), backends());
    let (one, first) = router.route(&client("dev"), &backends, 0);
    let (two, second) = router.route(&client("dev"), &backends, 0);
    assert_eq!(place(one).0, place(two).0);
    router.abandoned(first.expect("a claim"));
    let second = second.expect("a claim");
    assert!(router.accepted(second, 0));
    assert_eq!(
        router
            .table()
            .lookup(second.id, 0)
            .map(|home| (home.provisional, home.live)),
        Some((false, 1))
    );
    assert_eq!(router.table().counts().proposals, 0);
}

#[test]
fn a_client_that_nobody_accepts_leaves_nothing_behind() {
    let (router, mut backends) = (router(true), backends());
    for tried in 0..3 {
        let (decision, claim) = router.route(&client("dev"), &backends, 0);
        assert_eq!(place(decision), (tried, Why::StickyNew));
        router.abandoned(claim.expect("a claim"));
        backends[tried].excluded = true;
    }
    let (decision, claim) = router.route(&client("dev"), &backends, 0);
    assert!(matches!(decision.outcome, Outcome::Wait(_)));
    assert_eq!(claim, None);
    let counts = router.table().counts();
    assert_eq!((counts.entries, counts.proposals), (0, 0));
}

#[test]
fn a_drained_home_is_left_and_found_again_after_maintenance() {
    let (router, mut backends) = (router(true), backends());
    let (home, _) = call(&router, "dev", &backends, 0);
    backends[home].state = CandidateState::Draining;
    let (away, why) = call(&router, "dev", &backends, 10);
    assert_ne!(away, home);
    assert_eq!(why, Why::StickyMoved(Moved::Draining));
    // It does not wander while it is away.
    for now in 11..20 {
        call(&router, &format!("other-{now}"), &backends, now);
        assert_eq!(call(&router, "dev", &backends, now).0, away);
    }
    backends[home].state = CandidateState::Up;
    assert_eq!(call(&router, "dev", &backends, 20), (home, Why::StickyHit));
}

#[test]
fn two_connections_at_once_of_a_client_away_go_to_one_backend() {
    let (router, mut backends) = (router(true), backends());
    let (home, _) = call(&router, "dev", &backends, 0);
    backends[home].state = CandidateState::Down;
    let (one, first) = router.route(&client("dev"), &backends, 1);
    let (two, second) = router.route(&client("dev"), &backends, 1);
    assert_eq!(place(one), place(two));
    assert!(
        router.accepted(first.expect("a claim"), 1) && router.accepted(second.expect("a claim"), 1)
    );
    assert_eq!(router.table().counts().proposals, 0);
}

#[test]
fn without_return_home_the_home_is_where_the_client_went() {
    let (router, mut backends) = (router(false), backends());
    let (home, _) = call(&router, "dev", &backends, 0);
    backends[home].state = CandidateState::Down;
    let (new, why) = call(&router, "dev", &backends, 1);
    assert_eq!(why, Why::StickyMoved(Moved::BackendDown));
    backends[home].state = CandidateState::Up;
    assert_eq!(call(&router, "dev", &backends, 2), (new, Why::StickyHit));
}

#[test]
fn explaining_changes_nothing_and_says_what_happens_next() {
    let (router, backends) = (router(true), backends());
    for n in 0..7 {
        let id = format!("dev-{n}");
        let told = router.explain(&client(&id), &backends, 0).0;
        assert_eq!(router.explain(&client(&id), &backends, 0).0, told);
        assert_eq!(
            router
                .table()
                .lookup(router.id(&client(&id)).expect("an id"), 0),
            None
        );
        assert_eq!(call(&router, &id, &backends, 0), place(told));
    }
}

#[test]
fn a_renewed_router_keeps_homes_and_turns() {
    let (old, backends) = (router(true), backends());
    let (home, _) = call(&old, "dev", &backends, 0);
    let new = old.renewed(policy(false));
    assert_eq!(call(&new, "dev", &backends, 1), (home, Why::StickyHit));
    assert_eq!(call(&new, "next", &backends, 1).0, home + 1);
}

#[test]
fn anonymous_clients_have_no_id_and_no_claim() {
    let (router, backends) = (router(true), backends());
    assert_eq!(router.id(&client("")), None);
    let (decision, claim) = router.route(&client(""), &backends, 0);
    assert_eq!((place(decision), claim), ((0, Why::RoundRobin), None));
}
