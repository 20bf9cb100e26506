//! The rules around the planner, one by one through the whole chain, and what holds for all of them over random
//! circumstances.

use prescale_domain::*;

use crate::tests::{NOW, check, forecast, inputs};
use crate::{Context, advice, decide, explain};

mod contention;
mod fallback;
mod invariants;

/// The next decision a while after `decision`, its target having done what was asked.
fn next(decision: &Decision, after: Span) -> DecisionInputs {
    let mut next = decision.inputs.clone();
    let asked = decision.kind != DecisionKind::None;
    next.memory = decision.memory.clone();
    next.target = next.target.map(|target| {
        let desired = if asked { decision.desired } else { target.desired };
        TargetState { desired, ready: Some(desired), ..target }
    });
    next.at = next.at + after;
    next.circumstances.fallback =
        next.circumstances.fallback.map(|told| FallbackLoad { at: told.at.map(|at| at + after), ..told });
    next.load_window_end = next.load_window_end.map(|end| end + after);
    next.forecast =
        next.forecast.map(|input| ForecastInput { origin: input.origin + after, from: input.from + after, ..input });
    next
}

/// Without a forecast: the reactive rule aims at a utilization of 0.7, a unit carries 50.
fn reactive(load: f64, present: u32) -> DecisionInputs {
    DecisionInputs { forecast: None, forecast_missing: "cold-start".to_owned(), ..inputs(load, present) }
}

fn with_emergencies(inputs: DecisionInputs) -> DecisionInputs {
    let emergency = Some(EmergencySettings::default());
    DecisionInputs { circumstances: Circumstances { emergency, ..inputs.circumstances }, ..inputs }
}

fn scheduled(action: ScheduleAction) -> ScheduledAction {
    ScheduledAction { name: "night".to_owned(), priority: 1, action, since: NOW, until: None }
}

#[test]
fn a_schedule_has_its_way_up_and_down_within_bounds() {
    let case = |action: ScheduleAction| {
        let circumstances = Circumstances { scheduled: vec![scheduled(action)], ..Circumstances::default() };
        DecisionInputs { circumstances, ..inputs(480.0, 10) }
    };
    check(&case(ScheduleAction::ScaleTo(4)), "forecast-need scheduled", 4);
    check(&case(ScheduleAction::ScaleTo(20)), "forecast-need scheduled", 20);
    check(&case(ScheduleAction::ScaleTo(1)), "forecast-need scheduled min-units", 2);
    check(&case(ScheduleAction::Min(15)), "forecast-need scheduled", 15);
    check(&case(ScheduleAction::Min(5)), "forecast-need", 12);
    check(&case(ScheduleAction::Max(9)), "forecast-need scheduled", 9);
    check(&case(ScheduleAction::Delta(3)), "forecast-need scheduled", 15);
    check(&case(ScheduleAction::Delta(-3)), "forecast-need scheduled", 9);
    // Blind, it may raise what is held and not lower it; nothing is known to add to.
    let blind = |action: ScheduleAction| DecisionInputs { load: None, ..case(action) };
    check(&blind(ScheduleAction::ScaleTo(4)), "hold-gap", 10);
    check(&blind(ScheduleAction::ScaleTo(14)), "hold-gap scheduled", 14);
    check(&blind(ScheduleAction::Delta(3)), "hold-gap", 10);
}

#[test]
fn a_delta_does_not_add_to_itself() {
    let circumstances =
        Circumstances { scheduled: vec![scheduled(ScheduleAction::Delta(3))], ..Circumstances::default() };
    let mut case = DecisionInputs { circumstances, ..inputs(480.0, 10) };
    for _ in 0..20 {
        let decision = decide(&case);
        assert_eq!(decision.desired, 15, "{}", explain(&decision));
        case = next(&decision, Span::from_minutes(1));
    }
}

#[test]
fn a_delta_does_not_add_to_itself_where_the_rule_asks_for_what_is_there() {
    let circumstances =
        Circumstances { scheduled: vec![scheduled(ScheduleAction::Delta(3))], ..Circumstances::default() };
    let mut case = DecisionInputs { circumstances, ..reactive(250.0, 10) };
    case.settings.planning.rule = PlanningRule::Thresholds;
    case.memory.needs.clear();
    for _ in 0..20 {
        let decision = decide(&case);
        assert_eq!((decision.need, decision.desired), (Some(10), 13), "{}", explain(&decision));
        case = next(&decision, Span::from_minutes(1));
    }
}

