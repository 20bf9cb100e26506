//! What happens in the loop. Metrics: `prescale_controller_*`.

use std::sync::OnceLock;

use prescale_domain::{Actuation, Decision, DecisionKind, Outcome, ServiceName};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::catalogue::{Labels, register};

struct Metrics {
    decisions: Family<Labels, Counter>,
    desired: Family<Labels, Gauge>,
    actuations: Family<Labels, Counter>,
    bad_records: Family<Labels, Counter>,
    unobservable: Family<Labels, Counter>,
    snapshots: Counter,
    load_from: Family<Labels, Gauge>,
    paused: Family<Labels, Gauge>,
}

fn metrics() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| Metrics {
        decisions: register("controller_decisions", "Decisions made, by service and kind.", Family::default()),
        desired: register("controller_desired_units", "Units that the last decision asked for.", Family::default()),
        actuations: register("controller_actuations", "Attempts to act, by service and outcome.", Family::default()),
        bad_records: register("controller_bad_records", "Unreadable records, by topic.", Family::default()),
        unobservable: register("controller_unobservable", "Failed looks at a target, by service.", Family::default()),
        paused: register("controller_paused", "1 = changes are stopped, by service; `*` = of all.", Family::default()),
        snapshots: register("controller_snapshots", "Snapshots written.", Counter::default()),
        load_from: register(
            "controller_load_source",
            "Where the load of the last decision came from, of services with another source: 0 the stream, 1 that, 2 nowhere.",
            Family::default(),
        ),
    })
}

fn by_service(service: &ServiceName) -> Labels {
    vec![("service", service.to_string())]
}

/// A decision was made.
pub struct Decided<'a> {
    decision: &'a Decision,
}

impl<'a> Decided<'a> {
    pub fn of(decision: &'a Decision) -> Self {
        Self { decision }
    }

    pub fn emit(&self) {
        let decision = self.decision;
        let kind = match decision.kind {
            DecisionKind::ScaleUp => "scale-up",
            DecisionKind::ScaleDown => "scale-down",
            DecisionKind::OptimizeResources => "optimize-resources",
            DecisionKind::None => "none",
        };
        let mut labels = by_service(&decision.service);
        metrics().desired.get_or_create(&labels).set(i64::from(decision.desired));
        labels.push(("kind", kind.to_owned()));
        metrics().decisions.get_or_create(&labels).inc();
        if decision.kind == DecisionKind::None {
            tracing::debug!(id = %decision.id, desired = decision.desired, "no change");
        } else {
            tracing::info!(id = %decision.id, desired = decision.desired, "{kind}");
        }
    }
}

/// An attempt to act has ended.
pub struct Actuated<'a> {
    actuation: &'a Actuation,
}

impl<'a> Actuated<'a> {
    pub fn of(actuation: &'a Actuation) -> Self {
        Self { actuation }
    }

    pub fn emit(&self) {
        let Actuation { decision, service, target, outcome, .. } = self.actuation;
        let name = match outcome {
            Outcome::Started => "started",
            Outcome::Applied { units, clamped } => {
                tracing::info!(id = %decision, units, clamped, "applied to {target}");
                "applied"
            }
            Outcome::Unchanged { .. } => "unchanged",
            Outcome::Held { units, reason } => {
                tracing::info!(id = %decision, units, "{target} is left as it is: {reason}");
                "held"
            }
            Outcome::Failed { code, error } => {
                tracing::warn!(id = %decision, code, "{target} was not scaled: {error}");
                "failed"
            }
        };
        let mut labels = by_service(service);
        labels.push(("outcome", name.to_owned()));
        metrics().actuations.get_or_create(&labels).inc();
    }
}

/// A record of a topic that the loop reads could not be understood; it stays on its topic.
pub struct BadRecord {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub error: String,
}

