//! The committed schemas are those of the code, and the committed samples conform to them.

use std::fs;
use std::path::{Path, PathBuf};

use prescale_domain::{
    Actuation, CalendarEvent, CapacityRecord, Decision, FeaturesRecord, LoadWeights, QosAdvice, QuantileForecast,
};
use serde::de::DeserializeOwned;

use super::avro::AvroSchema;
use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}

/// Sample records by file stem: one object, or a list of them.
fn samples(stem: &str) -> Vec<Value> {
    let path = folder().join("samples").join(format!("{stem}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    match serde_json::from_str(&text).unwrap() {
        Value::Array(list) => list,
        one => vec![one],
    }
}

#[test]
fn the_committed_schemas_are_those_of_the_code() {
    let bless = std::env::var_os("PRESCALE_BLESS").is_some();
    let mut differ = Vec::new();
    for (name, schema) in json_schemas() {
        let (path, text) = (folder().join(&name), serde_json::to_string_pretty(&schema).unwrap() + "\n");
        if bless {
            fs::write(&path, &text).unwrap();
        }
        if fs::read_to_string(&path).unwrap_or_default() != text {
            differ.push(name);
        }
    }
    assert_eq!(differ, Vec::<String>::new(), "hint: PRESCALE_BLESS=1 cargo test -p prescale-serve writes them");
}

#[test]
fn samples_conform_to_the_json_schemas() {
    let schemas = json_schemas();
    for (stem, name) in [
        ("actuations", "actuation"),
        ("capacity", "capacity"),
        ("decisions", "decision"),
        ("events", "event"),
        ("features", "features"),
        ("forecasts", "forecast"),
        ("qos", "qos"),
        ("weights", "weights"),
    ] {
        let (_, schema) = schemas.iter().find(|(file, _)| *file == format!("{name}.schema.json")).unwrap();
        let validator = jsonschema::draft202012::new(schema).unwrap();
        for sample in samples(stem) {
            let faults: Vec<String> = validator.iter_errors(&sample).map(|fault| fault.to_string()).collect();
            assert_eq!(faults, Vec::<String>::new(), "{stem}: {sample}");
        }
    }
}

#[test]
fn what_is_not_a_features_record_is_refused() {
    let (_, schema) = json_schemas().into_iter().find(|(name, _)| name == "features.schema.json").unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for wrong in [
        json!({}),
        json!({ "service": "a", "window_start": "2026-11-23T08:00:00Z" }),
        json!({ "service": "a", "window_start": 1, "window_end": 2 }),
        json!({ "service": "a", "window_start": "2026-11-23T08:00:00Z", "window_end": "2026-11-23T08:01:00Z", "x": [1] }),
        json!({ "progress": { "pipeline": "requests" } }),
    ] {
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
}

/// Reads every sample as `T` and writes it again: the same JSON.
#[track_caller]
fn check_reads<T: DeserializeOwned + serde::Serialize>(stem: &str) {
    for sample in samples(stem) {
        let read: T = serde_json::from_value(sample.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), sample, "{stem}");
    }
}

#[test]
fn samples_are_what_the_code_reads_and_writes() {
    check_reads::<Actuation>("actuations");
    check_reads::<CalendarEvent>("events");
    check_reads::<QuantileForecast>("forecasts");
    check_reads::<CapacityRecord>("capacity");
    check_reads::<QosAdvice>("qos");
    check_reads::<LoadWeights>("weights");
    check_reads::<Decision>("decisions");
    for sample in samples("features") {
        FeaturesRecord::from_json(sample.to_string().as_bytes()).unwrap();
    }
}

#[test]
fn avro_schemas_are_valid_and_their_samples_conform() {
    let mut seen = Vec::new();
    let mut files: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "avsc")) {
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let schema = AvroSchema::parse(&fs::read_to_string(&path).unwrap());
        let schema = schema.unwrap_or_else(|fault| panic!("{stem}.avsc: {fault}"));
        for sample in samples(&stem) {
            schema.check(&sample).unwrap_or_else(|fault| panic!("samples/{stem}.json: {fault}"));
        }
        seen.push(stem);
    }
    assert_eq!(seen, TOPICS);
}

const TOPICS: [&str; 11] = [
    "actuations",
    "capacity",
    "dead-letters",
    "decisions",
    "events",
    "features",
    "forecasts",
    "metrics",
    "qos",
    "requests",
    "weights",
];

