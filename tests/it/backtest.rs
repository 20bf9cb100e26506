//! `prescale backtest`, `plan` and `simulate` as a user meets them. Rule: what is decided on files is what is decided on a
//! real topic.

use prescale_domain::{Decision, Timestamp};
use serde_json::Value;

use crate::browser::devtools::Page;
use crate::browser::{DESKTOP, inspect};
use crate::kit;
use crate::kit::config::Setup;
use crate::week::Week;

/// All that a new user has to write.
const FIVE_LINES: &str = r#"
[[services]]
name = "shop"
unit_capacity = 0.2
target = { kind = "aws-asg", group = "shop", min = 1, max = 50, price_usd_hour = 0.1 }
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).into_os_string().into_string().unwrap()
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.path().join(name), text).unwrap();
        self.path(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).unwrap()
    }
}

#[track_caller]
fn run(arguments: &[&str]) -> String {
    let finished = kit::run(arguments);
    assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
    finished.stdout
}

/// A history of windows of the profile, with its path.
fn history(folder: &Folder, profile: &str, length: &str) -> String {
    let path = folder.path(&format!("{profile}.csv"));
    run(&["simulate", "--profile", profile, "--what", "windows", "--length", length, "--output", &path]);
    path
}

/// What stands on the topic of decisions.
fn decided(kafka: &str, setup: &Setup) -> Vec<Vec<u8>> {
    kit::consume(kafka, &setup.topic("decisions")).into_iter().map(|record| record.value.unwrap()).collect()
}

/// Decisions of a file and of a topic, which are the same bytes.
#[track_caller]
fn same_decisions(on_files: &str, on_the_topic: &[Vec<u8>]) -> Vec<Decision> {
    let on_files: Vec<&[u8]> = on_files.lines().map(str::as_bytes).collect();
    assert_eq!(on_files.len(), on_the_topic.len());
    let differ = on_files.iter().zip(on_the_topic).position(|(a, b)| *a != b.as_slice());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if let Some(index) = differ {
        panic!("decision {index} differs:\n{}\n{}", text(on_files[index]), text(&on_the_topic[index]));
    }
    on_files.iter().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect()
}

