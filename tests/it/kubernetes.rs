//! Kubernetes targets on a real control plane, with kwok's nodes. Rule: kubectl has the last word on what became of an
//! object. What each failure of the API becomes is proven beside the target, in `src/actuate/kubernetes/tests.rs`.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prescale_actuate::wire::{Wire, WireAnswer, WireRequest};

use prescale_actuate::{
    Actuator, AheadBy, Cluster, ClusterSettings, Connections, DrainLimits, DrainOutcome, EksDrainSettings, EksSettings,
    Keeper, KubernetesLease, KubernetesSettings, LeaseSettings, NodesSettings, ScaledAs, Target, TargetSettings,
    drain_nodes,
};
use prescale_domain::{Decision, Mode, Outcome, Span, Timestamp};
use prescale_simulation::aws::{Aws, AwsSettings, Fault, FaultKind};
use serde_json::{Value, json};

use crate::kit::{self, kubectl, kubectl_with, wait_for};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// The machine may be busy with other tests, and so may the control plane.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn decision(desired: u32) -> Decision {
    let samples: Vec<Decision> = serde_json::from_str(include_str!("../../schemas/samples/decisions.json")).unwrap();
    let mut decision = samples.into_iter().next().unwrap();
    (decision.desired, decision.inputs.mode) = (desired, Mode::Act);
    decision
}

pub(crate) fn cluster(kubeconfig: &Path) -> ClusterSettings {
    ClusterSettings {
        kubeconfig: Some(kubeconfig.to_owned()),
        timeout: Span::from_secs(60),
        attempt_timeout: Span::from_secs(20),
        ..ClusterSettings::default()
    }
}

pub(crate) fn workload(kubeconfig: &Path, namespace: &str, workload: &str, scaled_as: ScaledAs) -> Target {
    let settings = KubernetesSettings {
        namespace: namespace.to_owned(),
        scaled_as,
        cluster: cluster(kubeconfig),
        ..KubernetesSettings::new(workload.parse().unwrap(), 0, 2000)
    };
    TargetSettings::Kubernetes(settings).build().unwrap()
}

pub(crate) fn nodes(kubeconfig: &Path, namespace: &str, ahead_by: AheadBy, name: &str, of: Option<&str>) -> Target {
    let settings = NodesSettings {
        namespace: namespace.to_owned(),
        cluster: cluster(kubeconfig),
        ..NodesSettings::new(ahead_by, name, of.map(|of| of.parse().unwrap()), 0, 2000)
    };
    TargetSettings::KubernetesNodes(settings).build().unwrap()
}

/// A namespace of one test.
pub(crate) fn namespace(name: &str) -> String {
    let name = kit::unique(name);
    kubectl(&["create", "namespace", &name]);
    name
}

pub(crate) fn apply(objects: &[Value]) {
    if objects.is_empty() {
        return; // kubectl takes that for a mistake
    }
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    kubectl_with(&["apply", "--server-side", "-f", "-"], &list.to_string());
}

pub(crate) fn get(namespace: &str, object: &str) -> Value {
    serde_json::from_str(&kubectl(&["get", object, "--namespace", namespace, "--output", "json"])).unwrap()
}

/// Of pods that ask for a tenth of one of kwok's nodes, which have the label `pool`.
pub(crate) fn deployment(namespace: &str, name: &str, replicas: u32, pool: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {
                "nodeSelector": {"pool": pool},
                "containers": [{"name": "c", "image": "none", "resources": {"requests": {"cpu": "400m"}}}],
            }},
        },
    })
}

fn node(name: &str, pool: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"pool": pool}, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110"},
                   "capacity": {"cpu": "4", "memory": "16Gi", "pods": "110"}},
    })
}

/// Nodes of one test; they go with it.
pub(crate) struct Nodes {
    pub(crate) pool: String,
    names: Vec<String>,
}

impl Nodes {
    pub(crate) fn new(count: usize) -> Self {
        let mut nodes = Self { pool: kit::unique("pool"), names: Vec::new() };
        nodes.grow(count);
        nodes
    }

