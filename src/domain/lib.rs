//! The nouns of Prescale: time, services, feature rows, forecasts, targets, decisions, outcomes and score cards.
//!
//! **Owns** whatever crosses two sibling crates. **May depend on** nothing of Prescale. No async, no Arrow, no I/O, no
//! clock but the [`Clock`] trait; every quantity has a type or a unit in its name. Everything rebuilds when this crate
//! changes, so it is small and slow-moving.

mod cadence;
mod calendar;
mod circumstances;
mod decision;
mod dependency;
mod emergency;
mod event;
mod fallback;
mod feature;
mod forecast;
mod outcome;
mod planning;
mod qos;
mod resources;
mod rows;
mod safety;
mod scale_in;
mod schedule;
mod score;
mod series;
mod service;
mod shadow;
mod signals;
mod spot;
mod spot_plan;
mod target;
mod time;
mod weights;
mod zone;

pub use cadence::{CadenceSettings, Due, FAST_LOOP, LastTurns, NORMAL_LOOP, SLOW_LOOP};
pub use calendar::{CALENDAR_WIDTH, calendar_features};
pub use circumstances::{Advice, Circumstances, InExperiment, JITTER, RecentLoad, RuleSettings, RulesMemory};
pub use decision::{
    Decision, DecisionId, DecisionInputs, DecisionKind, DecisionMemory, ForecastInput, Mode, PolicySettings, Reason,
};
pub use dependency::{Dependency, Lifted};
pub use emergency::{
    EMERGENCY_AIM, EMERGENCY_SCALE_DOWN_AFTER, EMERGENCY_SPIKE, EMERGENCY_UNITS, EMERGENCY_UTILIZATION,
    EMERGENCY_UTILIZATION_HIGH_PERFORMANCE, EMERGENCY_WITHIN, EmergencyMemory, EmergencySettings,
};
pub use event::{CALENDAR_PREFIX, CalendarEvent};
pub use fallback::{FALLBACK_FRESH_FOR, FallbackLoad};
pub use feature::{FeatureRow, FeatureRowError, FeaturesRecord, Progress, Share};
pub use forecast::{DEFAULT_QUANTILES, ForecastError, QuantileForecast};
pub use outcome::{Actuation, Outcome};
pub use planning::{Alternative, PlanningRule, PlanningSettings, RiskAccount, RiskPrices, Trigger};
pub use qos::QosAdvice;
pub use resources::{
    Claim, EMERGENCY_RESERVE, Grant, LIMIT_CPU_CORES, LIMIT_MEMORY_MB, LIMIT_UNITS, LimitScope, Limited, Limits,
    Optimization, Resource, ResourceLimits, Resources,
};
pub use rows::Rows;
pub use safety::{
    ActuationReport, BREAKER_FAILURES, BREAKER_OPEN_FOR, BREAKER_REVERSALS, BREAKER_WITHIN, BreakerCause,
    BreakerMemory, BreakerSettings, BreakerState, Budget, BudgetSettings, FLEET_CHANGE_INTERVAL, FleetChange,
    FleetChangeSettings, Pause, PauseScope, RETRY_AFTER,
};
pub use scale_in::{
    DRAIN_IDLE_WAIT, DRAIN_LIMIT, Drain, FALL_AHEAD, FALL_CONFIDENCE, Likely, Outlook, PREWARM_AHEAD,
    PREWARM_CONFIDENCE, PREWARM_UNITS, PlannedChange, START_LIMIT, ScaleInSettings, UnitView, VictimWeights,
    ZERO_AFTER,
};
pub use schedule::{
    BUSINESS_HOURS_PRIORITY, Blocks, Freeze, FreezeSettings, MAINTENANCE_PRIORITY, ScheduleAction, ScheduleSettings,
    ScheduledAction, WEEKEND_PRIORITY,
};
pub use score::{ForecastScore, ScoreCard, SeedScores, Spread, SystemScore, Violations};
pub use series::{RowsError, Series};
pub use service::ServiceName;
pub use shadow::{Saved, ShadowReport, ShadowScore};
pub use signals::{
    API_REDUCE, API_THROTTLE, ERROR_RATE_MIN, ERROR_RATE_RISE, EventSettings, ExternalSignal, SPIKE_MAGNITUDE,
    SignalColumns, Signals, Throttle, ThrottleLevel,
};
pub use spot::{
    CapacityKind, CapacityRecord, PoolId, PoolIdError, SPOT_ANNOTATION, SPOT_DISCOUNT, SPOT_DISCOUNT_ANNOTATION,
    SPOT_MAX_SHARE_ANNOTATION, SPOT_NOTICE, SpotAnnotationError, SpotEvent, SpotHappening, SpotNotice, SpotNoticeKind,
    SpotPreference, SpotWish, is_spot_annotation,
};
pub use spot_plan::{
    AwsMix, Binding, Commitment, Kinship, PoolBelief, PoolOffer, PoolShare, Rejected, RejectedBecause, Returning,
    SplitUnit, SpotCost, SpotInputs, SpotMemory, SpotPlan, SpotSettings, SpotSplit,
};
pub use target::{LeadTime, TargetState};
pub use time::{Clock, Span, SpanError, SystemClock, TimeError, Timestamp};
pub use weights::{LoadWeights, PoolWeight};
pub use zone::{HoursError, LocalTime, OpeningHours, Weekday, Zone, ZoneError};
