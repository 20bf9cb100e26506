//! `prescale forecast` as it is used: a file in, figures and plots out. Rule: the keys of the JSON are a promise.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::kit::{self, Finished};

/// Six days of five-minute windows with a daily wave.
fn history(folder: &Path) -> PathBuf {
    let file = folder.join("history.csv");
    let mut text = "timestamp,value\n".to_owned();
    for i in 0..6 * 288_u32 {
        let wave = 50.0 + 20.0 * (f64::from(i) / 45.84).sin() + f64::from(i * 7919 % 13);
        let (day, minutes) = (1 + i / 288, 5 * (i % 288));
        writeln!(text, "2026-01-{day:02}T{:02}:{:02}:00Z,{wave:.3}", minutes / 60, minutes % 60).unwrap();
    }
    std::fs::write(&file, text).unwrap();
    file
}

fn forecast(folder: &Path, more: &[&str]) -> Finished {
    let file = history(folder);
    let mut arguments = vec!["forecast", "--history", file.to_str().unwrap(), "--step", "5m"];
    arguments.extend(["--train-until", "2026-01-04T00:00:00Z", "--test-to", "2026-01-06T00:00:00Z"]);
    arguments.extend(more);
    kit::run(&arguments)
}

#[test]
fn the_json_has_every_figure_by_model_and_horizon() {
    let folder = tempfile::tempdir().unwrap();
    let (plots, horizons) = (folder.path().join("plots"), ["5m", "10m", "15m", "30m", "60m"]);
    let more = ["--calibrate", "1d", "--models", "naive,holt,ensemble", "--plots", plots.to_str().unwrap(), "--json"];
    let finished = forecast(folder.path(), &more);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let report: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(report["origins"], 288);
    assert!(report["train_seconds"].as_f64().unwrap() > 0.0);
    for model in ["naive", "holt", "ensemble"] {
        for horizon in horizons {
            let figures = &report["models"][model][horizon];
            for key in ["mase", "smape", "mape", "mae", "rmse"] {
                assert!(figures[key].as_f64().is_some_and(|value| value > 0.0), "{model} {horizon} {key}: {figures}");
            }
            assert!(figures["pinball"]["0.9"].as_f64().is_some_and(|value| value > 0.0), "{figures}");
            let covered = figures["coverage"]["0.9"].as_f64().unwrap();
            assert!((0.8..=1.0).contains(&covered), "{model} {horizon}: {covered}");
        }
    }
    let mase = |model: &str| report["models"][model]["60m"]["mase"].as_f64().unwrap();
    assert!(mase("ensemble") < 0.8 * mase("naive"));
    for plot in ["fan-ensemble-60m", "calibration-5m", "error-by-hour-30m"] {
        let text = std::fs::read_to_string(plots.join(plot).with_extension("svg")).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{plot}");
    }
}

#[test]
fn two_runs_print_the_same_table() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--calibrate", "1d", "--models", "ses,day-naive,ensemble", "--online", "--horizons", "15m"];
    let (one, two) = (forecast(folder.path(), &more), forecast(folder.path(), &more));
    assert_eq!((one.code, one.stdout.as_str()), (Some(0), two.stdout.as_str()), "{}", one.stderr);
    assert!(one.stdout.starts_with("288 origins, MASE scale "), "{}", one.stdout);
}

#[test]
fn a_model_that_is_none_is_a_wrong_usage_and_a_test_outside_the_history_an_invalid_one() {
    let folder = tempfile::tempdir().unwrap();
    let finished = forecast(folder.path(), &["--models", "oracle"]);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains("`oracle` is not a model; there are"), "{}", finished.stderr);
    let finished = forecast(folder.path(), &["--test-from", "2026-01-09T00:00:00Z", "--models", "naive"]);
    assert_eq!(finished.code, Some(3), "{}", finished.stderr);
}
