//! What the loop is told. Rule: valid when built; the loop does not check again.

use prescale_actuate::TargetSettings;
use prescale_decide::Rules;
use prescale_domain::{
    CadenceSettings, FleetChangeSettings, Mode, OpeningHours, PolicySettings, ServiceName, SignalColumns, Span,
};
use prescale_forecast::online::OnlineSettings;

use crate::experiments::ExperimentSetup;
use crate::nodes::NodesSetup;
use crate::select::SelectorSetup;

/// Whose time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockMode {
    /// The clock that was injected: decisions follow it and act on the present.
    Wall,
    /// Event time: decisions follow the watermark, one for each closed window.
    Event,
}

/// Settings of the loop.
#[derive(Clone, Debug)]
pub struct ControllerSettings {
    pub clock: ClockMode,
    /// Width of a feature window.
    pub step: Span,
    /// Length of the parts of a window that tell its load before it is closed, of a pipeline of their own; on the event clock
    /// the first of them is decided by in the place of the window. `None` = decisions wait for closed windows.
    pub early_step: Option<Span>,
    /// How long after its end a window is closed: the data age of a decision on the event clock.
    pub lateness: Span,
    pub retention: Span,
    /// For this long hours of older windows are kept; zero = not at all.
    pub coarse_retention: Span,
    /// Time between decisions.
    pub decision_interval: Span,
    /// On the wall clock: how often emergencies are looked for.
    pub cadence: CadenceSettings,
    /// How much all services together may change.
    pub fleet_change: FleetChangeSettings,
    /// Names of the pipelines whose progress is awaited.
    pub pipelines: Vec<String>,
    pub services: Vec<ServiceSettings>,
    /// No service is in two of them at a time.
    pub experiments: Vec<ExperimentSetup>,
    /// `None` = what is configured decides.
    pub selector: Option<SelectorSetup>,
    pub online: OnlineSettings,
    /// Topics to publish to.
    pub topics: OutTopics,
    /// On the event clock a snapshot is written after this many windows.
    pub snapshot_windows: u32,
}

/// Settings of one service.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    pub name: ServiceName,
    /// The features column that is forecast.
    pub signal: String,
    /// What models may look at beside it: feature columns, and loads of other services as `service:NAME`.
    pub covariates: Vec<String>,
    /// Services that it calls.
    pub calls: Vec<ServiceName>,
    /// Columns that tell what happens around it.
    pub signals: SignalColumns,
    pub mode: Mode,
    pub policy: PolicySettings,
    /// Request → unit in service, and in service → full speed.
    pub provisioning_latency: Span,
    pub warm_up: Span,
    /// The median of the first, where it is known apart from the p90.
    pub provisioning_median: Option<Span>,
    /// What the column `signals.latency` is to stay within: with both, what a unit carries is learnt.
    pub latency_objective: Option<Span>,
    /// Whether what its units took replaces what is configured, once enough were seen.
    pub learn_lead_time: bool,
    /// How far ahead its load can be forecast with confidence, where that is known to be less than the whole horizon.
    pub confident_horizon: Option<Span>,
    /// When its users are at work, and in whose zone the patterns of its load are told.
    pub opening_hours: OpeningHours,
    /// Where it is the nodes under the pods of others.
    pub nodes: Option<NodesSetup>,
    pub target: TargetSettings,
    /// The rules around the planner.
    pub rules: Rules,
}

/// Where results are published.
#[derive(Clone, Debug)]
pub struct OutTopics {
    pub forecasts: String,
    pub decisions: String,
    pub actuations: String,
    pub qos: String,
    pub weights: String,
}
