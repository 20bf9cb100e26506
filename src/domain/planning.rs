//! What the planner is told and what it tells. Rule: a risk is a share of time, a price has its unit in its name.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Span, Timestamp};

/// How the need is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlanningRule {
    /// The configured quantile of the forecast, rounded up to whole units.
    Ceiling,
    /// The median of the forecast and the headroom on top of it.
    Buffered,
    /// The configured quantile where the forecast is sure enough, the reactive rule elsewhere.
    ConfidenceAware,
    /// The smallest number of units whose probability of overload fits what is left of the violation budget.
    #[default]
    RiskBudget,
    /// The higher of load and median of the forecast at the target utilization.
    TargetUtilization,
    /// Several signals, each against its target, by weight.
    WeightedTriggers,
    /// No change while utilization lies between two thresholds.
    Thresholds,
}

impl PlanningRule {
    pub const ALL: [Self; 7] = [
        Self::Ceiling,
        Self::Buffered,
        Self::ConfidenceAware,
        Self::RiskBudget,
        Self::TargetUtilization,
        Self::WeightedTriggers,
        Self::Thresholds,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ceiling => "ceiling",
            Self::Buffered => "buffered",
            Self::ConfidenceAware => "confidence-aware",
            Self::RiskBudget => "risk-budget",
            Self::TargetUtilization => "target-utilization",
            Self::WeightedTriggers => "weighted-triggers",
            Self::Thresholds => "thresholds",
        }
    }
}

impl fmt::Display for PlanningRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PlanningRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|rule| rule.name() == text).ok_or_else(|| format!("`{text}` is none of {}", known()))
    }
}

/// One signal of the rule `weighted-triggers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// A features column, such as `queue_length`.
    pub signal: String,
    /// Its value for each unit that is in service at the right size.
    pub target: f64,
    /// Its say, as a share of the sum of all weights.
    pub weight: f64,
}

/// How a need is planned for one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PlanningSettings {
    pub rule: PlanningRule,
    /// Share of time that may be short of capacity.
    pub violation_budget: f64,
    /// The time over which it is kept: what was used longer ago is forgotten.
    pub budget_period: Span,
    /// Most that one decision may risk of an overload while the budget is kept on average: the budget as a whole is used
    /// where that saves most capacity. 0 = the same risk at all times.
    pub risk_max: f64,
    /// What a missed unit of load costs while it lasts an hour, in USD; with a price, risk follows from costs instead of
    /// from the budget (the newsvendor's rule).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed_usd_hour: Option<f64>,
    /// What a unit costs in an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_usd_hour: Option<f64>,
    /// Starting a unit costs as much as this time of it beside the time until it is effective: a unit is kept if it is
    /// needed again within both together.
    pub churn: Span,
    /// Utilization by the newest load that is planned for at most, whatever is forecast; `None` = the forecast decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilization_max: Option<f64>,
    /// Of `buffered`, as a share.
    pub headroom: f64,
    /// Of `confidence-aware`: from this confidence on the forecast decides.
    pub confidence_min: f64,
    /// Of `target-utilization`.
    pub target_utilization: f64,
    /// Of `weighted-triggers`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
    /// Of `thresholds`: utilization from which units are added, and below which they are removed.
    pub scale_up_at: f64,
    pub scale_down_at: f64,
    /// Whether forecasts are heeded at all.
    pub predictive: bool,
    /// Weight of the newest load in what the reactive rule looks at; 1 = no smoothing.
    pub smoothing: f64,
}

impl Default for PlanningSettings {
    /// What a record of before the planner was decided by.
    fn default() -> Self {
        Self {
            rule: PlanningRule::Ceiling,
            violation_budget: 0.01,
            budget_period: Span::from_minutes(7 * 24 * 60),
            risk_max: 0.0,
            missed_usd_hour: None,
            price_usd_hour: None,
            churn: Span::ZERO,
            utilization_max: None,
            headroom: 0.2,
            confidence_min: 0.8,
            target_utilization: 0.7,
            triggers: Vec::new(),
            scale_up_at: 0.8,
            scale_down_at: 0.3,
            predictive: true,
            smoothing: 1.0,
        }
    }
}

impl PlanningSettings {
    /// Whether a record need not say it, since records of before the planner don't.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How much time was scored and how much of it was short of capacity; both fade with the budget's period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RiskAccount {
    pub scored_seconds: f64,
    pub short_seconds: f64,
    /// End of the last window that was scored.
    pub until: Option<Timestamp>,
    /// Units in service when it began.
    pub ready: Option<u32>,
}

/// What a ladder of prices for an overload would have risked of late.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RiskPrices {
    /// Time that counts in it, faded.
    pub seconds: f64,
    /// Mean probability of overload by price.
    pub risks: Vec<f64>,
}

/// A number of units that was weighed, and what it would have meant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alternative {
    pub units: u32,
    /// Probability of overload, averaged over the windows that the decision determines.
    pub overload: f64,
    /// Expected load beyond capacity there, in the unit of the signal.
    pub shortage: f64,
    /// Units and shortage together, where both have a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd_hour: Option<f64>,
}
