//! A ScaledObject: the forecast, and a floor under it by what is measured. Rule: a dead forecaster never scales in.

use serde_json::{Value, json};

use super::{Preset, Workload};
use crate::config::FallbackSource;

/// What a ScaledObject needs beside its workload.
pub(super) struct Settings<'a> {
    pub(super) scaler: &'a str,
    pub(super) preset: Option<Preset>,
    pub(super) prometheus: &'a str,
    pub(super) bootstrap_servers: &'a str,
}

pub(super) fn scaled_object(workload: &Workload<'_>, settings: &Settings<'_>) -> Value {
    let service = &workload.service.name;
    let mut triggers = vec![json!({
        "type": "external-push",
        "name": "forecast",
        "metricType": "AverageValue",
        "metadata": {"scalerAddress": settings.scaler, "service": service},
    })];
    triggers.extend(measured(workload, settings));
    let (min, max) = match settings.preset {
        Some(Preset::Vllm) => (0, workload.max.min(4)),
        _ => (workload.min, workload.max.max(1)),
    };
    let mut advanced = json!({
        "restoreToOriginalReplicaCount": false,
        "horizontalPodAutoscalerConfig": {
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
        },
    });
    let mut spec = json!({
        "scaleTargetRef": {"apiVersion": workload.api_version, "kind": workload.kind, "name": workload.name},
        "pollingInterval": 15,
        "cooldownPeriod": 300,
        "minReplicaCount": min,
        "maxReplicaCount": max,
        "fallback": {"failureThreshold": 3, "replicas": min.max(1), "behavior": "currentReplicasIfHigher"},
    });
    // CPU and memory are no metrics of a formula: the HPA takes the largest of all triggers itself.
    let named: Vec<&str> = triggers.iter().filter_map(|trigger| trigger["name"].as_str()).collect();
    if named.len() > 1 {
        let formula = named.iter().skip(1).fold(named[0].to_owned(), |all, name| format!("max({all}, {name})"));
        advanced["scalingModifiers"] = json!({"formula": formula, "target": "1", "metricType": "AverageValue"});
    }
    spec["advanced"] = advanced;
    spec["triggers"] = Value::Array(triggers);
    json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": workload.object_name(""), "namespace": workload.namespace},
        "spec": spec,
    })
}

/// What is measured, each as the number of pods that it asks for; without a preset the service's own fallback.
fn measured(workload: &Workload<'_>, settings: &Settings<'_>) -> Vec<Value> {
    let name = &workload.name;
    let prometheus = |trigger: &str, server: &str, query: String| {
        json!({
            "type": "prometheus",
            "name": trigger,
            "metricType": "AverageValue",
            "metadata": {"serverAddress": server, "query": query, "threshold": "1", "ignoreNullValues": "false"},
        })
    };
    let ask = |trigger: &str, query: String| prometheus(trigger, settings.prometheus, query);
    let gpu = |target: f64| format!("sum(avg_over_time(DCGM_FI_DEV_GPU_UTIL{{pod=~\"{name}-.*\"}}[1m])) / {target}");
    match settings.preset {
        None => match &workload.service.fallback {
            Some(FallbackSource::Prometheus { url, query, .. }) => {
                let units = format!("({query}) / {}", workload.service.unit_capacity);
                vec![prometheus("measured", url, units)]
            }
            None => Vec::new(),
        },
        Some(Preset::Celery) => vec![json!({
            "type": "rabbitmq",
            "name": "queue",
            "metricType": "AverageValue",
            "metadata": {
                "protocol": "amqp", "queueName": name, "mode": "QueueLength",
                "value": workload.service.unit_capacity.to_string(), "hostFromEnv": "RABBITMQ_URL",
            },
        })],
        Some(Preset::Vllm) => vec![
            ask("requests", format!("sum(rate(vllm:request_success_total{{pod=~\"{name}-.*\"}}[1m])) / 10")),
            ask(
                "latency",
                format!(
                    "histogram_quantile(0.95, sum by (le) (rate(vllm:e2e_request_latency_seconds_bucket{{pod=~\"{name}-.*\"}}[1m]))) \
                     / 0.5 * count(up{{pod=~\"{name}-.*\"}})"
                ),
            ),
            ask("gpu", gpu(80.0)),
        ],
        Some(Preset::Training) => vec![ask("gpu", gpu(90.0))],
        Some(Preset::Kafka) => vec![json!({
            "type": "kafka",
            "name": "lag",
            "metricType": "AverageValue",
            "metadata": {
                "bootstrapServers": settings.bootstrap_servers, "consumerGroup": name, "topic": name,
                "lagThreshold": workload.service.unit_capacity.to_string(),
            },
        })],
        Some(Preset::Cpu) => vec![resource("cpu", "60")],
        Some(Preset::Memory) => vec![resource("memory", "75")],
    }
}

fn resource(kind: &str, utilization: &str) -> Value {
    json!({"type": kind, "metricType": "Utilization", "metadata": {"value": utilization}})
}