#[test]
fn heavy_a_back_test_decides_what_a_replay_through_kafka_decides() {
    let Some(kafka) = kit::kafka() else { return };
    let week = Week::load().first_days(2);
    let input = kit::unique("backtest");
    let partitions = week.partitions(0);
    kit::create_topic(&kafka, &input, partitions.len() as i32);
    for (partition, lines) in partitions.iter().enumerate() {
        kit::produce(&kafka, &input, partition as i32, lines);
    }
    let pipeline = kit::root().join("pipelines/access_log.sql");
    let setup = Setup::new(&kafka, "backtest")
        .with(&format!(
            "mode = \"act\"\n[features]\npipelines = [\"{}\"]\nlateness = \"60s\"\nsources = {{ access_log = \"{input}\" }}\n",
            pipeline.display()
        ))
        .service("web", 0.2, r#"{ kind = "simulated", allow_replay = true, fleet = { min = 1, max = 40 } }"#);
    let config = setup.config();
    run(&["run", "-c", &config, "--clock", "event", "--until-end", "--json"]);
    let on_the_topic = decided(&kafka, &setup);

    let folder = Folder::new();
    let log = folder.write("access.log", &(week.lines.join("\n") + "\n"));
    let first = Timestamp::from_millis(*week.per_minute.keys().next().unwrap()).to_string();
    let out = folder.path("out");
    run(&[
        "backtest",
        "-c",
        &config,
        "--history",
        &log,
        "--from",
        &first,
        "--seeds",
        "1",
        "--baselines",
        "hpa",
        "--out",
        &out,
        "--json",
    ]);
    let decided = same_decisions(&folder.read("out/web.decisions.ndjson"), &on_the_topic);
    assert_eq!(decided.len() as i64, week.minutes());
    // They are decisions worth comparing: the fleet moved, on forecasts, after a training.
    let moves = decided.iter().filter(|d| d.inputs.target.is_some_and(|target| target.desired != d.desired)).count();
    let forecast = decided.iter().filter(|decision| decision.inputs.forecast.is_some()).count();
    assert!(moves > 50 && forecast * 10 > decided.len() * 9, "{moves} moves, {forecast} on a forecast");
}

/// Requests at even distances: each ten seconds of a minute have as many as each other. A day with a burst an hour.
fn even_requests(minutes: i64) -> Vec<String> {
    let start = 1_767_225_600_000_i64;
    let mut lines = Vec::new();
    for n in 0..minutes {
        let day = (n as f64 * std::f64::consts::TAU / 1440.0).sin();
        let usual = (6.0 + 4.0 * day) as i64 + (n * 7919) % 3;
        let each = if (33..36).contains(&(n % 60)) { 3 * usual } else { usual };
        for place in 0..6 * each {
            let at = start + n * 60_000 + place * 60_000 / (6 * each);
            let at = Timestamp::from_millis(at).to_string();
            lines.push(serde_json::json!({"ts": at, "service": "web", "status": 200}).to_string());
        }
    }
    lines
}

#[test]
fn heavy_parts_of_windows_are_decided_by_alike_in_a_back_test_and_through_kafka() {
    let Some(kafka) = kit::kafka() else { return };
    let input = kit::unique("parts");
    kit::create_topic(&kafka, &input, 1);
    let minutes = 26 * 60;
    kit::produce(&kafka, &input, 0, even_requests(minutes));
    let pipeline = |name: &str| kit::root().join("pipelines").join(name).display().to_string();
    let setup = Setup::new(&kafka, "parts")
        .with(&format!(
            "mode = \"act\"\n[features]\npipelines = [\"{}\", \"{}\"]\nearly_step = \"10s\"\n\
             sources = {{ requests = \"{input}\" }}\n[forecast]\nmodels = [\"seasonal-naive\", \"naive\", \"holt\"]\n",
            pipeline("requests.sql"),
            pipeline("requests_10s.sql"),
        ))
        .service("web", 0.2, r#"{ kind = "simulated", allow_replay = true, fleet = { min = 1, max = 40 } }"#);
    let config = setup.config();
    run(&["run", "-c", &config, "--clock", "event", "--until-end", "--json"]);
    let on_the_topic = decided(&kafka, &setup);
    let folder = Folder::new();
    let (out, first) = (folder.path("out"), "2026-01-01T00:00:00Z");
    let more = ["--from", first, "--seeds", "1", "--baselines", "hpa", "--out", &out, "--json"];
    run(&[&["backtest", "-c", &config, "--from-kafka"], &more[..]].concat());
    let decided = same_decisions(&folder.read("out/web.decisions.ndjson"), &on_the_topic);
    assert_eq!(decided.len() as i64, minutes);
    // Each is made 15 s after its minute began: a part of ten seconds, and five of lateness.
    assert!(decided.iter().all(|decision| decision.at.millis() % 60_000 == 15_000));
    let moves = decided.iter().filter(|d| d.inputs.target.is_some_and(|target| target.desired != d.desired)).count();
    let forecast = decided.iter().filter(|decision| decision.inputs.forecast.is_some()).count();
    assert!(moves > 50 && forecast * 10 > decided.len() * 9, "{moves} moves, {forecast} on a forecast");
}

#[test]
fn an_access_log_and_five_lines_of_configuration_are_enough() {
    let folder = Folder::new();
    let config = folder.write("prescale.toml", FIVE_LINES);
    let week = Week::load().first_days(2);
    let log = folder.write("access.log", &(week.lines.join("\n") + "\n"));
    let out = folder.path("out");
    let arguments = ["backtest", "-c", &config, "--history", &log, "--seeds", "2", "--out", &out];
    let table = run(&arguments);
    for system in ["prescale", "hpa", "static-peak", "aws-target-tracking", "keda", "phpa", "kpa", "crane", "oracle"] {
        assert!(table.lines().any(|line| line.starts_with(system)), "{system}\n{table}");
    }
    let report: Value = serde_json::from_str(&folder.read("out/report.json")).unwrap();
    let systems = report["systems"].as_object().unwrap();
    assert_eq!(systems.len(), 13, "{table}");
    for (name, score) in systems {
        for number in ["cost_usd", "unit_hours", "theta_under", "tau_over", "reversals", "regret_to_oracle"] {
            assert!(score[number].is_number(), "{name}.{number}: {score}");
        }
        let violations = &score["violations"];
        assert!(violations["time_pct"].is_number() && violations["requests_pct"].is_number(), "{name}: {score}");
    }
    assert!(report["frontier"]["hpa"].as_array().unwrap().len() > 2);
    assert!(report["forecast"]["shop"]["mase"].is_number());
    // A second run uses the forecasts again and says the same.
    assert_eq!(run(&arguments), table);
}

#[test]
fn a_plan_says_what_would_be_decided_at_a_moment_and_why() {
    let folder = Folder::new();
    let text = "[[services]]\nname = \"shop\"\nunit_capacity = 10.0\ntarget = { kind = \"simulated\" }\n";
    let config = folder.write("prescale.toml", text);
    let history = history(&folder, "diurnal", "3d");
    let arguments = ["plan", "-c", &config, "--history", &history, "--at", "2026-01-07T12:00:30Z"];
    let text = run(&arguments);
    for part in ["shop at 2026-01-07T12:00:30Z", "forecast-need", "binding", "weighed", "USD an hour"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let json: Value = serde_json::from_str(&run(&[&arguments[..], &["--json"]].concat())).unwrap();
    let decision: Decision = serde_json::from_value(json["shop"].clone()).unwrap();
    assert_eq!(decision.inputs.load_window_end.unwrap().to_string(), "2026-01-07T12:00:00Z");
    assert!(decision.alternatives.iter().any(|alternative| alternative.units == decision.desired));
}

#[test]
fn a_plan_of_the_impossible_is_refused_with_json_alone() {
    let folder = Folder::new();
    let text = format!("[lead_time]\nprovisioning_latency = \"20m\"\n{FIVE_LINES}confident_horizon = \"5m\"\n");
    let config = folder.write("prescale.toml", &text);
    let history = history(&folder, "micro-bursts", "1d");
    let exact = "{\"error\":\"Forecasting horizon SLA violation: Node provisioning exceeds predictive lead time\"}\n";
    for arguments in [
        &["plan", "-c", &config, "--history", &history][..],
        &["check", "-c", &config],
        &["backtest", "-c", &config, "--history", &history],
    ] {
        let finished = kit::run(arguments);
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), exact), "{arguments:?}: {}", finished.stderr);
    }
}

