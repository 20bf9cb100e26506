//! Marks by which the owner of an object stops those that scale it. Rule: KEDA's marks mean here what they mean to KEDA, and
//! what can't be understood pauses.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIGroup;
use kube::core::params::ListParams;
use kube::core::{DynamicObject, ObjectList, Request};

use super::cluster::{Call, Cluster};
use super::reference::ObjectRef;
use crate::ActuateError;

/// Of anything that Prescale changes.
const PAUSED: &str = "prescale.io/paused";

/// Of a ScaledObject, or of the workload itself (KEDA 2.21, `scaledobject_types.go`).
const KEDA_PAUSED: &str = "autoscaling.keda.sh/paused";
const KEDA_PAUSED_REPLICAS: &str = "autoscaling.keda.sh/paused-replicas";
const KEDA_PAUSED_SCALE_IN: &str = "autoscaling.keda.sh/paused-scale-in";
const KEDA_PAUSED_SCALE_OUT: &str = "autoscaling.keda.sh/paused-scale-out";

/// Group of ScaledObject; its version is the cluster's.
const KEDA: &str = "keda.sh";

/// An object that has a say in whether something is scaled.
#[derive(Clone, Debug)]
pub(super) struct Marked {
    /// The object in words.
    pub(super) object: String,
    pub(super) annotations: BTreeMap<String, String>,
}

impl Marked {
    pub(super) fn new(object: &impl ToString, annotations: Option<&BTreeMap<String, String>>) -> Self {
        Self { object: object.to_string(), annotations: annotations.cloned().unwrap_or_default() }
    }

    /// Why a change from so many units to so many is not made; `None` = nothing is in its way.
    pub(super) fn holds(&self, from: u32, to: u32) -> Option<String> {
        let set = |key: &&str| self.annotations.get(*key).is_some_and(|value| !says_no(value));
        let whole = [PAUSED, KEDA_PAUSED];
        let way = if to < from { KEDA_PAUSED_SCALE_IN } else { KEDA_PAUSED_SCALE_OUT };
        // The presence alone pauses: its value is the size to stay at.
        let at_size = self.annotations.contains_key(KEDA_PAUSED_REPLICAS).then_some(KEDA_PAUSED_REPLICAS);
        let mark = at_size.or_else(|| whole.into_iter().chain([way]).find(set))?;
        let value = self.annotations.get(mark).map(String::as_str).unwrap_or_default();
        Some(format!("{} is marked `{mark}: {value}`", self.object))
    }
}

/// What Go's `strconv.ParseBool` reads as false; KEDA takes everything else for true.
fn says_no(value: &str) -> bool {
    matches!(value, "0" | "f" | "F" | "false" | "FALSE" | "False")
}

/// KEDA's objects that scale a workload; none where KEDA is not installed.
pub(super) async fn scaled_objects(
    cluster: &Cluster,
    namespace: &str,
    workload: &ObjectRef,
) -> Result<Vec<Marked>, ActuateError> {
    const GROUP: Call = Call { operation: "discover KEDA", name: "GetGroup" };
    const LIST: Call = Call { operation: "list ScaledObjects", name: "ListScaledObjects" };
    let request = http::Request::get(format!("/apis/{KEDA}")).body(Vec::new());
    let group = cluster.ask::<APIGroup>(GROUP, request.map_err(kube::core::request::Error::BuildRequest)).await;
    let group = match group {
        Ok(group) => group,
        Err(ActuateError::NotFound(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let Some(served) = group.preferred_version.or_else(|| group.versions.into_iter().next()) else {
        return Ok(Vec::new());
    };
    let url = format!("/apis/{}/namespaces/{namespace}/scaledobjects", served.group_version);
    let listed: Result<ObjectList<DynamicObject>, _> =
        cluster.ask(LIST, Request::new(url).list(&ListParams::default())).await;
    let listed = match listed {
        Ok(listed) => listed.items,
        // The group is there, but not this kind of it.
        Err(ActuateError::NotFound(_)) => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(listed.iter().filter_map(|object| marked_by(object, workload)).collect())
}

fn marked_by(object: &DynamicObject, workload: &ObjectRef) -> Option<Marked> {
    let target = object.data.get("spec")?.get("scaleTargetRef")?;
    let text = |field: &str| target.get(field).and_then(|value| value.as_str());
    let same_group = match (&workload.group, text("apiVersion")) {
        (Some(group), Some(version)) => version.split_once('/').map_or("", |(group, _)| group) == group,
        _ => true,
    };
    let scales = same_group
        && text("name") == Some(workload.name.as_str())
        && text("kind").unwrap_or("Deployment") == workload.kind;
    let name = object.metadata.name.as_deref().unwrap_or_default();
    scales.then(|| Marked::new(&format!("ScaledObject/{name}"), object.metadata.annotations.as_ref()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(annotations: &[(&str, &str)], inward: bool, outward: bool) {
        let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let marked = Marked { object: "Deployment/web".to_owned(), annotations };
        assert_eq!((marked.holds(9, 4).is_some(), marked.holds(4, 9).is_some()), (inward, outward), "{marked:?}");
    }

    #[test]
    fn marks_hold_what_they_say() {
        check(&[], false, false);
        check(&[("prescale.io/paused", "true")], true, true);
        check(&[("prescale.io/paused", "false")], false, false);
        check(&[("autoscaling.keda.sh/paused", "1")], true, true);
        check(&[("autoscaling.keda.sh/paused", "yes, please")], true, true);
        check(&[("autoscaling.keda.sh/paused", "F")], false, false);
        check(&[("autoscaling.keda.sh/paused-replicas", "0")], true, true);
        check(&[("autoscaling.keda.sh/paused-scale-in", "true")], true, false);
        check(&[("autoscaling.keda.sh/paused-scale-out", "true")], false, true);
        check(&[("autoscaling.keda.sh/paused-scale-out", "false"), ("a/b", "true")], false, false);
    }

    #[test]
    fn the_reason_names_object_and_mark() {
        let annotations = BTreeMap::from([(KEDA_PAUSED_SCALE_IN.to_owned(), "true".to_owned())]);
        let marked = Marked { object: "ScaledObject/web".to_owned(), annotations };
        let expected = "ScaledObject/web is marked `autoscaling.keda.sh/paused-scale-in: true`";
        assert_eq!(marked.holds(9, 4).as_deref(), Some(expected));
    }

    #[test]
    fn a_scaled_object_is_found_by_what_it_scales() {
        let object = |target: serde_json::Value| -> DynamicObject {
            serde_json::from_value(json!({
                "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "so"},
                "spec": {"scaleTargetRef": target},
            }))
            .unwrap()
        };
        let short: ObjectRef = "Deployment/web".parse().unwrap();
        let rollout: ObjectRef = "argoproj.io/Rollout/web".parse().unwrap();
        let cases = [
            (json!({"name": "web"}), true, false),
            (json!({"name": "api"}), false, false),
            (json!({"name": "web", "kind": "StatefulSet"}), false, false),
            (json!({"name": "web", "kind": "Rollout", "apiVersion": "argoproj.io/v1alpha1"}), false, true),
            (json!({"name": "web", "kind": "Rollout", "apiVersion": "example.com/v1"}), false, false),
        ];
        for (target, by_short, by_rollout) in cases {
            let object = object(target);
            assert_eq!(marked_by(&object, &short).is_some(), by_short, "{object:?}");
            assert_eq!(marked_by(&object, &rollout).is_some(), by_rollout, "{object:?}");
        }
    }
}
