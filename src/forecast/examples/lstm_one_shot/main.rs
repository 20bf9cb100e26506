//! What the LSTM's decoder is worth: `lstm_one_shot DATA [--seeds N] [SERIES …]`. Beside the product's LSTM, a network is
//! trained whose decoder is replaced by one linear map from the encoder's last state and the known inputs of the targets to
//! the quantiles of all steps at once. Rule: inputs, split, samples drawn, optimizer and stopping are the product's own
//! code, so that only the network differs; both are trained up to two days before the test and never again. Before that
//! the gradient of each head is compared with differences of its loss.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool that may stop on bad arguments")]

mod check;
mod network;

// The product's own files: training has no way in for another network.
#[path = "../../models/lstm/calendar.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod calendar;
#[path = "../../models/lstm/inputs.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod inputs;
#[path = "../../models/lstm/kernel.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod kernel;
#[path = "../../log.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod log;
#[path = "../lstm_traces.rs"]
#[allow(dead_code, reason = "its traces and their splits are used, not its run")]
mod lstm_traces;
#[path = "../../models/lstm/product.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod product;
#[path = "../../models/lstm/network.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod recurrent;
#[path = "../../models/residual.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod residual;
#[path = "../../rows.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod rows;
#[path = "../../models/lstm/train.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod train;
#[path = "../../models/lstm/weights.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod weights;

/// What those files name of the product.
mod error {
    pub(crate) use prescale_forecast::{ForecastCrateError, Result};
}
mod past {
    pub(crate) use prescale_forecast::past::Past;
}
mod source {
    pub(crate) use crate::network::Source;
}
mod models {
    use prescale_domain::{CalendarEvent, ServiceName, Span, Timestamp};
    pub(crate) use prescale_forecast::models::{Lesson, ModelKind};

    pub(crate) use crate::residual;

    pub(crate) const DAY: Span = Span::from_minutes(24 * 60);

    /// The traces have no events.
    pub(crate) fn event_at(_: &[CalendarEvent], _: &ServiceName, _: Timestamp, _: Timestamp) -> Option<f64> {
        None
    }
}
/// The traces have a load alone.
mod covariates {
    use crate::past::Past;

    pub(crate) const CHANNEL_INPUTS: usize = 2;

    #[derive(Clone, Debug)]
    pub(crate) struct Gauge;

    pub(crate) fn channels<'a>(_: impl Iterator<Item = Past<'a>>) -> Vec<String> {
        Vec::new()
    }

    pub(crate) fn gauges(_: Past<'_>, _: &[String]) -> Vec<Option<Gauge>> {
        Vec::new()
    }

    pub(crate) fn inputs(_: Past<'_>, _: &[Option<Gauge>]) -> Vec<f32> {
        Vec::new()
    }
}

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use network::{Batch, Layout};
use prescale_domain::{DEFAULT_QUANTILES, ServiceName, Span};
use prescale_forecast::models::{Forecaster as _, Lesson, Lstm, LstmSettings};
use prescale_forecast::past::{Past, Request, no_covariates};

use lstm_traces::{Split, TRACES};

/// The product's default.
const HORIZON_STEPS: usize = 30;
const LEADS: [usize; 4] = [1, 6, 12, 30];
const NAMES: [&str; 3] = ["decoder", "one-shot, all inputs", "one-shot, own inputs"];

/// What a fitted network is, as the training returns it.
struct Fitted {
    layout: Layout,
    horizon_steps: usize,
    scales: BTreeMap<ServiceName, ServiceScale>,
    event_kinds: BTreeSet<String>,
    channels: Vec<String>,
    #[allow(dead_code, reason = "the product's training gives it")]
    trained_on: Span,
    weights: Vec<f32>,
}

struct ServiceScale {
    index: usize,
    scale: inputs::Scale,
    gauges: Vec<Option<covariates::Gauge>>,
}

