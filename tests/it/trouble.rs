//! Broken input, broken configuration and broken surroundings: each gives a clear error or a recorded degradation.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use prescale_domain::{Decision, Span};
use prescale_ingest::kafka::{KafkaSettings, KafkaSink};
use serde_json::{Value, json};

use crate::kit;
use crate::kit::config::{SIMULATED, Setup};

/// Two-second windows of requests, in the time of the machine.
const LIVE: &str = r#"
[features]
pipelines = ["requests.sql"]
step = "2s"
lateness = "1s"
[policy]
decision_interval = "2s"
stale_after = "6s"
blind_after = "8s"
[lead_time]
provisioning_latency = "4s"
warm_up = "0s"
[forecast]
step = "2s"
"#;

/// Requests that Prescale reads while they come.
pub(crate) struct Live {
    setup: Setup,
    port: u16,
}

impl Live {
    /// Without a service.
    pub(crate) fn new(kafka: &str, name: &str, mode: &str) -> Self {
        let port = kit::free_port();
        let sql = std::fs::read_to_string(kit::root().join("pipelines/requests.sql"))
            .unwrap()
            .replace("1 minute", "2 seconds")
            .replace("/ 60.0", "/ 2.0")
            .replace("INTERVAL '5 seconds'", "INTERVAL '1 second'")
            .replace("type = 'source',", "type = 'source', idle_micros = '4000000',");
        let setup = Setup::new(kafka, name).file("requests.sql", &sql).with(LIVE);
        let topic = setup.topic("requests");
        let own = format!(
            "mode = \"{mode}\"\nserve.listen = \"127.0.0.1:{port}\"\nfeatures.sources = {{ requests = \"{topic}\" }}"
        );
        Self { setup: setup.with(&own), port }
    }

    pub(crate) fn service(self, name: &str, target: &str) -> Self {
        Self { setup: self.setup.service(name, 5.0, target), ..self }
    }

    /// With other settings, and its configuration.
    pub(crate) fn with(self, text: &str) -> Self {
        Self { setup: self.setup.with(text), ..self }
    }

    pub(crate) fn config(&self) -> String {
        self.setup.config()
    }

    pub(crate) fn start(&self) -> kit::Running {
        kit::Running::start(&["run", "-c", &self.setup.config()], &self.setup.path("log"))
    }

    pub(crate) fn topic(&self, kind: &str) -> String {
        self.setup.topic(kind)
    }

    /// Sends requests of this moment for `seconds`, thirty a second.
    pub(crate) fn send(&self, kafka: &str, seconds: u64) {
        for _ in 0..seconds * 2 {
            let now = Utc::now();
            kit::produce(kafka, &self.topic("requests"), 0, std::iter::repeat_n(request(now), 15));
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    pub(crate) fn decisions(&self, kafka: &str) -> Vec<Decision> {
        let records = kit::consume(kafka, &self.topic("decisions"));
        records.iter().map(|record| serde_json::from_value(record.json()).unwrap()).collect()
    }

    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        kit::try_http_get(&format!("http://127.0.0.1:{}{path}", self.port))
    }

    /// What became of the records of a pipeline so far, and `read`, how many there were.
    fn fates(&self, pipeline: &str) -> Option<BTreeMap<String, u64>> {
        let (_, text) = self.get("/metrics")?;
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse().ok());
        let of_pipeline = |line: &&str| line.contains(&format!("pipeline=\"{pipeline}\""));
        let mut fates = BTreeMap::new();
        for line in text.lines().filter(of_pipeline) {
            if line.starts_with("prescale_pipeline_read_rows{") {
                fates.insert("read".to_owned(), value(line)?);
            } else if line.starts_with("prescale_pipeline_fate_rows{") {
                let fate = line.split("fate=\"").nth(1)?.split('"').next()?;
                fates.insert(fate.to_owned(), value(line)?);
            }
        }
        fates.contains_key("read").then_some(fates)
    }

