//! What surrounds a decision besides load, forecast and target, and what the rules about it are. Rule: a rule whose part is
//! absent does nothing; with no circumstances a decision is what it was before there were any, byte for byte.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ActuationReport, BreakerMemory, BreakerSettings, Budget, BudgetSettings, EmergencyMemory, EmergencySettings,
    EventSettings, FallbackLoad, FleetChange, Freeze, Lifted, Limited, Limits, Optimization, Outlook, Pause,
    PlannedChange, ResourceLimits, ScaleInSettings, ScheduledAction, Signals, Span, Throttle, Timestamp,
};

/// Longest time by which a scale-in is put off so that fleets do not move in lockstep.
pub const JITTER: Span = Span::from_secs(30);

/// The side of an experiment that a decision is on; the settings that it is made by are those of that side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InExperiment {
    pub name: String,
    /// Otherwise in the control group.
    pub treatment: bool,
}

/// Everything that the rules around the planner look at, resolved for one service at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Circumstances {
    /// The schedules that are active.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scheduled: Vec<ScheduledAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emergency: Option<EmergencySettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<EventSettings>,
    #[serde(skip_serializing_if = "Signals::is_empty")]
    pub signals: Signals,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerSettings>,
    /// How the last actuation ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actuation: Option<ActuationReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze: Option<Freeze>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet_change: Option<FleetChange>,
    /// Longest time by which a scale-in is put off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_in: Option<ScaleInSettings>,
    /// Whether the service's business is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlook: Option<Outlook>,
    /// What another source than the stream says of the load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<FallbackLoad>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiment: Option<InExperiment>,
    /// Callers whose load has lifted its forecast.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lifted: Vec<Lifted>,
    /// Partitions of the topic that its units, members of one consumer group, share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
}

impl Circumstances {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the rules around the planner remember between decisions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RulesMemory {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emergency: Option<EmergencyMemory>,
    #[serde(skip_serializing_if = "BreakerMemory::is_default")]
    pub breaker: BreakerMemory,
    /// The scale-down that is announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned: Option<PlannedChange>,
    /// Since when nothing is served and nothing waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Timestamp>,
    /// Since when a scale-in waits for its jitter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_in_since: Option<Timestamp>,
    /// The level that a spike rises above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recent: Option<RecentLoad>,
}

/// The load of the last while.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecentLoad {
    /// Mean of the loads before the last one, the older the less.
    pub level: f64,
    /// The last load, and the end of its window.
    pub load: f64,
    pub until: Timestamp,
}

impl RulesMemory {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a decision says besides the number of units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Advice {
    /// The limit that made the decision smaller than the wish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limited: Option<Limited>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimization: Option<Optimization>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned: Option<PlannedChange>,
}

/// The rules around the planner, as configured for a service or for all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuleSettings {
    pub emergency: EmergencySettings,
    pub events: EventSettings,
    pub breaker: BreakerSettings,
    pub budget: BudgetSettings,
    /// Of the target; [`ResourceLimits::or_default`] where nothing is configured.
    pub limits: ResourceLimits,
    pub scale_in: ScaleInSettings,
    pub jitter: Span,
}

impl Default for RuleSettings {
    fn default() -> Self {
        Self {
            emergency: EmergencySettings::default(),
            events: EventSettings::default(),
            breaker: BreakerSettings::default(),
            budget: BudgetSettings::default(),
            limits: ResourceLimits::default(),
            scale_in: ScaleInSettings::default(),
            jitter: JITTER,
        }
    }
}

impl RuleSettings {
    /// Circumstances in which every rule but budget and limits is on, with nothing seen yet.
    pub fn circumstances(&self) -> Circumstances {
        Circumstances {
            emergency: Some(self.emergency),
            events: Some(self.events),
            breaker: Some(self.breaker),
            jitter: (self.jitter > Span::ZERO).then_some(self.jitter),
            scale_in: Some(self.scale_in),
            ..Circumstances::default()
        }
    }
}