/// Which known inputs a step's quantiles are made of.
#[derive(Clone, Copy)]
enum Head {
    /// Those of all targets, side by side.
    All,
    /// Those of its own target, by weights that all steps share, as the product's head has them.
    Own,
}

thread_local! {
    /// Beside the layout, which the product's training makes.
    static HEAD: Cell<Head> = const { Cell::new(Head::All) };
}

impl Head {
    fn chosen() -> Self {
        HEAD.get()
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let data = arguments.next().expect("the folder of the traces");
    let (mut seeds, mut names) = (3_u64, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seeds" => seeds = arguments.next().unwrap().parse().unwrap(),
            _ => names.push(argument),
        }
    }
    if names.is_empty() {
        names = ["nasa", "twitter", "asgcpu"].map(str::to_owned).to_vec();
    }
    for (name, head) in NAMES[1..].iter().zip([Head::All, Head::Own]) {
        HEAD.set(head);
        println!("{name}: the gradient is the slope of the loss up to {:.2} %", 100.0 * check::slopes());
    }
    println!("at {LEADS:?} windows ahead, means of {seeds} seeds; pinball loss over all levels ÷ the scale of MASE");
    let mut ratios = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    for trace in TRACES.iter().filter(|trace| names.iter().any(|name| name == trace.name)) {
        let split = trace.split(Path::new(&data), false);
        let mut means = [[[0.0; 2]; LEADS.len()]; NAMES.len()];
        let mut seconds = [0.0; NAMES.len()];
        let mut count = 0;
        for seed in 1..=seeds {
            let mut of_seed = [[[0.0; 2]; LEADS.len()]; NAMES.len()];
            for (variant, figures) in of_seed.iter_mut().enumerate() {
                let clock = Instant::now();
                (*figures, count) = run(&split, variant, seed);
                seconds[variant] += clock.elapsed().as_secs_f64() / seeds as f64;
            }
            for (variant, by_measure) in ratios.iter_mut().enumerate() {
                for (measure, ratios) in by_measure.iter_mut().enumerate() {
                    let each = (0..LEADS.len())
                        .map(|lead| (of_seed[variant + 1][lead][measure] / of_seed[0][lead][measure]).ln());
                    ratios.push(each.sum::<f64>() / LEADS.len() as f64);
                }
            }
            for (mean, own) in means.as_flattened_mut().iter_mut().zip(of_seed.as_flattened()) {
                mean.iter_mut().zip(own).for_each(|(mean, own)| *mean += own / seeds as f64);
            }
        }
        println!("{}, windows of {} min, {count} origins", trace.name, trace.step_minutes);
        for (variant, name) in NAMES.into_iter().enumerate() {
            let row = |measure: usize| means[variant].map(|figures| format!("{:.3}", figures[measure])).join("/");
            println!("  {name:<22} MASE {}  pinball {}  ({:.0} s)", row(0), row(1), seconds[variant]);
        }
    }
    for (name, by_measure) in NAMES[1..].iter().zip(&ratios) {
        for (measure, ratios) in ["MASE", "pinball"].iter().zip(by_measure) {
            let mean = ratios.iter().sum::<f64>() / ratios.len().max(1) as f64;
            let each = ratios.iter().map(|ratio| format!("{:.3}", ratio.exp())).collect::<Vec<_>>().join(" ");
            println!("{name}: {measure} ÷ that with the decoder {:.3} (by trace and seed {each})", mean.exp());
        }
    }
}

/// MASE and pinball loss by lead.
type Figures = [[f64; 2]; LEADS.len()];

