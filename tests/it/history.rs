//! Histories from outside, as commands and the service take them. Rule: whatever form a history has, it is the same one,
//! and what can't be used is refused with what to do.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::Value;

use crate::kit::config::{SIMULATED, Setup};
use crate::kit::{self, Finished};

/// More than Prometheus gives in one answer.
const WINDOWS: i64 = 8 * 1440;

pub(crate) fn load(window: i64) -> Option<f64> {
    // An hour is missing.
    let is_gap = (5000..5060).contains(&window);
    let wave = (window as f64 * std::f64::consts::TAU / 1440.0).sin();
    (!is_gap).then_some((50.0 + 20.0 * wave + (window * 7919 % 13) as f64).round())
}

pub(crate) fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The start of the first window, for the last to end with the present minute.
pub(crate) fn start(windows: i64) -> DateTime<Utc> {
    let now = Utc::now().timestamp();
    DateTime::from_timestamp(now - now % 60, 0).unwrap() - TimeDelta::minutes(windows)
}

pub(crate) fn csv(start: DateTime<Utc>, windows: i64) -> String {
    let mut made = "timestamp,value\n".to_owned();
    for window in 0..windows {
        let value = load(window).map(|load| load.to_string()).unwrap_or_default();
        writeln!(made, "{},{value}", text(start + TimeDelta::minutes(window))).unwrap();
    }
    made
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    if name.ends_with(".gz") {
        let mut child = Command::new("gzip")
            .arg("-c")
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(&path).unwrap())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    } else {
        std::fs::write(&path, text).unwrap();
    }
    path
}

/// `prescale forecast` over the days before the last of `windows`, which it tests on.
fn forecast(start: DateTime<Utc>, windows: i64, history: &str, more: &[&str]) -> Finished {
    let until = text(start + TimeDelta::minutes(windows - 1440));
    let mut arguments = vec!["forecast", "--history", history, "--train-until", &until, "--models", "day-naive,holt"];
    arguments.extend(["--origin-every", "30m", "--horizons", "5m,30m"]);
    arguments.extend(more);
    kit::run(&arguments)
}

