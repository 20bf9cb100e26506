//! How long the LSTM takes: a forecast of a thousand services on one core, and a full training on 28 days of ten services
//! at one-minute steps on two. Rule: the forecasts are the product's own calls, from histories to quantiles, and are
//! checked; the training looks at as many windows as there are.
//!
//! `cargo bench -p prescale-forecast --bench lstm_speed`; `-- --quick` trains on a fortieth of the windows.
#![allow(clippy::print_stdout, reason = "the figures are the result")]

#[path = "kit/report.rs"]
mod kit;

use std::collections::BTreeMap;
use std::time::Instant;

use kit::{Result, quantile, spread};
use prescale_domain::{DEFAULT_QUANTILES, Series, ServiceName, Span, Timestamp};
use prescale_forecast::models::{Forecaster as _, Lesson, Lstm, LstmSettings};
use prescale_forecast::past::{Past, Request, no_covariates};

const MINUTE: Span = Span::from_minutes(1);
const DAY_STEPS: usize = 1440;
const HORIZON_STEPS: usize = 30;
/// 2026-11-02 is a Monday.
const START: Timestamp = Timestamp::from_millis(1_793_577_600_000);
const FORECAST_MILLIS_MAX: f64 = 50.0;
const TRAINING_SECONDS_MAX: f64 = 600.0;

fn main() -> Result<()> {
    let quick = kit::quick()?;
    println!("profile: {}\nmachine: {}", kit::profile(), kit::machine());
    forecasts(if quick { 5 } else { 30 })?;
    training(if quick { 40 } else { 1 })
}

/// A day's wave with noise, another for each service.
fn histories(services: usize, days: usize) -> BTreeMap<ServiceName, Series> {
    let history = |service: usize| {
        let value = |i: usize| {
            let wave = (i as f64 / DAY_STEPS as f64 * std::f64::consts::TAU + service as f64).sin();
            Some((100.0 + service as f64) * (1.0 + 0.6 * wave) + ((i * 7919 + service * 104_729) % 37) as f64)
        };
        Series { start: START, step: MINUTE, values: (0..days * DAY_STEPS).map(value).collect() }
    };
    (0..services).map(|service| (ServiceName::new(&format!("service-{service:04}")), history(service))).collect()
}

fn lesson(histories: &BTreeMap<ServiceName, Series>, days: usize) -> Lesson<'_> {
    let end = START + Span::from_minutes((days * DAY_STEPS) as i64);
    let (covariates, horizon_steps, levels) = (no_covariates(), HORIZON_STEPS, &DEFAULT_QUANTILES);
    Lesson { histories, covariates, events: &[], train_until: end, end, horizon_steps, levels }
}

fn forecasts(rounds: usize) -> Result<()> {
    let (services, days) = (1000, 9);
    let histories = histories(services, days);
    let mut model = Lstm::new(LstmSettings { fit_samples: 640, ..LstmSettings::default() }, 1);
    model.fit(&lesson(&histories, days))?;
    let mut millis = Vec::new();
    for round in 0..=rounds {
        let requests: Vec<_> = histories
            .iter()
            .map(|(service, series)| {
                let past = Past::all(series).first(days * DAY_STEPS - round);
                let (horizon_steps, levels) = (HORIZON_STEPS, &DEFAULT_QUANTILES[..]);
                Request { service, past, horizon_steps, levels, events: &[], now: past.end() }
            })
            .collect();
        let begin = Instant::now();
        let found = model.predict_many(&requests);
        let took = begin.elapsed();
        for (request, rows) in requests.iter().zip(found).step_by(37) {
            if rows? != model.predict(request)? {
                return Err(format!("{}: another forecast beside others than alone", request.service).into());
            }
        }
        // The first round warms up.
        if round > 0 {
            millis.push(took.as_secs_f64() * 1e3);
        }
    }
    println!(
        "{services} services, {days} days of minutes, horizon {HORIZON_STEPS}, {} quantiles, one thread",
        DEFAULT_QUANTILES.len()
    );
    println!("  (i) forecasts of all {} ms (wanted: at most {FORECAST_MILLIS_MAX})", spread(&millis, 1));
    let median = quantile(&millis, 0.5).ok_or("no round")?;
    println!("      wanted / found {:.2}", FORECAST_MILLIS_MAX / median);
    Ok(())
}

fn training(part: usize) -> Result<()> {
    let (services, days) = (10, 28);
    let histories = histories(services, days);
    let windows = services * days * DAY_STEPS;
    let settings = LstmSettings { fit_samples: windows / part, threads: 2, ..LstmSettings::default() };
    let mut model = Lstm::new(settings, 1);
    let begin = Instant::now();
    model.fit(&lesson(&histories, days))?;
    let seconds = begin.elapsed().as_secs_f64();
    println!("{services} services, {days} days of minutes: {windows} windows, two threads");
    let what = if part == 1 { String::new() } else { format!(", on 1 of {part} windows") };
    println!("  (j) training from scratch{what} {seconds:.1} s (wanted: at most {TRAINING_SECONDS_MAX} with all)");
    println!("      wanted / found {:.1}", TRAINING_SECONDS_MAX / (seconds * part as f64));
    Ok(())
}
