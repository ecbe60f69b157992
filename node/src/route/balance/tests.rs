use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::super::decision::NoTrace;
use super::Strategy;
use super::*;

fn backend(index: usize, name: &str) -> Candidate<'_> {
    Candidate {
        index,
        name,
        weight: 1,
        ramp: 1.0,
        connections: 0,
        max_connections: None,
        backup: false,
        state: CandidateState::Up,
        excluded: false,
    }
}

fn three() -> Vec<Candidate<'static>> {
    ["mq1", "mq2", "mq3"]
        .into_iter()
        .enumerate()
        .map(|(index, name)| backend(index, name))
        .collect()
}

fn weighted(weights: [u32; 3]) -> Vec<Candidate<'static>> {
    three()
        .into_iter()
        .zip(weights)
        .map(|(candidate, weight)| Candidate {
            weight,
            ..candidate
        })
        .collect()
}

fn client(id: &str) -> Request<'_> {
    Request {
        client_id: Some(id.as_bytes()),
        client_ip: Ipv4Addr::new(10, 0, 0, 1).into(),
        persistent: true,
    }
}

fn from(ip: IpAddr) -> Request<'static> {
    Request {
        client_id: None,
        client_ip: ip,
        persistent: true,
    }
}

fn hasher() -> Hasher {
    Hasher::new([3; 16])
}

