//! Records in Confluent's wire format, with their schemas in a real registry. Rule: each record is counted once, under the
//! schema that it names, and a registry that is away costs time only.

use std::process::Command;
use std::time::Duration;

use prescale_ingest::registry::{Registry, RegistrySettings};
use serde_json::{Value, json};

use crate::kit;
use crate::kit::OwnRegistry;
use crate::kit::config::Setup;

/// 2026-01-01T00:00:00Z
const START_MILLIS: i64 = 1_767_225_600_000;
const WAIT: Duration = Duration::from_secs(90);

/// Minute windows of one source table, by service.
fn sql(table: &str, topic: &str, columns: &str, with: &str) -> String {
    format!(
        "CREATE TABLE {table} (ts TIMESTAMP NOT NULL, service TEXT NOT NULL, {columns}, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
WITH (connector = 'kafka', type = 'source', topic = '{topic}', 'source.offset' = 'earliest', {with});
CREATE TABLE features WITH (connector = 'kafka', type = 'sink', topic = 'features', format = 'json');
INSERT INTO features
SELECT service, window.start AS window_start, window.end AS window_end, requests, latency_ms_sum, regions, statuses
FROM (
    SELECT service, tumble(INTERVAL '1 minute') AS window, count(*) AS requests, sum(latency_ms) AS latency_ms_sum,
        count(region) AS regions, count(status) AS statuses
    FROM {table} GROUP BY service, window
);"
    )
}

const COLUMNS: &str = "status INT, latency_ms DOUBLE, region TEXT";

/// A subject's next version; gives its id.
#[track_caller]
fn register(registry: &str, subject: &str, kind: &str, schema: &str) -> u32 {
    let body = json!({ "schemaType": kind, "schema": schema }).to_string();
    let (status, answer) = kit::http_post(&format!("{registry}/subjects/{subject}/versions"), &body);
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["id"].as_u64().unwrap().try_into().unwrap()
}

fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], body].concat()
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64, out: &mut Vec<u8>) {
    varint(((value << 1) ^ (value >> 63)) as u64, out);
}

fn text(value: &str, out: &mut Vec<u8>) {
    zigzag(value.len() as i64, out);
    out.extend_from_slice(value.as_bytes());
}

const AVRO_FIRST: &str = r#"{"type": "record", "name": "Request", "namespace": "shop", "fields": [
    {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "service", "type": "string"},
    {"name": "status", "type": ["null", "int"], "default": null},
    {"name": "latency_ms", "type": "double"}]}"#;

/// A field more, which has a default, and one less.
const AVRO_SECOND: &str = r#"{"type": "record", "name": "Request", "namespace": "shop", "fields": [
    {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "region", "type": "string", "default": "eu"},
    {"name": "service", "type": "string"},
    {"name": "latency_ms", "type": "double"}]}"#;

fn avro_first(millis: i64, service: &str, latency: f64) -> Vec<u8> {
    let mut out = Vec::new();
    zigzag(millis, &mut out);
    text(service, &mut out);
    zigzag(1, &mut out);
    zigzag(200, &mut out);
    out.extend_from_slice(&latency.to_le_bytes());
    out
}

fn avro_second(millis: i64, service: &str, latency: f64) -> Vec<u8> {
    let mut out = Vec::new();
    zigzag(millis, &mut out);
    text("us", &mut out);
    text(service, &mut out);
    out.extend_from_slice(&latency.to_le_bytes());
    out
}

const PROTO_FIRST: &str = r#"syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
message Other { string note = 1; }
message Request {
  google.protobuf.Timestamp ts = 1;
  string service = 2;
  optional int32 status = 3;
  double latency_ms = 4;
}
"#;

const PROTO_SECOND: &str = r#"syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
message Other { string note = 1; }
message Request {
  google.protobuf.Timestamp ts = 1;
  string service = 2;
  reserved 3;
  double latency_ms = 4;
  optional string region = 5;
}
"#;

/// With its message index: one index, the second message of the file.
fn proto(millis: i64, service: &str, latency: f64, last: (u8, &[u8])) -> Vec<u8> {
    let mut time = vec![0x08];
    varint((millis / 1000) as u64, &mut time);
    time.push(0x10);
    varint((millis % 1000 * 1_000_000) as u64, &mut time);
    let mut out = vec![2, 2, 0x0a];
    varint(time.len() as u64, &mut out);
    out.extend(time);
    out.push(0x12);
    varint(service.len() as u64, &mut out);
    out.extend_from_slice(service.as_bytes());
    out.push(0x21);
    out.extend_from_slice(&latency.to_le_bytes());
    out.push(last.0);
    out.extend_from_slice(last.1);
    out
}

/// By service: requests, sum of latencies, records with a region and with a status, in all windows.
#[track_caller]
fn totals(kafka: &str, topic: &str, service: &str) -> (u64, f64, u64, u64) {
    let rows = kit::consume(kafka, topic).into_iter().map(|record| record.json());
    let mine = rows.filter(|row| row["service"] == service);
    mine.fold((0, 0.0, 0, 0), |sum, row| {
        let count = |name: &str| row[name].as_u64().unwrap();
        let latency = sum.1 + row["latency_ms_sum"].as_f64().unwrap();
        (sum.0 + count("requests"), latency, sum.2 + count("regions"), sum.3 + count("statuses"))
    })
}

