//! Forecasting and learning while the services run, as a pure state machine. Rules: time and data are arguments; a
//! training works on copies and takes effect only through [`Online::finish`]; after [`Online::restore`] everything goes
//! on as if nothing had happened, byte for byte.

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
use serde::{Deserialize, Serialize};

use crate::anomaly;
use crate::error::Result;
use crate::models::{DAY, Forecaster as _, Holt, Lesson, Lstm, ModelKind, SeasonalNaive};
use crate::past::{Past, Request};

pub use job::{Handmade, PendingJob, TrainingJob, TrainingKind, TrainingResult, train_by_hand};
pub use learn::Serving;
pub use readiness::Readiness;
pub use settings::{BudgetSettings, DriftSettings, OnlineSettings, SettingFault, TrialSettings};
pub use state::Lineage;

use score::{Scores, Sign};
use state::State;

/// Values that a service needs before anything is forecast.
const KNOWN_MIN: usize = 3;
/// The simple models are fitted on a history of which this much is cleaned of anomalies.
const CLEANED: Span = Span::from_minutes(7 * 24 * 60);
/// A forecast needs a value this recent.
const RECENT: Span = Span::from_minutes(120);
/// The LSTM stops serving where its recent loss exceeds the best simple model's by this factor, and serves again below
/// the second.
const DEMOTE_ABOVE: f64 = 1.3;
const READMIT_BELOW: f64 = 1.1;
/// Outcomes before models are compared by their recent loss.
const COMPARE_MIN: f64 = 600.0;
/// The LSTM stops serving where its recent loss exceeds the seasonal naive's (MASE above 1), and serves again below this
/// share of it.
const READMIT_NAIVE: f64 = 0.95;
/// The LSTM stops serving where less of the recent outcomes than the first lie below its calibrated 90 % quantile, if
/// another model does better, and serves again above the second.
const COVERED_MIN: f64 = 0.80;
const COVERED_AGAIN: f64 = 0.85;

/// Something that happened to the models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnlineEvent {
    pub at: Timestamp,
    /// `None` = all services.
    pub service: Option<ServiceName>,
    /// `drift`, `training-started`, `training-failed`, `updated`, `kept`, `challenger`, `promoted`, `rejected`, `confirmed`,
    /// `rolled-back`, `demoted`, `readmitted`, `model-unreadable`.
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
    /// That of the trial under way.
    shadow: Option<Lstm>,
}

