use proptest::prelude::*;

use super::*;

const DEAD: Outcome = Outcome::Failed(Failure::Dead);
const NOT_READY: Outcome = Outcome::Failed(Failure::NotReady);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The defaults.
const PACE: Pace = Pace {
    interval: Duration::from_secs(2),
    fast_interval: Duration::from_millis(100),
    timeout: Duration::from_secs(1),
    rise: 2,
    fall: 3,
};

/// What a check that starts at a time (since the beginning) finds, and after how long.
type Broker<'a> = dyn Fn(Duration) -> (Duration, Outcome) + 'a;

/// A core with a broker to check, in virtual time.
struct World<'a> {
    core: Core,
    zero: Instant,
    now: Duration,
    broker: Box<Broker<'a>>,
    under_way: Vec<(Duration, u64, Outcome)>,
    starts: Vec<Duration>,
    settled: Vec<(Duration, Verdict)>,
}

impl<'a> World<'a> {
    fn new(pace: Pace, phase: u64, broker: impl Fn(Duration) -> (Duration, Outcome) + 'a) -> Self {
        let zero = Instant::now();
        let mut world = Self {
            core: Core::new(pace, Verdict::Unknown, phase, zero),
            zero,
            now: Duration::ZERO,
            broker: Box::new(broker),
            under_way: Vec::new(),
            starts: Vec::new(),
            settled: Vec::new(),
        };
        world.hear(Input::Start(pace));
        world
    }

    fn hear(&mut self, input: Input) {
        let outputs: Vec<_> = self.core.handle(input, self.zero + self.now).collect();
        for output in outputs {
            match output {
                Output::Check(number) => {
                    let (took, outcome) = (self.broker)(self.now);
                    let (took, outcome) = if took > self.core.pace.timeout {
                        (self.core.pace.timeout, DEAD)
                    } else {
                        (took, outcome)
                    };
                    self.starts.push(self.now);
                    self.under_way.push((self.now + took, number, outcome));
                }
                Output::Settled { verdict, .. } => self.settled.push((self.now, verdict)),
            }
        }
        assert!(self.core.under_way() <= self.core.pace.overlap());
    }

