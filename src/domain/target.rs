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
    /// Request → unit in service, the median, where it is known apart from the p90.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning_median: Option<Span>,
}

impl LeadTime {
    pub fn total(&self) -> Span {
        self.data_age + self.decision_interval + self.provisioning_latency + self.warm_up
    }

    /// From now until a unit asked for now carries load, nine times out of ten.
    pub fn until_effective(&self) -> Span {
        self.provisioning_latency + self.warm_up
    }

    /// The same time at `level` of its distribution: log-normal between median and p90, without a median always the p90.
    /// `z` is the quantile of the standard normal distribution at that level.
    pub fn until_effective_at(&self, z: f64) -> Span {
        /// The quantile 0.9 of the standard normal distribution.
        const Z_P90: f64 = 1.281_551_565_545;
        let p90 = self.provisioning_latency.millis() as f64;
        let median = self.provisioning_median.map_or(0.0, |median| median.millis() as f64);
        if median <= 0.0 || p90 <= median {
            return self.until_effective();
        }
        let latency = median * ((p90 / median).ln() * z / Z_P90).exp();
        Span::from_millis(latency.round() as i64) + self.warm_up
    }
}
