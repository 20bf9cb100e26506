//! What a configuration file may say, and what it is told when it says something else.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::path::PathBuf;

use super::{parse, refusal};

const SERVICE: &str = r#"
[[services]]
name = "checkout"
unit_capacity = 50.0
target = { kind = "aws-asg", group = "checkout-asg", min = 2, max = 200, price_usd_hour = 0.17 }
"#;

#[track_caller]
fn faults(text: &str) -> Vec<(String, String)> {
    let error = parse(text, "test.toml", PathBuf::from(".")).unwrap_err();
    error.faults.into_iter().map(|fault| (fault.path, fault.text)).collect()
}

#[test]
fn the_smallest_useful_file_is_enough() {
    let loaded = parse(SERVICE, "test.toml", PathBuf::from(".")).unwrap();
    let settings = loaded.config.services[0].policy_settings(&loaded.config.policy);
    assert_eq!((settings.min_units, settings.max_units), (2, 200));
    assert!((settings.quantile - 0.987).abs() < 1e-12, "{}", settings.quantile);
    assert!(refusal(&loaded.config).is_none());
}

#[test]
fn all_faults_come_at_once_each_with_its_place() {
    let text = format!(
        "mod = \"act\"\n[kafka]\nbootstrap = \"x\"\n[features]\nstep = \"soon\"\npipelines = [\"missing.sql\"]\n{}",
        SERVICE.replace("min = 2", "min = 2, colour = \"red\"")
    );
    let found = faults(&text);
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    for expected in ["mod", "kafka.bootstrap", "features.step"] {
        assert!(paths.contains(&expected), "{expected} in {found:?}");
    }
    assert!(found.iter().any(|(path, text)| path.starts_with("services[0]") && text.contains("colour")), "{found:?}");
}

#[test]
fn values_out_of_bounds_name_value_and_bound() {
    let text = SERVICE.replace("50.0", "0.0").replace("min = 2", "min = 300");
    let found = faults(&text);
    assert!(found.contains(&("services[0].unit_capacity".into(), "0 is not above 0".into())), "{found:?}");
    assert!(found.contains(&("services[0].target".into(), "min 300 exceeds max 200".into())), "{found:?}");
}

#[test]
fn secrets_come_from_files_or_the_environment_and_are_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    std::fs::write(&path, "hunter2\n").unwrap();
    let text = format!(
        "[kafka.client]\n\"sasl.password\" = \"${{file:{}}}\"\n\"ssl.key.password\" = \"plain\"\n",
        path.display()
    );
    let loaded = parse(&text, "test.toml", PathBuf::from(".")).unwrap();
    assert_eq!(loaded.config.kafka.client["sasl.password"], "hunter2");
    let shown = loaded.resolved.lines.join("\n");
    assert!(!shown.contains("hunter2") && !shown.contains("plain"), "{shown}");
    assert!(shown.contains("state.dir = \"prescale-state\"  # default"), "{shown}");
    let missing = faults("[kafka.client]\n\"sasl.password\" = \"${env:PRESCALE_NO_SUCH_VARIABLE}\"\n");
    assert_eq!(missing[0].1, "environment variable `PRESCALE_NO_SUCH_VARIABLE` is not set");
}

#[test]
fn a_lead_time_beyond_the_horizon_is_refused_with_the_specified_json() {
    let text = format!("[lead_time]\nprovisioning_latency = \"31m\"\n{SERVICE}");
    let loaded = parse(&text, "test.toml", PathBuf::from(".")).unwrap();
    assert_eq!(
        refusal(&loaded.config).unwrap(),
        r#"{"error":"Forecasting horizon SLA violation: Node provisioning exceeds predictive lead time"}"#
    );
    let text = format!("[lead_time]\nprovisioning_latency = \"30m\"\n{SERVICE}");
    let loaded = parse(&text, "test.toml", PathBuf::from(".")).unwrap();
    assert!(refusal(&loaded.config).unwrap().contains("lead-time-beyond-horizon"));
}
