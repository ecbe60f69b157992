//! Rows of document D that take many connections or long intervals.

use standfast_tests::prelude::*;
use standfast_tests::simple::{connect_all, homes_seen};

fn shares<const COUNT: usize>(homes: &[usize]) -> [usize; COUNT] {
    let mut shares = [0; COUNT];
    for place in homes {
        shares[*place] += 1;
    }
    shares
}

/// D12: 10,000 ids, 3 → 2 servers: 0 ids of the surviving two move, shares within ±10 %; server back: ids return
#[test]
fn d12_ten_thousand_ids_over_three_two_and_three_servers() {
    const IDS: usize = 10_000;
    let mut brokers = FakeBroker::several::<3>();
    let standfast = Standfast::start(&one_pool(&format!(
        "balance = \"consistent-hash\"\ncheck = {{ tcp = true, interval = \"200ms\" }}\n{}",
        backends(&brokers)
    )));
    standfast.wait_up(&["b1", "b2", "b3"]);
    let round = |brokers: &[FakeBroker]| {
        for broker in brokers {
            broker.forget();
        }
        connect_all(standfast.addr("mqtt"), IDS);
        homes_seen(brokers, IDS)
    };
    let before = round(&brokers);
    for share in shares::<3>(&before) {
        assert!((3000..=3667).contains(&share), "{:?}", shares::<3>(&before));
    }
    brokers[2].stop();
    standfast.wait_state("b3", "down", s(10));
    let during = round(&brokers);
    let moved = before.iter().zip(&during).filter(|(was, is)| was != is);
    let own = before.iter().filter(|was| **was == 2).count();
    assert_eq!(moved.count(), own, "only those of the third move");
    for share in shares::<3>(&during).into_iter().take(2) {
        assert!((4500..=5500).contains(&share), "{:?}", shares::<3>(&during));
    }
    brokers[2].restart();
    standfast.wait_up(&["b3"]);
    assert!(round(&brokers) == before, "everybody is home again");
}

/// D05: an interval of five seconds is kept
#[test]
fn d05_an_interval_of_five_seconds_is_kept() {
    let broker = FakeBroker::start();
    let standfast = Standfast::start(&one_pool(&format!(
        "check = {{ interval = \"5s\", rise = 1 }}\n{}",
        backends([&broker])
    )));
    standfast.wait_up(&["b1"]);
    eventually(s(30), "four checks", || broker.contacts().len() >= 4);
    let gaps: Vec<_> = broker
        .contacts()
        .windows(2)
        .map(|two| two[1] - two[0])
        .collect();
    // The first checks may follow each other faster, until the verdict is settled.
    let settled = &gaps[gaps.len() - 2..];
    for gap in settled {
        assert!(*gap > ms(4500) && *gap < ms(5500), "{gaps:?}");
    }
}

/// D16: reload with 1,000 held sessions: 0 dropped; broken config: reload fails, the old one keeps running
#[test]
fn d16_a_reload_drops_none_of_a_thousand_sessions() {
    const HELD: usize = 1000;
    require!(standfast_tests::simple::descriptors(6 * HELD));
    let brokers = FakeBroker::several::<3>();
    let config = |count: usize, more: &str| {
        listener_and_pool(
            more,
            &format!(
                "balance = \"round-robin\"\ncheck = {{ tcp = true, interval = \"200ms\" }}\n{}",
                backends(&brokers[..count])
            ),
        )
    };
    let mut standfast = Standfast::start(&config(2, ""));
    standfast.wait_up(&["b1", "b2"]);
    let to = standfast.addr("mqtt");
    let mut held: Vec<_> = (0..HELD)
        .map(|n| Client::id(to, &format!("held-{n}")))
        .collect();
    let own = standfast.program().pid();
    let all_alive = |held: &mut Vec<Client>, what: &str| {
        let lost = held
            .iter_mut()
            .filter_map(|client| client.ping().err())
            .count();
        assert_eq!(lost, 0, "{what}");
    };
    // A backend more, another limit, one less, and twice the same.
    for (count, more) in [
        (3, ""),
        (3, "limits = { connections = 5000 }"),
        (2, ""),
        (2, ""),
    ] {
        standfast.reload(&config(count, more)).ok();
        visit(&standfast, &format!("new-{count}"));
        all_alive(&mut held, &format!("after the reload to {count} {more}"));
    }
    let status = standfast.status();
    assert_eq!(
        status.connections("b1") + status.connections("b2"),
        HELD as u64
    );

    let good = std::fs::read_to_string(standfast.config()).expect("the file is there");
    let hash = status["node"]["config"]["hash"].clone();
    for broken in [
        "this is no TOML".to_owned(),
        good.replace("round-robin", "robin"),
        good.replace("pool = \"mqtt\"", "pool = \"mqqt\""),
    ] {
        let told = standfast.reload_raw(&broken);
        assert_ne!(told.code, 0, "{told:?}");
        assert!(
            format!("{}{}", told.stdout, told.stderr).contains("standfast.toml:"),
            "{told:?}"
        );
        visit(&standfast, "still-served");
        assert_eq!(standfast.status()["node"]["config"]["hash"], hash);
    }
    all_alive(&mut held, "after the broken files");
    assert_eq!(standfast.program().pid(), own);
    assert!(standfast.program_mut().ended().is_none());
    for end in ["backend-", "removed", "shutdown", "drained"] {
        assert_eq!(standfast.count_ends(end), 0, "{end}");
    }
    drop(held);
}
