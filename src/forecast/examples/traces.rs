//! Evaluates all models and the ensemble on public traces, each with its split, and prints the tables of
//! `docs/forecasting.md`: `traces DATA_DIR [--validation] [--online] [--only NAME,…] [--models NAME,…] [--experts NAME,…]
//! [--json FILE]`. The folder holds `requests/` and `metrics/` with `timestamp,value` files. `--validation` moves each test
//! to the days before the one that is reported: that is where hyper-parameters are chosen.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::format_push_string,
    reason = "a measuring tool that may stop on bad arguments"
)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use prescale_domain::{Series, Span, Timestamp};
use prescale_forecast::ensemble::EnsembleSettings;
use prescale_forecast::evaluate::{Contender, EvaluateSettings, Report, evaluate, parse_csv};
use prescale_forecast::models::ModelKind;

/// A trace, its split, and the MASE at 5, 10, 15 and 30 minutes that the reference mix and the best of naive, SES and
/// the same time yesterday reach on the same rows (a Python study with the same protocol).
struct Trace {
    name: &'static str,
    file: &'static str,
    step_minutes: i64,
    /// Windows of the file that make one.
    sum: usize,
    train_until: &'static str,
    test_from: &'static str,
    test_to: &'static str,
    mix: [f64; 4],
    simple: [f64; 4],
}

const TRACES: [Trace; 8] = [
    Trace {
        name: "nasa_1m",
        file: "requests/nasa_http_jul95_1m.csv.gz",
        step_minutes: 1,
        sum: 1,
        train_until: "1995-07-19T04:00:00Z",
        test_from: "1995-07-21T04:00:00Z",
        test_to: "1995-07-28T04:00:00Z",
        mix: [0.839, 0.876, 0.884, 0.907],
        simple: [0.847, 0.875, 0.887, 0.922],
    },
    Trace {
        name: "nasa_5m",
        file: "requests/nasa_http_jul95_1m.csv.gz",
        step_minutes: 5,
        sum: 5,
        train_until: "1995-07-19T04:00:00Z",
        test_from: "1995-07-21T04:00:00Z",
        test_to: "1995-07-28T04:00:00Z",
        mix: [0.797, 0.872, 0.904, 0.946],
        simple: [0.809, 0.883, 0.924, 0.992],
    },
    Trace {
        name: "wc98_1m",
        file: "requests/worldcup98_1m_part1.csv.gz",
        step_minutes: 1,
        sum: 1,
        train_until: "1998-06-04T00:00:00Z",
        test_from: "1998-06-06T00:00:00Z",
        test_to: "1998-06-13T00:00:00Z",
        mix: [5.17, 6.71, 7.97, 11.01],
        simple: [4.94, 6.52, 8.07, 12.00],
    },
    Trace {
        name: "wc98_5m",
        file: "requests/worldcup98_1m_part1.csv.gz",
        step_minutes: 5,
        sum: 5,
        train_until: "1998-06-04T00:00:00Z",
        test_from: "1998-06-06T00:00:00Z",
        test_to: "1998-06-13T00:00:00Z",
        mix: [5.05, 7.00, 8.55, 12.28],
        simple: [4.47, 6.52, 8.46, 13.40],
    },
    Trace {
        name: "twitter_1m",
        file: "requests/twitter_stream_202108_1m_part1.csv.gz",
        step_minutes: 1,
        sum: 1,
        train_until: "2021-08-07T00:00:00Z",
        test_from: "2021-08-09T00:00:00Z",
        test_to: "2021-08-12T00:00:00Z",
        mix: [2.99, 4.24, 4.64, 4.35],
        simple: [3.29, 4.75, 4.80, 4.80],
    },
    Trace {
        name: "elb_5m",
        file: "requests/nab_elb_request_count_8c0756.csv.gz",
        step_minutes: 5,
        sum: 1,
        train_until: "2014-04-18T00:04:00Z",
        test_from: "2014-04-20T00:04:00Z",
        test_to: "2014-04-24T00:04:00Z",
        mix: [0.707, 0.712, 0.708, 0.716],
        simple: [0.732, 0.735, 0.736, 0.745],
    },
    Trace {
        name: "asgcpu_5m",
        file: "metrics/nab_cpu_utilization_asg_misconfiguration.csv.gz",
        step_minutes: 5,
        sum: 1,
        train_until: "2014-06-24T23:59:00Z",
        test_from: "2014-06-26T23:59:00Z",
        test_to: "2014-07-03T23:59:00Z",
        mix: [0.367, 0.374, 0.351, 0.360],
        simple: [0.345, 0.345, 0.345, 0.345],
    },
    Trace {
        name: "google_5m",
        file: "metrics/google2019_job113_cpu_5m.csv.gz",
        step_minutes: 5,
        sum: 1,
        train_until: "2019-05-20T00:05:00Z",
        test_from: "2019-05-22T00:05:00Z",
        test_to: "2019-05-29T00:05:00Z",
        mix: [0.790, 0.898, 0.993, 1.05],
        simple: [0.905, 1.12, 1.29, 1.72],
    },
];