    /// Requests in the rows of windows that ended before `until`, each of which is there once.
    #[track_caller]
    fn counted(&self, kafka: &str, until: DateTime<Utc>) -> u64 {
        let mut rows: BTreeMap<DateTime<Utc>, u64> = BTreeMap::new();
        for row in kit::consume(kafka, &self.topic("features")).iter().map(kit::Record::json) {
            let Some(requests) = row["requests"].as_u64() else { continue };
            let end: DateTime<Utc> = row["window_end"].as_str().unwrap().parse().unwrap();
            if end < until {
                let before = rows.insert(end, requests);
                assert!(before.is_none(), "{end}: {before:?}, then {requests} requests");
            }
        }
        rows.values().sum()
    }

    /// Waits until the last decision of the service is as `wanted` says.
    #[track_caller]
    pub(crate) fn wait_for_decision(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_for_decision_of("checkout", what, wanted)
    }

    #[track_caller]
    pub(crate) fn wait_for_decision_of(&self, service: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        kit::wait_for(what, Duration::from_secs(60), || {
            let (_, body) = self.get(&format!("/api/v1/decisions?service={service}&limit=1"))?;
            let page: Value = serde_json::from_str(&body).ok()?;
            let items = page.as_object()?.values().find_map(Value::as_array)?;
            items.first().filter(|decision| wanted(decision)).cloned()
        })
    }
}

fn request(time: DateTime<Utc>) -> String {
    let time = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    json!({"ts": time, "service": "checkout", "type": "http", "route": "/", "priority": "normal", "status": 200,
        "latency_ms": 12.5, "bytes": 100, "instance": "i-1"})
    .to_string()
}

pub(crate) fn has_reason(decision: &Value, code: &str) -> bool {
    decision["reasons"].as_array().is_some_and(|reasons| reasons.iter().any(|reason| reason["code"] == code))
}

