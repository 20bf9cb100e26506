//! Covariates as they are configured and measured on a file. Rule: what nothing makes is refused with its place.

use std::fmt::Write as _;

use crate::kit::{self, Finished};

/// `prescale check` of a backend and its caller; both pipelines write to the features topic.
fn check(signal: &str, covariates: &str) -> Finished {
    check_with("", &format!("signal = \"{signal}\"\ncovariates = [{covariates}]"))
}

fn check_with(features: &str, backend: &str) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let pipelines = kit::root().join("pipelines");
    let service = |name: &str, more: &str| {
        format!("[[services]]\nname = \"{name}\"\nunit_capacity = 1.0\ntarget = {{ kind = \"simulated\" }}\n{more}\n")
    };
    let text = format!(
        "[features]\npipelines = [\"{0}/requests.sql\", \"{0}/metrics.sql\"]\n{features}\n{1}{2}",
        pipelines.display(),
        service("frontend", ""),
        service("backend", backend)
    );
    let file = folder.path().join("prescale.toml");
    std::fs::write(&file, text).unwrap();
    kit::run(&["check", "-c", file.to_str().unwrap()])
}

#[test]
fn check_names_the_covariates_and_refuses_a_column_that_no_pipeline_makes() {
    let sound = check("requests", "\"standard\", \"error_rate\", \"gpu_utilization_max\", \"service:frontend\"");
    assert_eq!(sound.code, Some(0), "{}", sound.stderr);
    let expected = "the LSTM looks at queue_length_mean, latency_ms_p90, error_rate, cpu_utilization_mean, \
        system_load_mean, memory_utilization_mean, memory_pressure_mean, network_latency_ms_mean, gpu_utilization_max, \
        service:frontend too, where measured";
    assert!(sound.stdout.contains(expected), "{}", sound.stdout);

    let wrong = check("tokens", "\"latency_ms_p90\", \"latency_ms_p95\", \"_mean\"");
    assert_eq!(wrong.code, Some(3), "{}", wrong.stderr);
    for text in [
        "services[1].signal: no pipeline makes a column `tokens`",
        "services[1].covariates[1]: no pipeline makes a column `latency_ms_p95`",
        "services[1].covariates[2]: no pipeline makes a column `_mean`",
    ] {
        assert!(wrong.stderr.contains(text), "{text}: {}", wrong.stderr);
    }
    assert!(!wrong.stderr.contains("covariates[0]"), "{}", wrong.stderr);
}

#[test]
fn check_refuses_parts_of_windows_and_signals_that_no_pipeline_makes() {
    let wrong = check_with(
        "early_step = \"10s\"",
        "signals = { error_rate = \"error_rate\", latency = \"latency_ms_p90\", queue = \"waiting\" }\n\
         objective = { latency = \"250ms\" }",
    );
    assert_eq!(wrong.code, Some(3), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("features.early_step: no pipeline makes windows of 10s"), "{}", wrong.stderr);
    assert!(
        wrong.stderr.contains("services[1].signals.queue: no pipeline makes a column `waiting`"),
        "{}",
        wrong.stderr
    );
    assert_eq!(wrong.stderr.matches("no pipeline makes").count(), 2, "{}", wrong.stderr);
    let unbounded = check_with("", "signals = { latency = \"latency_ms_p90\" }");
    assert_eq!(unbounded.code, Some(3), "{}", unbounded.stderr);
    assert!(unbounded.stderr.contains("services[1].signals.latency"), "{}", unbounded.stderr);
}

#[test]
fn forecast_reads_further_columns_of_the_file_and_refuses_one_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.csv");
    let mut text = "timestamp,requests,queue\n".to_owned();
    for i in 0..3 * 288_u32 {
        let (day, minutes, load) = (1 + i / 288, 5 * (i % 288), 50 + i * 7919 % 13);
        writeln!(text, "2026-01-{day:02}T{:02}:{:02}:00Z,{load},{}", minutes / 60, minutes % 60, i % 9).unwrap();
    }
    std::fs::write(&file, text).unwrap();
    let forecast = |columns: &str| {
        let own = ["forecast", "--history", file.to_str().unwrap(), "--step", "5m", "--value-column", "requests"];
        let more = ["--train-until", "2026-01-03T00:00:00Z", "--models", "naive", "--covariates", columns];
        kit::run(&[&own[..], &more[..]].concat())
    };
    let sound = forecast("queue");
    assert_eq!(sound.code, Some(0), "{}", sound.stderr);
    let wrong = forecast("queue,latency");
    assert_eq!(wrong.code, Some(3), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("there is no column `latency`"), "{}", wrong.stderr);
}