fn go(
    strategy: Strategy,
    request: &Request<'_>,
    candidates: &[Candidate<'_>],
    picker: &mut Picker,
) -> Result<(usize, Why), Wait> {
    choose(
        strategy,
        &hasher(),
        request,
        candidates,
        picker,
        &mut NoTrace,
    )
}

fn turns(candidates: &[Candidate<'_>], picker: &mut Picker, n: usize) -> Vec<usize> {
    (0..n)
        .map(|_| {
            go(Strategy::RoundRobin, &client("x"), candidates, picker)
                .expect("someone is up")
                .0
        })
        .collect()
}

fn shares(chosen: &[usize]) -> [usize; 3] {
    [0, 1, 2].map(|backend| chosen.iter().filter(|&&at| at == backend).count())
}

fn longest_run(chosen: &[usize]) -> usize {
    chosen
        .chunk_by(|a, b| a == b)
        .map(<[_]>::len)
        .max()
        .unwrap_or(0)
}

#[test]
fn three_hundred_clients_make_one_hundred_for_each_in_turn() {
    let chosen = turns(&three(), &mut Picker::default(), 300);
    assert_eq!(shares(&chosen), [100, 100, 100]);
    assert_eq!(chosen[..6], [0, 1, 2, 0, 1, 2]);
}

#[test]
fn weights_five_two_three_give_fifty_twenty_thirty_and_are_interleaved() {
    let chosen = turns(&weighted([5, 2, 3]), &mut Picker::default(), 100);
    assert_eq!(shares(&chosen), [50, 20, 30]);
    assert!(longest_run(&chosen) < 5, "{chosen:?}");
    // As nginx would deal them.
    assert_eq!(chosen[..10], [0, 2, 1, 0, 0, 2, 0, 1, 2, 0]);
}

#[test]
fn round_robin_goes_on_where_it_was_when_the_file_is_reordered() {
    let mut picker = Picker::default();
    let (mut before, mut reversed) = (weighted([5, 2, 3]), weighted([5, 2, 3]));
    reversed.reverse();
    let mut names: Vec<_> = turns(&before, &mut picker, 4)
        .into_iter()
        .map(|at| before[at].name)
        .collect();
    names.extend(
        turns(&reversed, &mut picker, 6)
            .into_iter()
            .map(|at| reversed[at].name),
    );
    let count = |name| names.iter().filter(|&&other| other == name).count();
    assert_eq!([count("mq1"), count("mq2"), count("mq3")], [5, 2, 3]);

    before.push(backend(3, "mq4"));
    before.remove(0);
    turns(&before, &mut picker, 10);
    assert_eq!(picker.turns.len(), 3, "who is gone is not remembered");
}

#[test]
fn the_least_loaded_for_its_weight_is_chosen_and_equals_take_turns() {
    let mut candidates = weighted([1, 2, 1]);
    let mut picker = Picker::default();
    (
        candidates[0].connections,
        candidates[1].connections,
        candidates[2].connections,
    ) = (12, 10, 10);
    assert_eq!(
        go(
            Strategy::LeastConnections,
            &client("x"),
            &candidates,
            &mut picker
        ),
        Ok((1, Why::Least))
    );
    candidates[1].connections = 22;
    assert_eq!(
        go(
            Strategy::LeastConnections,
            &client("x"),
            &candidates,
            &mut picker
        ),
        Ok((2, Why::Least))
    );

    let even = three();
    let chosen: Vec<_> = (0..9)
        .map(|_| {
            go(
                Strategy::LeastConnections,
                &client("x"),
                &even,
                &mut Picker::clone(&picker),
            )
            .expect("up")
            .0
        })
        .collect();
    assert_eq!(
        longest_run(&chosen),
        9,
        "the control: without turns all go to one"
    );
    let mut chosen = Vec::new();
    for _ in 0..9 {
        chosen.push(
            go(Strategy::LeastConnections, &client("x"), &even, &mut picker)
                .expect("up")
                .0,
        );
    }
    assert_eq!(shares(&chosen), [3, 3, 3]);
}

#[test]
fn filling_by_least_connections_ends_at_the_weights() {
    let mut candidates = weighted([5, 2, 3]);
    candidates[2].connections = 20;
    let mut picker = Picker::default();
    for _ in 0..80 {
        let (at, _) = go(
            Strategy::LeastConnections,
            &client("x"),
            &candidates,
            &mut picker,
        )
        .expect("up");
        candidates[at].connections += 1;
    }
    assert_eq!(
        candidates.iter().map(|c| c.connections).collect::<Vec<_>>(),
        [50, 20, 30]
    );
}

#[test]
fn a_slow_start_scales_the_share_in_every_strategy() {
    let mut candidates = three();
    candidates[0].ramp = 0.25;
    let chosen = turns(&candidates, &mut Picker::default(), 900);
    assert_eq!(shares(&chosen), [100, 400, 400]);

    (candidates[1].connections, candidates[2].connections) = (3, 3);
    let mut picker = Picker::default();
    let order: Vec<_> = (0..3)
        .map(|_| {
            let (at, _) = go(
                Strategy::LeastConnections,
                &client("x"),
                &candidates,
                &mut picker,
            )
            .expect("up");
            candidates[at].connections += 1;
            at
        })
        .collect();
    assert_eq!(
        order.iter().filter(|&&at| at == 0).count(),
        1,
        "one of it weighs as four of others: {order:?}"
    );

    let hit = (0..9000)
        .filter(|n| hashed(&candidates, &n.to_string()) == "mq1")
        .count();
    assert!(
        (900..1100).contains(&hit),
        "{hit} of 9000 is not one in nine"
    );
}

#[test]
fn a_slow_start_at_nothing_still_serves_when_alone() {
    for ramp in [0.0, -1.0, f32::NAN] {
        let alone = [Candidate {
            ramp,
            ..backend(0, "mq1")
        }];
        for strategy in [
            Strategy::RoundRobin,
            Strategy::LeastConnections,
            Strategy::Source,
        ] {
            assert!(go(strategy, &client("x"), &alone, &mut Picker::default()).is_ok());
        }
    }
}

fn hashed<'a>(candidates: &[Candidate<'a>], id: &str) -> &'a str {
    let strategy = Strategy::ConsistentHash(Key::ClientId);
    let (at, why) = go(strategy, &client(id), candidates, &mut Picker::default()).expect("up");
    assert_eq!(why, Why::Hash);
    candidates[at].name
}

