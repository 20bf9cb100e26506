//! Forecasting and learning while the services run, as a pure state machine. Rules: time and data are arguments; a
//! training works on copies and takes effect only through [`Online::finish`]; after [`Online::restore`] everything goes
//! on as if nothing had happened, byte for byte.

mod job;
mod score;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod uplift;

use std::collections::BTreeMap;
use std::sync::Arc;

use prescale_domain::{CalendarEvent, QuantileForecast, Series, ServiceName, Span, Timestamp};
use prescale_telemetry::forecast as happenings;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::models::{DAY, Forecaster as _, Holt, Lesson, Lstm, ModelKind, SeasonalNaive};
use crate::past::{Past, Request};

pub use job::{PendingJob, TrainingJob, TrainingKind, TrainingResult};
pub use settings::{BudgetSettings, DriftSettings, OnlineSettings, SettingFault};

use job::Trained;
use score::Scores;
use state::State;

/// Values that a service needs before anything is forecast.
const KNOWN_MIN: usize = 3;
/// A forecast needs a value this recent.
const RECENT: Span = Span::from_minutes(120);
/// The LSTM stops serving where its recent loss exceeds the best simple model's by this factor, and serves again below
/// the second.
const DEMOTE_ABOVE: f64 = 1.3;
const READMIT_BELOW: f64 = 1.1;
/// Outcomes before models are compared by their recent loss.
const COMPARE_MIN: f64 = 600.0;
/// The first model of a service is accepted up to this multiple of Holt's loss: online calibration and updates follow.
const ACCEPT_FIRST: f64 = 1.10;

/// Something that happened to the models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnlineEvent {
    pub at: Timestamp,
    /// `None` = all services.
    pub service: Option<ServiceName>,
    /// `drift`, `training-started`, `promoted`, `kept`, `training-failed`.
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
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServiceScores {
    /// By lead in steps: MASE of the median, coverage of the 90 % quantile in percent, number of outcomes.
    pub leads: BTreeMap<usize, LeadScore>,
    pub forecasts: BTreeMap<ModelKind, u64>,
}

/// Figures at one lead; absent without outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
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
}

/// Quantiles by step, and what they are from.
type Native = BTreeMap<ModelKind, Vec<Vec<f64>>>;

impl Online {
    /// Nothing learnt yet. `settings` have no faults: whoever read them has asked.
    pub fn new(settings: OnlineSettings, services: Vec<ServiceName>) -> Self {
        let state = State::new(&settings, services);
        Self { settings, state, lstm: None }
    }

    /// Continues from what [`Online::save`] wrote; services that are new begin, those that are gone are forgotten, and
    /// where horizon, step or levels were changed learning begins anew.
    ///
    /// # Errors
    /// Bytes of another format or version, or damaged ones.
    pub fn restore(bytes: &[u8], settings: OnlineSettings, services: Vec<ServiceName>) -> Result<Self> {
        let state = State::load(bytes, &settings, services)?;
        let lstm = state.lstm.as_ref().map(|bytes| Lstm::load(bytes)).transpose()?;
        Ok(Self { settings, state, lstm })
    }

    /// All state as bytes.
    pub fn save(&self) -> Vec<u8> {
        self.state.save()
    }

    /// The value of a closed window, in order of time: scores the forecasts that covered it. `None` = gap.
    pub fn observe(&mut self, service: &ServiceName, window_start: Timestamp, value: Option<f64>) -> Vec<OnlineEvent> {
        let Some(own) = self.state.services.get_mut(service) else { return Vec::new() };
        let at = window_start + self.settings.step;
        let Some(alarm) = own.scores.outcome(window_start, value.filter(|v| v.is_finite())) else {
            return Vec::new();
        };
        let text = format!(
            "error has grown: Page–Hinkley statistic {:.1} exceeds {:.1} after {} outcomes, mean error {:.2} widths",
            alarm.statistic, alarm.threshold, alarm.count, alarm.mean
        );
        self.state.drift_due = true;
        happenings::Drift { service, statistic: alarm.statistic, threshold: alarm.threshold }.emit();
        vec![OnlineEvent { at, service: Some(service.clone()), kind: "drift".into(), text }]
    }

