//! What each target makes of a cluster, and what each failure of its API becomes. What becomes of a real workload is proven
//! against a real control plane, in `tests/it/kubernetes.rs`.

use std::time::Duration;

use kube::Config;
use prescale_domain::{Decision, Mode, Span};
use serde_json::{Value, json};

use super::*;
use crate::fake_kubernetes::{FakeKubernetes, KubeFault};
use crate::{Target, TargetSettings};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const WEB: &str = "/apis/apps/v1/namespaces/shop/deployments/web";
const HPA: &str = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers/web";
const POOL: &str = "/apis/karpenter.sh/v1/nodepools/static";
const BUFFER: &str = "/apis/autoscaling.x-k8s.io/v1beta1/namespaces/shop/capacitybuffers/ahead";
const KEDA: &str = "/apis/keda.sh";
const SCALED_OBJECTS: &str = "/apis/keda.sh/v1alpha1/namespaces/shop/scaledobjects";

fn decision(desired: u32) -> Decision {
    let samples: Vec<Decision> = serde_json::from_str(include_str!("../../../schemas/samples/decisions.json")).unwrap();
    let mut decision = samples.into_iter().next().unwrap();
    (decision.desired, decision.inputs.mode) = (desired, Mode::Act);
    decision
}

fn deployment(replicas: u32, ready: u32) -> Value {
    // Kubernetes leaves out a zero.
    let status = if ready == 0 { json!({}) } else { json!({"readyReplicas": ready}) };
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop", "annotations": {}},
        "spec": {"replicas": replicas, "template": {"spec": {}}}, "status": status,
    })
}

fn hpa(min: Value, max: u32, current: u32) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"minReplicas": min, "maxReplicas": max,
                 "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
        "status": {"currentReplicas": current, "desiredReplicas": current},
    })
}

fn marked(mut object: Value, mark: &str, value: &str) -> Value {
    object["metadata"]["annotations"] = json!({ mark: value });
    object
}

fn quick() -> ClusterSettings {
    let (timeout, attempt_timeout) = (Span::from_millis(2500), Span::from_millis(300));
    ClusterSettings { timeout, attempt_timeout, ..ClusterSettings::default() }
}

fn config(api: &FakeKubernetes) -> Config {
    Config::new(api.url.parse().unwrap())
}

fn settings(workload: &str) -> KubernetesSettings {
    let new = KubernetesSettings::new(workload.parse().unwrap(), 1, 100);
    KubernetesSettings { namespace: "shop".to_owned(), cluster: quick(), ..new }
}

fn replicas(api: &FakeKubernetes) -> Kubernetes {
    Kubernetes::connected(settings("Deployment/web"), config(api))
}

fn floor(api: &FakeKubernetes) -> Kubernetes {
    let settings = KubernetesSettings { scaled_as: ScaledAs::HpaFloor, ..settings("Deployment/web") };
    Kubernetes::connected(settings, config(api))
}

fn nodes(api: &FakeKubernetes, ahead_by: AheadBy, name: &str) -> KubernetesNodes {
    let workload = (ahead_by != AheadBy::NodePool).then(|| "Deployment/web".parse().unwrap());
    let new = NodesSettings::new(ahead_by, name, workload, 0, 100);
    KubernetesNodes::connected(NodesSettings { namespace: "shop".to_owned(), cluster: quick(), ..new }, config(api))
}

async fn in_time<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(6), call).await.expect("a target must answer within its own time limit")
}

fn applied(units: u32) -> Outcome {
    Outcome::Applied { units, clamped: false }
}