/// Days of the validation test, which ends where the reported one begins.
const VALIDATION_DAYS: i64 = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    let option = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1).cloned()
    };
    let only = option("--only");
    let chosen = |name: &str| only.as_ref().is_none_or(|only| only.split(',').any(|own| own == name));
    let mut ensemble = EnsembleSettings::default();
    if let Some(experts) = option("--experts") {
        ensemble.experts = experts.split(',').map(|name| name.parse().unwrap()).collect();
    }
    let hours = |text: String| {
        text.split(',')
            .filter(|t| !t.is_empty())
            .map(|t| Span::from_minutes((60.0 * t.parse::<f64>().unwrap()) as i64))
            .collect::<Vec<_>>()
    };
    if let Some(text) = option("--half-lives") {
        ensemble.half_lives = hours(text);
    }
    if let Some(text) = option("--half-lives-gradient") {
        ensemble.half_lives_gradient = hours(text);
    }
    if let Some(text) = option("--top") {
        ensemble.half_life_top = hours(text)[0];
    }
    if let Some(text) = option("--rate") {
        ensemble.rate = text.parse().unwrap();
    }
    let models: Vec<Contender> = match option("--models") {
        Some(names) => names.split(',').map(|name| name.parse().unwrap()).collect(),
        None => ensemble.experts.iter().copied().map(Contender::Model).chain([Contender::Ensemble]).collect(),
    };
    let mut ratios: Vec<f64> = Vec::new();
    let mut json = BTreeMap::new();
    for trace in TRACES.iter().filter(|trace| chosen(trace.name)) {
        let series = read(Path::new(&arguments[0]), trace);
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (mut train_until, mut test_from, mut test_to) =
            (at(trace.train_until), at(trace.test_from), at(trace.test_to));
        if flag("--validation") {
            test_to = test_from;
            test_from = test_to - Span::from_minutes(VALIDATION_DAYS * 1440);
            train_until = test_from - Span::from_minutes(2 * 1440);
        }
        let settings = EvaluateSettings {
            train_until,
            test_from,
            test_to,
            models: models.clone(),
            ensemble: ensemble.clone(),
            online: flag("--online"),
            ..EvaluateSettings::default()
        };
        let begin = Instant::now();
        let report = evaluate(&series, &settings, &mut |_, _| {}).unwrap();
        println!(
            "\n{}: {} origins, MASE scale {:.4}, {:.1} s {}",
            trace.name,
            report.origins,
            report.mase_scale,
            begin.elapsed().as_secs_f64(),
            if report.failed.is_empty() { String::new() } else { format!("failed: {:?}", report.failed) }
        );
        print(&report, trace, flag("--validation"), &mut ratios);
        json.insert(trace.name, report);
    }
    if !ratios.is_empty() {
        let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
        println!("\ngeometric mean of ensemble / mix over {} cells: {mean:.4}", ratios.len());
    }
    if let Some(file) = option("--json") {
        let text = serde_json::to_vec_pretty(&json).unwrap();
        std::fs::File::create(file).unwrap().write_all(&text).unwrap();
    }
}

