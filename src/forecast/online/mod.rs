//! Forecasting and learning while the services run, as a pure state machine. Rules: time and data are arguments; a
//! training works on copies and takes effect only through [`Online::finish`]; after [`Online::restore`] everything goes
//! on as if nothing had happened, byte for byte.

mod admit;
mod experts;
mod job;
mod learn;
mod readiness;
mod score;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod trial;
mod uplift;

use std::collections::BTreeMap;

use prescale_domain::{CalendarEvent, QuantileForecast, Series, ServiceName, Span, Timestamp};
use prescale_telemetry::forecast as happenings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::anomaly;
use crate::ensemble::{ENSEMBLE, Said};
use crate::error::Result;
use crate::models::{DAY, Forecaster as _, Lstm, ModelKind};
use crate::past::{Past, Request};
use crate::rows::Rows;

pub use job::{Handmade, PendingJob, TrainingJob, TrainingKind, TrainingResult, train_by_hand};
pub use learn::Serving;
pub use readiness::Readiness;
pub use settings::{BudgetSettings, DriftSettings, OnlineSettings, SettingFault, TrialSettings};
pub use state::Lineage;

use experts::Experts;
use score::{Scores, Sign};
use state::State;

/// Values that a service needs before anything is forecast.
const KNOWN_MIN: usize = 3;
/// The simple models are fitted on a history of which this much is cleaned of anomalies.
const CLEANED: Span = Span::from_minutes(7 * 24 * 60);
/// A forecast needs a value this recent.
const RECENT: Span = Span::from_minutes(120);
/// Something that happened to the models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnlineEvent {
    pub at: Timestamp,
    /// `None` = all services.
    pub service: Option<ServiceName>,
    /// `drift`, `training-started`, `training-failed`, `refitted`, `updated`, `kept`, `challenger`, `promoted`, `rejected`,
    /// `confirmed`, `rolled-back`, `demoted`, `readmitted`, `model-unreadable`.
    pub kind: String,
    /// The evidence, as a sentence.
    pub text: String,
}

/// Why there is no forecast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// `no-history`, `no-recent-data`, `unknown-service`, `model-failed`.
    pub reason: String,
    /// Time until there will be one, where it is known.
    pub until: Option<Span>,
}

/// Prequential figures of what was served for one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct ServiceScores {
    /// By lead in steps: MASE of the median, coverage of the 90 % quantile in percent, number of outcomes.
    pub leads: BTreeMap<usize, LeadScore>,
    /// Forecasts by the model that made them.
    pub forecasts: BTreeMap<String, u64>,
    /// Weights of the models in the median at the end of the horizon; they sum to 1.
    pub weights: BTreeMap<ModelKind, f64>,
}

/// Figures at one lead; absent without outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct LeadScore {
    pub mase: Option<f64>,
    pub pinball_p90: Option<f64>,
    pub coverage_p90_pct: Option<f64>,
    pub outcomes: u64,
}

/// The models of all services and their learning.
#[derive(Clone, Debug)]
pub struct Online {
    settings: OnlineSettings,
    state: State,
    lstm: Option<Lstm>,
    /// That of the trial under way.
    shadow: Option<Lstm>,
}

impl Online {
    /// Nothing learnt yet. `settings` have no faults: whoever read them has asked.
    pub fn new(settings: OnlineSettings, services: Vec<ServiceName>) -> Self {
        let state = State::new(&settings, services);
        Self { settings, state, lstm: None, shadow: None }
    }

    /// Continues from what [`Online::save`] wrote; services that are new begin, those that are gone are forgotten, and
    /// where horizon, step or levels were changed learning begins anew.
    ///
    /// A model in it that can't be read is left out and told by the next [`Online::observe`].
    ///
    /// # Errors
    /// Bytes of another format or version, or damaged ones.
    pub fn restore(bytes: &[u8], settings: OnlineSettings, services: Vec<ServiceName>) -> Result<Self> {
        let state = State::load(bytes, &settings, services)?;
        let mut online = Self { settings, state, lstm: None, shadow: None };
        online.read_models();
        Ok(online)
    }

    /// All state as bytes.
    pub fn save(&self) -> Vec<u8> {
        self.state.save()
    }

