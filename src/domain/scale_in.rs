//! Scale-in: which units go and how, and what the forecast says beyond the window of a decision. Rule: a unit that serves is
//! not taken as long as one that does not will do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Span, Timestamp};

/// How long a drained unit may finish its work before its connections are closed, and before it is removed.
pub const DRAIN_IDLE_WAIT: Span = Span::from_secs(30);
pub const DRAIN_LIMIT: Span = Span::from_secs(60);
/// How long a unit that is asked for may take to begin to start, all at the same time.
pub const START_LIMIT: Span = Span::from_secs(30);
/// Predictive scale-down: how far ahead, and at which confidence that the load will be lower.
pub const FALL_AHEAD: Span = Span::from_minutes(15);
pub const FALL_CONFIDENCE: f64 = 0.7;
/// Pre-warm: how far ahead, at which confidence of a rise, and how many units.
pub const PREWARM_AHEAD: Span = Span::from_minutes(15);
pub const PREWARM_CONFIDENCE: f64 = 0.8;
pub const PREWARM_UNITS: u32 = 2;
/// How long nothing must have happened before the last units go.
pub const ZERO_AFTER: Span = Span::from_minutes(5);

/// How units are taken away.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScaleInSettings {
    pub drain_idle_wait: Span,
    pub drain_limit: Span,
    pub start_limit: Span,
    pub fall_ahead: Span,
    pub fall_confidence: f64,
    pub prewarm_ahead: Span,
    pub prewarm_confidence: f64,
    pub prewarm_units: u32,
    /// Whether all units go when business is closed and nothing waits; the service's `min` must be 0 for it.
    pub to_zero: bool,
    pub zero_after: Span,
    pub weights: VictimWeights,
}

impl Default for ScaleInSettings {
    fn default() -> Self {
        Self {
            drain_idle_wait: DRAIN_IDLE_WAIT,
            drain_limit: DRAIN_LIMIT,
            start_limit: START_LIMIT,
            fall_ahead: FALL_AHEAD,
            fall_confidence: FALL_CONFIDENCE,
            prewarm_ahead: PREWARM_AHEAD,
            prewarm_confidence: PREWARM_CONFIDENCE,
            prewarm_units: PREWARM_UNITS,
            to_zero: false,
            zero_after: ZERO_AFTER,
            weights: VictimWeights::default(),
        }
    }
}

/// What makes a unit the first to go. Each is multiplied by a share in [0, 1]; by default no sum of later ones outweighs an
/// earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VictimWeights {
    pub idle: f64,
    pub degraded: f64,
    /// By age, the oldest of all 1.
    pub oldest: f64,
    /// By price, the most expensive of all 1.
    pub price: f64,
    /// By the risk that a spot unit is taken away.
    pub spot_risk: f64,
}

impl Default for VictimWeights {
    fn default() -> Self {
        Self { idle: 16.0, degraded: 8.0, oldest: 4.0, price: 2.0, spot_risk: 1.0 }
    }
}

/// One unit as its target sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UnitView {
    pub id: String,
    pub started_at: Timestamp,
    /// Jobs or requests that it serves; 0 = idle, `None` = not known.
    #[serde(default)]
    pub in_flight: Option<u32>,
    #[serde(default)]
    pub degraded: bool,
    #[serde(default)]
    pub price_usd_hour: Option<f64>,
    /// Of a spot unit, in [0, 1]; `None` = on demand.
    #[serde(default)]
    pub spot_risk: Option<f64>,
    /// Never a victim.
    #[serde(default)]
    pub protected: bool,
}

/// A unit that goes, and by when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drain {
    pub unit: String,
    pub score: f64,
    /// It gets no new work from here on …
    pub from: Timestamp,
    /// … its connections are closed here …
    pub close_at: Timestamp,
    /// … and it is removed here at the latest.
    pub remove_at: Timestamp,
}

/// What the forecast says of the time ahead, beyond the window of one decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Outlook {
    /// The first window within reach of the pre-warm in which load rises enough, or the likeliest one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rise: Option<Likely>,
    /// The window a predictive scale-down would count from: how likely load is lower there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fall: Option<Likely>,
}

/// A window ahead, how likely it is what it is named for, and the load at the quantile that decisions use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Likely {
    pub at: Timestamp,
    pub confidence: f64,
    pub load: f64,
}

/// A change that is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedChange {
    pub at: Timestamp,
    pub units: u32,
}