#[tokio::test]
async fn replicas_are_the_one_number_that_is_written() {
    let api = FakeKubernetes::start(&[(WEB, deployment(4, 3))], &[]).await;
    let web = replicas(&api);
    let seen = web.observe(NOW).await.unwrap();
    assert_eq!((seen.desired, seen.ready, seen.min, seen.max, seen.observed_at), (4, Some(3), None, None, NOW));
    assert_eq!(web.apply(&decision(9), NOW).await.unwrap(), applied(9));
    assert_eq!(web.apply(&decision(9), NOW).await.unwrap(), Outcome::Unchanged { units: 9 });
    assert_eq!(web.observe(NOW).await.unwrap().desired, 9);
    assert_eq!(web.apply(&decision(500), NOW).await.unwrap(), Outcome::Applied { units: 100, clamped: true });
    assert_eq!(web.apply(&decision(0), NOW).await.unwrap(), Outcome::Applied { units: 1, clamped: true });
    let written = [(9, "1"), (100, "2"), (1, "3")]
        .map(|(replicas, version)| json!({"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}));
    assert_eq!(api.writes(), written);
    let asked = api.requests().iter().filter(|request| *request == "GET /apis").count();
    assert_eq!(asked, 1, "kinds are looked up once");
}

#[tokio::test]
async fn what_no_pod_is_ready_of_has_none_ready() {
    let api = FakeKubernetes::start(&[(WEB, deployment(4, 0))], &[]).await;
    assert_eq!(replicas(&api).observe(NOW).await.unwrap().ready, Some(0));
    // Another kind that says nothing may have any.
    let thing =
        json!({"apiVersion": "example.org/v1", "kind": "Part", "metadata": {"name": "web"}, "spec": {"replicas": 2}});
    let api = FakeKubernetes::start(&[("/apis/example.org/v1/namespaces/shop/parts/web", thing)], &[]).await;
    let part = Kubernetes::connected(settings("Part/web"), config(&api));
    let seen = part.observe(NOW).await.unwrap();
    assert_eq!((seen.desired, seen.ready), (2, None));
}

#[tokio::test]
async fn only_decisions_of_mode_act_are_applied() {
    let api = FakeKubernetes::start(&[(WEB, deployment(4, 3)), (HPA, hpa(json!(2), 20, 4)), (POOL, pool())], &[]).await;
    let mut wish = decision(9);
    wish.inputs.mode = Mode::Recommend;
    assert_eq!(replicas(&api).apply(&wish, NOW).await.unwrap_err().code(), "invalid");
    assert_eq!(nodes(&api, AheadBy::NodePool, "static").apply(&wish, NOW).await.unwrap_err().code(), "invalid");
    assert!(api.requests().is_empty());
}

#[tokio::test]
async fn a_change_between_look_and_write_is_looked_at_again_once() {
    let api = FakeKubernetes::start(&[(WEB, deployment(4, 3))], &[]).await;
    let web = replicas(&api);
    web.observe(NOW).await.unwrap();
    // An apply asks for KEDA, object and scale; then somebody writes before the patch arrives; then all again.
    let before = api.requests().len();
    api.fail(&[None, None, None, Some(KubeFault::Meddle)]);
    assert_eq!(web.apply(&decision(9), NOW).await.unwrap(), applied(9));
    let patches = api.requests()[before..].iter().filter(|request| request.starts_with("PATCH")).count();
    assert_eq!(patches, 2);
    let quiet = [None, None, None, Some(KubeFault::Meddle)];
    api.fail(&[quiet, quiet].concat());
    let error = web.apply(&decision(12), NOW).await.unwrap_err();
    assert_eq!(error.code(), "conflict", "{error}");
    assert_eq!(web.observe(NOW).await.unwrap().desired, 9);
}

#[tokio::test]
async fn each_failure_has_its_kind() {
    let cases = [
        (vec![KubeFault::Status(401, "Unauthorized", "Unauthorized")], "denied"),
        (vec![KubeFault::Status(403, "Forbidden", "deployments.apps is forbidden")], "denied"),
        (vec![KubeFault::Status(404, "NotFound", "deployments.apps \"web\" not found")], "not-found"),
        (vec![KubeFault::Status(409, "Conflict", "the object has been modified")], "conflict"),
        (vec![KubeFault::Status(422, "Invalid", "spec.replicas: Invalid value")], "invalid"),
        (vec![KubeFault::Status(429, "TooManyRequests", "too many requests")], "throttled"),
        (vec![KubeFault::Status(500, "InternalError", "etcdserver: request timed out")], "other"),
        (vec![KubeFault::Status(503, "ServiceUnavailable", "shutting down")], "other"),
        (vec![KubeFault::Html(502)], "other"),
        (vec![KubeFault::Html(200)], "other"),
        (vec![KubeFault::Hang], "timeout"),
        (vec![KubeFault::Drop], "unreachable"),
    ];
    for (fault, code) in cases {
        let api = FakeKubernetes::start(&[(WEB, deployment(4, 3))], &fault.repeat(9)).await;
        let error = in_time(replicas(&api).observe(NOW)).await.expect_err(code);
        assert_eq!(error.code(), code, "{fault:?} became: {error}");
        let told = error.to_string();
        assert!(told.contains(" of kubernetes `Deployment/web` in `shop`: "), "{told}");
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    for fault in [
        KubeFault::Status(429, "TooManyRequests", "too many requests"),
        KubeFault::Status(500, "InternalError", "x"),
        KubeFault::Hang,
        KubeFault::Drop,
    ] {
        let api = FakeKubernetes::start(&[(WEB, deployment(4, 3))], &[fault; 2]).await;
        let seen = in_time(replicas(&api).observe(NOW)).await;
        assert_eq!(seen.unwrap_or_else(|error| panic!("{fault:?} became: {error}")).desired, 4);
    }
    // What will not pass is not.
    let api = FakeKubernetes::start(&[(WEB, deployment(4, 3))], &[KubeFault::Status(403, "Forbidden", "no")]).await;
    assert_eq!(replicas(&api).observe(NOW).await.unwrap_err().code(), "denied");
    assert_eq!(api.requests().len(), 1);
}

#[tokio::test]
async fn nothing_listening_is_unreachable() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nowhere = Config::new(format!("http://{free}").parse().unwrap());
    let error = in_time(Kubernetes::connected(settings("Deployment/web"), nowhere).observe(NOW)).await.unwrap_err();
    assert_eq!(error.code(), "unreachable", "{error}");
}

#[tokio::test]
async fn a_kubeconfig_that_is_not_there_is_told_of() {
    let cluster = ClusterSettings { kubeconfig: Some("/nowhere/kubeconfig".into()), ..quick() };
    let target = Kubernetes::new(KubernetesSettings { cluster, ..settings("Deployment/web") });
    let error = target.observe(NOW).await.unwrap_err();
    assert_eq!(error.code(), "invalid", "{error}");
    assert!(error.to_string().contains("/nowhere/kubeconfig"), "{error}");
}

#[tokio::test]
async fn marks_of_the_owner_hold() {
    let cases = [
        ("prescale.io/paused", "true", true, true),
        ("autoscaling.keda.sh/paused", "true", true, true),
        ("autoscaling.keda.sh/paused-scale-in", "true", true, false),
        ("autoscaling.keda.sh/paused-scale-out", "true", false, true),
    ];
    let keda = json!({"kind": "APIGroup", "apiVersion": "v1", "name": "keda.sh",
        "preferredVersion": {"groupVersion": "keda.sh/v1alpha1", "version": "v1alpha1"},
        "versions": [{"groupVersion": "keda.sh/v1alpha1", "version": "v1alpha1"}]});
    for (mark, value, inward, outward) in cases {
        let scaled = json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "so"},
            "spec": {"scaleTargetRef": {"name": "web"}}});
        let scaled = json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObjectList", "metadata": {},
            "items": [marked(scaled, mark, value)]});
        let by_keda =
            [(WEB, deployment(4, 3)), (HPA, hpa(json!(4), 20, 4)), (KEDA, keda.clone()), (SCALED_OBJECTS, scaled)];
        let on_itself = [(WEB, marked(deployment(4, 3), mark, value)), (HPA, hpa(json!(4), 20, 4))];
        for objects in [&by_keda[..], &on_itself[..]] {
            let api = FakeKubernetes::start(objects, &[]).await;
            for target in [replicas(&api), floor(&api)] {
                for (desired, held) in [(9, outward), (2, inward)] {
                    let outcome = target.apply(&decision(desired), NOW).await.unwrap();
                    assert_eq!(matches!(outcome, Outcome::Held { .. }), held, "{mark} {desired} {outcome:?}");
                    if !held {
                        target.apply(&decision(4), NOW).await.ok();
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn the_floor_is_below_an_hpa_and_its_ceiling_is_the_owners() {
    let api = FakeKubernetes::start(&[(WEB, deployment(12, 12)), (HPA, hpa(json!(4), 20, 12))], &[]).await;
    let web = floor(&api);
    let seen = web.observe(NOW).await.unwrap();
    assert_eq!((seen.desired, seen.ready, seen.min, seen.max), (4, Some(12), Some(1), Some(20)));
    assert_eq!(web.apply(&decision(9), NOW).await.unwrap(), applied(9));
    assert_eq!(web.apply(&decision(50), NOW).await.unwrap(), Outcome::Applied { units: 20, clamped: true });
    assert_eq!(web.apply(&decision(3), NOW).await.unwrap(), applied(3));
    assert_eq!(web.observe(NOW).await.unwrap().desired, 3);
    assert_eq!(api.object(HPA)["spec"]["maxReplicas"], 20);
    assert_eq!(api.object(WEB)["spec"]["replicas"], 12, "the workload's size is the HPA's");
    assert!(api.writes().iter().all(|write| write["spec"].as_object().unwrap().keys().eq(["minReplicas"])));
}

#[tokio::test]
async fn a_floor_knows_whose_it_is() {
    let mut owned = hpa(json!(4), 20, 12);
    owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "so",
        "uid": "0", "controller": true}]);
    let mut other = hpa(json!(4), 20, 12);
    other["spec"]["scaleTargetRef"]["name"] = "api".into();
    for (hpa, told) in [(owned, "ScaledObject/so"), (other, "it scales Deployment/api, not Deployment/web")] {
        let api = FakeKubernetes::start(&[(WEB, deployment(12, 12)), (HPA, hpa)], &[]).await;
        let error = floor(&api).apply(&decision(9), NOW).await.unwrap_err();
        assert_eq!(error.code(), "invalid");
        assert!(error.to_string().contains(told), "{error}");
        assert!(api.writes().is_empty());
    }
    // Without a number of its own an HPA's floor is one, and only one that is at zero may be there.
    let api = FakeKubernetes::start(&[(WEB, deployment(2, 2)), (HPA, hpa(Value::Null, 20, 2))], &[]).await;
    assert_eq!(floor(&api).observe(NOW).await.unwrap().desired, 1);
    let api = FakeKubernetes::start(&[(WEB, deployment(2, 2)), (HPA, hpa(json!(0), 20, 2))], &[]).await;
    assert_eq!(floor(&api).observe(NOW).await.unwrap().min, Some(0));
}

fn pool() -> Value {
    json!({"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": "static"},
           "spec": {"replicas": 3, "limits": {"nodes": "10"}, "template": {}}, "status": {"nodes": 2}})
}

