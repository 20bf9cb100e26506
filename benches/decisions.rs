//! What deciding costs: 1,000 services from their closed windows and forecasts to plans, and 10,000 within one fast tick.
//! Rule: every rule is on and nothing is prepared: circumstances, inputs and decision are made anew for each window, and the
//! memory goes from decision to decision.
//!
//! `cargo bench -p prescale-decide --bench decisions`
//!
//! Forecasts are of 90 windows and eight quantiles, lead times of one, five and fifteen minutes. How many of the windows a
//! decision looks at, and records, follows from the lead time and from how long a unit is worth keeping (`churn`): as
//! shipped, up to 20; with an hour of it, more than 60. The reference beside both is the rule `ceiling` as shipped, window
//! by window on the same loads, so that noise meets all three.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prescale_decide::{Around, Moment, Rules, Timetable, decided};
use prescale_domain::{
    ActuationReport, BudgetSettings, DEFAULT_QUANTILES, Decision, DecisionKind, DecisionMemory, Mode, OpeningHours,
    PlanningRule, PlanningSettings, PolicySettings, QuantileForecast, ResourceLimits, Resources, RuleSettings,
    ScaleInSettings, ScheduleAction, ScheduleSettings, ServiceName, Signals, Span, TargetState, Timestamp, Zone,
};

const MINUTE: Span = Span::from_minutes(1);
/// 2026-09-21T14:14:00Z, a Monday.
const START: Timestamp = Timestamp::from_millis(1_790_000_040_000);
const HORIZON: usize = 90;
/// Windows until every memory holds what it holds in service, and those that are measured.
const WARM_UP: usize = 20;
const MEASURED: usize = 900;
/// Windows of one series: the 99th percentile is the median over the series, as a busy machine spoils one or the other.
const SERIES: usize = 300;
/// Milliseconds for 1,000 services at the 99th percentile, and seconds and bytes for 10,000.
const FLOOR_THOUSAND_MILLIS: f64 = 50.0;
const FLOOR_TICK_SECONDS: f64 = 15.0;
const FLOOR_BYTES: f64 = (1_u64 << 30) as f64;

struct Service {
    name: ServiceName,
    policy: PolicySettings,
    rules: Rules,
    /// Median and p90 of the provisioning latency.
    lead: (Span, Span),
    forecast: QuantileForecast,
    memory: DecisionMemory,
    desired: u32,
    actuation: Option<ActuationReport>,
    mean: f64,
}

/// Time by part of the way from a closed window to a plan.
#[derive(Clone, Copy, Default)]
struct Parts {
    circumstances: Duration,
    inputs: Duration,
    decision: Duration,
}

fn timetable() -> Arc<Timetable> {
    let schedule = |name: &str, at: &str, action: ScheduleAction, hours: i64| ScheduleSettings {
        name: name.to_owned(),
        services: Vec::new(),
        cron: None,
        at: Some(at.to_owned()),
        time_zone: "Europe/Berlin".to_owned(),
        priority: 10,
        duration: Some(Span::from_minutes(60 * hours)),
        action,
    };
    let schedules = [
        schedule("business-hours", "Mon-Fri 08:00", ScheduleAction::Min(3), 10),
        schedule("weekend", "Sat,Sun 00:00", ScheduleAction::Max(400), 24),
    ];
    Arc::new(Timetable::try_new(&schedules, &[]).unwrap_or_default())
}

/// What the services of a fleet have in common.
#[derive(Clone)]
struct Kind {
    rule: PlanningRule,
    churn: Span,
    timetable: Arc<Timetable>,
}

