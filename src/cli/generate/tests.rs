//! What is generated, as a user sees it.

use std::path::PathBuf;

use super::*;

const CONFIG: &str = r#"
mode = "recommend"

[kafka]
bootstrap_servers = "kafka:9092"

[features]
pipelines = []

[[services]]
name = "checkout"
unit_capacity = 50.0
unit = { cpu_cores = 0.5, memory_mb = 700.0 }
target = { kind = "kubernetes", namespace = "shop", workload = "Deployment/checkout", min = 2, max = 40 }
fallback = { kind = "prometheus", url = "http://prometheus:9090", query = "sum(rate(requests_total[1m]))" }

[[services]]
name = "search"
unit_capacity = 20.0
target = { kind = "aws-asg", group = "search-asg", min = 2, max = 200, region = "eu-west-1", warm_pool = {} }

[[services]]
name = "nodes"
unit_capacity = 20.0
target = { kind = "eks-nodegroup", cluster = "prod", nodegroup = "base", spot_nodegroup = "spot", min = 2, max = 90 }
"#;

fn config() -> Config {
    config::parse(CONFIG, "prescale.toml", PathBuf::from(".")).unwrap().config
}

fn of(service: &str) -> Of {
    Of { config: PathBuf::new(), service: Some(service.to_owned()), namespace: "default".to_owned() }
}

fn texts(documents: &[Value]) -> String {
    documents.iter().map(|document| format!("---\n{}", yaml(document).unwrap())).collect()
}

#[test]
fn manifests_are_yaml_that_reads_back_as_what_was_meant() {
    let config = config();
    let keda = |preset| keda::Settings {
        scaler: "prescale.ops:9443",
        preset,
        prometheus: "http://prometheus.monitoring:9090",
        bootstrap_servers: "kafka:9092",
    };
    let mut all = each(&config, &of("checkout"), |workload| vec![hpa::autoscaler(workload)]).unwrap();
    all.extend(each(&config, &of("checkout"), karpenter::ahead).unwrap());
    let presets = [None, Some(Preset::Celery), Some(Preset::Vllm), Some(Preset::Training), Some(Preset::Kafka)];
    for preset in presets.into_iter().chain([Some(Preset::Cpu), Some(Preset::Memory)]) {
        let settings = keda(preset);
        all.extend(each(&config, &of("checkout"), |workload| vec![keda::scaled_object(workload, &settings)]).unwrap());
    }
    for document in &all {
        let back: Value = serde_saphyr::from_str(&yaml(document).unwrap()).unwrap();
        assert_eq!(back, *document);
    }
    let text = texts(&all);
    assert!(text.contains("formula: max(forecast, measured)"), "{text}");
    assert!(text.contains("behavior: currentReplicasIfHigher"), "{text}");
}

#[test]
fn a_policy_allows_what_targets_call_and_nothing_else() {
    let mut config = config();
    let policy = iam::policy(&config, "us-east-1", "123456789012").unwrap();
    let text = serde_json::to_string_pretty(&policy).unwrap();
    let group = "arn:aws:autoscaling:eu-west-1:123456789012:autoScalingGroup:*:autoScalingGroupName/search-asg";
    assert!(text.contains(group), "{text}");
    assert!(text.contains("arn:aws:eks:us-east-1:123456789012:nodegroup/prod/spot/*"), "{text}");
    assert!(text.contains("autoscaling:PutWarmPool") && !text.contains("LaunchInstances"), "{text}");
    assert!(!text.contains("cloudwatch"), "{text}");
    config.services.truncate(1);
    assert!(iam::policy(&config, "*", "*").is_none());
    config.cloudwatch = Some(Default::default());
    let text = iam::policy(&config, "*", "*").unwrap().to_string();
    assert!(text.contains("cloudwatch:PutMetricData") && !text.contains("autoscaling"), "{text}");
}

/// Rules as `namespace: group/resource[names] verbs`.
fn allowed(text: &str) -> Vec<String> {
    let config = config::parse_for_elsewhere(text, "prescale.toml").unwrap();
    let lines = rbac::needed(&config).unwrap().into_iter().flat_map(|access| {
        let place = access.namespace.unwrap_or_else(|| "*".to_owned());
        access.rules.into_iter().map(move |rule| {
            let list = |key: &str| -> Vec<String> {
                rule[key].as_array().into_iter().flatten().map(|value| value.as_str().unwrap().to_owned()).collect()
            };
            let (groups, resources, names, verbs) =
                (list("apiGroups"), list("resources"), list("resourceNames"), list("verbs"));
            format!("{place}: {}/{}{names:?} {}", groups.join(","), resources.join(","), verbs.join(","))
        })
    });
    lines.collect()
}