#[test]
fn an_emergency_overrides_a_schedule_and_waits_for_nothing() {
    let mut case = with_emergencies(reactive(460.0, 10));
    case.memory.last_scale_up = Some(NOW - Span::from_secs(5));
    case.settings.step_up_units = 1;
    case.circumstances.scheduled = vec![scheduled(ScheduleAction::ScaleTo(4))];
    check(&case, "forecast-missing reactive-need step-up scheduled emergency", 12);
    // Just below the threshold the schedule has its way, as far as that makes no emergency.
    case.load = Some(449.0);
    check(&case, "forecast-missing reactive-need step-up scheduled emergency-avoided", 10);
    case.load = Some(300.0);
    check(&case, "forecast-missing reactive-need hysteresis scheduled emergency-avoided", 7);
}

#[test]
fn the_threshold_of_an_emergency_is_a_utilization_of_nine_tenths() {
    let on = |load: f64| crate::emergency(&Context::new(&with_emergencies(reactive(load, 10)))).is_some();
    assert!(!on(449.0) && on(450.0));
    // A load that the forecast expected is none before it is too much: the band ends at 500 here.
    let expected = |load: f64| crate::emergency(&Context::new(&with_emergencies(inputs(load, 10)))).is_some();
    assert!(!expected(499.0) && expected(500.0));
    let mut high = with_emergencies(reactive(470.0, 10));
    high.circumstances.emergency = Some(EmergencySettings::high_performance());
    assert_eq!(crate::emergency(&Context::new(&high)), None);
    high.load = Some(475.0);
    assert!(crate::emergency(&Context::new(&high)).is_some());
    // Units that are not in service carry nothing.
    let mut starting = with_emergencies(reactive(300.0, 10));
    starting.target = starting.target.map(|target| TargetState { ready: Some(6), ..target });
    assert!(crate::emergency(&Context::new(&starting)).is_some());
    starting.target = starting.target.map(|target| TargetState { ready: Some(0), ..target });
    assert!(crate::emergency(&Context::new(&starting)).unwrap().why.contains("nothing in service"));
}

#[test]
fn a_spike_beyond_four_fifths_is_an_emergency_at_any_utilization() {
    let mut case = with_emergencies(reactive(180.0, 10));
    case.circumstances.signals.recent_load = Some(100.0);
    assert_eq!(crate::emergency(&Context::new(&case)), None);
    case.load = Some(181.0);
    let emergency = crate::emergency(&Context::new(&case)).unwrap();
    // Expected to rise by as much again: 181 · 1.81 / (50 · 0.8).
    assert_eq!((emergency.floor, emergency.why.as_str()), (9, "the load of 181 is 81 % above its recent level"));
}

#[test]
fn an_emergency_adds_ten_units_in_fifteen_seconds_at_most_and_takes_them_back_after_five_minutes() {
    let mut case = with_emergencies(reactive(2000.0, 10));
    case.settings.step_up_units = 0;
    case.settings.stabilization_down = Span::from_minutes(10);
    let first = decide(&case);
    assert_eq!(first.desired, 20, "{}", explain(&first));
    // Ten seconds later the ten units of these fifteen seconds are used up.
    let soon = decide(&next(&first, Span::from_secs(10)));
    assert_eq!(soon.desired, 20, "{}", explain(&soon));
    let later = decide(&next(&soon, Span::from_secs(5)));
    assert_eq!(later.desired, 30, "{}", explain(&later));
    // The load is gone: what was added stays for 300 s from the last moment of the emergency.
    let mut after = next(&later, Span::from_secs(15));
    after.load = Some(100.0);
    let kept = decide(&after);
    assert_eq!(kept.desired, 30, "{}", explain(&kept));
    let mut unstable = after.clone();
    (unstable.settings.stabilization_down, unstable.settings.cooldown_down) = (Span::ZERO, Span::ZERO);
    unstable.settings.step_down_units = 40;
    check(&unstable, "forecast-missing reactive-need emergency-kept", 30);
    let still = decide(&next(&kept, Span::from_secs(284)));
    assert_eq!(still.desired, 30, "{}", explain(&still));
    let over = decide(&next(&still, Span::from_secs(1)));
    assert_eq!((over.desired, over.reasons.last().unwrap().code.as_str()), (10, "emergency-over"));
    assert_eq!(over.memory.rules.emergency, None);
}

