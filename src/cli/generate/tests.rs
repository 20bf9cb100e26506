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

#[test]
fn a_service_that_is_not_there_is_told() {
    let error = each(&config(), &of("shop"), |_| Vec::new()).unwrap_err();
    assert!(format!("{error:?}").contains("service `shop` is not in the configuration"));
}