impl BadRecord {
    pub fn emit(&self) {
        metrics().bad_records.get_or_create(&vec![("topic", self.topic.clone())]).inc();
        tracing::warn!("record {}/{}@{} is left out: {}", self.topic, self.partition, self.offset, self.error);
    }
}

/// A target could not be observed.
pub struct TargetUnobservable {
    pub service: ServiceName,
    pub error: String,
}

impl TargetUnobservable {
    pub fn emit(&self) {
        metrics().unobservable.get_or_create(&by_service(&self.service)).inc();
        tracing::warn!("{}", self.error);
    }
}

/// Where the load of a service comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadFrom {
    #[default]
    Stream,
    /// Another source, while the stream is silent.
    Fallback,
    /// Both are silent: capacity is held.
    Nowhere,
}

/// The load of a service comes from elsewhere than before.
pub struct LoadSource<'a> {
    pub service: &'a ServiceName,
    pub from: LoadFrom,
    pub text: &'a str,
}

impl LoadSource<'_> {
    pub fn emit(&self) {
        let (service, text) = (self.service, self.text);
        let gauge = metrics().load_from.get_or_create(&by_service(service)).clone();
        match self.from {
            LoadFrom::Stream => {
                gauge.set(0);
                tracing::info!(%service, "{text}");
            }
            LoadFrom::Fallback => {
                gauge.set(1);
                tracing::warn!(%service, "{text}");
            }
            LoadFrom::Nowhere => {
                gauge.set(2);
                tracing::error!(%service, "{text}");
            }
        }
    }
}

/// A history from elsewhere was taken in.
pub struct BackFilled<'a> {
    pub service: &'a ServiceName,
    /// Known windows that were new.
    pub windows: usize,
}

impl BackFilled<'_> {
    pub fn emit(&self) {
        tracing::info!(service = %self.service, windows = self.windows, "history back-filled");
    }
}

/// A history from elsewhere can't be had now; the service starts without it, and asks again at its next start.
pub struct HistoryUnread<'a> {
    pub service: &'a str,
    pub error: &'a str,
}

impl HistoryUnread<'_> {
    pub fn emit(&self) {
        tracing::warn!(service = self.service, error = self.error, "no back-fill before the next start");
    }
}

/// The loop's state is on disk.
pub struct SnapshotWritten {
    pub changes: usize,
}

impl SnapshotWritten {
    pub fn emit(&self) {
        metrics().snapshots.inc();
        tracing::debug!(changes = self.changes, "snapshot written");
    }
}

/// A verdict on an experiment has fallen.
pub struct ExperimentJudged<'a> {
    pub name: &'a str,
    pub verdict: &'static str,
}

impl ExperimentJudged<'_> {
    pub fn emit(&self) {
        tracing::info!(experiment = self.name, verdict = self.verdict, "experiment judged");
    }
}

/// A daily report of shadow mode could not be written; it is tried again with the next.
pub struct ReportUnwritten<'a> {
    pub file: &'a str,
    pub error: &'a str,
}

impl ReportUnwritten<'_> {
    pub fn emit(&self) {
        tracing::warn!(file = self.file, error = self.error, "report of shadow mode not written");
    }
}

/// Somebody has stopped changes, or let them go on.
pub struct PauseChanged<'a> {
    /// `None` = of all services.
    pub service: Option<&'a ServiceName>,
    pub paused: bool,
    pub by: &'a str,
}

impl PauseChanged<'_> {
    pub fn emit(&self) {
        let service = self.service.map_or("*", ServiceName::as_str);
        metrics().paused.get_or_create(&vec![("service", service.to_owned())]).set(i64::from(self.paused));
        tracing::info!(service, by = self.by, "{}", if self.paused { "paused" } else { "resumed" });
    }
}

/// Kafka can't be reached; the service goes on trying.
pub struct KafkaUnreachable {
    pub error: String,
}

impl KafkaUnreachable {
    pub fn emit(&self) {
        tracing::warn!("{}", self.error);
    }
}
