//! Another source of the load: what it may do and what not.

use prescale_domain::*;
use proptest::prelude::*;

use super::invariants::surrounded;
use super::next;
use crate::tests::{NOW, check, inputs};
use crate::{decide, explain, recompute};

const AFTER: Span = Span::from_secs(125);

/// What Prometheus said half a minute ago.
fn told(load: f64) -> FallbackLoad {
    FallbackLoad {
        source: "prometheus".to_owned(),
        load: Some(load),
        at: Some(NOW - Span::from_secs(30)),
        missing: String::new(),
        after: AFTER,
        fresh_for: Span::from_secs(60),
    }
}

fn unreachable() -> FallbackLoad {
    FallbackLoad { missing: "unreachable".to_owned(), at: Some(NOW - Span::from_minutes(5)), ..told(900.0) }
}

/// The stream's last window, with a load of 480, ended so long ago; the forecast is as old.
fn silent_for(age: Span, present: u32, fallback: FallbackLoad) -> DecisionInputs {
    let mut case = inputs(480.0, present);
    case.load_window_end = Some(NOW - age);
    case.forecast = None;
    case.forecast_missing = "forecast-stale".to_owned();
    case.circumstances.fallback = Some(fallback);
    case
}

const SILENT: Span = Span::from_minutes(3);
const BLIND: Span = Span::from_minutes(20);

#[test]
fn while_the_stream_speaks_the_other_source_has_no_say() {
    for fallback in [told(5000.0), told(0.0), unreachable()] {
        let mut case = inputs(480.0, 10);
        case.circumstances.fallback = Some(fallback.clone());
        check(&case, "forecast-need", 12);
        let spoke = silent_for(AFTER, 10, fallback);
        check(&spoke, "forecast-missing reactive-need", 14);
    }
}

#[test]
fn a_silent_stream_takes_its_load_from_the_other_source() {
    // 560 / 50 / 0.7 = 16 units.
    check(&silent_for(SILENT, 10, told(560.0)), "forecast-missing reactive-need fallback-need", 16);
    check(&silent_for(BLIND, 10, told(560.0)), "hold-blind fallback-need", 16);
    let mut gap = silent_for(Span::ZERO, 10, told(560.0));
    gap.load = None;
    check(&gap, "hold-gap fallback-need", 16);
    let mut never = silent_for(SILENT, 10, told(560.0));
    (never.load, never.load_window_end) = (None, None);
    check(&never, "hold-blind fallback-need", 16);
    let decision = decide(&never);
    assert_eq!(
        (decision.kind, decision.need, decision.binding.as_str()),
        (DecisionKind::ScaleUp, Some(16), "fallback-need")
    );
    assert!(explain(&decision).contains("prometheus tells 560"), "{}", explain(&decision));
    assert!(recompute(&decision).is_ok());
}

#[test]
fn it_only_adds_whatever_comes_and_goes() {
    for fallback in [told(35.0), told(0.0), unreachable(), FallbackLoad { at: None, load: None, ..unreachable() }] {
        for age in [SILENT, BLIND] {
            let decision = decide(&silent_for(age, 10, fallback.clone()));
            assert_eq!(decision.desired, 10, "{}", explain(&decision));
        }
    }
    // Neither a schedule nor an idle business takes away what is not known to be superfluous.
    let mut case = silent_for(SILENT, 10, told(35.0));
    case.circumstances.scheduled = vec![super::scheduled(ScheduleAction::ScaleTo(4))];
    check(&case, "forecast-missing reactive-need fallback-need", 10);
    case.circumstances.scheduled = vec![super::scheduled(ScheduleAction::ScaleTo(14))];
    check(&case, "forecast-missing reactive-need fallback-need scheduled", 14);
}