#[test]
fn the_same_seed_simulates_the_same_records_and_another_seed_others() {
    for profile in [
        "diurnal",
        "weekly",
        "flash-crowd",
        "ramp",
        "micro-bursts",
        "step",
        "campaign",
        "maintenance-dip",
        "gpu-inference",
    ] {
        let records = |seed: &str| {
            run(&[
                "simulate",
                "--profile",
                profile,
                "--length",
                "10m",
                "--seed",
                seed,
                "--start",
                "2026-01-05T10:00:00Z",
            ])
        };
        let first = records("1");
        assert!(first.lines().count() > 100, "{profile}: {}", first.lines().count());
        assert_eq!(records("1"), first, "{profile}");
        assert_ne!(records("2"), first, "{profile}");
    }
    let finished = kit::run(&["simulate", "--profile", "tidal"]);
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("diurnal"), "{}", finished.stderr);
}

/// The numbers of the page that are not what the JSON in it says at the place that they name.
const UNTRUE: &str = r"
(() => {
  const data = JSON.parse(document.querySelector('#data').textContent);
  const keys = (path) => path.match(/(?:\\.|[^.\\])+/g).map((key) => key.replace(/\\(.)/g, '$1'));
  const wrong = [];
  let seen = 0;
  for (const cell of document.querySelectorAll('td[data-path], th[data-path], b[data-path]')) {
    const value = keys(cell.dataset.path).reduce((at, key) => at?.[key], data);
    const text = cell.textContent.replace(/\u2212/g, '-').replace(/[^0-9.-]/g, '');
    const digits = (text.split('.')[1] ?? '').length;
    seen += 1;
    if (typeof value !== 'number' || Math.abs(Number(text) - value) > 0.5000001 * 10 ** -digits) {
      wrong.push(`${cell.dataset.path}: ${cell.textContent} is not ${value}`);
    }
  }
  return seen < 60 ? `only ${seen} numbers name their place` : wrong.join('; ');
})()
";

#[test]
fn the_page_of_a_back_test_is_drawn_and_each_number_is_that_of_the_json() -> anyhow::Result<()> {
    let Some(mut page) = Page::start()? else { return Ok(()) };
    let folder = Folder::new();
    let config = folder.write("prescale.toml", &FIVE_LINES.replace("0.2", "10.0"));
    let history = history(&folder, "diurnal", "4d");
    let out = folder.path("out");
    run(&["backtest", "-c", &config, "--history", &history, "--seeds", "1", "--sweep", "--out", &out]);
    let url = format!("file://{out}/report.html");
    for (name, size, scheme) in [("light", DESKTOP, "light"), ("phone", (390, 844), "dark")] {
        page.open(&url, size, scheme)?;
        page.until("document.body.dataset.ready === 'yes'")?;
        let wide = page.value("document.documentElement.scrollWidth")?;
        anyhow::ensure!(wide == size.0, "{name}: the page is {wide} pixels wide, the window {}", size.0);
        let untrue = page.value(UNTRUE)?;
        anyhow::ensure!(untrue == "", "{name}: {untrue}");
        let png = page.screenshot()?;
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(folder.join(format!("backtest-{name}.png")), &png)?;
        let (width, values) = inspect(&png)?;
        anyhow::ensure!(width == size.0 && values > 100, "{name}: {width} pixels, {values} byte values");
    }
    // The JSON beside the page has the same card.
    let report: Value = serde_json::from_str(&folder.read("out/report.json"))?;
    let shown = page.value("JSON.parse(document.querySelector('#data').textContent).systems")?;
    for (name, score) in report["systems"].as_object().into_iter().flatten() {
        for (number, value) in score.as_object().into_iter().flatten() {
            // A whole number is written with and without a fraction.
            let (there, here) = (&shown[name][number], value);
            let same = there == here || there.as_f64().is_some_and(|there| Some(there) == here.as_f64());
            anyhow::ensure!(same || here.is_object(), "{name}.{number} is {there} on the page, {here} in the report");
        }
    }
    anyhow::ensure!(page.faults.is_empty(), "the page logged {:?}", page.faults);
    Ok(())
}