#[test]
fn what_an_emergency_added_stays_where_the_load_does() {
    let mut decision = decide(&with_emergencies(reactive(900.0, 10)));
    let mut changes = 0;
    for _ in 0..240 {
        let present = decision.desired;
        decision = decide(&next(&decision, Span::from_secs(15)));
        changes += u32::from(decision.desired != present);
    }
    assert!(decision.desired >= 21 && changes <= 2, "{changes} changes\n{}", explain(&decision));
}

fn with_events(inputs: DecisionInputs, signals: Signals) -> DecisionInputs {
    let events = Some(EventSettings { cost_usd_hour: Some(5.0), ..EventSettings::default() });
    DecisionInputs { circumstances: Circumstances { events, signals, ..Circumstances::default() }, ..inputs }
}

#[test]
fn each_event_has_its_handler() {
    let quiet = Signals::default();
    // The forecast asks for 6 units after scale-in steps, for 12 otherwise.
    let low = |signals: Signals| {
        let mut case = with_events(inputs(80.0, 10), signals);
        case.forecast = Some(forecast(&[100.0; 6], 4));
        case
    };
    let high = |signals: Signals| with_events(inputs(480.0, 10), signals);
    check(&low(quiet.clone()), "forecast-need step-down", 6);
    let spike = |level: f64| Signals { recent_load: Some(level), ..quiet.clone() };
    check(&low(spike(50.0)), "forecast-need step-down", 6);
    check(&low(spike(47.0)), "forecast-need step-down load-spike", 10);
    check(&high(spike(200.0)), "forecast-need load-spike", 14);
    let errors = |rate: f64| Signals { error_rate: Some(rate), usual_error_rate: Some(0.03), ..quiet.clone() };
    check(&low(errors(0.05)), "forecast-need step-down", 6);
    check(&low(errors(0.06)), "forecast-need step-down error-rate", 10);
    let api = |usage: f64| Signals { api_usage: Some(usage), ..quiet.clone() };
    check(&high(api(0.7)), "forecast-need", 12);
    check(&high(api(0.71)), "forecast-need api-limit", 10);
    check(&high(api(0.9)), "forecast-need api-limit", 10);
    check(&high(api(1.0)), "forecast-need api-limit", 7);
    let event = |uplift: Option<f64>| {
        let external = vec![ExternalSignal { id: "e1".to_owned(), kind: "launch".to_owned(), uplift }];
        Signals { external, ..quiet.clone() }
    };
    check(&high(event(Some(2.0))), "forecast-need external-event", 20);
    check(&low(event(None)), "forecast-need step-down external-event", 10);
    let cost = |usd: f64| Signals { cost_usd_hour: Some(usd), ..quiet.clone() };
    check(&high(cost(5.0)), "forecast-need", 12);
    check(&high(cost(5.1)), "forecast-need cost-threshold", 10);
    check(&low(cost(5.1)), "forecast-need step-down", 6);
}

#[test]
fn a_rate_limit_that_comes_near_is_told_to_those_who_send() {
    let of = |usage: f64| {
        let signals = Signals { api_usage: Some(usage), ..Signals::default() };
        let throttle = advice(&decide(&with_events(inputs(480.0, 10), signals))).throttle;
        throttle.map(|throttle| (throttle.level, (throttle.admit * 1000.0).round()))
    };
    assert_eq!(of(0.7), None);
    assert_eq!(of(0.875), Some((ThrottleLevel::Throttle, 800.0)));
    assert_eq!(of(1.4), Some((ThrottleLevel::Reduce, 500.0)));
}

