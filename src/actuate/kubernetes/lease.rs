//! A lease as an object of the cluster's coordination API, as its own components use it. Rule: every write is bound to the
//! version that was read; who may act, and until when, is decided where all leases are: in [`crate::Candidate`].

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;
use kube::core::ObjectMeta;
use kube::core::params::{GetParams, PostParams};
use prescale_domain::{Clock, Span, SystemClock, Timestamp};

use super::change::{count, manager};
use super::cluster::{Call, Cluster};
use super::reference::Place;
use crate::{ActuateError, LeasePlace, LeaseRecord};

/// A Lease of a namespace.
#[derive(Clone, Debug)]
pub struct KubernetesLease {
    cluster: Cluster,
    namespace: String,
    name: String,
    /// What is written for others to read; who may act does not depend on it.
    duration: Span,
}

impl KubernetesLease {
    /// The lease `namespace/name` of a cluster, which need not be there yet. `duration` is told to whoever looks at it.
    pub fn new(cluster: Cluster, namespace: &str, name: &str, duration: Span) -> Self {
        Self { cluster, namespace: namespace.to_owned(), name: name.to_owned(), duration }
    }

    fn place(&self) -> Place {
        Place::of::<LeaseObject>(Some(&self.namespace))
    }

    fn object(&self, record: &LeaseRecord, read: Option<&LeaseObject>) -> LeaseObject {
        let old = read.and_then(|object| object.spec.clone()).unwrap_or_default();
        let now = micro_time(SystemClock.now());
        let is_new = old.holder_identity.as_deref() != Some(record.holder.as_str());
        let holder = if record.released { String::new() } else { record.holder.clone() };
        let spec = LeaseSpec {
            holder_identity: Some(holder),
            lease_duration_seconds: i32::try_from(self.duration.steps_up(Span::from_secs(1))).ok(),
            lease_transitions: i32::try_from(record.term).ok(),
            acquire_time: if is_new { now.clone() } else { old.acquire_time.clone() },
            renew_time: now,
            ..old
        };
        // With the version that was read, and whatever others have put on it.
        let metadata = match read {
            Some(read) => ObjectMeta { managed_fields: None, ..read.metadata.clone() },
            None => ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
        };
        LeaseObject { spec: Some(spec), metadata }
    }
}

impl LeasePlace for KubernetesLease {
    type Version = LeaseObject;

    async fn read(&self) -> Result<Option<(LeaseRecord, LeaseObject)>, ActuateError> {
        const CALL: Call = Call { operation: "read lease", name: "GetLease" };
        let call = self.cluster.ask(CALL, self.place().request().get(&self.name, &GetParams::default()));
        match self.cluster.within(CALL.operation, call).await {
            Ok(object) => Ok(Some((record(&object), object))),
            Err(ActuateError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write(&self, record: &LeaseRecord, read: Option<&LeaseObject>) -> Result<bool, ActuateError> {
        const CREATE: Call = Call { operation: "create lease", name: "CreateLease" };
        const UPDATE: Call = Call { operation: "update lease", name: "UpdateLease" };
        let call = if read.is_some() { UPDATE } else { CREATE };
        let body = serde_json::to_vec(&self.object(record, read))
            .map_err(|error| ActuateError::Invalid(self.cluster.failure(call.operation, error.to_string())))?;
        let params = PostParams { field_manager: manager(), ..PostParams::default() };
        let request = match read {
            Some(_) => self.place().request().replace(&self.name, &params, body),
            None => self.place().request().create(&params, body),
        };
        let asked = self.cluster.ask::<LeaseObject>(call, request);
        match self.cluster.within(call.operation, asked).await {
            Ok(_) => Ok(true),
            // Somebody was quicker; or it was this write, tried again after an answer that was lost: the next look tells.
            Err(ActuateError::Conflict(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn record(object: &LeaseObject) -> LeaseRecord {
    let spec = object.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.unwrap_or_default();
    // A version is opaque, and another one for each write: that is all that a renewal has to be.
    let mut hasher = DefaultHasher::new();
    object.metadata.resource_version.hash(&mut hasher);
    LeaseRecord {
        released: holder.is_empty(),
        holder,
        term: u64::from(count(spec.lease_transitions)),
        renewal: hasher.finish(),
    }
}

fn micro_time(at: Timestamp) -> Option<MicroTime> {
    jiff::Timestamp::from_millisecond(at.millis()).ok().map(MicroTime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::ClusterSettings;

    #[test]
    fn what_is_written_is_what_is_read_and_what_others_put_there_stays() {
        let cluster = Cluster::new(ClusterSettings::default(), "lease");
        let lease = KubernetesLease::new(cluster, "ops", "prescale", Span::from_millis(29_500));
        let written = LeaseRecord { holder: "a".to_owned(), term: 3, renewal: 0, released: false };
        let object = lease.object(&written, None);
        let spec = object.spec.clone().unwrap();
        assert_eq!((spec.lease_duration_seconds, spec.lease_transitions), (Some(30), Some(3)));
        assert_eq!(record(&object), LeaseRecord { renewal: record(&object).renewal, ..written.clone() });
        let labels = std::collections::BTreeMap::from([("team".to_owned(), "web".to_owned())]);
        let mut theirs = object.clone();
        (theirs.metadata.labels, theirs.metadata.resource_version) = (Some(labels.clone()), Some("7".to_owned()));
        let released = lease.object(&LeaseRecord { released: true, ..written }, Some(&theirs));
        assert_eq!(released.metadata.labels, Some(labels));
        assert_eq!(released.metadata.resource_version, Some("7".to_owned()));
        assert!(record(&released).released);
        assert_ne!(record(&theirs).renewal, record(&object).renewal);
    }
}
