//! Properties of the limiter: the advised share over any run of requests, the order of the classes, fairness in one.

use proptest::prelude::*;

use super::*;

const CLASSES: usize = 4;
/// Credit that a bucket can hold beyond what is advised, or lack: all floors, and what the lowest class may have above its own.
const DEPTH: f64 = GAP_HITS * CLASSES as f64;

fn share(share: f64) -> Admission {
    Admission { share, rate: None }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Hits that came and that went on, by class.
#[derive(Default)]
struct Count {
    came: [f64; CLASSES],
    went: [f64; CLASSES],
}

impl Count {
    fn add(&mut self, class: usize, hits: u64, verdict: Verdict) {
        self.came[class] += hits as f64;
        self.went[class] += if verdict.admitted { hits as f64 } else { 0.0 };
    }

    fn sum(of: &[f64]) -> f64 {
        of.iter().sum()
    }
}

/// The share of each class if the highest take what they want and the others what is left.
fn by_priority(came: &[f64; CLASSES], mut budget: f64) -> [f64; CLASSES] {
    came.map(|came| {
        let went = came.min(budget);
        budget -= went;
        went
    })
}

proptest! {
    /// From one class or many, one hit or several: over any window the admitted hits are the advised share of those that came,
    /// to within the depth of the bucket and the largest request.
    #[test]
    fn any_window_has_the_advised_share(
        advised in 0.05_f64..=1.0,
        requests in prop::collection::vec((0..CLASSES, 1_u64..5), 1..600),
        start in 0_usize..300,
    ) {
        let mut limiter = Limiter::new(CLASSES);
        let mut count = Count::default();
        let before_window = requests.len().min(start);
        for (index, (class, hits)) in requests.iter().enumerate() {
            let verdict = limiter.ask(at(0), share(advised), *class, *hits);
            if index >= before_window {
                count.add(*class, *hits, verdict);
            }
        }
        let (came, went) = (Count::sum(&count.came), Count::sum(&count.went));
        prop_assert!((went - advised * came).abs() <= DEPTH + 5.0, "{went} of {came} at {advised}");
    }

    /// A mix that stays: the highest class goes on whole, the one in the middle takes what is left, the lowest have nothing.
    #[test]
    fn lower_classes_are_throttled_first(
        advised in 0.05_f64..0.95,
        weights in prop::array::uniform4(1_u64..10),
        seed in any::<u64>(),
    ) {
        let total: u64 = weights.iter().sum();
        let mut limiter = Limiter::new(CLASSES);
        let mut count = Count::default();
        for n in 0..20_000_u64 {
            let mut drawn = (fraction(seed.wrapping_add(n)) * total as f64) as u64;
            let class = weights.iter().position(|weight| {
                let here = drawn < *weight;
                drawn = drawn.saturating_sub(*weight);
                here
            }).unwrap_or(0);
            let verdict = limiter.ask(at(0), share(advised), class, 1);
            count.add(class, 1, verdict);
        }
        let expected = by_priority(&count.came, advised * 20_000.0);
        for (class, want) in expected.iter().enumerate() {
            // The share of each class wanders with the draws, by some of their standard deviations.
            prop_assert!((count.went[class] - want).abs() < 600.0, "{:?} of {:?}, not {expected:?}", count.went, count.came);
        }
    }

    /// At one moment a lower class is admitted only if a higher one were, whatever came before.
    #[test]
    fn a_higher_class_is_never_refused_where_a_lower_one_goes_on(
        advised in 0.0_f64..1.0,
        rate in prop::option::of(0.0_f64..1000.0),
        requests in prop::collection::vec((0..CLASSES, 0_u64..5, 0_i64..50), 0..300),
    ) {
        let mut limiter = Limiter::new(CLASSES);
        let mut now = 0;
        let advised = Admission { share: advised, rate };
        for (class, hits, later) in requests {
            now += later;
            let verdicts: Vec<bool> =
                (0..CLASSES).map(|class| limiter.clone().ask(at(now), advised, class, hits).admitted).collect();
            prop_assert!(verdicts.is_sorted_by(|higher, lower| higher >= lower), "{verdicts:?}");
            prop_assert_eq!(limiter.ask(at(now), advised, class, hits).admitted, verdicts[class]);
        }
    }

    /// Between a request of a lower class that went on and one of a higher class that did not, enough of the higher classes
    /// went on to use the credit that was kept for them.
    #[test]
    fn what_is_kept_for_a_higher_class_is_used_before_it_is_refused(
        advised in 0.0_f64..1.0,
        requests in prop::collection::vec(0..CLASSES, 0..600),
    ) {
        let mut limiter = Limiter::new(CLASSES);
        // By class: the highest credit there can still be since a lower class went on.
        let mut since: [Option<f64>; CLASSES] = [None; CLASSES];
        for class in requests {
            let admitted = limiter.ask(at(0), share(advised), class, 1).admitted;
            if admitted {
                since.iter_mut().flatten().for_each(|went| *went += 1.0);
                since[..class].fill(Some(0.0));
            } else if let Some(went) = since[class] {
                prop_assert!(went >= GAP_HITS - MOVES_HITS - 1.0, "only {went}");
            }
        }
    }

    /// With a rate: never more than comes with time and fits into the bucket, whoever asks.
    #[test]
    fn an_advised_rate_is_not_exceeded(
        rate in 1.0_f64..500.0,
        requests in prop::collection::vec((0..CLASSES, 1_u64..5, 0_i64..20), 50..800),
    ) {
        let (went, _, given) = at_rate(rate, &requests);
        prop_assert!(went <= given + depth(rate) + 5.0, "{went} of {given}");
    }

    /// And all of it, where at least as much is asked for.
    #[test]
    fn an_advised_rate_is_used_up(
        rate in 1.0_f64..500.0,
        requests in prop::collection::vec((0..CLASSES, 0.0_f64..1.0), 50..800),
    ) {
        let requests: Vec<_> =
            requests.into_iter().map(|(class, part)| (class, 1, (1000.0 / rate * part) as i64)).collect();
        let (went, came, given) = at_rate(rate, &requests);
        prop_assert!(went >= came.min(given - depth(rate)), "{went} of {came}, {given} were given");
    }
}

/// Depth of a bucket at a rate.
fn depth(rate: f64) -> f64 {
    CLASSES as f64 * GAP_HITS.max(rate * GAP_SECONDS)
}

/// Hits that went on and that came, and the credit that came with time; requests are class, hits and milliseconds since the last.
fn at_rate(rate: f64, requests: &[(usize, u64, i64)]) -> (f64, f64, f64) {
    let mut limiter = Limiter::new(CLASSES);
    let advised = Admission { share: 0.5, rate: Some(rate) };
    let (mut now, mut count) = (0, Count::default());
    for (class, hits, later) in requests {
        now += later;
        let verdict = limiter.ask(at(now), advised, *class, *hits);
        count.add(*class, *hits, verdict);
        assert_eq!(verdict.retry_after.is_some(), !verdict.admitted);
    }
    (Count::sum(&count.went), Count::sum(&count.came), rate * now as f64 / 1000.0)
}

#[test]
fn two_callers_that_take_turns_have_the_same_share() {
    for advised in [0.25, 0.5, 0.75] {
        let mut limiter = Limiter::new(1);
        let mut went = [0_u32; 2];
        for n in 0..10_000 {
            went[n % 2] += u32::from(limiter.ask(at(0), share(advised), 0, 1).admitted);
        }
        let difference = went[0].abs_diff(went[1]);
        assert!(difference < 200, "{went:?} at {advised}");
    }
}

#[test]
fn throttling_is_even_and_not_all_or_nothing() {
    let mut limiter = Limiter::new(CLASSES);
    let admitted: Vec<bool> = (0..5_000).map(|_| limiter.ask(at(0), share(0.7), 2, 1).admitted).collect();
    // Each run of 50 has its share, but for what the place of refusal moves.
    for (index, run) in admitted.chunks(50).enumerate().skip(1) {
        let went = run.iter().filter(|admitted| **admitted).count();
        assert!((30..=40).contains(&went), "{went} of 50 in run {index}");
    }
}

#[test]
fn a_question_without_hits_changes_nothing() {
    let mut limiter = Limiter::new(CLASSES);
    let before = limiter.clone();
    let verdict = limiter.ask(at(0), share(0.7), 0, 0);
    assert!(verdict.admitted);
    assert_eq!(format!("{limiter:?}"), format!("{before:?}"));
}

#[test]
fn a_clock_that_was_set_back_gives_no_credit_twice() {
    let mut limiter = Limiter::new(1);
    let advised = Admission { share: 0.5, rate: Some(1.0) };
    let mut went = 0;
    for now in [10_000, 5_000, 10_000, 5_000, 10_000] {
        went += u32::from(limiter.ask(at(now), advised, 0, 1).admitted);
    }
    assert_eq!(went, 0);
}

#[test]
fn whoever_waits_as_long_as_told_goes_on() {
    let mut limiter = Limiter::new(1);
    let advised = Admission { share: 0.5, rate: Some(2.0) };
    let told = limiter.ask(at(0), advised, 0, 1).retry_after.unwrap();
    // The place of refusal has moved for the next request: it may need up to so many hits more.
    let moves = Span::from_millis((MOVES_HITS / 2.0 * 1000.0) as i64);
    assert!(limiter.ask(at(0) + told + moves, advised, 0, 1).admitted);
}

#[test]
fn what_was_saved_up_at_a_rate_does_not_go_on_at_once_at_a_share() {
    let mut limiter = Limiter::new(CLASSES);
    for now in [0, 60_000] {
        limiter.ask(at(now), Admission { share: 0.5, rate: Some(4000.0) }, 0, 1);
    }
    let went = (0..200).filter(|_| limiter.ask(at(60_000), share(0.0), 0, 1).admitted).count();
    assert!(went <= DEPTH as usize, "{went}");
}

#[test]
fn numbers_at_their_limits_lock_nobody_out_for_ever() {
    let mut limiter = Limiter::new(CLASSES);
    let advised = |rate| Admission { share: 0.5, rate: Some(rate) };
    assert!(limiter.ask(at(0), advised(1e300), 0, u64::MAX).admitted);
    let refused = limiter.ask(at(0), advised(f64::MIN_POSITIVE), 0, 1);
    assert_eq!(refused, Verdict { admitted: false, remaining: 0, retry_after: Some(WAIT_MAX) });
    assert!(limiter.ask(at(1_100_000), advised(1000.0), 0, 1).admitted);
}
