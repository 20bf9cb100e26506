//! What a minute costs a service: all models that serve by default, less the LSTM, asked for an hour, mixed, calibrated, and
//! the outcomes learnt from. Rule: 200 µs for each service and minute, on one core. The trees, which have to be asked for,
//! are measured beside them.
//!
//! `cargo bench --workspace --bench ensemble`; with `--profile dev` it measures the build of the tests.
#![allow(clippy::print_stdout, reason = "the figures are the result")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prescale_domain::{DEFAULT_QUANTILES, Series, ServiceName, Span, Timestamp};
use prescale_forecast::calibrate::Calibrator;
use prescale_forecast::ensemble::{Ensemble, EnsembleSettings, Said};
use prescale_forecast::models::{Forecaster, Lesson, ModelKind};
use prescale_forecast::past::{Past, Request, no_covariates};

const STEP: Span = Span::from_minutes(1);
const HORIZON: usize = 60;
const DAYS: usize = 8;
const MINUTES: usize = 2_000;
const FLOOR: Duration = Duration::from_micros(200);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let default = ModelKind::DEFAULT.into_iter().filter(|kind| *kind != ModelKind::Lstm);
    let served = minute(default.clone().collect())?;
    println!();
    let with_trees = minute(default.chain([ModelKind::Boosted]).collect())?;
    println!("\nby default {served:.1?}, with the trees {with_trees:.1?} (wanted: at most {FLOOR:.1?} by default)");
    println!("wanted / found {:.2}", FLOOR.as_secs_f64() / served.as_secs_f64());
    if served > FLOOR {
        return Err(format!("over the {FLOOR:?} that are wanted").into());
    }
    Ok(())
}

/// The median time of a minute.
fn minute(experts: Vec<ModelKind>) -> Result<Duration, Box<dyn std::error::Error>> {
    let noise = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as f64 / u64::MAX as f64;
    let values = (0..DAYS * 1440 + MINUTES)
        .map(|i| Some((400.0 + 250.0 * (i as f64 / 229.2).sin() + 80.0 * noise(i)).round()))
        .collect();
    let series = Series { start: Timestamp::from_millis(1_700_006_400_000), step: STEP, values };
    let service = ServiceName::new("a");
    let histories = BTreeMap::from([(service.clone(), series)]);
    let series = &histories[&service];
    let settings = EnsembleSettings { experts, ..EnsembleSettings::default() };
    let past = Past::all(series);
    let lesson = Lesson {
        histories: &histories,
        covariates: no_covariates(),
        events: &[],
        train_until: past.moment((DAYS - 2) * 1440),
        end: past.moment(DAYS * 1440),
        horizon_steps: HORIZON,
        levels: &DEFAULT_QUANTILES,
    };
    let mut models: Vec<Box<dyn Forecaster>> = settings.experts.iter().map(|kind| kind.build(1)).collect();
    for model in &mut models {
        let clock = Instant::now();
        model.fit(&lesson)?;
        println!("{:<14} fit {:>9.1?}, saved {:>9} bytes", model.kind().name(), clock.elapsed(), model.save().len());
    }
    let mut ensemble = Ensemble::new(&settings, &DEFAULT_QUANTILES, STEP, HORIZON);
    let mut calibrator = Calibrator::new(&DEFAULT_QUANTILES, ensemble.leads());
    let mut took: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let mut each: Vec<Duration> = Vec::new();
    for end in DAYS * 1440..DAYS * 1440 + MINUTES {
        let begin = Instant::now();
        ensemble.observe(past.moment(end - 1), series.values[end - 1]);
        let learnt = Instant::now();
        took.entry("learn").or_default().push(learnt - begin);
        let own = past.first(end);
        let request = Request {
            service: &service,
            past: own,
            horizon_steps: HORIZON,
            levels: &DEFAULT_QUANTILES,
            events: &[],
            now: own.end(),
        };
        let mut said = Said::new();
        for model in &models {
            let clock = Instant::now();
            said.insert(model.kind(), model.predict(&request)?);
            took.entry(model.kind().name()).or_default().push(clock.elapsed());
        }
        let asked = Instant::now();
        let mut rows = ensemble.combine(&said).ok_or("no expert said anything")?;
        calibrator.correct(&mut rows);
        let mixed = Instant::now();
        ensemble.expect(past.moment(end - 1), &said);
        calibrator.add(1, &rows[0], series.values[end - 1].ok_or("a gap")?);
        took.entry("mix and calibrate").or_default().push(mixed - asked);
        took.entry("keep").or_default().push(mixed.elapsed());
        each.push(begin.elapsed());
    }
    // Medians: on a machine with other work a mean is that of the waits.
    let middle = |mut each: Vec<Duration>| {
        each.sort_unstable();
        each[each.len() / 2]
    };
    for (name, each) in took {
        println!("{name:<18} {:>9.2?} a minute", middle(each));
    }
    let median = middle(each);
    println!(
        "all of it          {median:>9.2?} a minute (medians), {} bytes of state",
        serde_json::to_vec(&ensemble)?.len()
    );
    Ok(median)
}
