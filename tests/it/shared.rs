//! Several processes share a pipeline: from the start, while they come and are killed, while one is paused, while the topic
//! grows. Rule: what readers of committed records see is what one process writes, each row once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use chrono::DateTime;
use prescale_domain::{FeaturesRecord, Progress, Span, SystemClock, Timestamp};
use prescale_ingest::kafka::{KafkaSettings, KafkaSink, KafkaSource, KafkaSourceSettings};
use prescale_pipeline::{
    Checkpoint, CommitStep, PipelineError, RunnerSettings, SourceTable, compile, run_shared, source_settings,
};
use serde_json::Value;

use crate::kit;
use crate::kit::config::{SIMULATED, Setup};
use crate::kit::requests::{START_MILLIS, request, without_probes};

const PARTITIONS: i32 = 4;
const WAIT: Duration = Duration::from_secs(90);

/// What an independent count finds in the input.
#[derive(Clone, Debug, Default, PartialEq)]
struct Count {
    read: u64,
    filtered: u64,
    late: u64,
    bad: u64,
    /// Requests by service and minute.
    windows: BTreeMap<(String, i64), u64>,
}

/// Requests of one minute by partition, each with its key: two services a partition, a probe that the pipeline filters, and
/// now and then a record that is late in its partition or no record at all.
fn minute(minute: i64, partitions: i32, count: &mut Count) -> Vec<Vec<(String, String)>> {
    let of_partition = |partition: i64| {
        let mut lines = Vec::new();
        for n in 0..12 {
            let service = format!("service-{}", partition + i64::from(PARTITIONS) * (n % 2));
            let route = if n == 3 { "/health" } else { "/buy" };
            lines.push((service.clone(), request(minute, n * 5000 + partition, &service, route)));
            if n == 3 {
                count.filtered += 1;
            } else {
                *count.windows.entry((service, minute)).or_default() += 1;
            }
        }
        let service = format!("service-{partition}");
        if minute > 20 && (minute + partition) % 3 == 0 {
            lines.push((service.clone(), request(minute - 10, 0, &service, "/late")));
            count.late += 1;
        }
        if (minute + partition) % 5 == 0 {
            lines.push((service, format!("{{\"minute\": {minute}, \"partition\": {partition}, cut off")));
            count.bad += 1;
        }
        count.read += lines.len() as u64;
        lines
    };
    (0..i64::from(partitions)).map(of_partition).collect()
}

/// Input, minute by minute.
struct Feed {
    sink: KafkaSink,
    input: String,
    partitions: i32,
    next: i64,
    count: Count,
}

impl Feed {
    #[track_caller]
    fn new(kafka: &str, name: &str) -> Self {
        Self::of(kafka, name, PARTITIONS)
    }

    #[track_caller]
    fn of(kafka: &str, name: &str, partitions: i32) -> Self {
        let (input, sink) = (kit::unique(name), KafkaSink::open(&KafkaSettings::new(kafka)).unwrap());
        kit::create_topic(kafka, &input, partitions);
        Self { sink, input, partitions, next: 0, count: Count::default() }
    }

    #[track_caller]
    fn minutes(&mut self, minutes: i64) {
        for _ in 0..minutes {
            for (partition, lines) in (0..).zip(minute(self.next, self.partitions, &mut self.count)) {
                for (key, line) in lines {
                    let sent = self.sink.send(&self.input, Some(partition), Some(key.as_bytes()), line.as_bytes(), &[]);
                    sent.unwrap();
                }
            }
            self.next += 1;
        }
        self.sink.flush(Span::from_secs(30)).unwrap();
    }

    /// Event time that is complete when all that was written has been read.
    fn reached(&self) -> Timestamp {
        Timestamp::from_millis(START_MILLIS + (self.next - 1) * 60_000)
    }
}

/// One pipeline, with topics of its own, for as many processes as are started.
struct Service {
    kafka: String,
    setup: Setup,
}

