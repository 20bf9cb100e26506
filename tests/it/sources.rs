//! Where a back-test takes its history from: topics, a Prometheus, files. Rule: the same loads give the same report and the
//! same decisions, byte for byte, and reading changes nothing.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::history::{csv, load, prometheus, start, text};
use crate::kit::config::{SIMULATED, Setup};
use crate::kit::{self, Finished};
use crate::week::Week;

const WAIT: Duration = Duration::from_secs(30);

/// What costs little, since it is not about models or systems.
const FEW_MODELS: &str = "[forecast]\nmodels = [\"seasonal-naive\", \"naive\", \"holt\"]\n";

fn back_test(config: &str, more: &[&str]) -> Finished {
    let mut arguments = vec!["backtest", "-c", config, "--seeds", "1", "--baselines", "hpa"];
    arguments.extend(more);
    kit::run(&arguments)
}

/// The files of a back-test that goes well, by name: the report without how long its parts took, and the decisions.
#[track_caller]
fn files(config: &str, out: &Path, more: &[&str]) -> (Vec<(String, String)>, String) {
    let finished = back_test(config, &[more, &["--out", out.to_str().unwrap()]].concat());
    assert_eq!(finished.code, Some(0), "{more:?}: {}", finished.stderr);
    let mut found: Vec<(String, String)> = Vec::new();
    for entry in std::fs::read_dir(out).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = || std::fs::read_to_string(&path).unwrap();
        if name == "report.json" {
            let mut report: Value = serde_json::from_str(&text()).unwrap();
            assert!(report.as_object_mut().unwrap().remove("timings").is_some());
            found.push((name, report.to_string()));
        } else if name.ends_with(".ndjson") {
            found.push((name, text()));
        }
    }
    found.sort();
    (found, finished.stderr)
}

#[track_caller]
fn same(expected: &[(String, String)], found: &[(String, String)]) {
    let names = |files: &[(String, String)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(expected), names(found));
    for ((name, expected), (_, found)) in expected.iter().zip(found) {
        if let Some((line, (a, b))) = expected.lines().zip(found.lines()).enumerate().find(|(_, (a, b))| a != b) {
            panic!("{name} line {line} differs:\n{a}\n{b}");
        }
        assert_eq!(expected.len(), found.len(), "{name}");
    }
}

#[track_caller]
fn refused(finished: &Finished, code: i32, parts: &[&str]) {
    assert_eq!(finished.code, Some(code), "{}", finished.stderr);
    for part in parts {
        assert!(finished.stderr.contains(part), "{part}\n{}", finished.stderr);
    }
}

/// What a broker holds that reading could have changed: topics that begin with `name`, their ends, and what groups have
/// committed of `topic`.
fn held(kafka: &str, name: &str, topic: &str) -> String {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka).set("allow.auto.create.topics", "false");
    let plain: BaseConsumer = config.create().unwrap();
    let mut held = String::new();
    let metadata = plain.fetch_metadata(None, WAIT).unwrap();
    let mut topics: Vec<_> = metadata.topics().iter().filter(|found| found.name().starts_with(name)).collect();
    topics.sort_by_key(|found| found.name());
    for found in topics {
        for partition in found.partitions() {
            let ends = plain.fetch_watermarks(found.name(), partition.id(), WAIT).unwrap();
            writeln!(held, "{}/{}: {ends:?}", found.name(), partition.id()).unwrap();
        }
    }
    // The group that the SQL names, and the one that librdkafka is given where none is used.
    for group in ["prescale-access-log", "prescale-unused"] {
        let member: BaseConsumer = config.clone().set("group.id", group).create().unwrap();
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, 0);
        let committed = member.committed_offsets(asked, WAIT).unwrap();
        let offset = committed.find_partition(topic, 0).unwrap().offset();
        assert_eq!(offset, Offset::Invalid, "{group}");
    }
    let groups = plain.fetch_group_list(None, WAIT).unwrap();
    for group in groups.groups().iter().filter(|group| group.name().contains(name)) {
        writeln!(held, "group {}", group.name()).unwrap();
    }
    held
}