#[tokio::test]
async fn a_static_node_pool_is_a_number_of_nodes() {
    let mut dynamic = pool();
    dynamic["spec"].as_object_mut().unwrap().remove("replicas");
    let dynamic_at = "/apis/karpenter.sh/v1/nodepools/dynamic";
    let api = FakeKubernetes::start(&[(POOL, pool()), (dynamic_at, dynamic)], &[]).await;
    let target = nodes(&api, AheadBy::NodePool, "static");
    let seen = target.observe(NOW).await.unwrap();
    assert_eq!((seen.desired, seen.ready, seen.max), (3, Some(2), Some(10)));
    assert_eq!(target.apply(&decision(7), NOW).await.unwrap(), applied(7));
    assert_eq!(target.apply(&decision(7), NOW).await.unwrap(), Outcome::Unchanged { units: 7 });
    assert_eq!(target.apply(&decision(30), NOW).await.unwrap(), Outcome::Applied { units: 10, clamped: true });
    assert!(api.requests().contains(&format!("PATCH {POOL}/scale")));
    let error = nodes(&api, AheadBy::NodePool, "dynamic").apply(&decision(7), NOW).await.unwrap_err();
    assert_eq!(error.code(), "invalid", "{error}");
}

fn buffer(replicas: u32, conditions: Value) -> Value {
    json!({"apiVersion": "autoscaling.x-k8s.io/v1beta1", "kind": "CapacityBuffer",
           "metadata": {"name": "ahead", "namespace": "shop", "generation": 5},
           "spec": {"podTemplateRef": {"name": "web"}, "replicas": replicas}, "status": {"conditions": conditions}})
}

