//! The kill switch of a running service. Rule: it counts from the next decision on, and for the next process too.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::kit;
use crate::kit::config::Setup;

const WAIT: Duration = Duration::from_secs(60);

/// So many requests a minute in the minutes from `start` on, and one after them, which closes the last.
fn requests(start: DateTime<Utc>, minutes: i64, each: i64) -> Vec<String> {
    let of = |at: DateTime<Utc>| {
        json!({ "ts": at.to_rfc3339_opts(SecondsFormat::Millis, true), "service": "shop", "route": "/", "status": 200,
            "latency_ms": 20.0, "bytes": 100 })
        .to_string()
    };
    let in_minute =
        move |minute: i64| (0..each).map(move |n| start + TimeDelta::milliseconds(minute * 60_000 + n * 60_000 / each));
    let closing = start + TimeDelta::minutes(minutes) + TimeDelta::seconds(10);
    (0..minutes).flat_map(in_minute).chain([closing]).map(of).collect()
}

#[test]
fn what_is_paused_keeps_its_capacity_over_restarts_until_it_is_resumed() {
    let Some(kafka) = kit::kafka() else { return };
    let (port, input) = (kit::free_port(), kit::unique("paused"));
    kit::create_topic(&kafka, &input, 1);
    let now = Utc::now().timestamp();
    // All of it is over, and recent.
    let first = DateTime::from_timestamp(now - now % 60, 0).unwrap() - TimeDelta::minutes(40);
    let setup = Setup::new(&kafka, "paused")
        .with(&format!(
            "mode = \"act\"\nserve.listen = \"127.0.0.1:{port}\"\npolicy.decision_interval = \"1s\"\npolicy.blind_after = \"2h\"\n[features]\npipelines = [\"{}\"]\nsources = {{ requests = \"{input}\" }}\n",
            kit::root().join("pipelines/requests.sql").display()
        ))
        // One request a second needs some thirty units, four need more than a hundred.
        .service("shop", 0.05, r#"{ kind = "simulated", fleet = { min = 1, max = 200, initial = 30 } }"#);
    let url = |path: &str| format!("http://127.0.0.1:{port}/api/v1{path}");
    let get = |path: &str| serde_json::from_str::<Value>(&kit::http_get(&url(path)).1).unwrap();
    let post = |path: &str| {
        let (status, body) = kit::http_post(&url(path), "");
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    // The newest decision that was made after a moment, once it is as wanted.
    let decided = |after: DateTime<Utc>, is_wanted: &dyn Fn(&Value) -> bool| {
        kit::wait_for("a decision", WAIT, || {
            let decision = get("/decisions?limit=1&service=shop")["decisions"][0].clone();
            let at = decision["at"].as_str()?.parse::<DateTime<Utc>>().unwrap();
            (at > after && is_wanted(&decision)).then_some(decision)
        })
    };
    let any = |_: &Value| true;
    let start = || {
        let running = kit::Running::start(&["run", "-c", &setup.config()], &setup.path("log"));
        kit::wait_for("an answer", WAIT, || kit::try_http_get(&url("/services")));
        running
    };
    kit::produce(&kafka, &input, 0, requests(first, 30, 60));
    let mut running = start();
    let load = |decision: &Value| decision["inputs"]["load"].as_f64();
    decided(first, &|decision| load(decision) == Some(1.0));

    let began = Utc::now();
    let (status, body) = post("/pause");
    assert_eq!(
        (status, &body["all"]["scope"], &body["all"]["by"]),
        (200, &json!("all"), &json!("127.0.0.1")),
        "{body}"
    );
    let since: DateTime<Utc> = body["all"]["since"].as_str().unwrap().parse().unwrap();
    assert!((since - began).num_seconds().abs() < 30, "{body}");
    assert_eq!(post("/services/nobody/pause").0, 404);
    let (_, body) = post("/services/shop/pause");
    assert_eq!(body["changes"].as_array().unwrap().len(), 2, "{body}");
    // Once more changes nothing.
    assert_eq!(post("/pause").1, body);
    assert_eq!(get("/pause"), body);

    // The process dies, and four times as much is asked for.
    running.kill();
    kit::produce(&kafka, &input, 0, requests(first + TimeDelta::minutes(30), 5, 240));
    let mut running = start();
    assert_eq!(get("/pause"), body);
    assert_eq!(get("/services/shop")["summary"]["paused"], body["all"]);
    let decision = decided(began, &|decision| load(decision) == Some(4.0));
    let before = decision["desired"].as_u64().unwrap();
    assert!(before < 45 && decision["kind"] == "none", "{decision}");
    let said = decision["reasons"].as_array().unwrap().iter().find(|reason| reason["code"] == "paused").unwrap();
    let text = said["text"].as_str().unwrap();
    assert!(text.contains("by 127.0.0.1") && text.contains(", not "), "{text}");

    // All go on, but for this one, which goes on when it is told to.
    let (_, body) = post("/resume");
    assert_eq!((&body["all"], &body["changes"][0]["paused"]), (&Value::Null, &json!(false)), "{body}");
    let decision = decided(Utc::now(), &any);
    assert_eq!((decision["desired"].as_u64(), &decision["kind"]), (Some(before), &json!("none")), "{decision}");
    let (_, body) = post("/services/shop/resume");
    assert_eq!(body["services"], json!({}));
    let next = decided(Utc::now(), &any);
    assert!(next["desired"].as_u64() > Some(before), "{next}");
    assert_eq!(get("/services/shop")["summary"]["paused"], Value::Null);
    running.kill();
}
