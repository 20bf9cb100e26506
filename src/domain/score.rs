//! The score card. Rule: a number that could not be computed is absent, not zero.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often the objective was missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Violations {
    /// Percent of time with less capacity in service than the load needed.
    pub time_pct: f64,
    /// Percent of requests beyond the capacity in service.
    pub requests_pct: f64,
}

/// One system over the scored time; over several seeds, the mean.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SystemScore {
    pub violations: Violations,
    pub cost_usd: f64,
    pub unit_hours: f64,
    /// Changes of desired capacity; over several seeds rounded.
    pub actions: u64,
    /// USD for a million requests that were carried; only where the load is requests per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_per_million_good_usd: Option<f64>,
    /// Units missing, as a share of the units needed, in percent; mean over time (SPEC RG).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub theta_under: Option<f64>,
    /// Units too many, as a share of the units needed, in percent; mean over time (SPEC RG).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub theta_over: Option<f64>,
    /// Percent of time with fewer units in service than needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tau_under: Option<f64>,
    /// Percent of time with more units in service than needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tau_over: Option<f64>,
    /// Percent of time in which demand and supply moved differently (Bauer et al.).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instability: Option<f64>,
    /// Changes of desired capacity against the direction of the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reversals: Option<f64>,
    /// The same by the hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reversals_per_hour: Option<f64>,
    /// Cost above that of the oracle, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regret_to_oracle: Option<f64>,
    /// Violations of time beyond those of the oracle, in percent of time: what a low regret may have been bought with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub violation_regret_pct: Option<f64>,
    /// Load carried, in percent of what the units in service could carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization_pct: Option<f64>,
    /// Units paid for beyond those needed, in percent of those paid for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waste_pct: Option<f64>,
    /// Requests carried in spikes, in percent: steps with a load more than 2σ above its rolling median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spike_availability_pct: Option<f64>,
    /// Percent of the time in spikes that was short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spike_short_time_pct: Option<f64>,
    /// SPEC RG's elastic speed-up over a fleet that stays at the mean; above 1 is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic_speedup: Option<f64>,
    /// The parameter that a sweep chose, such as `target=0.55`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
}

/// A number over several seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    pub mean: f64,
    /// Standard deviation between seeds; absent with one seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
    pub least: f64,
    pub most: f64,
}

/// What is behind the means of a score card.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SeedScores {
    pub seeds: Vec<u64>,
    /// By system, then by the name of the number, such as `cost_usd` or `violations.time_pct`.
    pub systems: BTreeMap<String, BTreeMap<String, Spread>>,
}

impl SystemScore {
    /// Every number that is there, by its name in the JSON.
    pub fn numbers(&self) -> impl Iterator<Item = (&'static str, f64)> + use<> {
        let always = [
            ("violations.time_pct", self.violations.time_pct),
            ("violations.requests_pct", self.violations.requests_pct),
            ("cost_usd", self.cost_usd),
            ("unit_hours", self.unit_hours),
            ("actions", self.actions as f64),
        ];
        let sometimes = [
            ("cost_per_million_good_usd", self.cost_per_million_good_usd),
            ("theta_under", self.theta_under),
            ("theta_over", self.theta_over),
            ("tau_under", self.tau_under),
            ("tau_over", self.tau_over),
            ("instability", self.instability),
            ("reversals", self.reversals),
            ("reversals_per_hour", self.reversals_per_hour),
            ("regret_to_oracle", self.regret_to_oracle),
            ("violation_regret_pct", self.violation_regret_pct),
            ("utilization_pct", self.utilization_pct),
            ("waste_pct", self.waste_pct),
            ("spike_availability_pct", self.spike_availability_pct),
            ("spike_short_time_pct", self.spike_short_time_pct),
            ("elastic_speedup", self.elastic_speedup),
        ];
        always.into_iter().chain(sometimes.into_iter().filter_map(|(name, number)| Some((name, number?))))
    }
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
    /// For each system that has several operating points, those that no other of its own beats: cost in USD and percent of
    /// time in violation, cheapest first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub frontier: BTreeMap<String, Vec<[f64; 2]>>,
    /// What a system would be with a forecaster that knows the future: the other end of what its closed model may be worth.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub brackets: BTreeMap<String, SystemScore>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds: Option<SeedScores>,
    pub seed: u64,
    pub simulated_hours: f64,
}
