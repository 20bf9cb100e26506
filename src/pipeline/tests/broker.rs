//! The runner between topics of the broker inside the process, which knows no transactions: at least once.

use std::sync::atomic::{AtomicBool, Ordering};

use prescale_domain::{FeaturesRecord, Progress, Span, SystemClock};
use prescale_ingest::embedded::EmbeddedBroker;
use prescale_ingest::kafka::{KafkaSink, KafkaSource, KafkaSourceSettings};
use prescale_ingest::{Polled, Source, SourceError};
use prescale_store::MemoryStore;

use super::*;
use crate::{Delivery, RunnerSettings, Summary, run, source_settings};

/// A source that is stopped from outside after some polls.
struct Stopped {
    inner: KafkaSource,
    polls: usize,
    stop: Arc<AtomicBool>,
}

impl Source for Stopped {
    fn poll(&mut self, wait: Span) -> Result<Polled, SourceError> {
        self.polls = self.polls.saturating_sub(1);
        self.stop.fetch_or(self.polls == 0, Ordering::Relaxed);
        self.inner.poll(wait)
    }

    fn commit(&mut self, oldest_needed: &[(i32, i64)]) -> Result<(), SourceError> {
        self.inner.commit(oldest_needed)
    }
}

/// A broker with the sample of a pipeline over requests in a topic of three partitions.
fn broker(name: &str) -> EmbeddedBroker {
    let broker = EmbeddedBroker::start().unwrap();
    for (topic, partitions) in [("requests", 3), ("features", 2), ("dead-letters", 1)] {
        broker.create_topic(topic, partitions).unwrap();
    }
    let sink = KafkaSink::open(&broker.settings()).unwrap();
    for (place, line) in (0..).zip(shipped::lines(name, "input.ndjson")) {
        sink.send("requests", Some(place % 3), None, line.as_bytes(), &[]).unwrap();
    }
    sink.flush(Span::from_secs(10)).unwrap();
    broker
}

/// Runs a pipeline from where `store` stands, for so many polls.
fn run_for(broker: &EmbeddedBroker, name: &str, store: &MemoryStore, polls: usize, max_records: usize) -> Summary {
    let plan = plan_of(name);
    let checkpoint = Checkpoint::load(store, "p").unwrap();
    let mut source = source_settings(&plan.sources[0], Some(broker.settings()), checkpoint.as_ref(), true);
    source.max_records = max_records;
    let stop = Arc::new(AtomicBool::new(false));
    let source = Stopped { inner: KafkaSource::open(source).unwrap(), polls, stop: stop.clone() };
    let settings = RunnerSettings {
        until_end: true,
        epoch: Span::ZERO,
        delivery: Delivery::AtLeastOnce,
        features_topic: "features".to_owned(),
        ..RunnerSettings::new("p", plan)
    };
    let sink = KafkaSink::open(&broker.settings()).unwrap();
    run(settings, vec![Box::new(source)], &sink, store, &SystemClock, &stop).unwrap()
}

/// Values of a topic, by partition.
fn values(broker: &EmbeddedBroker, topic: &str) -> Vec<Vec<Vec<u8>>> {
    let settings = KafkaSourceSettings { until_end: true, ..KafkaSourceSettings::new(broker.settings(), topic) };
    let mut source = KafkaSource::open(settings).unwrap();
    let mut values = Vec::new();
    loop {
        let polled = source.poll(Span::from_millis(200)).unwrap();
        values.resize(polled.partitions.len(), Vec::new());
        for batch in &polled.batches {
            values[batch.partition as usize].extend((0..batch.len()).map(|index| batch.bytes(index).to_vec()));
        }
        if polled.ended {
            return values;
        }
    }
}

/// Rows as they lie in the features topic, copies told once, and the last progress of each partition.
fn features(broker: &EmbeddedBroker) -> (String, Vec<Option<Progress>>) {
    let (mut rows, mut last) = (BTreeMap::new(), Vec::new());
    for partition in values(broker, "features") {
        let mut progress: Option<Progress> = None;
        for value in partition {
            match FeaturesRecord::from_json(&value).unwrap() {
                FeaturesRecord::Progress(next) => progress = Some(next),
                FeaturesRecord::Row(row) => {
                    let covered = progress.as_ref().is_some_and(|told| row.window_end <= told.watermark);
                    let key = (row.window_start, row.service.as_str().to_owned());
                    let before = rows.insert(key, value.clone());
                    assert!(!covered || before.is_some(), "a row that progress had covered is new");
                    assert!(before.is_none_or(|before| before == value), "a copy differs");
                }
            }
        }
        last.push(progress);
    }
    (rows.into_values().map(|row| String::from_utf8(row).unwrap() + "\n").collect(), last)
}

#[test]
fn a_bounded_run_writes_rows_dead_letters_and_the_end_to_all_partitions() {
    let broker = broker("requests");
    let summary = run_for(&broker, "requests", &MemoryStore::default(), usize::MAX, 32_768);
    assert!(summary.ended);
    let (rows, last) = features(&broker);
    let expected =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pipelines/requests.expected.ndjson"))
            .unwrap();
    assert_eq!(rows, expected);
    assert_eq!(last.len(), 2);
    assert!(last.iter().flatten().all(|progress| progress.end) && last.iter().all(Option::is_some));
    assert_eq!(values(&broker, "dead-letters")[0].len(), 2);
    assert_eq!(summary.counters.bad(), 2);
}

/// Stops a run again and again until it has come to the end of its sample; returns records read and bad.
#[track_caller]
fn stopped_again_and_again(name: &str) -> (u64, u64) {
    let (broker, store) = (broker(name), MemoryStore::default());
    let mut polls = 2;
    let summary = loop {
        let summary = run_for(&broker, name, &store, polls, 40);
        // Rows of open windows are read again each time: give each run a little longer.
        polls += 2;
        if summary.ended {
            break summary;
        }
    };
    let (rows, _) = features(&broker);
    let expected = format!("{}/../../pipelines/{name}.expected.ndjson", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(rows, std::fs::read_to_string(expected).unwrap());
    (summary.counters.read, summary.counters.bad())
}

#[test]
fn a_run_that_is_stopped_again_and_again_writes_the_same_rows() {
    assert_eq!(stopped_again_and_again("requests"), (336, 2));
}

#[test]
fn so_does_one_with_windows_that_overlap() {
    assert_eq!(stopped_again_and_again("requests_5m"), (252, 1));
}

#[test]
fn output_waits_for_a_broker_that_is_down() {
    let broker = broker("requests");
    let plan = plan_of("requests");
    let stop = AtomicBool::new(false);
    let source = source_settings(&plan.sources[0], Some(broker.settings()), None, true);
    let settings = RunnerSettings {
        until_end: true,
        delivery: Delivery::AtLeastOnce,
        flush_timeout: Span::from_millis(300),
        ..RunnerSettings::new("p", plan)
    };
    let sink = KafkaSink::open(&broker.settings()).unwrap();
    let source = KafkaSource::open(source).unwrap();
    broker.set_up(false).unwrap();
    let store = MemoryStore::default();
    std::thread::scope(|scope| {
        let running =
            scope.spawn(|| run(settings, vec![Box::new(source)], &sink, &store, &SystemClock, &stop).unwrap());
        assert!(!running.is_finished());
        assert_eq!(Checkpoint::load(&store, "p").unwrap(), None);
        broker.set_up(true).unwrap();
        assert!(running.join().unwrap().ended);
    });
    assert_eq!(
        features(&broker).0,
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pipelines/requests.expected.ndjson"))
            .unwrap()
    );
}
