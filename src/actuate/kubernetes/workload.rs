//! The size of a workload, or the floor under it. Rule: an HPA's `maxReplicas` is its owner's, and lowering the floor takes
//! nothing away: what the HPA holds above it stays.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::core::DynamicObject;
use kube::core::params::GetParams;

use super::change::{Field, Look, Number, Purpose, Size, count, number_at, read, size};
use super::cluster::{Call, Cluster};
use super::pause::{Marked, scaled_objects};
use super::reference::{ObjectRef, Place, Served};
use crate::ActuateError;

/// One workload of a cluster, whose kind is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workload<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) namespace: &'a str,
    pub(super) reference: &'a ObjectRef,
    pub(super) served: &'a Served,
}

impl Workload<'_> {
    /// Its replicas as the number to set.
    pub(super) async fn replicas(self, purpose: Purpose) -> Result<Look, ActuateError> {
        let mut marked = Vec::new();
        if purpose == Purpose::Change {
            marked.extend(scaled_objects(self.cluster, self.namespace, self.reference).await?);
        }
        // Last: a rollout or an autoscaler writes to it all the time, and what is older than that is refused.
        let (object, Size { desired, version }) = self.read().await?;
        marked.push(Marked::new(self.reference, object.metadata.annotations.as_ref()));
        let ready = self.ready(&object);
        let number = Number { place: self.place(), name: self.reference.name.clone(), field: Field::Scale, version };
        Ok(Look { desired, ready, min: None, max: None, elsewhere: 0, number, marked })
    }

    /// The floor of the HPA that scales it as the number to set. The floor is what Prescale asks for; in service is what the
    /// HPA has there.
    pub(super) async fn floor(self, hpa: &str, purpose: Purpose) -> Result<Look, ActuateError> {
        const CALL: Call = Call { operation: "read HPA", name: "GetHpa" };
        let object = read(self.cluster, &self.place(), &self.reference.name).await?;
        let mut marked = vec![Marked::new(self.reference, object.metadata.annotations.as_ref())];
        if purpose == Purpose::Change {
            marked.extend(scaled_objects(self.cluster, self.namespace, self.reference).await?);
        }
        // Last: its controller writes to it every few seconds.
        let place = Place::of::<HorizontalPodAutoscaler>(Some(self.namespace));
        let found: HorizontalPodAutoscaler =
            self.cluster.ask(CALL, place.request().get(hpa, &GetParams::default())).await?;
        let invalid = |detail: String| ActuateError::Invalid(self.cluster.failure(CALL.operation, detail));
        let owners = found.metadata.owner_references.iter().flatten();
        if let Some(owner) = owners.into_iter().find(|owner| owner.controller == Some(true)) {
            return Err(invalid(format!(
                "its minReplicas is set by {}/{}, which would undo any change\n\
                 hint: give that one a trigger of Prescale, or scale the workload by an HPA of its own",
                owner.kind, owner.name
            )));
        }
        let spec = found.spec;
        let (scaled, ObjectRef { kind, name, .. }) = (&spec.scale_target_ref, self.reference);
        if (&scaled.kind, &scaled.name) != (kind, name) {
            return Err(invalid(format!("it scales {}/{}, not {}", scaled.kind, scaled.name, self.reference)));
        }
        let floor = spec.min_replicas.map_or(1, |number| count(Some(number)));
        marked.push(Marked::new(&format!("HPA/{hpa}"), found.metadata.annotations.as_ref()));
        Ok(Look {
            desired: floor,
            ready: found.status.map(|status| count(status.current_replicas)),
            // Zero is refused unless the cluster has the feature, which one that is at zero has.
            min: Some(floor.min(1)),
            max: Some(count(Some(spec.max_replicas))),
            elsewhere: 0,
            number: Number {
                place,
                name: hpa.to_owned(),
                field: Field::MinReplicas,
                version: found.metadata.resource_version,
            },
            marked,
        })
    }

    /// The object and its size.
    pub(super) async fn read(self) -> Result<(DynamicObject, Size), ActuateError> {
        if !self.served.scales {
            let detail = format!("{} has no scale subresource, so it has no size to set", self.served.api.kind);
            return Err(ActuateError::Invalid(self.cluster.failure("read scale", detail)));
        }
        let (place, name) = (self.place(), &self.reference.name);
        Ok((read(self.cluster, &place, name).await?, size(self.cluster, &place, name).await?))
    }

    /// Units in service. Kubernetes' own kinds leave out a zero; of others, silence says nothing.
    pub(super) fn ready(self, object: &DynamicObject) -> Option<u32> {
        let own = matches!(self.served.api.group.as_str(), "" | "apps");
        number_at(object, &["status", "readyReplicas"]).or(own.then_some(0))
    }

    fn place(self) -> Place {
        self.served.place(self.namespace)
    }
}
