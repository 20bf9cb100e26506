//! What holds whatever the circumstances.

use prescale_domain::*;
use proptest::prelude::*;

use super::next;
use crate::tests::{NOW, any_inputs, scaled};
use crate::{Context, advice, decide, explain, recompute};

/// Reasons that are above the bounds: there is no room, or nothing may be changed.
const ABOVE_BOUNDS: &[&str] = &["limited", "freeze", "breaker-open", "breaker-trying", "retry-later", "paused"];

/// Reasons that go further than a step.
const ABOVE_STEPS: &[&str] = &[
    "min-units",
    "target-min",
    "max-units",
    "target-max",
    "scheduled",
    "pre-warm",
    "wake",
    "scale-to-zero",
    "emergency",
    "emergency-kept",
    "emergency-over",
    "planned-scale-down",
    "load-spike",
    "external-event",
    "api-limit",
    "budget-hour",
    "budget-month",
];

fn said(decision: &Decision, codes: &[&str]) -> bool {
    decision.reasons.iter().any(|reason| codes.contains(&reason.code.as_str()))
}

fn ago(seconds: i64) -> Timestamp {
    NOW - Span::from_secs(seconds)
}

prop_compose! {
    fn any_signals()(
        recent_load in prop::option::of(0.0..2000.0),
        (error_rate, usual_error_rate) in (prop::option::of(0.0..1.0), prop::option::of(0.0..0.2)),
        api_usage in prop::option::of(0.0..1.5),
        cost_usd_hour in prop::option::of(0.0..20.0),
        queue in prop::option::of(prop_oneof![Just(0.0), 0.0..50.0]),
        (in_flight, unit_concurrency) in (prop::option::of(0.0..100.0), prop::option::of(0.5..8.0)),
        uplift in prop::option::of(prop::option::of(0.5..4.0)),
    ) -> Signals {
        let external = uplift.map(|uplift| ExternalSignal { id: "e1".to_owned(), kind: "sale".to_owned(), uplift });
        Signals {
            recent_load, error_rate, usual_error_rate, api_usage, cost_usd_hour, queue, in_flight, unit_concurrency,
            external: external.into_iter().collect(),
        }
    }
}

fn any_action() -> impl Strategy<Value = ScheduleAction> {
    prop_oneof![
        (0u32..60).prop_map(ScheduleAction::ScaleTo),
        (0u32..60).prop_map(ScheduleAction::Min),
        (0u32..60).prop_map(ScheduleAction::Max),
        (-20i32..20).prop_map(ScheduleAction::Delta),
    ]
}

prop_compose! {
    fn any_limits()(
        (units, fleet_units, others) in (prop::option::of(0u32..60), prop::option::of(0u32..90), 0u32..40),
        (memory, per_unit) in (prop::option::of(0.0..10_000.0), prop::option::of(1.0..500.0)),
        reserve in 0.0..0.3,
    ) -> Limits {
        Limits {
            target: ResourceLimits { units, memory_mb: memory, ..ResourceLimits::default() },
            fleet: ResourceLimits { units: fleet_units, ..ResourceLimits::default() },
            others_units: others,
            unit: Resources { memory_mb: per_unit, ..Resources::default() },
            reserve,
            ..Limits::default()
        }
    }
}

prop_compose! {
    fn any_safety()(
        breaker in prop::option::of(Just(BreakerSettings::default())),
        actuation in prop::option::of((0i64..600, any::<bool>())),
        paused in prop::option::weighted(0.1, Just(Pause { scope: PauseScope::All, by: String::new(), since: NOW })),
        freeze in prop::option::weighted(0.2, any::<bool>()),
        hour in prop::option::weighted(0.3, 0.0..8.0),
        change in prop::option::weighted(0.3, (0u32..40, 0u32..40)),
        jitter in prop::option::weighted(0.3, 1i64..120),
        limits in prop::option::weighted(0.4, any_limits()),
    ) -> Circumstances {
        let budget = |usd: f64| Budget {
            limits: BudgetSettings { usd_hour: Some(usd), usd_month: None },
            price_usd_hour: Some(0.17),
            spent_month_usd: None,
            month_ends: None,
        };
        let blocks = |all: bool| if all { Blocks::Changes } else { Blocks::ScaleIn };
        let until = NOW + Span::from_minutes(5);
        Circumstances {
            breaker, paused, limits,
            actuation: actuation.map(|(age, ok)| {
                ActuationReport { at: ago(age), failed: (!ok).then(|| "timeout".to_owned()) }
            }),
            freeze: freeze.map(|all| Freeze { name: "sale".to_owned(), until, blocks: blocks(all) }),
            budget: hour.map(budget),
            fleet_change: change.map(|(limit, used)| FleetChange { limit, used, interval: Span::from_minutes(5) }),
            jitter: jitter.map(Span::from_secs),
            ..Circumstances::default()
        }
    }
}

