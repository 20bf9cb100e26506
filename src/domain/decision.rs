//! Decisions and all that they are computed from. Rule: a decision is a pure function of its [`DecisionInputs`], which
//! it carries, so that it can be recomputed and compared byte for byte.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Alternative, Circumstances, LeadTime, PlanningSettings, RiskAccount, RiskPrices, Rows, RulesMemory, ServiceName,
    Span, SpotSplit, TargetState, Timestamp,
};

/// What Prescale may do with a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Forecast and score only.
    #[default]
    Observe,
    /// Decide and publish, never act.
    Recommend,
    /// Decide and act.
    Act,
}

/// The rule set that turns forecast and state into desired capacity, as configured for one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicySettings {
    /// Load that one unit carries within the objective, in the unit of the load signal.
    pub unit_capacity: f64,
    pub min_units: u32,
    pub max_units: u32,
    /// The quantile of the forecast that capacity must cover.
    pub quantile: f64,
    /// Most units added, and removed, by one decision.
    pub step_up_units: u32,
    pub step_down_units: u32,
    pub cooldown_up: Span,
    pub cooldown_down: Span,
    /// Scale in only if the need has been lower for this long.
    pub stabilization_down: Span,
    /// Scale in only if the need is below the present capacity by more than this share.
    pub hysteresis: f64,
    /// Utilization that the reactive rule aims at when there is no usable forecast.
    pub reactive_utilization: f64,
    /// A forecast older than this is stale; data older than this is blindness.
    pub stale_after: Span,
    pub blind_after: Span,
    #[serde(default, skip_serializing_if = "PlanningSettings::is_default")]
    pub planning: PlanningSettings,
}

/// The forecast as a decision sees it: the configured quantile and the median along the window that matters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ForecastInput {
    pub model: String,
    pub reason: String,
    pub origin: Timestamp,
    pub step: Span,
    /// The quantile that `upper` is at.
    pub quantile: f64,
    /// First window start of the lists below; they run to one decision interval after capacity asked for now is effective.
    pub from: Timestamp,
    pub upper: Vec<f64>,
    pub median: Vec<f64>,
    /// Index in the lists of the first window in which capacity asked for now is effective.
    pub effective_index: usize,
    /// All that is forecast for these windows: `values[k][q]` is the quantile `levels[q]` of the k-th window. Empty in
    /// records of before the planner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<f64>,
    #[serde(default, skip_serializing_if = "Rows::is_empty")]
    pub values: Rows,
}

/// What the rules remember between decisions; passed in and returned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DecisionMemory {
    pub last_scale_up: Option<Timestamp>,
    pub last_scale_down: Option<Timestamp>,
    /// Recent needs before stability rules, newest last, no older than the stabilization window.
    pub needs: Vec<(Timestamp, u32)>,
    /// How much of the violation budget was used of late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<RiskAccount>,
    /// Where that is best used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<RiskPrices>,
    /// The load after exponential smoothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smoothed_load: Option<f64>,
    /// Of the rules around the planner.
    #[serde(default, skip_serializing_if = "RulesMemory::is_empty")]
    pub rules: RulesMemory,
}

/// Everything that a decision depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DecisionInputs {
    pub service: ServiceName,
    /// The moment of the decision, on the controller's clock.
    pub at: Timestamp,
    pub mode: Mode,
    pub settings: PolicySettings,
    /// Load in the last closed window; `None` = gap or nothing yet.
    pub load: Option<f64>,
    /// End of the last closed window; `None` = nothing yet.
    pub load_window_end: Option<Timestamp>,
    /// Other features of that window, as far as a rule looks at them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<String, f64>,
    pub forecast: Option<ForecastInput>,
    /// Why there is no forecast, as a reason code; empty when there is one.
    pub forecast_missing: String,
    pub lead_time: LeadTime,
    /// `None` = the target could not be observed.
    pub target: Option<TargetState>,
    pub memory: DecisionMemory,
    /// What else the rules look at; empty = none of those has a say.
    #[serde(default, skip_serializing_if = "Circumstances::is_empty")]
    pub circumstances: Circumstances,
}

/// What kind of change a decision asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DecisionKind {
    ScaleUp,
    ScaleDown,
    /// No further unit fits: the units themselves are to be changed.
    OptimizeResources,
    None,
}

/// One rule's say: a stable code, the numbers, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// `forecast-need`, `reactive-need`, `hold-blind`, `cooldown-down`, `step-up`, `max-units`, …
    pub code: String,
    /// Units after this rule.
    pub units: u32,
    pub text: String,
}

/// `<service>@<event time>#<hash of the inputs>`: equal inputs have equal ids. What is hashed (BLAKE3, its first 16 digits) is
/// the inputs as MessagePack with the names of their fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DecisionId(pub String);

/// Desired capacity for one service at one moment, with its inputs and reasons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    pub id: DecisionId,
    pub service: ServiceName,
    pub at: Timestamp,
    pub kind: DecisionKind,
    /// Units that the target should have.
    pub desired: u32,
    /// Units that the need alone asks for, before stability and safety rules; `None` while blind.
    pub need: Option<u32>,
    /// In the order in which the rules spoke.
    pub reasons: Vec<Reason>,
    /// The code of the reason that set the number; empty in records of before the planner.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub binding: String,
    /// What was weighed: the need, its neighbours and the present capacity, by units.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
    /// What the rules remember after this decision.
    pub memory: DecisionMemory,
    /// Units that speak most for being taken away, those first, where units go and the target tells them apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub victims: Vec<String>,
    /// How `desired` is split over on-demand and spot units, of a target that has both. A function of its own inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Box<SpotSplit>>,
    pub inputs: DecisionInputs,
}

/// Room for the inputs of most decisions, so that it need not grow bit by bit.
const USUAL_BYTES: usize = 8 << 10;

impl DecisionId {
    pub fn new(inputs: &DecisionInputs) -> Self {
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        if rmp_serde::encode::write_named(&mut bytes, inputs).is_err() {
            bytes.clear();
        }
        let hash = blake3::hash(&bytes).to_hex();
        Self(format!("{}@{}#{}", inputs.service, inputs.at, &hash.as_str()[..16]))
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
