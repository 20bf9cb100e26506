//! What is cheaper than the oracle, and what is not.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::arena::fixture::bout;
use crate::arena::{Demand, Tally};
use crate::baselines::tests::fly;
use crate::baselines::{Course, System};
use crate::sweep::targets;

fn flown(bout: &Bout) -> Tally {
    fly(bout, &mut Oracle::new(bout))
}

#[test]
fn the_window_slides() {
    assert_eq!(highest_within(&[1, 5, 2, 3, 3, 0], 1), [5, 5, 3, 3, 3, 0]);
    assert_eq!(highest_within(&[1, 5, 2], 0), [1, 5, 2]);
    assert_eq!(highest_within(&[1, 5, 2], 9), [5, 5, 2]);
}

#[test]
fn units_are_there_when_the_load_comes_and_go_with_it() {
    // Latency of a minute; the gap of a minute is kept through, that of two is not.
    let bout = bout(&[20.0, 20.0, 50.0, 20.0, 50.0, 20.0, 20.0, 50.0]);
    let tally = flown(&bout);
    assert_eq!((tally.short_ticks, tally.actions), (0, 3));
    // In unit minutes: two all the time; three more from a minute ahead of the first peak to the end of the second, and
    // again around the third.
    assert_eq!(tally.cost_usd, 16.0 + 3.0 * 4.0 + 3.0 * 2.0);
}

#[test]
fn what_cannot_be_met_is_met_as_soon_as_possible() {
    let bout = bout(&[50.0, 50.0, 50.0]);
    let tally = flown(&bout);
    assert_eq!((tally.short_ticks, tally.cost_usd), (4, 15.0));
}

/// A bout whose load changes at every tick, so that there are few plans; up to three units.
fn small(needs: &[u32], initial: u32, latency_ticks: i64, spread: f64, seed: u64) -> Bout {
    let mut bout = bout(&[]);
    bout.demand.step = TICK;
    bout.demand.load = needs.iter().map(|need| 10.0 * f64::from(*need)).collect();
    let latency = Span::from_millis(TICK.millis() * latency_ticks);
    (bout.fleet.min, bout.fleet.max, bout.fleet.initial, bout.fleet.seed) = (0, 3, initial, seed);
    bout.fleet.provisioning_latency = latency;
    bout.fleet.provisioning_latency_p90 = Span::from_millis((latency.millis() as f64 * spread) as i64);
    bout
}

/// All plans there are: the least load missed, and the least cost at that.
fn best_of_all(bout: &Bout) -> (f64, f64) {
    let ticks = bout.demand.load.len();
    let choices = u64::from(bout.fleet.max) + 1;
    let plans = (0..choices.pow(ticks as u32)).map(|plan| {
        let mut left = plan;
        let tally = bout.drive(|_| {
            let wish = (left % choices) as u32;
            left /= choices;
            Some(wish)
        });
        (tally.missed, tally.cost_usd)
    });
    plans.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// With one latency for all, no plan of any kind misses less, and none that misses as little is cheaper.
    #[test]
    fn with_one_latency_it_is_the_best_of_all_plans(
        needs in prop::collection::vec(0u32..5, 2..7), initial in 0u32..4, latency in 0i64..4, billed in 0i64..4,
    ) {
        let mut bout = small(&needs, initial, latency, 1.0, 1);
        // A minimum that is no longer than a unit takes to come is paid in any case.
        bout.fleet.minimum_billing = Span::from_millis(TICK.millis() * billed.min(latency));
        let tally = flown(&bout);
        let (missed, cost) = best_of_all(&bout);
        prop_assert!((tally.missed - missed).abs() < 1e-9, "missed {} of {missed}", tally.missed);
        prop_assert!((tally.cost_usd - cost).abs() < 1e-9, "cost {} of {cost}", tally.cost_usd);
    }
}

