//! Shadow mode in a running service, on a real broker. Rule: what the files say, the API says, and a crash in between changes
//! no byte of either.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kit;
use crate::kit::config::Setup;
use crate::kit::requests::request;

const WAIT: Duration = Duration::from_secs(60);
/// From one hour before midnight to one after it.
const MINUTES: std::ops::Range<i64> = -60..60;

/// A load that goes up and down by the half hour, for a fleet that stays as it is.
fn input(kafka: &str) -> String {
    let topic = kit::unique("shadowed");
    kit::create_topic(kafka, &topic, 1);
    let of_minute = |minute: i64| {
        let count = if minute.rem_euclid(30) < 15 { 30 } else { 90 };
        (0..count).map(move |n| request(minute, n * 60_000 / count, "web", "/"))
    };
    kit::produce(kafka, &topic, 0, MINUTES.flat_map(of_minute));
    topic
}

fn setup(kafka: &str, input: &str) -> (Setup, u16) {
    let port = kit::free_port();
    let pipeline = kit::root().join("pipelines/requests.sql");
    let setup = Setup::new(kafka, "shadow")
        .with(&format!(
            "mode = \"recommend\"\nserve.listen = \"127.0.0.1:{port}\"\nstate.snapshot_windows = 1\n[features]\npipelines = [\"{}\"]\nsources = {{ requests = \"{input}\" }}\n",
            pipeline.display()
        ))
        .service(
            "web",
            0.2,
            r#"{ kind = "simulated", fleet = { min = 1, max = 40, initial = 6, price_usd_hour = 0.5 } }"#,
        );
    (setup, port)
}

/// The files of the days, by name.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let names = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    names
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

#[test]
fn heavy_what_would_have_run_is_told_by_day_and_outlives_a_crash() {
    let Some(kafka) = kit::kafka() else { return };
    let input = input(&kafka);
    let (whole, port) = setup(&kafka, &input);
    let config = whole.config();
    let finished = kit::run(&["run", "-c", &config, "--clock", "event", "--until-end", "--json"]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);

    let told = files(&whole.path("state/shadow"));
    assert_eq!(told.keys().collect::<Vec<_>>(), ["2025-12-31.json", "2026-01-01.json"]);
    let days: Vec<Value> = told.values().map(|text| serde_json::from_str(text).unwrap()).collect();
    for day in &days {
        let report = &day["reports"][0];
        assert_eq!((&report["service"], &report["day"]), (&json!("web"), &day["day"]));
        let (scored, gap) = (report["scored_hours"].as_f64().unwrap(), report["gap_hours"].as_f64().unwrap());
        // Only before the first decision there is nothing to judge.
        assert!((scored + gap - 1.0).abs() < 1e-9 && gap < 0.1, "{report}");
        let (actual, prescale) = (&report["systems"]["actual"], &report["systems"]["prescale"]);
        // 90 requests a minute need 8 units; 6 run: short for half of the time.
        let short = actual["violations"]["time_pct"].as_f64().unwrap();
        assert!((45.0..55.0).contains(&short) && actual["objective_kept"] == false, "{report}");
        assert!(prescale["violations"]["time_pct"].as_f64().unwrap() < short, "{report}");
        let cost = |side: &Value| side["cost_usd"].as_f64().unwrap();
        assert!((cost(actual) - 6.0 * 0.5 * scored).abs() < 1e-9, "{report}");
        let saved = report["saved"]["cost_usd"].as_f64().unwrap();
        assert!((saved - (cost(actual) - cost(prescale))).abs() < 1e-9, "{report}");
        assert!(report["saved"]["short_minutes"].as_f64().unwrap() > 0.0, "{report}");
    }
    assert_eq!((&days[0]["reports"][0]["complete"], &days[1]["reports"][0]["complete"]), (&json!(true), &json!(false)));

    // The next run tells the same through the API, newest first.
    let mut running = kit::Running::start(&["run", "-c", &config, "--clock", "event"], &whole.path("log"));
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let (status, body) = kit::wait_for("an answer", WAIT, || kit::try_http_get(&url("/api/v1/services/web/shadow")));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["next"]), (200, &Value::Null));
    assert_eq!(body["days"], json!([days[1]["reports"][0], days[0]["reports"][0]]));
    let scored: f64 = days.iter().map(|day| day["reports"][0]["scored_hours"].as_f64().unwrap()).sum();
    assert!((body["totals"][0]["scored_hours"].as_f64().unwrap() - scored).abs() < 1e-9, "{body}");
    assert_eq!(serde_json::from_str::<Value>(&kit::http_get(&url("/api/v1/shadow")).1).unwrap(), body);
    running.signal("-TERM");
    assert!(running.finish(WAIT).success());

    // The same input with a crash on the way.
    let (crashed, _) = setup(&kafka, &input);
    let config = crashed.config();
    let mut running = kit::Running::start(&["run", "-c", &config, "--clock", "event"], &crashed.path("log"));
    let folder = crashed.path("state/shadow");
    kit::wait_for("the first file", WAIT, || files(&folder).keys().any(|name| name.ends_with(".json")).then_some(()));
    running.kill();
    let finished = kit::run(&["run", "-c", &config, "--clock", "event", "--until-end"]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert_eq!(files(&folder), told);
}
