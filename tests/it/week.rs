//! A week of raw access-log lines through a real four-partition topic: windows, conservation, zeros, forecasts, decisions
//! and calls, exact and twice the same. Rule: every expected number comes from an independent count of the lines.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use prescale_domain::{Decision, FeaturesRecord, Timestamp};
use serde_json::Value;

use crate::kit;
use crate::kit::config::{SIMULATED, Setup};

const PARTITIONS: i32 = 4;
const MINUTE_MILLIS: i64 = 60_000;

/// The lines of a week, where they come from, and what an independent count finds in them.
pub(crate) struct Week {
    pub(crate) lines: Vec<String>,
    /// Whole lines by start of the minute.
    pub(crate) per_minute: BTreeMap<i64, u64>,
    /// Lines that are cut off or otherwise not in the format.
    pub(crate) malformed: u64,
}

impl Week {
    /// The recorded week where traces are present, otherwise a generated one.
    pub(crate) fn load() -> Self {
        let recorded = kit::traces().map(|traces| traces.join("raw/RECONSTRUCTED_nasa_clf_19950710_week.log.gz"));
        let lines = match recorded.filter(|path| path.is_file()) {
            Some(path) => read_lines(&path),
            None => generated_week(),
        };
        Self::of(lines)
    }

    pub(crate) fn of(lines: Vec<String>) -> Self {
        let (mut per_minute, mut malformed) = (BTreeMap::new(), 0);
        for line in &lines {
            match strict_minute(line) {
                Some(minute) => *per_minute.entry(minute).or_default() += 1,
                None => malformed += 1,
            }
        }
        Self { lines, per_minute, malformed }
    }

    /// The first `days` days.
    pub(crate) fn first_days(self, days: i64) -> Self {
        let first = *self.per_minute.keys().next().unwrap();
        let end = first + days * 24 * 60 * MINUTE_MILLIS;
        Self::of(self.lines.into_iter().filter(|line| minute_of(line) < end).collect())
    }

    /// Minutes between the first and the last, both included.
    pub(crate) fn minutes(&self) -> i64 {
        let (first, last) = (self.per_minute.keys().next().unwrap(), self.per_minute.keys().last().unwrap());
        (last - first) / MINUTE_MILLIS + 1
    }

    pub(crate) fn empty_minutes(&self) -> i64 {
        self.minutes() - self.per_minute.len() as i64
    }

    /// The lines by partition, with `injected` bad and as many late ones spread over them.
    pub(crate) fn partitions(&self, injected: usize) -> Vec<Vec<String>> {
        let mut partitions = vec![Vec::new(); PARTITIONS as usize];
        let every = self.lines.len() / (injected + 1);
        for (index, line) in self.lines.iter().enumerate() {
            let partition = &mut partitions[index % PARTITIONS as usize];
            partition.push(line.clone());
            if injected > 0 && index % every == every / 2 && index / every < injected {
                partition.push(format!("not an access log line {index}"));
                // Its window ended more than the lateness before the line above, in the same partition.
                let late = minute_of(line) - 5 * MINUTE_MILLIS;
                partition.push(format!("late.example - - [{}] \"GET /late HTTP/1.0\" 200 1", clf_time(late)));
            }
        }
        partitions
    }
}

fn read_lines(path: &PathBuf) -> Vec<String> {
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// A week with a daily cycle, an outage of 47 minutes and a fixed pseudo-random sequence: about as many lines an hour as
/// the recorded one in its quiet hours.
fn generated_week() -> Vec<String> {
    const START_MILLIS: i64 = 805_348_800_000; // 1995-07-10T04:00:00Z
    let (mut state, mut lines) = (7_u64, Vec::new());
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1_u32 << 31)
    };
    for minute in 0..7 * 24 * 60_i64 {
        if (4000..4047).contains(&minute) {
            continue;
        }
        let turn = (minute % 1440) as f64 / 1440.0 * std::f64::consts::TAU;
        let mean = 20.0 + 14.0 * turn.sin();
        let count = (mean + (random() + random() + random() - 1.5) * 2.0 * mean.sqrt()).max(1.0) as i64;
        for n in 0..count {
            let time = clf_time(START_MILLIS + minute * MINUTE_MILLIS + n * MINUTE_MILLIS / count);
            lines.push(format!("host{n}.example - - [{time}] \"GET /{n} HTTP/1.0\" 200 {}", 100 + n));
        }
    }
    lines
}

