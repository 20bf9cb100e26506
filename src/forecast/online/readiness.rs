//! What serves a service, and how long it takes until something better will. Rule: a reason code always, a time wherever
//! it follows from what is known.

use prescale_domain::{Series, ServiceName, Span, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KNOWN_MIN, Online, RECENT};
use crate::models::ModelKind;
use crate::past::Past;

/// The state of one service's forecasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Readiness {
    /// Nothing is forecast: `unknown-service`, `no-history`, `no-recent-data`. The simple models serve: `configured` (the
    /// LSTM is switched off), `cold-start`, `gaps` (too little of the history is known to train on), `training`,
    /// `lstm-demoted`, `lstm-worse-than-naive`, `lstm-out-of-coverage`. The LSTM serves: `champion`.
    pub reason: String,
    /// Until there is a forecast: zero where there is one, `None` where that can't be known. Back-filled history removes it.
    pub forecast_in: Option<Span>,
    /// Until the LSTM may serve, at the earliest; zero where it may.
    pub model_in: Option<Span>,
}

impl Online {
    /// What serves `service` at `now`, and how long until something better will. `history` is all that is known of it.
    pub fn readiness(&self, service: &ServiceName, history: Option<&Series>, now: Timestamp) -> Readiness {
        let said = |reason: &str, forecast_in, model_in| Readiness { reason: reason.to_owned(), forecast_in, model_in };
        let Some(own) = self.state.services.get(service) else { return said("unknown-service", None, None) };
        let step = self.settings.step;
        let past = history.map(Past::all);
        let known = past.map_or(0, |past| past.known());
        let model_in = self.model_in(service, past, now);
        if known < KNOWN_MIN {
            let left = Span::from_millis((KNOWN_MIN - known) as i64 * step.millis());
            return said("no-history", Some(left), model_in);
        }
        if past.is_some_and(|past| past.newest(past.steps(RECENT)).is_none()) {
            return said("no-recent-data", None, None);
        }
        let reason = if !self.settings.uses(ModelKind::Lstm) {
            "configured"
        } else if self.lstm.as_ref().is_some_and(|lstm| lstm.knows(service)) {
            if own.demoted { own.demotion.as_deref().unwrap_or("lstm-demoted") } else { "champion" }
        } else if self.state.pending.as_ref().is_some_and(|job| job.services.contains(service)) {
            "training"
        } else if model_in.is_none() {
            "gaps"
        } else {
            "cold-start"
        };
        said(reason, Some(Span::ZERO), model_in)
    }

    /// `None` where the LSTM is switched off or demoted, or where nothing can be trained on.
    fn model_in(&self, service: &ServiceName, past: Option<Past<'_>>, now: Timestamp) -> Option<Span> {
        let own = self.state.services.get(service)?;
        if !self.settings.uses(ModelKind::Lstm) {
            return None;
        }
        if self.lstm.as_ref().is_some_and(|lstm| lstm.knows(service)) {
            return (!own.demoted).then_some(Span::ZERO);
        }
        if let Some(job) = self.state.pending.as_ref().filter(|job| job.services.contains(service)) {
            return Some(job.effective.since(now));
        }
        let (known, length) = past.map_or((0, 0), |past| (past.known(), past.values.len()));
        if length > 0 && known * 2 < length {
            return None;
        }
        let needed = self.settings.min_history.steps_up(self.settings.step);
        let left = Span::from_millis(needed.saturating_sub(length) as i64 * self.settings.step.millis());
        // One that failed or was refused is tried again later.
        let again = self.state.attempted.contains(service).then_some(self.state.next_fit).flatten();
        Some(again.map_or(left, |at| at.since(now).max(left)) + self.settings.training_delay)
    }
}
