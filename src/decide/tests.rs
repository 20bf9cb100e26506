//! What holds for the whole chain, over random inputs, and how explanations read.

use std::collections::BTreeMap;

use prescale_domain::*;
use proptest::prelude::*;

use crate::{Moment, decide, explain, recompute};

const MINUTE: i64 = 60_000;
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_790_000_040_000);

fn settings() -> PolicySettings {
    PolicySettings {
        unit_capacity: 50.0,
        min_units: 2,
        max_units: 40,
        quantile: 0.95,
        step_up_units: 10,
        step_down_units: 4,
        cooldown_up: Span::from_secs(60),
        cooldown_down: Span::from_secs(120),
        stabilization_down: Span::from_secs(300),
        hysteresis: 0.1,
        reactive_utilization: 0.7,
        stale_after: Span::from_secs(300),
        blind_after: Span::from_secs(300),
        planning: PlanningSettings::default(),
    }
}

pub(crate) fn forecast(upper: &[f64], effective_index: usize) -> ForecastInput {
    ForecastInput {
        model: "holt".to_owned(),
        reason: "champion".to_owned(),
        origin: NOW - Span::from_minutes(1),
        step: Span::from_minutes(1),
        quantile: 0.95,
        from: NOW,
        upper: upper.to_vec(),
        median: upper.iter().map(|value| value * 0.8).collect(),
        effective_index,
        levels: Vec::new(),
        values: Rows::default(),
    }
}

/// Inputs as a loop puts them together, on half an hour of forecast by the minute of which the horizon can be trusted.
pub(crate) fn moment(provisioning_latency: Span, confident_horizon: Option<Span>) -> DecisionInputs {
    let known = inputs(400.0, 10);
    let forecast = QuantileForecast {
        service: known.service.clone(),
        origin: NOW - Span::from_minutes(1),
        step: Span::from_minutes(1),
        model: "arima".to_owned(),
        reason: "champion".to_owned(),
        levels: vec![0.5, 0.95],
        values: vec![vec![400.0, 500.0]; 30],
    };
    let moment = Moment {
        service: &known.service,
        at: NOW,
        mode: known.mode,
        settings: &known.settings,
        load: known.load,
        load_window_end: known.load_window_end,
        window_end: Some(NOW),
        signals: BTreeMap::new(),
        forecast: Ok(&forecast),
        decision_interval: Span::from_secs(60),
        provisioning_latency,
        provisioning_median: None,
        warm_up: Span::ZERO,
        confident_horizon,
        target: known.target,
        memory: known.memory.clone(),
        circumstances: Circumstances::default(),
    };
    moment.inputs()
}

pub(crate) fn inputs(load: f64, present: u32) -> DecisionInputs {
    DecisionInputs {
        service: "checkout".into(),
        at: NOW,
        mode: Mode::Act,
        settings: settings(),
        load: Some(load),
        load_window_end: Some(NOW),
        signals: BTreeMap::new(),
        forecast: Some(forecast(&[500.0, 520.0, 540.0, 560.0, 580.0, 600.0], 4)),
        forecast_missing: String::new(),
        lead_time: LeadTime {
            data_age: Span::ZERO,
            decision_interval: Span::from_secs(60),
            provisioning_latency: Span::from_secs(180),
            warm_up: Span::from_secs(60),
            provisioning_median: None,
        },
        target: Some(TargetState {
            desired: present,
            ready: Some(present),
            min: Some(1),
            max: Some(100),
            observed_at: NOW,
        }),
        memory: DecisionMemory { needs: vec![(NOW - Span::from_minutes(1), 1)], ..DecisionMemory::default() },
        circumstances: Circumstances::default(),
    }
}

/// Codes of the reasons and the desired units.
#[track_caller]
pub(crate) fn check(inputs: &DecisionInputs, codes: &str, desired: u32) {
    let decision = decide(inputs);
    let found: Vec<&str> = decision.reasons.iter().map(|reason| reason.code.as_str()).collect();
    assert_eq!((found.join(" ").as_str(), decision.desired), (codes, desired), "{}", explain(&decision));
}

#[test]
fn the_need_is_the_peak_once_capacity_is_effective() {
    check(&inputs(480.0, 10), "forecast-need", 12);
}

