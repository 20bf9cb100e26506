//! What readers see of the loop: a snapshot that is replaced as a whole. Rule: a read never blocks the loop.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use prescale_domain::{
    Actuation, CalendarEvent, Decision, Mode, Pause, QuantileForecast, ServiceName, ShadowReport, Span, Timestamp,
};
pub use prescale_forecast::models::ModelKind;
pub use prescale_forecast::online::{LeadScore, Readiness, ServiceScores};
pub use prescale_forecast::patterns::{Patterns, find as find_patterns};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;

pub use crate::experiments::ExperimentView;
pub use crate::pause::{PauseChange, PauseOrder, PauseSwitch, Pauses};
pub use prescale_decide::experiment::{Design, Experiment, ExperimentSettings, Guard, Metric};

/// Points of load and capacity kept for readers: one day of minutes.
pub const POINTS_MAX: usize = 1440;
/// Decisions kept for readers; older ones are in the store.
pub const DECISIONS_MAX: usize = 100;

/// The state of the whole controller at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// `wall` or `event`.
    pub clock: &'static str,
    pub now: Timestamp,
    pub step: Span,
    /// Everything needed to serve is there; otherwise why not.
    pub ready: Result<(), String>,
    /// Things that work worse than they should, as sentences.
    pub degradations: Vec<String>,
    pub services: BTreeMap<ServiceName, Arc<ServiceView>>,
    /// Calendar events that are known now.
    pub events: Vec<CalendarEvent>,
    pub pauses: Pauses,
    pub experiments: Vec<Arc<ExperimentView>>,
    /// Counts the replacements.
    pub version: u64,
}

/// One service.
#[derive(Clone, Debug)]
pub struct ServiceView {
    pub service: ServiceName,
    pub mode: Mode,
    pub signal: String,
    /// What the last decision reckoned with; what is configured before the first.
    pub unit_capacity: f64,
    pub target: String,
    /// Somebody has stopped its changes.
    pub paused: Option<Pause>,
    /// Window start and load; `None` = gap.
    pub load: VecDeque<(Timestamp, Option<f64>)>,
    pub capacity: VecDeque<CapacityPoint>,
    pub forecast: Option<Arc<QuantileForecast>>,
    /// Why there is no forecast, as a reason code; empty when there is one.
    pub forecast_missing: String,
    /// `None` until the first window is closed.
    pub models: Option<Arc<ModelsView>>,
    /// Newest last.
    pub decisions: VecDeque<Arc<Decision>>,
    pub actuations: VecDeque<Actuation>,
    /// Drift, training, promotion: newest last.
    pub model_events: VecDeque<ModelEvent>,
}

/// The models of one service and what they say of its load, as of the last closed window.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ModelsView {
    /// What serves, and how long until something better will.
    pub readiness: Readiness,
    /// How well what was served came true, and who takes part in it.
    pub scores: ServiceScores,
    /// Cycles, trend, spikes and quiet hours of the last 30 days, looked for every hour; hours are those of the zone of
    /// the service.
    pub patterns: Option<Patterns>,
}

/// Capacity at one moment.
#[derive(Clone, Copy, Debug)]
pub struct CapacityPoint {
    pub at: Timestamp,
    pub desired: u32,
    pub ready: Option<u32>,
}

/// Something that happened to the models of a service.
#[derive(Clone, Debug)]
pub struct ModelEvent {
    pub at: Timestamp,
    /// `drift`, `training-started`, `training-failed`, `refitted`, `updated`, `kept`, `challenger`, `promoted`, `rejected`,
    /// `confirmed`, `rolled-back`, `demoted`, `readmitted`, `model-unreadable`.
    pub kind: String,
    pub text: String,
}

/// Reads recorded decisions that are no longer in the view.
pub trait DecisionArchive: Send + Sync {
    fn decision(&self, id: &str) -> Result<Option<Decision>, String>;
    /// Newest first, at most `limit`, those before `before` where given.
    fn decisions(
        &self,
        service: Option<&ServiceName>,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Decision>, String>;
}

/// Writes to the topic of events, from which the loop learns of them like everybody else.
pub trait EventLog: Send + Sync {
    /// Tells an event, known from now on: returned as it was told, once the brokers have acknowledged it. What failed is
    /// not told later.
    fn tell(&self, event: CalendarEvent) -> Result<CalendarEvent, String>;
    /// Takes the event of an id back; returns once the brokers have acknowledged it.
    fn take_back(&self, id: &str) -> Result<(), String>;
}

/// Reads what would have run beside what really ran.
pub trait ShadowReports: Send + Sync {
    /// Each service since the start, by name.
    fn totals(&self) -> Vec<ShadowReport>;
    /// All services on a day (midnight, UTC), by name.
    fn day(&self, day: Timestamp) -> Vec<ShadowReport>;
    /// The last day before `before` that something is kept of, of one service or of any.
    fn day_before(&self, service: Option<&ServiceName>, before: Timestamp) -> Option<Timestamp>;
}

/// What `serve` holds of a running controller.
#[derive(Clone)]
pub struct Handle {
    pub view: watch::Receiver<Arc<View>>,
    pub archive: Arc<dyn DecisionArchive>,
    /// `None` = no events can be told: a replay has read all that it heeds.
    pub event_log: Option<Arc<dyn EventLog>>,
    /// `None` = nobody can be paused: the decisions of a replay follow from its input alone.
    pub pause: Option<PauseSwitch>,
    /// `None` = nothing is shadowed.
    pub shadow: Option<Arc<dyn ShadowReports>>,
}
