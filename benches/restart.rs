//! Time from starting the process until a pipeline that was killed is where it had been, with a state of 1 GiB. Rule: it
//! counts only if the window that was open then has every record once.
//!
//! ```sh
//! tests/run.sh --services-only -- cargo bench --workspace --bench restart [-- --quick]
//! ```
//!
//! The window is an hour that never ends, of services of which each has a few requests: what a pipeline by user or by
//! session holds. A process reads all of it, saves its checkpoint in a redb file, and is killed (`SIGKILL`). Then another
//! is started. The clock runs from there until it has read what it needs and asks for more. The state is what the process
//! has more in memory than one that read the same records and filtered all of them.
//!
//! That window is read again but for its segments that are over (`docs/designs/0013-stored-panes.md`). A second measurement
//! is of windows of an hour every ten minutes, whose complete panes are in the redb file, one GiB of them: a restart loads these
//! and reads only the pane that goes on.
#![allow(clippy::print_stdout, reason = "the figures are the result")]

mod kit;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use kit::piped::{delivery, plan};
use kit::requests::{Draw, Filled, Requests, START, fill, write_request};
use kit::usage::Process;
use kit::{Broker, Result, TIMEOUT, spread};
use prescale_domain::{Span, SystemClock};
use prescale_ingest::kafka::{KafkaSink, KafkaSource, KafkaSourceSettings};
use prescale_ingest::{Polled, RawBatch, Source, SourceError};
use prescale_pipeline::{Checkpoint, RunnerSettings, run, source_settings};
use prescale_store::RedbStore;

/// The argument with which a process is started that holds the window open.
const HOLDER: &str = "--holder";
const PIPELINE: &str = "restart";
const PARTITIONS: i32 = 4;
const WINDOW: Span = Span::from_minutes(60);
const TUMBLE: &str = "tumble(INTERVAL '1 hour')";
/// Fewer panes than from which runs of panes are merged ahead: their state is not what is measured.
const HOP: &str = "hop(INTERVAL '10 minutes', INTERVAL '1 hour')";
/// The same for the hop, of which some are in the same pane and are stored as one.
const HOP_REQUESTS: u64 = 3;
/// Requests of each service in the window, on average. A group of one partition's requests takes some 150 bytes.
const REQUESTS: u64 = 2;
const SERVICES: u64 = 4_000_000;
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
const PATIENCE: Duration = Duration::from_secs(300);

/// What a holder needs to know.
#[derive(Clone, Debug)]
struct Held<'a> {
    topic: &'a str,
    records: u64,
    features: &'a str,
    state: &'a Path,
    window: &'a str,
    /// All records are filtered.
    empty: bool,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, topic, records, features, state, window, empty] = &arguments[..]
        && first == HOLDER
    {
        let (records, empty) = (records.parse()?, empty.parse()?);
        return hold(&Held { topic, records, features, state: Path::new(state), window, empty });
    }
    let quick = kit::quick()?;
    let broker = Broker::start(&[])?;
    if broker.embedded.is_some() {
        println!("restart: not measured, the embedded broker forgets records; see the head of benches/restart.rs");
        return Ok(());
    }
    let (services, rounds) = if quick { (100_000, 2) } else { (SERVICES, 3) };
    println!("profile: {}\nmachine: {}", kit::profile(), kit::machine());
    println!("broker: {}", broker.describe());
    for (name, window, requests) in [("tumble", TUMBLE, REQUESTS), ("hop", HOP, HOP_REQUESTS)] {
        let requests =
            Requests { records: services * requests, services, length: Span::from_minutes(50), partitions: PARTITIONS };
        let filled = fill(&broker, name, requests)?;
        measure(&broker, &filled, window, (services, rounds, quick))?;
    }
    Ok(())
}

fn measure(
    broker: &Broker,
    filled: &Filled,
    window: &str,
    (services, rounds, quick): (u64, usize, bool),
) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let features = format!("{}-features", filled.topic);
    broker.sink.ensure_topic(&features, 1, TIMEOUT)?;
    let empty_dir = dir.path().join("empty");
    std::fs::create_dir(&empty_dir)?;
    let held = Held {
        topic: &filled.topic,
        records: filled.records,
        features: &features,
        state: dir.path(),
        window,
        empty: false,
    };
    let (nothing, _) = Holder::start(&Held { state: &empty_dir, empty: true, ..held.clone() })?;
    let base = nothing.process().resident_bytes()? as f64;
    drop(nothing);
    let (mut holder, first) = Holder::start(&held)?;
    let (mut seconds, mut states) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        states.push((holder.process().resident_bytes()? as f64 - base) / GIB);
        drop(holder);
        let (again, took) = Holder::start(&held)?;
        seconds.push(took.as_secs_f64());
        holder = again;
    }
    close(broker, filled, &features, services)?;
    drop(holder);
    let stored = std::fs::metadata(dir.path().join("state.redb"))?.len() as f64 / GIB;
    println!("\n{rounds} restarts of {window} on {}: median (least..most)", kit::machine());
    println!(
        "  {} records of {services} services held by one window; first reading {:.1} s",
        filled.records,
        first.as_secs_f64()
    );
    println!("  state {} GiB, {} bytes a record in Kafka", spread(&states, 2), filled.bytes as u64 / filled.records);
    println!("  redb file {stored:.2} GiB at the end");
    println!("  (e) restart until caught up: {} s (wanted: at most 20)", spread(&seconds, 2));
    match states.iter().copied().fold(f64::INFINITY, f64::min) {
        least if least < 1.0 && !quick => Err(format!("the state was to be 1 GiB, it was {least:.2}").into()),
        _ => Ok(()),
    }
}