impl Service {
    fn new(kafka: &str, name: &str, input: &str, processes: u32) -> Self {
        let settings = format!(
            "mode = \"observe\"\n[topics]\npartitions = 2\n[kafka.client]\n\"consumer.session.timeout.ms\" = \"6000\"\n[features]\nprocesses = {processes}\nrefresh = \"1s\"\npipelines = [\"requests.sql\"]\nsources = {{ requests = \"{input}\" }}\nrecord_keys = {{ requests = \"service\" }}\n"
        );
        let setup = Setup::new(kafka, name).file("requests.sql", &without_probes()).with(&settings);
        Self { kafka: kafka.to_owned(), setup: setup.service("service-1", 1.0, SIMULATED) }
    }

    /// The configuration of one of its processes: each has a state of its own.
    #[track_caller]
    fn config(&self, process: usize) -> String {
        let text = std::fs::read_to_string(self.setup.config()).unwrap();
        let state = self.setup.path("state").into_os_string().into_string().unwrap();
        let path = self.setup.path(&format!("process-{process}.toml"));
        std::fs::write(&path, text.replace(&state, &format!("{state}-{process}"))).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    #[track_caller]
    fn start(&self, process: usize) -> kit::Running {
        let arguments = ["run", "-c", &self.config(process), "--clock", "event"];
        kit::Running::start(&arguments, &self.setup.path(&format!("log-{process}")))
    }

    /// What all processes print that hold a share now.
    fn output(&self) -> Output {
        Output::read(&self.kafka, &self.setup.topic("features"), &self.setup.topic("dead-letters"))
    }

    /// Waits until all that was fed has been worked off, but for its last minute.
    #[track_caller]
    fn wait_for(&self, feed: &Feed) {
        let reached = feed.reached();
        kit::wait_for(&format!("event time {reached}"), WAIT, || {
            let told = self.output().told;
            let all = |partition| (0..feed.partitions).all(|share| told.get(&(partition, share)) >= Some(&reached));
            (all(0) && all(1)).then_some(())
        });
    }

    /// Runs alone to the end, and compares what became of the records with an independent count.
    #[track_caller]
    fn finish(&self, count: &Count) -> Output {
        let finished = kit::run(&["run", "-c", &self.config(9), "--clock", "event", "--until-end", "--json"]);
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let summary: Value = serde_json::from_str(&finished.stdout).unwrap();
        let counted = |name: &str| summary["pipelines"]["requests"][name].as_u64().unwrap();
        let windowed: u64 = count.windows.values().sum();
        let found = ["read", "windowed", "filtered", "late", "bad", "future"].map(counted);
        assert_eq!(found, [count.read, windowed, count.filtered, count.late, count.bad, 0]);
        let output = self.output();
        output.check(count);
        // The controller has closed all windows, of all that were fed: it takes the shares' event time for the pipeline's.
        let minutes: BTreeSet<i64> = count.windows.keys().map(|(_, minute)| *minute).collect();
        assert_eq!(summary["controller"]["windows"].as_u64(), Some(minutes.len() as u64), "{summary}");
        output
    }
}

/// What readers of committed records see of a pipeline's output.
#[derive(Debug)]
struct Output {
    rows: BTreeSet<String>,
    dead_letters: Vec<Vec<u8>>,
    /// The last watermark by partition of the topic and share; one process is share 0.
    told: BTreeMap<(i32, i32), Timestamp>,
}

impl Output {
    /// Reads it, and checks what holds of every run.
    #[track_caller]
    fn read(kafka: &str, features: &str, dead_letters: &str) -> Self {
        let mut output = Self { rows: BTreeSet::new(), dead_letters: Vec::new(), told: BTreeMap::new() };
        for record in kit::try_consume(kafka, features) {
            let value = record.value.unwrap();
            match FeaturesRecord::from_json(&value).unwrap() {
                FeaturesRecord::Progress(Progress { watermark, share, .. }) => {
                    let share = share.map_or(0, |share| share.partition);
                    let before = output.told.insert((record.partition, share), watermark);
                    assert!(
                        before.is_none_or(|before| before <= watermark),
                        "share {share}: {before:?}, {watermark:?}"
                    );
                }
                FeaturesRecord::Row(row) => {
                    let service: i32 = row.service.as_str().strip_prefix("service-").unwrap().parse().unwrap();
                    let told = output.told.get(&(record.partition, service % PARTITIONS));
                    assert!(told.is_none_or(|told| row.window_end > *told), "{row:?} after {told:?}");
                    let row = String::from_utf8(value).unwrap();
                    assert!(output.rows.insert(row.clone()), "a second copy: {row}");
                }
            }
        }
        let letters = kit::try_consume(kafka, dead_letters).into_iter().map(|letter| letter.value.unwrap());
        output.dead_letters = letters.collect();
        output.dead_letters.sort();
        output
    }

