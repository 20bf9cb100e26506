//! A recorded surge, a real HorizontalPodAutoscaler and Prescale's external metric. Rule: the manifests are those that
//! `prescale generate` prints; the decisions are the product's, on a forecast that has seen only what was before; a minute of
//! the trace takes a second and a half here.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use flate2::read::GzDecoder;
use prescale_actuate::FleetSettings;
use prescale_adapter::fake::{Known, Scripted};
use prescale_adapter::{AdapterSettings, Listen, MetricsSettings, bind};
use prescale_domain::{Clock, Mode, ServiceName, Span, SystemClock, Timestamp};
use prescale_simulation::arena::{Bout, Demand};
use prescale_simulation::experiment::{ExperimentSettings, SeasonalLevel, simulate_service};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::kit::{self, kubectl, kubectl_with};

const MINUTE: Span = Span::from_minutes(1);
const DAY: usize = 24 * 60;
/// Minutes of the trace that are played.
const PLAYED: usize = 75;
const REAL_MINUTE: Duration = Duration::from_millis(1500);

/// NASA's log of July 1995 by the minute; where it is absent, days of the same shape.
fn trace() -> (Timestamp, Vec<f64>) {
    let start: Timestamp = "1995-07-01T04:00:00Z".parse().unwrap();
    let Some(file) = kit::traces().map(|traces| traces.join("requests/nasa_http_jul95_1m.csv.gz")) else {
        let day = |minute: usize| (minute % DAY) as f64 / DAY as f64 * std::f64::consts::TAU;
        let load = |minute| 60.0 - 45.0 * day(minute).cos() + 6.0 * ((minute * 7919) % 13) as f64 / 13.0;
        return (start, (0..14 * DAY).map(load).collect());
    };
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
    let loads = text.lines().skip(1).map(|line| line.split_once(',').unwrap().1.parse::<f64>().unwrap());
    (start, loads.collect())
}

fn mean(loads: &[f64]) -> f64 {
    loads.iter().sum::<f64>() / loads.len() as f64
}