    /// The value of a closed window, in order of time: scores the forecasts that covered it. `None` = gap.
    pub fn observe(&mut self, service: &ServiceName, window_start: Timestamp, value: Option<f64>) -> Vec<OnlineEvent> {
        let mut events = std::mem::take(&mut self.state.notices);
        let at = window_start + self.settings.step;
        let (step, horizon_steps) = (self.settings.step, self.settings.horizon());
        if let Some(trial) = &mut self.state.trial {
            trial.advance(window_start, step, horizon_steps);
            events.extend(self.settle(window_start));
        }
        let Some(own) = self.state.services.get_mut(service) else { return events };
        let outcome = own.scores.outcome(window_start, value.filter(|v| v.is_finite()));
        own.mix.observe(window_start, value);
        if let Some(trial) = &mut self.state.trial {
            for (origin, serving, shadow) in outcome.pairs {
                trial.take(service, origin, (serving, shadow), (step, horizon_steps));
            }
        }
        for sign in outcome.signs {
            (self.state.drift_due, self.state.experts_due) = (true, true);
            let (test, statistic, threshold, text) = told(sign);
            happenings::Drift { service, test, statistic, threshold }.emit();
            events.push(OnlineEvent { at, service: Some(service.clone()), kind: "drift".into(), text });
        }
        events
    }