#[tokio::test]
async fn a_buffer_keeps_what_the_pods_do_not_ask_for_yet() {
    let provisioned = json!([{"type": "ReadyForProvisioning", "status": "True"},
                             {"type": "Provisioning", "status": "True", "observedGeneration": 5}]);
    let api = FakeKubernetes::start(&[(WEB, deployment(4, 4)), (BUFFER, buffer(6, provisioned))], &[]).await;
    let target = nodes(&api, AheadBy::CapacityBuffer, "ahead");
    let seen = target.observe(NOW).await.unwrap();
    assert_eq!((seen.desired, seen.ready, seen.min), (10, Some(10), Some(4)));
    assert_eq!(target.apply(&decision(24), NOW).await.unwrap(), applied(24));
    assert_eq!(api.object(BUFFER)["spec"]["replicas"], 20);
    assert_eq!(target.apply(&decision(24), NOW).await.unwrap(), Outcome::Unchanged { units: 24 });
    // What is there already is not taken back here.
    assert_eq!(target.apply(&decision(2), NOW).await.unwrap(), Outcome::Applied { units: 4, clamped: true });
    assert_eq!(api.object(BUFFER)["spec"]["replicas"], 0);
    assert_eq!(api.object(WEB)["spec"]["replicas"], 4);
    assert_eq!(api.object(BUFFER)["spec"]["podTemplateRef"]["name"], "web");
}

