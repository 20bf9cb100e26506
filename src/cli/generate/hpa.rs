//! An HPA on the external metric that Prescale serves.

use serde_json::{Value, json};

use super::Workload;

/// The wish of Prescale as the number of pods: a metric of the units wanted with one unit as the target of each pod. A wish
/// grows at once; the HPA's own patience on the way down is switched off, since Prescale has its own, and so is the tolerance by
/// which an HPA ignores a tenth more or less.
pub(super) fn autoscaler(workload: &Workload<'_>) -> Value {
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": workload.object_name(""), "namespace": workload.namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": workload.api_version, "kind": workload.kind, "name": workload.name},
            // An HPA can't go to zero without a feature gate.
            "minReplicas": workload.min.max(1),
            "maxReplicas": workload.max,
            "metrics": [{
                "type": "External",
                "external": {
                    "metric": {
                        "name": "prescale_desired_units",
                        "selector": {"matchLabels": {"service": workload.service.name}},
                    },
                    "target": {"type": "AverageValue", "averageValue": "1"},
                },
            }],
            "behavior": {
                "scaleUp": {
                    "stabilizationWindowSeconds": 0,
                    "tolerance": "0",
                    "policies": [{"type": "Percent", "value": 900, "periodSeconds": 15}],
                },
                "scaleDown": {
                    "stabilizationWindowSeconds": 0,
                    "tolerance": "0",
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
                },
            },
        },
    })
}