#[test]
fn a_failed_server_moves_its_own_clients_only_and_gets_them_back() {
    let ids: Vec<_> = (0..10_000).map(|n| format!("device-{n}")).collect();
    let mut candidates = three();
    let homes = |candidates: &[Candidate<'static>]| -> Vec<_> {
        ids.iter().map(|id| hashed(candidates, id)).collect()
    };
    let before = homes(&candidates);
    let share = |homes: &[&str], name| homes.iter().filter(|&&home| home == name).count();
    for name in ["mq1", "mq2", "mq3"] {
        assert!(
            (3000..=3667).contains(&share(&before, name)),
            "{name}: {}",
            share(&before, name)
        );
    }

    candidates[1].state = CandidateState::Down;
    let during = homes(&candidates);
    let moved = before.iter().zip(&during).filter(|(old, new)| old != new);
    assert!(moved.clone().all(|(old, _)| *old == "mq2"));
    assert_eq!(moved.count(), share(&before, "mq2"));
    for name in ["mq1", "mq3"] {
        assert!(
            (4500..=5500).contains(&share(&during, name)),
            "its share spreads: {}",
            share(&during, name)
        );
    }

    candidates[1].state = CandidateState::Up;
    candidates.reverse();
    assert_eq!(
        homes(&candidates),
        before,
        "nor does the order in the file matter"
    );
    candidates.retain(|candidate| candidate.name != "mq2");
    assert_eq!(homes(&candidates), during, "removed is as down");
}

#[test]
fn hashing_follows_the_weights() {
    let candidates = weighted([5, 2, 3]);
    let mut counts = HashMap::new();
    for n in 0..10_000 {
        *counts
            .entry(hashed(&candidates, &n.to_string()))
            .or_insert(0) += 1;
    }
    for (name, wanted) in [("mq1", 5000.0), ("mq2", 2000.0), ("mq3", 3000.0)] {
        let share = f64::from(counts[name]);
        assert!((share / wanted - 1.0).abs() < 0.1, "{name}: {share}");
    }
}

#[test]
fn where_a_hash_leads_is_the_same_in_every_release() {
    let places =
        ["foo", "bar", "baz", "device-1", "a", "b", "c", "d"].map(|id| hashed(&three(), id));
    assert_eq!(places, PINNED);
}

/// Computed once: a release that changes it sends every consistently hashed client to another broker.
const PINNED: [&str; 8] = ["mq1", "mq1", "mq2", "mq1", "mq1", "mq3", "mq1", "mq2"];

#[test]
fn source_sends_one_address_to_one_backend_also_when_mapped_into_ipv6() {
    let candidates = three();
    let mut used = [false; 3];
    for n in 0..50u8 {
        let ip = Ipv4Addr::new(10, 0, 0, n);
        let first = go(
            Strategy::Source,
            &from(ip.into()),
            &candidates,
            &mut Picker::default(),
        );
        let again = go(
            Strategy::Source,
            &from(ip.to_ipv6_mapped().into()),
            &candidates,
            &mut Picker::default(),
        );
        assert_eq!(first, again);
        let (at, why) = first.expect("up");
        assert_eq!(why, Why::Source);
        used[at] = true;
    }
    assert_eq!(used, [true; 3]);
}

#[test]
fn clients_without_an_id_are_dealt_in_turn_where_others_are_hashed() {
    let (candidates, mut picker) = (three(), Picker::default());
    for (request, at) in [
        (client(""), 0),
        (from([10, 0, 0, 1].into()), 1),
        (client(""), 2),
    ] {
        let strategy = Strategy::ConsistentHash(Key::ClientId);
        assert_eq!(
            go(strategy, &request, &candidates, &mut picker),
            Ok((at, Why::RoundRobin))
        );
    }
}