/// Start of the line's minute if the line is whole, by a strict reader that shares nothing with Prescale:
/// `host ident user [time] "request" status size`, and for Combined lines `"referer" "agent"` after it.
fn strict_minute(line: &str) -> Option<i64> {
    let mut rest = line;
    for _ in 0..3 {
        let (word, tail) = rest.split_once(' ')?;
        (!word.is_empty()).then_some(())?;
        rest = tail;
    }
    let (time, tail) = rest.strip_prefix('[')?.split_once("] ")?;
    let millis = chrono::DateTime::parse_from_str(time, "%d/%b/%Y:%H:%M:%S %z").ok()?.timestamp_millis();
    let tail = after_quoted(tail)?.strip_prefix(' ')?;
    let (status, tail) = tail.split_once(' ')?;
    (status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit())).then_some(())?;
    let (size, tail) = tail.split_once(' ').map_or((tail, None), |(size, tail)| (size, Some(tail)));
    (size == "-" || !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit())).then_some(())?;
    if let Some(tail) = tail {
        after_quoted(after_quoted(tail)?.strip_prefix(' ')?)?.is_empty().then_some(())?;
    }
    Some(millis.div_euclid(MINUTE_MILLIS) * MINUTE_MILLIS)
}

/// What follows a quoted text; a backslash takes the next character along.
fn after_quoted(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    for (index, character) in inside.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(&inside[index + 1..]),
            _ => {}
        }
    }
    None
}

/// Start of the minute that any line names, whole or cut off.
fn minute_of(line: &str) -> i64 {
    let time = line.split('[').nth(1).and_then(|rest| rest.split(']').next()).unwrap();
    let parsed = chrono::DateTime::parse_from_str(time, "%d/%b/%Y:%H:%M:%S %z").unwrap();
    parsed.timestamp_millis().div_euclid(MINUTE_MILLIS) * MINUTE_MILLIS
}

fn clf_time(millis: i64) -> String {
    chrono::DateTime::from_timestamp_millis(millis).unwrap().format("%d/%b/%Y:%H:%M:%S +0000").to_string()
}

/// A configuration for the week: one service, its log in the topic `input`; `target` is an inline TOML table.
fn setup(kafka: &str, name: &str, input: &str, mode: &str, target: &str) -> Setup {
    let pipeline = kit::root().join("pipelines/access_log.sql");
    let settings = format!(
        "mode = \"{mode}\"\n[topics]\npartitions = 2\n[features]\npipelines = [\"{}\"]\nlateness = \"60s\"\nsources = {{ access_log = \"{input}\" }}\n",
        pipeline.display()
    );
    Setup::new(kafka, name).with(&settings).service("web", 0.2, target)
}

/// What one replay left on its topics.
struct Replay {
    summary: Value,
    /// Requests by start of the minute, as last written; the row is as it was written.
    rows: BTreeMap<i64, Vec<Vec<u8>>>,
    decisions: Vec<Vec<u8>>,
}

impl Replay {
    #[track_caller]
    fn run(kafka: &str, setup: &Setup) -> Self {
        let config = setup.config();
        let arguments = ["run", "-c", &config, "--clock", "event", "--until-end", "--json"];
        let finished = kit::run(&arguments);
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let summary = serde_json::from_str(&finished.stdout).unwrap();
        Self { summary, rows: rows(kafka, setup), decisions: decisions(kafka, setup) }
    }

    fn count(&self, name: &str) -> u64 {
        self.summary["pipelines"]["access_log"][name].as_u64().unwrap()
    }
}

/// All copies of each row of the features topic, by window start.
fn rows(kafka: &str, setup: &Setup) -> BTreeMap<i64, Vec<Vec<u8>>> {
    let mut rows: BTreeMap<i64, Vec<Vec<u8>>> = BTreeMap::new();
    for record in kit::consume(kafka, &setup.topic("features")) {
        let value = record.value.unwrap();
        if let FeaturesRecord::Row(row) = FeaturesRecord::from_json(&value).unwrap() {
            rows.entry(row.window_start.millis()).or_default().push(value);
        }
    }
    rows
}

fn decisions(kafka: &str, setup: &Setup) -> Vec<Vec<u8>> {
    kit::consume(kafka, &setup.topic("decisions")).into_iter().map(|record| record.value.unwrap()).collect()
}

