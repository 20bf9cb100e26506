//! Prometheus as a source of metrics. Rule: a real server's samples become rows of the topic, and a service is scaled by them
//! through the same pipelines as by any other rows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::fallback::{exporter, prometheus};
use crate::kit;
use crate::kit::config::Setup;

#[test]
fn a_service_is_scaled_by_what_prometheus_knows() {
    let (Some(kafka), Some(program)) = (kit::kafka(), kit::prometheus()) else { return };
    let (folder, load) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(30)));
    let (mut server, url) = prometheus(&program, folder.path(), exporter(&load));
    let (port, topic) = (kit::free_port(), kit::unique("metrics"));
    kit::create_topic(&kafka, &topic, 1);
    let sql = std::fs::read_to_string(kit::root().join("pipelines/metrics.sql")).unwrap();
    let sql = sql.replace("1 minute", "2 seconds").replace("INTERVAL '5 seconds'", "INTERVAL '1 second'");
    let setup = Setup::new(&kafka, "polled").file("metrics.sql", &sql).with(&format!(
        "mode = \"act\"\nserve.listen = \"127.0.0.1:{port}\"\n[features]\npipelines = [\"metrics.sql\"]\nsources = {{ metrics = \
         \"{topic}\" }}\nstep = \"2s\"\nlateness = \"1s\"\n[policy]\ndecision_interval = \"2s\"\nstale_after = \
         \"10s\"\nblind_after = \"15s\"\n[lead_time]\nprovisioning_latency = \"4s\"\nwarm_up = \"0s\"\n[forecast]\nstep = \
         \"2s\"\n[[prometheus]]\nurl = \"{url}\"\nquery = \"load\"\nname = \"load\"\nservice_label = \
         \"service\"\ninterval = \"1s\"\ntopic = \"{topic}\"\n"
    ));
    let target = "{ kind = \"simulated\", fleet = { initial = 2 } }\nsignal = \"load_mean\"";
    let setup = setup.service("checkout", 5.0, target);
    let mut running = kit::Running::start(&["run", "-c", &setup.config()], &setup.path("log"));
    let decided = |what: &str, units: u64| {
        kit::wait_for(what, Duration::from_secs(90), || {
            let address = format!("http://127.0.0.1:{port}/api/v1/decisions?limit=1&service=checkout");
            let decision = serde_json::from_str::<Value>(&kit::try_http_get(&address)?.1).ok()?["decisions"][0].clone();
            (decision["desired"] == units).then_some(decision)
        })
    };
    // By the reactive rule: 30 / 5 / 0.7, then 100 / 5 / 0.7.
    let first = decided("units for what Prometheus says", 9);
    assert_eq!(first["inputs"]["load"], 30.0, "{first}");
    load.store(100, Ordering::Relaxed);
    decided("more of them", 29);
    running.signal("-TERM");
    assert!(running.finish(Duration::from_secs(60)).success(), "{}", running.printed());
    server.kill();
    // Each sample is there once.
    let rows: Vec<Value> = kit::consume(&kafka, &topic).iter().map(kit::Record::json).collect();
    let of_checkout = rows.iter().filter(|row| row["service"] == "checkout");
    let moments: Vec<&str> = of_checkout.map(|row| row["ts"].as_str().unwrap()).collect();
    assert!(moments.len() >= 4 && rows.iter().any(|row| row["service"] == "idle" && row["value"] == 20.0), "{rows:?}");
    assert_eq!(moments.iter().collect::<BTreeSet<_>>().len(), moments.len());
}