#[tokio::test]
async fn room_is_there_when_the_autoscaler_says_so() {
    let cases = [
        (json!([{"type": "Provisioning", "status": "True"}]), 10),
        (json!([{"type": "Provisioning", "status": "True", "observedGeneration": 4}]), 4),
        (json!([{"type": "Provisioning", "status": "False", "observedGeneration": 5}]), 4),
        (json!([{"type": "ReadyForProvisioning", "status": "True"}]), 4),
        (Value::Null, 4),
    ];
    for (conditions, ready) in cases {
        let api = FakeKubernetes::start(&[(WEB, deployment(4, 4)), (BUFFER, buffer(6, conditions.clone()))], &[]).await;
        let seen = nodes(&api, AheadBy::CapacityBuffer, "ahead").observe(NOW).await.unwrap();
        assert_eq!(seen.ready, Some(ready), "{conditions}");
    }
}

#[tokio::test]
async fn placeholders_must_give_way() {
    const PLACEHOLDERS: &str = "/apis/apps/v1/namespaces/shop/deployments/room";
    let mut room = deployment(2, 1);
    room["metadata"]["name"] = "room".into();
    let api = FakeKubernetes::start(&[(WEB, deployment(4, 4)), (PLACEHOLDERS, room.clone())], &[]).await;
    let error = nodes(&api, AheadBy::PlaceholderPods, "room").apply(&decision(9), NOW).await.unwrap_err();
    assert!(error.to_string().contains("priorityClassName"), "{error}");
    room["spec"]["template"]["spec"]["priorityClassName"] = "placeholder".into();
    let api = FakeKubernetes::start(&[(WEB, deployment(4, 4)), (PLACEHOLDERS, room)], &[]).await;
    let target = nodes(&api, AheadBy::PlaceholderPods, "room");
    let seen = target.observe(NOW).await.unwrap();
    assert_eq!((seen.desired, seen.ready), (6, Some(5)));
    assert_eq!(target.apply(&decision(9), NOW).await.unwrap(), applied(9));
    assert_eq!(api.object(PLACEHOLDERS)["spec"]["replicas"], 5);
}

