//! What the decoder is worth: the same encoder with one head that gives all steps at once, trained on the same draws. For
//! `docs/designs/0017-lstm-inputs-and-kernel.md`.

use std::io::Read as _;
use std::path::PathBuf;

use prescale_domain::{DEFAULT_QUANTILES, Series, Timestamp};

use super::super::one_shot;
use super::*;
use crate::evaluate::parse_csv;
use crate::measured::say;
use crate::past::no_covariates;

/// A trace, its step in minutes, the first day of the test and how many days it has, as in the example `lstm_traces`.
const TRACES: [(&str, i64, &str, usize); 5] = [
    ("requests/nasa_http_jul95_1m.csv.gz", 1, "1995-07-21T04:00:00Z", 7),
    ("requests/worldcup98_1m_part1.csv.gz", 1, "1998-06-06T00:00:00Z", 7),
    ("requests/nab_elb_request_count_8c0756.csv.gz", 5, "2014-04-20T00:04:00Z", 4),
    ("metrics/nab_cpu_utilization_asg_misconfiguration.csv.gz", 5, "2014-06-27T00:04:00Z", 7),
    ("metrics/google2019_job113_cpu_5m.csv.gz", 5, "2019-05-22T00:05:00Z", 7),
];
const LEADS_MINUTES: [i64; 4] = [5, 10, 15, 30];

#[test]
#[ignore = "minutes, and its figures are the result: `cargo test --release -p prescale-forecast --lib one_shot -- --ignored`"]
fn what_the_decoder_is_worth_beside_one_head_for_all_steps() {
    for (file, minutes, test_from, days) in TRACES {
        let step = Span::from_minutes(minutes);
        let Some(series) = read(file, step) else {
            say(format_args!("skipped: {file}"));
            continue;
        };
        let test_from: Timestamp = test_from.parse().unwrap();
        let place = |moment: Timestamp| moment.since(series.start).steps_up(step);
        let day = Past::all(&series).steps(DAY);
        let (test, first) = (place(test_from), place(test_from - Span::from_minutes(21 * 1440)));
        let last = (test + days * day).min(series.values.len());
        let cut = Series {
            start: series.start + Span::from_millis(step.millis() * first as i64),
            step,
            values: series.values[first..last].to_vec(),
        };
        let ratios = compare(&cut, test - first, 2 * day);
        say(format_args!(
            "{file}: one shot / sequence by pinball loss, all steps, then at 5/10/15/30 min: {ratios:.3?}"
        ));
    }
}

/// Trains both up to `apart` windows before the test; the losses of the one as shares of those of the other.
fn compare(series: &Series, test: usize, apart: usize) -> Vec<f64> {
    let settings = LstmSettings { threads: 2, ..LstmSettings::default() };
    let (histories, levels) = (BTreeMap::from([(ServiceName::new("a"), series.clone())]), &DEFAULT_QUANTILES[..]);
    let horizon_steps = Span::from_minutes(30).steps_up(series.step);
    let until = Past::all(series).moment(test - apart);
    let lesson = Lesson {
        histories: &histories,
        covariates: no_covariates(),
        events: &[],
        train_until: until,
        end: until,
        horizon_steps,
        levels,
    };
    let effort = Effort { samples: settings.fit_samples, rate: settings.fit_rate, recent: false };
    let seed = 7;
    let grounds = grounds(&lesson, None, effort).unwrap();
    let layout = Layout {
        encoder_inputs: ENCODER_INPUTS,
        decoder_inputs: DECODER_INPUTS,
        hidden: settings.hidden,
        services: 1,
        levels: levels.to_vec(),
    };
    let usual = layout.initial(seed, &spread(&grounds[0], &lesson));
    let effort = Effort { samples: effort.samples.min(PASSES_MAX * grounds[0].train.len()), ..effort };
    let school = School { settings: &settings, effort, layout: &layout, grounds: &grounds, events: &[], horizon_steps };
    let train = |source: Source, weights: Vec<f32>| {
        school.run(source, weights, &mut ChaCha8Rng::seed_from_u64(seed ^ 0x5eed)).unwrap()
    };
    let one_shot = train(Source::OneShot(Batch::default()), one_shot::initial(&layout, horizon_steps, seed, &usual));
    let sequence = train(Source::open(&settings).unwrap(), usual);

    let (service, own) = (grounds[0].service, grounds[0].own.clone());
    let ground = Ground { service, past: Past::all(series), own, train: 0..0, judge: 0..0 };
    let origins = (test + 1..series.values.len() - horizon_steps).step_by(Span::from_minutes(5).steps_up(series.step));
    let samples: Vec<_> =
        origins.filter_map(|origin| school.sample(&Pick { ground: &ground, origin, shift: 0.0 })).collect();
    let leads = LEADS_MINUTES.map(|minutes| Some(Span::from_minutes(minutes).steps_up(series.step)));
    let losses = |mut source: Source, weights: &[f32]| -> Vec<f64> {
        let of = |lead: Option<usize>| {
            let (mut sum, mut known) = (0.0, 0.0);
            for part in samples.chunks(256) {
                let mut batch = Batch::default();
                assemble(&mut batch, part);
                for (place, target) in batch.targets.iter_mut().enumerate() {
                    if lead.is_some_and(|lead| place / batch.size != lead - 1) {
                        *target = f32::NAN;
                    }
                }
                if let Some(loss) = source.loss(&layout, weights, &batch).unwrap() {
                    sum += loss.mean * loss.known as f64;
                    known += loss.known as f64;
                }
            }
            sum / known
        };
        std::iter::once(None).chain(leads).map(of).collect()
    };
    let (ones, others) =
        (losses(Source::OneShot(Batch::default()), &one_shot), losses(Source::open(&settings).unwrap(), &sequence));
    ones.iter().zip(others).map(|(one, other)| one / other).collect()
}

/// `None` where the trace is not there.
fn read(file: &str, step: Span) -> Option<Series> {
    let folder = std::env::var_os("PRESCALE_TRACES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(folder.join(file)).ok()?).read_to_end(&mut text).unwrap();
    Some(parse_csv(&text[..], step).unwrap())
}
