//! KEDA's and Envoy's own client code, in Go, as a witness that does not know our definitions. Built by
//! `tests/kit/grpc_client.sh`; `tests/run.sh` says where it is.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Output, Stdio};

use prescale_adapter::Admission;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::kit::serve;

/// The program; without it a test says so and passes, or fails where CI needs everything.
fn program() -> Option<OsString> {
    let program = std::env::var_os("PRESCALE_TEST_GRPC_CLIENT");
    if program.is_none() {
        let thread = std::thread::current();
        let line = format!(
            "skipped: {}: no client of KEDA and Envoy (PRESCALE_TEST_GRPC_CLIENT is not set; run tests/run.sh)",
            thread.name().unwrap_or("a test")
        );
        assert!(std::env::var_os("PRESCALE_TEST_REQUIRE").is_none(), "{line}");
        std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
    }
    program
}

async fn output(program: &OsString, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap()
}

/// What the client heard.
async fn heard(program: &OsString, arguments: &[&str]) -> Vec<Value> {
    let Output { status, stdout, stderr } = output(program, arguments).await;
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn the_client_of_keda_hears_what_was_said() {
    let Some(program) = program() else { return };
    let served = serve(|_| {}).await;
    let address = served.addresses.keda.unwrap().to_string();
    let ask = async |call: &str| heard(&program, &["keda", &address, call, "service=web", "metric=load"]).await;
    assert_eq!(ask("IsActive").await, [json!({ "result": true })]);
    let spec = |size: &str, float: f64| json!({ "metricSpecs": [{ "metricName": "prescale_forecast_load", "targetSize": size, "targetSizeFloat": float }] });
    assert_eq!(ask("GetMetricSpec").await, [spec("51", 50.5)]);
    let value = json!({ "metricName": "prescale_forecast_load", "metricValue": "1235", "metricValueFloat": 1234.5 });
    assert_eq!(ask("GetMetrics").await, [json!({ "metricValues": [value] })]);
    // A stream has the present at once, and then the change; the change comes when the client follows.
    let change = async {
        let mut changes = 0;
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            changes += 1;
            let (active, capacity) = (changes % 2 == 0, 60.0 + f64::from(changes % 2));
            served.answers.set("web", |known| (known.active, known.unit_capacity) = (Some(active), Some(capacity)));
        }
    };
    let follow = async {
        let active = ask("StreamIsActive").await;
        let targets = ask("StreamMetricSpec").await;
        (active, targets)
    };
    let (active, targets) = tokio::select! {
        followed = follow => followed,
        () = change => unreachable!("it changes for ever"),
    };
    assert_eq!(active.len(), 2);
    assert_ne!(active[0], active[1]);
    assert_eq!(targets.len(), 2);
    assert_ne!(targets[0], targets[1]);

    let refused = output(&program, &["keda", &address, "GetMetrics", "service=none"]).await;
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(error.trim(), "rpc error: code = NotFound desc = service `none` is not known");
}

#[tokio::test]
async fn the_client_of_envoy_hears_what_was_said() {
    let Some(program) = program() else { return };
    let served = serve(|_| {}).await;
    let address = served.addresses.ratelimit.unwrap().to_string();
    let ask = async |priority: &str| heard(&program, &["ratelimit", &address, "40", "service=web", priority]).await;
    let over = |answers: &[Value]| answers.iter().filter(|answer| answer["overallCode"] == "OVER_LIMIT").count();
    let answers = ask("priority=low").await;
    assert!((18..=24).contains(&over(&answers)), "{} of {}", over(&answers), answers.len());
    let refused = answers.iter().find(|answer| answer["overallCode"] == "OVER_LIMIT").unwrap();
    assert_eq!(refused["statuses"][0]["code"], "OVER_LIMIT");
    assert_eq!(refused["responseHeadersToAdd"], json!([{ "key": "retry-after", "value": "5", "rawValue": "" }]));
    assert_eq!(over(&ask("priority=critical").await), 0);

    served.answers.set("web", |known| known.admission = Some(Admission { share: 0.5, rate: Some(100.0) }));
    let answers = ask("priority=critical").await;
    let status = &answers[0]["statuses"][0];
    assert_eq!(status["currentLimit"], json!({ "name": "", "requestsPerUnit": 100, "unit": "SECOND" }));
    assert_eq!(
        answers[0]["responseHeadersToAdd"][0],
        json!({ "key": "x-ratelimit-limit", "value": "100", "rawValue": "" })
    );
}
