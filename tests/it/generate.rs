//! What `prescale generate` prints, before those who have to take it: the cluster's own API server (with the kinds of KEDA and
//! Karpenter), the published schemas of Kubernetes, promtool, and the log of an account.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use prescale_actuate::{
    Actuator, AsgScaleIn, AsgScaleOut, AsgSettings, AsgWrites, EksSettings, EksWrites, InstanceTypeSettings,
    SplitSettings, TargetSettings, WarmPoolSettings,
};
use prescale_domain::{Decision, Span, SpotSettings};
use prescale_simulation::aws::Shortage;
use serde_json::{Value, json};

use crate::contract::{Account, asg_settings, wish};
use crate::kit::{self, kubectl, kubectl_with};

const PRESETS: [&str; 6] = ["celery", "vllm", "training", "kafka", "cpu", "memory"];

fn config(folder: &Path) -> PathBuf {
    let text = r#"
mode = "recommend"

[kafka]
bootstrap_servers = "kafka:9092"

[features]
pipelines = []

[lease]
place = "kubernetes://ops/prescale"

[[services]]
name = "checkout"
unit_capacity = 50.0
unit = { cpu_cores = 0.5, memory_mb = 700.0 }
target = { kind = "kubernetes", namespace = "default", workload = "Deployment/checkout", min = 2, max = 40 }
fallback = { kind = "prometheus", url = "http://prometheus:9090", query = "sum(rate(requests_total[1m]))" }

[[services]]
name = "a-service-whose-name-is-as-long-as-names-of-services-may-well-become"
unit_capacity = 7.5
target = { kind = "kubernetes", namespace = "default", workload = "StatefulSet/search", min = 0, max = 400 }
"#;
    let file = folder.join("prescale.toml");
    std::fs::write(&file, text).unwrap();
    file
}

fn generated(arguments: &[&str], file: &Path) -> String {
    let told = kit::run(&[&["generate"], arguments, &["-c", file.to_str().unwrap()]].concat());
    assert_eq!(told.code, Some(0), "{arguments:?}: {}", told.stderr);
    told.stdout
}

/// All manifests, each with what it was asked for by.
fn manifests(file: &Path) -> Vec<(String, String)> {
    let mut all = vec![
        ("hpa".to_owned(), generated(&["hpa", "--service", "checkout"], file)),
        ("karpenter".to_owned(), generated(&["karpenter"], file)),
        ("keda".to_owned(), generated(&["keda"], file)),
    ];
    all.extend(PRESETS.map(|preset| (format!("keda {preset}"), generated(&["keda", "--preset", preset], file))));
    all
}

#[test]
fn a_real_api_server_takes_every_manifest() {
    let Some(_) = kit::kubeconfig() else { return };
    let folder = tempfile::tempdir().unwrap();
    let space = kit::unique("generated");
    kubectl(&["create", "namespace", &space]);
    for (name, text) in manifests(&config(folder.path())) {
        let text = text.replace("namespace: default", &format!("namespace: {space}"));
        let documents = text.matches("\n---").count() + 1;
        let taken =
            kubectl_with(&["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"], &text);
        let lines = taken.lines().filter(|line| line.ends_with("serverside-applied (server dry run)")).count();
        assert_eq!(lines, documents, "{name}: {taken}");
    }
    let long = kit::run(&["generate", "hpa", "-c", config(folder.path()).to_str().unwrap()]);
    assert!(long.code == Some(3) && long.stderr.contains("63 characters of a label"), "{}", long.stderr);
    // The server looks: what is wrong is refused.
    let wrong = generated(&["hpa", "--service", "checkout"], &config(folder.path()))
        .replace("maxReplicas: 40", "maxReplicas: ten");
    let refused = kit::kubectl_refused(&["apply", "--server-side", "--dry-run=server", "-f", "-"], &wrong);
    assert!(refused.contains("maxReplicas"), "{refused}");
    kubectl(&["delete", "namespace", &space, "--wait=false"]);
}

