//! Prints the fleet simulator beside queueing theory: `cargo run -p prescale-simulation --example queueing`. How fast it is
//! tells the bench `queueing`.
#![allow(clippy::print_stdout, reason = "the figures are the result")]

use std::error::Error;

use prescale_domain::{Span, Timestamp};
use prescale_simulation::queueing::theory::{mg1_wait_seconds, mgc_wait_seconds, mmc_wait_seconds};
use prescale_simulation::queueing::{
    Arrivals, FleetModel, Latency, Pricing, QueueOutcome, Queueing, RateSeries, RunSettings, ServiceModel, ServiceTime,
    WarmUp, simulate,
};

const MEAN_SECONDS: f64 = 0.1;
const RUNS: u64 = 12;
/// 99.5th percentile of Student's t with 11 degrees of freedom.
const T: f64 = 3.106;

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "{:<9} {:>5} {:>5} {:>8} {:>14} {:>14} {:>10} {:>9} {:>7}",
        "queue", "c", "load", "minutes", "theory ms", "simulated ms", "± 99 %", "deviation", "inside"
    );
    let exponential = ServiceTime::Exponential { mean_seconds: MEAN_SECONDS };
    let mixed = |squared| ServiceTime::HyperExponential { mean_seconds: MEAN_SECONDS, squared_variation: squared };
    let log_normal = ServiceTime::LogNormal { mean_seconds: MEAN_SECONDS, squared_variation: 2.0 };
    let fixed = ServiceTime::Deterministic { mean_seconds: MEAN_SECONDS };
    for (servers, load) in
        [(1, 0.5), (1, 0.8), (1, 0.95), (2, 0.7), (5, 0.9), (10, 0.8), (20, 0.95), (100, 0.9), (100, 0.98)]
    {
        row("M/M/c", servers, load, exponential)?;
    }
    for (name, time) in [("M/D/1", fixed), ("M/LN/1", log_normal), ("M/H2/1", mixed(4.0)), ("M/H2/1", mixed(9.0))] {
        for load in [0.5, 0.8, 0.9] {
            row(name, 1, load, time)?;
        }
    }
    for (name, time) in [("M/D/c ≈", fixed), ("M/LN/c ≈", log_normal), ("M/H2/c ≈", mixed(4.0))] {
        for (servers, load) in [(4, 0.8), (16, 0.9), (64, 0.95)] {
            row(name, servers, load, time)?;
        }
    }
    println!();
    println!("≈: Allen and Cunneen, an approximation; the others are exact.");
    Ok(())
}

fn settings(servers: u32, time: ServiceTime, length: Span, seed: u64) -> RunSettings {
    let start = Timestamp::from_millis(0);
    RunSettings {
        start,
        end: start + length,
        tick: Span::from_secs(15),
        window: Span::from_minutes(1),
        objective: Span::from_secs(1),
        fleet: FleetModel {
            min: 0,
            max: servers,
            initial: servers,
            provisioning: Latency::Fixed(Span::from_minutes(2)),
            warm_up: WarmUp::NONE,
            launch_failure: 0.0,
            retry_after: Span::from_secs(30),
            drain_limit: None,
        },
        service: ServiceModel { time, concurrency: 1 },
        queue: Queueing::Shared { limit: None, timeout: None },
        prices: Pricing::on_demand(0.17, Span::from_minutes(1)),
        market: None,
        seed,
    }
}

fn arrivals(per_second: f64, length: Span) -> Arrivals {
    Arrivals::Rate(RateSeries { start: Timestamp::from_millis(0), step: length, per_second: vec![per_second] })
}

fn row(name: &str, servers: u32, load: f64, time: ServiceTime) -> Result<(), Box<dyn Error>> {
    let rate = load * f64::from(servers) / MEAN_SECONDS;
    // 200,000 requests a run at a load of 80 %, more near saturation, where a queue takes longer to settle.
    let minutes = (200_000.0 / rate / 60.0 * 0.2 / (1.0 - load)).ceil() as i64;
    let length = Span::from_minutes(minutes.max(10));
    let mut means = Vec::new();
    for seed in 0..RUNS {
        let outcome = simulate(&settings(servers, time, length, 1000 + seed), &arrivals(rate, length), |_| None)?;
        means.push(settled_wait_ms(&outcome));
    }
    let mean = means.iter().sum::<f64>() / RUNS as f64;
    let variance = means.iter().map(|each| (each - mean).powi(2)).sum::<f64>() / (RUNS - 1) as f64;
    let half = T * (variance / RUNS as f64).sqrt();
    let exact = mmc_wait_seconds(servers, rate, MEAN_SECONDS);
    let squared = time.squared_variation();
    let theory = match time {
        ServiceTime::Exponential { .. } => exact,
        _ if servers == 1 => mg1_wait_seconds(rate, MEAN_SECONDS, squared),
        _ => mgc_wait_seconds(servers, rate, MEAN_SECONDS, squared),
    };
    let theory = 1000.0 * theory.ok_or("a queue without a steady state")?;
    let inside = if (mean - theory).abs() <= half { "yes" } else { "no" };
    let deviation = 100.0 * (mean / theory - 1.0);
    println!(
        "{name:<9} {servers:>5} {load:>5.2} {:>8} {theory:>14.3} {mean:>14.3} {half:>10.3} {deviation:>+7.2} % {inside:>7}",
        length.millis() / 60_000
    );
    Ok(())
}

/// Mean wait after the first tenth of a run.
fn settled_wait_ms(outcome: &QueueOutcome) -> f64 {
    let settled = &outcome.windows[outcome.windows.len() / 10..];
    let served: f64 = settled.iter().map(|window| window.served as f64).sum();
    settled.iter().map(|window| window.wait_mean_ms.unwrap_or(0.0) * window.served as f64).sum::<f64>() / served
}