#[test]
fn it_works_from_zero_and_within_bounds_and_steps() {
    let mut zero = silent_for(BLIND, 0, told(70.0));
    zero.settings.min_units = 0;
    zero.target = zero.target.map(|target| TargetState { min: None, ..target });
    check(&zero, "hold-blind fallback-need", 2);
    zero.circumstances.fallback = Some(unreachable());
    check(&zero, "hold-blind fallback-missing", 0);
    // No more than 10 at once, no more than 40.
    check(&silent_for(BLIND, 10, told(2000.0)), "hold-blind fallback-need", 20);
    check(&silent_for(BLIND, 36, told(2000.0)), "hold-blind fallback-need", 40);
    check(&silent_for(BLIND, 50, told(2000.0)), "hold-blind fallback-need", 50);
}

#[test]
fn a_source_that_is_not_fresh_holds_and_says_so() {
    let stale = FallbackLoad { at: Some(NOW - Span::from_secs(61)), ..told(5000.0) };
    check(&silent_for(SILENT, 10, stale), "forecast-missing reactive-need fallback-missing", 10);
    let decision = decide(&silent_for(BLIND, 10, unreachable()));
    assert_eq!((decision.kind, decision.need), (DecisionKind::None, None));
    assert!(explain(&decision).contains("prometheus has told nothing for 5m (unreachable)"), "{}", explain(&decision));
}

#[test]
fn a_forecast_that_is_still_usable_may_add_beside_it() {
    // 12 units by the forecast.
    let with = |fallback: FallbackLoad| {
        let case = silent_for(SILENT, 10, fallback);
        DecisionInputs { forecast: inputs(0.0, 0).forecast, forecast_missing: String::new(), ..case }
    };
    check(&with(told(35.0)), "forecast-need fallback-need", 12);
    check(&with(told(560.0)), "forecast-need fallback-need", 16);
    check(&with(unreachable()), "forecast-need fallback-missing", 12);
}

#[test]
fn a_target_that_is_not_known_and_a_unit_that_carries_nothing_are_left_alone() {
    let mut case = silent_for(BLIND, 10, told(560.0));
    case.settings.unit_capacity = 0.0;
    check(&case, "hold-unit-capacity", 10);
    let mut case = silent_for(BLIND, 10, told(350.0));
    case.target = None;
    check(&case, "hold-blind fallback-need hold-target-unknown", 10);
}

#[test]
fn when_the_stream_is_back_capacity_goes_no_sooner_than_after_any_other_need() {
    let raised = decide(&silent_for(BLIND, 10, told(560.0)));
    let mut back = next(&raised, Span::from_minutes(1));
    (back.load, back.load_window_end) = (Some(100.0), Some(back.at));
    back.settings.stabilization_down = Span::from_minutes(3);
    let decision = decide(&back);
    assert_eq!(decision.desired, 16, "{}", explain(&decision));
    assert!(decision.reasons.iter().any(|reason| reason.code == "stabilization-down"), "{}", explain(&decision));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_goes_while_the_stream_is_silent(
        mut inputs in surrounded(),
        load in prop::option::of(prop_oneof![Just(0.0), 0.0..5000.0]),
        (age, silent) in (0i64..120, 126i64..3000),
        missing in any::<bool>(),
    ) {
        let missing = if missing { "unreachable" } else { "" }.to_owned();
        let at = load.map(|_| NOW - Span::from_secs(age));
        inputs.circumstances.fallback = Some(FallbackLoad { load, at, missing, ..told(0.0) });
        inputs.load_window_end = Some(NOW - Span::from_secs(silent));
        let decision = decide(&inputs);
        prop_assert_ne!(decision.kind, DecisionKind::ScaleDown, "{}", explain(&decision));
        prop_assert!(recompute(&decision).is_ok());
    }

    #[test]
    fn more_load_elsewhere_never_gives_less(inputs in surrounded(), load in 0.0..3000.0, by in 1.0..4.0) {
        let with = |load: f64| {
            let mut inputs = inputs.clone();
            inputs.circumstances.fallback = Some(told(load));
            inputs
        };
        let (less, more) = (decide(&with(load)), decide(&with(load * by)));
        prop_assert!(more.desired >= less.desired, "{}{}", explain(&less), explain(&more));
    }
}
