//! `prescale model` on a folder and on S3. Rule: what the registry is asked to do it does whole or not at all, and says so
//! in words, in JSON and by its exit code.

use serde_json::Value;

use crate::kit::config::{SIMULATED, Setup};
use crate::kit::{self, Finished};

/// Two weeks of hours in windows of a quarter of an hour are enough to train on, and quick.
fn history() -> String {
    let rows = (0..14 * 96_i64).map(|i| {
        let time = chrono::DateTime::from_timestamp(1_767_225_600 + i * 900, 0).unwrap();
        let wave = 1.0 + 0.5 * (i as f64 * std::f64::consts::TAU / 96.0).sin();
        let load = 100.0 * wave + (i * 7919 % 23) as f64;
        format!("{},{load:.1}\n", time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
    });
    std::iter::once("timestamp,value\n".to_owned()).chain(rows).collect()
}

fn setup(models: &str) -> Setup {
    let more = format!(
        "[features]\nstep = \"15m\"\n[forecast]\nstep = \"15m\"\nhorizon_steps = 4\n[forecast.budget]\nfirst_samples = 1000\n\
         refit_samples = 500\n[state]\nmodels = \"{models}\"\n"
    );
    Setup::new("localhost:1", "model").with(&more).service("web", 10.0, SIMULATED).file("web.csv", &history())
}

#[track_caller]
fn run(setup: &Setup, arguments: &[&str], code: i32) -> Finished {
    let config = setup.config();
    let mut all = vec!["model", arguments[0], "-c", config.as_str()];
    all.extend(&arguments[1..]);
    let finished = kit::run(&all);
    assert_eq!(finished.code, Some(code), "{all:?}: {}{}", finished.stdout, finished.stderr);
    finished
}

#[track_caller]
fn json(setup: &Setup, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.push("--json");
    serde_json::from_str(&run(setup, &all, 0).stdout).unwrap()
}

/// Trains three versions, promotes and rolls back; looks after each step.
#[track_caller]
fn life_of_a_registry(setup: &Setup) {
    let file = setup.path("web.csv").display().to_string();
    let history = format!("web={file}");
    assert_eq!(json(setup, &["list"])["versions"], serde_json::json!([]));
    assert!(run(setup, &["show"], 1).stderr.contains("there is no champion"));
    assert!(run(setup, &["rollback"], 1).stderr.contains("there is no champion"));

    let first = json(setup, &["train", "--history", &history, "--promote"]);
    assert_eq!((&first["version"], &first["promoted"]), (&Value::from(1), &Value::from(true)));
    assert!(first["metrics"]["loss"].as_f64().unwrap() > 0.0, "{first}");
    let second = run(setup, &["train", "--history", &history], 0).stdout;
    assert!(second.contains("version 2 is registered") && second.contains("prescale model promote"), "{second}");
    let shown = json(setup, &["show", "2"]);
    assert_eq!((&shown["version"]["parent"], &shown["champion"]), (&Value::from(1), &Value::from(false)));
    assert_eq!(shown["version"]["training"]["until"], "2026-01-15T00:00:00Z");
    assert_eq!(shown["version"]["training"]["services"], serde_json::json!(["web"]));
    assert_eq!(shown["version"]["config"]["horizon_steps"], 4);

    let promoted = run(setup, &["promote", "2", "--why", "a test"], 0).stdout;
    assert_eq!(promoted.trim(), "version 2 is the champion; it was 1");
    assert!(run(setup, &["promote", "2"], 1).stderr.contains("is the champion already"));
    assert!(run(setup, &["promote", "9"], 1).stderr.contains("version 9 is not in the registry; it has 1 to 2"));
    let text = run(setup, &["show"], 0).stdout;
    assert!(text.contains("version       2 (lstm, the champion)") && text.contains("a test"), "{text}");
    assert_eq!(json(setup, &["rollback"]), serde_json::json!({"champion": 1, "before": 2}));
    assert!(run(setup, &["rollback"], 1).stderr.contains("the champion is the first"));
    let list = json(setup, &["list"]);
    assert_eq!((&list["champion"], list["versions"].as_array().unwrap().len()), (&Value::from(1), 2));
    assert_eq!(list["reigns"].as_array().unwrap().len(), 3);
    let text = run(setup, &["list"], 0).stdout;
    assert!(text.lines().nth(1).unwrap().starts_with("*       1  lstm        -"), "{text}");
}

#[test]
fn versions_are_trained_promoted_and_rolled_back_in_a_folder() {
    let setup = setup("");
    life_of_a_registry(&setup);
    // Bytes that were changed are refused, and the champion stays.
    let object = json(&setup, &["show", "2"])["version"]["object"].as_str().unwrap().to_owned();
    let path = setup.path("state").join("models").join(object);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"seed\"", "\"sead\"", 1)).unwrap();
    assert!(run(&setup, &["promote", "2"], 4).stderr.contains("version 2 is damaged"));
    assert_eq!(json(&setup, &["list"])["champion"], 1);
    // A registry of a newer major form is refused, of a newer minor one read only.
    let registry = setup.path("state/models/registry.json");
    let text = std::fs::read_to_string(&registry).unwrap();
    std::fs::write(&registry, text.replace("\"minor\": 0", "\"minor\": 7, \"more\": true")).unwrap();
    assert_eq!(json(&setup, &["list"])["champion"], 1);
    let history = format!("web={}", setup.path("web.csv").display());
    assert!(run(&setup, &["train", "--history", &history], 4).stderr.contains("can be read, not changed"));
    std::fs::write(&registry, text.replace("\"major\": 1", "\"major\": 2")).unwrap();
    assert!(run(&setup, &["list"], 4).stderr.contains("form 2.0, this build reads 1.x"));
}

