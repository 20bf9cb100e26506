//! From a decision to one number of one object. Rule: a fresh look right before each change, the change bound to what was
//! seen, and that number the only thing written.

use k8s_openapi::api::autoscaling::v1::Scale;
use kube::core::DynamicObject;
use kube::core::params::{GetParams, Patch, PatchParams};
use prescale_domain::{Decision, Outcome, TargetState, Timestamp};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::cluster::{Call, Cluster, FIELD_MANAGER};
use super::pause::Marked;
use super::reference::Place;
use crate::ActuateError;
use crate::target::Bounds;

/// A target right before a change.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// Units that are asked for.
    pub(super) desired: u32,
    /// Units in service, where the object says.
    pub(super) ready: Option<u32>,
    /// The target's own bounds.
    pub(super) min: Option<u32>,
    pub(super) max: Option<u32>,
    /// Of the units, those that are asked for elsewhere: the number written is what is missing.
    pub(super) elsewhere: u32,
    pub(super) number: Number,
    /// Who may stop it.
    pub(super) marked: Vec<Marked>,
}

/// What the look is for: who may stop a change matters only if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Observe,
    Change,
}

/// The number that is written, and the version of the object in which it was seen.
#[derive(Clone, Debug)]
pub(super) struct Number {
    pub(super) place: Place,
    pub(super) name: String,
    pub(super) field: Field,
    pub(super) version: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// `spec.replicas` of the scale subresource.
    Scale,
    /// `spec.replicas` of the object.
    Replicas,
    /// `spec.minReplicas` of the object.
    MinReplicas,
}

/// Size of an object, by its scale subresource.
#[derive(Clone, Debug)]
pub(super) struct Size {
    pub(super) desired: u32,
    pub(super) version: Option<String>,
}

impl Look {
    pub(super) fn state(&self, now: Timestamp) -> TargetState {
        let Self { desired, ready, min, max, .. } = *self;
        TargetState { desired, ready, min, max, observed_at: now }
    }
}

/// Makes `decision` so, within the bounds; `look` is repeated once if somebody was quicker.
pub(super) async fn apply<L, F>(
    cluster: &Cluster,
    bounds: Bounds,
    decision: &Decision,
    look: L,
) -> Result<Outcome, ActuateError>
where
    L: Fn() -> F,
    F: Future<Output = Result<Look, ActuateError>>,
{
    let mut again = true;
    loop {
        let seen = look().await?;
        // The target's own bounds have the last word: the API refuses what lies outside them.
        let units = decision.desired.max(bounds.min).min(bounds.max);
        let units = units.max(seen.min.unwrap_or(0)).min(seen.max.unwrap_or(u32::MAX));
        if units == seen.desired {
            return Ok(Outcome::Unchanged { units });
        }
        if let Some(reason) = seen.marked.iter().find_map(|marked| marked.holds(seen.desired, units)) {
            return Ok(Outcome::Held { units: seen.desired, reason });
        }
        match seen.number.write(cluster, units.saturating_sub(seen.elsewhere)).await {
            Ok(()) => return Ok(Outcome::Applied { units, clamped: units != decision.desired }),
            Err(ActuateError::Conflict(_)) if again => again = false,
            Err(error) => return Err(error),
        }
    }
}

impl Number {
    async fn write(&self, cluster: &Cluster, number: u32) -> Result<(), ActuateError> {
        const SCALE: Call = Call { operation: "set scale", name: "PatchScale" };
        const REPLICAS: Call = Call { operation: "set replicas", name: "PatchReplicas" };
        const MIN_REPLICAS: Call = Call { operation: "set minReplicas", name: "PatchMinReplicas" };
        let (call, field) = match self.field {
            Field::Scale => (SCALE, "replicas"),
            Field::Replicas => (REPLICAS, "replicas"),
            Field::MinReplicas => (MIN_REPLICAS, "minReplicas"),
        };
        let number = i32::try_from(number).map_err(|_| {
            ActuateError::Invalid(cluster.failure(call.operation, format!("{number} exceeds {}", i32::MAX)))
        })?;
        let body = json!({ "metadata": { "resourceVersion": self.version }, "spec": { field: number } });
        let (patch, params) = (Patch::Merge(body), PatchParams { field_manager: manager(), ..PatchParams::default() });
        let request = match self.field {
            Field::Scale => self.place.request().patch_subresource("scale", &self.name, &params, &patch),
            Field::Replicas | Field::MinReplicas => self.place.request().patch(&self.name, &params, &patch),
        };
        cluster.ask::<IgnoredAny>(call, request).await.map(|_| ())
    }
}

pub(super) fn manager() -> Option<String> {
    Some(FIELD_MANAGER.to_owned())
}

/// The object itself.
pub(super) async fn read(cluster: &Cluster, place: &Place, name: &str) -> Result<DynamicObject, ActuateError> {
    const CALL: Call = Call { operation: "read object", name: "GetObject" };
    cluster.ask(CALL, place.request().get(name, &GetParams::default())).await
}

/// Its size, by the scale subresource.
pub(super) async fn size(cluster: &Cluster, place: &Place, name: &str) -> Result<Size, ActuateError> {
    const CALL: Call = Call { operation: "read scale", name: "GetScale" };
    let scale: Scale = cluster.ask(CALL, place.request().get_subresource("scale", name)).await?;
    let desired = scale.spec.and_then(|spec| spec.replicas);
    Ok(Size { desired: count(desired), version: scale.metadata.resource_version })
}

/// Kubernetes has no negative sizes; its types would allow them.
pub(super) fn count(number: Option<i32>) -> u32 {
    u32::try_from(number.unwrap_or_default()).unwrap_or_default()
}

/// A number in an object, by its path.
pub(super) fn number_at(object: &DynamicObject, path: &[&str]) -> Option<u32> {
    value_at(object, path)?.as_u64().and_then(|number| u32::try_from(number).ok())
}

pub(super) fn value_at<'a>(object: &'a DynamicObject, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(&object.data, |value, part| value.get(part))
}
