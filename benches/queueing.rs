//! How fast the event-driven simulator is, from one place for requests to 8,000, with one queue and with one by unit. Rule:
//! five million events a second on one core.
//!
//! The reference beside it is a queue of events and nothing else: as many moments put in and taken out in their order.
//!
//! `cargo bench -p prescale-simulation --bench queueing`

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::time::Instant;

use prescale_domain::{Span, Timestamp};
use prescale_simulation::queueing::{
    Arrivals, FleetModel, Latency, Pricing, QueueOutcome, Queueing, RateSeries, RunSettings, ServiceModel, ServiceTime,
    WarmUp, simulate, simulate_fluid,
};

const ROUNDS: usize = 5;
/// Requests in a run.
const REQUESTS: f64 = 2e6;
const MEAN_SECONDS: f64 = 0.01;
const FLOOR: f64 = 5e6;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let exponential = ServiceTime::Exponential { mean_seconds: MEAN_SECONDS };
    let log_normal = ServiceTime::LogNormal { mean_seconds: MEAN_SECONDS, squared_variation: 0.5 };
    let mut slowest = f64::INFINITY;
    println!("median of {ROUNDS} runs on one core\n");
    println!("{:<55} {:>10} {:>12} {:>10}  checksum", "run", "events", "M events/s", "reference");
    for (name, units, concurrency, time) in [
        ("one place", 1, 1, exponential),
        ("20 places", 20, 1, exponential),
        ("200 units with 4 places, log-normal", 200, 4, log_normal),
        ("2000 units with 4 places, log-normal", 2000, 4, log_normal),
    ] {
        let reference = 1.0 / median(|| Ok(((), heap(units * concurrency))))?.1;
        for (kind, queue) in [
            ("one queue", Queueing::Shared { limit: None, timeout: None }),
            ("least connections", Queueing::LeastConnections { limit: None, timeout: None }),
        ] {
            let rate = 0.85 * f64::from(units * concurrency) / MEAN_SECONDS;
            let length = Span::from_secs((REQUESTS / rate).ceil() as i64);
            let run = settings(units, concurrency, time, queue, length);
            let (outcome, seconds) = median(|| timed(|| simulate(&run, &arrivals(rate, length), |_| None)))?;
            let speed = outcome.totals.events as f64 / seconds;
            slowest = slowest.min(speed);
            row(&format!("{name}, {kind}"), &outcome, speed, Some(speed / reference));
        }
    }
    let length = Span::from_minutes(1440);
    let run = settings(400, 4, log_normal, Queueing::Shared { limit: None, timeout: None }, length);
    let (outcome, seconds) = median(|| timed(|| simulate_fluid(&run, &arrivals(1e5, length), |_| None)))?;
    row("a day at 100,000 requests/s as a liquid", &outcome, outcome.totals.events as f64 / seconds, None);
    println!("  in {:.1} ms", 1e3 * seconds);
    println!("\nslowest {:.2} M events/s (wanted: at least {:.0} M)", slowest / 1e6, FLOOR / 1e6);
    if slowest < FLOOR {
        return Err(format!("under the {FLOOR} events/s that are wanted").into());
    }
    Ok(())
}

fn row(name: &str, outcome: &QueueOutcome, speed: f64, ratio: Option<f64>) {
    let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}x"));
    let checksum = checksum(format!("{:?}{:?}", outcome.totals, outcome.windows).as_bytes());
    println!("{name:<55} {:>10} {:>12.2} {ratio:>10}  {checksum:016x}", outcome.totals.events, speed / 1e6);
}

fn timed<T, E>(run: impl FnOnce() -> Result<T, E>) -> Outcome<(T, f64)>
where
    Box<dyn std::error::Error>: From<E>,
{
    let begun = Instant::now();
    let made = black_box(run()?);
    Ok((made, begun.elapsed().as_secs_f64()))
}

/// The last of some runs, and the median of their seconds.
fn median<T>(mut run: impl FnMut() -> Outcome<(T, f64)>) -> Outcome<(T, f64)> {
    let (mut made, first) = run()?;
    let mut seconds = vec![first];
    while seconds.len() < ROUNDS {
        let (again, took) = run()?;
        made = again;
        seconds.push(took);
    }
    seconds.sort_by(f64::total_cmp);
    Ok((made, seconds[seconds.len() / 2]))
}

/// Seconds for one event of a queue that holds `size` of them.
fn heap(size: u32) -> f64 {
    const EVENTS: u32 = 1_000_000;
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 40
    };
    let mut queue: BinaryHeap<Reverse<(u64, u32, u64)>> = (0..size).map(|unit| Reverse((next(), unit, 0))).collect();
    let begun = Instant::now();
    for _ in 0..EVENTS {
        let Some(Reverse((now, unit, _))) = queue.pop() else { break };
        queue.push(Reverse((now + next(), unit, now)));
    }
    black_box(&queue);
    begun.elapsed().as_secs_f64() / f64::from(EVENTS)
}

fn settings(units: u32, concurrency: u32, time: ServiceTime, queue: Queueing, length: Span) -> RunSettings {
    let start = Timestamp::from_millis(0);
    RunSettings {
        start,
        end: start + length,
        tick: Span::from_secs(15),
        window: Span::from_minutes(1),
        objective: Span::from_secs(1),
        fleet: FleetModel {
            min: 0,
            max: units,
            initial: units,
            provisioning: Latency::Fixed(Span::from_minutes(2)),
            warm_up: WarmUp::NONE,
            launch_failure: 0.0,
            retry_after: Span::from_secs(30),
            drain_limit: None,
        },
        service: ServiceModel { time, concurrency },
        queue,
        prices: Pricing::on_demand(0.17, Span::from_minutes(1)),
        market: None,
        seed: 1,
    }
}

fn arrivals(per_second: f64, length: Span) -> Arrivals {
    Arrivals::Rate(RateSeries { start: Timestamp::from_millis(0), step: length, per_second: vec![per_second] })
}

/// FNV-1a: two builds that simulate the same give the same number.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