#[test]
fn versions_are_trained_promoted_and_rolled_back_in_a_bucket_of_s3() {
    let Some(moto) = kit::moto() else { return };
    let bucket = kit::unique("models");
    kit::boto3(&format!(
        "s3.create_bucket(Bucket='{bucket}', CreateBucketConfiguration={{'LocationConstraint': 'eu-west-1'}})"
    ));
    let setup = setup(&format!("s3://{bucket}/some/models?endpoint={moto}&region=eu-west-1"));
    life_of_a_registry(&setup);
    let missing =
        setup.with(&format!("[state]\nmodels = \"s3://{bucket}-missing/models?endpoint={moto}&region=eu-west-1\"\n"));
    let history = format!("web={}", missing.path("web.csv").display());
    run(&missing, &["train", "--history", &history], 4);
}

#[test]
fn wrong_use_has_its_exit_code() {
    let setup = setup("");
    let config = setup.config();
    assert_eq!(kit::run(&["model", "promote", "-c", &config]).code, Some(2));
    assert_eq!(kit::run(&["model", "train", "-c", &config, "--history", "web"]).code, Some(2));
    assert_eq!(kit::run(&["model", "list", "-c", "nowhere.toml"]).code, Some(3));
    let short = "web=".to_owned() + setup.path("short.csv").to_str().unwrap();
    std::fs::write(setup.path("short.csv"), "timestamp,value\n2026-01-01T00:00:00Z,1\n").unwrap();
    assert!(run(&setup, &["train", "--history", &short], 1).stderr.contains("can't be fitted"));
    assert!(run(&setup, &["train", "--history", "web=nowhere.csv"], 3).stderr.contains("nowhere.csv"));
    assert!(run(&setup, &["train"], 1).stderr.contains("holds no history"));
    let wrong = setup.with("[state]\nmodels = \"models\"\n");
    assert!(run(&wrong, &["list"], 3).stderr.contains("state.models"));
}

#[test]
fn each_command_has_help_with_an_example() {
    for command in [
        &["model"][..],
        &["model", "list"],
        &["model", "show"],
        &["model", "train"],
        &["model", "promote"],
        &["model", "rollback"],
    ] {
        let mut all = command.to_vec();
        all.push("--help");
        let help = kit::run(&all);
        assert_eq!(help.code, Some(0));
        assert!(help.stdout.contains("Example") && help.stdout.contains("prescale model"), "{}", help.stdout);
    }
}
