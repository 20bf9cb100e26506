//! The simulator against theory, against itself and against what no run may break.

use prescale_domain::{Span, Timestamp};

use super::*;

mod conservation;
mod fleet;
mod fluid;
mod spot;
mod steady;

fn start() -> Timestamp {
    "2026-03-02T00:00:00Z".parse().unwrap()
}

/// Units that are there from the start and stay, one price, no limits.
fn settings(units: u32, concurrency: u32, time: ServiceTime, length: Span) -> RunSettings {
    RunSettings {
        start: start(),
        end: start() + length,
        tick: Span::from_secs(15),
        window: Span::from_minutes(1),
        objective: Span::from_secs(1),
        fleet: FleetModel {
            min: 0,
            max: 1000,
            initial: units,
            provisioning: Latency::Fixed(Span::from_secs(60)),
            warm_up: WarmUp::NONE,
            launch_failure: 0.0,
            retry_after: Span::from_secs(10),
            drain_limit: None,
        },
        service: ServiceModel { time, concurrency },
        queue: Queueing::Shared { limit: None, timeout: None },
        prices: Pricing::on_demand(3.6, Span::from_secs(60)),
        market: None,
        seed: 1,
    }
}

fn steady(per_second: f64, length: Span) -> Arrivals {
    Arrivals::Rate(RateSeries { start: start(), step: length, per_second: vec![per_second] })
}

fn exponential(mean_seconds: f64) -> ServiceTime {
    ServiceTime::Exponential { mean_seconds }
}

/// Nobody changes anything.
fn still(_: &Observation) -> Option<u32> {
    None
}