#[test]
fn the_breaker_stops_changes_and_an_emergency_passes() {
    let failed = |failures: u32, age: i64| {
        let mut case = with_emergencies(reactive(440.0, 10));
        case.circumstances.breaker = Some(BreakerSettings::default());
        case.memory.rules.breaker = BreakerMemory {
            failures,
            failed_at: Some(NOW - Span::from_secs(age)),
            reported_at: Some(NOW - Span::from_secs(age)),
            ..BreakerMemory::default()
        };
        case
    };
    check(&failed(1, 14), "forecast-missing reactive-need retry-later", 10);
    check(&failed(1, 15), "forecast-missing reactive-need", 13);
    check(&failed(2, 29), "forecast-missing reactive-need retry-later", 10);
    check(&failed(3, 600), "forecast-missing reactive-need breaker-open", 10);
    let emergency = DecisionInputs { load: Some(460.0), ..failed(3, 600) };
    let decision = decide(&emergency);
    assert_eq!((decision.kind, decision.desired), (DecisionKind::ScaleUp, 14));
    // After five minutes one change is let through; its success closes the breaker.
    let open = decide(&failed(3, 600));
    let half = decide(&next(&open, Span::from_minutes(5)));
    assert_eq!((half.desired, half.memory.rules.breaker.state), (13, BreakerState::HalfOpen));
    let mut more = next(&half, Span::from_secs(15));
    more.target = open.inputs.target;
    let trying = decide(&more);
    assert_eq!(trying.reasons.last().unwrap().code, "breaker-trying");
    let mut done = next(&trying, Span::from_secs(15));
    done.circumstances.actuation = Some(ActuationReport { at: done.at, failed: None });
    let closed = decide(&done);
    assert_eq!((closed.desired, closed.memory.rules.breaker.state), (13, BreakerState::Closed));
}

#[test]
fn turning_to_and_fro_ends_with_the_scale_in_that_is_not_made() {
    let mut case = reactive(440.0, 10);
    case.circumstances.breaker = Some(BreakerSettings::default());
    case.settings.cooldown_up = Span::ZERO;
    case.settings.cooldown_down = Span::ZERO;
    case.settings.stabilization_down = Span::ZERO;
    case.settings.step_down_units = 40;
    let (mut turns, mut last) = (0, DecisionKind::None);
    let mut decision = decide(&case);
    for minute in 0..15 {
        let mut input = next(&decision, Span::from_minutes(1));
        input.load = Some(if minute % 2 == 0 { 100.0 } else { 440.0 });
        decision = decide(&input);
        if decision.kind != DecisionKind::None {
            turns += u32::from(decision.kind != last);
            last = decision.kind;
        }
    }
    // Without it there would be fifteen.
    assert!((4..=6).contains(&turns), "{turns}");
    assert!(decision.desired >= 13, "{}", explain(&decision));
}

#[test]
fn nothing_passes_a_pause_and_only_an_emergency_a_freeze() {
    let mut case = with_emergencies(reactive(440.0, 10));
    let freeze = Freeze { name: "sale".to_owned(), until: NOW + Span::from_minutes(9), blocks: Blocks::Changes };
    case.circumstances.freeze = Some(freeze.clone());
    check(&case, "forecast-missing reactive-need freeze", 10);
    case.load = Some(460.0);
    check(&case, "forecast-missing reactive-need", 14);
    case.settings.step_up_units = 0;
    check(&case, "forecast-missing reactive-need step-up emergency", 12);
    case.circumstances.paused = Some(Pause { scope: PauseScope::All, by: "ops".to_owned(), since: NOW });
    check(&case, "forecast-missing reactive-need step-up emergency paused", 10);
    assert_eq!(decide(&case).kind, DecisionKind::None);
    case.circumstances.paused = None;
    case.circumstances.freeze = Some(Freeze { blocks: Blocks::ScaleIn, ..freeze });
    (case.settings.step_up_units, case.load) = (10, Some(440.0));
    check(&case, "forecast-missing reactive-need", 13);
    case.load = Some(80.0);
    check(&case, "forecast-missing reactive-need step-down freeze", 10);
}

