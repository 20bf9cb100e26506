//! Runs the online loop over a week of a history and prints what it did and how long it took: `week FILE.csv.gz FROM DAYS
//! [BACKFILL_DAYS]`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool that may stop on bad arguments")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prescale_domain::{Series, ServiceName, Span, Timestamp};
use prescale_forecast::evaluate::parse_csv;
use prescale_forecast::online::{Online, OnlineSettings};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let file = std::fs::File::open(&arguments[1]).unwrap();
    let all = parse_csv(flate2::read::GzDecoder::new(file), Span::from_minutes(1)).unwrap();
    let from = all.index_of(arguments[2].parse().unwrap()).unwrap();
    let days: usize = arguments[3].parse().unwrap();
    let back: usize = arguments.get(4).map_or(0, |days| days.parse().unwrap());
    let service = ServiceName::new("a");
    let settings = OnlineSettings::default();
    let mut online = Online::new(settings, vec![service.clone()]);
    let start = from - back * 1440;
    let first = Timestamp::from_millis(all.start.millis() + start as i64 * 60_000);
    let series = Series { start: first, step: all.step, values: all.values[start..from].to_vec() };
    let mut histories = BTreeMap::from([(service.clone(), series)]);
    let mut job: Option<prescale_forecast::online::TrainingJob> = None;
    let (mut training, mut forecasting, mut observing) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut reasons: BTreeMap<String, u32> = BTreeMap::new();
    let begin = Instant::now();
    for index in from..(from + days * 1440).min(all.values.len()) {
        let moment = first + Span::from_millis((index - start) as i64 * 60_000);
        let now = moment + all.step;
        if let Some(ready) = job.take_if(|job| job.effective <= now) {
            let clock = Instant::now();
            let result = ready.run();
            training += clock.elapsed();
            for event in online.finish(now, result) {
                if !event.text.starts_with("update") {
                    println!("{now} {} {} [{:.1?}]", event.kind, event.text, clock.elapsed());
                }
            }
        }
        histories.get_mut(&service).unwrap().values.push(all.values[index]);
        let clock = Instant::now();
        for event in online.observe(&service, moment, all.values[index]) {
            println!("{now} {} {}", event.kind, event.text);
        }
        observing += clock.elapsed();
        job = job.or(online.due(now, &histories, &[]));
        let clock = Instant::now();
        let key = match online.forecast(&service, &histories[&service], &[], now) {
            Ok(forecast) => format!("{} {}", forecast.model, forecast.reason),
            Err(missing) => missing.reason,
        };
        forecasting += clock.elapsed();
        *reasons.entry(key).or_default() += 1;
    }
    println!(
        "total {:.1?}: training {training:.1?}, forecasting {forecasting:.1?}, observing {observing:.1?}",
        begin.elapsed()
    );
    let clock = Instant::now();
    let bytes = online.save();
    println!("saved {} bytes in {:.1?}; {reasons:?}", bytes.len(), clock.elapsed());
    for (lead, score) in online.scores(&service).unwrap().leads {
        println!("  lead {lead}: {score:?}");
    }
}
