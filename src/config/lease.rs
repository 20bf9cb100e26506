//! Which of several replicas acts, as configured. Rule: without a place this process is taken to be the only one.

use prescale_actuate::{ClusterSettings, LeaseSettings};
use prescale_domain::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which of several replicas acts.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeaseConfig {
    /// Where the lease is: empty = this is the only replica; `kubernetes://namespace/name`, `s3://bucket/prefix` or
    /// `file:///folder`.
    pub(crate) place: String,
    /// What replicas of one fleet have in common.
    pub(crate) name: String,
    /// Of a lease in a cluster: which one.
    #[serde(default)]
    pub(crate) cluster: ClusterSettings,
    /// After this long without a renewal another replica takes over.
    pub(crate) duration: Span,
    /// How often it is renewed, and looked at by those who wait.
    pub(crate) renew: Span,
    /// The holder stops this long before the lease ends.
    pub(crate) margin: Span,
}

impl LeaseConfig {
    pub(crate) fn settings(&self) -> LeaseSettings {
        LeaseSettings { duration: self.duration, renew: self.renew, margin: self.margin }
    }

    /// Everything that is wrong, by key.
    pub(super) fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults: Vec<(&str, String)> =
            self.settings().faults().into_iter().map(|text| ("lease", text)).collect();
        let place = self.place.as_str();
        if !place.is_empty() && !["kubernetes://", "s3://", "file://"].iter().any(|kind| place.starts_with(kind)) {
            faults.push(("lease.place", format!("`{place}` is none of kubernetes://, s3:// and file://")));
        }
        faults
    }
}
