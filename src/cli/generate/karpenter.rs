//! Nodes for a workload: a spot-first NodePool, and a CapacityBuffer that Prescale fills ahead of the pods.

use serde_json::{Value, json};

use super::Workload;

/// The buffer's pods take what one unit takes; where that is not configured, half a core and a gigabyte.
pub(super) fn ahead(workload: &Workload<'_>) -> Vec<Value> {
    let pool = json!({
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": workload.object_name("-spot-first")},
        "spec": {
            "template": {
                "metadata": {"labels": {"prescale.io/service": workload.label()}},
                "spec": {
                    "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"},
                    // Many types, so that no single pool of spot capacity takes many nodes at once.
                    "requirements": [
                        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot", "on-demand"]},
                        {"key": "karpenter.k8s.aws/instance-category", "operator": "In", "values": ["c", "m", "r"]},
                        {"key": "karpenter.k8s.aws/instance-generation", "operator": "Gt", "values": ["4"]},
                        {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]},
                    ],
                    "expireAfter": "720h",
                    "terminationGracePeriod": "10m",
                },
            },
            // Prescale says when capacity goes; consolidation of what is not empty would fight it.
            "disruption": {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "5m", "budgets": [{"nodes": "10%"}]},
            "weight": 10,
        },
    });
    let unit = &workload.service.unit;
    let cpu = unit.cpu_cores.map_or_else(|| "500m".to_owned(), |cores| format!("{}m", (cores * 1000.0).round()));
    let memory = unit.memory_mb.map_or_else(|| "1024Mi".to_owned(), |megabytes| format!("{}M", megabytes.round()));
    let template = json!({
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": {"name": workload.object_name("-ahead"), "namespace": workload.namespace},
        "template": {
            "metadata": {"labels": {"prescale.io/service": workload.label()}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "unit",
                    "image": "registry.k8s.io/pause:3.10",
                    "resources": {"requests": {"cpu": cpu, "memory": memory}},
                }],
            },
        },
    });
    let buffer = json!({
        "apiVersion": "autoscaling.x-k8s.io/v1beta1",
        "kind": "CapacityBuffer",
        "metadata": {"name": workload.object_name("-ahead"), "namespace": workload.namespace},
        "spec": {"podTemplateRef": {"name": workload.object_name("-ahead")}, "replicas": 0},
    });
    vec![pool, template, buffer]
}
