//! Time from sending the record that lets a window close until its last row can be read, at 50,000 records a second. Rule: a
//! window counts only if all its requests were counted in it.
//!
//! ```sh
//! tests/run.sh --services-only -- cargo bench --workspace --bench close_latency [-- --quick]
//! ```
//!
//! Requests of twenty services go to four partitions as they happen, in windows of one second. A window can close once
//! each partition has a record that takes its watermark past the end: the clock starts when the last of these is handed to
//! the producer, and stops when a reader of committed records has the window's last row. The pipeline runs as `prescale run`
//! does, with its state in a redb file and default settings. Sender, pipeline and reader are threads of this process, and
//! share the cores with the broker. Beside it, one record after the other is sent and read back through the same broker.
#![allow(clippy::print_stdout, reason = "the figures are the result")]

mod kit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kit::piped::{delivery, plan};
use kit::requests::{Draw, pipeline, write_request};
use kit::{Broker, Result, TIMEOUT, quantile};
use prescale_domain::{Clock as _, Span, SystemClock, Timestamp};
use prescale_ingest::Source as _;
use prescale_ingest::kafka::{KafkaSink, KafkaSource, KafkaSourceSettings, StartAt};
use prescale_pipeline::{RunnerSettings, run, source_settings};
use prescale_store::RedbStore;

const PARTITIONS: i32 = 4;
const SERVICES: u64 = 20;
const RECORDS_PER_SECOND: u64 = 50_000;
const WINDOW: Span = Span::from_secs(1);
const LATENESS: Span = Span::from_secs(1);
/// Windows before the first that counts.
const WARM_UP: usize = 5;
/// How long the reader goes on after the last record.
const PATIENCE: Duration = Duration::from_secs(30);

/// By the end of a window.
type ByWindow<T> = BTreeMap<Timestamp, T>;

/// What was sent.
#[derive(Default)]
struct Sent {
    requests: ByWindow<u64>,
    /// When each partition was sent the first record that takes its watermark to the end.
    closing: ByWindow<Vec<Option<Instant>>>,
    seconds: f64,
}

/// What was read of a window.
#[derive(Clone, Copy)]
struct Read {
    requests: u64,
    last: Instant,
}

fn main() -> Result<()> {
    let quick = kit::quick()?;
    let windows = if quick { 15 } else { 300 };
    let broker = Broker::start(&[])?;
    println!("profile: {}\nmachine: {}", kit::profile(), kit::machine());
    println!("broker: {}; output {:?}", broker.describe(), delivery(&broker));
    let (requests, features) = (broker.topic("requests", PARTITIONS)?, broker.topic("features", 1)?);
    let stop = AtomicBool::new(false);
    let (sent, read, trips) = thread::scope(|threads| -> Result<_> {
        let piping = threads.spawn(|| pipe(&broker, &requests, &features, &stop).map_err(|error| error.to_string()));
        let reading = threads.spawn(|| read(&broker, &features, &stop).map_err(|error| error.to_string()));
        let tripping = threads.spawn(|| round_trips(&broker, &stop).map_err(|error| error.to_string()));
        let sent = send(&broker, &requests, windows + WARM_UP);
        // The last windows have no closing records; the others are there soon.
        thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        piping.join().map_err(|_| "the pipeline panicked")??;
        let read = reading.join().map_err(|_| "the reader panicked")??;
        Ok((sent?, read, tripping.join().map_err(|_| "the round trips panicked")??))
    })?;
    report(&sent, &read, &trips)
}

/// Sends requests at their times, as evenly as the clock allows.
fn send(broker: &Broker, topic: &str, windows: usize) -> Result<Sent> {
    // The product's linger would be measured with it.
    let sink = KafkaSink::open(&broker.kafka.clone().with("producer.linger.ms", "1"))?;
    let (mut sent, mut draw, mut line) = (Sent::default(), Draw(1), String::new());
    let first = SystemClock.now().floor_to(WINDOW) + WINDOW;
    while SystemClock.now() < first {
        thread::sleep(Duration::from_millis(1));
    }
    let last = first + Span::from_millis(WINDOW.millis() * i64::try_from(windows)?) + LATENESS + Span::from_millis(20);
    let (begun, mut number) = (Instant::now(), 0_u64);
    let mut closed = vec![first; PARTITIONS as usize];
    loop {
        let due = begun.elapsed().as_micros() as u64 * RECORDS_PER_SECOND / 1_000_000;
        let now = SystemClock.now();
        if now > last {
            break;
        }
        while number < due {
            let partition = (number % PARTITIONS as u64) as usize;
            line.clear();
            write_request(&mut line, now, draw.below(SERVICES), &mut draw)?;
            let moment = Instant::now();
            sink.send(topic, Some(i32::try_from(partition)?), None, line.as_bytes(), &[])?;
            *sent.requests.entry(now.floor_to(WINDOW) + WINDOW).or_default() += 1;
            while closed[partition] + WINDOW + LATENESS <= now {
                closed[partition] = closed[partition] + WINDOW;
                let partitions = sent.closing.entry(closed[partition]).or_insert(vec![None; PARTITIONS as usize]);
                partitions[partition] = Some(moment);
            }
            number += 1;
        }
        thread::sleep(Duration::from_millis(1));
    }
    sink.flush(TIMEOUT)?;
    sent.seconds = begun.elapsed().as_secs_f64();
    Ok(sent)
}

