//! Broken input, broken configuration and broken surroundings: each gives a clear error or a recorded degradation.

use std::time::Duration;

use prescale_domain::Decision;
use serde_json::{Value, json};

use crate::kit;

/// A configuration over its own topics with two-second windows, and the directory that holds it.
struct Live {
    name: String,
    directory: tempfile::TempDir,
    port: u16,
}

impl Live {
    fn new(kafka: &str, name: &str, target: &str, mode: &str) -> Self {
        let (name, directory, port) = (kit::unique(name), tempfile::tempdir().unwrap(), kit::free_port());
        let sql = std::fs::read_to_string(kit::root().join("pipelines/requests.sql"))
            .unwrap()
            .replace("1 minute", "2 seconds")
            .replace("/ 60.0", "/ 2.0")
            .replace("INTERVAL '5 seconds'", "INTERVAL '1 second'")
            .replace("type = 'source',", "type = 'source', idle_micros = '4000000',");
        std::fs::write(directory.path().join("requests.sql"), sql).unwrap();
        let toml = format!(
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
[features]
pipelines = ["requests.sql"]
step = "2s"
lateness = "1s"
sources = {{ requests = "{name}-requests" }}
[state]
dir = "state"
[serve]
listen = "127.0.0.1:{port}"
[policy]
decision_interval = "2s"
stale_after = "6s"
blind_after = "8s"
[lead_time]
provisioning_latency = "4s"
warm_up = "0s"
[forecast]
step = "2s"
[[services]]
name = "checkout"
unit_capacity = 5.0
target = {target}
"#
        );
        std::fs::write(directory.path().join("prescale.toml"), toml).unwrap();
        Self { name, directory, port }
    }

    fn start(&self) -> kit::Running {
        let config = self.directory.path().join("prescale.toml");
        let arguments = ["run", "-c", config.to_str().unwrap()];
        kit::Running::start(&arguments, &self.directory.path().join("log"))
    }

    fn topic(&self, kind: &str) -> String {
        format!("{}-{kind}", self.name)
    }

    /// Sends requests of this moment for `seconds`, thirty a second.
    fn send(&self, kafka: &str, seconds: u64) {
        for _ in 0..seconds * 2 {
            let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            let request = json!({"ts": now, "service": "checkout", "type": "http", "route": "/", "priority": "normal",
                "status": 200, "latency_ms": 12.5, "bytes": 100, "instance": "i-1"});
            kit::produce(kafka, &self.topic("requests"), 0, std::iter::repeat_n(request.to_string(), 15));
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn decisions(&self, kafka: &str) -> Vec<Decision> {
        let records = kit::consume(kafka, &self.topic("decisions"));
        records.iter().map(|record| serde_json::from_value(record.json()).unwrap()).collect()
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        kit::try_http_get(&format!("http://127.0.0.1:{}{path}", self.port))
    }

    /// Waits until the last decision of the service is as `wanted` says.
    #[track_caller]
    fn wait_for_decision(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        kit::wait_for(what, Duration::from_secs(60), || {
            let (_, body) = self.get("/api/v1/decisions?service=checkout&limit=1")?;
            let page: Value = serde_json::from_str(&body).ok()?;
            let items = page.as_object()?.values().find_map(Value::as_array)?;
            items.first().filter(|decision| wanted(decision)).cloned()
        })
    }
}

fn has_reason(decision: &Value, code: &str) -> bool {
    decision["reasons"].as_array().is_some_and(|reasons| reasons.iter().any(|reason| reason["code"] == code))
}

#[test]
fn heavy_a_source_that_stops_makes_gaps_and_holds_and_recovers_by_itself() {
    let Some(kafka) = kit::kafka() else { return };
    let live = Live::new(&kafka, "outage", r#"{ kind = "simulated", fleet = { initial = 4 } }"#, "act");
    kit::create_topic(&kafka, &live.topic("requests"), 1);
    let mut running = live.start();
    live.send(&kafka, 16);
    live.wait_for_decision("a decision on load", |decision| !decision["need"].is_null());
    live.wait_for_decision("holding while blind", |decision| has_reason(decision, "hold-blind"));
    live.send(&kafka, 16);
    let after = live.wait_for_decision("a decision after the outage", |decision| !decision["need"].is_null());

    // While the service runs and holds its state, a decision is explained through its API.
    let config = live.directory.path().join("prescale.toml");
    let explained = kit::run(&["explain", "-c", config.to_str().unwrap(), after["id"].as_str().unwrap()]);
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
    let live = Live::new(&kafka, "broker", r#"{ kind = "simulated" }"#, "recommend");
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
    running.kill();
    let sent = kit::consume(&kafka, &live.topic("requests")).len() as u64;
    let rows = kit::consume(&kafka, &live.topic("features"));
    let counted: u64 = rows.iter().filter_map(|record| record.json()["requests"].as_u64()).sum();
    assert!(counted > 0 && counted <= sent, "{counted} of {sent}");
}

#[test]
fn bad_records_go_to_the_dead_letters_with_place_reason_and_bytes() {
    let Some(kafka) = kit::kafka() else { return };
    let live = Live::new(&kafka, "bad", r#"{ kind = "simulated" }"#, "observe");
    let topic = live.topic("requests");
    kit::create_topic(&kafka, &topic, 1);
    let good = r#"{"ts":"2026-01-01T00:00:00Z","service":"checkout","status":200,"latency_ms":1.0,"bytes":1}"#;
    let bad = ["{not json", r#"{"ts":"2026-01-01T00:00:00Z","service":"checkout","status":"many"}"#];
    kit::produce(&kafka, &topic, 0, [good, bad[0], good, bad[1], good]);
    let config = live.directory.path().join("prescale.toml");
    let finished = kit::run(&["run", "-c", config.to_str().unwrap(), "--clock", "event", "--until-end", "--json"]);
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
    let dead = kit::free_port();
    let target = format!(
        r#"{{ kind = "aws-asg", group = "no-such-group", min = 1, max = 9, endpoint_url = "{moto}", region = "eu-west-1" }}
[[services]]
name = "down"
unit_capacity = 5.0
target = {{ kind = "aws-asg", group = "x", min = 1, max = 9, endpoint_url = "http://127.0.0.1:{dead}", region = "eu-west-1" }}
[[services]]
name = "well"
unit_capacity = 5.0
target = {{ kind = "simulated" }}"#
    );
    let live = Live::new(&kafka, "missing", &target, "act");
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
    let refused = write(
        "refused.toml",
        "[lead_time]\nprovisioning_latency = \"2h\"\n[[services]]\nname = \"a\"\nunit_capacity = 1.0\ntarget = { kind = \"simulated\" }\n",
    );
    let finished = kit::run(&["check", "-c", &refused]);
    assert_eq!(finished.code, Some(1));
    let only = "{\"error\":\"Forecasting horizon SLA violation: Node provisioning exceeds predictive lead time\"}\n";
    assert_eq!(finished.stdout, only);
}