#[test]
fn avro_json_and_protobuf_are_read_by_the_schemas_that_records_name_also_when_they_change() {
    let (Some(kafka), Some(registry)) = (kit::kafka(), kit::registry()) else { return };
    let name = kit::unique("registry");
    let (avro, protobuf) = (format!("{name}-avro-value"), format!("{name}-protobuf-value"));
    let avro_ids = [AVRO_FIRST, AVRO_SECOND].map(|schema| register(&registry, &avro, "AVRO", schema));
    let proto_ids = [PROTO_FIRST, PROTO_SECOND].map(|schema| register(&registry, &protobuf, "PROTOBUF", schema));
    let unknown = 2_000_000_000;

    let millis = |n: i64| START_MILLIS + n * 1000;
    let mut avro_records: Vec<_> = (0..90).map(|n| framed(avro_ids[0], &avro_first(millis(n), "avro", 0.5))).collect();
    let stranger = framed(unknown, b"\x01\xff\x00 bytes of nobody");
    let whole = framed(avro_ids[0], &avro_first(millis(90), "avro", 0.5));
    let cut = whole[..whole.len() - 2].to_vec();
    // Known to the registry, and of another language.
    let other = framed(proto_ids[0], b"?");
    avro_records.extend([stranger.clone(), cut.clone(), other.clone()]);
    avro_records.extend((90..180).map(|n| framed(avro_ids[1], &avro_second(millis(n), "avro", 2.0))));
    // Both schemas side by side.
    avro_records.extend((180..200).map(|n| match n % 2 {
        0 => framed(avro_ids[0], &avro_first(millis(n), "avro", 0.5)),
        _ => framed(avro_ids[1], &avro_second(millis(n), "avro", 2.0)),
    }));
    let json_records: Vec<_> = (0..200)
        .map(|n| {
            let time = chrono::DateTime::from_timestamp_millis(millis(n)).unwrap().to_rfc3339();
            let record = json!({ "ts": time, "service": "json", "latency_ms": 1.5, "status": 200 });
            // The id is not asked for: JSON needs no schema to be read.
            framed(unknown, record.to_string().as_bytes())
        })
        .collect();
    let first = (0..100).map(|n| framed(proto_ids[0], &proto(millis(n), "protobuf", 0.25, (0x18, &[0xc8, 1]))));
    let second = (100..200).map(|n| framed(proto_ids[1], &proto(millis(n), "protobuf", 0.25, (0x2a, b"\x02us"))));
    let proto_records: Vec<_> = first.chain(second).collect();

    let mut setup = Setup::new(&kafka, "registry")
        .with(&format!(
            "[schema_registry]\nendpoint = \"{registry}\"\n[features]\npipelines = [\"a.sql\", \"j.sql\", \"p.sql\"]"
        ))
        .with("[features.formats]\nProtoRequests = { kind = \"protobuf-registry\" }");
    for (file, table, topic, with, records) in [
        (
            "a.sql",
            "avro_requests",
            "in-avro",
            "format = 'avro', 'avro.confluent_schema_registry' = 'true', 'schema_registry.endpoint' = 'http://127.0.0.1:1'",
            &avro_records,
        ),
        (
            "j.sql",
            "json_requests",
            "in-json",
            "format = 'json', 'json.confluent_schema_registry' = 'true'",
            &json_records,
        ),
        ("p.sql", "protorequests", "in-protobuf", "format = 'json'", &proto_records),
    ] {
        let topic = setup.topic(topic);
        kit::create_topic(&kafka, &topic, 1);
        kit::produce(&kafka, &topic, 0, records);
        setup = setup.file(file, &sql(table, &topic, COLUMNS, with));
    }
    let config = setup.config();
    let checked = kit::run(&["check", "-c", &config]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let finished = kit::run(&["run", "-c", &config, "--clock", "event", "--until-end", "--json"]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let summary: Value = serde_json::from_str(finished.stdout.trim()).unwrap();
    for (pipeline, read, windowed) in [("a", 203, 200), ("j", 200, 200), ("p", 200, 200)] {
        let fates = &summary["pipelines"][pipeline];
        let expected = json!({ "read": read, "windowed": windowed, "filtered": 0, "late": 0, "future": 0, "bad": read - windowed });
        assert_eq!(fates, &expected, "{pipeline}");
    }
    let features = setup.topic("features");
    assert_eq!(totals(&kafka, &features, "avro"), (200, 100.0 * 0.5 + 100.0 * 2.0, 100, 100));
    assert_eq!(totals(&kafka, &features, "json"), (200, 300.0, 0, 200));
    assert_eq!(totals(&kafka, &features, "protobuf"), (200, 50.0, 100, 100));
    let letters: Vec<_> =
        kit::consume(&kafka, &setup.topic("dead-letters")).into_iter().map(|letter| letter.value.unwrap()).collect();
    assert_eq!(letters, [stranger, cut, other], "{letters:?}");
}

#[test]
fn the_client_tells_a_schema_that_is_not_there_from_a_registry_that_is_elsewhere() {
    let Some(registry) = kit::registry() else { return };
    let open = |endpoint: &str| {
        Registry::open(&RegistrySettings { endpoint: endpoint.to_owned(), ..RegistrySettings::default() }).unwrap()
    };
    assert_eq!(open(&registry).schema(1_999_999_999).unwrap(), None);
    let error = open(&registry.replace("/apis/ccompat/v7", "")).schema(1).unwrap_err().to_string();
    assert!(error.contains("has to end where"), "{error}");
}

/// Fates of the records of the only pipeline, once it has closed an epoch.
fn fates(port: u16) -> Option<Vec<(String, u64)>> {
    let (_, text) = kit::try_http_get(&format!("http://127.0.0.1:{port}/metrics"))?;
    let lines = text.lines().filter(|line| {
        line.starts_with("prescale_pipeline_read_rows{") || line.starts_with("prescale_pipeline_fate_rows{")
    });
    let fate = |line: &str| {
        let name = line.split("fate=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("read");
        Some((name.to_owned(), line.rsplit(' ').next()?.parse().ok()?))
    };
    lines.map(fate).collect::<Option<Vec<_>>>().filter(|fates| !fates.is_empty())
}

#[track_caller]
fn wait_for_read(port: u16, expected: u64) -> Vec<(String, u64)> {
    kit::wait_for(&format!("{expected} records read"), WAIT, || {
        fates(port).filter(|fates| fates.iter().any(|(name, count)| name == "read" && *count == expected))
    })
}

/// Asks a process to end, as a service manager does.
#[track_caller]
fn terminate(running: &kit::Running) {
    let status = Command::new("kill").arg(running.id().to_string()).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_registry_that_is_killed_holds_the_pipeline_back_and_nothing_is_lost() {
    let (Some(kafka), Some(own)) = (kit::kafka(), OwnRegistry::start()) else { return };
    let registry = own.endpoint();
    let ids = [AVRO_FIRST, AVRO_SECOND].map(|schema| register(&registry, "requests-value", "AVRO", schema));
    let port = kit::free_port();
    let setup = Setup::new(&kafka, "registry-killed")
        .with(&format!("serve.listen = \"127.0.0.1:{port}\"\n[features]\npipelines = [\"requests.sql\"]"));
    let input = setup.topic("requests");
    let with = format!(
        "format = 'avro', 'avro.confluent_schema_registry' = 'true', 'schema_registry.endpoint' = '{registry}'"
    );
    let setup = setup.file("requests.sql", &sql("requests", &input, COLUMNS, &with));
    kit::create_topic(&kafka, &input, 1);
    let millis = |n: i64| START_MILLIS + n * 1000;
    let first = |from: i64| (from..from + 100).map(|n| framed(ids[0], &avro_first(millis(n), "checkout", 1.0)));
    let second = (100..200).map(|n| framed(ids[1], &avro_second(millis(n), "checkout", 1.0)));

    let config = setup.config();
    let log = setup.path("log");
    let start = || kit::Running::start(&["run", "-c", &config, "--clock", "event"], &log);
    let waits = |times: usize| {
        kit::wait_for("the pipeline to wait for the registry", WAIT, || {
            let printed = std::fs::read_to_string(&log).unwrap_or_default();
            (printed.matches("records wait").count() >= times).then_some(())
        });
    };
    let mut running = start();
    kit::produce(&kafka, &input, 0, first(0));
    wait_for_read(port, 100);
    own.kill();
    // The second schema has not been asked for; records of the first come behind those of the second.
    kit::produce(&kafka, &input, 0, second);
    kit::produce(&kafka, &input, 0, first(200));
    waits(2);
    let held = fates(port).unwrap();
    assert!(held.contains(&("read".to_owned(), 100)), "{held:?}");
    // It stops when it is told to, although it waits.
    terminate(&running);
    let begun = std::time::Instant::now();
    assert!(running.finish(Duration::from_secs(20)).success(), "{}", running.printed());
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?} to stop", begun.elapsed());
    // Neither does a crash while it waits lose anything.
    let before = std::fs::read_to_string(&log).unwrap().matches("records wait").count();
    let mut crashing = start();
    waits(before + 1);
    crashing.kill();
    let _last = start();
    own.bring_up();
    let fates = wait_for_read(port, 300);
    let by = |wanted: &str| fates.iter().find(|(name, _)| name == wanted).map(|(_, count)| *count);
    let others: u64 =
        fates.iter().filter(|(name, _)| name != "read" && name != "windowed").map(|(_, count)| count).sum();
    assert_eq!((by("windowed"), others), (Some(300), 0), "{fates:?}");
    assert_eq!(kit::consume(&kafka, &setup.topic("dead-letters")).len(), 0);
}