fn requests_of(row: &[u8]) -> u64 {
    serde_json::from_slice::<Value>(row).unwrap()["requests"].as_u64().unwrap()
}

fn produce(kafka: &str, topic: &str, partitions: &[Vec<String>]) {
    kit::create_topic(kafka, topic, partitions.len() as i32);
    for (partition, lines) in partitions.iter().enumerate() {
        kit::produce(kafka, topic, partition as i32, lines);
    }
}

#[test]
fn heavy_a_week_of_raw_lines_becomes_exact_windows_lstm_forecasts_and_the_recorded_calls() {
    const INJECTED: usize = 500;
    let (Some(kafka), Some(moto), Some(proxy)) = (kit::kafka(), kit::moto(), kit::aws_proxy()) else { return };
    let week = Week::load();
    let group = kit::unique("week");
    let run = |partitions: &[Vec<String>], endpoint: &str, suffix: &str| {
        let input = kit::unique("week");
        produce(&kafka, &input, partitions);
        let group = format!("{group}-{suffix}");
        kit::create_group(&group, 1, 14, 4);
        let target = format!(
            r#"{{ kind = "aws-asg", group = "{group}", min = 1, max = 40, price_usd_hour = 0.1, endpoint_url = "{endpoint}", region = "eu-west-1", allow_replay = true }}"#
        );
        let setup = setup(&kafka, &format!("week-{suffix}"), &input, "act", &target);
        (Replay::run(&kafka, &setup), group)
    };
    let partitions = week.partitions(INJECTED);
    let (first, group) = run(&partitions, &proxy, "a");

    // Windows and conservation.
    let found: BTreeMap<i64, u64> = first.rows.iter().map(|(start, rows)| (*start, requests_of(&rows[0]))).collect();
    assert_eq!(found, week.per_minute);
    let (read, injected) = (week.lines.len() as u64 + 2 * INJECTED as u64, INJECTED as u64);
    let whole: u64 = week.per_minute.values().sum();
    assert_eq!(first.count("read"), read);
    assert_eq!(first.count("windowed"), whole);
    assert_eq!(first.count("late"), injected);
    assert_eq!(first.count("bad"), injected + week.malformed);
    assert_eq!(first.count("filtered"), 0);
    let controller = &first.summary["controller"];
    assert_eq!(controller["windows"].as_i64().unwrap(), week.minutes());
    assert_eq!(
        (controller["zeros"].as_i64().unwrap(), controller["gaps"].as_i64().unwrap()),
        (week.empty_minutes(), 0)
    );
    assert_eq!(week.empty_minutes(), 47);

    // Forecasts.
    let decided: Vec<Decision> = first.decisions.iter().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect();
    assert_eq!(decided.len() as i64, week.minutes());
    let day_two = decided[0].at + prescale_domain::Span::from_minutes(24 * 60);
    let later: Vec<_> = decided.iter().filter(|decision| decision.at >= day_two).collect();
    let by_lstm = later
        .iter()
        .filter(|decision| decision.inputs.forecast.as_ref().is_some_and(|f| f.reason.starts_with("champion")))
        .count();
    assert!(by_lstm * 100 >= later.len() * 95, "{by_lstm} of {} minutes by the LSTM: {controller}", later.len());

    // Calls.
    let asked: Vec<u32> = decided
        .iter()
        .filter(|decision| decision.inputs.target.is_some_and(|target| target.desired != decision.desired))
        .map(|decision| decision.desired.clamp(1, 14))
        .collect();
    assert_eq!(kit::granted_capacities(&proxy, &group), asked);
    assert!(asked.len() > 100, "{} calls", asked.len());
    assert_eq!(kit::group(&group)["DesiredCapacity"], *asked.last().unwrap());

    // Twice the same; and whoever does not know the rest of the week decides the same in its first days.
    let end = *week.per_minute.keys().next().unwrap() + 3 * 24 * 60 * MINUTE_MILLIS;
    // What is no line of the log comes right after one that is.
    let of_first_days = |lines: &Vec<String>| {
        let until = lines.iter().position(|line| line.contains('[') && minute_of(line) >= end);
        lines[..until.unwrap_or(lines.len())].to_vec()
    };
    let (second, _) = run(&partitions.iter().map(of_first_days).collect::<Vec<_>>(), &moto, "b");
    assert_eq!(second.decisions.len(), 3 * 24 * 60);
    let differ = first.decisions.iter().zip(&second.decisions).position(|(a, b)| a != b);
    assert_eq!(differ, None, "decision that differs");
}