fn pipe(broker: &Broker, requests: &str, features: &str, stop: &AtomicBool) -> Result<()> {
    let sql = pipeline("tumble(INTERVAL '1 second')", "", "1 second");
    let plan = Arc::new(plan(&sql, requests)?);
    let dir = tempfile::tempdir()?;
    let store = RedbStore::open(dir.path())?;
    let sink = KafkaSink::open(&broker.kafka)?;
    let settings = RunnerSettings {
        features_topic: features.to_owned(),
        dead_letter_topic: broker.topic("dead-letters", 1)?,
        delivery: delivery(broker),
        ..RunnerSettings::new("close", Arc::clone(&plan))
    };
    let source = KafkaSource::open(source_settings(&plan.sources[0], Some(broker.kafka.clone()), None, false))?;
    let summary = run(settings, vec![Box::new(source)], &sink, &store, &SystemClock, stop)?;
    if summary.counters.windowed != summary.counters.read {
        return Err(format!("not all were counted in a window: {summary:?}").into());
    }
    println!("{summary:?}");
    Ok(())
}

/// Reads committed rows until nothing comes any more.
fn read(broker: &Broker, topic: &str, stop: &AtomicBool) -> Result<ByWindow<Read>> {
    let mut source = KafkaSource::open(KafkaSourceSettings::new(broker.kafka.clone(), topic))?;
    let (mut windows, mut heard) = (ByWindow::<Read>::new(), Instant::now());
    while !stop.load(Ordering::Relaxed) && heard.elapsed() < PATIENCE {
        let polled = source.poll(Span::from_millis(100))?;
        let last = Instant::now();
        for batch in &polled.batches {
            heard = last;
            for index in 0..batch.len() {
                let row: serde_json::Value = serde_json::from_slice(batch.bytes(index))?;
                // Progress records stand among the rows.
                let (Some(end), Some(requests)) = (row["window_end"].as_str(), row["requests"].as_u64()) else {
                    continue;
                };
                let window = windows.entry(end.parse()?).or_insert(Read { requests: 0, last });
                *window = Read { requests: window.requests + requests, last };
            }
        }
    }
    Ok(windows)
}

/// Milliseconds from sending a record to reading it, ten times a second.
fn round_trips(broker: &Broker, stop: &AtomicBool) -> Result<Vec<f64>> {
    let topic = broker.topic("round-trip", 1)?;
    let sink = KafkaSink::open(&broker.kafka.clone().with("producer.linger.ms", "0"))?;
    let settings = KafkaSourceSettings {
        start: StartAt::Latest,
        ..KafkaSourceSettings::new(broker.kafka.clone(), topic.as_str())
    };
    let mut source = KafkaSource::open(settings)?;
    while source.poll(Span::from_millis(100))?.at_end.is_empty() {}
    let mut trips = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        sink.send(&topic, Some(0), None, b"there and back", &[])?;
        while source.poll(Span::from_millis(100))?.batches.is_empty() {
            if sent.elapsed() > PATIENCE {
                return Err("a record did not come back".into());
            }
        }
        trips.push(millis(sent.elapsed()));
        thread::sleep(Duration::from_millis(100));
    }
    Ok(trips)
}

fn report(sent: &Sent, read: &ByWindow<Read>, trips: &[f64]) -> Result<()> {
    let mut latencies = Vec::new();
    let complete = sent.closing.iter().filter(|(_, partitions)| partitions.iter().all(Option::is_some));
    for (end, partitions) in complete.skip(WARM_UP) {
        let Some(closing) = partitions.iter().flatten().max() else { continue };
        let found = read.get(end).ok_or_else(|| format!("the window that ended at {end} was not written"))?;
        let requests = sent.requests.get(end).copied().unwrap_or_default();
        if found.requests != requests {
            return Err(format!("{} of {requests} requests in the window that ended at {end}", found.requests).into());
        }
        latencies.push(millis(found.last.saturating_duration_since(*closing)));
    }
    let records: u64 = sent.requests.values().sum();
    println!(
        "{} windows of {WINDOW}, {:.0} records a second; {}",
        latencies.len(),
        records as f64 / sent.seconds,
        kit::machine()
    );
    println!("  {:<36} {:>9} {:>9} {:>9} {:>9}", "milliseconds", "median", "p95", "p99", "max");
    for (what, values) in [("closing record sent → last row read", &latencies[..]), ("record sent → read back", trips)]
    {
        let at = |share| quantile(values, share).ok_or("nothing was measured");
        println!("  {what:<36} {:>9.1} {:>9.1} {:>9.1} {:>9.1}", at(0.5)?, at(0.95)?, at(0.99)?, at(1.0)?);
    }
    let median = |values: &[f64]| quantile(values, 0.5).unwrap_or(f64::NAN);
    println!(
        "  (f) p99 {:.1} ms (wanted: below 100); the median is {:.1} round trips",
        quantile(&latencies, 0.99).unwrap_or(f64::NAN),
        median(&latencies) / median(trips)
    );
    Ok(())
}

fn millis(length: Duration) -> f64 {
    length.as_secs_f64() * 1e3
}
