//! Workloads that say how much spot they want, from end to end: annotations of a real cluster's objects decide how the nodes
//! under them are split.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prescale_actuate::wire::{Wire, WireRequest};
use prescale_domain::{Clock as _, Span, SystemClock};
use prescale_serve::serve_wire;
use prescale_simulation::aws::{Aws, AwsSettings};
use serde_json::{Value, json};

use crate::kit::config::Setup;
use crate::kit::{self, kubectl, kubectl_with};

/// On a port: an account with the node groups `base` and `spot`, of two nodes each.
fn account(runtime: &tokio::runtime::Runtime) -> String {
    let begun = Instant::now();
    let start = SystemClock.now() - Span::from_minutes(30);
    let settings = AwsSettings { start, end: start + Span::from_minutes(24 * 60), ..AwsSettings::default() };
    let mut aws = Aws::new(settings.with_losses(0.0)).unwrap();
    let mut create = |after: Span, path: &str, body: Value| {
        let (method, path, body) = ("POST".to_owned(), path.to_owned(), body.to_string().into_bytes());
        let answer = aws.call(start + after, &WireRequest { method, path, body, ..WireRequest::default() });
        assert!(format!("{answer:?}").contains("status: 200"), "{answer:?}");
    };
    let subnets = json!({"subnetIds": ["subnet-a", "subnet-b"]});
    create(Span::ZERO, "/clusters", json!({"name": "prod", "roleArn": "r", "resourcesVpcConfig": subnets}));
    for (name, kind) in [("base", "ON_DEMAND"), ("spot", "SPOT")] {
        let sizes = json!({"minSize": 0, "desiredSize": 2, "maxSize": 20});
        let body = json!({"nodegroupName": name, "capacityType": kind, "scalingConfig": sizes, "nodeRole": "r",
                          "subnets": subnets["subnetIds"], "instanceTypes": ["m5.large", "m6i.large"]});
        create(Span::from_minutes(15), "/clusters/prod/node-groups", body);
    }
    let aws = Arc::new(Mutex::new(aws));
    let wire = Wire::new(move |request: WireRequest| {
        let passed = Span::from_millis(i64::try_from(begun.elapsed().as_millis()).unwrap());
        std::future::ready(aws.lock().unwrap().call(start + Span::from_minutes(30) + passed, &request))
    });
    let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0))).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(serve_wire(listener, wire.handler()));
    url
}

fn deployment(space: &str, name: &str, spot: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": space, "annotations": {"prescale.io/spot": spot}},
        "spec": {"replicas": 8, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "none"}]},
        }},
    })
}

#[test]
fn what_workloads_say_of_spot_decides_how_their_nodes_are_split() {
    let (Some(kafka), Some(kubeconfig)) = (kit::kafka(), kit::kubeconfig()) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (url, port, space) = (account(&runtime), kit::free_port(), kit::unique("spot-pods"));
    kubectl(&["create", "namespace", &space]);
    let both = [deployment(&space, "web", "never"), deployment(&space, "batch", "prefer")];
    kubectl_with(&["apply", "-f", "-"], &json!({"apiVersion": "v1", "kind": "List", "items": both}).to_string());
    let pods = |name: &str| {
        format!(
            "{{ kind = \"kubernetes\", namespace = \"{space}\", workload = \"Deployment/{name}\", min = 1, max = 100, \
             cluster = {{ kubeconfig = \"{}\" }} }}\nunit = {{ cpu_cores = 1.0 }}",
            kubeconfig.display()
        )
    };
    let types = ["m5.large", "m6i.large"].map(|kind| format!("{{ name = \"{kind}\", usd_hour = 0.1 }}, ")).concat();
    let nodes = format!(
        "{{ kind = \"eks-nodegroup\", cluster = \"prod\", nodegroup = \"base\", spot_nodegroup = \"spot\", min = 1, max = 30, \
         region = \"eu-west-1\", endpoint_url = \"{url}\", spot = {{ types = [{types}], plan = {{ on_demand_floor = 1 }} }} }}\n\
         nodes = {{ pods_of = [\"web\", \"batch\"], allocatable = {{ cpu_cores = 4.0 }} }}"
    );
    let setup = Setup::new(&kafka, "spot-pods")
        .with(&format!(
            "mode = \"recommend\"\nserve.listen = \"127.0.0.1:{port}\"\n[policy]\ndecision_interval = \"1s\"\n\
             fast_interval = \"1s\"\n"
        ))
        .service("web", 10.0, &pods("web"))
        .service("batch", 10.0, &pods("batch"))
        .service("nodes", 1.0, &nodes);
    let mut running = kit::Running::start(&["run", "-c", &setup.config()], &setup.path("log"));
    let ask = |path: &str| -> Option<Value> {
        serde_json::from_str(&kit::try_http_get(&format!("http://127.0.0.1:{port}{path}"))?.1).ok()
    };
    // Nodes on demand whatever spot costs, and those that are planned to be, once the first is as expected.
    let floor = |expected: u64| {
        let mut last = Value::Null;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            last = ask("/api/v1/decisions?limit=1&service=nodes").unwrap_or_default()["decisions"][0].clone();
            if last["split"]["inputs"]["settings"]["on_demand_floor"] == expected {
                return last["split"]["plan"]["on_demand"].as_u64().unwrap();
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("no decision has a floor of {expected}: {last}");
    };
    // Sixteen pods take four nodes; the eight that refuse spot take two of them.
    assert!(floor(2) >= 2);
    let annotate = |annotation: &str| {
        kubectl(&["annotate", "deployment/web", annotation, "--overwrite", "--namespace", &space]);
    };
    annotate("prescale.io/spot-max-share=0.25");
    annotate("prescale.io/spot=prefer");
    // Six of the eight, on two nodes.
    assert!(floor(2) >= 2);
    annotate("prescale.io/spot-max-share=75%");
    assert!(floor(1) >= 1, "what is configured is the least");
    annotate("prescale.io/spot=sometimes");
    let told = kit::wait_for("what can't be followed", Duration::from_secs(60), || {
        let status = ask("/api/v1/services")?.to_string();
        status.contains("`sometimes` is not one of never, prefer, require").then_some(status)
    });
    assert!(told.contains("annotation `prescale.io/spot`"), "{told}");
    // The cluster's own pods are followed as they become more.
    annotate("prescale.io/spot=never");
    kubectl(&["scale", "deployment/web", "--replicas=16", "--namespace", &space]);
    assert!(floor(4) >= 4);
    running.signal("-TERM");
    assert!(running.finish(Duration::from_secs(60)).success(), "{}", running.printed());
    kubectl(&["delete", "namespace", &space, "--wait=false"]);
}