/// Where load rises most within an hour, on the days from `from` to `to`.
fn surge(loads: &[f64], from: usize, to: usize) -> usize {
    let rise = |minute: &usize| mean(&loads[minute + 60..minute + 75]) / mean(&loads[*minute..minute + 15]).max(1.0);
    (from * DAY..to * DAY).step_by(5).max_by(|a, b| rise(a).total_cmp(&rise(b))).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_hpa_has_the_pods_before_a_recorded_surge() {
    let Some(kubeconfig) = kit::kubeconfig() else { return };
    drop(kubeconfig);
    let (start, loads) = trace();
    // Learnt on nine days; the surge is one of the next three.
    let from = surge(&loads, 9, 12);
    let begins = start + Span::from_minutes(i64::try_from(from).unwrap());
    let played = &loads[from..from + PLAYED];
    let peak = played.iter().copied().fold(0.0, f64::max);
    let capacity = peak / 40.0;
    let decisions = decide(start, begins, &loads[..from], played, capacity);

    let space = kit::unique("surge");
    kubectl(&["create", "namespace", &space]);
    let answers = Arc::new(Scripted::new([]));
    let set = |units: u32, load: f64| {
        answers.set("web", |known| {
            *known = Known {
                at: SystemClock.now(),
                units: Some(units),
                load: Some(load),
                unit_capacity: Some(capacity),
                active: Some(units > 0),
                ..Known::default()
            };
        });
    };
    set(decisions[0], played[0]);
    let metrics =
        MetricsSettings { listen: Some(Listen("127.0.0.1:0".parse().unwrap())), ..MetricsSettings::default() };
    let bound = bind(&AdapterSettings { metrics, ..AdapterSettings::default() }).await.unwrap();
    let port = bound.addresses().metrics.unwrap().port();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(bound.serve(answers.clone(), Arc::new(SystemClock), shutdown.clone()));
    apply(&[api_service(), service(&space, port)].concat(), &space, port, decisions[0]);
    let replicas = || {
        let found = kubectl(&["get", "deployment/web", "--namespace", &space, "--output", "json"]);
        let found: Value = serde_json::from_str(&found).unwrap();
        let count = |pointer: &str| found.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        (count("/spec/replicas"), count("/status/readyReplicas"))
    };
    let enough = u64::from(decisions[0]);
    tokio::task::block_in_place(|| {
        kit::wait_for("the HPA to read the metric", Duration::from_secs(120), || {
            (replicas().1 >= enough).then_some(())
        });
    });

    println!("minute  load  needed  wanted  replicas  ready");
    let (mut short, mut first_ready, mut first_needed) = (0, None, None);
    let most = played.iter().map(|load| (load / capacity).ceil() as u64).max().unwrap();
    // Nine tenths of the peak: where there are as many pods, and where load first needs them.
    let mark = most * 9 / 10;
    for (minute, (load, units)) in played.iter().zip(&decisions).enumerate() {
        let began = tokio::time::Instant::now();
        set(*units, *load);
        tokio::time::sleep_until(began + REAL_MINUTE).await;
        let (replicas, ready) = tokio::task::block_in_place(replicas);
        let needed = (load / capacity).ceil() as u64;
        short += u32::from(ready < needed);
        first_ready = first_ready.or((ready >= mark).then_some(minute));
        first_needed = first_needed.or((needed >= mark).then_some(minute));
        if minute % 3 == 0 {
            println!("{minute:6}  {load:4.0}  {needed:6}  {units:6}  {replicas:8}  {ready:5}");
        }
    }
    shutdown.cancel();
    serving.await.unwrap().unwrap();
    kubectl(&["delete", "apiservice", "v1beta1.external.metrics.k8s.io"]);
    kubectl(&["delete", "namespace", &space, "--wait=false"]);
    println!("short in {short} of {PLAYED} minutes; {mark} pods ready at {first_ready:?}, needed at {first_needed:?}");
    assert!(first_ready.unwrap() < first_needed.unwrap(), "the pods came with the load, not before it");
    assert!(short <= 4, "too few pods in {short} of {PLAYED} minutes");
}

/// What Prescale wants after each minute that is played.
fn decide(start: Timestamp, begins: Timestamp, history: &[f64], played: &[f64], capacity: f64) -> Vec<u32> {
    let name = ServiceName::new("web");
    let mut forecaster = SeasonalLevel::fit(name.clone(), start, history, Vec::new());
    let policy = serde_json::from_value::<Vec<prescale_domain::Decision>>(
        serde_json::from_str(include_str!("../../schemas/samples/decisions.json")).unwrap(),
    )
    .unwrap()
    .remove(0)
    .inputs
    .settings;
    let policy = prescale_domain::PolicySettings {
        min_units: 1,
        max_units: 200,
        step_up_units: 50,
        step_down_units: 10,
        ..policy
    };
    let initial = (history.last().unwrap() * 1.3 / capacity).ceil() as u32;
    let fleet = FleetSettings {
        min: 1,
        max: 200,
        initial,
        provisioning_latency: Span::from_minutes(3),
        provisioning_latency_p90: Span::from_minutes(4),
        ..FleetSettings::default()
    };
    let demand = Demand { start: begins, step: MINUTE, load: played.to_vec() };
    let bout = Bout { demand, fleet, unit_capacity: capacity };
    let settings = ExperimentSettings {
        policy,
        decision_interval: MINUTE,
        data_age: Span::from_secs(5),
        early: None,
        knows_events: false,
        mode: Mode::Recommend,
        rules: None,
    };
    let mut wanted = Vec::new();
    let mut next = played.iter();
    let forecast = |window_end| {
        while forecaster.end() < window_end {
            match next.next() {
                Some(load) => forecaster.update(*load),
                None => break,
            }
        }
        Ok(forecaster.forecast(15))
    };
    simulate_service(&bout, &name, &settings, played.into(), forecast, |decision| wanted.push(decision.desired));
    wanted
}

fn api_service() -> Vec<Value> {
    vec![json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1beta1.external.metrics.k8s.io"},
        "spec": {"group": "external.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100,
                 "versionPriority": 100, "insecureSkipTLSVerify": true, "service": Value::Null},
    })]
}

/// The aggregator dials what a service of this kind is called.
fn service(space: &str, port: u16) -> Vec<Value> {
    vec![json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "prescale", "namespace": space},
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port, "targetPort": port}]},
    })]
}

/// The metric's server, a node with room, the workload, and the HPA as `prescale generate` prints it.
fn apply(objects: &[Value], space: &str, port: u16, replicas: u32) {
    let mut objects = objects.to_vec();
    objects[0]["spec"]["service"] = json!({"name": "prescale", "namespace": space, "port": port});
    for number in 0..3 {
        objects.push(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": format!("{space}-{number}"), "labels": {"pool": space},
                         "annotations": {"kwok.x-k8s.io/node": "fake"}},
            "status": {"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "110"},
                       "capacity": {"cpu": "64", "memory": "256Gi", "pods": "110"}},
        }));
    }
    objects.push(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": space},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                "nodeSelector": {"pool": space}, "containers": [{"name": "c", "image": "none"}],
            }},
        },
    }));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    kubectl_with(&["apply", "--server-side", "-f", "-"], &list.to_string());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prescale.toml");
    let config = format!(
        "mode = \"recommend\"\n[kafka]\nbootstrap_servers = \"localhost:9092\"\n[features]\npipelines = []\n\
         [[services]]\nname = \"web\"\nunit_capacity = 1.0\n\
         target = {{ kind = \"kubernetes\", namespace = \"{space}\", workload = \"Deployment/web\", min = 1, max = 200 }}\n"
    );
    std::fs::write(&file, config).unwrap();
    let printed = kit::run(&["generate", "hpa", "-c", file.to_str().unwrap()]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    kubectl_with(&["apply", "--server-side", "-f", "-"], &printed.stdout);
}
