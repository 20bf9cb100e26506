//! Partitions that come, fall silent or hold what is not committed, and a clock that jumps. Rule: none of it loses a row or
//! makes one late that would not have been.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use prescale_domain::Span;
use prescale_ingest::OutRecord;
use prescale_ingest::Source as _;
use prescale_ingest::kafka::{KafkaSettings, KafkaSource, TransactionalSink};
use prescale_pipeline::{compile, source_settings};
use serde_json::Value;

use crate::kit;
use crate::kit::config::{SIMULATED, Setup};

const WAIT: Duration = Duration::from_secs(60);
const START_SECONDS: i64 = 1_767_225_600; // 2026-01-01T00:00:00Z

fn request(second: i64) -> String {
    let time = DateTime::from_timestamp(START_SECONDS + second, 0).unwrap().to_rfc3339_opts(SecondsFormat::Secs, true);
    format!(r#"{{"ts":"{time}","service":"web","status":200,"latency_ms":1.0,"bytes":1}}"#)
}

/// A service over a topic of its own.
struct Watched {
    kafka: String,
    input: String,
    setup: Setup,
    port: u16,
}

impl Watched {
    #[track_caller]
    fn new(kafka: &str, name: &str, partitions: i32, features: &str) -> Self {
        let (input, port) = (kit::unique(name), kit::free_port());
        kit::create_topic(kafka, &input, partitions);
        let settings = format!(
            "mode = \"observe\"\nserve.listen = \"127.0.0.1:{port}\"\n[features]\npipelines = [\"requests.sql\"]\nsources = {{ requests = \"{input}\" }}\n{features}"
        );
        let sql = std::fs::read_to_string(kit::root().join("pipelines/requests.sql")).unwrap();
        let setup = Setup::new(kafka, name).file("requests.sql", &sql).with(&settings).service("web", 1.0, SIMULATED);
        Self { kafka: kafka.to_owned(), input, setup, port }
    }

    #[track_caller]
    fn start(&self) -> kit::Running {
        kit::Running::start(&self.arguments(&self.setup.config()), &self.setup.path("log"))
    }

    fn arguments<'a>(&self, config: &'a str) -> [&'a str; 5] {
        ["run", "-c", config, "--clock", "event"]
    }

    #[track_caller]
    fn send(&self, partition: i32, seconds: std::ops::Range<i64>) {
        kit::produce(&self.kafka, &self.input, partition, seconds.map(request));
    }

    /// Rows read by the pipeline so far.
    fn read(&self) -> u64 {
        let find = || {
            let (_, text) = kit::try_http_get(&format!("http://127.0.0.1:{}/metrics", self.port))?;
            let line = text.lines().find(|line| line.starts_with("prescale_pipeline_read_rows{"))?.to_owned();
            line.rsplit(' ').next()?.parse().ok()
        };
        find().unwrap_or(0)
    }

    #[track_caller]
    fn wait_for_read(&self, rows: u64) {
        kit::wait_for(&format!("{rows} rows to be read"), WAIT, || (self.read() == rows).then_some(()));
    }

    /// Windows that were written, as minutes with their requests, in order.
    fn windows(&self) -> Vec<(i64, u64)> {
        let row = |record: &kit::Record| {
            let row = record.json();
            let start: DateTime<chrono::Utc> = row["window_start"].as_str()?.parse().unwrap();
            Some(((start.timestamp() - START_SECONDS) / 60, row["requests"].as_u64()?))
        };
        let mut windows: Vec<_> =
            kit::consume(&self.kafka, &self.setup.topic("features")).iter().filter_map(row).collect();
        windows.sort_unstable();
        windows
    }

    /// Runs to the end of the input: read, windowed and late.
    #[track_caller]
    fn finish(&self) -> [u64; 3] {
        let config = self.setup.config();
        let finished = kit::run(&[&self.arguments(&config)[..], &["--until-end", "--json"]].concat());
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let summary: Value = serde_json::from_str(&finished.stdout).unwrap();
        ["read", "windowed", "late"].map(|name| summary["pipelines"]["requests"][name].as_u64().unwrap())
    }
}

#[test]
fn heavy_partitions_that_come_while_a_pipeline_runs_are_read_from_their_first_record() {
    let Some(kafka) = kit::kafka() else { return };
    let watched = Watched::new(&kafka, "growing", 1, "refresh = \"1s\"\n");
    watched.send(0, 0..90);
    let mut running = watched.start();
    watched.wait_for_read(90);
    kit::add_partitions(&kafka, &watched.input, 3);
    // They have rows before the pipeline knows of them.
    watched.send(1, 60..80);
    watched.send(2, 70..85);
    kit::wait_for("the new partitions", Duration::from_secs(20), || (watched.read() == 125).then_some(()));
    // From now on the slowest of the three says how late it is.
    watched.send(0, 90..400);
    watched.send(1, 80..400);
    watched.wait_for_read(125 + 310 + 320);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(watched.windows(), [(0, 60)]);
    watched.send(2, 85..400);
    watched.wait_for_read(125 + 310 + 320 + 315);
    running.kill();
    assert_eq!(watched.finish(), [1070, 1070, 0]);
    let windows = watched.windows();
    assert_eq!(windows.iter().map(|(_, requests)| requests).sum::<u64>(), 1070);
    // Partition 0 alone; all of 0 and 1 with what 2 has of it; then all three.
    assert_eq!(windows[..3], [(0, 60), (1, 60 + 60 + 50), (2, 180)]);
}

