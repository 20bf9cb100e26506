//! What is scaled and how long that takes. Rule: unknown is `None`, never zero.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Span, Timestamp};

/// A target as it was last observed, in units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetState {
    /// Units asked for.
    pub desired: u32,
    /// Units in service; `None` where the target does not say.
    pub ready: Option<u32>,
    /// The target's own bounds, where it has any.
    pub min: Option<u32>,
    pub max: Option<u32>,
    pub observed_at: Timestamp,
}

/// Time from now until capacity that is asked for now carries load, by its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeadTime {
    /// now − end of the last closed window.
    pub data_age: Span,
    pub decision_interval: Span,
    /// Request → unit in service (p90).
    pub provisioning_latency: Span,
    /// In service → full speed.
    pub warm_up: Span,
}

impl LeadTime {
    pub fn total(&self) -> Span {
        self.data_age + self.decision_interval + self.provisioning_latency + self.warm_up
    }

    /// From now until a unit asked for now carries load.
    pub fn until_effective(&self) -> Span {
        self.provisioning_latency + self.warm_up
    }
}
