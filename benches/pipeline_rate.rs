//! Records per second of a pipeline, as a ratio to consuming alone: the same topic, the same source, the same run.
//! Rule: a figure is printed only if every record that was sent has been accounted for.
//!
//! `cargo bench --workspace --bench pipeline_rate` compiles as released, which takes half an hour the first time; with
//! `--profile dev` it measures the build that the tests use. `-- --quick` is for a first look. Where `PRESCALE_TEST_KAFKA` is set, as by `tests/run.sh --services-only -- cargo bench …`, the topics are on
//! that Kafka, and longer.
//!
//! Each round consumes the topic alone and runs the pipeline over it, in alternating order; each has a new consumer,
//! the pipeline a new store and new topics to write to. Both are timed from the first poll, which connects, until the
//! source is let go; the pipeline's time has its deliveries and checkpoints in it. The embedded broker and the thread
//! that fetches share the cores with what is measured.
#![allow(clippy::print_stdout, reason = "the figures are the result")]

mod kit;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use chrono::DateTime;
use kit::watch::{Watch, consume};
use kit::{Broker, Result, TIMEOUT, quantile};
use prescale_domain::{ServiceName, Span, SystemClock, Timestamp};
use prescale_ingest::kafka::KafkaSink;
use prescale_pipeline::{Delivery, Plan, RunnerSettings, compile, run, source_settings};
use prescale_simulation::workload::{LoadModel, LoadSettings, MINUTE, RequestRecord, ServiceShape, Workload};
use prescale_store::MemoryStore;

/// 2026-11-23 is a Monday.
const START: Timestamp = Timestamp::from_millis(1_795_392_000_000);
const PARTITIONS: i32 = 8;
const SERVICES: usize = 4;
const REQUESTS_PER_MINUTE: f64 = 6000.0;

/// A pipeline, and how a request looks in its topic.
struct Case {
    name: &'static str,
    sql: &'static str,
    write: fn(&RequestRecord, &mut String) -> Result<()>,
}

const CASES: [Case; 2] = [
    Case { name: "requests", sql: include_str!("../pipelines/requests.sql"), write: json },
    Case { name: "access_log", sql: include_str!("../pipelines/access_log.sql"), write: access_log_line },
];

/// What is in the topic.
struct Filled {
    topic: String,
    records: u64,
    bytes: usize,
}

fn main() -> Result<()> {
    let quick = kit::quick()?;
    let broker = Broker::start(&[])?;
    // A partition of the embedded broker keeps 5 MiB of compressed records.
    let (records, rounds) = match (quick, broker.embedded.is_some()) {
        (true, _) => (40_000, 2),
        (false, true) => (400_000, 9),
        (false, false) => (2_000_000, 7),
    };
    println!("profile: {}\nmachine: {}", kit::profile(), kit::machine());
    println!("broker: {}", broker.describe());
    for case in &CASES {
        let filled = fill(&broker, case, records)?;
        measure(&broker, case, &filled, rounds)?;
    }
    Ok(())
}

/// Writes requests in the order of their times, in turn to each partition.
fn fill(broker: &Broker, case: &Case, records: u64) -> Result<Filled> {
    let topic = broker.topic(case.name, PARTITIONS)?;
    let workload = workload();
    let (mut sent, mut bytes, mut minute, mut line) = (0, 0, START, String::new());
    while sent < records {
        let mut requests: Vec<_> = (0..SERVICES).flat_map(|service| workload.requests(service, minute)).collect();
        requests.sort_by_key(|request| request.ts);
        for (partition, request) in (0..PARTITIONS).cycle().zip(requests).take((records - sent) as usize) {
            line.clear();
            (case.write)(&request, &mut line)?;
            broker.sink.send(&topic, Some(partition), None, line.as_bytes(), &[])?;
            sent += 1;
            bytes += line.len();
        }
        minute = minute + MINUTE;
    }
    broker.sink.flush(TIMEOUT)?;
    Ok(Filled { topic, records: sent, bytes })
}

fn workload() -> Workload {
    let services = (1..=SERVICES).map(|number| ServiceShape {
        name: ServiceName::new(&format!("service-{number}")),
        mean_per_minute: REQUESTS_PER_MINUTE / SERVICES as f64,
        daily_swing: 0.5,
        peak_hour: 12.0,
        weekend: 0.8,
    });
    let day = Span::from_minutes(1440);
    let settings = LoadSettings { seed: 1, start: START, history: day, scored: day, services: services.collect() };
    Workload::Model(LoadModel::new(settings))
}

fn json(request: &RequestRecord, line: &mut String) -> Result<()> {
    line.push_str(&serde_json::to_string(request)?);
    Ok(())
}