#[test]
fn what_is_removed_now_must_not_be_needed_until_then() {
    let mut case = inputs(480.0, 14);
    case.forecast = Some(forecast(&[600.0, 500.0, 300.0, 250.0, 200.0], 4));
    check(&case, "forecast-need cover-until-effective", 12);
}

#[test]
fn a_load_above_the_band_sets_a_floor_and_skips_the_cooldown() {
    let mut case = inputs(490.0, 10);
    case.memory.last_scale_up = Some(NOW - Span::from_secs(30));
    check(&case, "forecast-need cooldown-up", 10);
    // Hardly above the band, there is nothing to add to the need, but to wait no longer for it.
    case.load = Some(510.0);
    check(&case, "forecast-need", 12);
    // 20 % above it: 600 / 50, and 20 % more twice.
    case.load = Some(600.0);
    check(&case, "forecast-need above-band", 18);
    // 40 % above it, but no more than 10 units are added at once.
    case.load = Some(700.0);
    check(&case, "forecast-need above-band step-up", 20);
}

#[test]
fn a_limit_of_utilization_is_a_floor_by_the_newest_load() {
    let mut case = inputs(480.0, 10);
    case.settings.planning.utilization_max = Some(0.8);
    check(&case, "forecast-need", 12);
    // 480 / (50 × 0.6) = 16.
    case.settings.planning.utilization_max = Some(0.6);
    check(&case, "forecast-need utilization-max", 16);
    case.load = Some(300.0);
    check(&case, "forecast-need", 12);
}

#[test]
fn without_stabilization_only_the_start_holds() {
    let mut case = inputs(80.0, 10);
    case.forecast = Some(forecast(&[100.0; 6], 4));
    case.settings.stabilization_down = Span::ZERO;
    check(&case, "forecast-need step-down", 6);
    case.memory.needs = vec![(NOW - Span::from_minutes(10), 1)];
    check(&case, "forecast-need stabilization-down", 10);
}

#[test]
fn without_a_usable_forecast_the_last_load_decides() {
    let mut case = inputs(490.0, 10);
    case.forecast = None;
    case.forecast_missing = "cold-start".to_owned();
    check(&case, "forecast-missing reactive-need", 14);
    case.forecast = Some(ForecastInput { origin: NOW - Span::from_minutes(7), ..forecast(&[500.0], 0) });
    check(&case, "forecast-stale reactive-need", 14);
    case.forecast = Some(forecast(&[500.0], 1));
    check(&case, "horizon-short reactive-need", 14);
}

#[test]
fn blindness_and_gaps_hold_what_is_there() {
    let mut case = inputs(0.0, 50);
    case.load = None;
    check(&case, "hold-gap", 50);
    case.load_window_end = Some(NOW - Span::from_minutes(6));
    check(&case, "hold-blind", 50);
    case.load_window_end = None;
    check(&case, "hold-blind", 50);
    case.target = case.target.map(|target| TargetState { desired: 1, ..target });
    check(&case, "hold-blind min-units", 2);
    case.target = None;
    check(&case, "hold-blind hold-target-unknown", 2);
}

#[test]
fn an_unobserved_target_is_left_alone() {
    let mut case = inputs(480.0, 10);
    case.target = None;
    check(&case, "forecast-need hold-target-unknown", 12);
    assert_eq!(decide(&case).kind, DecisionKind::None);
}

#[test]
fn scale_in_waits_for_stabilization_hysteresis_cooldown_and_steps() {
    let mut case = inputs(80.0, 10);
    case.forecast = Some(forecast(&[100.0; 6], 4));
    check(&case, "forecast-need step-down", 6);
    case.memory.last_scale_up = Some(NOW - Span::from_secs(90));
    check(&case, "forecast-need cooldown-down", 10);
    case.memory.needs = vec![(NOW - Span::from_minutes(6), 10), (NOW - Span::from_minutes(4), 9)];
    check(&case, "forecast-need stabilization-down hysteresis", 10);
    case.memory.needs.clear();
    check(&case, "forecast-need stabilization-down", 10);
}

#[test]
fn bounds_have_the_last_word() {
    let mut case = inputs(480.0, 39);
    case.forecast = Some(forecast(&[9000.0; 6], 4));
    check(&case, "forecast-need max-units", 40);
    case.target = case.target.map(|target| TargetState { max: Some(12), ..target });
    check(&case, "forecast-need max-units target-max cover-until-effective target-max", 12);
}

