//! Development: the frontier of the planner on a kept stream of forecasts.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]
use prescale_actuate::FleetSettings;
use prescale_domain::*;
use prescale_simulation::arena::{Bout, Demand, Pilot};
use prescale_simulation::experiment::{ExperimentSettings, simulate_service};
use prescale_simulation::stream::ForecastStream;
use prescale_simulation::sweep::hpa_sweep;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    // stream values(one per line from stream start+step) peak_units lead_secs from_index to_index
    let stream = ForecastStream::from_bytes(&std::fs::read(&args[1]).unwrap()).unwrap();
    let values: Vec<f64> =
        std::fs::read_to_string(&args[2]).unwrap().lines().map(|l| l.trim().parse().unwrap_or(f64::NAN)).collect();
    let (units, lead): (f64, i64) = (args[3].parse().unwrap(), args[4].parse().unwrap());
    let (from, to): (usize, usize) = (args[5].parse().unwrap(), args[6].parse().unwrap());
    let seeds: u64 = args.get(7).map_or(1, |s| s.parse().unwrap());
    let peak = values.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
    let cap = peak / units;
    let start = stream.start + Span::from_millis(stream.step.millis() * (from as i64 + 1));
    let load = values[from..to].to_vec();
    let known = |mut last: f64| {
        load.iter()
            .map(move |v| {
                if v.is_finite() {
                    last = *v;
                }
                last
            })
            .collect::<Vec<f64>>()
    };
    let bouts: Vec<Bout> = (0..seeds)
        .map(|seed| Bout {
            demand: Demand { start, step: stream.step, load: known(0.0) },
            fleet: FleetSettings {
                min: 1,
                max: 2 * units as u32,
                initial: (load[0] * 1.3 / cap).ceil() as u32,
                provisioning_latency: Span::from_secs(lead * 5 / 6),
                provisioning_latency_p90: Span::from_secs(lead),
                warm_up: Span::ZERO,
                price_usd_hour: 0.1,
                minimum_billing: Span::from_secs(60),
                seed,
            },
            unit_capacity: cap,
        })
        .collect();
    for point in hpa_sweep(&bouts) {
        println!(
            "hpa {:.2} cost {:8.2} time {:7.3} req {:7.4} actions {}",
            point.target,
            point.score.cost_usd,
            point.score.violations.time_pct,
            point.score.violations.requests_pct,
            point.score.actions
        );
    }
    let var = |name: &str, or: f64| std::env::var(name).ok().map_or(or, |v| v.parse().unwrap());
    for budget in [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12] {
        for rule in [PlanningRule::Ceiling, PlanningRule::RiskBudget] {
            let policy = PolicySettings {
                unit_capacity: cap,
                min_units: 1,
                max_units: 100_000,
                quantile: 1.0 - 1.3 * budget,
                step_up_units: 1000,
                step_down_units: 1000,
                cooldown_up: Span::ZERO,
                cooldown_down: Span::from_secs(var("COOL", 60.0) as i64),
                stabilization_down: Span::from_secs(var("STAB", 180.0) as i64),
                hysteresis: var("HYST", 0.05),
                reactive_utilization: 0.7,
                stale_after: Span::from_secs(300),
                blind_after: Span::from_secs(600),
                planning: PlanningSettings {
                    rule,
                    violation_budget: budget,
                    churn: Span::from_secs(var("CHURN", 0.0) as i64),
                    budget_period: Span::from_minutes((var("PERIOD", 7.0 * 1440.0)) as i64),
                    ..PlanningSettings::default()
                },
            };
            let settings = ExperimentSettings {
                policy,
                decision_interval: stream.step,
                data_age: Span::from_secs(5),
                knows_events: false,
            };
            let mut sum = prescale_simulation::arena::Tally::default();
            for bout in &bouts {
                let mut timeline = Vec::new();
                simulate_service(
                    bout,
                    &stream.service,
                    &settings,
                    |end| stream.after(end).map_err(str::to_owned),
                    |d| timeline.push((d.at, d.desired)),
                );
                sum = sum.plus(bout.fly(&Pilot::Timeline(&timeline)));
            }
            let s = sum.score(None).unwrap();
            println!(
                "{rule:<12} {budget:.4} cost {:8.2} time {:7.3} req {:7.4} actions {}",
                s.cost_usd, s.violations.time_pct, s.violations.requests_pct, s.actions
            );
        }
    }
}
