//! Targets: what capacity is asked of. Each observes and applies; each failure is told apart by what the operator can do.
//!
//! **Owns** the simulated fleet (its physics, in `fleet`, are pure), AWS Auto Scaling groups and EKS node groups, Kubernetes
//! workloads and nodes, containers and swarm services, webhooks; how a decision is carried out, and the lease that says who
//! may; the only home of cloud SDKs. **May depend on** `domain` and `telemetry`.
//!
//! The contract of an [`Actuator`], kept by one suite over all of them:
//!
//! - applying a decision twice is applying it once: what the target wants already is never asked for again;
//! - what was applied is what is observed next;
//! - a wish outside the target's bounds is clamped, and the outcome says so;
//! - only decisions made in mode `act` are applied, whoever calls;
//! - nothing is ever written but what Prescale owns, so no setting of others can be lost;
//! - every call ends within the target's own time limit, with an outcome or an [`ActuateError`] of the right kind.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that fails should stop where it fails"))]

mod aws;
mod aws_asg;
mod aws_error;
mod aws_group;
mod aws_mix;
mod aws_pools;
mod aws_settings;
mod aws_split;
mod aws_spot;
mod aws_trouble;
mod bucket;
mod cloudwatch;
mod docker;
mod ec2;
mod ec2_xml;
mod eks;
mod eks_drain;
mod eks_settings;
mod eks_split;
mod error;
#[cfg(test)]
mod fake_aws;
#[cfg(test)]
mod fake_http;
#[cfg(test)]
mod fake_kubernetes;
mod fleet;
mod hand;
mod kubernetes;
mod lease;
mod permission;
mod queue;
mod simulated;
mod split;
mod target;
#[cfg(test)]
mod tests;
mod webhook;
pub mod wire;

use std::future::Future;

use prescale_domain::{Decision, Outcome, TargetState, Timestamp};

pub use aws::Connections;
pub use aws_asg::AwsAsg;
pub use aws_error::{from_aws_code, from_http_status};
pub use aws_settings::{AsgScaleIn, AsgScaleOut, AsgSettings, AsgWrites, WarmPoolSettings};
pub use aws_spot::{Capacity, InstanceTypeSettings, SplitSettings};
pub use cloudwatch::{CloudWatch, CloudWatchSettings, Measure, MetricQuery, Sent, measures};
pub use docker::{ContainerGroup, ContainerGroupSettings, ContainerTemplate, SwarmService, SwarmServiceSettings};
pub use eks::EksNodegroups;
pub use eks_drain::EksDrainSettings;
pub use eks_settings::{EksSettings, EksWrites};
pub use error::{ActuateError, Failure};
pub use fleet::{Fleet, FleetSettings};
pub use hand::{Order, carry_out, settle};
pub use kubernetes::{
    AheadBy, Cluster, ClusterSettings, DrainLimits, DrainOutcome, Kubernetes, KubernetesLease, KubernetesNodes,
    KubernetesSettings, NodesSettings, ObjectRef, ObjectRefError, ScaledAs, drain_nodes,
};
pub use lease::{Candidate, Keeper, LeasePlace, LeaseRecord, LeaseSettings, Tenure, TenureWatch};
pub use permission::{AwsResource, Permission};
pub use queue::{QueueMessage, SpotQueue, SpotQueueSettings};
pub use simulated::{Simulated, SimulatedSettings};
pub use target::{Target, TargetSettings};
pub use webhook::{Secret, Webhook, WebhookSettings};

/// Something whose capacity can be seen and set.
pub trait Actuator {
    /// The target as it is; `now` is the moment that the answer carries.
    fn observe(&self, now: Timestamp) -> impl Future<Output = Result<TargetState, ActuateError>> + Send;

    /// Makes the target want what `decision` desires, within the target's bounds. The target is looked at right before.
    fn apply(&self, decision: &Decision, now: Timestamp) -> impl Future<Output = Result<Outcome, ActuateError>> + Send;

    /// Whether it wants to be told every decision, not only those that ask for another number of units.
    fn tends(&self) -> bool {
        false
    }

    /// The target in a few words, such as ``asg `web` ``.
    fn describe(&self) -> String;
}
