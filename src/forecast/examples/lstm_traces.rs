//! The LSTM on six public traces beside LightGBM's figures on the same rows: `lstm_traces DATA [--validate] [--seed N]
//! [SERIES …]`, where DATA is the folder of the traces. Rule: frozen is trained up to two days before the test and never
//! again; online goes on from there with a small update each hour of event time and a refit each day, as the product
//! does. `--validate` moves the whole split back in time, to before the test: parameters are chosen on that.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool that may stop on bad arguments")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::time::Instant;

use prescale_domain::{DEFAULT_QUANTILES, Series, ServiceName, Span, Timestamp};
use prescale_forecast::accuracy::{Accuracy, mase_scale};
use prescale_forecast::models::{Forecaster as _, Lesson, Lstm, LstmSettings};
use prescale_forecast::past::{Past, Request, no_covariates};

const DAY: Span = Span::from_minutes(24 * 60);
const HOUR: Span = Span::from_minutes(60);
/// Models see at most this much before the test, the last two days of it after their training.
const HISTORY: Span = Span::from_minutes(21 * 24 * 60);
const APART: Span = Span::from_minutes(2 * 24 * 60);
const LEADS_MINUTES: [i64; 4] = [5, 10, 15, 30];

pub(crate) struct Trace {
    pub name: &'static str,
    file: &'static str,
    pub step_minutes: i64,
    test_from: &'static str,
    test_days: i64,
    /// Start and length of the validation, which ends where the test begins or before.
    validate_from: &'static str,
    validate_days: i64,
    /// MASE of gradient-boosted trees (LightGBM, direct, L1) at the four leads on the test.
    lightgbm: [f64; 4],
    /// Mean absolute first difference of the training part, as that reference has it.
    scale: f64,
}

pub(crate) const TRACES: [Trace; 6] = [
    Trace {
        name: "nasa",
        file: "requests/nasa_http_jul95_1m.csv.gz",
        step_minutes: 1,
        test_from: "1995-07-21T04:00:00Z",
        test_days: 7,
        validate_from: "1995-07-16T04:00:00Z",
        validate_days: 5,
        lightgbm: [0.849, 0.882, 0.893, 0.921],
        scale: 13.75,
    },
    Trace {
        name: "worldcup",
        file: "requests/worldcup98_1m_part1.csv.gz",
        step_minutes: 1,
        test_from: "1998-06-06T00:00:00Z",
        test_days: 7,
        validate_from: "1998-06-01T00:00:00Z",
        validate_days: 5,
        lightgbm: [5.31, 7.11, 8.17, 11.91],
        scale: 215.2,
    },
    Trace {
        name: "twitter",
        file: "requests/twitter_stream_202108_1m_part1.csv.gz",
        step_minutes: 1,
        test_from: "2021-08-09T00:00:00Z",
        test_days: 3,
        validate_from: "2021-08-07T00:00:00Z",
        validate_days: 2,
        lightgbm: [2.64, 3.85, 4.48, 3.61],
        scale: 274.3,
    },
    Trace {
        name: "elb",
        file: "requests/nab_elb_request_count_8c0756.csv.gz",
        step_minutes: 5,
        test_from: "2014-04-20T00:04:00Z",
        test_days: 4,
        validate_from: "2014-04-17T00:04:00Z",
        validate_days: 3,
        lightgbm: [0.717, 0.716, 0.711, 0.725],
        scale: 53.9,
    },
    Trace {
        name: "asgcpu",
        file: "metrics/nab_cpu_utilization_asg_misconfiguration.csv.gz",
        step_minutes: 5,
        test_from: "2014-06-27T00:04:00Z",
        test_days: 7,
        validate_from: "2014-06-22T00:04:00Z",
        validate_days: 5,
        lightgbm: [0.435, 0.450, 0.369, 0.400],
        scale: 8.27,
    },
    Trace {
        name: "google",
        file: "metrics/google2019_job113_cpu_5m.csv.gz",
        step_minutes: 5,
        test_from: "2019-05-22T00:05:00Z",
        test_days: 7,
        validate_from: "2019-05-17T00:05:00Z",
        validate_days: 5,
        lightgbm: [0.780, 0.874, 0.984, 1.07],
        scale: 0.0005,
    },
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let data = arguments.next().expect("the folder of the traces");
    let (mut validate, mut seed, mut names) = (false, 7_u64, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--validate" => validate = true,
            "--seed" => seed = arguments.next().unwrap().parse().unwrap(),
            _ => names.push(argument),
        }
    }
    let chosen = TRACES.iter().filter(|trace| names.is_empty() || names.iter().any(|name| name == trace.name));
    let (mut ratios, mut beaten) = ([0.0; 2], [0; 2]);
    let mut count = 0;
    println!(
        "MASE at 5/10/15/30 min; of the 90 % quantile as the network gives it: coverage, pinball loss at the same"
    );
    for trace in chosen {
        let split = trace.split(Path::new(&data), validate);
        count += 1;
        let head = format!("{:<9}scale {:<8.4} (reference {})", trace.name, split.scale, trace.scale);
        println!("{head} LightGBM {}", row(&trace.lightgbm, 3));
        for (index, online) in [false, true].into_iter().enumerate() {
            let clock = Instant::now();
            let (figures, origins) = split.run(online, seed);
            let each = |f: &dyn Fn(&Accuracy) -> f64| figures.iter().map(f).collect::<Vec<_>>();
            let mase = each(&|a| a.mase(split.scale).unwrap());
            let ratio =
                (mase.iter().zip(trace.lightgbm).map(|(own, other)| (own / other).ln()).sum::<f64>() / 4.0).exp();
            ratios[index] += ratio.ln();
            beaten[index] += u32::from(ratio < 1.0);
            println!(
                "  {:<7} {}  ratio {ratio:.3}  cover {}  pinball {}  ({origins} origins, {:.0} s)",
                if online { "online" } else { "frozen" },
                row(&mase, 3),
                row(&each(&|a| a.coverage_pct().unwrap()), 0),
                row(&each(&|a| a.pinball().unwrap()), 4),
                clock.elapsed().as_secs_f64(),
            );
        }
    }
    for (index, name) in ["frozen", "online"].into_iter().enumerate() {
        let mean = (ratios[index] / f64::from(count)).exp();
        println!(
            "{name}: geometric mean of the ratios {mean:.3}; better than LightGBM on {} of {count}",
            beaten[index]
        );
    }
}