    /// Each window and service once, with as many requests as were counted.
    #[track_caller]
    fn check(&self, count: &Count) {
        let mut found = BTreeMap::new();
        for row in &self.rows {
            let row: Value = serde_json::from_str(row).unwrap();
            let start: DateTime<chrono::Utc> = row["window_start"].as_str().unwrap().parse().unwrap();
            let minute = (start.timestamp_millis() - START_MILLIS) / 60_000;
            let key = (row["service"].as_str().unwrap().to_owned(), minute);
            assert_eq!(found.insert(key, row["requests"].as_u64().unwrap()), None, "a second row: {row}");
        }
        assert_eq!(found, count.windows);
        assert_eq!(self.dead_letters.len() as u64, count.late + count.bad);
    }

    #[track_caller]
    fn is_that_of(&self, one: &Self) {
        let (more, less) = (self.rows.difference(&one.rows).next(), one.rows.difference(&self.rows).next());
        assert_eq!((more, less), (None, None), "rows that only shares or only one process wrote");
        assert!(self.dead_letters == one.dead_letters, "other dead letters than those of one process");
    }
}

/// Shares that a process has begun, by its log.
fn begun(running: &kit::Running) -> usize {
    running.printed().matches("share starts").count()
}

#[test]
fn heavy_two_processes_write_what_one_writes() {
    let Some(kafka) = kit::kafka() else { return };
    let mut feed = Feed::new(&kafka, "two");
    feed.minutes(40);
    let (shared, one) =
        (Service::new(&kafka, "two", &feed.input, 2), Service::new(&kafka, "two-alone", &feed.input, 1));
    let mut running = [0, 1].map(|process| shared.start(process));
    shared.wait_for(&feed);
    kit::wait_for("both to have a part", WAIT, || running.iter().all(|process| begun(process) > 0).then_some(()));
    feed.minutes(20);
    shared.wait_for(&feed);
    running.iter_mut().for_each(kit::Running::kill);
    shared.finish(&feed.count).is_that_of(&one.finish(&feed.count));
}

#[test]
fn heavy_processes_come_and_are_killed_and_each_row_is_written_once() {
    const KILLS: usize = 6;
    let Some(kafka) = kit::kafka() else { return };
    let mut feed = Feed::new(&kafka, "kills");
    let input = feed.input.clone();
    let (shared, one) = (Service::new(&kafka, "kills", &input, 3), Service::new(&kafka, "kills-alone", &input, 1));
    let done = AtomicBool::new(false);
    let feed = std::thread::scope(|scope| {
        let until = Until(&done);
        let feeding = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                feed.minutes(1);
                std::thread::sleep(Duration::from_millis(150));
            }
            feed
        });
        let mut running = [Some(shared.start(0)), Some(shared.start(1)), None];
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for kill in 0..KILLS {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(Duration::from_millis(1500 + (random >> 33) % 3000));
            // The place that is empty is filled, and then another process dies.
            let empty = running.iter().position(Option::is_none).unwrap();
            running[empty] = Some(shared.start(empty));
            std::thread::sleep(Duration::from_millis((random >> 40) % 3000));
            let victim = (empty + 1 + kill % 2) % running.len();
            if let Some(mut running) = running[victim].take() {
                running.kill();
            }
        }
        let logs = (0..3).map(|process| std::fs::read_to_string(shared.setup.path(&format!("log-{process}"))).unwrap());
        let begun: Vec<usize> = logs.map(|log| log.matches("share starts").count()).collect();
        assert!(begun.iter().all(|begun| *begun > 0), "some never had a part: {begun:?}");
        for process in running.iter_mut().flatten() {
            assert_eq!(process.ended(), None, "{}", process.printed());
            process.kill();
        }
        drop(until);
        feeding.join().unwrap()
    });
    shared.finish(&feed.count).is_that_of(&one.finish(&feed.count));
}