proptest! {
    /// With a lead time that does not vary, the highest need within it is a lower bound of every plan's units.
    #[test]
    fn no_plan_is_cheaper_and_nothing_avoidable_is_short(
        load in prop::collection::vec(0.0..200.0, 1..60), warm_up in 0i64..3, spread in 1.0..1.6,
    ) {
        let mut bout = bout(&load);
        bout.fleet.warm_up = Span::from_secs(warm_up * 30);
        let steady = flown(&bout);
        let lead = (bout.fleet.provisioning_latency + bout.fleet.warm_up).steps_up(TICK) as u64;
        prop_assert!(steady.short_ticks <= lead);
        // Before the first unit can come, those that are there must do.
        let mut needs = Oracle::new(&bout).needs;
        needs.iter_mut().take(lead as usize).for_each(|need| *need = (*need).min(bout.fleet.initial));
        let least: u32 = highest_within(&needs, lead as usize).iter().sum();
        prop_assert!((steady.unit_hours * 240.0 - f64::from(least)).abs() < 1e-6);
        // Where it varies, only the first units may be late.
        bout.fleet.provisioning_latency_p90 = Span::from_millis((60_000.0 * spread) as i64);
        let varied = flown(&bout);
        prop_assert!(varied.short_ticks <= Oracle::new(&bout).longest_lead as u64);
    }
}

/// Every other system at all of its settings: what it begins with, and what came of it.
fn rivals(course: &Course) -> Vec<(String, u32, Tally)> {
    let mut all = Vec::new();
    for system in System::baselines().filter(|system| *system != System::Oracle) {
        let contender = system.build(course).unwrap();
        let targets: Vec<f64> = if system.has_target() { targets().collect() } else { vec![1.0] };
        for variant in contender.variants().iter().copied().chain(contender.bracket()) {
            for target in &targets {
                let mut entered = contender.enter(&course.bout, Knobs { target: *target, variant });
                let initial = entered.initial().unwrap_or(course.bout.fleet.initial);
                let tally = crate::meeting::fly(entered.as_mut(), &course.bout, &[]);
                all.push((format!("{system} {variant} {target}"), initial, tally));
            }
        }
    }
    all
}

/// Rivals that are as little short as an oracle that begins with as many units, and the share of its cost that they cost less.
fn as_good(course: &Course) -> Vec<(String, f64)> {
    let mut oracles: BTreeMap<u32, Tally> = BTreeMap::new();
    let mut found = Vec::new();
    for (name, initial, tally) in rivals(course) {
        let best = oracles.entry(initial).or_insert_with(|| {
            let mut bout = course.bout.clone();
            bout.fleet.initial = initial;
            flown(&bout)
        });
        if tally.short_ticks <= best.short_ticks && tally.missed <= best.missed {
            found.push((name, 1.0 - tally.cost_usd / best.cost_usd));
        }
    }
    found
}

/// A load that wanders and jumps, by the minute: six hours to learn from and six to fly.
fn wandering(moves: &[f64], spread: f64, warm_up: i64, seed: u64) -> Course {
    let mut level = 100.0;
    let mut load = |minute: usize| {
        let jump = if minute.is_multiple_of(11) { 4.0 } else { 1.0 };
        level = f64::clamp(level + jump * moves[minute % moves.len()], 5.0, 400.0);
        level
    };
    let mut bout = bout(&[]);
    let training = Demand { load: (0..360).map(&mut load).collect(), ..bout.demand.clone() };
    bout.demand = Demand { start: training.end(), load: (360..720).map(load).collect(), ..bout.demand };
    (bout.fleet.initial, bout.fleet.seed) = (12, seed);
    bout.fleet.warm_up = Span::from_secs(warm_up);
    bout.fleet.provisioning_latency = Span::from_secs(150);
    bout.fleet.provisioning_latency_p90 = Span::from_millis((150_000.0 * spread) as i64);
    bout.fleet.minimum_billing = Span::from_secs(60);
    Course { training, bout }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn with_one_latency_nobody_who_is_as_little_short_is_cheaper(moves in prop::collection::vec(-12.0..12.0, 3..33)) {
        for (rival, saved) in as_good(&wandering(&moves, 1.0, 0, 1)) {
            prop_assert!(saved < 1e-9, "{rival} saves {saved}");
        }
    }

    /// There it is no bound; what was ever seen is far less.
    #[test]
    fn with_latencies_that_vary_nobody_who_is_as_little_short_is_cheaper_by_a_hundredth(
        moves in prop::collection::vec(-12.0..12.0, 3..33), spread in 1.0..2.0, warm_up in 0i64..3, seed in 0u64..1000,
    ) {
        for (rival, saved) in as_good(&wandering(&moves, spread, 30 * warm_up, seed)) {
            prop_assert!(saved < 0.01, "{rival} saves {saved}");
        }
    }
}
