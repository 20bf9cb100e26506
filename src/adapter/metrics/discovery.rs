//! Which groups, versions and metrics there are, as clients of Kubernetes discover them (meta/v1 `APIGroupList`, `APIGroup`,
//! `APIResourceList`). Rule: what is listed is answered.

use serde_json::{Value, json};

use super::values::{METRICS, OBJECTS};
use super::{CUSTOM, EXTERNAL};

/// `/apis`.
pub(super) fn groups() -> Value {
    let groups: Vec<Value> = [EXTERNAL, CUSTOM].into_iter().map(described).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/{group}`.
pub(super) fn group(group: (&str, &str)) -> Value {
    let mut found = json!({ "kind": "APIGroup", "apiVersion": "v1" });
    if let (Value::Object(found), Value::Object(fields)) = (&mut found, described(group)) {
        found.extend(fields);
    }
    found
}

/// `/apis/external.metrics.k8s.io/v1beta1`.
pub(super) fn external() -> Value {
    let resources = METRICS.iter().map(|metric| resource(metric, "ExternalMetricValueList"));
    resource_list(EXTERNAL, resources.collect())
}

/// `/apis/custom.metrics.k8s.io/v1beta2`: each metric of each kind of object.
pub(super) fn custom() -> Value {
    let pairs = OBJECTS.iter().flat_map(|object| METRICS.iter().map(move |metric| (object, metric)));
    let resources = pairs.map(|(object, metric)| resource(&format!("{}/{metric}", object.resource), "MetricValueList"));
    resource_list(CUSTOM, resources.collect())
}

fn described((group, version): (&str, &str)) -> Value {
    let version = json!({ "groupVersion": format!("{group}/{version}"), "version": version });
    json!({ "name": group, "versions": [version], "preferredVersion": version })
}

fn resource(name: &str, kind: &str) -> Value {
    json!({ "name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get"] })
}

fn resource_list((group, version): (&str, &str), resources: Vec<Value>) -> Value {
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{group}/{version}"),
        "resources": resources,
    })
}