#[test]
fn a_history_gives_the_same_figures_in_every_form() {
    let (folder, windows, start) = (tempfile::tempdir().unwrap(), 4 * 1440, "2026-01-01T00:00:00Z".parse().unwrap());
    let plain = csv(start, windows);
    let expected = forecast(start, windows, write(folder.path(), "a.csv", &plain).to_str().unwrap(), &[]);
    assert_eq!(expected.code, Some(0), "{}", expected.stderr);
    let mut lines = String::new();
    let mut several = "who,when,load\n".to_owned();
    for line in plain.lines().skip(1) {
        let (time, value) = line.split_once(',').unwrap();
        let value = if value.is_empty() { "null" } else { value };
        writeln!(lines, r#"{{"service":"web","window_start":"{time}","requests_per_second":{value}}}"#).unwrap();
        writeln!(several, "web,{line}\ncart,{time},1").unwrap();
    }
    let named =
        ["--time-column", "when", "--value-column", "load", "--service-column", "who", "--service", "web"].as_slice();
    for (name, text, more) in [("a.csv.gz", &plain, &[][..]), ("a.ndjson.gz", &lines, &[]), ("b.csv", &several, named)]
    {
        let path = write(folder.path(), name, text);
        let found = forecast(start, windows, path.to_str().unwrap(), more);
        assert_eq!((found.code, &found.stdout), (Some(0), &expected.stdout), "{name}: {}", found.stderr);
    }
}

#[test]
fn what_is_no_history_is_refused_with_its_place_and_what_to_do() {
    let (folder, start) = (tempfile::tempdir().unwrap(), "2026-01-01T00:00:00Z".parse().unwrap());
    let refused = |history: &str, more: &[&str], code: i32, expected: &str| {
        let found = forecast(start, 1440, history, more);
        assert_eq!(found.code, Some(code), "{}", found.stderr);
        let said = found.stderr.replace(folder.path().to_str().unwrap(), "FOLDER");
        assert!(said.contains(expected), "{said}\nis not\n{expected}");
    };
    let path = write(folder.path(), "a.csv", "timestamp,value\n2026-01-01T00:00:00Z,1\n2026-01-01T00:01:00Z,some\n");
    refused(
        path.to_str().unwrap(),
        &[],
        3,
        "history `FOLDER/a.csv` line 3: value `some` is not a number of at least 0\n\
         hint: write loads as numbers of at least 0, and nothing where the load is not known",
    );
    let path =
        write(folder.path(), "b.csv", "service,time,value\nweb,2026-01-01T00:00:00Z,1\ncart,2026-01-01T00:00:00Z,1\n");
    refused(path.to_str().unwrap(), &[], 3, "it has 2 services: cart, web\nhint: name one of them");
    refused(
        path.to_str().unwrap(),
        &["--value-column", "load"],
        3,
        "there is no column `load`; the columns are: service, time, value",
    );
    refused("http://127.0.0.1:1", &[], 3, "hint: add --query PROMQL --from TIME --to TIME");
    let query = ["--query", "up", "--from", "2026-01-01T00:00:00Z", "--to", "2026-01-02T00:00:00Z"];
    refused("http://127.0.0.1:1", &query, 4, "hint: see that Prometheus can be reached");
    refused(path.to_str().unwrap(), &query, 3, "is a file, and --query asks a Prometheus");
}

/// A Prometheus that holds the load of two services, and its URL. A sample is taken when its window ends.
pub(crate) fn prometheus(program: &str, folder: &Path, start: DateTime<Utc>, windows: i64) -> (kit::Running, String) {
    let mut samples = "# TYPE load gauge\n".to_owned();
    for (service, share) in [("cart", 0.5), ("web", 1.0)] {
        for window in 0..windows {
            let end = (start + TimeDelta::minutes(window + 1)).timestamp();
            if let Some(load) = load(window) {
                writeln!(samples, "load{{service=\"{service}\"}} {} {end}", share * load).unwrap();
            }
        }
    }
    samples.push_str("# EOF\n");
    let data = folder.join("data");
    let promtool = Path::new(program).with_file_name("promtool");
    let mut making = Command::new(promtool);
    making.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(write(folder, "samples", &samples)).arg(&data);
    let made = making.stdin(Stdio::null()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let port = kit::free_port();
    let mut command = Command::new(program);
    let config = write(folder, "prometheus.yml", "global: {}\n");
    command.arg(format!("--config.file={}", config.display())).arg(format!("--storage.tsdb.path={}", data.display()));
    command.args(["--storage.tsdb.retention.time=10y", &format!("--web.listen-address=127.0.0.1:{port}")]);
    let running = kit::Running::spawn(command, &folder.join("log"));
    let url = format!("http://127.0.0.1:{port}");
    kit::wait_for("Prometheus", Duration::from_secs(60), || {
        kit::try_http_get(&format!("{url}/-/ready")).filter(|(status, _)| *status == 200)
    });
    (running, url)
}

/// Only of the last minute, or Prometheus fills gaps with what was before.
const QUERY: &str = "last_over_time(load{service='web'}[59s])";

#[test]
fn prometheus_gives_the_same_figures_as_a_file_beyond_what_it_answers_at_once() {
    let Some(program) = kit::prometheus() else { return };
    let (folder, start) = (tempfile::tempdir().unwrap(), start(WINDOWS));
    let (_running, url) = prometheus(&program, folder.path(), start, WINDOWS);
    let file = write(folder.path(), "a.csv", &csv(start, WINDOWS));
    let expected = forecast(start, WINDOWS, file.to_str().unwrap(), &[]);
    let (from, to) = (text(start), text(start + TimeDelta::minutes(WINDOWS)));
    let ask = |query: &str, more: &[&str]| {
        let mut all = vec!["--query", query, "--from", &from, "--to", &to];
        all.extend(more);
        forecast(start, WINDOWS, &url, &all)
    };
    let by_label = ["--service-column", "service", "--service", "web"];
    for found in [ask(QUERY, &[]), ask("last_over_time(load[59s])", &by_label)] {
        assert_eq!((found.code, &found.stdout), (Some(0), &expected.stdout), "{}", found.stderr);
    }
    for (query, expected) in [
        ("load{", "1:6: parse error: unexpected end of input inside braces\nhint: try it in Prometheus first"),
        ("load", "the query has 2 series\nhint: add them up, as in sum(…), or name the label of the service"),
        ("-load{service='web'}", "is not a number of at least 0"),
        ("absent_over_time(load[1m]) > 5", "there are no rows"),
    ] {
        let found = ask(query, &[]);
        assert_eq!(found.code, Some(3), "{query}: {}", found.stderr);
        assert!(found.stderr.contains(expected), "{query}: {}", found.stderr);
    }
}

/// A service that hears nothing yet, with its history.
fn setup(kafka: &str, name: &str, history: &str) -> (Setup, u16) {
    let port = kit::free_port();
    let more = format!(
        "[serve]\nlisten = \"127.0.0.1:{port}\"\n[features]\nretention = \"5d\"\n[forecast]\nmin_history = \"30d\"\n"
    );
    let setup = Setup::new(kafka, name).with(&more).file("web.csv", &csv(start(WINDOWS), WINDOWS));
    (setup.service("web", 10.0, &format!("{SIMULATED}\nhistory = {history}")), port)
}

#[track_caller]
fn first_forecast(port: u16) -> Value {
    let get = |path: &str| kit::try_http_get(&format!("http://127.0.0.1:{port}{path}"));
    // The first that readers are told of has it already.
    let ready = |path: &str| get(path).filter(|(status, _)| *status == 200);
    kit::wait_for("readiness", Duration::from_secs(60), || ready("/readyz"));
    let (status, body) = get("/api/v1/services/web/forecast").unwrap();
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    body["forecast"].as_object().unwrap_or_else(|| panic!("{body}"));
    body["forecast"].clone()
}

#[test]
fn a_service_with_a_history_has_a_forecast_when_it_is_ready_and_takes_it_in_once() {
    let Some(kafka) = kit::kafka() else { return };
    let (setup, port) = setup(&kafka, "back-fill", r#"{ kind = "file", path = "web.csv" }"#);
    let (config, log) = (setup.config(), setup.path("log"));
    let start = || kit::Running::start(&["run", "-c", &config], &log);
    let mut running = start();
    let forecast = first_forecast(port);
    assert_eq!((&forecast["model"], &forecast["reason"]), (&"ensemble".into(), &"cold-start".into()), "{forecast}");
    let filled = |running: &kit::Running| running.printed().matches("history back-filled").count();
    assert_eq!(filled(&running), 1, "{}", running.printed());
    running.signal("-TERM");
    assert!(running.finish(Duration::from_secs(60)).success(), "{}", running.printed());
    // Again, with what is in the store.
    let mut running = start();
    first_forecast(port);
    assert_eq!(filled(&running), 1, "{}", running.printed());
    running.kill();
    // A model can be trained on it too, from the store or from the file; five days of windows are there, no more.
    let trained = |more: &[&str]| {
        let mut all = vec!["model", "train", "-c", &config, "--json"];
        all.extend(more);
        kit::run(&all)
    };
    let found = trained(&["--history", &format!("web={}", setup.path("absent.csv").display())]);
    assert_eq!(found.code, Some(3), "{}", found.stderr);
    assert!(found.stderr.contains("hint: name a file that can be read"), "{}", found.stderr);
}

#[test]
fn a_prometheus_fills_in_what_the_store_lacks_and_delays_nothing_where_it_is_absent() {
    let (Some(kafka), Some(program)) = (kit::kafka(), kit::prometheus()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (mut server, url) = prometheus(&program, folder.path(), start(1440), 1440);
    let history = |url: &str| format!(r#"{{ kind = "prometheus", url = "{url}", query = "{QUERY}" }}"#);
    let (with, port) = setup(&kafka, "prometheus", &history(&url));
    let mut running = kit::Running::start(&["run", "-c", &with.config()], &with.path("log"));
    first_forecast(port);
    assert!(running.printed().contains("history back-filled"), "{}", running.printed());
    running.kill();
    server.kill();
    let (without, port) = setup(&kafka, "no-prometheus", &history(&url));
    let mut running = kit::Running::start(&["run", "-c", &without.config()], &without.path("log"));
    kit::wait_for("readiness", Duration::from_secs(60), || {
        kit::try_http_get(&format!("http://127.0.0.1:{port}/readyz")).filter(|(status, _)| *status == 200)
    });
    assert!(running.printed().contains("no back-fill before the next start"), "{}", running.printed());
    running.kill();
}