#[tokio::test]
async fn kinds_are_what_the_cluster_serves() {
    let api = FakeKubernetes::start(&[], &[]).await;
    let told =
        async |workload: &str| Kubernetes::connected(settings(workload), config(&api)).observe(NOW).await.unwrap_err();
    let error = told("Thing/x").await;
    assert_eq!(error.code(), "invalid");
    assert!(error.to_string().contains("`example.com/Thing/x`, `example.org/Thing/x`"), "{error}");
    let error = told("DaemonSet/x").await;
    assert!(error.to_string().contains("no scale subresource"), "{error}");
    let error = told("Rollout/x").await;
    assert_eq!(error.code(), "not-found");
    assert!(error.to_string().contains("the cluster serves no Rollout"), "{error}");
    let error = told("apps/v1beta1/Deployment/x").await;
    assert!(error.to_string().contains("the cluster serves no apps/v1beta1/Deployment"), "{error}");
    told("ReplicationController/x").await;
    assert!(api.requests().contains(&"GET /api/v1/namespaces/shop/replicationcontrollers/x".to_owned()));
    // Of two kinds of one name the one that scales is meant; a group may also be named.
    told("Part/x").await;
    assert!(api.requests().contains(&"GET /apis/example.org/v1/namespaces/shop/parts/x".to_owned()));
    told("example.com/Thing/x").await;
    assert!(api.requests().contains(&"GET /apis/example.com/v2/namespaces/shop/things/x".to_owned()));
}

#[test]
fn references_are_read_strictly() {
    let read = |text: &str| text.parse::<ObjectRef>();
    for text in ["Deployment/web", "argoproj.io/Rollout/web", "apps/v1/Deployment/web"] {
        assert_eq!(read(text).unwrap().to_string(), text);
    }
    assert_eq!(read("v1/ReplicationController/a").unwrap().group.as_deref(), Some(""));
    for text in ["", "web", "/web", "Deployment/", "a/b/c/d/e", "Deployment/../x?y", "Deployment/a b", "Deployment/ä"]
    {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn settings_are_read_strictly_and_all_faults_are_told() {
    let read = |text: &str| serde_json::from_str::<TargetSettings>(text);
    let web = r#"{"kind": "kubernetes", "workload": "Deployment/web", "min": 2, "max": 200, "as": "hpa-floor",
                  "hpa": "web-hpa", "namespace": "shop", "cluster": {"context": "prod", "timeout": "20s"}}"#;
    let web = read(web).unwrap();
    assert_eq!((web.min(), web.max(), web.allow_replay(), web.faults()), (2, 200, false, Vec::new()));
    assert_eq!(web.describe(), "kubernetes hpa `web-hpa` in `shop`");
    assert!(matches!(web.build().unwrap(), Target::Kubernetes(_)));
    let ahead = r#"{"kind": "kubernetes-nodes", "ahead_by": "capacity-buffer", "name": "ahead", "workload": "Deployment/web",
                    "min": 0, "max": 9}"#;
    assert!(matches!(read(ahead).unwrap().build().unwrap(), Target::KubernetesNodes(_)));
    assert!(read(r#"{"kind": "kubernetes", "workload": "web", "min": 2, "max": 200}"#).is_err());
    assert!(
        read(r#"{"kind": "kubernetes", "workload": "Deployment/web", "min": 2, "max": 200, "colour": 1}"#).is_err()
    );
    let wrong = r#"{"kind": "kubernetes", "workload": "Deployment/web", "min": 5, "max": 2, "namespace": "a/b",
        "hpa": "x", "price_usd_hour": -1, "cluster": {"timeout": "1s", "attempt_timeout": "2s", "max_attempts": 0}}"#;
    assert_eq!(
        read(wrong).unwrap().faults(),
        [
            "min 5 exceeds max 2",
            "price_usd_hour -1 is not a price",
            "namespace `a/b` is not a name of letters, digits and `-`",
            "hpa is set, but `as` is not \"hpa-floor\"",
            "timeout 1s is below attempt_timeout 2s",
            "max_attempts 0 is below 1",
        ]
    );
    let faults = |text: &str| read(text).unwrap().faults();
    let pool = r#"{"kind": "kubernetes-nodes", "ahead_by": "node-pool", "name": "a/b", "workload": "Deployment/web",
                   "min": 0, "max": 9}"#;
    assert_eq!(
        faults(pool),
        [
            "name `a/b` is not a name of letters, digits, `-` and `.`",
            "workload is set, but the units of a node pool are nodes, not its pods",
        ]
    );
    let buffer = r#"{"kind": "kubernetes-nodes", "ahead_by": "capacity-buffer", "name": "ahead", "min": 0, "max": 9}"#;
    assert_eq!(faults(buffer), ["workload is not set: what is kept free is what its pods do not ask for yet"]);
}
