//! What would have run beside what really ran, in numbers. Rule: a number that could not be computed is absent, not zero.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ServiceName, Timestamp, Violations};

/// One service on one day, or over all days.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShadowReport {
    pub service: ServiceName,
    /// Midnight, UTC; `None` = since the start.
    pub day: Option<Timestamp>,
    /// Nothing of the day is missing any more.
    pub complete: bool,
    /// Time that both sides are judged over, and time that could not be judged.
    pub scored_hours: f64,
    pub gap_hours: f64,
    /// `actual` and `prescale`, in the shape of the score card; empty where nothing could be judged.
    pub systems: BTreeMap<String, ShadowScore>,
    /// What Prescale would have saved; negative where it would have been worse.
    pub saved: Option<Saved>,
}

/// One side in the shape of the score card's systems; see [`SystemScore`](crate::SystemScore).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShadowScore {
    pub violations: Violations,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_per_million_good_usd: Option<f64>,
    pub unit_hours: f64,
    pub theta_under: f64,
    pub theta_over: f64,
    pub tau_under: f64,
    pub tau_over: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instability: Option<f64>,
    pub reversals: u64,
    pub actions: u64,
    /// Whether the time short is within the budget; `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective_kept: Option<bool>,
}

/// Actual less Prescale.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Saved {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    pub unit_hours: f64,
    /// Shortage that would have been avoided: time, and load times seconds.
    pub short_minutes: f64,
    pub missed: f64,
}
