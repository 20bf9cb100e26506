//! Advice to those who send requests. Rule: what is no longer advised is said, so that nobody goes on throttling.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DecisionId, ServiceName, ThrottleLevel, Timestamp};

/// How much of its present rate a service, or whoever calls it, should send on: a record of the qos topic. It holds until the
/// next of the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QosAdvice {
    pub service: ServiceName,
    pub at: Timestamp,
    /// The decision that it goes with.
    pub decision: DecisionId,
    /// `None` = all may go on.
    pub level: Option<ThrottleLevel>,
    /// Share of the present rate that may go on.
    pub admit: f64,
    /// Why, as a sentence; empty where all may go on.
    pub reason: String,
}
