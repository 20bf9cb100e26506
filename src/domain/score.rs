//! The score card. Rule: a number that could not be computed is absent, not zero.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often the objective was missed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Violations {
    /// Percent of time with less capacity in service than the load needed.
    pub time_pct: f64,
    /// Percent of requests beyond the capacity in service.
    pub requests_pct: f64,
}

/// One system over the scored time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SystemScore {
    pub violations: Violations,
    pub cost_usd: f64,
    pub unit_hours: f64,
    /// Changes of desired capacity.
    pub actions: u64,
    /// The parameter that a sweep chose, such as `target=0.55`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
}

/// How good the forecasts were at one horizon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ForecastScore {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mase: Option<f64>,
    /// Share of actual values at or below the quantile that decisions used, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage_pct: Option<f64>,
    pub forecasts: u64,
    /// Forecasts by the model that made them.
    #[serde(default)]
    pub models: BTreeMap<String, u64>,
}

/// Prescale against its baselines on the same load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScoreCard {
    /// `prescale`, `hpa`, `static-peak`, …
    pub systems: BTreeMap<String, SystemScore>,
    /// Forecast quality by service.
    pub forecast: BTreeMap<String, ForecastScore>,
    pub seed: u64,
    pub simulated_hours: f64,
}