#[test]
fn budget_and_fleet_change_cap_what_is_wanted_but_not_the_minimum() {
    let mut case = inputs(480.0, 10);
    let limits = BudgetSettings { usd_hour: Some(1.1), usd_month: None };
    let budget = Budget { limits, price_usd_hour: Some(0.1), spent_month_usd: None, month_ends: None };
    case.circumstances.budget = Some(budget);
    check(&case, "forecast-need budget-hour", 11);
    let limits = BudgetSettings { usd_hour: Some(0.1), usd_month: None };
    case.circumstances.budget = Some(Budget { limits, ..budget });
    check(&case, "forecast-need budget-hour min-units", 2);
    let limits = BudgetSettings { usd_hour: None, usd_month: Some(100.0) };
    let month_ends = Some(NOW + Span::from_minutes(60 * 24));
    case.circumstances.budget = Some(Budget { limits, spent_month_usd: Some(94.5), month_ends, ..budget });
    // 5.50 are left, of which 2 units for 23 hours take 4.60.
    check(&case, "forecast-need budget-month", 9);
    case.circumstances.budget = None;
    case.circumstances.fleet_change = Some(FleetChange { limit: 20, interval: Span::from_minutes(5), used: 19 });
    check(&case, "forecast-need fleet-change", 11);
}

#[test]
fn limits_of_five_units_and_a_gigabyte_make_a_wish_of_ten_more_limited() {
    let limits = Limits {
        target: ResourceLimits { units: Some(5), memory_mb: Some(1000.0), ..ResourceLimits::default() },
        unit: Resources { memory_mb: Some(250.0), ..Resources::default() },
        ..Limits::default()
    };
    let mut case = reactive(430.0, 2);
    case.circumstances.limits = Some(limits);
    check(&case, "forecast-missing reactive-need step-up limited", 3);
    let decision = decide(&case);
    assert_eq!(decision.kind, DecisionKind::ScaleUp);
    let limited = advice(&decision).limited.unwrap();
    assert_eq!((limited.scope, limited.resource, limited.units), (LimitScope::Target, Resource::Memory, 3));
    // The reserve is for emergencies.
    let mut emergency = with_emergencies(case.clone());
    check(&emergency, "forecast-missing reactive-need step-up limited", 4);
    emergency.settings.step_up_units = 0;
    check(&emergency, "forecast-missing reactive-need step-up emergency limited", 4);
    // A small unit: the number is what binds.
    case.circumstances.limits =
        Some(Limits { unit: Resources { memory_mb: Some(100.0), ..Resources::default() }, ..limits });
    check(&case, "forecast-missing reactive-need step-up limited", 5);
    assert_eq!(advice(&decide(&case)).optimization, None);
}

#[test]
fn where_not_one_unit_fits_the_units_are_to_be_changed() {
    let limits = Limits {
        target: ResourceLimits { memory_mb: Some(1000.0), ..ResourceLimits::default() },
        unit: Resources { memory_mb: Some(250.0), ..Resources::default() },
        ..Limits::default()
    };
    let mut case = reactive(200.0, 3);
    case.circumstances.limits = Some(limits);
    check(&case, "forecast-missing reactive-need limited optimize-resources", 3);
    let decision = decide(&case);
    assert_eq!(decision.kind, DecisionKind::OptimizeResources);
    let found = advice(&decision).optimization.unwrap();
    assert_eq!((found.resource, found.from_per_unit, found.to_per_unit), (Resource::Memory, Some(250.0), Some(150.0)));
    assert_eq!(found.gain_units, 3.0);
    insta::assert_snapshot!("optimize_resources", explain(&decision));
    // What runs already is not taken away.
    case.target = case.target.map(|target| TargetState { desired: 8, ready: Some(8), ..target });
    case.load = Some(400.0);
    check(&case, "forecast-missing reactive-need limited optimize-resources", 8);
    case.circumstances.paused = Some(Pause { scope: PauseScope::Service, by: String::new(), since: NOW });
    assert_eq!(decide(&case).kind, DecisionKind::None);
}

