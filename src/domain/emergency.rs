//! Emergencies: when load outgrows what serves it, and what is remembered of one. Rule: an emergency only adds; what it
//! added goes again after a set time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Span, Timestamp};

/// Load per capacity in service from which on it is an emergency; of the high-performance template.
pub const EMERGENCY_UTILIZATION: f64 = 0.9;
pub const EMERGENCY_UTILIZATION_HIGH_PERFORMANCE: f64 = 0.95;
/// Relative rise over the recent level beyond which a spike is an emergency.
pub const EMERGENCY_SPIKE: f64 = 0.8;
/// Utilization that the added units lead to: below the threshold, so that a steady load ends the emergency.
pub const EMERGENCY_AIM: f64 = 0.8;
pub const EMERGENCY_UNITS: u32 = 10;
pub const EMERGENCY_WITHIN: Span = Span::from_secs(15);
pub const EMERGENCY_SCALE_DOWN_AFTER: Span = Span::from_secs(300);

/// When a load is an emergency and what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmergencySettings {
    /// Load / (units in service × unit capacity). A load that a usable forecast expected is none below 1.
    pub utilization: f64,
    /// A spike beyond this is one whatever the utilization.
    pub spike_magnitude: f64,
    /// Utilization aimed at.
    pub aim_utilization: f64,
    /// Most units added in any `within`.
    pub units_max: u32,
    pub within: Span,
    /// From its last moment until what it added is removed.
    pub scale_down_after: Span,
}

impl Default for EmergencySettings {
    fn default() -> Self {
        Self {
            utilization: EMERGENCY_UTILIZATION,
            spike_magnitude: EMERGENCY_SPIKE,
            aim_utilization: EMERGENCY_AIM,
            units_max: EMERGENCY_UNITS,
            within: EMERGENCY_WITHIN,
            scale_down_after: EMERGENCY_SCALE_DOWN_AFTER,
        }
    }
}

impl EmergencySettings {
    /// Of the template `high-performance`.
    pub fn high_performance() -> Self {
        Self { utilization: EMERGENCY_UTILIZATION_HIGH_PERFORMANCE, ..Self::default() }
    }
}

/// An emergency that is on, or over and not yet undone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EmergencyMemory {
    pub since: Timestamp,
    /// The last decision at which it was on.
    pub last: Timestamp,
    /// Units that the target wanted before.
    pub before: u32,
    /// Units that it asked for at most.
    pub units: u32,
    /// What was added and when, no older than `within`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<(Timestamp, u32)>,
}