fn service(index: usize, kind: &Kind) -> Service {
    let name = ServiceName::new(&format!("service-{index}"));
    let policy = PolicySettings {
        unit_capacity: 20.0,
        min_units: 1,
        max_units: 500,
        quantile: 0.99,
        step_up_units: 1000,
        step_down_units: 1000,
        cooldown_up: Span::ZERO,
        cooldown_down: MINUTE,
        stabilization_down: Span::from_minutes(3),
        hysteresis: 0.05,
        reactive_utilization: 0.7,
        stale_after: Span::from_minutes(5),
        blind_after: Span::from_minutes(10),
        planning: PlanningSettings {
            rule: kind.rule,
            churn: kind.churn,
            risk_max: 0.25,
            price_usd_hour: Some(0.17),
            ..PlanningSettings::default()
        },
    };
    let settings = RuleSettings {
        budget: BudgetSettings { usd_hour: Some(100.0), usd_month: None },
        limits: ResourceLimits { units: Some(500), memory_mb: Some(1_000_000.0), ..ResourceLimits::default() },
        scale_in: ScaleInSettings { to_zero: true, ..ScaleInSettings::default() },
        ..RuleSettings::default()
    };
    let rules = Rules {
        criticality: 1.0,
        partitions: None,
        settings,
        timetable: Arc::clone(&kind.timetable),
        opening_hours: OpeningHours::usual(Zone::UTC),
        zone: Zone::UTC,
        price_usd_hour: Some(0.17),
        unit: Resources { memory_mb: Some(500.0), ..Resources::default() },
        fleet: ResourceLimits { memory_mb: Some(1e9), ..ResourceLimits::default() },
    };
    let forecast = QuantileForecast {
        service: name.clone(),
        origin: START,
        step: MINUTE,
        model: "ensemble".to_owned(),
        reason: "champion".to_owned(),
        levels: DEFAULT_QUANTILES.to_vec(),
        values: Vec::new(),
    };
    let leads = [(45, 60), (200, 300), (480, 900)];
    let (median, p90) = leads[index % leads.len()];
    Service {
        name,
        policy,
        rules,
        lead: (Span::from_secs(median), Span::from_secs(p90)),
        forecast,
        memory: DecisionMemory::default(),
        desired: 10,
        actuation: None,
        mean: 100.0 + (index % 97) as f64 * 10.0,
    }
}

/// The load of the window that ended `window` minutes after the start; what is forecast after it is left in the service.
fn close(service: &mut Service, window: usize) -> f64 {
    let mean = service.mean;
    let level = |minute: usize| {
        let minute = minute as f64 + mean;
        mean * (1.0 + 0.4 * (minute / 90.0).sin() + 0.03 * (minute * 1.7).sin())
    };
    service.forecast.origin = START + Span::from_minutes(window as i64);
    let ahead = |ahead: usize| {
        // Standard normal quantiles of the levels, on errors that grow with the time ahead.
        let error = 0.06 + 0.01 * (ahead as f64).sqrt();
        let quantile = |z: &f64| level(window + ahead) * (error * z).exp();
        [-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326].iter().map(quantile).collect()
    };
    service.forecast.values = (1..=HORIZON).map(ahead).collect();
    level(window) * (1.0 + 0.08 * ((window * 7) as f64 + mean).sin())
}

fn decide_one(service: &mut Service, window: usize, load: f64, parts: &mut Parts) -> Decision {
    let end = START + Span::from_minutes(window as i64 + 1);
    let at = end + Span::from_secs(5);
    let begun = Instant::now();
    let around = Around {
        load: Some(load),
        forecast: Some(&service.forecast),
        carried: f64::from(service.desired.max(1)) * service.policy.unit_capacity,
        quantile: service.policy.quantile,
        signals: Signals { recent_load: Some(0.9 * service.mean), queue: Some(0.0), ..Signals::default() },
        actuation: service.actuation.clone(),
        others_units: 20_000,
        ..Around::default()
    };
    let circumstances = service.rules.circumstances(&service.name, at, around);
    let resolved = Instant::now();
    let moment = Moment {
        service: &service.name,
        at,
        mode: Mode::Act,
        settings: &service.policy,
        load: Some(load),
        load_window_end: Some(end),
        window_end: Some(end),
        signals: BTreeMap::new(),
        forecast: Ok(&service.forecast),
        decision_interval: MINUTE,
        provisioning_latency: service.lead.1,
        provisioning_median: Some(service.lead.0),
        warm_up: Span::from_secs(30),
        confident_horizon: None,
        target: Some(TargetState {
            desired: service.desired,
            ready: Some(service.desired),
            min: Some(1),
            max: Some(500),
            observed_at: end,
        }),
        memory: std::mem::take(&mut service.memory),
        circumstances,
    };
    let inputs = moment.inputs();
    let ready = Instant::now();
    let decision = decided(inputs);
    parts.circumstances += resolved - begun;
    parts.inputs += ready - resolved;
    parts.decision += ready.elapsed();
    service.memory = decision.memory.clone();
    service.desired = decision.desired;
    if decision.kind != DecisionKind::None {
        service.actuation = Some(ActuationReport { at: at + Span::from_secs(3), failed: None });
    }
    decision
}

/// What one window of all services takes, and what writing its records as JSON does.
struct Round {
    millis: f64,
    parts: Parts,
    writing_millis: f64,
    changes: usize,
    /// Most windows of the forecast that a decision looked at.
    windows: usize,
}