#[test]
fn heavy_killed_ten_times_a_replay_writes_each_row_once() {
    let Some(kafka) = kit::kafka() else { return };
    let week = Week::load().first_days(2);
    let input = kit::unique("kills");
    produce(&kafka, &input, &week.partitions(50));
    let undisturbed = setup(&kafka, "kills-a", &input, "recommend", SIMULATED);
    let expected = Replay::run(&kafka, &undisturbed);

    let disturbed = setup(&kafka, "kills-b", &input, "recommend", SIMULATED);
    let config = disturbed.config();
    let arguments = ["run", "-c", &config, "--clock", "event", "--until-end", "--json"];
    let mut kills = 0;
    let mut random =
        kit::unique("x").bytes().fold(7_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    while kills < 10 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut running = kit::Running::start(&arguments, &disturbed.path("log"));
        std::thread::sleep(std::time::Duration::from_millis(300 + (random >> 33) % 1500));
        running.kill();
        kills += 1;
    }
    let repeated = Replay::run(&kafka, &disturbed);

    assert_eq!(expected.rows.keys().collect::<Vec<_>>(), repeated.rows.keys().collect::<Vec<_>>());
    for (start, copies) in &repeated.rows {
        assert!(expected.rows[start].len() == 1, "{}", Timestamp::from_millis(*start));
        assert!(*copies == expected.rows[start], "{}: {} copies", Timestamp::from_millis(*start), copies.len());
    }
    let by_id = |decisions: &[Vec<u8>]| -> BTreeMap<String, Vec<Vec<u8>>> {
        let mut all: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        for bytes in decisions {
            let id = serde_json::from_slice::<Value>(bytes).unwrap()["id"].as_str().unwrap().to_owned();
            all.entry(id).or_default().push(bytes.clone());
        }
        all
    };
    let (expected_decisions, repeated_decisions) = (by_id(&expected.decisions), by_id(&repeated.decisions));
    assert_eq!(expected_decisions.keys().collect::<Vec<_>>(), repeated_decisions.keys().collect::<Vec<_>>());
    for (id, copies) in &repeated_decisions {
        assert!(copies.iter().all(|copy| *copy == expected_decisions[id][0]), "{id}");
    }
    assert_eq!(history(&undisturbed), history(&disturbed));
    for name in ["read", "windowed", "late", "bad"] {
        assert_eq!(expected.count(name), repeated.count(name), "{name}");
    }
}

fn history(setup: &Setup) -> prescale_store::Entries {
    use prescale_store::Store as _;
    let store = prescale_store::RedbStore::open(&setup.path("state")).unwrap();
    store.range(prescale_store::Table::History, b"web", b"wec", usize::MAX, false).unwrap()
}

#[test]
fn the_combined_log_has_no_late_line_and_sql_over_files_gives_the_windows_of_run() {
    let Some(kafka) = kit::kafka() else { return };
    let Some(path) = kit::traces().map(|traces| traces.join("raw/apache_combined_semicomplete_2015.log.gz")) else {
        return;
    };
    let log = Week::of(read_lines(&path));
    let input = kit::unique("combined");
    produce(&kafka, &input, std::slice::from_ref(&log.lines));
    let setup = setup(&kafka, "combined", &input, "observe", SIMULATED);
    let replay = Replay::run(&kafka, &setup);
    assert_eq!((replay.count("late"), replay.count("bad")), (0, log.malformed));
    let found: BTreeMap<i64, u64> = replay.rows.iter().map(|(start, rows)| (*start, requests_of(&rows[0]))).collect();
    assert_eq!(found, log.per_minute);

    let pipeline = kit::root().join("pipelines/access_log.sql");
    let file = format!("access_log={}", path.display());
    let sql = kit::run(&["sql", pipeline.to_str().unwrap(), "--input", &file, "--output", "-"]);
    assert_eq!(sql.code, Some(0), "{}", sql.stderr);
    let of_run: Vec<&[u8]> = replay.rows.values().map(|rows| &*rows[0]).collect();
    let of_sql: Vec<&[u8]> = sql.stdout.lines().map(str::as_bytes).collect();
    assert_eq!(of_run, of_sql);
}