    /// To so many; those that are there stay.
    fn grow(&mut self, count: usize) {
        let added: Vec<String> = (self.names.len()..count).map(|index| format!("{}-{index}", self.pool)).collect();
        apply(&added.iter().map(|name| node(name, &self.pool)).collect::<Vec<_>>());
        self.names.extend(added);
    }

    fn ready(&self) -> usize {
        let jsonpath = "jsonpath={range .items[*]}{.status.conditions[?(@.type=='Ready')].status}{'\\n'}{end}";
        let selector = format!("pool={}", self.pool);
        kubectl(&["get", "nodes", "--selector", &selector, "--output", jsonpath])
            .lines()
            .filter(|l| *l == "True")
            .count()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        // The cluster ends with the tests anyway; a test that fails should say why, not that this failed as well.
        let selector = format!("pool={}", self.pool);
        let deleted =
            std::panic::catch_unwind(|| kubectl(&["delete", "nodes", "--wait=false", "--selector", &selector]));
        drop(deleted);
    }
}

#[track_caller]
pub(crate) fn wait_ready(namespace: &str, name: &str, count: u64) {
    wait_for(&format!("{count} ready pods of {name}"), PATIENCE, || {
        let found = get(namespace, &format!("deployment/{name}"));
        (found["status"]["readyReplicas"].as_u64().unwrap_or(0) == count).then_some(())
    });
}

#[tokio::test]
async fn a_deployment_is_scaled_and_its_pods_come() {
    let Some(kubeconfig) = kit::kubeconfig() else { return };
    let (space, nodes) = (namespace("scale"), Nodes::new(2));
    apply(&[deployment(&space, "web", 3, &nodes.pool)]);
    wait_ready(&space, "web", 3);
    let before = get(&space, "deployment/web");
    let target = workload(&kubeconfig, &space, "Deployment/web", ScaledAs::Replicas);
    let seen = target.observe(NOW).await.unwrap();
    assert_eq!((seen.desired, seen.ready, seen.observed_at), (3, Some(3), NOW));
    let mut outcomes = Vec::new();
    for desired in [12, 12] {
        outcomes.push(target.apply(&decision(desired), NOW).await.unwrap());
    }
    assert_eq!(outcomes, [Outcome::Applied { units: 12, clamped: false }, Outcome::Unchanged { units: 12 }]);
    wait_ready(&space, "web", 12);
    assert_eq!(target.observe(NOW).await.unwrap().ready, Some(12));
    let after = get(&space, "deployment/web");
    assert_eq!(after["spec"]["template"], before["spec"]["template"]);
    let shown = kubectl(&["get", "deployment/web", "--namespace", &space, "--output", "json", "--show-managed-fields"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let mine: Vec<&Value> = shown["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|field| field["manager"] == "prescale")
        .collect();
    let owned: Vec<&Value> = mine.iter().map(|field| &field["fieldsV1"]).collect();
    assert_eq!(owned, [&json!({"f:spec": {"f:replicas": {}}})], "nothing else was ever written");
    assert_eq!(target.apply(&decision(0), NOW).await.unwrap(), Outcome::Applied { units: 0, clamped: false });
    wait_ready(&space, "web", 0);
    assert_eq!(target.observe(NOW).await.unwrap().ready, Some(0));
}

#[tokio::test]
async fn who_may_not_and_what_is_not_there_are_told_apart() {
    let Some(kubeconfig) = kit::kubeconfig() else { return };
    let space = namespace("denied");
    apply(&[deployment(&space, "web", 1, "nowhere")]);
    let new = KubernetesSettings::new("Deployment/web".parse().unwrap(), 0, 9);
    let cluster = ClusterSettings { context: Some("nobody".to_owned()), ..cluster(&kubeconfig) };
    let nobody = KubernetesSettings { namespace: space.clone(), cluster, ..new };
    let nobody = TargetSettings::Kubernetes(nobody).build().unwrap();
    // A change asks first whether somebody has paused it.
    for (error, told) in [
        (nobody.observe(NOW).await.unwrap_err(), "cannot get resource \"deployments\""),
        (nobody.apply(&decision(3), NOW).await.unwrap_err(), "cannot list resource \"scaledobjects\""),
    ] {
        assert_eq!(error.code(), "denied", "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }
    let missing = workload(&kubeconfig, &space, "Deployment/other", ScaledAs::Replicas);
    let error = missing.observe(NOW).await.unwrap_err();
    assert_eq!(error.code(), "not-found", "{error}");
    let unscalable = workload(&kubeconfig, &space, "DaemonSet/web", ScaledAs::Replicas);
    assert_eq!(unscalable.observe(NOW).await.unwrap_err().code(), "invalid");
}

#[tokio::test]
async fn two_that_scale_one_workload_lose_no_write() {
    let Some(kubeconfig) = kit::kubeconfig() else { return };
    let space = namespace("race");
    apply(&[deployment(&space, "web", 1, "nowhere")]);
    let mut running = tokio::task::JoinSet::new();
    for one in 1..=8_u32 {
        let target = workload(&kubeconfig, &space, "Deployment/web", ScaledAs::Replicas);
        running.spawn(async move { target.apply(&decision(one * 10), NOW).await });
    }
    let mut applied = Vec::new();
    while let Some(ended) = running.join_next().await {
        match ended.unwrap() {
            Ok(Outcome::Applied { units, .. }) => applied.push(units),
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert_eq!(error.code(), "conflict", "{error}"),
        }
    }
    let replicas = get(&space, "deployment/web")["spec"]["replicas"].as_u64().unwrap();
    assert!(applied.iter().any(|units| u64::from(*units) == replicas), "{replicas} is none of {applied:?}");
}

pub(crate) fn hpa(namespace: &str, min: u32, max: u32) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"minReplicas": min, "maxReplicas": max,
                 "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                 "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                     "target": {"type": "Utilization", "averageUtilization": 60}}}]},
    })
}