    /// The forecast from the last window of `history`, calibrated, with the model that made it and why.
    ///
    /// # Errors
    /// The reason why there is none, as a code, and the time until there will be one where that is known.
    pub fn forecast(
        &mut self,
        service: &ServiceName,
        history: &Series,
        events: &[CalendarEvent],
        now: Timestamp,
    ) -> std::result::Result<QuantileForecast, Missing> {
        let missing = |reason: &str, until| Err(Missing { reason: reason.to_owned(), until });
        if !self.state.services.contains_key(service) {
            return missing("unknown-service", None);
        }
        let past = Past::all(history);
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
        self.fit_simple(service, history, known);
        let levels = self.settings.levels.clone();
        let horizon_steps = self.settings.horizon();
        let request = Request { service, past, horizon_steps, levels: &levels, events, now };
        let (native, uplifted) = self.ask_all(&request);
        let Some((kind, reason)) = self.choose(service, &native) else { return missing("model-failed", None) };
        let Some(own) = self.state.services.get_mut(service) else { return missing("unknown-service", None) };
        let mut rows = native[&kind].clone();
        own.scores.calibrate(kind, &mut rows);
        let origin = past.moment(past.values.len() - 1);
        let reason = if uplifted.contains(&kind) { format!("{reason}+event-uplift") } else { reason.to_owned() };
        own.scores.expect(origin, kind, &rows, native);
        let forecast = QuantileForecast {
            service: service.clone(),
            origin,
            step: past.step,
            model: kind.name().to_owned(),
            reason,
            levels,
            values: rows,
        };
        match forecast.validate() {
            Ok(()) => Ok(forecast),
            Err(_) => missing("model-failed", None),
        }
    }

    /// Refits the simple models of a service when its history has doubled, then daily: milliseconds.
    fn fit_simple(&mut self, service: &ServiceName, history: &Series, known: usize) {
        let Some(own) = self.state.services.get_mut(service) else { return };
        let day = DAY.steps_up(self.settings.step).max(1);
        let end = history.end();
        let due = match own.fitted_at {
            None => true,
            Some(at) => known >= own.fitted_known.saturating_mul(2).min(own.fitted_known + day) || end >= at + DAY,
        };
        if !due {
            return;
        }
        let length = end.since(history.start);
        let calibrate = Span::from_millis((length.millis() / 3).min(2 * DAY.millis()));
        let histories = BTreeMap::from([(service.clone(), history.clone())]);
        let lesson = Lesson {
            histories: &histories,
            events: &[],
            train_until: (end - calibrate).floor_to(self.settings.step),
            end,
            horizon_steps: self.settings.horizon(),
            levels: &self.settings.levels,
        };
        // A model that can't be fitted is left out of the choice.
        let (mut holt, mut naive) = (Holt::default(), SeasonalNaive::default());
        own.holt = holt.fit(&lesson).is_ok().then_some(holt);
        let has_season = length >= DAY;
        own.naive = (has_season && naive.fit(&lesson).is_ok()).then_some(naive);
        own.fitted_at = Some(end);
        own.fitted_known = known;
    }

    /// What every model that can says, with the uplift of events that it could not learn; and who needed that.
    fn ask_all(&self, request: &Request<'_>) -> (Native, Vec<ModelKind>) {
        let mut native = Native::new();
        let mut uplifted = Vec::new();
        let Some(own) = self.state.services.get(request.service) else { return (native, uplifted) };
        let mut add = |kind: ModelKind, said: Result<Vec<Vec<f64>>>, learnt: &dyn Fn(&CalendarEvent) -> bool| {
            let Ok(mut rows) = said else { return };
            let sound = rows.len() == request.horizon_steps
                && rows.iter().flatten().all(|value| value.is_finite() && *value >= 0.0)
                && rows.iter().all(|row| row.is_sorted());
            if sound && self.settings.uses(kind) {
                if uplift::apply(&mut rows, request, learnt) {
                    uplifted.push(kind);
                }
                native.insert(kind, rows);
            }
        };
        if let Some(naive) = &own.naive {
            add(ModelKind::SeasonalNaive, naive.predict(request), &|_| false);
        }
        if let Some(holt) = &own.holt {
            add(ModelKind::Holt, holt.predict(request), &|_| false);
        }
        if let Some(lstm) = &self.lstm {
            add(ModelKind::Lstm, lstm.predict(request), &|event| lstm.has_learnt(&event.kind));
        }
        (native, uplifted)
    }

