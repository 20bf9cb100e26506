//! Advice to those who send requests, on a real broker. Rule: it is on its topic while the rate limit of an API is approached,
//! and once more when it is not any more.

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use crate::kit;
use crate::kit::config::{SIMULATED, Setup};
use crate::kit::requests::{START_MILLIS, request};

/// How much of the limit is used, by minute.
const USAGE: [f64; 6] = [0.5, 0.8, 1.0, 0.8, 0.6, 0.5];

#[test]
fn callers_are_told_to_hold_back_while_the_limit_of_an_api_is_approached() {
    let Some(kafka) = kit::kafka() else { return };
    let (requests, metrics) = (kit::unique("requests"), kit::unique("metrics"));
    let minutes = || 0..USAGE.len() as i64;
    for topic in [&requests, &metrics] {
        kit::create_topic(&kafka, topic, 1);
    }
    kit::produce(
        &kafka,
        &requests,
        0,
        minutes().flat_map(|minute| (0..20).map(move |n| request(minute, n * 3_000, "web", "/"))),
    );
    let usage = minutes().zip(USAGE).map(|(minute, value)| {
        let time = DateTime::from_timestamp_millis(START_MILLIS + minute * 60_000 + 30_000).unwrap();
        let time = time.to_rfc3339_opts(SecondsFormat::Millis, true);
        json!({ "ts": time, "service": "web", "instance": "a", "name": "api_usage", "value": value }).to_string()
    });
    kit::produce(&kafka, &metrics, 0, usage);
    let pipeline = |name: &str| kit::root().join("pipelines").join(name).display().to_string();
    let setup = Setup::new(&kafka, "qos")
        .with(&format!(
            "mode = \"recommend\"\n[features]\npipelines = [\"{}\", \"{}\"]\nsources = {{ requests = \"{requests}\", metrics = \"{metrics}\" }}\n",
            pipeline("requests.sql"),
            pipeline("metrics.sql")
        ))
        .service("web", 1.0, &format!("{SIMULATED}\nsignals = {{ api_usage = \"api_usage_max\" }}"));
    let finished = kit::run(&["run", "-c", &setup.config(), "--clock", "event", "--until-end"]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);

    let told: Vec<Value> = kit::consume(&kafka, &setup.topic("qos")).iter().map(kit::Record::json).collect();
    let brief: Vec<(Value, f64)> =
        told.iter().map(|advice| (advice["level"].clone(), advice["admit"].as_f64().unwrap())).collect();
    let expected =
        [(json!("throttle"), 0.7 / 0.8), (json!("reduce"), 0.7), (json!("throttle"), 0.7 / 0.8), (Value::Null, 1.0)];
    assert_eq!(brief, expected, "{told:?}");
    // Each says why, and the decision that it goes with.
    let decisions: Vec<Value> = kit::consume(&kafka, &setup.topic("decisions")).iter().map(kit::Record::json).collect();
    for advice in &told {
        assert!(decisions.iter().any(|decision| decision["id"] == advice["decision"]), "{advice}");
        let says = advice["reason"].as_str().unwrap().contains("of an API's rate limit are used");
        assert_eq!(says, !advice["level"].is_null(), "{advice}");
    }
}
