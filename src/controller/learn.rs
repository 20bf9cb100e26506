//! Models in the loop: trainings, the registry, and what happens to both. Rule: whatever happens to a model is kept and shown;
//! on the event clock a training takes effect at its time, neither earlier nor later.

use prescale_domain::{ServiceName, Span, Timestamp};
use prescale_forecast::online::{OnlineEvent, TrainingResult};
use prescale_forecast::past::Known;
use prescale_forecast::patterns;
use prescale_store::{Table, Write, service_time_key};

use crate::Controller;
use crate::control::covariates;
use crate::models::ModelNews;
use crate::training::{Training, finished};
use crate::view::ModelsView;

/// How often the patterns of a load are looked for.
const PATTERNS_EVERY: Span = Span::from_minutes(60);
/// Services whose patterns are looked for out of turn in one window, since none are known of them.
const FIRST_LOOKS: usize = 4;

impl Controller {
    /// Tells readers what serves and what is known of the load.
    pub(crate) fn show_models(&mut self, end: Timestamp, now: Timestamp) {
        let services = &self.settings.services;
        // Patterns take milliseconds: those of few services in each window, so that all are looked for once an hour.
        let windows = PATTERNS_EVERY.steps_up(self.settings.step).max(1);
        let mut first_looks = FIRST_LOOKS;
        let turn = end.millis().div_euclid(self.settings.step.millis().max(1)).rem_euclid(windows as i64) as usize;
        for (index, service) in services.iter().enumerate() {
            let series = self.features.series(&service.name);
            let known = self.show.patterns(&service.name);
            let is_first = known.is_none() && series.is_some() && first_looks > 0;
            first_looks -= usize::from(is_first);
            let due = is_first || index % windows == turn;
            let patterns =
                if due { series.map(|series| patterns::find(series, &service.opening_hours)) } else { known };
            let readiness = self.online.readiness(&service.name, series, now);
            let scores = self.online.scores(&service.name).unwrap_or_default();
            self.show.models(&service.name, ModelsView { readiness, scores, patterns });
        }
    }

    pub(crate) fn start_training(&mut self, now: Timestamp) {
        if self.training.is_some() {
            return;
        }
        let known = self.events.known(now);
        let covariates = covariates(&self.features);
        let all = Known { histories: self.features.all(), covariates: &covariates };
        if let Some(job) = self.online.due(now, all, &known) {
            self.training = Some(Training::start(job));
            let started = self.online.started_event();
            self.record_model_events(now, started.into_iter().collect());
        }
    }

    /// A training that was under way when the process died starts again from the same inputs.
    pub(crate) fn resume_training(&mut self) {
        let Some(started) = self.online.pending_since() else { return };
        let known = self.events.known(started);
        let covariates = covariates(&self.features);
        let all = Known { histories: self.features.all(), covariates: &covariates };
        if let Some(job) = self.online.resume(all, &known) {
            self.training = Some(Training::start(job));
        }
    }

    pub(crate) async fn wait_for_training(&mut self, now: Timestamp) {
        if self.training.as_ref().is_some_and(|training| training.effective <= now) {
            let result = finished(&mut self.training).await;
            self.take_training(now, result);
        }
    }

    pub(crate) fn take_training(&mut self, now: Timestamp, result: Result<TrainingResult, String>) {
        self.training = None;
        let events = match result {
            Ok(result) => self.online.finish(now, result),
            Err(error) => self.online.failed(now, &error),
        };
        self.record_model_events(now, events);
    }

    pub(crate) fn take_models(&mut self, now: Timestamp, news: ModelNews) {
        match news {
            ModelNews::Registered { generation, number } => self.online.registered(generation, number),
            ModelNews::Trouble(text) => {
                self.show.degrade("models", text.map(|text| format!("model registry: {text}")));
            }
            ModelNews::Champion { lineage, bytes } => match self.online.adopt(now, bytes, lineage) {
                Ok(events) => {
                    self.forecasts.clear();
                    self.record_model_events(now, events);
                }
                Err(error) => self.show.degrade("models", Some(format!("model registry: {error}"))),
            },
        }
    }

    pub(crate) fn record_model_events(&mut self, now: Timestamp, events: Vec<OnlineEvent>) {
        for (index, event) in events.into_iter().enumerate() {
            let mut key = service_time_key(event.service.as_ref().unwrap_or(&ServiceName::new("*")), now);
            key.extend_from_slice(event.kind.as_bytes());
            key.push(u8::try_from(index).unwrap_or(u8::MAX));
            let value =
                serde_json::json!({"at": now, "kind": event.kind, "service": event.service, "text": event.text});
            self.unwritten.push(Write { table: Table::ModelEvents, key, value: Some(value.to_string().into_bytes()) });
            self.show.model_event(now, event.service.as_ref(), &event.kind, &event.text);
        }
        if let Some(models) = &mut self.models {
            models.tell(now, &self.online);
        }
    }
}