/// Sets a flag when it goes.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn heavy_a_process_that_was_paused_finds_that_others_have_taken_over() {
    let Some(kafka) = kit::kafka() else { return };
    let mut feed = Feed::new(&kafka, "paused");
    feed.minutes(10);
    let shared = Service::new(&kafka, "paused", &feed.input, 2);
    let mut running = [0, 1].map(|process| shared.start(process));
    kit::wait_for("both to have a part", WAIT, || running.iter().all(|process| begun(process) > 0).then_some(()));
    let before = begun(&running[1]);
    running[0].signal("-STOP");
    feed.minutes(10);
    kit::wait_for("the other to take over", WAIT, || (begun(&running[1]) > before).then_some(()));
    shared.wait_for(&feed);
    running[0].signal("-CONT");
    feed.minutes(10);
    shared.wait_for(&feed);
    for process in &mut running {
        assert_eq!(process.ended(), None, "{}", process.printed());
        process.kill();
    }
    shared.finish(&feed.count);
}

#[test]
fn heavy_new_partitions_become_new_shares() {
    let Some(kafka) = kit::kafka() else { return };
    let mut feed = Feed::of(&kafka, "more", 2);
    feed.minutes(10);
    let shared = Service::new(&kafka, "more", &feed.input, 2);
    let mut running = [0, 1].map(|process| shared.start(process));
    shared.wait_for(&feed);
    kit::add_partitions(&kafka, &feed.input, 4);
    // One that knows of them.
    feed.sink = KafkaSink::open(&KafkaSettings::new(kafka.as_str())).unwrap();
    feed.partitions = 4;
    feed.minutes(10);
    shared.wait_for(&feed);
    running.iter_mut().for_each(kit::Running::kill);
    shared.finish(&feed.count);
}

#[test]
fn heavy_a_replay_can_be_shared() {
    let Some(kafka) = kit::kafka() else { return };
    let mut feed = Feed::new(&kafka, "replay");
    feed.minutes(60);
    let shared = Service::new(&kafka, "replay", &feed.input, 2);
    let mut running = [0, 1].map(|process| {
        let arguments = ["run", "-c", &shared.config(process), "--clock", "event", "--until-end"];
        kit::Running::start(&arguments, &shared.setup.path(&format!("log-{process}")))
    });
    for process in &mut running {
        assert!(process.finish(WAIT).success(), "{}", process.printed());
    }
    shared.output().check(&feed.count);
    shared.finish(&feed.count);
}

#[test]
fn heavy_who_is_busy_longer_than_the_group_allows_is_not_evicted() {
    static SLEPT: AtomicU32 = AtomicU32::new(0);
    let Some(kafka) = kit::kafka() else { return };
    let mut feed = Feed::new(&kafka, "busy");
    feed.minutes(5);
    let mut plan = compile(&without_probes()).unwrap();
    plan.sources[0].options.topic.clone_from(&feed.input);
    let name = kit::unique("busy");
    let settings = RunnerSettings {
        features_topic: format!("{name}-features"),
        dead_letter_topic: format!("{name}-dead-letters"),
        epochs_topic: format!("{name}-epochs"),
        probe: |step| {
            if step == CommitStep::Closed && SLEPT.fetch_add(1, Ordering::SeqCst) == 5 {
                std::thread::sleep(Duration::from_secs(10));
            }
        },
        ..RunnerSettings::new("requests", Arc::new(plan.clone()))
    };
    let client = KafkaSettings::new(kafka.as_str())
        .with("consumer.session.timeout.ms", "6000")
        .with("consumer.max.poll.interval.ms", "6000");
    let open = |partition, checkpoint: Option<&Checkpoint>| {
        let source = |table: &SourceTable| -> Result<Box<dyn prescale_ingest::Source>, PipelineError> {
            let reading = source_settings(table, Some(client.clone()), checkpoint, false);
            Ok(Box::new(KafkaSource::open(KafkaSourceSettings { only: Some(partition), ..reading })?))
        };
        plan.sources.iter().map(source).collect::<Result<Vec<_>, _>>()
    };
    let (sink, stop) = (KafkaSink::open(&client).unwrap(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _until = Until(&stop);
        let work = scope.spawn(|| run_shared(&settings, Span::from_secs(1), &open, &sink, &SystemClock, &stop));
        kit::wait_for("epochs", WAIT, || (SLEPT.load(Ordering::SeqCst) >= 4).then_some(()));
        for _ in 0..12 {
            feed.minutes(1);
            std::thread::sleep(Duration::from_secs(1));
        }
        kit::wait_for("all rows", WAIT, || {
            let output = Output::read(&kafka, &settings.features_topic, &settings.dead_letter_topic);
            let told = (0..PARTITIONS).map(|share| output.told.get(&(0, share)).copied());
            told.min().flatten().filter(|least| *least >= feed.reached())
        });
        stop.store(true, Ordering::Relaxed);
        work.join().unwrap().unwrap();
    });
    // Each share was begun once.
    let mut runs = BTreeMap::<_, BTreeSet<_>>::new();
    for record in kit::consume(&kafka, &settings.epochs_topic) {
        let run = record.json()["run"].as_str().unwrap().to_owned();
        runs.entry(String::from_utf8(record.key.unwrap()).unwrap()).or_default().insert(run);
    }
    let prefix = format!("prescale-{}-requests", settings.features_topic);
    let expected: Vec<String> = (0..PARTITIONS).map(|share| format!("{prefix}-{share}")).collect();
    assert_eq!(runs.keys().cloned().collect::<Vec<_>>(), expected);
    assert!(runs.values().all(|runs| runs.len() == 1), "{runs:?}");
}