#[test]
fn what_is_in_flight_keeps_its_units() {
    let mut case = inputs(80.0, 10);
    case.forecast = Some(forecast(&[100.0; 6], 4));
    case.circumstances.signals = Signals { in_flight: Some(33.0), unit_concurrency: Some(4.0), ..Signals::default() };
    check(&case, "forecast-need step-down in-flight", 9);
    case.circumstances.signals.in_flight = Some(400.0);
    check(&case, "forecast-need step-down in-flight", 10);
}

fn asleep(queue: f64, load: f64, present: u32) -> DecisionInputs {
    let mut case = inputs(load, present);
    case.settings.min_units = 0;
    case.forecast = Some(forecast(&[20.0; 6], 4));
    case.target = case.target.map(|target| TargetState { min: Some(0), ..target });
    case.circumstances = Circumstances {
        scale_in: Some(ScaleInSettings { to_zero: true, ..ScaleInSettings::default() }),
        open: Some(false),
        signals: Signals { queue: Some(queue), ..Signals::default() },
        ..Circumstances::default()
    };
    case
}

#[test]
fn the_last_units_go_when_business_is_closed_and_nothing_happened_for_five_minutes() {
    let start = decide(&asleep(0.0, 0.0, 2));
    assert_eq!(start.memory.rules.idle_since, Some(NOW));
    let almost = decide(&next(&start, Span::from_secs(299)));
    assert!(almost.desired >= 1, "{}", explain(&almost));
    let zero = decide(&next(&almost, Span::from_secs(1)));
    assert_eq!((zero.desired, zero.kind), (0, DecisionKind::ScaleDown), "{}", explain(&zero));
    // It stays there, although the forecast's quantile would have one unit.
    let mut still = next(&zero, Span::from_minutes(1));
    assert_eq!(decide(&still).desired, 0);
    // The first job wakes it, and so does the opening of business.
    still.circumstances.signals.queue = Some(1.0);
    assert_eq!(decide(&still).desired, 1);
    still.circumstances.signals.queue = Some(0.0);
    still.circumstances.open = Some(true);
    assert_eq!(decide(&still).desired, 1);
    for (queue, load) in [(1.0, 0.0), (0.0, 1.0)] {
        let mut busy = asleep(queue, load, 2);
        busy.memory.rules.idle_since = Some(NOW - Span::from_minutes(60));
        let decision = decide(&busy);
        assert_eq!((decision.desired > 0, decision.memory.rules.idle_since), (true, None));
    }
}

#[test]
fn a_job_that_waits_wakes_what_sleeps_even_while_the_load_is_unknown() {
    let mut case = DecisionInputs { load: None, ..asleep(3.0, 0.0, 0) };
    check(&case, "hold-gap wake", 1);
    case.circumstances.signals.queue = Some(0.0);
    check(&case, "hold-gap", 0);
    // Where the service may have none, none is started.
    let mut none = DecisionInputs { load: None, ..asleep(3.0, 0.0, 0) };
    none.settings.max_units = 0;
    check(&none, "hold-gap", 0);
}

#[test]
fn two_units_are_warm_before_a_spike_that_is_forecast() {
    let mut case = asleep(0.0, 0.0, 0);
    case.memory.rules.idle_since = Some(NOW - Span::from_minutes(60));
    let rise = |minutes: i64, confidence: f64| {
        let rise = Likely { at: NOW + Span::from_minutes(minutes), confidence, load: 400.0 };
        Some(Outlook { rise: Some(rise), fall: None })
    };
    case.circumstances.outlook = rise(15, 0.8);
    check(&case, "forecast-need scale-to-zero", 0);
    case.circumstances.outlook = rise(16, 0.9);
    check(&case, "forecast-need scale-to-zero", 0);
    case.circumstances.outlook = rise(15, 0.81);
    check(&case, "forecast-need pre-warm", 2);
}

