//! Events that are told through the API, on a real broker. Rule: what is answered is on the topic, and the topic alone says
//! what is known, to this process, to the next and to others.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::kit;
use crate::kit::config::{SIMULATED, Setup};

const WAIT: Duration = Duration::from_secs(60);

/// A service in the time of this machine, with an API.
struct Live {
    setup: Setup,
    port: u16,
}

impl Live {
    fn new(setup: Setup) -> Self {
        let port = kit::free_port();
        Self {
            setup: setup.with(&format!("serve.listen = \"127.0.0.1:{port}\"\npolicy.decision_interval = \"1s\"")),
            port,
        }
    }

    /// Starts it and waits until it answers.
    #[track_caller]
    fn start(&self) -> kit::Running {
        let running = kit::Running::start(&["run", "-c", &self.setup.config()], &self.setup.path("log"));
        kit::wait_for("an answer", WAIT, || kit::try_http_get(&self.url("/healthz")));
        running
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    #[track_caller]
    fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = kit::http_get(&self.url(path));
        (status, serde_json::from_str(&body).unwrap())
    }

    #[track_caller]
    fn put(&self, id: &str, event: &Value) -> (u16, Value) {
        let (status, body) = kit::http_put(&self.url(&format!("/api/v1/events/{id}")), &event.to_string());
        (status, serde_json::from_str(&body).unwrap())
    }

    /// Tells an event and waits until the loop has read it back, which the answer may not have waited for.
    #[track_caller]
    fn tell(&self, id: &str, event: &Value, expected: u16) -> Value {
        let (status, told) = self.put(id, event);
        assert!([expected, 202].contains(&status), "{status}: {told}");
        let path = format!("/api/v1/events/{id}");
        kit::wait_for("the loop to know it", WAIT, || (self.get(&path) == (200, told.clone())).then_some(()));
        told
    }

