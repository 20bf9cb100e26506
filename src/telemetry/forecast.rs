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
    demotions: Family<Labels, Counter>,
}

fn metrics() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| Metrics {
        drifts: register("forecast_drifts", "Alarms of the drift tests, by service and test.", Family::default()),
        trainings: register("forecast_trainings", "Trainings started, by kind.", Family::default()),
        demotions: register(
            "forecast_demotions",
            "Times that the LSTM stopped or began to serve again, by service and reason.",
            Family::default(),
        ),
        verdicts: register("forecast_verdicts", "Ends of trainings, by kind and verdict.", Family::default()),
    })
}

fn verdict(kind: &str, verdict: &str) {
    let labels = vec![("kind", kind.to_owned()), ("verdict", verdict.to_owned())];
    metrics().verdicts.get_or_create(&labels).inc();
}

/// The error of the served model has grown, or the load has changed.
pub struct Drift<'a> {
    pub service: &'a ServiceName,
    /// `page-hinkley`, `adwin`, `kolmogorov-smirnov`.
    pub test: &'static str,
    pub statistic: f64,
    pub threshold: f64,
}

impl Drift<'_> {
    pub fn emit(&self) {
        let labels = vec![("service", self.service.to_string()), ("test", self.test.to_owned())];
        metrics().drifts.get_or_create(&labels).inc();
        let (test, statistic, threshold) = (self.test, self.statistic, self.threshold);
        tracing::warn!(service = %self.service, test, statistic, threshold, "drift, training is due");
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

/// A trial of one model in the shadow of another has ended.
pub struct TrialEnded<'a> {
    /// Of the training that the newer model came from.
    pub kind: &'a str,
    /// `promoted`, `rejected`, `confirmed`, `rolled-back`.
    pub verdict: &'a str,
    pub evidence: &'a str,
}

impl TrialEnded<'_> {
    pub fn emit(&self) {
        verdict(self.kind, self.verdict);
        let (kind, word, evidence) = (self.kind, self.verdict, self.evidence);
        if word == "rolled-back" {
            tracing::warn!(kind, evidence, "the model that served before serves again");
        } else {
            tracing::info!(kind, verdict = word, evidence, "trial ended");
        }
    }
}

/// The LSTM of a service stopped serving by itself, or serves again (`readmitted`).
pub struct Demoted<'a> {
    pub service: &'a ServiceName,
    pub reason: &'a str,
}

impl Demoted<'_> {
    pub fn emit(&self) {
        let labels = vec![("service", self.service.to_string()), ("reason", self.reason.to_owned())];
        metrics().demotions.get_or_create(&labels).inc();
        tracing::info!(service = %self.service, reason = self.reason, "the LSTM is weighed against the simple models");
    }
}

/// A saved model can't be read; the last good one serves.
pub struct ModelUnreadable<'a> {
    pub error: &'a str,
}

impl ModelUnreadable<'_> {
    pub fn emit(&self) {
        tracing::warn!(error = self.error, "a saved model can't be read");
    }
}