fn print(report: &Report, trace: &Trace, validation: bool, ratios: &mut Vec<f64>) {
    const NAMES: [&str; 5] = ["5m", "10m", "15m", "30m", "60m"];
    println!("{:<15} {:^39} {:^24} {:^9} {:^29}", "", "MASE 5/10/15/30/60m", "p90 cover %", "two days", "1-WAPE");
    let mut best = [f64::INFINITY; 5];
    for (name, horizons) in &report.models {
        let mut line = format!("{name:<15}");
        for (place, horizon) in NAMES.iter().enumerate() {
            let mase = horizons.get(*horizon).map_or(f64::NAN, |h| h.mase);
            line += &format!(" {mase:>7.4}");
            if ModelKind::EACH.iter().any(|kind| kind.name() == name) {
                best[place] = best[place].min(mase);
            }
        }
        for horizon in NAMES {
            line += &horizons.get(horizon).map_or_else(String::new, |h| format!(" {:>4.1}", 100.0 * h.coverage["0.9"]));
        }
        let two_days = NAMES.iter().filter_map(|n| horizons.get(*n)?.coverage_two_days);
        let (low, high) = two_days.fold((1.0_f64, 0.0_f64), |(l, h), (low, high)| (l.min(low), h.max(high)));
        line += &format!("  {:>3.0}-{:<3.0} ", 100.0 * low, 100.0 * high);
        for horizon in NAMES {
            let accuracy = horizons.get(horizon).and_then(|h| h.wape).map_or(f64::NAN, |wape| 100.0 * (1.0 - wape));
            line += &format!(" {accuracy:>4.1}");
        }
        println!("{line}");
    }
    if let Some(own) = report.models.get("ensemble") {
        let cells: Vec<f64> = NAMES.iter().map(|name| own.get(*name).map_or(f64::NAN, |h| h.mase)).collect();
        if validation {
            let simple = ["naive", "ses", "day-naive"];
            let least = |horizon: &str| {
                let figures = simple.iter().filter_map(|name| Some(report.models.get(*name)?.get(horizon)?.mase));
                figures.fold(f64::INFINITY, f64::min)
            };
            let of = |r: &[f64]| r.iter().map(|x| format!("{x:.3}")).collect::<Vec<_>>().join(" ");
            let own: Vec<f64> = NAMES.iter().zip(&cells).map(|(name, cell)| cell / least(name)).collect();
            println!("ensemble / best of naive, ses, day-naive: {}", of(&own));
            println!("ensemble / best expert: {}", of(&cells.iter().zip(best).map(|(c, b)| c / b).collect::<Vec<_>>()));
            ratios.extend(own.iter().take(4));
        } else {
            let to_mix: Vec<f64> = cells.iter().zip(trace.mix).map(|(cell, mix)| cell / mix).collect();
            let to_simple: Vec<f64> = cells.iter().zip(trace.simple).map(|(cell, simple)| cell / simple).collect();
            let of = |r: &[f64]| r.iter().map(|x| format!("{x:.3}")).collect::<Vec<_>>().join(" ");
            println!("ensemble / reference mix {}   / best simple {}", of(&to_mix), of(&to_simple));
            ratios.extend(to_mix);
        }
        if let Some(weights) = report.weights.get("15m") {
            let shown: Vec<String> = weights.iter().map(|(name, weight)| format!("{name} {weight:.2}")).collect();
            println!("last weights at 15m: {}", shown.join(", "));
        }
    }
}

/// The trace, summed over `sum` windows where the step is wider than the file's.
fn read(folder: &Path, trace: &Trace) -> Series {
    let file = std::fs::File::open(folder.join(trace.file)).unwrap();
    let step = Span::from_minutes(trace.step_minutes);
    let narrow = Span::from_minutes(trace.step_minutes / trace.sum as i64);
    let series = parse_csv(flate2::read::GzDecoder::new(file), narrow).unwrap();
    if trace.sum == 1 {
        return series;
    }
    let whole = series.values.chunks_exact(trace.sum);
    let values = whole.map(|chunk| chunk.iter().copied().sum::<Option<f64>>()).collect();
    Series { start: series.start, step, values }
}
