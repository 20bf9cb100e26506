//! What happens to the models. Metrics: `prescale_forecast_*`.

use std::sync::OnceLock;

use prescale_domain::ServiceName;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::catalogue::{Labels, register};

struct Metrics {
    drifts: Family<Labels, Counter>,
    trainings: Family<Labels, Counter>,
    verdicts: Family<Labels, Counter>,
}

fn metrics() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| Metrics {
        drifts: register("forecast_drifts", "Alarms of the drift test, by service.", Family::default()),
        trainings: register("forecast_trainings", "Trainings started, by kind.", Family::default()),
        verdicts: register("forecast_verdicts", "Ends of trainings, by kind and verdict.", Family::default()),
    })
}

fn verdict(kind: &str, verdict: &str) {
    let labels = vec![("kind", kind.to_owned()), ("verdict", verdict.to_owned())];
    metrics().verdicts.get_or_create(&labels).inc();
}

/// The error of the served model has grown.
pub struct Drift<'a> {
    pub service: &'a ServiceName,
    pub statistic: f64,
    pub threshold: f64,
}

impl Drift<'_> {
    pub fn emit(&self) {
        metrics().drifts.get_or_create(&vec![("service", self.service.to_string())]).inc();
        let (statistic, threshold) = (self.statistic, self.threshold);
        tracing::warn!(service = %self.service, statistic, threshold, "forecast error has grown, training is due");
    }
}

/// A training was handed out.
pub struct TrainingStarted<'a> {
    pub kind: &'a str,
}

impl TrainingStarted<'_> {
    pub fn emit(&self) {
        metrics().trainings.get_or_create(&vec![("kind", self.kind.to_owned())]).inc();
        if self.kind == "update" {
            tracing::debug!(kind = self.kind, "training started");
        } else {
            tracing::info!(kind = self.kind, "training started");
        }
    }
}

/// A trained model was compared with the one that serves. Losses are shares of damped Holt's.
pub struct Judged<'a> {
    pub kind: &'a str,
    pub promoted: bool,
    pub loss: f64,
    pub limit: f64,
}

impl Judged<'_> {
    pub fn emit(&self) {
        verdict(self.kind, if self.promoted { "promoted" } else { "kept" });
        let (kind, loss, limit) = (self.kind, self.loss, self.limit);
        match (self.promoted, kind) {
            (true, "update") => tracing::debug!(kind, loss, limit, "model updated"),
            (false, "update") => tracing::debug!(kind, loss, limit, "update refused"),
            (true, _) => tracing::info!(kind, loss, limit, "model promoted"),
            (false, _) => tracing::info!(kind, loss, limit, "serving model kept"),
        }
    }
}

/// A training ended in an error; the serving model goes on.
pub struct TrainingFailed<'a> {
    pub kind: &'a str,
    pub error: &'a str,
}

impl TrainingFailed<'_> {
    pub fn emit(&self) {
        verdict(self.kind, "failed");
        tracing::warn!(kind = self.kind, error = self.error, "training failed, the serving model goes on");
    }
}