#[test]
fn heavy_a_back_test_of_topics_is_that_of_a_file_of_their_records_and_changes_nothing() {
    let Some(kafka) = kit::kafka() else { return };
    let week = Week::load().first_days(2);
    let setup = Setup::new(&kafka, "from-kafka");
    let input = setup.topic("lines");
    let partitions = week.partitions(0);
    kit::create_topic(&kafka, &input, partitions.len() as i32);
    for (partition, lines) in partitions.iter().enumerate() {
        kit::produce(&kafka, &input, partition as i32, lines);
    }
    let pipeline = kit::root().join("pipelines/access_log.sql");
    let more = format!(
        "{FEW_MODELS}[features]\npipelines = [\"{}\"]\nsources = {{ access_log = \"{input}\" }}\n",
        pipeline.display()
    );
    let setup = setup.with(&more).service("web", 0.2, SIMULATED).file("access.log", &(week.lines.join("\n") + "\n"));
    let (config, log) = (setup.config(), setup.path("access.log"));
    let (expected, _) = files(&config, &setup.path("of-file"), &["--history", log.to_str().unwrap()]);
    let before = held(&kafka, input.trim_end_matches("lines"), &input);
    let (found, said) = files(&config, &setup.path("of-topic"), &["--from-kafka"]);
    same(&expected, &found);
    assert!(said.contains(&format!("{input}: {} records", week.lines.len())), "{said}");
    assert!(expected.iter().any(|(name, text)| name == "web.decisions.ndjson" && text.lines().count() > 700));
    // Topics of its own are not made, nothing was written, and no group has an offset.
    assert_eq!(held(&kafka, input.trim_end_matches("lines"), &input), before);
    assert_eq!(before.lines().count(), partitions.len(), "{before}");

    // From an offset, and from a time, on.
    let (_, said) = files(&config, &setup.path("of-offset"), &["--from-kafka", "--from-offset", "1000"]);
    let left = week.lines.len() - 1000 * partitions.len();
    assert!(said.contains(&format!("{input}: {left} records")), "{said}");
    let (of_time, _) =
        files(&config, &setup.path("of-time"), &["--from-kafka", "--from-timestamp", "2020-01-01T00:00:00Z"]);
    same(&expected, &of_time);
    let later = (Utc::now() + TimeDelta::hours(1)).to_rfc3339();
    let finished = back_test(&config, &["--from-kafka", "--from-timestamp", &later]);
    refused(&finished, 4, &["it holds no records from", "hint: begin earlier"]);
}

#[test]
fn topics_that_cannot_be_read_are_refused_with_what_to_do() {
    let Some(kafka) = kit::kafka() else { return };
    let pipeline = kit::root().join("pipelines/access_log.sql");
    let of = |kafka: &str, service: &str| {
        let setup = Setup::new(kafka, "no-kafka");
        let topic = setup.topic("lines");
        let more =
            format!("[features]\npipelines = [\"{}\"]\nsources = {{ access_log = \"{topic}\" }}\n", pipeline.display());
        (setup.with(&more).service(service, 1.0, SIMULATED), topic)
    };
    let (setup, topic) = of("127.0.0.1:1", "web");
    let finished = back_test(&setup.config(), &["--from-kafka"]);
    refused(&finished, 4, &[&topic, "broker 127.0.0.1:1 can't be reached", "hint: see that the brokers run"]);

    let (setup, topic) = of(&kafka, "web");
    let ask = || back_test(&setup.config(), &["--from-kafka"]);
    refused(&ask(), 4, &[&topic, "does not exist", "hint: correct the name of the topic"]);
    kit::create_topic(&kafka, &topic, 2);
    refused(&ask(), 4, &[&topic, "it holds no records", "hint: write some to it"]);

    // The records are there, and of another service than both that are configured.
    let (setup, topic) = of(&kafka, "cart");
    let setup = setup.service("search", 1.0, SIMULATED);
    kit::create_topic(&kafka, &topic, 1);
    kit::produce(&kafka, &topic, 0, Week::load().lines.iter().take(200));
    let finished = back_test(&setup.config(), &["--from-kafka"]);
    refused(
        &finished,
        3,
        &["nothing of the configuration's services", "requests_per_second of web", "hint: name a service"],
    );

    let setup = Setup::new(&kafka, "no-sql").service("web", 1.0, SIMULATED);
    let finished = back_test(&setup.config(), &["--from-kafka"]);
    refused(&finished, 3, &["--from-kafka reads records through the feature SQL", "hint: name it under [features]"]);
    let finished = back_test(&setup.config(), &["--from-kafka", "--history", "x.csv"]);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
}