#[test]
fn heavy_a_caught_up_partition_lets_go_early_where_that_is_asked_for() {
    let Some(kafka) = kit::kafka() else { return };
    for (features, expected) in [("", &[][..]), ("caught_up_idle = \"2s\"\n", &[(0, 62), (1, 60), (2, 60), (3, 60)])] {
        let watched = Watched::new(&kafka, "caught-up", 2, features);
        watched.send(1, 0..2);
        let mut running = watched.start();
        watched.wait_for_read(2);
        watched.send(0, 0..250);
        watched.wait_for_read(252);
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(watched.windows(), expected);
        running.kill();
    }
}

#[test]
fn heavy_a_partition_with_an_open_transaction_has_not_caught_up() {
    let Some(kafka) = kit::kafka() else { return };
    let watched = Watched::new(&kafka, "open", 2, "caught_up_idle = \"1s\"\n");
    let record = |second: i64| OutRecord {
        topic: watched.input.as_str().into(),
        partition: Some(1),
        key: None,
        value: request(second).into_bytes(),
        headers: Vec::new(),
    };
    let wait = Span::from_secs(30);
    let producer = TransactionalSink::open(&KafkaSettings::new(kafka.as_str()), &watched.input).unwrap();
    producer.init(wait).unwrap();
    producer.begin().unwrap();
    (0..30).try_for_each(|second| producer.send(&record(second))).unwrap();
    producer.flush(wait).unwrap();
    let mut running = watched.start();
    watched.send(0, 0..250);
    watched.wait_for_read(250);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(watched.windows(), [], "rows that may still be committed are waited for");
    producer.commit(wait).unwrap();
    watched.wait_for_read(280);
    // Now it has; and where all are silent, a row of one of them says what time it is.
    std::thread::sleep(Duration::from_secs(3));
    watched.send(0, 250..260);
    kit::wait_for("the windows", WAIT, || (watched.windows() == [(0, 90), (1, 60), (2, 60), (3, 60)]).then_some(()));
    running.kill();
    assert_eq!(watched.finish(), [290, 290, 0]);
}

#[test]
fn what_was_aborted_is_read_only_where_the_sql_asks_for_it() {
    let Some(kafka) = kit::kafka() else { return };
    let (settings, topic) = (KafkaSettings::new(kafka.as_str()), kit::unique("read-mode"));
    kit::create_topic(&kafka, &topic, 1);
    let wait = Span::from_secs(30);
    let producer = TransactionalSink::open(&settings, &topic).unwrap();
    producer.init(wait).unwrap();
    for (value, is_committed) in [("kept", true), ("taken back", false)] {
        producer.begin().unwrap();
        let value = value.as_bytes().to_vec();
        let record =
            OutRecord { topic: topic.as_str().into(), partition: Some(0), key: None, value, headers: Vec::new() };
        producer.send(&record).unwrap();
        producer.flush(wait).unwrap();
        if is_committed { producer.commit(wait).unwrap() } else { producer.abort(wait).unwrap() }
    }
    let shipped = std::fs::read_to_string(kit::root().join("pipelines/requests.sql")).unwrap();
    for (option, expected) in [
        ("", &["kept"][..]),
        ("'source.read_mode' = 'read_committed', ", &["kept"]),
        ("'source.read_mode' = 'read_uncommitted', ", &["kept", "taken back"]),
    ] {
        let mut plan =
            compile(&shipped.replacen("type = 'source',", &format!("type = 'source', {option}"), 1)).unwrap();
        plan.sources[0].options.topic.clone_from(&topic);
        let mut source =
            KafkaSource::open(source_settings(&plan.sources[0], Some(settings.clone()), None, true)).unwrap();
        let mut read = Vec::new();
        kit::wait_for("the end of the topic", WAIT, || {
            let polled = source.poll(Span::from_millis(200)).unwrap();
            let batches = polled.batches.iter();
            let values = batches.flat_map(|batch| (0..batch.len()).map(|row| batch.bytes(row).to_vec()));
            read.extend(values.map(|value| String::from_utf8(value).unwrap()));
            polled.ended.then_some(())
        });
        assert_eq!(read, expected, "{option}");
    }
}

#[test]
fn heavy_a_clock_that_jumps_forward_and_back_changes_no_row() {
    const FAKE: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    let Some(kafka) = kit::kafka() else { return };
    if !Path::new(FAKE).is_file() {
        return kit::skipped("libfaketime (Debian: apt-get install faketime)");
    }
    let watched = Watched::new(&kafka, "jump", 2, "");
    let offset = watched.setup.path("offset");
    std::fs::write(&offset, "+0").unwrap();
    let fake = |mut command: Command| {
        command.env("LD_PRELOAD", FAKE).env("FAKETIME_TIMESTAMP_FILE", &offset);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    };
    let today = || String::from_utf8(fake(Command::new("date")).output().unwrap().stdout).unwrap();
    let command = fake(kit::prescale(&watched.arguments(&watched.setup.config())));
    let mut running = kit::Running::spawn(command, &watched.setup.path("log"));
    watched.send(1, 0..30);
    watched.send(0, 0..150);
    watched.wait_for_read(180);
    let mut second = 150;
    let before = today();
    for jump in ["+2d", "-2d", "+0"] {
        std::fs::write(&offset, jump).unwrap();
        assert!(jump == "+0" || today()[..10] != before[..10], "the clock does not jump");
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(watched.windows(), [], "partition 1 was let go after {jump}");
        watched.send(0, second..second + 60);
        second += 60;
        watched.wait_for_read(30 + second as u64);
    }
    watched.send(1, 30..second);
    watched.wait_for_read(2 * second as u64);
    running.kill();
    assert_eq!(watched.finish(), [2 * second as u64, 2 * second as u64, 0]);
    assert!(watched.windows().iter().take(5).all(|(_, requests)| *requests == 120), "{:?}", watched.windows());
}
