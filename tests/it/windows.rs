//! Windows that hold more than a moment, on a real Kafka: what is stored of them, under kills at random moments, and how much
//! memory they may take. Rule: what a reader of committed records sees is that of a run without any of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use prescale_domain::{Span, SystemClock};
use prescale_ingest::kafka::{KafkaSettings, KafkaSink, KafkaSource};
use prescale_ingest::{Polled, Source, SourceError};
use prescale_pipeline::{PipelineError, RunnerSettings, Summary, compile, run, source_settings};
use prescale_store::{MemoryStore, RedbStore, Store as _, Table};
use serde_json::{Value, json};

use crate::kit;
use crate::kit::config::{SIMULATED, Setup};

const START_MILLIS: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z
const WAIT: Span = Span::from_secs(30);

fn row(millis: i64, service: i64) -> String {
    let time = DateTime::from_timestamp_millis(START_MILLIS + millis).unwrap();
    let time = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    json!({"ts": time, "service": format!("service-{service}"), "latency_ms": (millis % 9_973) as f64 / 7.0})
        .to_string()
}

fn table(name: &str) -> String {
    format!(
        "CREATE TABLE {name} (
            ts TIMESTAMP NOT NULL, service TEXT NOT NULL, latency_ms DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
        ) WITH (connector = 'kafka', type = 'source', bootstrap_servers = '', topic = '{name}', format = 'json',
            'source.offset' = 'earliest');\n"
    )
}

fn sink(topic: &str) -> String {
    format!(
        "CREATE TABLE made WITH (connector = 'kafka', type = 'sink', bootstrap_servers = '', topic = '{topic}', format = 'json');
        INSERT INTO made\n"
    )
}

fn aggregation(table: &str, window: &str) -> String {
    format!(
        "SELECT service, {window} AS window, count(*) AS n, sum(latency_ms) AS latency, stddev(latency_ms) AS spread,
            approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY latency_ms) AS p
        FROM {table} GROUP BY service, window"
    )
}

/// Two topics joined by windows of five minutes every ten seconds.
fn joined(topic: &str) -> String {
    let side = |table| aggregation(table, "hop(INTERVAL '10 seconds', INTERVAL '5 minutes')");
    format!(
        "{}{}{}SELECT coalesce(a.service, b.service) AS service, coalesce(a.window.start, b.window.start) AS window_start,
            coalesce(a.window.end, b.window.end) AS window_end, a.n AS requests, a.latency AS latency, a.spread AS spread,
            a.p AS p, b.n AS calls, b.latency AS call_latency, b.p AS call_p
        FROM ({}) AS a FULL JOIN ({}) AS b ON a.service = b.service AND a.window = b.window;",
        table("requests"),
        table("calls"),
        sink(topic),
        side("requests"),
        side("calls")
    )
}

/// One topic by windows whose panes are cut into segments, and by sessions.
fn alone(topic: &str, window: &str) -> String {
    format!(
        "{}{}SELECT service, window.start AS window_start, window.end AS window_end, n, latency, spread, p FROM ({});",
        table("requests"),
        sink(topic),
        aggregation("requests", window)
    )
}

/// Committed rows as they lie in each partition.
#[track_caller]
fn rows(kafka: &str, topic: &str) -> BTreeMap<i32, Vec<String>> {
    let mut rows = BTreeMap::<i32, Vec<String>>::new();
    for record in kit::consume(kafka, topic) {
        rows.entry(record.partition).or_default().push(String::from_utf8(record.value.unwrap()).unwrap());
    }
    rows
}

