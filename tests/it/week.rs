//! A week of raw access-log lines through a real four-partition topic: windows, conservation, zeros, forecasts, decisions
//! and calls, exact and twice the same. Rule: every expected number comes from an independent count of the lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use prescale_domain::{Decision, FeaturesRecord, Timestamp};

use crate::kit;

const PARTITIONS: i32 = 4;
const INJECTED: usize = 500;
const MINUTE_MILLIS: i64 = 60_000;

/// The lines of a week, where they come from, and what an independent count finds in them.
pub(crate) struct Week {
    pub(crate) lines: Vec<String>,
    /// Requests by start of the minute.
    pub(crate) per_minute: BTreeMap<i64, u64>,
}

impl Week {
    /// The recorded week where traces are present, otherwise a generated one.
    pub(crate) fn load() -> Self {
        let recorded = kit::traces().map(|traces| traces.join("raw/RECONSTRUCTED_nasa_clf_19950710_week.log.gz"));
        let lines = match recorded.filter(|path| path.is_file()) {
            Some(path) => read_lines(&path),
            None => generated_week(),
        };
        let mut per_minute = BTreeMap::new();
        for line in &lines {
            *per_minute.entry(minute_of(line)).or_default() += 1;
        }
        Self { lines, per_minute }
    }

    /// The first `days` days.
    pub(crate) fn first_days(mut self, days: i64) -> Self {
        let first = *self.per_minute.keys().next().unwrap();
        let end = first + days * 24 * 60 * MINUTE_MILLIS;
        self.lines.retain(|line| minute_of(line) < end);
        self.per_minute.retain(|minute, _| *minute < end);
        self
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
                // Its window ended more than the lateness before the newest line of this partition.
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

/// Start of the line's minute, read without anything of Prescale.
fn minute_of(line: &str) -> i64 {
    let time = line.split('[').nth(1).and_then(|rest| rest.split(']').next()).unwrap();
    let parsed = chrono::DateTime::parse_from_str(time, "%d/%b/%Y:%H:%M:%S %z").unwrap();
    parsed.timestamp_millis().div_euclid(MINUTE_MILLIS) * MINUTE_MILLIS
}

fn clf_time(millis: i64) -> String {
    chrono::DateTime::from_timestamp_millis(millis).unwrap().format("%d/%b/%Y:%H:%M:%S +0000").to_string()
}

/// A configuration for the week: four-partition input, one service, an Auto Scaling group or a simulated fleet.
pub(crate) struct Setup {
    pub(crate) name: String,
    pub(crate) input: String,
    pub(crate) directory: tempfile::TempDir,
}

impl Setup {
    /// Topics and a configuration file of their own; `target` is the inline TOML table of the target.
    pub(crate) fn new(kafka: &str, name: &str, input: &str, mode: &str, target: &str) -> Self {
        let name = kit::unique(name);
        let directory = tempfile::tempdir().unwrap();
        let mut toml = String::new();
        write!(
            toml,
            r#"mode = "{mode}"
[kafka]
bootstrap_servers = "{kafka}"
[topics]
features = "{name}-features"
events = "{name}-events"
forecasts = "{name}-forecasts"
decisions = "{name}-decisions"
actuations = "{name}-actuations"
dead_letters = "{name}-dead-letters"
partitions = 2
[features]
pipelines = ["{pipeline}"]
lateness = "60s"
sources = {{ access_log = "{input}" }}
[state]
dir = "{state}"
[serve]
listen = "127.0.0.1:0"
[[services]]
name = "web"
unit_capacity = 0.2
target = {target}
"#,
            pipeline = kit::root().join("pipelines/access_log.sql").display(),
            state = directory.path().join("state").display(),
        )
        .unwrap();
        std::fs::write(directory.path().join("prescale.toml"), toml).unwrap();
        Self { name, input: input.to_owned(), directory }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("prescale.toml")
    }

    pub(crate) fn topic(&self, kind: &str) -> String {
        format!("{}-{kind}", self.name)
    }
}
