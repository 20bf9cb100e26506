//! The chart of a configuration, before Helm itself and a real API server: what it installs, changes and leaves, and that its
//! account may do what a target does and nothing more. Rule: the account has a token of its own; the API server alone decides.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use prescale_actuate::{
    Actuator, AheadBy, Cluster, DrainLimits, DrainOutcome, Keeper, KubernetesLease, LeaseSettings, ScaledAs,
    drain_nodes,
};
use prescale_domain::{Outcome, Span};
use serde_json::{Value, json};

use crate::kit::{self, Finished, kubectl, kubectl_refused, kubectl_with, wait_for};
use crate::kubernetes::{
    NOW, Nodes, PATIENCE, apply, cluster, decision, deployment, get, hpa, namespace, nodes, static_pool, wait_ready,
    workload,
};

/// Helm with a home of its own.
struct Helm {
    program: String,
    home: tempfile::TempDir,
}

impl Helm {
    fn find() -> Option<Self> {
        Some(Self { program: kit::helm()?, home: tempfile::tempdir().unwrap() })
    }

    fn ask(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(&self.program);
        for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(home, self.home.path());
        }
        // Where there is no cluster none is asked for.
        command.env("KUBECONFIG", std::env::var("PRESCALE_TEST_KUBECONFIG").unwrap_or_default());
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Finished { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let Finished { code, stdout, stderr } = self.ask(arguments);
        assert_eq!(code, Some(0), "helm {arguments:?}: {stdout}{stderr}");
        stdout
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> String {
        let Finished { code, stdout, stderr } = self.ask(arguments);
        assert_ne!(code, Some(0), "helm {arguments:?} works: {stdout}");
        stderr
    }
}

/// Everything that a chart knows of: targets of each kind, a lease, adapters, a pipeline beside the configuration.
fn whole(space: &str) -> String {
    format!(
        r#"
mode = "act"

[kafka]
bootstrap_servers = "kafka:9092"

[kafka.client]
"sasl.password" = "${{env:KAFKA_PASSWORD}}"

[features]
pipelines = ["../pipelines/requests.sql"]
processes = 2

[lease]
place = "kubernetes://{space}/prescale"

[serve]
listen = "0.0.0.0:8080"

[adapter]
metrics = {{ listen = "0.0.0.0:6443" }}
keda = {{ listen = "0.0.0.0:9443" }}
ratelimit = {{ listen = "0.0.0.0:8081" }}

[[services]]
name = "web"
unit_capacity = 50.0
target = {{ kind = "kubernetes", namespace = "{space}", workload = "Deployment/web", min = 0, max = 40 }}

[[services]]
name = "search"
mode = "recommend"
unit_capacity = 50.0
target = {{ kind = "kubernetes", namespace = "{space}", workload = "Deployment/search", min = 0, max = 40 }}
fallback = {{ kind = "prometheus", url = "http://prometheus:9090", query = "sum(rate(requests_total{{service='{{}}'}}[1m]))" }}

[[services]]
name = "floor"
unit_capacity = 50.0
target = {{ kind = "kubernetes", namespace = "{space}-floor", workload = "Deployment/web", as = "hpa-floor", min = 0, max = 40 }}

[[services]]
name = "buffer"
unit_capacity = 50.0
target = {{ kind = "kubernetes-nodes", ahead_by = "capacity-buffer", name = "ahead", namespace = "{space}", workload = "Deployment/web", min = 0, max = 40 }}

[[services]]
name = "room"
unit_capacity = 50.0
target = {{ kind = "kubernetes-nodes", ahead_by = "placeholder-pods", name = "room", namespace = "{space}", workload = "Deployment/web", min = 0, max = 40 }}

[[services]]
name = "pool"
unit_capacity = 50.0
target = {{ kind = "kubernetes-nodes", ahead_by = "node-pool", name = "{space}", min = 0, max = 40 }}

[[services]]
name = "base"
unit_capacity = 50.0
target = {{ kind = "eks-nodegroup", cluster = "prod", nodegroup = "base", region = "eu-west-1", min = 0, max = 9, drain = {{}} }}
"#
    )
}

/// The smallest that may run in a pod.
const SMALL: &str = r#"
[kafka]
bootstrap_servers = "kafka:9092"

[serve]
listen = "0.0.0.0:8080"
"#;

/// A configuration in a folder, beside the pipelines.
fn configured(folder: &Path, text: &str) -> PathBuf {
    for name in ["config", "pipelines"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    std::fs::copy(kit::root().join("pipelines/requests.sql"), folder.join("pipelines/requests.sql")).unwrap();
    let file = folder.join("config/prescale.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// Its chart, in the same folder.
#[track_caller]
fn charted(folder: &Path, text: &str) -> String {
    let (file, out) = (configured(folder, text), folder.join("chart"));
    let told = kit::run(&["generate", "helm", "-c", file.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    out.to_str().unwrap().to_owned()
}

/// All that the chart can make but what only the operator of Prometheus knows.
const ALL: &str = "scaling.keda.enabled=true,scaling.karpenter.enabled=true,apiServices.enabled=true,\
                   apiServices.insecureSkipTLSVerify=true";

fn documents(text: &str) -> Vec<Value> {
    let all = text.split("\n---").map(|document| document.trim_start_matches("---"));
    let read = all.map(|document| serde_saphyr::from_str::<Value>(document).unwrap_or(Value::Null));
    read.filter(|document| !document.is_null()).collect()
}

#[test]
fn helm_takes_the_charts_and_refuses_values_that_mean_nothing() {
    let Some(helm) = Helm::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let small = charted(&folder.path().join("small"), SMALL);
    let whole = charted(&folder.path().join("whole"), &whole("shop"));
    let monitored = format!("{ALL},monitoring.serviceMonitor.enabled=true,monitoring.prometheusRule.enabled=true");
    helm.run(&["lint", "--strict", &small]);
    helm.run(&["lint", "--strict", &whole]);
    helm.run(&["lint", "--strict", &whole, "--set", &monitored]);
    let made = documents(&helm.run(&["template", "rel", &whole, "--set", &monitored]));
    let rule = made.iter().find(|object| object["kind"] == "PrometheusRule").unwrap();
    let alerts = rule["spec"]["groups"][0]["rules"].to_string();
    assert!(alerts.contains("{{ $labels.service }}"), "what Prometheus fills in stays: {alerts}");
    let of = |kind: &str| -> Vec<&Value> { made.iter().filter(|object| object["kind"] == kind).collect() };
    let pod = &of("StatefulSet")[0]["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let security = &pod["containers"][0]["securityContext"];
    assert_eq!(
        (&security["readOnlyRootFilesystem"], &security["allowPrivilegeEscalation"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(of("ScaledObject").len(), 1, "the service that Prescale does not scale itself");
    // Where it asks nothing of the cluster it may ask nothing of it, and has no token.
    let made = documents(&helm.run(&["template", "rel", &small]));
    assert!(!made.iter().any(|object| object["kind"].as_str().unwrap().contains("Role")), "{made:?}");
    let alone = made.iter().find(|object| object["kind"] == "StatefulSet").unwrap();
    assert_eq!(alone["spec"]["template"]["spec"]["automountServiceAccountToken"], false);
    let cases = [
        (&small, "replicas=2", "the configuration has no lease"),
        (&small, "scaling.hpa.enabled=true", "hint: set adapter.metrics.listen"),
        (&small, "scaling.keda.enabled=true", "hint: set adapter.keda.listen"),
        (&small, "apiServices.enabled=true", "hint: set adapter.metrics.listen"),
        (&whole, "apiServices.enabled=true", "either caBundle or insecureSkipTLSVerify"),
        (&whole, "scaling.hpa.enabled=true,scaling.keda.enabled=true", "two HPAs fight"),
        (&whole, "services.search.min=41", "min 41 exceeds max 40"),
        (&whole, "services.serach.min=1", "'serach' not allowed"),
        (&whole, "replica=3", "'replica' not allowed"),
        (&whole, "replicas=many", "/replicas"),
        (&whole, "apiServices.caBundle=ca.crt", "/apiServices/caBundle"),
        (&whole, "persistence.size=much", "/persistence/size"),
        (&whole, "persistence.accessMode=ReadWriteMany", "/persistence/accessMode"),
    ];
    for (chart, values, told) in cases {
        let refusal = helm.refused(&["template", "rel", chart, "--set", values]);
        assert!(refusal.contains(told), "{values}: {refusal}");
    }
}

#[test]
fn the_published_schemas_of_kubernetes_take_what_the_chart_makes() {
    let (Some(helm), Some(validate)) = (Helm::find(), kit::kubernetes_validate()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let chart = charted(folder.path(), &whole("shop"));
    let values = "scaling.hpa.enabled=true,apiServices.enabled=true,apiServices.insecureSkipTLSVerify=true";
    let made = helm.run(&["template", "rel", &chart, "--set", values]);
    let file = folder.path().join("made.yaml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Command::new(&validate).args(["--strict", "-k", "1.37"]).arg(&file).output().unwrap()
    };
    let output = check(&made);
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert_eq!(told.matches(" passed for resource ").count(), documents(&made).len(), "{told}");
    assert!(!check(&made.replace("podManagementPolicy: Parallel", "podManagementPolicy: [1]")).status.success());
}

#[test]
fn a_real_api_server_takes_everything_that_the_chart_can_make() {
    let (Some(helm), Some(_)) = (Helm::find(), kit::kubeconfig()) else { return };
    let (space, folder) = (namespace("chart"), tempfile::tempdir().unwrap());
    kubectl(&["create", "namespace", &format!("{space}-floor")]);
    let chart = charted(folder.path(), &whole(&space));
    for values in [ALL, "scaling.hpa.enabled=true"] {
        let made = helm.run(&["template", "prescale", &chart, "--namespace", &space, "--set", values]);
        let taken =
            kubectl_with(&["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"], &made);
        assert_eq!(taken.lines().count(), documents(&made).len(), "{taken}");
    }
    for space in [space.clone(), format!("{space}-floor")] {
        kubectl(&["delete", "namespace", &space, "--wait=false"]);
    }
}

/// A kubeconfig of a service account, with a token of its own.
fn kubeconfig_of(folder: &Path, space: &str, account: &str) -> PathBuf {
    let token = kubectl(&["create", "token", account, "--namespace", space]);
    let text = std::fs::read_to_string(kit::kubeconfig().unwrap()).unwrap();
    let mut config: Value = serde_saphyr::from_str(&text).unwrap();
    config["users"][0]["user"] = json!({ "token": token.trim() });
    let file = folder.join(format!("{account}.kubeconfig"));
    // JSON is YAML.
    std::fs::write(&file, config.to_string()).unwrap();
    file
}

/// Rules as lines that can be compared.
fn lines(rules: &Value) -> BTreeSet<String> {
    let sorted = |rule: &Value, key: &str| -> BTreeSet<String> {
        rule[key].as_array().into_iter().flatten().map(|value| value.as_str().unwrap().to_owned()).collect()
    };
    let line = |rule: &Value| {
        let [groups, resources, names, verbs] =
            ["apiGroups", "resources", "resourceNames", "verbs"].map(|key| sorted(rule, key));
        format!("{groups:?} {resources:?} {names:?} {verbs:?}")
    };
    rules.as_array().into_iter().flatten().map(line).collect()
}

/// What the API server itself says that an account may do in a namespace.
fn allowed(kubeconfig: &Path, space: &str) -> BTreeSet<String> {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": space}});
    // Validation would look at the kinds of the cluster, which such an account may not.
    let asked =
        ["--kubeconfig", kubeconfig.to_str().unwrap(), "create", "--validate=false", "-f", "-", "--output", "json"];
    let told: Value = serde_json::from_str(&kubectl_with(&asked, &review.to_string())).unwrap();
    lines(&told["status"]["resourceRules"])
}

/// What `prescale generate rbac` allows in a namespace, that of the whole cluster included.
fn generated(file: &Path, space: &str, home: &str) -> (String, BTreeSet<String>) {
    let told = kit::run(&["generate", "rbac", "-c", file.to_str().unwrap(), "--namespace", home]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    let roles = documents(&told.stdout).into_iter().filter(|object| match object["kind"].as_str() {
        Some("Role") => object["metadata"]["namespace"] == space,
        kind => kind == Some("ClusterRole"),
    });
    let rules = roles.flat_map(|role| lines(&role["rules"])).collect();
    (told.stdout, rules)
}

/// Waits until an account may do exactly this beyond what every account may: the authorizer learns of roles a moment later.
#[track_caller]
fn await_exactly(of: &Path, nobody: &Path, space: &str, expected: &BTreeSet<String>) {
    let (mut seen, start) = (BTreeSet::new(), Instant::now());
    while start.elapsed() < PATIENCE {
        let everybody = allowed(nobody, space);
        seen = allowed(of, space).difference(&everybody).cloned().collect();
        if seen == *expected {
            return;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(seen, *expected, "in {space}");
}

fn account(space: &str, name: &str) {
    kubectl(&["create", "serviceaccount", name, "--namespace", space]);
}

#[test]
fn a_release_is_installed_changed_and_taken_away() {
    let (Some(helm), Some(_)) = (Helm::find(), kit::kubeconfig()) else { return };
    let (space, nodes, folder) = (namespace("release"), Nodes::new(2), tempfile::tempdir().unwrap());
    let floor = format!("{space}-floor");
    kubectl(&["create", "namespace", &floor]);
    // Nothing here makes volumes by itself.
    let class = kit::unique("volumes");
    let volume = |index: u32| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": format!("{class}-{index}"), "labels": {"volumes": class}},
            "spec": {"capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": class,
                     "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/var/none"}},
        })
    };
    apply(&[volume(0), volume(1), volume(2)]);
    let text = whole(&space);
    let chart = charted(folder.path(), &text);
    let values = format!("nodeSelector.pool={},persistence.storageClass={class}", nodes.pool);
    let ask = |arguments: &[&str]| helm.run(&[arguments, &["--namespace", space.as_str(), "--wait=hookOnly"]].concat());
    let notes = ask(&["install", "prescale", &chart, "--set", &values]);
    assert!(notes.contains("the environment variable `KAFKA_PASSWORD`"), "{notes}");
    let set = || get(&space, "statefulset/prescale");
    let await_replicas = |count: u64| {
        wait_for(&format!("{count} replicas"), PATIENCE, || {
            let status = set()["status"].clone();
            let settled = status["currentRevision"] == status["updateRevision"];
            (settled && status["readyReplicas"] == count && status["replicas"] == count).then_some(())
        });
    };
    await_replicas(2);
    // Byte for byte, with the reference and without what it stands for.
    let held = get(&space, "configmap/prescale");
    assert_eq!(held["data"]["config__prescale.toml"], text);
    assert_eq!(get(&space, "pdb/prescale")["spec"]["maxUnavailable"], 1);
    let ports = |service: &str| -> BTreeMap<String, u64> {
        let found = get(&space, service)["spec"]["ports"].clone();
        let port = |port: &Value| (port["name"].as_str().unwrap().to_owned(), port["port"].as_u64().unwrap());
        found.as_array().unwrap().iter().map(port).collect()
    };
    let expected = [("keda", 9443), ("metrics", 6443), ("ratelimit", 8081)].map(|(name, port)| (name.to_owned(), port));
    assert_eq!(ports("service/prescale-adapter"), BTreeMap::from(expected));
    assert_eq!(ports("service/prescale"), BTreeMap::from([("api".to_owned(), 8080)]));
    // The chart allows what the command alone prints.
    account(&space, "nobody");
    let of_release = kubeconfig_of(folder.path(), &space, "prescale");
    let nobody = kubeconfig_of(folder.path(), &space, "nobody");
    let file = folder.path().join("config/prescale.toml");
    for place in [&space, &floor] {
        await_exactly(&of_release, &nobody, place, &generated(&file, place, &space).1);
    }
    // More replicas, and an object by which KEDA scales what Prescale does not.
    let more = "replicas=3,scaling.keda.enabled=true,services.search.max=7";
    ask(&["upgrade", "prescale", &chart, "--reuse-values", "--set", more]);
    await_replicas(3);
    let scaled = get(&space, "scaledobject/search");
    assert_eq!(scaled["spec"]["maxReplicaCount"], 7);
    let address = format!("prescale-adapter.{space}:9443");
    assert_eq!(scaled["spec"]["triggers"][0]["metadata"]["scalerAddress"], address);
    kubectl_refused(&["get", "scaledobject/web", "--namespace", &space], "");
    // Another configuration is other pods, and other roles.
    let before = set()["status"]["updateRevision"].clone();
    let changed = text.replace("max = 40", "max = 50").replace("mode = \"recommend\"", "mode = \"act\"");
    let chart = charted(folder.path(), &changed);
    ask(&["upgrade", "prescale", &chart, "--reuse-values"]);
    await_replicas(3);
    assert_ne!(set()["status"]["updateRevision"], before);
    assert_eq!(get(&space, "configmap/prescale")["data"]["config__prescale.toml"], changed);
    await_exactly(&of_release, &nobody, &space, &generated(&file, &space, &space).1);
    let refused = helm.refused(&["upgrade", "prescale", &chart, "--namespace", &space, "--set", "replicas=-1"]);
    assert!(refused.contains("/replicas"), "{refused}");
    // What is left is what was claimed.
    helm.run(&["uninstall", "prescale", "--namespace", &space]);
    let kinds = "statefulsets,pods,services,configmaps,serviceaccounts,roles,rolebindings,poddisruptionbudgets,scaledobjects,\
                 secrets,clusterroles,clusterrolebindings";
    let of_release = |kinds: &str, namespace: &str| {
        let label = "app.kubernetes.io/instance=prescale";
        kubectl(&["get", kinds, "--namespace", namespace, "--selector", label, "--output", "name"])
    };
    let whole_cluster = format!("{space}-prescale");
    for place in [&space, &floor] {
        wait_for("nothing to be left", PATIENCE, || {
            let left = of_release(kinds, place);
            // Of the whole cluster there may be those of other tests.
            let own = |line: &&str| !line.contains("clusterrole") || line.contains(&whole_cluster);
            left.lines().find(own).is_none().then_some(())
        });
    }
    assert_eq!(of_release("persistentvolumeclaims", &space).lines().count(), 3);
    for place in [&space, &floor] {
        kubectl(&["delete", "namespace", place, "--wait=false"]);
    }
    kubectl(&["delete", "persistentvolumes", "--selector", &format!("volumes={class}"), "--wait=false"]);
}

#[tokio::test]
async fn the_account_may_do_what_targets_do_and_nothing_more() {
    let Some(_) = kit::kubeconfig() else { return };
    let (space, fleet, folder) = (namespace("roles"), Nodes::new(2), tempfile::tempdir().unwrap());
    let floor = format!("{space}-floor");
    kubectl(&["create", "namespace", &floor]);
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": space},
        "value": -10, "preemptionPolicy": "Never"});
    let mut room = deployment(&space, "room", 0, "nowhere");
    room["spec"]["template"]["spec"]["priorityClassName"] = space.clone().into();
    let template = json!({
        "apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "web", "namespace": space},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "none"}]}},
    });
    let buffer = json!({
        "apiVersion": "autoscaling.x-k8s.io/v1beta1", "kind": "CapacityBuffer",
        "metadata": {"name": "ahead", "namespace": space},
        "spec": {"podTemplateRef": {"name": "web"}, "replicas": 0},
    });
    let ours = [deployment(&space, "web", 2, &fleet.pool), class, room, template, buffer, static_pool(&space, 1)];
    apply(&ours);
    apply(&[deployment(&space, "search", 1, "nowhere"), deployment(&space, "other", 1, "nowhere")]);
    apply(&[deployment(&floor, "web", 1, "nowhere"), hpa(&floor, 1, 9)]);
    for name in ["prescale", "nobody"] {
        account(&space, name);
    }
    let of = |name: &str| kubeconfig_of(folder.path(), &space, name);
    let (own, nobody) = (of("prescale"), of("nobody"));
    let file = configured(folder.path(), &whole(&space));
    let (roles, _) = generated(&file, &space, &space);
    kubectl_with(&["apply", "-f", "-"], &roles);
    for place in [&space, &floor] {
        await_exactly(&own, &nobody, place, &generated(&file, place, &space).1);
    }
    // Everything that the configured targets do.
    let applied = |units: u32| Outcome::Applied { units, clamped: false };
    let web = workload(&own, &space, "Deployment/web", ScaledAs::Replicas);
    assert_eq!(web.observe(NOW).await.unwrap().desired, 2);
    assert_eq!(web.apply(&decision(4), NOW).await.unwrap(), applied(4));
    let of_hpa = workload(&own, &floor, "Deployment/web", ScaledAs::HpaFloor);
    assert_eq!(of_hpa.observe(NOW).await.unwrap().desired, 1);
    assert_eq!(of_hpa.apply(&decision(3), NOW).await.unwrap(), applied(3));
    let ahead = nodes(&own, &space, AheadBy::CapacityBuffer, "ahead", Some("Deployment/web"));
    assert_eq!(ahead.apply(&decision(9), NOW).await.unwrap(), applied(9));
    let room = nodes(&own, &space, AheadBy::PlaceholderPods, "room", Some("Deployment/web"));
    assert_eq!(room.apply(&decision(7), NOW).await.unwrap(), applied(7));
    let pool = nodes(&own, &space, AheadBy::NodePool, &space, None);
    assert_eq!(pool.apply(&decision(5), NOW).await.unwrap(), applied(5));
    wait_ready(&space, "web", 4);
    let client = Cluster::new(cluster(&own), "nodes of a test");
    let victim = format!("{}-0", fleet.pool);
    let limits = DrainLimits { retry_every: Span::from_millis(200), ..DrainLimits::default() };
    let outcomes = drain_nodes(&client, std::slice::from_ref(&victim), limits).await;
    assert!(matches!(&outcomes[..], [(_, DrainOutcome::Drained { .. })]), "{outcomes:?}");
    let settings = LeaseSettings::default();
    let place = KubernetesLease::new(Cluster::new(cluster(&own), "lease"), &space, "prescale", settings.duration);
    let mut keeper = Keeper::new("a", settings, place);
    // Made, and then renewed.
    for _ in 0..2 {
        keeper.turn().await;
        assert_eq!(keeper.watch().term(), Some(1));
    }
    // Another workload, another namespace, another lease, and changing what is only looked at.
    let denied = async |target: &prescale_actuate::Target, changes: bool| {
        let told = if changes {
            target.apply(&decision(3), NOW).await.unwrap_err()
        } else {
            target.observe(NOW).await.unwrap_err()
        };
        assert_eq!(told.code(), "denied", "{told}");
    };
    denied(&workload(&own, &space, "Deployment/other", ScaledAs::Replicas), false).await;
    denied(&workload(&own, &floor, "Deployment/web", ScaledAs::Replicas), false).await;
    denied(&nodes(&own, &floor, AheadBy::CapacityBuffer, "ahead", Some("Deployment/web")), false).await;
    let looked_at = workload(&own, &space, "Deployment/search", ScaledAs::Replicas);
    assert_eq!(looked_at.observe(NOW).await.unwrap().desired, 1);
    denied(&looked_at, true).await;
    denied(&workload(&nobody, &space, "Deployment/web", ScaledAs::Replicas), false).await;
    let own = own.to_str().unwrap();
    for (verb, what) in [
        ("patch", "deployments/web"),
        ("delete", "deployments/web"),
        ("patch", "nodepools.karpenter.sh/other"),
        ("list", "secrets"),
        ("get", "configmaps"),
        ("create", "pods"),
        ("update", "leases.coordination.k8s.io/other"),
        ("delete", "nodes"),
    ] {
        let told = kubectl_refused(&["--kubeconfig", own, "auth", "can-i", verb, what, "--namespace", &space], "");
        assert!(told.lines().any(|line| line == "no" || line.starts_with("no - ")), "{verb} {what}: {told}");
    }
    kubectl(&["delete", "nodepool", &space, "--wait=false"]);
    kubectl(&["delete", "priorityclass", &space]);
    kubectl(&["delete", "clusterrole,clusterrolebinding", &format!("{space}-prescale"), "--wait=false"]);
    for place in [&space, &floor] {
        kubectl(&["delete", "namespace", place, "--wait=false"]);
    }
}

#[test]
fn what_can_not_be_a_chart_is_told_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = configured(folder.path(), &SMALL.replace("0.0.0.0", "127.0.0.1"));
    let (file, out) = (file.to_str().unwrap(), folder.path().join("chart"));
    let ask = || kit::run(&["generate", "helm", "-c", file, "--out", out.to_str().unwrap()]);
    let told = ask();
    assert_eq!(told.code, Some(3), "{}", told.stderr);
    assert!(told.stderr.contains("hint: write serve.listen = \"0.0.0.0:8080\""), "{}", told.stderr);
    assert!(!out.exists());
    std::fs::write(file, SMALL).unwrap();
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("mine.txt"), "mine").unwrap();
    let told = ask();
    assert_eq!(told.code, Some(1), "{}", told.stderr);
    assert!(told.stderr.contains("is not empty") && told.stderr.contains("hint: "), "{}", told.stderr);
    std::fs::remove_file(out.join("mine.txt")).unwrap();
    for _ in 0..2 {
        let told = ask();
        assert_eq!(told.code, Some(0), "{}", told.stderr);
        assert_eq!(std::fs::read_to_string(out.join("files/carried/config/prescale.toml")).unwrap(), SMALL);
    }
    let told = kit::run(&["generate", "rbac", "-c", file]);
    assert!(told.code == Some(3) && told.stderr.contains("nothing need be allowed"), "{}", told.stderr);
}