#[tokio::test]
async fn a_floor_raises_what_an_hpa_holds_and_its_ceiling_stays() {
    let Some(kubeconfig) = kit::kubeconfig() else { return };
    let (space, nodes) = (namespace("floor"), Nodes::new(2));
    apply(&[deployment(&space, "web", 2, &nodes.pool), hpa(&space, 2, 15)]);
    let target = workload(&kubeconfig, &space, "Deployment/web", ScaledAs::HpaFloor);
    let seen = target.observe(NOW).await.unwrap();
    assert_eq!((seen.desired, seen.min, seen.max), (2, Some(1), Some(15)));
    assert_eq!(target.apply(&decision(9), NOW).await.unwrap(), Outcome::Applied { units: 9, clamped: false });
    // The real controller raises the workload to its new floor.
    wait_ready(&space, "web", 9);
    wait_for("the HPA's own count", PATIENCE, || {
        (get(&space, "hpa/web")["status"]["currentReplicas"] == 9).then_some(())
    });
    let seen = target.observe(NOW).await.unwrap();
    assert_eq!((seen.desired, seen.ready), (9, Some(9)));
    assert_eq!(target.apply(&decision(40), NOW).await.unwrap(), Outcome::Applied { units: 15, clamped: true });
    assert_eq!(target.apply(&decision(0), NOW).await.unwrap(), Outcome::Applied { units: 1, clamped: true });
    let after = get(&space, "hpa/web");
    assert_eq!((&after["spec"]["minReplicas"], &after["spec"]["maxReplicas"]), (&json!(1), &json!(15)));
}

