//! The defaults of the policy hold up against HPA at its best target.

use std::collections::BTreeMap;

use prescale_domain::*;

use super::*;
use crate::score::{ScoreInputs, render, score_card};

/// Units that the mean load needs.
const UNITS: f64 = 10.0;

pub(crate) fn fleet(seed: u64) -> FleetSettings {
    FleetSettings {
        min: 2,
        max: 120,
        initial: 2,
        provisioning_latency: Span::from_secs(180),
        provisioning_latency_p90: Span::from_secs(210),
        warm_up: Span::from_secs(45),
        price_usd_hour: 0.17,
        minimum_billing: Span::from_secs(60),
        seed,
    }
}

pub(crate) fn experiment() -> ExperimentSettings {
    ExperimentSettings {
        policy: PolicySettings {
            unit_capacity: 0.2,
            min_units: 2,
            max_units: 120,
            quantile: 0.99,
            step_up_units: 40,
            step_down_units: 10,
            cooldown_up: Span::ZERO,
            cooldown_down: Span::from_secs(120),
            stabilization_down: Span::from_secs(300),
            hysteresis: 0.05,
            reactive_utilization: 0.7,
            stale_after: Span::from_secs(300),
            blind_after: Span::from_secs(180),
            planning: PlanningSettings::default(),
        },
        decision_interval: Span::from_secs(60),
        data_age: Span::from_secs(60),
        early: None,
        knows_events: true,
        mode: Mode::Act,
        rules: None,
    }
}

fn stage(seed: u64) -> Stage {
    let start = "2026-03-02T00:00:00Z".parse().unwrap();
    let load = LoadSettings::demo(seed, start, Span::from_minutes(14 * 1440), Span::from_minutes(2 * 1440));
    Stage::new(load, fleet(seed), UNITS)
}

#[test]
fn prescale_beats_hpa_at_its_best_target_on_five_seeds() {
    for seed in 1..=5 {
        let stage = stage(seed);
        let timelines = simulate_prescale(&stage, &experiment());
        let (bouts, histories) = (&stage.bouts, &stage.histories);
        let forecast = BTreeMap::new();
        let (card, sweep) =
            score_card(ScoreInputs { bouts, timelines: &timelines, histories, forecast, budget_pct: 1.0, seed });
        let (ours, hpa) = (&card.systems["prescale"], &card.systems["hpa"]);
        let text = render(&card, &sweep);
        assert!(ours.violations.time_pct < 0.9 * hpa.violations.time_pct, "{text}");
        assert!(ours.violations.requests_pct < 0.7 * hpa.violations.requests_pct, "{text}");
        assert!(ours.cost_usd < 0.98 * hpa.cost_usd, "{text}");
        assert!(hpa.cost_usd < 0.6 * card.systems["static-peak"].cost_usd, "{text}");
    }
}

#[test]
fn the_same_seed_gives_the_same_decisions() {
    let short = |seed| {
        let start = "2026-03-02T00:00:00Z".parse().unwrap();
        let load = LoadSettings::demo(seed, start, Span::from_minutes(3 * 1440), Span::from_minutes(360));
        simulate_prescale(&Stage::new(load, fleet(seed), UNITS), &experiment())
    };
    assert_eq!(short(3), short(3));
    assert_ne!(short(3), short(4));
}

/// Time of each decision, and its load with the end of what that is of.
fn decided(early: Option<Span>, seen: Seen) -> Vec<(Span, Option<(f64, Span)>)> {
    let bout = &stage(1).bouts[0];
    let settings = ExperimentSettings { early, data_age: Span::from_secs(5), ..experiment() };
    let (start, mut out) = (bout.demand.start, Vec::new());
    simulate_service(
        bout,
        &"web".into(),
        &settings,
        seen,
        |_| Err("no-history".to_owned()),
        |decision| {
            let load = decision.inputs.load.zip(decision.inputs.load_window_end);
            out.push((decision.at.since(start), load.map(|(load, end)| (load, end.since(start)))));
        },
    );
    out
}

#[test]
fn a_part_of_a_window_is_decided_by_before_it_is_over_and_where_it_tells_nothing_the_one_before_counts() {
    let seconds = Span::from_secs;
    let seen = [10.0, 20.0, f64::NAN, 40.0];
    let closed = [(65, Some((10.0, 60))), (125, Some((20.0, 120))), (185, None), (245, Some((40.0, 240)))];
    let early = [(15, Some((10.0, 10))), (75, Some((20.0, 70))), (135, Some((20.0, 120))), (195, Some((40.0, 190)))];
    let of = |told: [(i64, Option<(f64, i64)>); 4]| {
        told.map(|(at, load)| (seconds(at), load.map(|(load, end)| (load, seconds(end))))).to_vec()
    };
    assert_eq!(decided(None, seen[..].into()), of(closed));
    assert_eq!(decided(Some(seconds(10)), seen[..].into()), of(early));
    // Where parts are known by themselves they count, also where the window is a gap.
    let parts = [12.0, f64::NAN, 7.0, 41.0];
    let by_parts = [(15, Some((12.0, 10))), (75, Some((10.0, 60))), (135, Some((7.0, 130))), (195, Some((41.0, 190)))];
    assert_eq!(decided(Some(seconds(10)), Seen { windows: &seen, parts: Some(&parts) }), of(by_parts));
    assert_eq!(decided(None, Seen { windows: &seen, parts: Some(&parts) }), of(closed));
}