#[test]
fn the_memory_holds_the_stabilization_window_and_no_more() {
    let mut case = inputs(480.0, 10);
    case.memory.needs = (0..20).rev().map(|minute| (NOW - Span::from_minutes(minute), 7)).collect();
    let memory = decide(&case).memory;
    assert_eq!(memory.needs.len(), 7);
    assert_eq!(memory.needs.last(), Some(&(NOW, 12)));
    assert_eq!(memory.last_scale_up, Some(NOW));
}

#[test]
fn a_changed_record_is_noticed() {
    let decision = decide(&inputs(480.0, 10));
    assert!(recompute(&decision).is_ok());
    let json = serde_json::to_string(&decision).unwrap();
    assert!(recompute(&serde_json::from_str(&json).unwrap()).is_ok());
    let changed = Decision { desired: 13, ..decision };
    let difference = recompute(&changed).unwrap_err();
    assert!(difference.recorded.starts_with("\"desired\":13"), "{difference}");
    assert!(difference.recomputed.starts_with("\"desired\":12"), "{difference}");
}

#[test]
fn explanations_read_well() {
    let scale_up = decide(&inputs(600.0, 10));
    insta::assert_snapshot!("scale_up", explain(&scale_up));
    let mut case = inputs(80.0, 10);
    case.forecast = Some(forecast(&[100.0; 6], 4));
    insta::assert_snapshot!("scale_down", explain(&decide(&case)));
    case.load = None;
    case.load_window_end = Some(NOW - Span::from_minutes(6));
    case.forecast = None;
    case.forecast_missing = "no-data".to_owned();
    insta::assert_snapshot!("blind", explain(&decide(&case)));
}

prop_compose! {
    fn any_settings()(
        unit_capacity in prop_oneof![9 => 0.1..200.0, 1 => Just(0.0)],
        (min_units, extra) in (0u32..20, 0u32..60),
        (step_up_units, step_down_units) in (0u32..30, 0u32..30),
        (cooldown_up, cooldown_down, window) in (0i64..10, 0i64..10, 0i64..20),
        hysteresis in 0.0..0.5,
        reactive_utilization in 0.3..1.0,
        (stale, blind) in (1i64..10, 1i64..10),
        planning in any_planning(),
    ) -> PolicySettings {
        PolicySettings {
            unit_capacity, min_units, max_units: min_units + extra, quantile: 0.9, step_up_units, step_down_units,
            cooldown_up: Span::from_minutes(cooldown_up), cooldown_down: Span::from_minutes(cooldown_down),
            stabilization_down: Span::from_minutes(window), hysteresis, reactive_utilization,
            stale_after: Span::from_minutes(stale), blind_after: Span::from_minutes(blind),
            planning,
        }
    }
}

prop_compose! {
    fn any_planning()(
        rule in prop::sample::select(PlanningRule::ALL.to_vec()),
        violation_budget in 0.0001..0.2,
        (headroom, confidence_min, target_utilization) in (0.0..0.5, 0.0..1.0, 0.3..1.0),
        prices in prop::option::of((0.01..2.0, 0.001..0.2)),
        churn in 0i64..10,
        predictive in prop::bool::weighted(0.8),
        smoothing in prop_oneof![Just(1.0), 0.1..1.0],
        utilization_max in prop::option::weighted(0.3, 0.2..1.0),
    ) -> PlanningSettings {
        PlanningSettings {
            rule, violation_budget, headroom, confidence_min, target_utilization, smoothing, utilization_max,
            price_usd_hour: prices.map(|(price, _)| price), missed_usd_hour: prices.map(|(_, missed)| missed),
            churn: Span::from_minutes(churn), predictive, risk_max: 0.25,
            triggers: vec![Trigger { signal: "queue_length".to_owned(), target: 5.0, weight: 0.4 }],
            ..PlanningSettings::default()
        }
    }
}

prop_compose! {
    fn any_forecast()(
        upper in prop::collection::vec(0.0..3000.0, 0..10),
        effective_index in 0usize..8,
        age in 0i64..12,
        with_quantiles in prop::bool::weighted(0.8),
    ) -> ForecastInput {
        let origin = NOW - Span::from_minutes(age + 1);
        let quantiles = |upper: &f64| [0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.2].map(|share| share * upper).to_vec();
        let values = if with_quantiles { upper.iter().map(quantiles).collect() } else { Vec::new() };
        let levels = if with_quantiles { DEFAULT_QUANTILES.to_vec() } else { Vec::new() };
        let from = origin + Span::from_minutes(1);
        ForecastInput { origin, from, levels, values: values.into(), ..forecast(&upper, effective_index) }
    }
}