    /// The forecast from the last window of `past`, which is all that is known of the service: what the models say, mixed and calibrated, and whether the LSTM takes
    /// part or why not.
    ///
    /// # Errors
    /// The reason why there is none, as a code, and the time until there will be one where that is known.
    pub fn forecast<'a>(
        &mut self,
        service: &ServiceName,
        past: impl Into<Past<'a>>,
        events: &[CalendarEvent],
        now: Timestamp,
    ) -> std::result::Result<QuantileForecast, Missing> {
        let missing = |reason: &str, until| Err(Missing { reason: reason.to_owned(), until });
        if !self.state.services.contains_key(service) {
            return missing("unknown-service", None);
        }
        let past = past.into();
        if past.newest(past.values.len()).is_none() {
            return missing("no-history", Some(Span::from_millis(KNOWN_MIN as i64 * past.step.millis())));
        }
        if past.newest(past.steps(RECENT)).is_none() {
            return missing("no-recent-data", None);
        }
        let known = past.known();
        if known < KNOWN_MIN {
            return missing("no-history", Some(Span::from_millis((KNOWN_MIN - known) as i64 * past.step.millis())));
        }
        self.fit_quick(service, past, events, known);
        let levels = self.settings.levels.clone();
        let horizon_steps = self.settings.horizon();
        let request = Request { service, past, horizon_steps, levels: &levels, events, now };
        let (native, uplifted) = self.ask_all(&request);
        let reason = self.admit(service, &native, now);
        let Some(own) = self.state.services.get(service) else { return missing("unknown-service", None) };
        let mix = |mut said: Said| {
            if own.demoted && said.len() > 1 {
                said.remove(&ModelKind::Lstm);
            }
            let model = match said.first_key_value() {
                Some((only, _)) if said.len() == 1 => only.name(),
                _ => ENSEMBLE,
            };
            Some((own.mix.combine(&said)?, model))
        };
        let Some((mixed, model)) = mix(native.clone()) else { return missing("model-failed", None) };
        let mut rows = mixed.clone();
        own.scores.correct(&mut rows);
        let mut reason = if uplifted { format!("{reason}+event-uplift") } else { reason.to_owned() };
        // What to say had the load not fallen without reason, or within a declared incident, if that is more.
        let held = anomaly::mended(past, service, events, now).and_then(|values| {
            let request = Request { past: Past { values: &values, ..past }, ..request };
            let (mut held, _) = mix(self.ask_all(&request).0)?;
            own.scores.correct(&mut held);
            Some(held)
        });
        let mut raised = false;
        for (value, held) in rows.values_mut().iter_mut().zip(held.iter().flat_map(Rows::values)) {
            raised |= *held > *value;
            *value = value.max(*held);
        }
        if raised {
            reason.push_str("+anomaly-held");
        }
        let origin = past.moment(past.values.len() - 1);
        let shadow = self.shadow.as_ref().and_then(|lstm| {
            let mut rows = lstm.predict(&request).ok()?;
            uplift::apply(&mut rows, &request, &|event| lstm.has_learnt(&event.kind));
            Some(rows)
        });
        let Some(own) = self.state.services.get_mut(service) else { return missing("unknown-service", None) };
        own.mix.expect(origin, &native);
        own.scores.expect(origin, model, [&rows, &mixed], native, shadow.as_ref());
        let forecast = QuantileForecast {
            service: service.clone(),
            origin,
            step: past.step,
            model: model.to_owned(),
            reason,
            levels,
            values: rows.into(),
        };
        match forecast.validate() {
            Ok(()) => Ok(forecast),
            Err(_) => missing("model-failed", None),
        }
    }

    /// Fits the quick models of a service until it has a day of history, each time that has doubled, and where there are
    /// none: milliseconds. After that they are fitted by trainings.
    fn fit_quick(&mut self, service: &ServiceName, past: Past<'_>, events: &[CalendarEvent], known: usize) {
        let Some(own) = self.state.services.get_mut(service) else { return };
        let kinds: Vec<ModelKind> = self.settings.models.iter().copied().filter(|kind| !kind.is_costly()).collect();
        if kinds.is_empty() {
            return;
        }
        let day = DAY.steps_up(self.settings.step).max(1);
        let grown = own.fitted_known < day && known >= own.fitted_known.saturating_mul(2).min(day);
        if !own.experts.is_empty() && !grown {
            return;
        }
        let end = past.end();
        // Older outliers weigh little, and this is on the way of a decision.
        let skipped = past.values.len().saturating_sub(past.steps(CLEANED));
        let newest = Past { start: past.moment(skipped), values: &past.values[skipped..], ..past };
        let found = anomaly::find(newest, service, events, end);
        let mut values = past.values[..skipped].to_vec();
        values.extend(anomaly::without(newest, &found));
        let cleaned = Series { start: past.start, step: past.step, values };
        let histories = BTreeMap::from([(service.clone(), cleaned)]);
        let shape = (self.settings.horizon(), &*self.settings.levels, self.settings.seed);
        own.experts.replace(Experts::fit(kinds.into_iter(), &histories, shape));
        own.fitted_known = known;
    }

    /// What every model that can says, with the uplift of events that it could not learn; and whether any needed that.
    fn ask_all(&self, request: &Request<'_>) -> (Said, bool) {
        let (mut said, mut uplifted) = (Said::new(), false);
        let Some(own) = self.state.services.get(request.service) else { return (said, uplifted) };
        let mut add = |kind: ModelKind, rows: Result<Rows>, learnt: &dyn Fn(&CalendarEvent) -> bool| {
            let Ok(mut rows) = rows else { return };
            let sound = rows.len() == request.horizon_steps && rows.is_sound() && rows.iter().all(<[f64]>::is_sorted);
            if sound && self.settings.uses(kind) {
                uplifted |= uplift::apply(&mut rows, request, learnt);
                said.insert(kind, rows);
            }
        };
        for (kind, model) in own.experts.iter() {
            add(kind, model.predict(request), &|_| false);
        }
        if let Some(lstm) = &self.lstm {
            add(ModelKind::Lstm, lstm.predict(request), &|event| lstm.has_learnt(&event.kind));
        }
        (said, uplifted)
    }

    /// Figures of what was served for `service` so far.
    pub fn scores(&self, service: &ServiceName) -> Option<ServiceScores> {
        let own = self.state.services.get(service)?;
        let scores: &Scores = &own.scores;
        let scale = scores.scale();
        let leads = scores.leads().iter().zip(&scores.served).map(|(lead, sums)| {
            let score = LeadScore {
                mase: scale.and_then(|scale| sums.mase(scale)),
                pinball_p90: sums.pinball(),
                coverage_p90_pct: sums.coverage_pct(),
                outcomes: sums.count(),
            };
            (*lead, score)
        });
        let weights = own.mix.weights(self.settings.horizon(), 0.5).unwrap_or_default();
        Some(ServiceScores { leads: leads.collect(), forecasts: scores.forecasts.clone(), weights })
    }
}

/// The test, its statistic and limit, and the evidence as a sentence.
fn told(sign: Sign) -> (&'static str, f64, f64, String) {
    match sign {
        Sign::Error(alarm) => {
            let text = format!(
                "error has grown: Page–Hinkley statistic {:.1} exceeds {:.1} after {} outcomes, mean error {:.2} widths",
                alarm.statistic, alarm.threshold, alarm.count, alarm.mean
            );
            ("page-hinkley", alarm.statistic, alarm.threshold, text)
        }
        Sign::Window(change) => {
            let text = format!(
                "error has grown: ADWIN cuts its window, the mean error of the newer {} values is {:.2} widths and was {:.2} before, distance {:.2} exceeds {:.2}",
                change.kept, change.after, change.before, change.statistic, change.threshold
            );
            ("adwin", change.statistic, change.threshold, text)
        }
        Sign::Inputs(change) => {
            let text = format!(
                "load has changed: Kolmogorov–Smirnov statistic {:.2} of the last {} hours against {} before exceeds {:.2}, level × {:.2}",
                change.statistic, change.recent, change.reference, change.threshold, change.factor
            );
            ("kolmogorov-smirnov", change.statistic, change.threshold, text)
        }
    }
}