/// Trains the variant and forecasts from every fifth minute of the test; and from how many.
fn run(split: &Split, variant: usize, seed: u64) -> (Figures, usize) {
    let series = &split.histories[&split.service];
    let lesson = Lesson {
        histories: &split.histories,
        covariates: no_covariates(),
        events: &[],
        train_until: split.train_until,
        end: split.train_until,
        horizon_steps: HORIZON_STEPS,
        levels: &DEFAULT_QUANTILES,
    };
    let test = split.test_from.since(series.start).steps_up(series.step);
    let every = Span::from_minutes(5).steps_up(series.step);
    let origins = (test + every..=series.values.len() - HORIZON_STEPS).step_by(every);
    let pasts: Vec<Past<'_>> = origins.map(|count| Past::all(series).first(count)).collect();
    let rows = match variant {
        0 => by_decoder(&lesson, &split.service, &pasts, seed),
        _ => {
            HEAD.set(if variant == 1 { Head::All } else { Head::Own });
            by_one_shot(&lesson, &split.service, &pasts, seed)
        }
    };
    let mut sums = [[0.0; 3]; LEADS.len()];
    for (past, rows) in pasts.iter().zip(&rows) {
        for (lead, sums) in LEADS.iter().zip(&mut sums) {
            let Some(actual) = series.values[past.values.len() + lead - 1] else { continue };
            let row = &rows[lead - 1];
            let losses = row.iter().zip(DEFAULT_QUANTILES).map(|(quantile, level)| {
                let miss = actual - quantile;
                (level * miss).max((level - 1.0) * miss)
            });
            let error = (actual - row[DEFAULT_QUANTILES.iter().position(|level| *level == 0.5).unwrap()]).abs();
            let pinball = losses.sum::<f64>() / row.len() as f64;
            sums.iter_mut().zip([error, pinball, 1.0]).for_each(|(sum, value)| *sum += value);
        }
    }
    (sums.map(|[error, pinball, count]| [error, pinball].map(|sum| sum / count / split.scale)), rows.len())
}
/// Quantiles of each step from each origin.
type Forecasts = Vec<Vec<Vec<f64>>>;

fn by_decoder(lesson: &Lesson<'_>, service: &ServiceName, pasts: &[Past<'_>], seed: u64) -> Forecasts {
    let mut model = Lstm::new(LstmSettings::default(), seed);
    model.fit(lesson).unwrap();
    let (horizon_steps, levels) = (HORIZON_STEPS, &DEFAULT_QUANTILES[..]);
    let request = |past: &Past<'_>| {
        let request = Request { service, past: *past, horizon_steps, levels, events: &[], now: past.end() };
        model.predict(&request).unwrap().into()
    };
    pasts.iter().map(request).collect()
}

fn by_one_shot(lesson: &Lesson<'_>, service: &ServiceName, pasts: &[Past<'_>], seed: u64) -> Forecasts {
    let settings = LstmSettings::default();
    let effort = train::Effort { samples: settings.fit_samples, rate: settings.fit_rate, recent: false };
    let fitted = train::train(&settings, seed, lesson, None, effort).unwrap();
    let own = &fitted.scales[service];
    let (steps, levels) = (fitted.horizon_steps, fitted.layout.levels.len());
    let mut forecasts = Vec::with_capacity(pasts.len());
    let mut batch = Batch::default();
    for pasts in pasts.chunks(settings.batch) {
        let samples: Vec<_> = pasts
            .iter()
            .map(|past| {
                let moments = inputs::target_moments(*past, steps);
                let (scale, gauges) = (&own.scale, &*own.gauges);
                let view = inputs::View { scale, gauges, service, events: &[], moments: &moments, shift: 0.0 };
                train::Sample { inputs: inputs::inputs(*past, &view).unwrap(), targets: Vec::new(), own }
            })
            .collect();
        train::assemble(&mut batch, &samples);
        let logs = network::predict(&fitted.layout, &fitted.weights, &batch);
        for sample in 0..batch.size {
            let (base, offset) = (f64::from(batch.bases[sample]), f64::from(batch.offsets[sample]));
            let row = |step: usize| {
                let logs = &logs[(step * batch.size + sample) * levels..][..levels];
                let value = |log: &f32| (own.scale.unit * (base * f64::from(*log).exp() - offset)).max(0.0);
                logs.iter().map(value).collect()
            };
            forecasts.push((0..steps).map(row).collect());
        }
    }
    forecasts
}