#[test]
fn backups_serve_only_while_no_other_is_up() {
    let mut candidates = three();
    candidates[2].backup = true;
    assert_eq!(
        shares(&turns(&candidates, &mut Picker::default(), 10)),
        [5, 5, 0]
    );
    candidates[0].state = CandidateState::Down;
    assert_eq!(
        shares(&turns(&candidates, &mut Picker::default(), 10)),
        [0, 10, 0]
    );
    candidates[1].state = CandidateState::Draining;
    assert_eq!(
        shares(&turns(&candidates, &mut Picker::default(), 10)),
        [0, 0, 10]
    );
    candidates[0].state = CandidateState::Up;
    assert_eq!(
        shares(&turns(&candidates, &mut Picker::default(), 10)),
        [10, 0, 0]
    );
    // Full or refused once is not down.
    candidates[0].max_connections = Some(0);
    assert_eq!(
        go(
            Strategy::RoundRobin,
            &client("x"),
            &candidates,
            &mut Picker::default()
        ),
        Err(Wait::AllFull)
    );
    candidates[0].max_connections = None;
    candidates[0].excluded = true;
    assert_eq!(
        go(
            Strategy::RoundRobin,
            &client("x"),
            &candidates,
            &mut Picker::default()
        ),
        Err(Wait::AllTried)
    );
    // Of weight 0 is out of service for new clients.
    candidates[0].weight = 0;
    assert_eq!(
        shares(&turns(&candidates, &mut Picker::default(), 10)),
        [0, 0, 10]
    );
}

#[test]
fn who_is_up_goes_before_who_was_not_checked_yet_but_not_by_hash() {
    let mut candidates = three();
    candidates[0].state = CandidateState::Unknown;
    candidates[1].state = CandidateState::Unknown;
    assert_eq!(
        shares(&turns(&candidates, &mut Picker::default(), 10)),
        [0, 0, 10]
    );
    candidates[2].excluded = true;
    assert_eq!(
        shares(&turns(&candidates, &mut Picker::default(), 10)),
        [5, 5, 0]
    );
    candidates[2].excluded = false;
    let homes = |candidates: &[Candidate<'static>]| -> Vec<_> {
        (0..100)
            .map(|n| hashed(candidates, &n.to_string()))
            .collect()
    };
    assert_eq!(homes(&candidates), homes(&three()));
}

#[test]
fn why_nobody_can_be_had_is_told() {
    let mut candidates = three();
    let ask = |candidates: &[Candidate<'_>]| {
        go(
            Strategy::LeastConnections,
            &client("x"),
            candidates,
            &mut Picker::default(),
        )
    };
    assert_eq!(ask(&[]), Err(Wait::NoneUp));
    candidates
        .iter_mut()
        .for_each(|candidate| candidate.max_connections = Some(0));
    assert_eq!(ask(&candidates), Err(Wait::AllFull));
    candidates
        .iter_mut()
        .for_each(|candidate| candidate.excluded = true);
    assert_eq!(ask(&candidates), Err(Wait::AllTried));
    candidates[0].excluded = false;
    assert_eq!(ask(&candidates), Err(Wait::AllFull));
    candidates
        .iter_mut()
        .for_each(|candidate| candidate.state = CandidateState::Disabled);
    assert_eq!(ask(&candidates), Err(Wait::NoneUp));
}

proptest! {
    /// Smoothness: in every window of one round, nobody is more than one turn off its share.
    #[test]
    fn round_robin_is_exact_in_every_round(weights in proptest::collection::vec(1..20u32, 1..6)) {
        let names: Vec<_> = (0..weights.len()).map(|n| format!("mq{n}")).collect();
        let candidates: Vec<_> = names.iter().zip(&weights).enumerate()
            .map(|(index, (name, &weight))| Candidate { weight, ..backend(index, name) })
            .collect();
        let round: u32 = weights.iter().sum();
        let mut picker = Picker::default();
        for _ in 0..3 {
            let chosen = turns(&candidates, &mut picker, round as usize);
            for (at, &weight) in weights.iter().enumerate() {
                prop_assert_eq!(chosen.iter().filter(|&&other| other == at).count(), weight as usize);
            }
        }
    }
}