#[tokio::test]
async fn marks_on_a_workload_and_on_its_scaled_object_hold() {
    let Some(kubeconfig) = kit::kubeconfig() else { return };
    let space = namespace("marks");
    let scaled_object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "so", "namespace": space},
        "spec": {"scaleTargetRef": {"name": "web"}, "maxReplicaCount": 50, "triggers": [
            {"type": "external", "metadata": {"scalerAddress": "prescale:9090"}}]},
    });
    apply(&[deployment(&space, "web", 5, "nowhere"), scaled_object]);
    let target = workload(&kubeconfig, &space, "Deployment/web", ScaledAs::Replicas);
    let mark = |object: &str, mark: &str| {
        kubectl(&["annotate", "--overwrite", object, mark, "--namespace", &space]);
    };
    let held = async |desired: u32, reason: &str| {
        let expected = Outcome::Held { units: 5, reason: reason.to_owned() };
        assert_eq!(target.apply(&decision(desired), NOW).await.unwrap(), expected);
        assert_eq!(get(&space, "deployment/web")["spec"]["replicas"], 5);
    };
    mark("deployment/web", "prescale.io/paused=true");
    held(9, "Deployment/web is marked `prescale.io/paused: true`").await;
    mark("deployment/web", "prescale.io/paused-");
    mark("scaledobject/so", "autoscaling.keda.sh/paused-scale-in=true");
    held(3, "ScaledObject/so is marked `autoscaling.keda.sh/paused-scale-in: true`").await;
    assert_eq!(target.apply(&decision(6), NOW).await.unwrap(), Outcome::Applied { units: 6, clamped: false });
    mark("scaledobject/so", "autoscaling.keda.sh/paused-scale-in=false");
    assert_eq!(target.apply(&decision(5), NOW).await.unwrap(), Outcome::Applied { units: 5, clamped: false });
    mark("scaledobject/so", "autoscaling.keda.sh/paused-replicas=5");
    held(9, "ScaledObject/so is marked `autoscaling.keda.sh/paused-replicas: 5`").await;
}

pub(crate) fn static_pool(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": name},
        "spec": {"replicas": replicas, "limits": {"nodes": "600"}, "template": {"spec": {
            "nodeClassRef": {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default"},
            "requirements": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}]}}},
    })
}

#[tokio::test]
async fn a_static_node_pool_is_scaled_by_its_scale() {
    let Some(kubeconfig) = kit::kubeconfig() else { return };
    let name = kit::unique("static");
    apply(&[static_pool(&name, 3)]);
    let target = nodes(&kubeconfig, "default", AheadBy::NodePool, &name, None);
    let seen = target.observe(NOW).await.unwrap();
    assert_eq!((seen.desired, seen.max), (3, Some(600)));
    assert_eq!(target.apply(&decision(7), NOW).await.unwrap(), Outcome::Applied { units: 7, clamped: false });
    assert_eq!(target.apply(&decision(7), NOW).await.unwrap(), Outcome::Unchanged { units: 7 });
    assert_eq!(get("default", &format!("nodepool/{name}"))["spec"]["replicas"], 7);
    assert_eq!(target.apply(&decision(900), NOW).await.unwrap(), Outcome::Applied { units: 600, clamped: true });
    // The same by the general way: it is a kind with a scale subresource like any other, outside of namespaces.
    let general = workload(&kubeconfig, "default", &format!("NodePool/{name}"), ScaledAs::Replicas);
    assert_eq!(general.observe(NOW).await.unwrap().desired, 600);
    assert_eq!(general.apply(&decision(2), NOW).await.unwrap(), Outcome::Applied { units: 2, clamped: false });
    assert_eq!(get("default", &format!("nodepool/{name}"))["spec"]["replicas"], 2);
    kubectl(&["delete", "nodepool", &name, "--wait=false"]);
}

