//! Pipelines over several topics: requests joined with the calendar of events, and one that writes to a topic of its own.
//! Rule: what the calendar says of a minute is what was known when it began, also after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use crate::kit;
use crate::kit::config::{SIMULATED, Setup};

const START: i64 = 1_767_225_600; // 2026-01-01T00:00:00Z
const MINUTES: i64 = 12;

fn at(second: i64) -> String {
    DateTime::from_timestamp(START + second, 0).unwrap().to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn pipeline(name: &str) -> String {
    std::fs::read_to_string(kit::root().join(format!("pipelines/{name}.sql"))).unwrap()
}

fn event(id: &str, services: &[&str], known: i64, start: i64, end: i64) -> String {
    json!({
        "id": id, "kind": "campaign", "services": services, "start": at(start * 60), "end": at(end * 60),
        "expected_uplift": 1.5, "known_at": at(known * 60),
    })
    .to_string()
}

/// What a row of the features topic says: requests, whether a campaign is on, its uplift, minutes to the next.
type Said = (u64, bool, Option<f64>, Option<i64>);

/// Rows of the features topic, by service and minute from the start.
fn rows(kafka: &str, topic: &str) -> BTreeMap<(String, i64), Said> {
    let mut rows = BTreeMap::new();
    for record in kit::consume(kafka, topic) {
        let row = record.json();
        let Some(service) = row["service"].as_str() else { continue };
        let start = DateTime::parse_from_rfc3339(row["window_start"].as_str().unwrap()).unwrap().timestamp();
        let value = (
            row["requests"].as_u64().unwrap(),
            row["campaign_active"].as_bool().unwrap(),
            row["expected_uplift"].as_f64(),
            row["minutes_to_start"].as_i64(),
        );
        let before = rows.insert((service.to_owned(), (start - START) / 60), value);
        assert!(before.is_none_or(|before| before == value), "{row} has another copy");
    }
    rows
}

#[test]
fn a_replay_joins_requests_with_what_was_known_of_events() {
    let Some(kafka) = kit::kafka() else { return };
    let name = kit::unique("campaigns");
    let dependencies = pipeline("dependencies").replace("topic = 'dependencies'", &format!("topic = '{name}-calls'"));
    let setup = Setup::new(&kafka, "campaigns")
        .file("campaigns.sql", &pipeline("campaigns"))
        .file("dependencies.sql", &dependencies)
        .service("shop", 5.0, SIMULATED)
        .service("cart", 5.0, SIMULATED)
        .with(&format!(
            "mode = \"recommend\"\ntopics.event_minutes = \"{name}-minutes\"\n[features]\npipelines = [\"campaigns.sql\", \"dependencies.sql\"]\n\
             sources = {{ requests = \"{name}-requests\", event_minutes = \"{name}-minutes\" }}"
        ));
    kit::create_topic(&kafka, &format!("{name}-requests"), 2);
    for partition in 0..2 {
        let request = |second: i64| {
            let service = if second % 3 == 0 { "cart" } else { "shop" };
            let dependency = (service == "shop" && second % 2 == 0).then_some("cart");
            json!({"ts": at(second), "service": service, "status": 200, "latency_ms": 10.0, "bytes": 100, "dependency": dependency}).to_string()
        };
        let seconds = (0..MINUTES * 60).filter(|second| second % 2 == i64::from(partition));
        kit::produce(&kafka, &format!("{name}-requests"), partition, seconds.map(request));
    }
    // The second version of the sale is known too late to change its first minutes.
    let events = [event("sale", &["shop"], 2, 5, 8), event("sale", &["shop"], 6, 5, 10), event("all", &[], 4, 10, 11)];
    kit::produce(&kafka, &setup.topic("events"), 0, events);

    let expected = |service: &str, minute: i64| -> (bool, Option<f64>, Option<i64>) {
        let shop = service == "shop";
        let active = (shop && (5..10).contains(&minute)) || minute == 10;
        let next = [
            (shop && (2..5).contains(&minute)).then_some(5 - minute),
            (4..10).contains(&minute).then_some(10 - minute),
        ];
        (active, active.then_some(1.5), next.into_iter().flatten().min())
    };
    let config = setup.config();
    let arguments = ["run", "-c", &config, "--clock", "event", "--until-end", "--json"];
    for round in 0..2 {
        let finished = kit::run(&arguments);
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let found = rows(&kafka, &setup.topic("features"));
        assert_eq!(found.len() as i64, 2 * MINUTES, "round {round}");
        for ((service, minute), (requests, active, uplift, next)) in found {
            assert_eq!(requests, if service == "cart" { 20 } else { 40 }, "{service} at {minute}");
            assert_eq!((active, uplift, next), expected(&service, minute), "{service} at {minute}");
        }
        // A minute is written once, whoever asks for it.
        let minutes = kit::consume(&kafka, &format!("{name}-minutes"));
        let distinct: BTreeSet<(String, String)> = minutes.iter().map(|record| minute_of(&record.json())).collect();
        assert_eq!(minutes.len(), distinct.len());
    }
    let calls: Vec<Value> = kit::consume(&kafka, &format!("{name}-calls")).iter().map(kit::Record::json).collect();
    assert_eq!(calls.len() as i64, MINUTES, "one pair a minute, and nothing about progress: {calls:?}");
    assert!(calls.iter().all(|row| row["dependency"] == "cart" && row["calls"] == 20), "{calls:?}");
}

fn minute_of(row: &Value) -> (String, String) {
    (row["minute"].as_str().unwrap().to_owned(), row["service"].as_str().unwrap().to_owned())
}

/// On the wall clock: killed in the middle, the next run goes on with the minute after.
#[test]
fn heavy_minutes_of_the_calendar_are_written_once_across_a_kill() {
    let Some(kafka) = kit::kafka() else { return };
    let name = kit::unique("minutes");
    let setup = Setup::new(&kafka, "minutes")
        .file("campaigns.sql", &pipeline("campaigns"))
        .service("shop", 5.0, SIMULATED)
        .with(&format!(
            "topics.event_minutes = \"{name}-minutes\"\n[features]\npipelines = [\"campaigns.sql\"]\n\
             sources = {{ requests = \"{name}-requests\", event_minutes = \"{name}-minutes\" }}"
        ));
    let now = chrono::Utc::now();
    let time = |minutes: i64| (now + chrono::TimeDelta::minutes(minutes)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let sale = json!({"id": "sale", "kind": "sale", "services": ["shop"], "start": time(30), "end": time(90), "known_at": time(-1)});
    kit::produce(&kafka, &setup.topic("events"), 0, [sale.to_string()]);
    let config = setup.config();
    let minutes =
        || -> Vec<Value> { kit::consume(&kafka, &format!("{name}-minutes")).iter().map(kit::Record::json).collect() };
    for wanted in 1..=2 {
        let mut running = kit::Running::start(&["run", "-c", &config], &setup.path("log"));
        kit::wait_for("the next minute", Duration::from_secs(90), || (minutes().len() >= wanted).then_some(()));
        running.kill();
    }
    let found = minutes();
    let distinct: BTreeSet<_> = found.iter().map(minute_of).collect();
    assert_eq!(distinct.len(), found.len(), "{found:?}");
    let parsed: Vec<i64> =
        distinct.iter().map(|(minute, _)| DateTime::parse_from_rfc3339(minute).unwrap().timestamp()).collect();
    assert!(parsed.windows(2).all(|pair| pair[1] - pair[0] == 60), "{parsed:?}");
    assert!(
        found.iter().all(
            |row| row["campaign_active"] == false && (27..=31).contains(&row["minutes_to_start"].as_i64().unwrap())
        ),
        "{found:?}"
    );
}