prop_compose! {
    pub(crate) fn any_inputs()(
        settings in any_settings(),
        load in prop::option::weighted(0.9, 0.0..3000.0),
        age in prop::option::weighted(0.9, 0i64..12),
        forecast in prop::option::weighted(0.8, any_forecast()),
        target in prop::option::weighted(0.9, (0u32..60, prop::option::of(0u32..10), prop::option::of(10u32..60))),
        needs in prop::collection::vec((0i64..30, 0u32..60), 0..10),
        (up, down) in (prop::option::of(0i64..15), prop::option::of(0i64..15)),
        queue in prop::option::of(0.0..500.0),
        median in prop::option::of(30i64..180),
    ) -> DecisionInputs {
        let ago = |minutes: i64| NOW - Span::from_millis(minutes * MINUTE);
        DecisionInputs {
            settings, load, load_window_end: age.map(ago), forecast,
            target: target.map(|(desired, min, max)| TargetState { desired, ready: None, min, max, observed_at: NOW }),
            memory: DecisionMemory {
                last_scale_up: up.map(ago), last_scale_down: down.map(ago),
                needs: needs.into_iter().map(|(minutes, units)| (ago(minutes), units)).collect(),
                ..DecisionMemory::default()
            },
            signals: queue.map(|queue| ("queue_length".to_owned(), queue)).into_iter().collect(),
            lead_time: LeadTime { provisioning_median: median.map(Span::from_secs), ..inputs(0.0, 0).lead_time },
            ..inputs(0.0, 0)
        }
    }
}

fn held(decision: &Decision) -> bool {
    decision.need.is_none()
}

/// The inputs with `by` times the load and the forecast.
pub(crate) fn scaled(inputs: &DecisionInputs, load: f64, forecast: f64) -> DecisionInputs {
    let mut more = inputs.clone();
    more.load = more.load.map(|value| value * load);
    if let Some(input) = &mut more.forecast {
        input.upper.iter_mut().chain(&mut input.median).for_each(|value| *value *= forecast);
        let row = |row: &[f64]| row.iter().map(|value| value * forecast).collect();
        input.values = input.values.iter().map(row).collect::<Vec<Vec<f64>>>().into();
    }
    more
}