#[test]
fn the_published_schemas_of_kubernetes_take_what_is_of_its_own_kinds() {
    let Some(validate) = kit::kubernetes_validate() else { return };
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        let file = folder.path().join("manifest.yaml");
        std::fs::write(&file, text).unwrap();
        Command::new(&validate).args(["--strict", "-k", "1.37"]).arg(&file).output().unwrap()
    };
    let mut kinds = BTreeSet::new();
    for (name, text) in manifests(&config(folder.path())) {
        for document in text.split("---\n").filter(|document| !document.trim().is_empty()) {
            let kind = document.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap();
            // Others are no part of Kubernetes; the API server of the test above knows them.
            if !["HorizontalPodAutoscaler", "PodTemplate"].contains(&kind) {
                continue;
            }
            kinds.insert(kind.to_owned());
            let output = check(document);
            assert!(output.status.success(), "{name}: {}\n{document}", String::from_utf8_lossy(&output.stdout));
        }
    }
    assert_eq!(kinds.len(), 2);
    let wrong = generated(&["hpa", "--service", "checkout"], &config(folder.path()));
    assert!(!check(&wrong.replace("maxReplicas: 40", "maxReplicas: ten")).status.success());
}

#[test]
fn promtool_takes_the_alerts_and_every_query() {
    let Some(prometheus) = kit::prometheus() else { return };
    let promtool = Path::new(&prometheus).with_file_name("promtool");
    let folder = tempfile::tempdir().unwrap();
    let file = config(folder.path());
    let check = |text: &str| {
        let rules = folder.path().join("rules.yaml");
        std::fs::write(&rules, text).unwrap();
        Command::new(&promtool).args(["check", "rules", "--lint=all", "--lint-fatal"]).arg(&rules).output().unwrap()
    };
    let alerts = generated(&["alerts"], &file);
    let output = check(&alerts);
    let told = String::from_utf8(output.stdout).unwrap();
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("SUCCESS: 10 rules found"), "{told}{why}\n{alerts}");
    // What a ScaledObject asks Prometheus is PromQL.
    let mut queries = 0;
    for (name, text) in manifests(&file) {
        for query in text.split("---\n").filter(|document| !document.trim().is_empty()).flat_map(asked) {
            queries += 1;
            // JSON is YAML.
            let rules = json!({"groups": [{"name": "g", "rules": [{"record": "asked", "expr": query}]}]});
            let output = check(&rules.to_string());
            assert!(output.status.success(), "{name}: {query}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    assert_eq!(queries, 9, "one of the fallback, and of two services three for vllm and one for training");
    assert!(!check(&alerts.replace("== 2", "=== 2")).status.success());
}

/// What a manifest asks Prometheus.
fn asked(document: &str) -> Vec<String> {
    let manifest: Value = serde_saphyr::from_str(document).unwrap();
    let triggers = manifest.pointer("/spec/triggers").and_then(Value::as_array).cloned().unwrap_or_default();
    triggers.iter().filter_map(|trigger| Some(trigger.pointer("/metadata/query")?.as_str()?.to_owned())).collect()
}

/// What an alert looks at is what a replica tells.
#[test]
fn alerts_look_at_metrics_that_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let alerts = generated(&["alerts"], &config(folder.path()));
    let mut sources = String::new();
    for entry in std::fs::read_dir(kit::root().join("src/telemetry")).unwrap() {
        sources += &std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
    }
    let names: BTreeSet<&str> = alerts
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter_map(|word| word.strip_prefix("prescale_"))
        .map(|name| name.strip_suffix("_total").unwrap_or(name))
        .collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        assert!(sources.contains(&format!("\"{name}\"")), "no metric is called prescale_{name}");
    }
}

/// A decision of its own, as each is.
fn decision(units: u32) -> Decision {
    let mut decision = wish(units);
    decision.id.0 = format!("web@2026-01-01T00:00:00Z#{units}");
    decision
}

fn split_settings() -> SplitSettings {
    let types = vec![InstanceTypeSettings { name: "m5.large".to_owned(), usd_hour: 0.1, weight: 1 }];
    SplitSettings { types, commitments: Vec::new(), plan: SpotSettings::default(), capacity_rebalance: false }
}