prop_compose! {
    fn any_fallback()(
        load in prop::option::of(prop_oneof![Just(0.0), 0.0..3000.0]),
        (age, after) in (0i64..120, 60i64..400),
        missing in any::<bool>(),
    ) -> FallbackLoad {
        FallbackLoad {
            source: "prometheus".to_owned(),
            at: load.map(|_| ago(age)),
            load,
            missing: if missing { "unreachable" } else { "" }.to_owned(),
            after: Span::from_secs(after),
            fresh_for: Span::from_secs(60),
        }
    }
}

prop_compose! {
    fn any_circumstances()(
        safety in any_safety(),
        actions in prop::collection::vec((0i32..3, any_action()), 0..3),
        emergency in prop::option::of(Just(EmergencySettings::default())),
        events in prop::option::of(Just(EventSettings { cost_usd_hour: Some(8.0), ..EventSettings::default() })),
        signals in any_signals(),
        to_zero in prop::option::of(any::<bool>()),
        open in prop::option::of(any::<bool>()),
        (rise, fall) in (prop::option::of((0i64..20, 0.0..1.0)), prop::option::of((0.0..1.0, 0.0..2000.0))),
        fallback in prop::option::weighted(0.3, any_fallback()),
    ) -> Circumstances {
        let likely = |minutes: i64, confidence: f64, load: f64| {
            Likely { at: NOW + Span::from_minutes(minutes), confidence, load }
        };
        let scheduled = actions.into_iter().enumerate().map(|(index, (priority, action))| {
            ScheduledAction { name: format!("s{index}"), priority, ..super::scheduled(action) }
        });
        Circumstances {
            scheduled: scheduled.collect(),
            emergency, events, signals, open, fallback,
            scale_in: to_zero.map(|to_zero| ScaleInSettings { to_zero, ..ScaleInSettings::default() }),
            outlook: Some(Outlook {
                rise: rise.map(|(minutes, confidence)| likely(minutes, confidence, 500.0)),
                fall: fall.map(|(confidence, load)| likely(15, confidence, load)),
            }),
            ..safety
        }
    }
}

prop_compose! {
    fn any_memory()(
        emergency in prop::option::of((0i64..600, 0u32..40, 0u32..40)),
        (failures, failed, since, tried) in (0u32..6, 0i64..600, 0i64..900, prop::option::of(0i64..600)),
        state in prop::sample::select(vec![BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen]),
        reversals in any::<bool>(),
        changes in prop::collection::vec((0i64..1200, any::<bool>()), 0..6),
        planned in prop::option::of((-600i64..600, 0u32..40)),
        (idle, scale_in) in (prop::option::of(0i64..600), prop::option::of(0i64..200)),
        recent in prop::option::of((0.0..2000.0, 0.0..2000.0, 0i64..600)),
    ) -> RulesMemory {
        let cause = if reversals { BreakerCause::Reversals } else { BreakerCause::Failures };
        let is_closed = state == BreakerState::Closed;
        RulesMemory {
            emergency: emergency.map(|(age, before, more)| EmergencyMemory {
                since: ago(age + 60), last: ago(age), before, units: before + more, added: vec![(ago(age), more)],
            }),
            breaker: BreakerMemory {
                state, failures, changes: changes.into_iter().map(|(age, more)| (ago(age), more)).collect(),
                since: (!is_closed).then(|| ago(since)), cause: (!is_closed).then_some(cause),
                failed_at: Some(ago(failed)), reported_at: None, tried_at: tried.map(ago),
            },
            planned: planned.map(|(ahead, units)| PlannedChange { at: NOW + Span::from_secs(ahead), units }),
            idle_since: idle.map(ago),
            scale_in_since: scale_in.map(ago),
            recent: recent.map(|(level, load, age)| RecentLoad { level, load, until: ago(age) }),
        }
    }
}