#[test]
fn roles_allow_what_targets_drains_and_lease_call_and_nothing_else() {
    let of = |mode: &str, target: &str, rest: &str| {
        let text = format!(
            "mode = \"{mode}\"\n[kafka]\nbootstrap_servers = \"kafka:9092\"\n{rest}\n[[services]]\nname = \"web\"\n\
             unit_capacity = 1.0\ntarget = {{ {target}, min = 1, max = 9 }}\n"
        );
        allowed(&text)
    };
    let web = r#"kind = "kubernetes", namespace = "shop", workload = "Deployment/web""#;
    let replicas = [
        r#"shop: apps/deployments["web"] get"#,
        r#"shop: apps/deployments/scale["web"] get,patch"#,
        "shop: keda.sh/scaledobjects[] list",
    ];
    assert_eq!(of("act", web, ""), replicas);
    let looks = [r#"shop: apps/deployments["web"] get"#, r#"shop: apps/deployments/scale["web"] get"#];
    assert_eq!(of("recommend", web, ""), looks);
    let floor = [
        r#"shop: apps/deployments["web"] get"#,
        r#"shop: autoscaling/horizontalpodautoscalers["web-hpa"] get,patch"#,
        "shop: keda.sh/scaledobjects[] list",
    ];
    assert_eq!(of("act", &format!(r#"{web}, as = "hpa-floor", hpa = "web-hpa""#), ""), floor);
    let ahead = |by: &str, rest: &str| {
        of(
            "act",
            &format!(r#"kind = "kubernetes-nodes", ahead_by = "{by}", name = "room", namespace = "shop"{rest}"#),
            "",
        )
    };
    let workload = r#", workload = "example.com/Policy/web""#;
    let buffer = [
        r#"shop: autoscaling.x-k8s.io/capacitybuffers["room"] get,patch"#,
        r#"shop: example.com/policies["web"] get"#,
        r#"shop: example.com/policies/scale["web"] get"#,
    ];
    assert_eq!(ahead("capacity-buffer", workload), buffer);
    let pool = [r#"*: karpenter.sh/nodepools["room"] get"#, r#"*: karpenter.sh/nodepools/scale["room"] patch"#];
    assert_eq!(ahead("node-pool", ""), pool);
    let room = [
        r#"shop: apps/deployments["room"] get"#,
        r#"shop: apps/deployments/scale["room"] get,patch"#,
        r#"shop: example.com/policies["web"] get"#,
        r#"shop: example.com/policies/scale["web"] get"#,
    ];
    assert_eq!(ahead("placeholder-pods", workload), room);
    let eks = r#"kind = "eks-nodegroup", cluster = "prod", nodegroup = "base""#;
    let drain = ["*: /nodes[] get,list,patch", "*: /pods[] list", "*: /pods/eviction[] create"];
    assert_eq!(of("act", &format!("{eks}, drain = {{}}"), ""), drain);
    assert_eq!(of("act", eks, ""), Vec::<String>::new());
    let elsewhere = format!(r#"{web}, cluster = {{ context = "other" }}"#);
    assert_eq!(of("act", &elsewhere, ""), Vec::<String>::new());
    let lease =
        ["ops: coordination.k8s.io/leases[] create", r#"ops: coordination.k8s.io/leases["prescale"] get,update"#];
    assert_eq!(of("act", eks, "[lease]\nplace = \"kubernetes://ops/prescale\""), lease);
}

#[test]
fn roles_are_bound_to_the_account_where_they_hold() {
    let account = rbac::Account { name: "prescale", namespace: "ops" };
    let needed = [
        rbac::Access { namespace: None, rules: Vec::new() },
        rbac::Access { namespace: Some("shop".to_owned()), rules: Vec::new() },
    ];
    let objects = rbac::objects(&needed, &account);
    let names: Vec<String> = objects
        .iter()
        .map(|object| {
            let metadata = &object["metadata"];
            format!("{} {}/{}", object["kind"], metadata["namespace"], metadata["name"]).replace('"', "")
        })
        .collect();
    let expected = [
        "ClusterRole null/ops-prescale",
        "ClusterRoleBinding null/ops-prescale",
        "Role shop/prescale",
        "RoleBinding shop/prescale",
    ];
    assert_eq!(names, expected);
    assert_eq!(objects[3]["subjects"][0]["namespace"], "ops");
    assert_eq!(objects[3]["roleRef"]["name"], "prescale");
}

#[test]
fn a_service_that_is_not_there_is_told() {
    let error = each(&config(), &of("shop"), |_| Vec::new()).unwrap_err();
    assert!(format!("{error:?}").contains("service `shop` is not in the configuration"));
}