#[tokio::test(start_paused = true)]
async fn the_policy_allows_the_calls_that_are_made_and_no_others() {
    let nodegroups = EksSettings { region: Some("eu-west-1".to_owned()), ..EksSettings::new("prod", "base", 0, 100) };
    let all = [
        TargetSettings::AwsAsg(asg_settings("web")),
        TargetSettings::AwsAsg(AsgSettings { writes: AsgWrites::Floor, ..asg_settings("web") }),
        TargetSettings::AwsAsg(AsgSettings {
            writes: AsgWrites::DesiredAndBounds,
            min: 1,
            max: 30,
            ..asg_settings("web")
        }),
        TargetSettings::AwsAsg(AsgSettings {
            scale_in: AsgScaleIn::Targeted,
            scale_out: AsgScaleOut::LaunchInstances,
            warm_pool: Some(WarmPoolSettings { reserve: 0.2, max: None }),
            ..asg_settings("web")
        }),
        TargetSettings::EksNodegroup(nodegroups.clone()),
        TargetSettings::EksNodegroup(EksSettings {
            spot_nodegroup: Some("spot".to_owned()),
            on_demand_base: 2,
            ..nodegroups.clone()
        }),
        TargetSettings::EksNodegroup(EksSettings {
            spot_nodegroup: Some("spot".to_owned()),
            spot: Some(split_settings()),
            ..nodegroups.clone()
        }),
        TargetSettings::EksNodegroup(EksSettings { writes: EksWrites::Floor, ..nodegroups }),
    ];
    let mut unused = BTreeSet::new();
    for settings in all {
        let account = Account::new();
        account.group("web", (0, 4, 20));
        if matches!(&settings, TargetSettings::AwsAsg(settings) if settings.warm_pool.is_some()) {
            account
                .asg("PutWarmPool", "AutoScalingGroupName=web&MinSize=1&MaxGroupPreparedCapacity=5&PoolState=Running");
        }
        let cluster = json!({"name": "prod", "roleArn": "r", "resourcesVpcConfig": {"subnetIds": ["subnet-a"]}});
        account.eks("/clusters", cluster);
        account.after(600).await;
        for (name, kind) in [("base", "ON_DEMAND"), ("spot", "SPOT")] {
            let sizes = json!({"minSize": 0, "desiredSize": 2, "maxSize": 20});
            let body = json!({"nodegroupName": name, "capacityType": kind, "scalingConfig": sizes, "nodeRole": "r",
                              "subnets": ["subnet-a"], "instanceTypes": ["m5.large"]});
            account.eks("/clusters/prod/node-groups", body);
        }
        account.after(600).await;
        let calls = account.calls();
        let target = settings.build_in(&account.connections()).unwrap();
        for units in [6, 9, 3, 12, 2] {
            target.apply(&decision(units), account.after(120).await).await.unwrap();
            target.observe(account.after(120).await).await.unwrap();
        }
        // What is wanted does not come, so that it is asked why.
        let from = account.now();
        let until = from + Span::from_minutes(60);
        let lack = Shortage { instance_type: None, zone: None, spot: None, from, until, units: 0 };
        account.lack(lack);
        target.apply(&decision(20), from).await.unwrap();
        for _ in 0..12 {
            target.observe(account.after(60).await).await.unwrap();
        }
        let made = account.log(calls).into_iter().map(|call| format!("{}:{}", call.service, call.operation));
        let made: BTreeSet<String> = made.collect();
        let allowed = settings.permissions().into_iter().map(|permission| permission.action.to_owned());
        let allowed: BTreeSet<String> = allowed.collect();
        let forbidden: Vec<&String> = made.difference(&allowed).collect();
        assert!(forbidden.is_empty(), "calls that the policy of {} does not allow: {forbidden:?}", settings.describe());
        unused.extend(allowed.difference(&made).map(|action| (settings.describe(), action.clone())));
    }
    let launches = |action: &str| ("asg `web`".to_owned(), format!("autoscaling:{action}"));
    // Where all that could go is protected the group is told the number; what is launched by name is not short of anything.
    let of_launches = ["DescribeScalingActivities", "SetDesiredCapacity"].map(launches);
    assert_eq!(unused, BTreeSet::from(of_launches), "what policies allow and nobody calls");
}