fn row(values: &[f64], digits: usize) -> String {
    values.iter().map(|value| format!("{value:.digits$}")).collect::<Vec<_>>().join("/")
}

/// A history and where training ends and the test begins and ends.
pub(crate) struct Split {
    pub service: ServiceName,
    /// From the start of training to the end of the test.
    pub histories: BTreeMap<ServiceName, Series>,
    pub train_until: Timestamp,
    pub test_from: Timestamp,
    pub scale: f64,
}

impl Trace {
    pub(crate) fn split(&self, data: &Path, validate: bool) -> Split {
        let (from, days) =
            if validate { (self.validate_from, self.validate_days) } else { (self.test_from, self.test_days) };
        let step = Span::from_minutes(self.step_minutes);
        let series = read(&data.join(self.file), step);
        let test_from: Timestamp = from.parse().unwrap();
        let train_until = test_from - APART;
        let place = |moment: Timestamp| moment.since(series.start).steps_up(step).min(series.values.len());
        let (first, last) = (place(test_from - HISTORY), place(test_from + Span::from_millis(days * DAY.millis())));
        let start = series.start + Span::from_millis(step.millis() * first as i64);
        let cut = Series { start, step, values: series.values[first..last].to_vec() };
        let scale = mase_scale(cut.before(train_until)).unwrap();
        let service = ServiceName::new(self.name);
        Split { service: service.clone(), histories: BTreeMap::from([(service, cut)]), train_until, test_from, scale }
    }
}

/// Rows on the nearest place of the grid; times in the traces may jump by parts of a step.
fn read(path: &Path, step: Span) -> Series {
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    let rows: Vec<(Timestamp, f64)> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(','))
        .map(|(time, value)| (time.parse().unwrap(), value.parse().unwrap()))
        .collect();
    let start = rows[0].0;
    let mut series = Series { start, step, values: Vec::new() };
    for (time, value) in rows {
        let place = ((time.millis() - start.millis() + step.millis() / 2) / step.millis()) as usize;
        series.values.resize(series.values.len().max(place + 1), None);
        series.values[place] = Some(value);
    }
    series
}

impl Split {
    fn run(&self, online: bool, seed: u64) -> (Vec<Accuracy>, usize) {
        let series = &self.histories[&self.service];
        let step = series.step;
        let leads: Vec<usize> =
            LEADS_MINUTES.iter().map(|minutes| Span::from_minutes(*minutes).steps_up(step)).collect();
        let horizon_steps = leads[leads.len() - 1];
        let lesson = |until: Timestamp| Lesson {
            histories: &self.histories,
            covariates: no_covariates(),
            events: &[],
            train_until: until,
            end: until,
            horizon_steps,
            levels: &DEFAULT_QUANTILES,
        };
        let mut model = Lstm::new(LstmSettings::default(), seed);
        model.fit(&lesson(self.train_until)).unwrap();
        let place = |moment: Timestamp| moment.since(series.start).steps_up(step);
        let (from, test) = (place(self.train_until), place(self.test_from));
        let mut figures = vec![Accuracy::default(); leads.len()];
        let mut origins = 0;
        for count in from..series.values.len() {
            let past = Past::all(series).first(count);
            let elapsed = past.end().since(self.train_until).millis();
            if online && elapsed > 0 && elapsed % HOUR.millis() == 0 {
                // Another seed each time, or every update would draw the same places.
                model = model.reseeded(LstmSettings::default(), seed + (elapsed / HOUR.millis()) as u64);
                if elapsed % DAY.millis() == 0 {
                    model.refit(&lesson(past.end())).unwrap();
                } else {
                    model.update(&lesson(past.end())).unwrap();
                }
            }
            // Origins every five minutes whose targets all lie in the test.
            let aligned = (count - test.min(count)) % Span::from_minutes(5).steps_up(step) == 0;
            if count <= test || !aligned || count + horizon_steps > series.values.len() {
                continue;
            }
            let now = past.end();
            let (service, levels) = (&self.service, &DEFAULT_QUANTILES[..]);
            let Ok(rows) = model.predict(&Request { service, past, horizon_steps, levels, events: &[], now }) else {
                continue;
            };
            origins += 1;
            for (lead, figures) in leads.iter().zip(&mut figures) {
                if let Some(actual) = series.values[count + lead - 1] {
                    let row = &rows[lead - 1];
                    figures.add(actual, at(row, 0.5), at(row, 0.9), 0.9);
                }
            }
        }
        (figures, origins)
    }
}

fn at(row: &[f64], level: f64) -> f64 {
    row[DEFAULT_QUANTILES.iter().position(|known| *known == level).unwrap()]
}
