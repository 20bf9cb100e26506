//! What Prometheus knows, as rows of the metrics topic. Rule: each source is asked on a thread of its own, at its interval; a
//! sample that was told is not told again, and one that can't be had is a gap, not a zero.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use prescale_domain::{Clock, SystemClock, Timestamp};
use prescale_ingest::history::{InstantQuery, Sample, query_instant};
use prescale_ingest::kafka::KafkaSink;
use prescale_telemetry::ingest::PollFailed;

use super::polled::{Row, tell};
use crate::config::{Config, PrometheusSource};

/// How often a wait looks whether the service is stopped.
const STEP: Duration = Duration::from_millis(100);

/// Begins to ask the sources of a configuration; the threads end after `stop`.
pub(super) fn start(config: &Config, stop: &Arc<AtomicBool>) -> std::io::Result<Vec<JoinHandle<()>>> {
    let begin = |source: &PrometheusSource| {
        let (source, kafka, stop) = (source.clone(), super::kafka_settings(config), Arc::clone(stop));
        thread::Builder::new().name("prometheus".to_owned()).spawn(move || {
            let sink = match KafkaSink::open(&kafka) {
                Ok(sink) => sink,
                Err(error) => return failed(&source, &error.to_string()),
            };
            follow(&source, &sink, &SystemClock, &stop);
        })
    };
    config.prometheus.iter().map(begin).collect()
}

fn failed(source: &PrometheusSource, error: &str) {
    PollFailed { source: &source.name, error }.emit();
}

/// Asks until it is stopped.
fn follow(source: &PrometheusSource, sink: &KafkaSink, clock: &dyn Clock, stop: &AtomicBool) {
    let query = InstantQuery {
        url: source.url.clone(),
        query: source.query.clone(),
        bearer_token: source.bearer_token.clone(),
        service_label: source.service_label.clone(),
    };
    let mut known = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        match query_instant(&query, clock.now()) {
            Err(error) => failed(source, &error.to_string()),
            Ok(samples) => {
                if let Err(error) = told(source, sink, &fresh(samples, &mut known)) {
                    failed(source, &error);
                }
            }
        }
        while begun.elapsed() < source.interval.to_std() && !stop.load(Ordering::Relaxed) {
            thread::sleep(STEP);
        }
    }
}

/// Samples that are newer than the last that was told of the same service.
fn fresh(samples: BTreeMap<String, Sample>, told: &mut BTreeMap<String, Timestamp>) -> BTreeMap<String, Sample> {
    let is_new = |(service, sample): &(String, Sample)| told.get(service).is_none_or(|last| sample.at > *last);
    let fresh: BTreeMap<String, Sample> = samples.into_iter().filter(is_new).collect();
    told.extend(fresh.iter().map(|(service, sample)| (service.clone(), sample.at)));
    fresh
}

fn told(source: &PrometheusSource, sink: &KafkaSink, samples: &BTreeMap<String, Sample>) -> Result<(), String> {
    let rows = samples.iter().map(|(labelled, sample)| Row {
        ts: sample.at,
        service: source.service.as_deref().unwrap_or(labelled),
        instance: "prometheus",
        name: &source.name,
        value: sample.load,
    });
    tell(sink, &source.topic, &rows.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_told_once() {
        let sample = |load, at| Sample { load, at: Timestamp::from_millis(at) };
        let mut told = BTreeMap::new();
        let mut ask = |a: Sample, b: Sample| {
            let all = [("a".to_owned(), a), ("b".to_owned(), b)].into();
            fresh(all, &mut told).into_iter().map(|(service, sample)| (service, sample.load)).collect::<Vec<_>>()
        };
        assert_eq!(ask(sample(1.0, 1000), sample(2.0, 1000)), [("a".to_owned(), 1.0), ("b".to_owned(), 2.0)]);
        assert_eq!(ask(sample(1.0, 1000), sample(3.0, 2000)), [("b".to_owned(), 3.0)]);
        // Older than what was told: another replica of Prometheus answers.
        assert_eq!(ask(sample(5.0, 500), sample(3.0, 2000)), []);
    }
}