#[test]
fn heavy_what_one_process_wrote_is_not_taken_over_by_several_nor_the_other_way() {
    let Some(kafka) = kit::kafka() else { return };
    let mut feed = Feed::new(&kafka, "switch");
    feed.minutes(3);
    for (before, after) in [(1_usize, 2), (2, 1)] {
        let processes = u32::try_from(before).unwrap();
        let service = Service::new(&kafka, "switch", &feed.input, processes);
        service.finish(&feed.count);
        // Also without the state of before.
        let setup = service.setup.with(&format!("[features]\nprocesses = {after}\n[state]\ndir = \"other\"\n"));
        let finished = kit::run(&["run", "-c", &setup.config(), "--clock", "event", "--until-end"]);
        let (features, who) = (setup.topic("features"), ["one process", "several processes"][before - 1]);
        assert_eq!(finished.code, Some(3), "{}", finished.stderr);
        let said = format!("pipeline `requests`: its rows on `{features}` were written by {who}, and ");
        assert!(finished.stderr.contains(&said), "{}", finished.stderr);
        let output = Output::read(&kafka, &features, &setup.topic("dead-letters"));
        output.check(&feed.count);
    }
}

#[test]
fn a_pipeline_that_does_not_follow_the_key_is_refused() {
    let region = without_probes().replace("    service,\n    window.start", "    route AS service,\n    window.start");
    let region = region.replace("        service,\n        tumble", "        route,\n        tumble");
    let region = region.replace("GROUP BY service, window", "GROUP BY route, window");
    let setup = Setup::new("localhost:1", "refused").file("requests.sql", &region);
    let setup = setup.with("[features]\nprocesses = 2\npipelines = [\"requests.sql\"]\n");
    let said = |setup: &Setup| {
        let finished = kit::run(&["check", "-c", &setup.config()]);
        assert_eq!(finished.code, Some(3), "{}", finished.stderr);
        finished.stderr
    };
    assert_eq!(
        said(&setup),
        "error: requests.sql: 2 processes can't share it: which column of `requests` is the key of its records is not known\n\
         hint: write features.record_keys = { requests = \"COLUMN\" }, or declare a column METADATA FROM 'key' and group by it\n"
    );
    let setup = setup.with("[features]\nrecord_keys = { requests = \"service\" }\n");
    assert_eq!(
        said(&setup),
        "error: requests.sql: 2 processes can't share it: the aggregation of `requests` groups by `route`, the window and not by the key of the records, `service` of `requests`: processes that share it would each give a part of the result\n\
         hint: put the key into GROUP BY, as it is in the source, or set features.processes = 1\n"
    );
    let setup = setup.file("requests.sql", &without_probes());
    assert_eq!(kit::run(&["check", "-c", &setup.config()]).code, Some(0));
}
