//! Targets: what capacity is asked of. Each observes and applies; each failure is told apart by what the operator can do.
//!
//! **Owns** the simulated fleet (its physics, in `fleet`, are pure) and AWS Auto Scaling groups; the only home of cloud
//! SDKs. **May depend on** `domain` and `telemetry`.
//!
//! The contract of an [`Actuator`], kept by one suite over all of them:
//!
//! - applying a decision twice is applying it once: what the target wants already is never asked for again;
//! - what was applied is what is observed next;
//! - a wish outside the target's bounds is clamped, and the outcome says so;
//! - only decisions made in mode `act` are applied, whoever calls;
//! - nothing but desired capacity is ever written, so no setting that Prescale does not own can be lost;
//! - every call ends within the target's own time limit, with an outcome or an [`ActuateError`] of the right kind.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that fails should stop where it fails"))]

mod aws_asg;
mod aws_error;
mod cloudwatch;
mod docker;
mod error;
#[cfg(test)]
mod fake_aws;
#[cfg(test)]
mod fake_http;
mod fleet;
mod simulated;
mod target;
#[cfg(test)]
mod tests;
mod webhook;

use std::future::Future;

use prescale_domain::{Decision, Outcome, TargetState, Timestamp};

pub use aws_asg::{AsgSettings, AwsAsg};
pub use cloudwatch::{CloudWatch, CloudWatchSettings, Measure, MetricQuery, Sent, measures};
pub use docker::{ContainerGroup, ContainerGroupSettings, ContainerTemplate, SwarmService, SwarmServiceSettings};
pub use error::{ActuateError, Failure};
pub use fleet::{Fleet, FleetSettings};
pub use simulated::{Simulated, SimulatedSettings};
pub use target::{Target, TargetSettings};
pub use webhook::{Secret, Webhook, WebhookSettings};

/// Something whose capacity can be seen and set.
pub trait Actuator {
    /// The target as it is; `now` is the moment that the answer carries.
    fn observe(&self, now: Timestamp) -> impl Future<Output = Result<TargetState, ActuateError>> + Send;

    /// Makes the target want what `decision` desires, within the target's bounds. The target is looked at right before.
    fn apply(&self, decision: &Decision, now: Timestamp) -> impl Future<Output = Result<Outcome, ActuateError>> + Send;

    /// The target in a few words, such as ``asg `web` ``.
    fn describe(&self) -> String;
}
