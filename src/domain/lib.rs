//! The nouns of Prescale: time, services, feature rows, forecasts, targets, decisions, outcomes and score cards.
//!
//! **Owns** whatever crosses two sibling crates. **May depend on** nothing of Prescale. No async, no Arrow, no I/O, no
//! clock but the [`Clock`] trait; every quantity has a type or a unit in its name. Everything rebuilds when this crate
//! changes, so it is small and slow-moving.

mod calendar;
mod decision;
mod event;
mod feature;
mod forecast;
mod outcome;
mod planning;
mod score;
mod series;
mod service;
mod target;
mod time;
mod zone;

pub use calendar::{CALENDAR_WIDTH, calendar_features};
pub use decision::{
    Decision, DecisionId, DecisionInputs, DecisionKind, DecisionMemory, ForecastInput, Mode, PolicySettings, Reason,
};
pub use event::{CALENDAR_PREFIX, CalendarEvent};
pub use feature::{FeatureRow, FeatureRowError, FeaturesRecord, Progress, Share};
pub use forecast::{DEFAULT_QUANTILES, ForecastError, QuantileForecast};
pub use outcome::{Actuation, Outcome};
pub use planning::{Alternative, PlanningRule, PlanningSettings, RiskAccount, RiskPrices, Trigger};
pub use score::{ForecastScore, ScoreCard, SeedScores, Spread, SystemScore, Violations};
pub use series::{RowsError, Series};
pub use service::ServiceName;
pub use target::{LeadTime, TargetState};
pub use time::{Clock, Span, SpanError, SystemClock, TimeError, Timestamp};
pub use zone::{HoursError, LocalTime, OpeningHours, Weekday, Zone, ZoneError};