#[tokio::test]
async fn a_capacity_buffer_is_patched_to_what_the_pods_do_not_ask_for() {
    let Some(kubeconfig) = kit::kubeconfig() else { return };
    let space = namespace("buffer");
    let template = json!({
        "apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "web", "namespace": space},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
            {"name": "c", "image": "none", "resources": {"requests": {"cpu": "400m"}}}]}},
    });
    let buffer = json!({
        "apiVersion": "autoscaling.x-k8s.io/v1beta1", "kind": "CapacityBuffer",
        "metadata": {"name": "ahead", "namespace": space},
        "spec": {"podTemplateRef": {"name": "web"}, "replicas": 0},
    });
    apply(&[deployment(&space, "web", 4, "nowhere"), template, buffer]);
    let target = nodes(&kubeconfig, &space, AheadBy::CapacityBuffer, "ahead", Some("Deployment/web"));
    assert_eq!(target.apply(&decision(24), NOW).await.unwrap(), Outcome::Applied { units: 24, clamped: false });
    assert_eq!(target.apply(&decision(24), NOW).await.unwrap(), Outcome::Unchanged { units: 24 });
    let spec = get(&space, "capacitybuffer/ahead")["spec"].clone();
    assert_eq!((&spec["replicas"], &spec["podTemplateRef"]["name"]), (&json!(20), &json!("web")));
    assert_eq!(target.observe(NOW).await.unwrap().ready, Some(0), "nobody has said that there is room");
    let now = json!({"status": {"conditions": [{"type": "Provisioning", "status": "True", "reason": "Fits",
        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    kubectl(&[
        "patch",
        "capacitybuffer/ahead",
        "--namespace",
        &space,
        "--subresource",
        "status",
        "--type",
        "merge",
        "--patch",
        &now.to_string(),
    ]);
    assert_eq!(target.observe(NOW).await.unwrap().ready, Some(20));
    kubectl(&["scale", "deployment/web", "--namespace", &space, "--replicas", "10"]);
    assert_eq!(target.apply(&decision(24), NOW).await.unwrap(), Outcome::Applied { units: 24, clamped: false });
    assert_eq!(get(&space, "capacitybuffer/ahead")["spec"]["replicas"], 14, "the pods have taken six of them");
}

/// The real scheduler puts the placeholders out as the pods come, without a new node.
#[tokio::test]
async fn placeholders_give_way_to_the_pods_that_they_held_the_room_for() {
    let Some(kubeconfig) = kit::kubeconfig() else { return };
    let (space, fleet) = (namespace("room"), Nodes::new(2));
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": space},
        "value": -10, "preemptionPolicy": "Never"});
    let mut room = deployment(&space, "room", 0, &fleet.pool);
    room["spec"]["template"]["spec"]["priorityClassName"] = space.clone().into();
    room["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0.into();
    apply(&[class, deployment(&space, "web", 4, &fleet.pool), room]);
    let target = nodes(&kubeconfig, &space, AheadBy::PlaceholderPods, "room", Some("Deployment/web"));
    // Two nodes hold ten pods each.
    assert_eq!(target.apply(&decision(20), NOW).await.unwrap(), Outcome::Applied { units: 20, clamped: false });
    wait_ready(&space, "room", 16);
    kubectl(&["scale", "deployment/web", "--namespace", &space, "--replicas", "15"]);
    wait_ready(&space, "web", 15);
    assert_eq!(target.apply(&decision(20), NOW).await.unwrap(), Outcome::Applied { units: 20, clamped: false });
    wait_ready(&space, "room", 5);
    assert_eq!(target.observe(NOW).await.unwrap().ready, Some(20));
    kubectl(&["delete", "priorityclass", &space]);
}

#[tokio::test]
async fn a_drain_waits_for_the_budget_and_keeps_it() {
    let Some(kubeconfig) = kit::kubeconfig() else { return };
    let (space, fleet) = (namespace("drain"), Nodes::new(2));
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": space},
        "spec": {"minAvailable": 9, "selector": {"matchLabels": {"app": "web"}}}});
    apply(&[deployment(&space, "web", 10, &fleet.pool), budget]);
    wait_ready(&space, "web", 10);
    wait_for("the budget", PATIENCE, || (get(&space, "pdb/web")["status"]["disruptionsAllowed"] == 1).then_some(()));
    let victim = fleet.names[0].clone();
    let on_node = |node: &str| {
        let field = format!("spec.nodeName={node}");
        kubectl(&["get", "pods", "--namespace", &space, "--field-selector", &field, "--output", "name"]).lines().count()
    };
    let there = u32::try_from(on_node(&victim)).unwrap();
    assert!(there > 1, "the scheduler spreads them");
    let client = Cluster::new(cluster(&kubeconfig), "nodes of a test");
    let limits = DrainLimits { retry_every: Span::from_millis(200), ..DrainLimits::default() };
    let watched = {
        let space = space.clone();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = std::sync::Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut fewest = u64::MAX;
            while !seen.load(std::sync::atomic::Ordering::Relaxed) {
                fewest = fewest.min(get(&space, "pdb/web")["status"]["currentHealthy"].as_u64().unwrap_or(0));
            }
            fewest
        });
        (stop, thread)
    };
    let names = [victim.clone(), "no-such-node".to_owned()];
    let outcomes = drain_nodes(&client, &names, limits).await;
    watched.0.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(
        outcomes,
        [(victim.clone(), DrainOutcome::Drained { evicted: there }), (names[1].clone(), DrainOutcome::Gone)]
    );
    assert!(watched.1.join().unwrap() >= 9, "the budget is nine");
    assert_eq!(on_node(&victim), 0);
    assert_eq!(get("default", &format!("node/{victim}"))["spec"]["unschedulable"], true);
    wait_ready(&space, "web", 10);
    // No room elsewhere: of the pods on the last node one may go and is never replaced, so the drain ends at its time.
    let limits = DrainLimits { per_node: Span::from_secs(5), ..limits };
    let last = fleet.names[1].clone();
    let outcomes = drain_nodes(&client, std::slice::from_ref(&last), limits).await;
    let [(_, DrainOutcome::Unfinished { evicted: 1, left })] = &outcomes[..] else { panic!("{outcomes:?}") };
    let kept = left.iter().filter(|pod| pod.contains("would violate the pod's disruption budget")).count();
    assert_eq!(kept, 9, "{left:?}");
    assert_ne!(get("default", &format!("node/{last}"))["spec"]["unschedulable"], true, "it is open again");
    wait_ready(&space, "web", 10);
}