#[test]
fn heavy_a_source_that_stops_makes_gaps_and_holds_and_recovers_by_itself() {
    let Some(kafka) = kit::kafka() else { return };
    let live =
        Live::new(&kafka, "outage", "act").service("checkout", r#"{ kind = "simulated", fleet = { initial = 4 } }"#);
    kit::create_topic(&kafka, &live.topic("requests"), 1);
    let mut running = live.start();
    live.send(&kafka, 16);
    live.wait_for_decision("a decision on load", |decision| !decision["need"].is_null());
    live.wait_for_decision("holding while blind", |decision| has_reason(decision, "hold-blind"));
    live.send(&kafka, 16);
    let after = live.wait_for_decision("a decision after the outage", |decision| !decision["need"].is_null());

    // While the service runs and holds its state, a decision is explained through its API.
    let explained = kit::run(&["explain", "-c", &live.setup.config(), after["id"].as_str().unwrap()]);
    assert_eq!(explained.code, Some(0), "{}", explained.stderr);
    assert!(explained.stdout.contains("identical"), "{}", explained.stdout);

    running.kill();
    let decisions = live.decisions(&kafka);
    let blind: Vec<&Decision> =
        decisions.iter().filter(|decision| decision.reasons.iter().any(|reason| reason.code == "hold-blind")).collect();
    assert!(
        blind.iter().all(|decision| decision.inputs.target.is_none_or(|target| decision.desired >= target.desired))
    );
    let progress: Vec<Value> = kit::consume(&kafka, &live.topic("features")).iter().map(kit::Record::json).collect();
    assert!(progress.iter().any(|record| record["progress"]["gap"].is_array()), "no gap was told");
}

#[test]
fn heavy_kafka_down_at_start_and_in_between_is_waited_for_and_nothing_is_lost() {
    let Some(broker) = kit::OwnKafka::not_yet() else { return };
    let kafka = broker.bootstrap();
    let live = Live::new(&kafka, "broker", "recommend").service("checkout", SIMULATED);
    let mut running = live.start();
    kit::wait_for("an answer of the API", Duration::from_secs(60), || {
        live.get("/healthz").filter(|(code, _)| *code == 200)
    });
    broker.bring_up();
    kit::create_topic(&kafka, &live.topic("requests"), 1);
    live.send(&kafka, 12);
    live.wait_for_decision("a decision on load", |decision| !decision["need"].is_null());
    broker.kill();
    live.wait_for_decision("holding while blind", |decision| has_reason(decision, "hold-blind"));
    broker.bring_up();
    live.send(&kafka, 12);
    live.wait_for_decision("a decision after the outage", |decision| !decision["need"].is_null());
    let sent = kit::consume(&kafka, &live.topic("requests")).len() as u64;
    assert_eq!(sent, 2 * 12 * 30);

    // A record from four seconds on: its watermark closes every window with a request in it but its own.
    let closing = Utc::now() + Duration::from_secs(4);
    kit::produce(&kafka, &live.topic("requests"), 0, [request(closing)]);
    let fates = kit::wait_for("the closing record", Duration::from_secs(60), || {
        let fates = live.fates("requests")?;
        (fates["read"] == sent + 1).then_some(fates)
    });
    let counted = kit::wait_for("the last window", Duration::from_secs(60), || {
        let counted = live.counted(&kafka, closing);
        (counted >= sent).then_some(counted)
    });
    assert_eq!(counted, sent);
    let (windowed, others): (Vec<_>, Vec<_>) =
        fates.iter().filter(|(fate, _)| *fate != "read").partition(|(fate, _)| *fate == "windowed");
    assert_eq!(windowed, [(&"windowed".to_owned(), &(sent + 1))]);
    assert!(fates.contains_key("late") && others.iter().all(|(_, rows)| **rows == 0), "{fates:?}");
    assert!(kit::consume(&kafka, &live.topic("dead-letters")).is_empty());
    running.kill();
}

#[test]
fn an_event_is_taken_back_by_a_tombstone_or_in_words() {
    let Some(kafka) = kit::kafka() else { return };
    let live = Live::new(&kafka, "events", "observe").service("checkout", SIMULATED);
    let (settings, topic) = (KafkaSettings::new(kafka.as_str()), live.topic("events"));
    let sink = KafkaSink::open(&settings).unwrap();
    sink.ensure_topic(&topic, 1, Span::from_secs(30)).unwrap();
    for id in ["first", "second", "third"] {
        let event = json!({"id": id, "kind": "campaign", "services": [], "start": "2026-11-27T08:00:00Z",
            "end": "2026-11-27T20:00:00Z", "expected_uplift": 1.6, "known_at": "2020-01-01T00:00:00Z"});
        sink.send(&topic, None, Some(id.as_bytes()), event.to_string().as_bytes(), &[]).unwrap();
    }
    sink.flush(Span::from_secs(30)).unwrap();
    kit::create_topic(&kafka, &live.topic("requests"), 1);
    let _running = live.start();
    let known = |expected: &[&str]| {
        kit::wait_for(&format!("events {expected:?}"), Duration::from_secs(60), || {
            let (_, body) = live.get("/api/v1/events")?;
            let body: Value = serde_json::from_str(&body).ok()?;
            let ids = body["events"].as_array()?.iter().map(|event| event["id"].as_str());
            ids.eq(expected.iter().map(|id| Some(*id))).then_some(())
        });
    };
    known(&["first", "second", "third"]);
    sink.send_tombstone(&topic, None, b"second").unwrap();
    sink.flush(Span::from_secs(30)).unwrap();
    known(&["first", "third"]);
    sink.send(&topic, None, None, br#"{"delete": "first"}"#, &[]).unwrap();
    sink.flush(Span::from_secs(30)).unwrap();
    known(&["third"]);
}

#[test]
fn bad_records_go_to_the_dead_letters_with_place_reason_and_bytes() {
    let Some(kafka) = kit::kafka() else { return };
    let live = Live::new(&kafka, "bad", "observe").service("checkout", SIMULATED);
    let topic = live.topic("requests");
    kit::create_topic(&kafka, &topic, 1);
    let good = r#"{"ts":"2026-01-01T00:00:00Z","service":"checkout","status":200,"latency_ms":1.0,"bytes":1}"#;
    let bad = ["{not json", r#"{"ts":"2026-01-01T00:00:00Z","service":"checkout","status":"many"}"#];
    kit::produce(&kafka, &topic, 0, [good, bad[0], good, bad[1], good]);
    let finished = kit::run(&["run", "-c", &live.setup.config(), "--clock", "event", "--until-end", "--json"]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let summary: Value = serde_json::from_str(&finished.stdout).unwrap();
    let pipeline = &summary["pipelines"]["requests"];
    assert_eq!(
        (pipeline["read"].as_u64(), pipeline["windowed"].as_u64(), pipeline["bad"].as_u64()),
        (Some(5), Some(3), Some(2))
    );
    let letters = kit::consume(&kafka, &live.topic("dead-letters"));
    let bytes: Vec<&[u8]> = letters.iter().map(|letter| letter.value.as_deref().unwrap()).collect();
    assert_eq!(bytes, bad.map(str::as_bytes));
}

#[test]
fn heavy_a_group_that_is_missing_or_an_endpoint_that_is_down_does_not_stop_the_other_service() {
    let (Some(kafka), Some(moto)) = (kit::kafka(), kit::moto()) else { return };
    let group = |name: &str, endpoint: &str| {
        format!(
            r#"{{ kind = "aws-asg", group = "{name}", min = 1, max = 9, endpoint_url = "{endpoint}", region = "eu-west-1" }}"#
        )
    };
    let dead = format!("http://127.0.0.1:{}", kit::free_port());
    let live = Live::new(&kafka, "missing", "act")
        .service("checkout", &group("no-such-group", &moto))
        .service("down", &group("x", &dead))
        .service("well", SIMULATED);
    kit::create_topic(&kafka, &live.topic("requests"), 1);
    let mut running = live.start();
    live.send(&kafka, 8);
    let decision =
        live.wait_for_decision("a decision without a target", |decision| has_reason(decision, "hold-target-unknown"));
    assert_eq!(decision["kind"], "none");
    let (_, snapshot) = live.get("/api/v1/services").unwrap();
    assert!(snapshot.contains("no-such-group") && snapshot.contains("well"), "{snapshot}");
    kit::wait_for("a decision of the service that is well", Duration::from_secs(30), || {
        let (_, body) = live.get("/api/v1/decisions?service=well&limit=1")?;
        body.contains("well@").then_some(())
    });
    running.kill();
}

#[test]
fn wrong_configuration_and_sql_end_with_code_three_and_say_where() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let config = write("wrong.toml", "mod = \"act\"\n[features]\nstep = \"soon\"\n");
    let finished = kit::run(&["check", "-c", &config]);
    assert_eq!(finished.code, Some(3));
    for place in ["2 faults", "mod: unknown field", "features.step: `soon` is not a duration"] {
        assert!(finished.stderr.contains(place), "{place}: {}", finished.stderr);
    }
    let shipped = std::fs::read_to_string(kit::root().join("pipelines/requests.sql")).unwrap();
    let sql = write("wrong.sql", &shipped.replacen("status >= 500", "statuss >= 500", 1));
    let finished = kit::run(&["sql", "check", &sql]);
    assert_eq!(finished.code, Some(3));
    assert!(finished.stderr.contains("statuss") && finished.stderr.contains('^'), "{}", finished.stderr);
    // Windows of another length may go to a topic of their own, and not to the one that the controller reads.
    let long = std::fs::read_to_string(kit::root().join("pipelines/requests_5m.sql")).unwrap();
    write("requests_5m.sql", &long);
    write("long.sql", &long.replace("topic = 'features-5m'", "topic = 'features'"));
    let own = write("own.toml", "[features]\npipelines = [\"requests_5m.sql\"]\n");
    assert_eq!(kit::run(&["check", "-c", &own]).code, Some(0));
    let long = write("long.toml", "[features]\npipelines = [\"long.sql\"]\n");
    let finished = kit::run(&["check", "-c", &long]);
    assert_eq!(finished.code, Some(3));
    for part in [
        "long.sql: makes windows `hop 5m every 1m` for topic `features`, and features.step is 1m",
        "hint: write tumble",
    ] {
        assert!(finished.stderr.contains(part), "{part}: {}", finished.stderr);
    }
    let refused = Setup::new("localhost:9092", "refused").with("lead_time.provisioning_latency = \"2h\"");
    let finished = kit::run(&["check", "-c", &refused.service("a", 1.0, SIMULATED).config()]);
    assert_eq!(finished.code, Some(1));
    let only = "{\"error\":\"Forecasting horizon SLA violation: Node provisioning exceeds predictive lead time\"}\n";
    assert_eq!(finished.stdout, only);
}
