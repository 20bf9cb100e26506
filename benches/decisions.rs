//! What deciding costs: 1,000 services from their closed windows and forecasts to plans, and 10,000 within one fast tick.
//! The reference beside it is the record of the same decisions written as JSON, which every decision pays anyway.
//!
//! `cargo bench -p prescale-decide --bench decisions`

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use prescale_decide::{Moment, decide};
use prescale_domain::{
    Circumstances, DEFAULT_QUANTILES, Decision, DecisionMemory, Mode, PlanningRule, PlanningSettings, PolicySettings,
    QuantileForecast, ServiceName, Span, TargetState, Timestamp,
};

const MINUTE: Span = Span::from_minutes(1);
const START: Timestamp = Timestamp::from_millis(1_790_000_040_000);
const HORIZON: usize = 30;
/// Milliseconds for 1,000 services at the 99th percentile, and seconds for 10,000.
const FLOOR_THOUSAND_MILLIS: f64 = 50.0;
const FLOOR_TICK_SECONDS: f64 = 15.0;
const FLOOR_BYTES: f64 = (1_u64 << 30) as f64;

struct Service {
    name: ServiceName,
    settings: PolicySettings,
    forecast: QuantileForecast,
    memory: DecisionMemory,
    desired: u32,
    mean: f64,
}

fn service(index: usize) -> Service {
    let mean = 100.0 + (index % 97) as f64 * 10.0;
    let name = ServiceName::new(&format!("service-{index}"));
    let settings = PolicySettings {
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
            rule: PlanningRule::RiskBudget,
            risk_max: 0.25,
            price_usd_hour: Some(0.17),
            ..PlanningSettings::default()
        },
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
    Service { name, settings, forecast, memory: DecisionMemory::default(), desired: 10, mean }
}

/// The window that ended `window` minutes after the start: a load, and what is forecast after it.
fn close(service: &mut Service, window: usize) -> f64 {
    let level = |minute: usize| service.mean * (1.0 + 0.4 * (minute as f64 / 90.0).sin());
    service.forecast.origin = START + Span::from_minutes(window as i64);
    service.forecast.values = (1..=HORIZON)
        .map(|ahead| {
            let median = level(window + ahead);
            [0.8, 0.85, 0.92, 1.0, 1.08, 1.16, 1.22, 1.35].map(|share| median * share).to_vec()
        })
        .collect();
    level(window) * (1.0 + 0.05 * ((window * 7) as f64).sin())
}

fn decide_one(service: &mut Service, window: usize, load: f64) -> Decision {
    let end = START + Span::from_minutes(window as i64 + 1);
    let target = TargetState {
        desired: service.desired,
        ready: Some(service.desired),
        min: Some(1),
        max: Some(500),
        observed_at: end,
    };
    let moment = Moment {
        service: &service.name,
        at: end + Span::from_secs(5),
        mode: Mode::Act,
        settings: &service.settings,
        load: Some(load),
        load_window_end: Some(end),
        window_end: Some(end),
        signals: BTreeMap::new(),
        forecast: Ok(&service.forecast),
        decision_interval: MINUTE,
        provisioning_latency: Span::from_minutes(3),
        provisioning_median: Some(Span::from_secs(150)),
        warm_up: Span::from_secs(30),
        confident_horizon: None,
        target: Some(target),
        memory: std::mem::take(&mut service.memory),
        circumstances: Circumstances::default(),
    };
    let decision = decide(&moment.inputs());
    service.memory = decision.memory.clone();
    service.desired = decision.desired;
    decision
}

/// Seconds for one window of all services, and for their records as JSON.
fn round(services: &mut [Service], window: usize) -> (f64, f64) {
    let loads: Vec<f64> = services.iter_mut().map(|service| close(service, window)).collect();
    let begun = Instant::now();
    let pairs = services.iter_mut().zip(loads);
    let decisions: Vec<Decision> = pairs.map(|(service, load)| decide_one(service, window, load)).collect();
    let deciding = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    for decision in &decisions {
        black_box(serde_json::to_vec(decision).unwrap_or_default());
    }
    (deciding, begun.elapsed().as_secs_f64())
}

fn resident_bytes() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096.0)
}

fn at(sorted: &[f64], level: f64) -> f64 {
    let index = (level * sorted.len() as f64).ceil() as usize;
    sorted[index.clamp(1, sorted.len()) - 1]
}

fn main() {
    let mut services: Vec<Service> = (0..1000).map(service).collect();
    let rounds: Vec<(f64, f64)> = (0..220).map(|window| round(&mut services, window)).skip(20).collect();
    let mut deciding: Vec<f64> = rounds.iter().map(|(deciding, _)| 1e3 * deciding).collect();
    let mut writing: Vec<f64> = rounds.iter().map(|(_, writing)| 1e3 * writing).collect();
    deciding.sort_by(f64::total_cmp);
    writing.sort_by(f64::total_cmp);
    let (median, p99) = (at(&deciding, 0.5), at(&deciding, 0.99));
    println!(
        "1,000 services, closed window and forecast to plan: median {median:.2} ms, p99 {p99:.2} ms (floor {FLOOR_THOUSAND_MILLIS} ms)"
    );
    println!("  ratio to writing the same decisions as JSON: {:.2}", median / at(&writing, 0.5));

    let mut services: Vec<Service> = (0..10_000).map(service).collect();
    let mut seconds: Vec<f64> = (0..12).map(|window| round(&mut services, window).0).collect();
    seconds.sort_by(f64::total_cmp);
    let slowest = at(&seconds, 1.0);
    println!(
        "10,000 services on one core: slowest of {} rounds {slowest:.3} s (floor {FLOOR_TICK_SECONDS} s)",
        seconds.len()
    );
    if let Some(bytes) = resident_bytes() {
        println!("  resident {:.0} MiB (floor {:.0} MiB)", bytes / 1048576.0, FLOOR_BYTES / 1048576.0);
        assert!(bytes < FLOOR_BYTES, "resident memory is above its floor");
    }
    assert!(p99 <= FLOOR_THOUSAND_MILLIS && slowest <= FLOOR_TICK_SECONDS, "slower than the floor");
}