#[test]
fn a_scale_down_is_announced_fifteen_minutes_ahead_and_made_if_it_still_holds() {
    let fall = |confidence: f64| {
        let fall = Likely { at: NOW + Span::from_minutes(15), confidence, load: 200.0 };
        Some(Outlook { rise: None, fall: Some(fall) })
    };
    let mut case = inputs(480.0, 12);
    case.circumstances.scale_in = Some(ScaleInSettings::default());
    case.circumstances.outlook = fall(0.7);
    check(&case, "forecast-need", 12);
    case.circumstances.outlook = fall(0.71);
    check(&case, "forecast-need scale-down-planned", 12);
    let announced = decide(&case);
    let planned = PlannedChange { at: NOW + Span::from_minutes(15), units: 4 };
    assert_eq!((announced.memory.rules.planned, advice(&announced).planned), (Some(planned), Some(planned)));
    // On the way, the plan stands as long as the load is expected to fall.
    let waiting = next(&announced, Span::from_minutes(10));
    assert_eq!(decide(&waiting).memory.rules.planned, Some(planned));
    let mut rising = waiting.clone();
    rising.circumstances.outlook = fall(0.5);
    check(&rising, "forecast-need planned-cancelled", 12);
    assert_eq!(decide(&rising).memory.rules.planned, None);
    // When it comes it waits for no stabilization, but leaves what the forecast needs until then.
    let mut due = next(&decide(&waiting), Span::from_minutes(5));
    due.load = Some(240.0);
    due.forecast =
        due.forecast.map(|input| ForecastInput { upper: vec![260.0, 220.0, 200.0, 190.0, 180.0, 180.0], ..input });
    let made = decide(&due);
    assert_eq!((made.desired, made.reasons.last().unwrap().code.as_str()), (6, "planned-scale-down"));
    due.forecast = due.forecast.map(|input| ForecastInput { upper: vec![260.0; 6], ..input });
    let more = decide(&due);
    assert_eq!((more.desired, more.reasons.last().unwrap().code.as_str()), (12, "planned-cancelled"));
}

#[test]
fn services_scale_in_at_moments_of_their_own() {
    let mut left = std::collections::BTreeSet::new();
    for service in ["checkout", "search", "cart", "basket"] {
        let mut case = inputs(80.0, 10);
        case.service = service.into();
        case.forecast = Some(forecast(&[100.0; 6], 4));
        case.circumstances.jitter = Some(Span::from_minutes(4));
        let mut decision = decide(&case);
        let mut seconds = 0;
        while decision.kind == DecisionKind::None && seconds < 300 {
            assert_eq!(decision.reasons.last().unwrap().code, "jitter");
            decision = decide(&next(&decision, Span::from_secs(5)));
            seconds += 5;
        }
        assert_eq!((decision.desired, seconds < 245), (6, true));
        assert_eq!(decision.memory.rules.scale_in_since, None);
        left.insert(seconds);
    }
    assert!(left.len() > 1, "{left:?}");
}

#[test]
fn load_that_rises_is_met_before_its_peak_and_capacity_goes_after_it() {
    // Of a capacity of ten units 0.2, 0.4, 0.8, 0.9 and 0.3 are used.
    let mut case = with_emergencies(reactive(100.0, 10));
    case.settings.cooldown_up = Span::from_secs(15);
    let mut decision = decide(&case);
    let mut units = Vec::new();
    for second in (0..=900).step_by(15) {
        let mut input = next(&decision, Span::from_secs(15));
        input.load = Some(500.0 * [0.2, 0.4, 0.8, 0.9][..].get(second / 60).copied().unwrap_or(0.3));
        decision = decide(&input);
        units.push((second, decision.desired));
    }
    let at = |moment: usize| units.iter().find(|(second, _)| *second == moment).unwrap().1;
    assert!(at(120) > at(60) && at(165) >= 12 && at(225) >= 13, "{units:?}");
    assert!(at(900) < at(225) && at(900) >= 5, "{units:?}");
}

#[test]
fn what_the_rules_say_reads_well() {
    let mut case = with_emergencies(reactive(460.0, 10));
    case.settings.step_up_units = 1;
    case.circumstances.scheduled = vec![scheduled(ScheduleAction::ScaleTo(4))];
    case.circumstances.signals.api_usage = Some(0.95);
    case.circumstances.events = Some(EventSettings::default());
    case.circumstances.fleet_change = Some(FleetChange { limit: 1, interval: Span::from_minutes(5), used: 0 });
    case.circumstances.paused = Some(Pause { scope: PauseScope::Service, by: "ops".to_owned(), since: NOW });
    insta::assert_snapshot!("rules", explain(&decide(&case)));
}
