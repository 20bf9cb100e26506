//! What stops or limits changes: circuit breaker, pause, budget, the fleet's change per interval. Rule: data only; `decide`
//! judges.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Span, Timestamp};

/// Failed actuations in a row, and turns of direction within `BREAKER_WITHIN`, that open the breaker.
pub const BREAKER_FAILURES: u32 = 3;
pub const BREAKER_REVERSALS: u32 = 4;
pub const BREAKER_WITHIN: Span = Span::from_minutes(15);
/// From opening to the next try.
pub const BREAKER_OPEN_FOR: Span = Span::from_minutes(5);
/// After the first failed actuation; doubled after each further one.
pub const RETRY_AFTER: Span = Span::from_secs(15);

/// The time over which changes of the whole fleet are counted.
pub const FLEET_CHANGE_INTERVAL: Span = Span::from_minutes(5);

/// When the circuit breaker opens and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerSettings {
    pub failures: u32,
    pub reversals: u32,
    pub within: Span,
    pub open_for: Span,
    pub retry_after: Span,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: BREAKER_FAILURES,
            reversals: BREAKER_REVERSALS,
            within: BREAKER_WITHIN,
            open_for: BREAKER_OPEN_FOR,
            retry_after: RETRY_AFTER,
        }
    }
}

/// Whether changes pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// They do.
    #[default]
    Closed,
    /// They do not.
    Open,
    /// One does, to see whether it succeeds.
    HalfOpen,
}

/// What opened the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerCause {
    Failures,
    Reversals,
}

/// What the circuit breaker remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BreakerMemory {
    pub state: BreakerState,
    /// Since when; `None` = from the start.
    pub since: Option<Timestamp>,
    pub cause: Option<BreakerCause>,
    /// Failed actuations in a row, and the last of them.
    pub failures: u32,
    pub failed_at: Option<Timestamp>,
    /// The last report that was counted.
    pub reported_at: Option<Timestamp>,
    /// When half-open let a change through.
    pub tried_at: Option<Timestamp>,
    /// Recent changes, newest last: whether each added units.
    pub changes: Vec<(Timestamp, bool)>,
}

impl BreakerMemory {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How the last actuation ended; the same report may be given to any number of decisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActuationReport {
    pub at: Timestamp,
    /// Class of the error (`denied`, `throttled`, `timeout`, …); `None` = it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// Somebody stopped all changes: of this service, or of all (the kill switch).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pause {
    pub scope: PauseScope,
    /// Who, as far as is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    pub since: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PauseScope {
    Service,
    All,
}

/// Most that a service may cost, as configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetSettings {
    pub usd_hour: Option<f64>,
    pub usd_month: Option<f64>,
}

/// A budget as a decision sees it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Budget {
    pub limits: BudgetSettings,
    /// Of one unit. Without a price a budget says nothing.
    pub price_usd_hour: Option<f64>,
    /// Spent since the month began, and when it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent_month_usd: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month_ends: Option<Timestamp>,
}

/// How much the whole fleet may change, as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FleetChangeSettings {
    /// Units added or removed, of all services that are acted on together, in any `interval`; `None` = any number.
    pub units: Option<u32>,
    pub interval: Span,
}

impl Default for FleetChangeSettings {
    fn default() -> Self {
        Self { units: None, interval: FLEET_CHANGE_INTERVAL }
    }
}

/// How much the whole fleet may still change in the present interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FleetChange {
    /// Units added or removed, of all services together, per `interval`.
    pub limit: u32,
    pub interval: Span,
    /// Of which so many are used up.
    pub used: u32,
}
