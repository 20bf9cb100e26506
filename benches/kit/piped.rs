//! A pipeline over a topic, read to its end. Rule: a run counts only if each record was counted in a window or filtered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use prescale_domain::{Span, SystemClock};
use prescale_ingest::kafka::{KafkaSink, KafkaSource, KafkaSourceSettings};
use prescale_ingest::{RawBatch, Source as _};
use prescale_pipeline::{Counters, Delivery, Plan, RunnerSettings, compile, run, source_settings};
use prescale_store::MemoryStore;
use serde_json::Value;

use super::requests::Filled;
use super::watch::{Took, Watch};
use super::{Broker, Result};

/// What a run came to.
pub(crate) struct Piped {
    pub(crate) took: Took,
    pub(crate) counters: Counters,
    /// The topic of its rows.
    pub(crate) features: String,
}

/// Exactly once, where the broker can.
pub(crate) fn delivery(broker: &Broker) -> Delivery {
    if broker.has_transactions() { Delivery::ExactlyOnce } else { Delivery::AtLeastOnce }
}

/// The plan of `sql` over another topic.
pub(crate) fn plan(sql: &str, topic: &str) -> Result<Plan> {
    let mut plan = compile(sql)?;
    topic.clone_into(&mut plan.sources[0].options.topic);
    Ok(plan)
}

/// Runs `sql` over a topic into new topics that are named after `name`.
pub(crate) fn pipe(broker: &Broker, sql: &str, filled: &Filled, name: &str) -> Result<Piped> {
    let plan = Arc::new(plan(sql, &filled.topic)?);
    let sink = KafkaSink::open(&broker.kafka)?;
    let settings = RunnerSettings {
        features_topic: broker.topic(&format!("{name}-features"), 1)?,
        dead_letter_topic: broker.topic(&format!("{name}-dead-letters"), 1)?,
        until_end: true,
        delivery: delivery(broker),
        ..RunnerSettings::new(name, Arc::clone(&plan))
    };
    let features = settings.features_topic.clone();
    let watch = Watch::default();
    let source = watch.source(source_settings(&plan.sources[0], Some(broker.kafka.clone()), None, true))?;
    let stop = AtomicBool::new(false);
    let summary = run(settings, vec![Box::new(source)], &sink, &MemoryStore::default(), &SystemClock, &stop)?;
    let counters = summary.counters;
    let used = counters.windowed + counters.filtered;
    if !summary.ended || counters.read != filled.records || used != filled.records || !counters.is_conserved() {
        return Err(format!("{}: {} records sent: {summary:?}", filled.topic, filled.records).into());
    }
    Ok(Piped { took: watch.took()?, counters, features })
}

/// A row by service and window start (`2026-11-23T08:00:00`): count, mean, 99th percentile.
pub(crate) type Rows = BTreeMap<(String, String), (u64, f64, f64)>;

/// All committed rows of a features topic.
pub(crate) fn rows(broker: &Broker, topic: &str) -> Result<Rows> {
    let settings = KafkaSourceSettings { until_end: true, ..KafkaSourceSettings::new(broker.kafka.clone(), topic) };
    let (mut source, mut rows) = (KafkaSource::open(settings)?, Rows::new());
    loop {
        let polled = source.poll(Span::from_millis(100))?;
        for batch in &polled.batches {
            for index in 0..batch.len() {
                read_row(batch, index, &mut rows)?;
            }
        }
        if polled.ended {
            return Ok(rows);
        }
    }
}

fn read_row(batch: &RawBatch, index: usize, rows: &mut Rows) -> Result<()> {
    let row: Value = serde_json::from_slice(batch.bytes(index))?;
    // Progress records stand among the rows.
    let Some(service) = row["service"].as_str() else { return Ok(()) };
    let start = row["window_start"].as_str().and_then(|start| start.get(..19));
    let number = |name: &str| row[name].as_f64().ok_or_else(|| format!("a row without {name}: {row}"));
    let start = start.ok_or_else(|| format!("a row without window_start: {row}"))?;
    let count = row["requests"].as_u64().ok_or_else(|| format!("a row without requests: {row}"))?;
    let value = (count, number("latency_ms_avg")?, number("latency_ms_p99")?);
    match rows.insert((service.to_owned(), start.to_owned()), value) {
        None => Ok(()),
        Some(_) => Err(format!("two rows of one window: {row}").into()),
    }
}