fn avro_json(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

/// Whether consumers of the one schema get along with producers of the other, both ways.
fn compatible(before: &Value, now: &Value) -> Result<(), String> {
    let parse = |schema: &Value| AvroSchema::parse(&schema.to_string());
    let (before, now) = (parse(before)?, parse(now)?);
    now.reads(&before).map_err(|fault| format!("records that are there already: {fault}"))?;
    before.reads(&now).map_err(|fault| format!("readers that are there already: {fault}"))
}

#[test]
fn each_schema_is_compatible_with_its_baseline_both_ways() {
    let mut baselines: Vec<String> = fs::read_dir(folder().join("baseline"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    baselines.sort();
    assert_eq!(baselines, TOPICS);
    for topic in TOPICS {
        let [before, now] = [format!("baseline/{topic}.avsc"), format!("{topic}.avsc")].map(|name| avro_json(&name));
        compatible(&before, &now).unwrap_or_else(|fault| panic!("{topic}.avsc: {fault}"));
    }
}

#[test]
fn a_change_that_breaks_readers_or_records_fails_the_comparison() {
    for topic in TOPICS {
        let before = avro_json(&format!("baseline/{topic}.avsc"));
        // The topic of features has two kinds of records.
        let place = if before.is_array() { "/0/fields" } else { "/fields" };
        let changed = |change: &dyn Fn(&mut Vec<Value>)| {
            let mut now = before.clone();
            change(now.pointer_mut(place).unwrap().as_array_mut().unwrap());
            compatible(&before, &now)
        };
        let fields = before.pointer(place).unwrap().as_array().unwrap();
        for (number, field) in fields.iter().enumerate() {
            let removed = changed(&|fields| drop(fields.remove(number)));
            assert_eq!(removed.is_ok(), field.get("default").is_some(), "{topic}: without {field}: {removed:?}");
            let retyped = changed(&|fields| {
                fields[number] =
                    json!({ "name": fields[number]["name"], "type": { "type": "array", "items": "boolean" } });
            });
            assert!(retyped.is_err(), "{topic}: {field} of another type");
        }
        assert!(changed(&|fields| fields.push(json!({ "name": "more", "type": "int" }))).is_err(), "{topic}");
        changed(&|fields| fields.push(json!({ "name": "more", "type": "int", "default": 0 }))).unwrap();
    }
}

#[test]
fn schemas_resolve_as_avro_says() {
    let reads = |reader: Value, writer: Value| {
        let record = |kind: Value| {
            let text = json!({ "type": "record", "name": "r", "fields": [{ "name": "a", "type": kind }] }).to_string();
            AvroSchema::parse(&text).unwrap()
        };
        record(reader).reads(&record(writer)).is_ok()
    };
    for (reader, writer, expected) in [
        (json!("long"), json!("int"), true),
        (json!("int"), json!("long"), false),
        (json!("double"), json!("float"), true),
        (json!("float"), json!("double"), false),
        (json!(["null", "string"]), json!("string"), true),
        (json!("string"), json!(["null", "string"]), false),
        (
            json!({ "type": "enum", "name": "e", "symbols": ["A", "B"] }),
            json!({ "type": "enum", "name": "e", "symbols": ["A"] }),
            true,
        ),
        (
            json!({ "type": "enum", "name": "e", "symbols": ["A"] }),
            json!({ "type": "enum", "name": "e", "symbols": ["A", "B"] }),
            false,
        ),
        (json!({ "type": "map", "values": "long" }), json!({ "type": "map", "values": "int" }), true),
        (json!({ "type": "long", "logicalType": "timestamp-millis" }), json!("string"), false),
    ] {
        assert_eq!(reads(reader.clone(), writer.clone()), expected, "{reader} of {writer}");
    }
}

#[test]
fn the_avro_check_refuses_what_does_not_conform() {
    let schema = AvroSchema::parse(include_str!("../../../schemas/requests.avsc")).unwrap();
    let sound = samples("requests").remove(0);
    let with = |name: &str, value: Value| {
        let mut changed = sound.clone();
        changed[name] = value;
        changed
    };
    assert!(schema.check(&sound).is_ok());
    for (name, value) in
        [("ts", json!("yesterday")), ("status", json!("200")), ("unheard_of", json!(1)), ("service", json!(null))]
    {
        assert!(schema.check(&with(name, value)).is_err(), "{name}");
    }
    for wrong in [
        r#"{"type": "record", "name": "x", "fields": [{"name": "a", "type": "strin"}]}"#,
        r#"{"type": "record", "name": "x", "fields": [{"name": "a-b", "type": "string"}]}"#,
        r#"{"type": "record", "name": "x", "fields": [{"name": "a", "type": ["null", "string"], "default": "b"}]}"#,
        r#"{"type": "record", "name": "x", "fields": [{"name": "a", "type": ["null", "null"]}]}"#,
        r#"{"type": "record", "name": "x", "fields": [{"name": "a", "type": "int"}, {"name": "a", "type": "int"}]}"#,
        r#"{"type": "enum", "name": "x", "symbols": ["scale-up"]}"#,
    ] {
        assert!(AvroSchema::parse(wrong).is_err(), "{wrong}");
    }
}