/// The Combined Log Format.
fn access_log_line(request: &RequestRecord, line: &mut String) -> Result<()> {
    let RequestRecord { ts, route, status, bytes, latency_ms, .. } = request;
    let time = DateTime::from_timestamp_millis(ts.millis()).ok_or("a time that has no date")?;
    let (host, time) = (ts.millis() % 251, time.format("%d/%b/%Y:%H:%M:%S +0000"));
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
    write!(
        line,
        r#"10.0.{}.{host} - - [{time}] "GET {route} HTTP/1.1" {status} {bytes} "https://shop.example/" "{agent}""#,
        latency_ms.round() % 250.0
    )?;
    Ok(())
}

fn measure(broker: &Broker, case: &Case, filled: &Filled, rounds: usize) -> Result<()> {
    let mut plan = compile(case.sql)?;
    plan.sources[0].options.topic.clone_from(&filled.topic);
    let (mut alone, mut piped, mut ratios, mut rows) = (Vec::new(), Vec::new(), Vec::new(), None);
    // The first round is the warm-up.
    for round in 0..=rounds {
        plan.sources[0].options.group_id = Some(format!("{}-{round}", filled.topic));
        let plan = Arc::new(plan.clone());
        let first = if round % 2 == 0 { Some(consumed(broker, &plan, filled)?) } else { None };
        let (pipeline_rate, rows_out) = pipeline(broker, case, &plan, filled, round)?;
        let alone_rate = first.map_or_else(|| consumed(broker, &plan, filled), Ok)?;
        if rows.replace(rows_out).is_some_and(|before| before != rows_out) {
            return Err(format!("{}: {rows_out} feature rows, in the round before {rows:?}", case.name).into());
        }
        if round > 0 {
            alone.push(alone_rate);
            piped.push(pipeline_rate);
            ratios.push(pipeline_rate / alone_rate);
        }
    }
    let Filled { records, bytes, .. } = filled;
    println!(
        "\n{}.sql: {records} records, {:.1} MB, {PARTITIONS} partitions, {} feature rows; {rounds} rounds",
        case.name,
        *bytes as f64 / 1e6,
        rows.unwrap_or_default()
    );
    report("consuming alone", &alone, 0, " records/s")?;
    report("pipeline", &piped, 0, " records/s")?;
    report("pipeline / alone", &ratios, 3, "")
}

fn report(what: &str, values: &[f64], digits: usize, unit: &str) -> Result<()> {
    let at = |share| quantile(values, share).ok_or("nothing was measured");
    let (median, least, most) = (at(0.5)?, at(0.0)?, at(1.0)?);
    println!("  {what:<16} {median:>9.digits$}{unit}  ({least:.digits$}..{most:.digits$})");
    Ok(())
}

/// Records per second of reading the topic to its end and doing nothing with it.
fn consumed(broker: &Broker, plan: &Plan, filled: &Filled) -> Result<f64> {
    let took = consume(source_settings(&plan.sources[0], Some(broker.kafka.clone()), None, true), filled.records)?;
    Ok(filled.records as f64 / took.wall)
}

/// Exactly once, where the broker can.
fn delivery(broker: &Broker) -> Delivery {
    if broker.has_transactions() { Delivery::ExactlyOnce } else { Delivery::AtLeastOnce }
}

/// Records per second of the pipeline, and how many feature rows it wrote.
fn pipeline(broker: &Broker, case: &Case, plan: &Arc<Plan>, filled: &Filled, round: usize) -> Result<(f64, u64)> {
    let sink = KafkaSink::open(&broker.kafka)?;
    let settings = RunnerSettings {
        features_topic: broker.topic(&format!("{}-features-{round}", case.name), 1)?,
        dead_letter_topic: broker.topic(&format!("{}-dead-letters-{round}", case.name), 1)?,
        until_end: true,
        delivery: delivery(broker),
        ..RunnerSettings::new(case.name, Arc::clone(plan))
    };
    let watch = Watch::default();
    let source = watch.source(source_settings(&plan.sources[0], Some(broker.kafka.clone()), None, true))?;
    let stop = AtomicBool::new(false);
    let summary = run(settings, vec![Box::new(source)], &sink, &MemoryStore::default(), &SystemClock, &stop)?;
    let counters = summary.counters;
    if !summary.ended || counters.read != filled.records || !counters.is_conserved() || counters.rows_out == 0 {
        return Err(format!("{}: {} records sent: {summary:?}", filled.topic, filled.records).into());
    }
    if counters.windowed != filled.records {
        // All were well-formed and in order.
        return Err(format!("{}: not all were counted in a window: {summary:?}", filled.topic).into());
    }
    Ok((counters.read as f64 / watch.took()?.wall, counters.rows_out))
}
