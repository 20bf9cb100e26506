//! A week of inference in business hours, from zero and back to zero.
//!
//! Business hours are 24 % of the week and their load is half of what an always-on fleet carries: 12.6 % of that fleet's
//! cost goes into the requests themselves, so that on units at one price no more than 87.4 % can be saved, by whoever. What
//! lies between that and what is saved is places that are free so that requests need not wait (utilization 70 to 85 %), whole
//! units at the edges of the day, and a quarter of an hour of two warm units before each. The mark of 94 % is one of a
//! price: on spot units at 70 % less it is reached, with some more reserve for those that are taken away.

use super::super::*;
use super::*;

/// With units that are used to this share at their load, and a twentieth of the time in which it may be more: a queue of some
/// requests is what is aimed at.
fn flown(scenario: &Scenario, share: f64) -> Verdict {
    let mut configured = configured(scenario, share).to_zero();
    configured.policy.planning.violation_budget = 0.05;
    let is_before_work = |at: Timestamp| {
        let minute = at.since(scenario.run.start).millis() / 60_000;
        minute < 5 * 1440 && (526..540).contains(&(minute % 1440))
    };
    let take = |decision: &Decision| {
        // What is warm for the morning is not taken for idle.
        let is_warm = !is_before_work(decision.at) || decision.desired >= 2;
        assert!(is_warm, "{} {:?}", decision.at, decision.reasons);
    };
    scenario.fly(&configured, usual(&configured, 30, 7), take).unwrap()
}

#[track_caller]
fn saves(scenario: &Scenario) {
    let flown = flown(scenario, 0.9);
    missed(&flown, &["94 % cheaper than always on"]);
    let (saved, least) = (flown.checks[0].found.unwrap(), scenario.least_cost_share().unwrap());
    assert!(saved > 0.825 && saved > 0.94 * (1.0 - least), "{saved} of {}", 1.0 - least);
    // At night and at the weekend nothing is on.
    let hours = scenario.run.end.since(scenario.run.start).seconds() / 3600.0;
    let on = flown.outcome.windows.iter().filter(|window| window.ready_mean > 0.0).count();
    let share = on as f64 / flown.outcome.windows.len() as f64;
    assert!((40.0 / hours..44.0 / hours).contains(&share), "{share}");
    let totals = &flown.outcome.totals;
    assert!((totals.dropped() as f64) < 1e-4 * totals.arrived as f64, "{totals:?}");
}

#[test]
fn a_gpu_week_is_served_from_zero_for_a_sixth_of_the_cost_of_a_fleet_that_is_always_on() {
    saves(&gpu_week(7));
}

#[test]
fn heavy_a_gpu_week_is_served_alike_whatever_the_seed() {
    saves(&gpu_week(8));
    saves(&gpu_week(9));
}

#[test]
fn heavy_a_gpu_week_on_spot_units_costs_six_percent_of_a_fleet_that_is_always_on_at_the_full_price() {
    for seed in [7, 8] {
        missed(&flown(&gpu_week_on_spot(seed), 0.85), &[]);
    }
}

#[test]
fn heavy_what_a_gpu_week_asks_is_out_of_reach_for_who_knows_it_and_for_who_never_changes_anything() {
    let scenario = gpu_week(7);
    let known = scenario.run(clairvoyant(&scenario, Span::from_minutes(6), 0.85)).unwrap();
    missed(&known, &["94 % cheaper than always on"]);
    let least = scenario.least_cost_share().unwrap();
    assert!((0.10..0.15).contains(&least), "{least}");
    let saved = known.checks[0].found.unwrap();
    assert!(saved > 0.8 && saved < 1.0 - least, "{saved}");
    let always = scenario.run(|_| Some(8)).unwrap();
    missed(&always, &["94 % cheaper than always on", "utilization while on 70 to 85 %"]);
}