    /// The LSTM where it may serve, else the simple model with the lower recent loss, Holt at first.
    fn choose(&mut self, service: &ServiceName, native: &Native) -> Option<(ModelKind, &'static str)> {
        let own = self.state.services.get_mut(service)?;
        let loss = |kind: ModelKind| own.scores.recent.get(&kind).and_then(|recent| recent.mean(COMPARE_MIN));
        let simple = [ModelKind::Holt, ModelKind::SeasonalNaive].into_iter().filter(|kind| native.contains_key(kind));
        let best = simple.min_by(|a, b| match (loss(*a), loss(*b)) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => std::cmp::Ordering::Equal,
        });
        if native.contains_key(&ModelKind::Lstm) {
            if let (Some(lstm), Some(simple)) = (loss(ModelKind::Lstm), best.and_then(loss)) {
                let limit = if own.demoted { READMIT_BELOW } else { DEMOTE_ABOVE };
                own.demoted = lstm > limit * simple;
            }
            if !own.demoted || best.is_none() {
                return Some((ModelKind::Lstm, "champion"));
            }
        }
        let reason = match (&self.lstm, self.settings.uses(ModelKind::Lstm)) {
            (_, false) => "configured",
            (None, true) => "cold-start",
            (Some(_), true) if own.demoted => "lstm-demoted",
            (Some(lstm), true) if lstm.knows(service) => "lstm-failed",
            (Some(_), true) => "cold-start",
        };
        best.map(|kind| (kind, reason))
    }

    /// A training that should start now, if any; only one at a time. The histories are those of all services up to the
    /// last closed window.
    pub fn due(
        &mut self,
        now: Timestamp,
        histories: &BTreeMap<ServiceName, Series>,
        events: &[CalendarEvent],
    ) -> Option<TrainingJob> {
        if self.state.pending.is_some() || !self.settings.uses(ModelKind::Lstm) {
            return None;
        }
        let length = |series: &Series| series.end().since(series.start);
        let ready: BTreeMap<&ServiceName, &Series> = histories
            .iter()
            .filter(|(service, series)| self.state.services.contains_key(*service) && series.step == self.settings.step)
            .filter(|(_, series)| length(series) >= self.settings.min_history)
            .filter(|(_, series)| Past::all(series).known() * 2 >= series.values.len())
            .collect();
        let longest = ready.values().map(|series| length(series)).max()?;
        let until = ready.values().map(|series| series.end()).max()?;
        let kind = self.kind_due(now, &ready, longest)?;
        let services = ready.keys().map(|service| (*service).clone()).collect();
        self.state.jobs += 1;
        let effective = now + self.settings.training_delay;
        let pending = PendingJob { id: self.state.jobs, kind, started: now, effective, until, services };
        if kind == TrainingKind::Update {
            self.state.last_update = Some(now);
        } else {
            self.state.last_fit = Some(now);
            self.state.attempted = pending.services.clone();
            self.state.next_fit = Some(now + longest.max(self.settings.min_history).min(self.settings.refit_every));
            self.state.last_update = Some(now);
            self.state.drift_due = false;
        }
        self.state.pending = Some(pending);
        happenings::TrainingStarted { kind: kind.name() }.emit();
        self.resume(histories, events)
    }

    fn kind_due(&self, now: Timestamp, ready: &BTreeMap<&ServiceName, &Series>, longest: Span) -> Option<TrainingKind> {
        let (Some(last_fit), Some(next_fit)) = (self.state.last_fit, self.state.next_fit) else {
            return Some(TrainingKind::Initial);
        };
        let Some(lstm) = &self.lstm else {
            // The first training failed or was refused: again with more history.
            let again = last_fit + Span::from_millis(longest.millis() / 4).min(self.settings.refit_every);
            return (now >= again).then_some(TrainingKind::Initial);
        };
        let new = |service: &ServiceName| !lstm.knows(service) && !self.state.attempted.contains(service);
        if ready.keys().any(|service| new(service)) && now >= last_fit + self.settings.update_every {
            return Some(TrainingKind::Initial);
        }
        if self.state.drift_due && now >= last_fit + self.settings.drift.cooldown {
            return Some(TrainingKind::Drift);
        }
        if now >= next_fit {
            return Some(TrainingKind::Scheduled);
        }
        let since = self.state.last_update.unwrap_or(last_fit);
        (now >= since + self.settings.update_every).then_some(TrainingKind::Update)
    }

    /// The training that has not come back.
    pub fn pending(&self) -> Option<&PendingJob> {
        self.state.pending.as_ref()
    }

    /// When the training that has not come back was started.
    pub fn pending_since(&self) -> Option<Timestamp> {
        self.state.pending.as_ref().map(|pending| pending.started)
    }

    /// The pending training once more, from the same inputs: for after a restart.
    pub fn resume(&self, histories: &BTreeMap<ServiceName, Series>, events: &[CalendarEvent]) -> Option<TrainingJob> {
        let pending = self.state.pending.as_ref()?;
        let base = self.state.lstm.clone();
        Some(TrainingJob::new(pending, &self.settings, histories, events, base))
    }

    /// The start of the pending training, as an event.
    pub fn started_event(&self) -> Option<OnlineEvent> {
        let pending = self.state.pending.as_ref()?;
        let text = format!(
            "{} training of the LSTM on {} services, data until {}",
            pending.kind.name(),
            pending.services.len(),
            pending.until
        );
        Some(OnlineEvent { at: pending.started, service: None, kind: "training-started".into(), text })
    }

    /// Takes the result of the pending training: it replaces the serving model only if it is better on windows that it
    /// was not trained on. A result that is not awaited changes nothing.
    pub fn finish(&mut self, now: Timestamp, result: TrainingResult) -> Vec<OnlineEvent> {
        if self.state.pending.as_ref().is_none_or(|pending| pending.id != result.id) {
            return Vec::new();
        }
        match result.outcome {
            Err(error) => self.failed(now, &error),
            Ok(trained) => self.judge(now, result.kind, trained),
        }
    }

    /// The pending training crashed: the last good model goes on.
    pub fn failed(&mut self, now: Timestamp, error: &str) -> Vec<OnlineEvent> {
        let pending = self.state.pending.take();
        pending.map(|pending| failure(now, pending.kind, error)).into_iter().collect()
    }

    fn judge(&mut self, now: Timestamp, kind: TrainingKind, trained: Trained) -> Vec<OnlineEvent> {
        self.state.pending = None;
        let figures = trained.figures;
        let (limit, against) = match figures.champion {
            Some(champion) => (champion, "the serving model"),
            None => (ACCEPT_FIRST, "the limit for a first model"),
        };
        // Without a holdout there is nothing to say against a first model.
        let better = if figures.forecasts == 0 {
            figures.champion.is_none() && self.lstm.is_none()
        } else {
            figures.challenger.is_finite() && figures.challenger < limit
        };
        let loaded = if better { Lstm::load(&trained.model) } else { Ok(Lstm::default()) };
        let lstm = match loaded {
            Ok(lstm) => lstm,
            Err(error) => return vec![failure(now, kind, &error.to_string())],
        };
        let text = format!(
            "{} training: loss {:.3} of {}'s on {} later forecasts, {against} has {limit:.3}",
            kind.name(),
            figures.challenger,
            if kind == TrainingKind::Update { "the serving model" } else { "damped Holt" },
            figures.forecasts
        );
        happenings::Judged { kind: kind.name(), promoted: better, loss: figures.challenger, limit }.emit();
        if better {
            self.lstm = Some(lstm);
            self.state.lstm = Some(Arc::new(trained.model));
            if kind != TrainingKind::Update {
                self.state.services.values_mut().for_each(|own| own.scores.restart_drift());
            }
        }
        let word = if better { "promoted" } else { "kept" };
        vec![OnlineEvent { at: now, service: None, kind: word.into(), text }]
    }

    /// Figures of what was served for `service` so far.
    pub fn scores(&self, service: &ServiceName) -> Option<ServiceScores> {
        let scores: &Scores = &self.state.services.get(service)?.scores;
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
        Some(ServiceScores { leads: leads.collect(), forecasts: scores.forecasts.clone() })
    }
}

fn failure(at: Timestamp, kind: TrainingKind, error: &str) -> OnlineEvent {
    happenings::TrainingFailed { kind: kind.name(), error }.emit();
    let text = format!("{} training failed, the serving model stays: {error}", kind.name());
    OnlineEvent { at, service: None, kind: "training-failed".into(), text }
}