prop_compose! {
    pub(super) fn surrounded()(
        plain in any_inputs(),
        circumstances in any_circumstances(),
        rules in any_memory(),
        load in prop::option::weighted(0.1, Just(Some(0.0))),
        ready in prop::option::of(0u32..60),
    ) -> DecisionInputs {
        let memory = DecisionMemory { rules, ..plain.memory.clone() };
        let target = plain.target.map(|target| TargetState { ready, ..target });
        DecisionInputs { circumstances, memory, target, load: load.unwrap_or(plain.load), ..plain }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn equal_inputs_give_equal_bytes_and_a_reason(inputs in surrounded()) {
        let decision = decide(&inputs);
        prop_assert_eq!(serde_json::to_vec(&decision).unwrap(), serde_json::to_vec(&decide(&inputs)).unwrap());
        prop_assert_eq!(decision.reasons.last().unwrap().units, decision.desired);
        prop_assert!(recompute(&decision).is_ok());
        let json = serde_json::to_string(&decision).unwrap();
        let read: Decision = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(advice(&read), advice(&decision));
        prop_assert_eq!(read, decision);
    }

    #[test]
    fn an_id_outlives_the_record_of_its_inputs_and_ends_with_their_hash(inputs in surrounded()) {
        let read: DecisionInputs = serde_json::from_slice(&serde_json::to_vec(&inputs).unwrap()).unwrap();
        let hash = blake3::hash(&rmp_serde::to_vec_named(&read).unwrap()).to_hex();
        prop_assert_eq!(decide(&inputs).id.0, format!("{}@{}#{}", inputs.service, inputs.at, &hash[..16]));
    }

    #[test]
    fn without_circumstances_nothing_of_them_is_written(inputs in any_inputs()) {
        let json = serde_json::to_string(&decide(&inputs)).unwrap();
        prop_assert!(!json.contains("circumstances") && !json.contains("rules"), "{}", json);
    }

    #[test]
    fn desired_is_in_bounds_but_for_what_is_above_them(inputs in surrounded()) {
        let decision = decide(&inputs);
        let (min, max) = (inputs.settings.min_units, inputs.settings.max_units);
        let (target_min, target_max) = inputs.target.map_or((None, None), |target| (target.min, target.max));
        let low = min.min(max).max(target_min.unwrap_or(0)).min(target_max.unwrap_or(u32::MAX));
        prop_assert!(decision.desired >= low || said(&decision, ABOVE_BOUNDS), "{}", explain(&decision));
        let high = max.max(target_min.unwrap_or(0)).min(target_max.unwrap_or(u32::MAX));
        // What is held or must not be touched stays where it is; a minimum still raises it.
        let stays = decision.need.is_none() || said(&decision, ABOVE_BOUNDS) || said(&decision, &["fallback-need"]);
        let stays = stays || said(&decision, &["fallback-missing"]);
        let present = inputs.target.map_or(min, |target| target.desired);
        let most = if stays { high.max(present).max(min).max(target_min.unwrap_or(0)) } else { high };
        prop_assert!(decision.desired <= most, "{}", explain(&decision));
    }

    #[test]
    fn more_load_never_gives_less(inputs in surrounded(), by in 1.0..5.0) {
        let (less, more) = (decide(&inputs), decide(&scaled(&inputs, by, 1.0)));
        prop_assert!(more.desired >= less.desired, "{}{}", explain(&less), explain(&more));
    }

    #[test]
    fn more_load_and_forecast_never_gives_less(inputs in surrounded(), by in prop_oneof![Just(2.0), Just(4.0)]) {
        let (less, more) = (decide(&inputs), decide(&scaled(&inputs, by, by)));
        prop_assert!(more.desired >= less.desired, "{}{}", explain(&less), explain(&more));
    }

    #[test]
    fn a_higher_forecast_never_gives_less_while_the_load_is_within_it(inputs in surrounded(), by in 1.0..5.0) {
        let (less, more) = (decide(&inputs), decide(&scaled(&inputs, 1.0, by)));
        let surprised = Context::new(&inputs).surprise().is_some();
        prop_assert!(surprised || more.desired >= less.desired, "{}{}", explain(&less), explain(&more));
    }

    #[test]
    fn blind_or_unobserved_never_scales_in(mut inputs in surrounded(), way in 0..3) {
        match way {
            0 => inputs.load = None,
            1 => inputs.load_window_end = None,
            _ => inputs.target = None,
        }
        prop_assert_ne!(decide(&inputs).kind, DecisionKind::ScaleDown);
    }

    #[test]
    fn steps_are_limited_but_for_what_is_above_them(inputs in surrounded()) {
        let decision = decide(&inputs);
        if let Some(target) = inputs.target {
            let added = decision.desired.saturating_sub(target.desired);
            let removed = target.desired.saturating_sub(decision.desired);
            let far = added > inputs.settings.step_up_units || removed > inputs.settings.step_down_units;
            prop_assert!(!far || said(&decision, ABOVE_STEPS), "{}", explain(&decision));
        }
    }

    #[test]
    fn nothing_passes_a_pause_and_a_freeze_only_an_emergency(mut inputs in surrounded(), pause in any::<bool>()) {
        if pause {
            inputs.circumstances.paused = Some(Pause { scope: PauseScope::Service, by: String::new(), since: NOW });
        } else {
            let (name, until) = ("sale".to_owned(), NOW + Span::from_minutes(1));
            inputs.circumstances.freeze = Some(Freeze { name, until, blocks: Blocks::Changes });
        }
        let decision = decide(&inputs);
        let on = crate::emergency::is_on(&Context::new(&inputs));
        let passes = !pause && on && decision.kind == DecisionKind::ScaleUp;
        let present = inputs.target.map_or(decision.desired, |target| target.desired);
        prop_assert!(decision.desired == present || passes, "{}", explain(&decision));
    }

    #[test]
    fn what_is_added_fits_and_is_paid_for_and_the_fleet_changes_slowly(inputs in surrounded()) {
        let decision = decide(&inputs);
        let Some(present) = inputs.target.map(|target| target.desired) else { return Ok(()) };
        let circumstances = &inputs.circumstances;
        if let Some(limited) = circumstances.limits.and_then(|limits| crate::binding_limit(&limits, true)) {
            prop_assert!(decision.desired <= limited.units.max(present), "{}", explain(&decision));
        }
        let bound = said(&decision, &["min-units", "target-min", "max-units", "target-max"]) || decision.need.is_none();
        if let Some((_, most)) = circumstances.budget.and_then(|budget| crate::affordable(&budget, 0, NOW)) {
            prop_assert!(decision.desired <= most.max(present) || bound, "{}", explain(&decision));
        }
        if let Some(change) = circumstances.fleet_change {
            let left = change.limit.saturating_sub(change.used);
            prop_assert!(decision.desired.abs_diff(present) <= left || bound, "{}", explain(&decision));
        }
    }

    #[test]
    fn work_in_flight_keeps_its_units(inputs in surrounded()) {
        let decision = decide(&inputs);
        let signals = &inputs.circumstances.signals;
        let busy = crate::busy_units(signals.in_flight, signals.unit_concurrency).unwrap_or(0);
        let present = inputs.target.map_or(0, |target| target.desired);
        let goes = decision.kind == DecisionKind::ScaleDown && decision.desired < busy.min(present);
        prop_assert!(!goes || said(&decision, &["max-units", "target-max"]), "{}", explain(&decision));
    }

    #[test]
    fn the_memory_of_the_rules_is_bounded(inputs in surrounded()) {
        let rules = decide(&inputs).memory.rules;
        prop_assert!(rules.breaker.changes.len() <= 7);
        prop_assert!(rules.emergency.is_none_or(|memory| memory.added.len() <= 2 && memory.last <= NOW));
        prop_assert!(rules.planned.is_none_or(|planned| planned.at > NOW));
        let without = DecisionInputs { circumstances: Circumstances::default(), ..inputs };
        prop_assert!(decide(&without).memory.rules.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn where_nothing_changes_capacity_ends_up_going_one_way(inputs in surrounded()) {
        let mut decision = decide(&inputs);
        let (mut ways, mut text) = ((false, false), String::new());
        for minute in 1..=180 {
            decision = decide(&next(&decision, Span::from_minutes(1)));
            if minute > 90 {
                match decision.kind {
                    DecisionKind::ScaleUp => ways.0 = true,
                    DecisionKind::ScaleDown => ways.1 = true,
                    DecisionKind::OptimizeResources | DecisionKind::None => continue,
                }
                text.push_str(&explain(&decision));
            }
        }
        prop_assert!(ways != (true, true), "{}", text);
    }
}