/// Ends the thread that feeds, however the test ends.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn heavy_kills_at_random_moments_leave_joins_wide_windows_and_sessions_as_they_are() {
    const KILLS: usize = 20;
    const STARTED: &str = "pipeline starts";
    const PIPELINES: [&str; 3] = ["joined", "wide", "sessions"];
    let Some(kafka) = kit::kafka() else { return };
    let (requests, calls) = (kit::unique("requests"), kit::unique("calls"));
    kit::create_topic(&kafka, &requests, 3);
    kit::create_topic(&kafka, &calls, 2);
    let setup = |name: &str| {
        let name = kit::unique(name);
        let made = PIPELINES.map(|pipeline| format!("{name}-{pipeline}"));
        let settings = format!(
            "mode = \"observe\"\n[topics]\npartitions = 2\n[features]\npipelines = [\"joined.sql\", \"wide.sql\", \"sessions.sql\"]\nsources = {{ requests = \"{requests}\", calls = \"{calls}\" }}\n"
        );
        let setup = Setup::new(&kafka, &name)
            .file("joined.sql", &joined(&made[0]))
            .file("wide.sql", &alone(&made[1], "tumble(INTERVAL '20 minutes')"))
            .file("sessions.sql", &alone(&made[2], "session(INTERVAL '20 seconds')"))
            .with(&settings)
            .service("service-1", 1.0, SIMULATED);
        (setup, made)
    };
    let ((disturbed, disturbed_topics), (undisturbed, undisturbed_topics)) = (setup("kept"), setup("kept-undisturbed"));
    let config = disturbed.config();
    let stored = || {
        let store = RedbStore::open(&disturbed.path("state")).unwrap();
        PIPELINES.map(|pipeline| {
            let (from, to) = (format!("{pipeline}\0"), format!("{pipeline}\u{1}"));
            store.range(Table::Panes, from.as_bytes(), to.as_bytes(), usize::MAX, false).unwrap().len()
        })
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let until = Until(&done);
        let feeding = scope.spawn(|| {
            let (sink, mut second) = (KafkaSink::open(&KafkaSettings::new(kafka.as_str())).unwrap(), 0);
            while !done.load(Ordering::Relaxed) {
                for (topic, partitions) in [(&requests, 3), (&calls, 2)] {
                    for n in 0..40 {
                        let partition = n % partitions;
                        // Each partition lags by its number of seconds, and each seventh row by more than the lateness:
                        // it is late in a hop, and is not in a wide window.
                        let lag = partition * 1_000 + if n % 7 == 6 { 15_000 } else { 0 };
                        let at = (second * 1_000 + n * 251 - lag).max(0);
                        // A service of its own has rests of half a minute.
                        let service = if second % 70 < 40 && n % 5 == 0 { 9 } else { (second + n) % 4 };
                        let line = row(at, service);
                        sink.send(topic, Some(i32::try_from(partition).unwrap()), None, line.as_bytes(), &[]).unwrap();
                    }
                }
                kit::wait_for("input to be written", Duration::from_secs(120), || sink.flush(WAIT).ok());
                second += 10;
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let (mut random, mut least_life) = (0x9e37_79b9_7f4a_7c15_u64, 1_000);
        for kill in 0..KILLS {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let log = disturbed.path("log");
            let starts = std::fs::read_to_string(&log).unwrap_or_default().matches(STARTED).count();
            let mut running = kit::Running::start(&["run", "-c", &config, "--clock", "event"], &log);
            let outlives_its_start = kill % 4 > 0;
            if outlives_its_start {
                kit::wait_for("the pipelines to start", Duration::from_secs(60), || {
                    (running.printed().matches(STARTED).count() >= starts + PIPELINES.len()).then_some(())
                });
                std::thread::sleep(Duration::from_millis(least_life));
            }
            std::thread::sleep(Duration::from_millis((random >> 33) % 1500));
            running.kill();
            // On a busy machine little is stored in a second: what has stored nothing loses nothing either.
            if outlives_its_start && stored().contains(&0) {
                least_life += 1_000;
            }
        }
        drop(until);
        feeding.join().unwrap();
    });
    // Something was stored, and gone on from.
    assert!(!stored().contains(&0), "{:?}", stored());

    let mut counted = Vec::new();
    for setup in [&disturbed, &undisturbed] {
        let finished = kit::run(&["run", "-c", &setup.config(), "--clock", "event", "--until-end", "--json"]);
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let summary: Value = serde_json::from_str(&finished.stdout).unwrap();
        counted.push(summary["pipelines"].clone());
    }
    for (pipeline, (ours, theirs)) in PIPELINES.iter().zip(disturbed_topics.iter().zip(&undisturbed_topics)) {
        for fate in ["read", "windowed", "late"] {
            assert_eq!(counted[0][pipeline][fate], counted[1][pipeline][fate], "{pipeline}: {fate}");
        }
        let (ours, theirs) = (rows(&kafka, ours), rows(&kafka, theirs));
        assert!(theirs.values().flatten().count() > 5, "{pipeline}: {theirs:?}");
        assert!(ours == theirs, "{pipeline}: the output differs from that of an undisturbed run");
    }
    let late = |pipeline: &str| counted[1][pipeline]["late"].as_u64().unwrap();
    assert!(late("joined") > late("wide"), "{counted:?}");
}

/// Counts how often partitions were held, or lets nothing be held.
struct Holding {
    inner: KafkaSource,
    holds: bool,
    held: Arc<AtomicUsize>,
}

impl Source for Holding {
    fn poll(&mut self, wait: Span) -> Result<Polled, SourceError> {
        self.inner.poll(wait)
    }

    fn commit(&mut self, oldest_needed: &[(i32, i64)]) -> Result<(), SourceError> {
        self.inner.commit(oldest_needed)
    }

    fn hold(&mut self, partitions: &[i32]) {
        if self.holds {
            self.held.fetch_add(usize::from(!partitions.is_empty()), Ordering::Relaxed);
            self.inner.hold(partitions);
        }
    }
}

#[test]
fn partitions_that_run_apart_wait_for_each_other_before_windows_take_too_much_memory() {
    const MINUTES: i64 = 1_500;
    let Some(kafka) = kit::kafka() else { return };
    let input = kit::unique("apart");
    kit::create_topic(&kafka, &input, 2);
    // By bytes of the topic, the first partition is four times as far in event time as the second.
    for (partition, rows_a_minute) in [(0, 20), (1, 80)] {
        let rows = (0..MINUTES).flat_map(|minute| {
            (0..rows_a_minute).map(move |n| row(minute * 60_000 + n * 60_000 / rows_a_minute, n % 20))
        });
        kit::produce(&kafka, &input, partition, rows);
    }
    let settings = KafkaSettings::new(kafka.as_str());
    let go = |limit: Option<u64>, holds: bool| -> (Result<Summary, PipelineError>, usize, BTreeMap<i32, Vec<String>>) {
        let name = kit::unique("bound");
        let mut plan = compile(&alone(&name, "tumble(INTERVAL '1 minute')")).unwrap();
        plan.sources[0].options.topic.clone_from(&input);
        let mut reading = source_settings(&plan.sources[0], Some(settings.clone()), None, true);
        reading.max_records = 500;
        let held = Arc::new(AtomicUsize::new(0));
        let source = Holding { inner: KafkaSource::open(reading).unwrap(), holds, held: Arc::clone(&held) };
        let run_settings = RunnerSettings {
            dead_letter_topic: format!("{name}-dead-letters"),
            epochs_topic: format!("{name}-epochs"),
            progress: false,
            until_end: true,
            epoch: Span::ZERO,
            state_limit: limit,
            ..RunnerSettings::new("bound", Arc::new(plan))
        };
        let sink = KafkaSink::open(&settings).unwrap();
        let stop = AtomicBool::new(false);
        let ended = run(run_settings, vec![Box::new(source)], &sink, &MemoryStore::default(), &SystemClock, &stop);
        (ended, held.load(Ordering::Relaxed), rows(&kafka, &name))
    };
    let (free, held, expected) = go(None, true);
    let free = free.unwrap();
    assert!(free.ended && held == 0);
    assert_eq!(expected.values().flatten().count() as i64, MINUTES * 20);

    const LIMIT: u64 = 1 << 20;
    let (apart, ..) = go(Some(LIMIT), false);
    let error = apart.unwrap_err();
    assert!(matches!(error, PipelineError::StateLimit { limit: LIMIT, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("pipeline `bound`: its open windows take ") && text.contains("`tumble 1m`"), "{text}");

    let (together, held, found) = go(Some(LIMIT), true);
    assert_eq!(together.unwrap().counters, free.counters);
    assert!(held > 0);
    assert!(found == expected, "the output differs from that of a run without a limit");
}