/// Ends the window, and looks whether each record counted once.
fn close(broker: &Broker, filled: &Filled, features: &str, services: u64) -> Result<()> {
    let (mut line, mut draw) = (String::new(), Draw(2));
    write_request(&mut line, START + WINDOW + Span::from_minutes(1), 0, &mut draw)?;
    for partition in 0..PARTITIONS {
        broker.sink.send(&filled.topic, Some(partition), None, line.as_bytes(), &[])?;
    }
    broker.sink.flush(TIMEOUT)?;
    let begun = Instant::now();
    let mut source = KafkaSource::open(KafkaSourceSettings::new(broker.kafka.clone(), features))?;
    while begun.elapsed() < PATIENCE {
        for batch in source.poll(Span::from_millis(100))?.batches {
            for index in 0..batch.len() {
                let row: serde_json::Value = serde_json::from_slice(batch.bytes(index))?;
                let Some(requests) = row["requests"].as_u64() else { continue };
                // Of windows that overlap, the one with all records begins with them.
                if row["window_start"].as_str().and_then(|start| start.parse().ok()) != Some(START) {
                    continue;
                }
                if requests != filled.records || row["services"].as_u64().is_none_or(|found| found > services) {
                    return Err(format!(
                        "{} records of {services} services were sent, the window has {row}",
                        filled.records
                    )
                    .into());
                }
                return Ok(());
            }
        }
    }
    Err(format!("the window was not written within {PATIENCE:?}").into())
}

/// A process that holds the window open; killed when dropped.
struct Holder(Child);

impl Holder {
    /// Returns once it has read everything and saved its checkpoint; and how long that took.
    fn start(held: &Held<'_>) -> Result<(Self, Duration)> {
        let begun = Instant::now();
        let mut command = Command::new(std::env::current_exe()?);
        command.args([HOLDER, held.topic, &held.records.to_string(), held.features]);
        command.arg(held.state).args([held.window, &held.empty.to_string()]);
        let mut holder = Self(command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?);
        let output = holder.0.stdout.take().ok_or("a child without output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if line.trim() != CAUGHT_UP {
            return Err(format!("a holder said `{}`", line.trim()).into());
        }
        Ok((holder, begun.elapsed()))
    }

    fn process(&self) -> Process {
        Process::Other(self.0.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

const CAUGHT_UP: &str = "caught up";

fn sql(window: &str, empty: bool) -> String {
    let filter = if empty { "WHERE latency_ms < 0" } else { "" };
    format!(
        "CREATE TABLE requests (
            ts TIMESTAMP NOT NULL, service TEXT NOT NULL, latency_ms DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
        ) WITH (connector = 'kafka', type = 'source', bootstrap_servers = '', topic = 'requests', format = 'json',
            'source.offset' = 'earliest');
        CREATE TABLE features WITH (connector = 'kafka', type = 'sink', bootstrap_servers = '', topic = 'features',
            format = 'json');
        INSERT INTO features
        SELECT 'all' AS service, window.start AS window_start, window.end AS window_end, requests, services, slowest
        FROM (
            SELECT window, sum(requests) AS requests, count(*) AS services, max(latency_ms_p99) AS slowest
            FROM (
                SELECT service, {window} AS window, count(*) AS requests,
                    avg(latency_ms) AS latency_ms_avg,
                    approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY latency_ms) AS latency_ms_p99
                FROM requests {filter} GROUP BY service, window
            )
            GROUP BY window
        );"
    )
}

/// Runs the pipeline until it is killed.
fn hold(held: &Held<'_>) -> Result<()> {
    let broker = Broker::start(&[])?;
    let plan = Arc::new(plan(&sql(held.window, held.empty), held.topic)?);
    let store = RedbStore::open(held.state)?;
    let sink = KafkaSink::open(&broker.kafka)?;
    // One pipeline to a features topic: the empty one has its own.
    let features_topic = if held.empty { broker.topic("empty", 1)? } else { held.features.to_owned() };
    let settings = RunnerSettings {
        features_topic,
        dead_letter_topic: format!("{}-dead-letters", held.topic),
        delivery: delivery(&broker),
        idle: vec![None],
        ..RunnerSettings::new(PIPELINE, Arc::clone(&plan))
    };
    let checkpoint = Checkpoint::load(&store, PIPELINE)?;
    let source =
        KafkaSource::open(source_settings(&plan.sources[0], Some(broker.kafka.clone()), checkpoint.as_ref(), false))?;
    // The topic begins at offset 0, and each record has an offset.
    let starts = checkpoint.map(|checkpoint| checkpoint.starts("requests")).unwrap_or_default();
    let before: i64 = starts.iter().filter_map(|start| start.offset).sum();
    let watched = Watched { source, left: held.records.saturating_sub(before.unsigned_abs()), quiet: 0 };
    run(settings, vec![Box::new(watched)], &sink, &store, &SystemClock, &AtomicBool::new(false))?;
    Err("the run has ended by itself".into())
}

/// Says once that all records that are left were read, and what came of them saved.
struct Watched {
    source: KafkaSource,
    left: u64,
    /// Polls since then.
    quiet: usize,
}

impl Source for Watched {
    fn poll(&mut self, wait: Span) -> std::result::Result<Polled, SourceError> {
        if self.left == 0 {
            self.quiet += 1;
            // The poll after one that brought nothing is that of the next epoch: the last one is saved.
            if self.quiet == 2 {
                println!("{CAUGHT_UP}");
            }
        }
        let polled = self.source.poll(wait)?;
        let read = polled.batches.iter().map(RawBatch::len).sum::<usize>() as u64;
        self.left = self.left.saturating_sub(read);
        Ok(polled)
    }

    fn commit(&mut self, oldest_needed: &[(i32, i64)]) -> std::result::Result<(), SourceError> {
        self.source.commit(oldest_needed)
    }
}