#[tokio::test]
async fn a_lease_has_one_holder_at_a_time() {
    let Some(kubeconfig) = kit::kubeconfig() else { return };
    let space = namespace("lease");
    let settings =
        LeaseSettings { duration: Span::from_secs(4), renew: Span::from_secs(1), margin: Span::from_secs(1) };
    let keeper = |me: &str| {
        let cluster = Cluster::new(cluster(&kubeconfig), "lease of a test");
        Keeper::new(me, settings, KubernetesLease::new(cluster, &space, "prescale", settings.duration))
    };
    let (mut a, mut b) = (keeper("a"), keeper("b"));
    let (of_a, of_b) = (a.watch(), b.watch());
    let start = Instant::now();
    let mut terms: Vec<(char, u64)> = Vec::new();
    while start.elapsed() < Duration::from_secs(12) {
        // After a third of the time the first one stops renewing, as a process does that hangs or died.
        if start.elapsed() < Duration::from_secs(4) {
            a.turn().await;
        }
        b.turn().await;
        assert!(of_a.left().is_err() || of_b.left().is_err(), "both act");
        terms.extend(of_a.term().map(|term| ('a', term)).into_iter().chain(of_b.term().map(|term| ('b', term))));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    terms.dedup();
    assert_eq!(terms, [('a', 1), ('b', 2)]);
    // Given up, it is taken without a wait, and the old holder learns of it.
    b.release().await;
    a.turn().await;
    b.turn().await;
    assert_eq!((of_a.term(), of_b.left()), (Some(3), Err("replica `a` has the lease".to_owned())));
    assert_eq!(get(&space, "lease/prescale")["spec"]["holderIdentity"], "a");
}

/// Of a plan over the day: nodes first, then the pods for which they are there.
#[tokio::test]
async fn five_hundred_nodes_and_a_thousand_pods_follow_a_plan() {
    let Some(kubeconfig) = kit::kubeconfig() else { return };
    let (space, mut fleet) = (namespace("plan"), Nodes::new(0));
    let pool = kit::unique("plan");
    apply(&[static_pool(&pool, 0), deployment(&space, "web", 0, &fleet.pool)]);
    let ahead = nodes(&kubeconfig, "default", AheadBy::NodePool, &pool, None);
    let web = workload(&kubeconfig, &space, "Deployment/web", ScaledAs::Replicas);
    for (nodes_wanted, pods) in [(50_u32, 100_u32), (200, 600), (500, 1000)] {
        let start = Instant::now();
        let outcome = ahead.apply(&decision(nodes_wanted), NOW).await.unwrap();
        assert_eq!(outcome, Outcome::Applied { units: nodes_wanted, clamped: false });
        // The test is the pool's controller: it makes as many nodes as the pool asks for.
        let asked = get("default", &format!("nodepool/{pool}"))["spec"]["replicas"].as_u64().unwrap();
        fleet.grow(usize::try_from(asked).unwrap());
        wait_for("the nodes", PATIENCE, || (fleet.ready() == usize::try_from(nodes_wanted).unwrap()).then_some(()));
        let nodes_seconds = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let outcome = web.apply(&decision(pods), NOW).await.unwrap();
        assert_eq!(outcome, Outcome::Applied { units: pods, clamped: false });
        let apply_seconds = start.elapsed().as_secs_f64();
        wait_ready(&space, "web", pods.into());
        let pods_seconds = start.elapsed().as_secs_f64();
        println!(
            "{nodes_wanted} nodes ready after {nodes_seconds:.1} s; {pods} pods asked for in {apply_seconds:.3} s, \
             ready after {pods_seconds:.1} s"
        );
        let seen = web.observe(NOW).await.unwrap();
        assert_eq!((seen.desired, seen.ready), (pods, Some(pods)));
    }
    assert_eq!(web.apply(&decision(100), NOW).await.unwrap(), Outcome::Applied { units: 100, clamped: false });
    wait_ready(&space, "web", 100);
    kubectl(&["delete", "nodepool", &pool, "--wait=false"]);
    kubectl(&["delete", "deployment", "web", "--namespace", &space, "--wait=false"]);
}

/// An account whose clock the test sets.
struct Account {
    aws: Mutex<Aws>,
    now: Mutex<Timestamp>,
}

impl Account {
    fn call(&self, path: &str, body: String) -> String {
        let request = WireRequest {
            method: "POST".to_owned(),
            path: path.to_owned(),
            body: body.into_bytes(),
            ..WireRequest::default()
        };
        let answer = self.aws.lock().unwrap().call(*self.now.lock().unwrap(), &request);
        let WireAnswer::Reply { status: 200, body, .. } = answer else { panic!("{path}: {answer:?}") };
        String::from_utf8(body).unwrap()
    }

    fn pass(&self, span: Span) {
        let mut now = self.now.lock().unwrap();
        *now = *now + span;
        self.aws.lock().unwrap().advance(*now);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_an_eks_group_are_emptied_before_exactly_they_go() {
    let Some(kubeconfig) = kit::kubeconfig() else { return };
    let space = namespace("eks");
    let settings = AwsSettings { answer: Span::ZERO, ..AwsSettings::default() };
    let account = Arc::new(Account { now: Mutex::new(settings.start), aws: Mutex::new(Aws::new(settings).unwrap()) });
    let subnets = json!({"subnetIds": ["subnet-a"]});
    account.call("/clusters", json!({"name": "prod", "roleArn": "r", "resourcesVpcConfig": subnets}).to_string());
    account.pass(Span::from_minutes(15));
    let group = kit::unique("base");
    let body = json!({"nodegroupName": group, "scalingConfig": {"minSize": 1, "desiredSize": 4, "maxSize": 9}, "nodeRole": "r",
                      "subnets": ["subnet-a"], "instanceTypes": ["m5.large"]});
    account.call("/clusters/prod/node-groups", body.to_string());
    account.pass(Span::from_minutes(15));
    // Each of its instances is a node of the cluster; the oldest is the first.
    let instances = account.aws.lock().unwrap().instance_ids();
    assert_eq!(instances.len(), 4);
    let mut fleet = Nodes { pool: group.clone(), names: Vec::new() };
    for instance in &instances {
        let name = format!("{group}-{instance}");
        let mut node = node(&name, &group);
        node["metadata"]["labels"]["eks.amazonaws.com/nodegroup"] = json!(group);
        node["spec"] = json!({"providerID": format!("aws:///eu-west-1a/{instance}")});
        apply(&[node]);
        fleet.names.push(name);
    }
    wait_for("the nodes", PATIENCE, || (fleet.ready() == 4).then_some(()));
    apply(&[deployment(&space, "web", 12, &group)]);
    wait_ready(&space, "web", 12);

    let served = Arc::clone(&account);
    let wire = Wire::new(move |request: WireRequest| {
        let now = *served.now.lock().unwrap();
        let answer = served.aws.lock().unwrap().call(now, &request);
        async move { answer }
    });
    let drain = EksDrainSettings { kubernetes: cluster(&kubeconfig), ..EksDrainSettings::default() };
    let settings = EksSettings {
        drain: Some(drain),
        region: Some("eu-west-1".to_owned()),
        ..EksSettings::new("prod", &group, 0, 9)
    };
    let target = TargetSettings::EksNodegroup(settings).build_in(&Connections::over(&wire)).unwrap();
    let closed = || -> Vec<String> {
        let is_closed = |name: &&String| get("default", &format!("node/{name}"))["spec"]["unschedulable"] == true;
        fleet.names.iter().filter(is_closed).cloned().collect()
    };
    let pods_on = |nodes: &[String]| {
        let pods = get(&space, "pods");
        let on = |pod: &&Value| nodes.iter().any(|node| pod["spec"]["nodeName"] == json!(node));
        pods["items"].as_array().unwrap().iter().filter(on).count()
    };
    // The first of the calls that take a node is refused: the node is empty and closed, and goes the next time.
    let refused = Fault::new("TerminateInstanceInAutoScalingGroup", FaultKind::Denied).times(1);
    account.aws.lock().unwrap().script(refused);
    let (mut waits, mut denied) = (0, 0);
    let outcome = loop {
        account.pass(Span::from_secs(15));
        let now = *account.now.lock().unwrap();
        match target.apply(&decision(2), now).await {
            Ok(Outcome::Held { units: 4, reason }) => assert!(reason.contains("emptied"), "{reason}"),
            Err(error) => {
                assert_eq!(error.code(), "denied", "{error}");
                denied += 1;
            }
            Ok(outcome) => break outcome,
        }
        waits += 1;
        assert!(waits < 600, "it is never done");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!((outcome, denied), (Outcome::Applied { units: 2, clamped: false }, 1));
    assert!(waits > 1, "nothing goes at once");
    // The two that are closed are empty, and they are those that are gone.
    let emptied = closed();
    assert_eq!((emptied.len(), pods_on(&emptied)), (2, 0), "{emptied:?}");
    let ended = || -> Vec<String> {
        let aws = account.aws.lock().unwrap();
        let worked = aws.log().iter().filter(|call| call.error.is_none());
        worked.filter_map(|call| call.parameters.get("InstanceId").cloned()).collect()
    };
    let gone = ended();
    let of_emptied: Vec<String> =
        instances.iter().filter(|id| emptied.iter().any(|node| node.ends_with(id.as_str()))).cloned().collect();
    let sorted = |mut all: Vec<String>| {
        all.sort();
        all
    };
    assert_eq!(sorted(gone), sorted(of_emptied));
    account.pass(Span::from_minutes(5));
    let now = *account.now.lock().unwrap();
    let seen = target.observe(now).await.unwrap();
    assert_eq!((seen.desired, seen.ready), (2, Some(2)));
    wait_ready(&space, "web", 12);

    // One more is to go, and then it is not: its node takes pods again, and nothing is taken.
    account.pass(Span::from_secs(15));
    let now = *account.now.lock().unwrap();
    let begun = target.apply(&decision(1), now).await.unwrap();
    assert!(matches!(&begun, Outcome::Held { units: 2, .. }) && target.tends(), "{begun:?}");
    let began = Instant::now();
    while target.tends() {
        assert!(began.elapsed() < PATIENCE, "the node is not let go");
        account.pass(Span::from_secs(15));
        let now = *account.now.lock().unwrap();
        assert_eq!(target.apply(&decision(2), now).await.unwrap(), Outcome::Unchanged { units: 2 });
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(sorted(closed()), sorted(emptied), "the others are open");
    assert_eq!(ended().len(), 2);
    kubectl(&["delete", "namespace", &space, "--wait=false"]);
}