    fn run_until(&mut self, end: Duration) {
        loop {
            let ends = self.under_way.iter().enumerate();
            let first = ends.min_by_key(|(_, (at, number, _))| (*at, *number));
            let first = first.map(|(index, (at, ..))| (*at, index));
            let deadline = self.core.deadline().map(|at| at - self.zero);
            match (first, deadline) {
                (Some((at, index)), deadline) if at <= end && deadline.is_none_or(|d| at <= d) => {
                    self.now = self.now.max(at);
                    let (_, check, outcome) = self.under_way.remove(index);
                    self.hear(Input::Ended { check, outcome });
                }
                (_, Some(deadline)) if deadline <= end => {
                    self.now = self.now.max(deadline);
                    self.hear(Input::Timeout);
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
    }

    fn starts_after(&self, from: Duration) -> Vec<u64> {
        let after = self.starts.iter().filter(|start| **start >= from);
        after
            .map(|start| (*start - from).as_millis() as u64)
            .collect()
    }
}

const QUICK: Duration = Duration::from_millis(1);

/// Healthy until `until`, then `then`.
fn healthy_until(
    until: Duration,
    then: (Duration, Outcome),
) -> impl Fn(Duration) -> (Duration, Outcome) {
    move |now| {
        if now < until {
            (QUICK, Outcome::Passed)
        } else {
            then
        }
    }
}

#[test]
fn a08_a_healthy_backend_is_checked_once_an_interval() {
    let mut world = World::new(PACE, 250, |_| (QUICK, Outcome::Passed));
    world.run_until(ms(20_000));
    let wanted: Vec<u64> = std::iter::once(0)
        .chain((0..10).map(|n| 500 + 2000 * n))
        .collect();
    assert_eq!(world.starts_after(Duration::ZERO), wanted);
    assert_eq!(world.settled, [(ms(1), Verdict::Up)]);
}

#[test]
fn a_backend_dead_at_the_start_is_down_after_fall_fast_checks() {
    let mut world = World::new(PACE, 0, |_| (QUICK, DEAD));
    world.run_until(ms(10_000));
    assert_eq!(world.starts[..4], [ms(0), ms(100), ms(200), ms(2200)]);
    assert_eq!(world.settled, [(ms(201), Verdict::Dead)]);
}

#[test]
fn a08_the_third_failure_takes_down_and_the_second_success_brings_up() {
    let mut core = Core::new(PACE, Verdict::Up, 0, Instant::now());
    let now = Instant::now();
    let mut verdicts = Vec::new();
    core.handle(Input::Start(PACE), now).for_each(drop);
    let mut at = now;
    for (n, outcome) in [
        NOT_READY,
        NOT_READY,
        Outcome::Passed,
        NOT_READY,
        NOT_READY,
        NOT_READY,
        Outcome::Passed,
        NOT_READY,
        Outcome::Passed,
        Outcome::Passed,
    ]
    .into_iter()
    .enumerate()
    {
        let check = n as u64 + 1;
        core.handle(Input::Ended { check, outcome }, at)
            .for_each(drop);
        verdicts.push(core.verdict());
        at = core.deadline().expect("checks go on");
        assert!(
            core.handle(Input::Timeout, at)
                .any(|output| output == Output::Check(check + 1))
        );
    }
    use Verdict::{NotReady, Up};
    assert_eq!(
        verdicts,
        [
            Up, Up, Up, Up, Up, NotReady, NotReady, NotReady, NotReady, Up
        ]
    );
}

#[test]
fn killed_and_signalled_it_is_down_within_a_third_of_a_second_whenever_it_happens() {
    for at in (2_000..4_000).step_by(7).map(ms) {
        let mut world = World::new(PACE, 0, healthy_until(at, (QUICK, DEAD)));
        world.run_until(at);
        world.hear(Input::Signal);
        world.run_until(at + ms(5_000));
        let (when, verdict) = world.settled[1];
        assert_eq!(verdict, Verdict::Dead);
        assert!(when - at <= ms(300), "killed at {at:?}, down at {when:?}");
    }
}

#[test]
fn gone_and_signalled_it_is_down_within_one_and_a_half_seconds_whenever_it_happens() {
    for at in (2_000..4_000).step_by(7).map(ms) {
        let mut world = World::new(PACE, 0, healthy_until(at, (ms(9_999), DEAD)));
        world.run_until(at);
        world.hear(Input::Signal);
        world.run_until(at + ms(5_000));
        let (when, _) = world.settled[1];
        assert!(when - at <= ms(1_500), "gone at {at:?}, down at {when:?}");
    }
}

#[test]
fn hung_without_any_signal_it_is_down_within_four_seconds_whenever_it_happens() {
    for at in (2_000..4_000).step_by(7).map(ms) {
        let mut world = World::new(PACE, 0, healthy_until(at, (ms(9_999), DEAD)));
        world.run_until(at + ms(9_000));
        let (when, _) = world.settled[1];
        assert!(when - at <= ms(4_000), "hung at {at:?}, down at {when:?}");
    }
}

#[test]
fn a_signal_alone_changes_nothing_but_checks_at_once_until_rise_of_them_passed() {
    let mut world = World::new(PACE, 0, |_| (QUICK, Outcome::Passed));
    world.run_until(ms(3_000));
    world.hear(Input::Signal);
    world.run_until(ms(10_000));
    assert_eq!(world.starts_after(ms(3_000))[..3], [0, 100, 2_100]);
    assert_eq!(world.settled, [(ms(1), Verdict::Up)]);
}

#[test]
fn signals_in_a_stream_start_no_more_than_a_check_a_fast_interval() {
    // Faster than checks settle anything, and just slower.
    for pause in [3, 105] {
        let mut world = World::new(PACE, 0, |_| (QUICK, Outcome::Passed));
        world.run_until(ms(3_000));
        for at in (3_000..5_000).step_by(pause).map(ms) {
            world.run_until(at);
            world.hear(Input::Signal);
        }
        let count = world.starts_after(ms(3_000)).len();
        assert!((15..=21).contains(&count), "{count} checks in 2 s");
    }
}

#[test]
fn a_check_that_began_before_the_signal_does_not_settle_it() {
    // One slow answer is under way when the signal comes.
    let mut world = World::new(PACE, 0, |now| {
        let slow = now >= ms(2_100) && now < ms(2_150);
        (if slow { ms(50) } else { QUICK }, Outcome::Passed)
    });
    world.run_until(ms(2_110));
    assert_eq!(world.core.under_way(), 1);
    world.hear(Input::Signal);
    world.run_until(ms(4_000));
    assert_eq!(world.starts_after(ms(2_110)), [0, 100]);
}

#[test]
fn a_slow_answer_starts_others_beside_it_and_ends_that_when_it_comes() {
    let mut world = World::new(PACE, 0, |_| (ms(350), Outcome::Passed));
    world.run_until(ms(9_000));
    // Once it is known that this broker takes its time, nothing is concluded from that any more.
    let starts = world.starts_after(Duration::ZERO);
    assert_eq!(starts, [0, 200, 300, 2_300, 4_300, 6_300, 8_300]);
    assert_eq!(world.settled, [(ms(350), Verdict::Up)]);
}

#[test]
fn checks_left_over_from_a_hurry_start_no_other_hurry() {
    let mut world = World::new(PACE, 0, |now| {
        let left_over = (ms(200)..ms(2_000)).contains(&now);
        (ms(if left_over { 950 } else { 350 }), Outcome::Passed)
    });
    world.run_until(ms(4_000));
    assert_eq!(world.starts_after(Duration::ZERO), [0, 200, 300, 2_300]);
}

#[test]
fn a_hung_backend_meets_no_more_checks_than_can_settle_it() {
    let mut world = World::new(PACE, 0, healthy_until(ms(3_000), (ms(9_999), DEAD)));
    world.run_until(ms(60_000));
    assert_eq!(world.settled.len(), 2);
    // Down, it gets one check an interval: no storm upon a machine that is away for hours.
    let late: Vec<_> = world
        .starts
        .windows(2)
        .filter(|pair| pair[0] > ms(6_000))
        .collect();
    assert!(late.len() > 20);
    assert!(late.iter().all(|pair| pair[1] - pair[0] == PACE.interval));
}

#[test]
fn a02_back_again_it_is_up_within_an_interval_and_a_fast_one() {
    for back in (10_000..12_000).step_by(7).map(ms) {
        let mut world = World::new(PACE, 0, |now| {
            let up = now < ms(3_000) || now >= back;
            (QUICK, if up { Outcome::Passed } else { DEAD })
        });
        world.run_until(ms(20_000));
        let (when, verdict) = world.settled[2];
        assert_eq!(verdict, Verdict::Up);
        assert!(when - back <= ms(2_102), "back at {back:?}, up at {when:?}");
    }
}

#[test]
fn e14_only_a_whole_row_of_dead_checks_says_dead() {
    let kinds = [NOT_READY, DEAD, DEAD, DEAD, DEAD, NOT_READY, NOT_READY];
    let next = std::cell::Cell::new(0);
    let mut world = World::new(PACE, 0, |_| {
        let outcome = kinds.get(next.get()).copied().unwrap_or(NOT_READY);
        next.set(next.get() + 1);
        (QUICK, outcome)
    });
    world.run_until(ms(30_000));
    let wanted = [
        // The third failure, the third dead one, the second that says somebody is there again.
        (ms(201), Verdict::NotReady),
        (ms(301), Verdict::Dead),
        (ms(6_301), Verdict::NotReady),
    ];
    assert_eq!(world.settled, wanted);
}

#[test]
fn checks_that_could_not_be_made_count_as_nothing() {
    let mut world = World::new(PACE, 0, healthy_until(ms(3_000), (QUICK, Outcome::Void)));
    world.run_until(ms(60_000));
    assert_eq!(world.settled, [(ms(1), Verdict::Up)]);
}

#[test]
fn results_count_in_the_order_of_starting() {
    let now = Instant::now();
    let mut core = Core::new(PACE, Verdict::Up, 0, now);
    core.handle(Input::Start(PACE), now).for_each(drop);
    core.handle(Input::Signal, now + ms(10)).for_each(drop);
    core.handle(Input::Timeout, now + ms(110)).for_each(drop);
    assert_eq!(core.under_way(), 3);
    for check in [3, 2] {
        let outcome = DEAD;
        core.handle(Input::Ended { check, outcome }, now + ms(120))
            .for_each(drop);
        assert_eq!(core.in_a_row(), 0);
    }
    let outcome = Outcome::Passed;
    core.handle(Input::Ended { check: 1, outcome }, now + ms(130))
        .for_each(drop);
    assert_eq!(core.in_a_row(), 2, "two failures after one success");
}

#[test]
fn a_start_anew_keeps_the_verdict_and_forgets_the_rest() {
    let mut world = World::new(PACE, 0, healthy_until(ms(3_000), (ms(500), DEAD)));
    world.run_until(ms(4_450));
    assert!(world.core.in_a_row() > 0 || world.core.under_way() > 0);
    let forgotten = world.under_way.clone();
    world.hear(Input::Start(PACE));
    assert_eq!(world.core.verdict(), Verdict::Up);
    assert_eq!(world.core.under_way(), 1, "a check at once");
    for (_, check, outcome) in forgotten {
        world.hear(Input::Ended { check, outcome });
    }
    assert_eq!(world.core.in_a_row(), 0);
    world.hear(Input::Stop);
    assert_eq!((world.core.deadline(), world.core.under_way()), (None, 0));
    world.hear(Input::Signal);
    world.hear(Input::Timeout);
    assert_eq!(
        world.core.under_way(),
        0,
        "nothing is checked in maintenance"
    );
}

#[test]
fn a_pace_of_nonsense_is_made_sound() {
    let check = config::Check {
        kind: config::CheckKind::Tcp,
        interval: Duration::ZERO,
        fast_interval: ms(500),
        timeout: Duration::ZERO,
        rise: 0,
        fall: 0,
        port: None,
    };
    let pace = Pace::from(&check);
    assert!(pace.fast_interval <= pace.interval && pace.fast_interval >= SHORTEST);
    assert_eq!((pace.rise, pace.fall), (1, 1));
    assert!(pace.overlap() >= 1);
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Passed),
        3 => Just(DEAD),
        2 => Just(NOT_READY),
        1 => Just(Outcome::Void),
    ]
}

/// One thing that happens: a pause, then the end of some check, a signal, a stop or a start.
#[derive(Clone, Debug)]
enum Event {
    End(usize, Outcome),
    Signal,
    Start,
    Stop,
    Nothing,
}

fn event() -> impl Strategy<Value = (u64, Event)> {
    let event = prop_oneof![
        10 => (0_usize..20, outcome()).prop_map(|(which, outcome)| Event::End(which, outcome)),
        3 => Just(Event::Signal),
        1 => Just(Event::Start),
        1 => Just(Event::Stop),
        5 => Just(Event::Nothing),
    ];
    (0_u64..1500, event)
}

proptest! {
    #[test]
    fn laws_hold_in_any_order_of_events(
        events in prop::collection::vec(event(), 0..200),
        rise in 1_u32..5,
        fall in 1_u32..5,
        phase: u64,
    ) {
        let pace = Pace { rise, fall, ..PACE };
        let mut now = Instant::now();
        let mut core = Core::new(pace, Verdict::Unknown, phase, now);
        let mut running = false;
        let mut under_way: Vec<u64> = Vec::new();
        let mut ended: Vec<(u64, Outcome)> = Vec::new();
        let mut last_number = 0;
        let mut before = core.verdict();
        for (pause, event) in events {
            // All that is due happens on time.
            let later = now + ms(pause);
            let mut inputs = Vec::new();
            while let Some(due) = core.deadline().filter(|due| *due <= later) {
                let at = now.max(due);
                let outputs: Vec<_> = core.handle(Input::Timeout, at).collect();
                prop_assert!(
                    outputs.iter().all(|output| matches!(output, Output::Check(_))),
                    "time alone settles nothing"
                );
                for output in outputs {
                    if let Output::Check(number) = output {
                        prop_assert!(running);
                        prop_assert_eq!(number, last_number + 1);
                        last_number = number;
                        under_way.push(number);
                    }
                }
                prop_assert!(core.deadline().is_none_or(|next| next > at), "a deadline is passed by");
                now = at;
            }
            now = later;
            match event {
                Event::End(which, outcome) if !under_way.is_empty() => {
                    let check = under_way.remove(which % under_way.len());
                    ended.push((check, outcome));
                    inputs.push(Input::Ended { check, outcome });
                }
                Event::Signal => inputs.push(Input::Signal),
                Event::Start => {
                    inputs.push(Input::Start(pace));
                    running = true;
                }
                Event::Stop => {
                    inputs.push(Input::Stop);
                    running = false;
                }
                Event::End(..) | Event::Nothing => {}
            }
            for input in inputs {
                if matches!(input, Input::Start(_) | Input::Stop) {
                    under_way.clear();
                    ended.clear();
                }
                for output in core.handle(input, now).collect::<Vec<_>>() {
                    match output {
                        Output::Check(number) => {
                            prop_assert!(running);
                            prop_assert_eq!(number, last_number + 1);
                            last_number = number;
                            under_way.push(number);
                        }
                        Output::Settled { verdict, in_a_row, .. } => {
                            let was_end = matches!(input, Input::Ended { .. });
                            prop_assert!(was_end, "only results settle, not {:?}", input);
                            prop_assert_ne!(verdict, before, "verdicts alternate");
                            let enough = match (before, verdict) {
                                (Verdict::Unknown, Verdict::Up) => 1,
                                (_, Verdict::Up) => rise,
                                (Verdict::Dead, Verdict::NotReady) => rise,
                                _ => fall,
                            };
                            prop_assert!(in_a_row >= enough);
                            let mut all = ended.clone();
                            all.sort_by_key(|(check, _)| *check);
                            let mut row = 0;
                            for (_, outcome) in all.iter().filter(|(_, outcome)| *outcome != Outcome::Void) {
                                let same = match verdict {
                                    Verdict::Up => *outcome == Outcome::Passed,
                                    Verdict::Dead => *outcome == DEAD,
                                    _ => matches!(outcome, Outcome::Failed(_)),
                                };
                                row = if same { row + 1 } else { 0 };
                                if row >= enough { break; }
                            }
                            prop_assert!(row >= enough, "{:?} without {} in a row", verdict, enough);
                            before = verdict;
                        }
                    }
                }
                prop_assert!(core.under_way() <= pace.overlap());
                prop_assert_eq!(core.verdict(), before);
                prop_assert!(!running || core.deadline().is_some() || core.under_way() > 0, "it stands still");
            }
        }
    }
}