/// Quantiles by step, and what they are from.
type Native = BTreeMap<ModelKind, Vec<Vec<f64>>>;

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
        if let Some(trial) = &mut self.state.trial {
            for (origin, serving, shadow) in outcome.pairs {
                trial.take(service, origin, (serving, shadow), (step, horizon_steps));
            }
        }
        for sign in outcome.signs {
            self.state.drift_due = true;
            let (test, statistic, threshold, text) = told(sign);
            happenings::Drift { service, test, statistic, threshold }.emit();
            events.push(OnlineEvent { at, service: Some(service.clone()), kind: "drift".into(), text });
        }
        events
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
        self.fit_simple(service, history, events, known);
        let levels = self.settings.levels.clone();
        let horizon_steps = self.settings.horizon();
        let request = Request { service, past, horizon_steps, levels: &levels, events, now };
        let (native, uplifted) = self.ask_all(&request);
        let Some((kind, reason)) = self.choose(service, &native, now) else { return missing("model-failed", None) };
        let Some(own) = self.state.services.get_mut(service) else { return missing("unknown-service", None) };
        let mut rows = native[&kind].clone();
        own.scores.calibrate(kind, &mut rows);
        let origin = past.moment(past.values.len() - 1);
        let mut reason = if uplifted.contains(&kind) { format!("{reason}+event-uplift") } else { reason.to_owned() };
        if self.hold(&request, kind, &mut rows) {
            reason.push_str("+anomaly-held");
        }
        let shadow = self.shadow.as_ref().and_then(|lstm| {
            let mut rows = lstm.predict(&request).ok()?;
            uplift::apply(&mut rows, &request, &|event| lstm.has_learnt(&event.kind));
            Some(rows)
        });
        let Some(own) = self.state.services.get_mut(service) else { return missing("unknown-service", None) };
        own.scores.expect(origin, kind, &rows, native, shadow.as_deref());
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
    fn fit_simple(&mut self, service: &ServiceName, history: &Series, events: &[CalendarEvent], known: usize) {
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
        // Older outliers weigh little, and this is on the way of a decision.
        let past = Past::all(history);
        let skipped = past.values.len().saturating_sub(past.steps(CLEANED));
        let newest = Past { start: past.moment(skipped), values: &past.values[skipped..], ..past };
        let found = anomaly::find(newest, service, events, end);
        let mut cleaned = history.clone();
        cleaned.values.truncate(skipped);
        cleaned.values.extend(anomaly::without(newest, &found));
        let histories = BTreeMap::from([(service.clone(), cleaned)]);
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

    /// Raises a forecast to what `kind` would say had the load not fallen without reason, or within a declared incident.
    /// Says whether anything changed.
    fn hold(&self, request: &Request<'_>, kind: ModelKind, rows: &mut [Vec<f64>]) -> bool {
        let Some(values) = anomaly::mended(request.past, request.service, request.events, request.now) else {
            return false;
        };
        let mended = Request { past: Past { values: &values, ..request.past }, ..*request };
        let (mut native, _) = self.ask_all(&mended);
        let Some(own) = self.state.services.get(request.service) else { return false };
        let Some(mut held) = native.remove(&kind) else { return false };
        own.scores.calibrate(kind, &mut held);
        let mut changed = false;
        for (value, held) in rows.iter_mut().flatten().zip(held.into_iter().flatten()) {
            changed |= held > *value;
            *value = value.max(held);
        }
        changed
    }

    /// The LSTM where it may serve, else the simple model with the lower recent loss, Holt at first.
    fn choose(&mut self, service: &ServiceName, native: &Native, now: Timestamp) -> Option<(ModelKind, &'static str)> {
        let own = self.state.services.get_mut(service)?;
        let loss = |kind: ModelKind| own.scores.recent.get(&kind).and_then(|recent| recent.mean(COMPARE_MIN));
        let simple = [ModelKind::Holt, ModelKind::SeasonalNaive].into_iter().filter(|kind| native.contains_key(kind));
        let best = simple.min_by(|a, b| match (loss(*a), loss(*b)) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => std::cmp::Ordering::Equal,
        });
        if native.contains_key(&ModelKind::Lstm) {
            let before = own.demoted;
            if let (Some(lstm), Some(best)) = (loss(ModelKind::Lstm), best)
                && let Some(simple) = loss(best)
            {
                let naive = loss(ModelKind::SeasonalNaive).filter(|_| native.contains_key(&ModelKind::SeasonalNaive));
                let covered = |kind| own.scores.covered.get(&kind).and_then(|recent| recent.mean(COMPARE_MIN));
                let limit = if before { READMIT_BELOW } else { DEMOTE_ABOVE };
                let naive_limit = if before { READMIT_NAIVE } else { 1.0 };
                let covered_limit = if before { COVERED_AGAIN } else { COVERED_MIN };
                let uncovered = match (covered(ModelKind::Lstm), covered(best)) {
                    (Some(lstm), Some(simple)) => lstm < covered_limit && simple > lstm,
                    _ => false,
                };
                let code = if lstm > limit * simple {
                    Some("lstm-demoted")
                } else if naive.is_some_and(|naive| lstm > naive_limit * naive) {
                    Some("lstm-worse-than-naive")
                } else if uncovered {
                    Some("lstm-out-of-coverage")
                } else {
                    None
                };
                own.demoted = code.is_some();
                // While it lasts, the reason is the first.
                if own.demoted != before {
                    own.demotion = code.map(str::to_owned);
                }
                if own.demoted != before {
                    let kind = if before { "readmitted" } else { "demoted" };
                    let text = format!(
                        "the LSTM {}: recent loss {lstm:.3}, {best} has {simple:.3}{}{}",
                        code.unwrap_or("serves again"),
                        naive.map(|naive| format!(", seasonal naive {naive:.3}")).unwrap_or_default(),
                        covered(ModelKind::Lstm)
                            .map(|c| format!(", {:.1} % covered at 0.9", 100.0 * c))
                            .unwrap_or_default()
                    );
                    happenings::Demoted { service, reason: code.unwrap_or("readmitted") }.emit();
                    let service = Some(service.clone());
                    self.state.notices.push(OnlineEvent { at: now, service, kind: kind.into(), text });
                }
            }
            if !own.demoted || best.is_none() {
                return Some((ModelKind::Lstm, "champion"));
            }
        }
        let reason = match (&self.lstm, self.settings.uses(ModelKind::Lstm)) {
            (_, false) => "configured",
            (None, true) => "cold-start",
            (Some(_), true) if own.demoted => match own.demotion.as_deref() {
                Some("lstm-worse-than-naive") => "lstm-worse-than-naive",
                Some("lstm-out-of-coverage") => "lstm-out-of-coverage",
                _ => "lstm-demoted",
            },
            (Some(lstm), true) if lstm.knows(service) => "lstm-failed",
            (Some(_), true) => "cold-start",
        };
        best.map(|kind| (kind, reason))
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