    fn delete(&self, id: &str) -> u16 {
        kit::http_delete(&self.url(&format!("/api/v1/events/{id}"))).0
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[track_caller]
fn known_at(event: &Value) -> DateTime<Utc> {
    event["known_at"].as_str().unwrap().parse().unwrap()
}

/// What the topic says now, by key.
fn told(kafka: &str, topic: &str) -> BTreeMap<String, Value> {
    let mut events = BTreeMap::new();
    for record in kit::consume(kafka, topic) {
        let id = String::from_utf8(record.key.clone().unwrap()).unwrap();
        match record.value {
            Some(_) => drop(events.insert(id, record.json())),
            None => drop(events.remove(&id)),
        }
    }
    events
}

/// Six hours of an even load, up to now.
fn history() -> String {
    let now = Utc::now().timestamp();
    let start = DateTime::from_timestamp(now - now % 60, 0).unwrap() - TimeDelta::minutes(360);
    let mut text = "timestamp,value\n".to_owned();
    for minute in 0..360 {
        writeln!(text, "{},{}", time(start + TimeDelta::minutes(minute)), 100 + minute * 7919 % 7).unwrap();
    }
    text
}

/// The median of the forecast for `ahead` minutes from now, and the reason of its model.
fn forecast(live: &Live, ahead: i64) -> Option<(f64, String)> {
    let (_, body) = live.get("/api/v1/services/shop/forecast");
    let forecast = body["forecast"].as_object()?;
    let at = Utc::now() + TimeDelta::minutes(ahead);
    let middle = forecast["levels"].as_array()?.iter().position(|level| *level == 0.5)?;
    let started = |step: &&Value| step["window_start"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap() <= at;
    let step = forecast["steps"].as_array()?.iter().rev().find(started)?;
    Some((step["values"][middle].as_f64()?, forecast["reason"].as_str()?.to_owned()))
}

#[test]
fn an_event_that_is_told_is_known_to_all_until_it_is_taken_back() {
    let Some(kafka) = kit::kafka() else { return };
    let (now, file) = (Utc::now(), history());
    let setup = Setup::new(&kafka, "told").file("shop.csv", &file);
    let past = format!("{SIMULATED}\nhistory = {{ kind = \"file\", path = \"shop.csv\" }}");
    let live = Live::new(setup.service("shop", 5.0, &past));
    let topic = live.setup.topic("events");
    let mut running = live.start();

    // A sale that begins in ten minutes, of three times the usual load.
    let sale = |uplift: f64| {
        json!({
            "kind": "sale", "services": ["shop"], "start": time(now + TimeDelta::minutes(10)),
            "end": time(now + TimeDelta::minutes(600)), "expected_uplift": uplift,
        })
    };
    let mut first = live.tell("autumn%2Fsale", &sale(2.0), 201);
    assert_eq!((&first["id"], &first["source"]), (&"autumn/sale".into(), &Value::Null), "{first}");
    assert!((0..120).contains(&(known_at(&first) - now).num_seconds()), "{first}");
    assert_eq!(live.get("/api/v1/events").1["events"], json!([first]));
    first.as_object_mut().unwrap().remove("source");
    assert_eq!(told(&kafka, &topic), [("autumn/sale".to_owned(), first.clone())].into());

    // Told again, nothing is written; told otherwise, it is.
    assert_eq!(live.put("autumn%2Fsale", &sale(2.0)).1["known_at"], first["known_at"]);
    assert_eq!(kit::consume(&kafka, &topic).len(), 1);
    let second = live.tell("autumn%2Fsale", &sale(3.0), 200);
    assert_eq!(second["expected_uplift"], 3.0);
    assert!(known_at(&second) > known_at(&first));

    // Who dates an event back, or errs otherwise, is told so, and nothing is written.
    let mut back = sale(2.0);
    back["known_at"] = json!("2020-01-01T00:00:00Z");
    let (status, problem) = live.put("autumn%2Fsale", &back);
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &"#/known_at".into()), "{problem}");
    assert_eq!(live.put("calendar%2Fmine", &sale(2.0)).0, 409);
    assert_eq!(kit::consume(&kafka, &topic).len(), 2);

    // Another process with a state of its own learns of it from the topic.
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("shop.csv"), &file).unwrap();
    let port = kit::free_port();
    let text = std::fs::read_to_string(live.setup.config()).unwrap();
    let state = live.setup.path("state").display().to_string();
    let text = text.replace(&state, &other.path().join("state").display().to_string());
    let path = other.path().join("prescale.toml");
    std::fs::write(&path, text.replace(&format!("127.0.0.1:{}", live.port), &format!("127.0.0.1:{port}"))).unwrap();
    let mut elsewhere = kit::Running::start(&["run", "-c", path.to_str().unwrap()], &other.path().join("log"));
    let seen = || kit::try_http_get(&format!("http://127.0.0.1:{port}/api/v1/events/autumn%2Fsale"));
    let (_, body) = kit::wait_for("the other process to know it", WAIT, || seen().filter(|(status, _)| *status == 200));
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), second);

    // The next run knows it before it decides, and so does its forecast.
    kit::wait_for("two decisions more", WAIT, || {
        let now: DateTime<Utc> = live.get("/api/v1/services").1["status"]["now"].as_str().unwrap().parse().unwrap();
        (now > known_at(&second) + TimeDelta::seconds(3)).then_some(())
    });
    running.kill();
    let mut running = live.start();
    kit::wait_for("the next run to know it", WAIT, || {
        (live.get("/api/v1/events").1["events"] == json!([second])).then_some(())
    });
    let (before, _) = kit::wait_for("a forecast", WAIT, || forecast(&live, 2));
    let (during, reason) = forecast(&live, 20).unwrap();
    assert!((2.7..3.3).contains(&(during / before)), "{before} before, {during} in the sale: {reason}");
    assert!(reason.contains("event-uplift"), "{reason}");

    assert!([204, 202].contains(&live.delete("autumn%2Fsale")));
    kit::wait_for("the loop to forget it", WAIT, || (live.get("/api/v1/events/autumn%2Fsale").0 == 404).then_some(()));
    assert_eq!(live.delete("autumn%2Fsale"), 404);
    assert_eq!(told(&kafka, &topic), BTreeMap::new());
    kit::wait_for("the other process to forget it", WAIT, || seen().filter(|(status, _)| *status == 404));
    running.kill();
    // What was not yet kept when the process died is read from the topic again.
    let mut running = live.start();
    kit::wait_for("the next run to forget it", WAIT, || {
        (live.get("/api/v1/events").1["events"] == json!([])).then_some(())
    });
    running.kill();
    elsewhere.kill();
}

#[test]
fn heavy_without_kafka_an_event_is_refused_and_not_told_later() {
    let Some(own) = kit::OwnKafka::start() else { return };
    let live = Live::new(Setup::new(&own.bootstrap(), "refused").service("shop", 5.0, SIMULATED));
    let _running = live.start();
    let event = |uplift: f64| json!({ "kind": "sale", "start": "2099-11-27T00:00:00Z", "end": "2099-11-28T00:00:00Z", "expected_uplift": uplift });
    live.tell("one", &event(2.0), 201);
    own.kill();
    for _ in 0..2 {
        let (status, problem) = live.put("one", &event(3.0));
        assert_eq!((status, &problem["type"]), (503, &"urn:prescale:problem:events-unavailable".into()), "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(&own.bootstrap()) && detail.contains("ask again once Kafka answers"), "{detail}");
    }
    assert_eq!(live.delete("one"), 503);
    assert_eq!(live.get("/api/v1/events/one").1["expected_uplift"], 2.0);
    own.bring_up();
    let (_, told) = kit::wait_for("Kafka to take it", WAIT, || {
        Some(live.put("two", &event(4.0))).filter(|(status, _)| [201, 202].contains(status))
    });
    assert_eq!(told["expected_uplift"], 4.0);
    let records = kit::consume(&own.bootstrap(), &live.setup.topic("events"));
    let ids: Vec<&[u8]> = records.iter().map(|record| record.key.as_deref().unwrap()).collect();
    assert_eq!(ids, [&b"one"[..], b"two"], "what was refused is not told later");
}