const WINDOWS: i64 = 4 * 1440;

/// The loads of both services that the Prometheus of the tests holds, one row for each window that is no gap.
fn both(start: DateTime<Utc>) -> String {
    let mut made = "service,timestamp,value\n".to_owned();
    for window in 0..WINDOWS {
        let Some(load) = load(window) else { continue };
        let time = text(start + TimeDelta::minutes(window));
        writeln!(made, "cart,{time},{}\nweb,{time},{load}", 0.5 * load).unwrap();
    }
    made
}

#[test]
fn a_back_test_of_a_prometheus_is_that_of_a_file_of_the_same_windows() {
    let Some(program) = kit::prometheus() else { return };
    let (folder, start) = (tempfile::tempdir().unwrap(), start(WINDOWS));
    let (mut server, url) = prometheus(&program, folder.path(), start, WINDOWS);
    let (from, to) = (text(start), text(start + TimeDelta::minutes(WINDOWS)));
    let setup = || {
        let setup = Setup::new("localhost:9092", "from-prometheus").with(FEW_MODELS);
        setup.file("both.csv", &both(start)).file("web.csv", &csv(start, WINDOWS))
    };
    let several = setup().service("web", 10.0, SIMULATED).service("cart", 5.0, SIMULATED);
    let config = several.config();
    let csv = several.path("both.csv");
    let (expected, _) = files(&config, &several.path("csv"), &["--history", csv.to_str().unwrap()]);
    assert_eq!(expected.len(), 3);
    let query = "last_over_time(load[59s])";
    let between = ["--start", from.as_str(), "--end", to.as_str()];
    let asked = ["--prometheus", &url, "--query", query, "--service-column", "service"];
    let (found, _) = files(&config, &several.path("asked"), &[&asked[..], &between].concat());
    same(&expected, &found);

    // What the configuration names is taken where nothing is named on the command line.
    let history = format!(
        r#"{{ kind = "prometheus", url = "{url}", query = "last_over_time(load{{service='web'}}[59s])", from = "{from}", to = "{to}" }}"#
    );
    let one = setup().service("web", 10.0, &format!("{SIMULATED}\nhistory = {history}"));
    let web = one.path("web.csv");
    let (expected, _) = files(&one.config(), &one.path("csv"), &["--history", web.to_str().unwrap()]);
    let (found, _) = files(&one.config(), &one.path("configured"), &[]);
    same(&expected, &found);

    let ask = |config: &str, query: &str, more: &[&str]| {
        back_test(config, &[&["--history", &url, "--query", query][..], &between, more].concat())
    };
    refused(&ask(&config, query, &[]), 3, &["the query has 2 series", "hint: add them up"]);
    let single = "sum(last_over_time(load[59s]))";
    refused(&ask(&config, single, &[]), 3, &["names no services, and the configuration has 2", "--service-column"]);
    refused(&ask(&config, single, &["--service-column", "service"]), 3, &["has no label `service`", "hint: keep it"]);
    refused(&ask(&config, "absent(load) > 5", &["--service-column", "x"]), 3, &["has no services"]);
    refused(&ask(&one.config(), "load > 1e9", &[]), 3, &["there are no rows", "hint: see in Prometheus"]);
    refused(&back_test(&config, &["--history", &url]), 3, &["hint: add --query PROMQL"]);
    refused(&back_test(&config, &["--history", "x.csv", "--query", "up"]), 3, &["is a file", "hint: name the URL"]);
    refused(&back_test(&config, &[]), 3, &["no history is named", "--from-kafka"]);
    server.kill();
    refused(&ask(&one.config(), "load", &[]), 4, &["hint: see that Prometheus can be reached"]);
    refused(&back_test(&one.config(), &[]), 4, &["service `web`", "hint: see that Prometheus can be reached"]);
}