#[test]
fn ids_stay_what_they_were() {
    let id = |inputs: &DecisionInputs| decide(inputs).id.0;
    let minutes = |count: i64| moment(Span::from_minutes(count), None);
    let whole = DecisionInputs { at: NOW + Span::from_millis(7), ..minutes(3) };
    // The last has no forecast.
    let ids = [inputs(400.0, 10), minutes(3), whole, minutes(45)].map(|inputs| id(&inputs));
    let hashes = ["7aefcd9aa57671e2", "fb2dec94bf5eab14", "c97746de2a3a70dc", "42804ad01deb3bd7"];
    let times = ["14:14:00Z", "14:14:00Z", "14:14:00.007Z", "14:14:00Z"];
    let expected = times.into_iter().zip(hashes).map(|(time, hash)| format!("checkout@2026-09-21T{time}#{hash}"));
    assert!(expected.eq(ids.clone()), "{ids:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn equal_inputs_give_equal_bytes_and_a_reason(inputs in any_inputs()) {
        let decision = decide(&inputs);
        let again = serde_json::to_vec(&decide(&inputs)).unwrap();
        prop_assert_eq!(serde_json::to_vec(&decision).unwrap(), again);
        prop_assert!(!decision.reasons.is_empty());
        prop_assert_eq!(decision.reasons.last().unwrap().units, decision.desired);
        prop_assert!(recompute(&decision).is_ok());
        let json = serde_json::to_string(&decision).unwrap();
        prop_assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), decision);
    }

    #[test]
    fn desired_is_in_bounds(inputs in any_inputs()) {
        let decision = decide(&inputs);
        let (min, max) = (inputs.settings.min_units, inputs.settings.max_units);
        let target = inputs.target.unwrap_or(TargetState { desired: 0, ready: None, min: None, max: None, observed_at: NOW });
        let low = min.min(max).max(target.min.unwrap_or(0)).min(target.max.unwrap_or(u32::MAX));
        prop_assert!(decision.desired >= low, "{}", explain(&decision));
        if !held(&decision) {
            let high = max.max(target.min.unwrap_or(0)).min(target.max.unwrap_or(u32::MAX));
            prop_assert!(decision.desired <= high, "{}", explain(&decision));
        }
    }

    #[test]
    fn more_load_never_gives_less(inputs in any_inputs(), by in 1.0..5.0) {
        let (less, more) = (decide(&inputs), decide(&scaled(&inputs, by, 1.0)));
        prop_assert!(more.desired >= less.desired, "{}{}", explain(&less), explain(&more));
    }

    #[test]
    fn more_load_and_forecast_never_gives_less(inputs in any_inputs(), by in prop_oneof![Just(2.0), Just(4.0)]) {
        // Powers of two, so that the scaled load stays on its side of the scaled band to the last bit.
        let (less, more) = (decide(&inputs), decide(&scaled(&inputs, by, by)));
        prop_assert!(more.desired >= less.desired, "{}{}", explain(&less), explain(&more));
    }

    #[test]
    fn a_higher_forecast_never_gives_less_while_the_load_is_within_it(inputs in any_inputs(), by in 1.0..5.0) {
        let (less, more) = (decide(&inputs), decide(&scaled(&inputs, 1.0, by)));
        let surprised = crate::Context::new(&inputs).surprise().is_some();
        prop_assert!(surprised || more.desired >= less.desired, "{}{}", explain(&less), explain(&more));
    }

    #[test]
    fn less_budget_never_gives_less(mut inputs in any_inputs(), by in 1.0..20.0) {
        inputs.settings.planning.rule = PlanningRule::RiskBudget;
        let mut tight = inputs.clone();
        tight.settings.planning.violation_budget /= by;
        let (less, more) = (decide(&inputs), decide(&tight));
        prop_assert!(more.need >= less.need, "{}{}", explain(&less), explain(&more));
    }

    #[test]
    fn deciding_twice_changes_nothing(inputs in any_inputs()) {
        // Once the target wants what was decided, the same moment asks for nothing more.
        let first = decide(&inputs);
        let mut again = inputs.clone();
        again.target = inputs.target.map(|target| TargetState { desired: first.desired, ..target });
        again.memory = first.memory.clone();
        let second = decide(&again);
        // What a step limit held back goes on in the next decision, which is another moment.
        let stepped = first.reasons.iter().any(|reason| reason.code.starts_with("step-"));
        prop_assert!(stepped || second.desired == first.desired, "{}{}", explain(&first), explain(&second));
    }

    #[test]
    fn alternatives_are_ordered_in_units_and_risk(inputs in any_inputs()) {
        let alternatives = decide(&inputs).alternatives;
        prop_assert!(alternatives.windows(2).all(|pair| {
            pair[0].units < pair[1].units
                && pair[1].overload <= pair[0].overload + 1e-12
                && pair[1].shortage <= pair[0].shortage + 1e-6
        }), "{alternatives:?}");
    }

    #[test]
    fn blind_or_unobserved_never_scales_in(mut inputs in any_inputs(), way in 0..3) {
        match way {
            0 => inputs.load = None,
            1 => inputs.load_window_end = None,
            _ => inputs.target = None,
        }
        let decision = decide(&inputs);
        prop_assert_ne!(decision.kind, DecisionKind::ScaleDown);
    }

    #[test]
    fn steps_are_limited_but_for_bounds(inputs in any_inputs()) {
        let decision = decide(&inputs);
        let bound = |code: &str| decision.reasons.iter().any(|reason| reason.code == code);
        if let Some(target) = inputs.target {
            let added = decision.desired.saturating_sub(target.desired);
            let removed = target.desired.saturating_sub(decision.desired);
            prop_assert!(added <= inputs.settings.step_up_units || bound("min-units") || bound("target-min"));
            prop_assert!(removed <= inputs.settings.step_down_units || bound("max-units") || bound("target-max"));
        }
    }

    #[test]
    fn the_memory_never_outgrows_its_window(inputs in any_inputs()) {
        let memory = decide(&inputs).memory;
        let window = inputs.settings.stabilization_down;
        prop_assert!(memory.needs.iter().all(|(moment, _)| NOW.since(*moment) <= window));
    }
}