fn round(services: &mut [Service], window: usize) -> Round {
    let loads: Vec<f64> = services.iter_mut().map(|service| close(service, window)).collect();
    let mut parts = Parts::default();
    let begun = Instant::now();
    let pairs = services.iter_mut().zip(loads);
    let decisions: Vec<Decision> = pairs.map(|(service, load)| decide_one(service, window, load, &mut parts)).collect();
    let millis = 1e3 * begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    for decision in &decisions {
        black_box(serde_json::to_vec(decision).unwrap_or_default());
    }
    let writing_millis = 1e3 * begun.elapsed().as_secs_f64();
    let seen = |decision: &Decision| decision.inputs.forecast.as_ref().map_or(0, |input| input.values.len());
    let windows = decisions.iter().map(seen).max().unwrap_or(0);
    let changes = decisions.iter().filter(|decision| decision.kind != DecisionKind::None).count();
    Round { millis, parts, writing_millis, changes, windows }
}

/// The most that this process has held at any time.
fn peak_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(1024.0 * kib)
}

fn quantile(mut values: Vec<f64>, level: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (level * values.len() as f64).ceil() as usize;
    values[index.clamp(1, values.len()) - 1]
}

/// Prints what a fleet's rounds took and gives the 99th percentile in milliseconds.
fn told(name: &str, rounds: &[Round], reference: &[Round]) -> f64 {
    let of = |level: f64, what: fn(&Round) -> f64| quantile(rounds.iter().map(what).collect(), level);
    let millis = |rounds: &[Round]| rounds.iter().map(|round| round.millis).collect();
    let p99s: Vec<f64> = rounds.chunks(SERIES).map(|series| quantile(millis(series), 0.99)).collect();
    let (median, p99) = (of(0.5, |round| round.millis), quantile(p99s.clone(), 0.5));
    let ceiling = quantile(millis(reference), 0.5);
    println!(
        "1,000 services, {name}, closed window and forecast to plan: median {median:.2} ms, p99 {p99:.2} ms (of {p99s:.1?})"
    );
    println!(
        "  of it circumstances {:.2} ms, inputs {:.2} ms, decision {:.2} ms; ratio to the rule `ceiling` {:.2}, to writing the records as JSON {:.2}",
        of(0.5, |round| 1e3 * round.parts.circumstances.as_secs_f64()),
        of(0.5, |round| 1e3 * round.parts.inputs.as_secs_f64()),
        of(0.5, |round| 1e3 * round.parts.decision.as_secs_f64()),
        median / ceiling,
        median / of(0.5, |round| round.writing_millis),
    );
    println!(
        "  up to {:.0} windows in a decision, {:.0} services changed in a round",
        of(1.0, |round| round.windows as f64),
        of(0.5, |round| round.changes as f64),
    );
    p99
}

fn main() {
    let shipped = Kind { rule: PlanningRule::RiskBudget, churn: Span::ZERO, timetable: timetable() };
    let far = Kind { churn: Span::from_minutes(60), ..shipped.clone() };
    let ceiling = Kind { rule: PlanningRule::Ceiling, ..shipped.clone() };
    let fleet = |count: usize, kind: &Kind| -> Vec<Service> { (0..count).map(|index| service(index, kind)).collect() };
    let mut fleets = [&shipped, &far, &ceiling].map(|kind| (fleet(1000, kind), Vec::new()));
    for window in 0..WARM_UP + MEASURED {
        for (services, rounds) in &mut fleets {
            let round = round(services, window);
            if window >= WARM_UP {
                rounds.push(round);
            }
        }
    }
    let [(_, planned), (_, hour), (_, reference)] = fleets;
    let p99 = told("as shipped", &planned, &reference);
    let p99_far = told("looking an hour ahead", &hour, &reference);
    println!("  floor {FLOOR_THOUSAND_MILLIS} ms at the 99th percentile");

    let mut services = fleet(10_000, &far);
    let seconds: Vec<f64> = (0..12).map(|window| round(&mut services, window).millis / 1e3).collect();
    let slowest = quantile(seconds, 1.0);
    println!(
        "10,000 services, looking an hour ahead, on one core: slowest of 12 windows {slowest:.3} s (floor {FLOOR_TICK_SECONDS} s)"
    );
    if let Some(bytes) = peak_bytes() {
        // Forecasts of all services and the records of one window are in it.
        println!("  most memory held {:.0} MiB (floor {:.0} MiB)", bytes / 1048576.0, FLOOR_BYTES / 1048576.0);
        assert!(bytes < FLOOR_BYTES, "memory is above its floor");
    }
    assert!(p99.max(p99_far) <= FLOOR_THOUSAND_MILLIS && slowest <= FLOOR_TICK_SECONDS, "slower than the floor");
}
