//! Trainings: built from state and histories, run anywhere, judged by `finish`. Rule: a job is a pure function of what it
//! was built from, so that after a restart it gives the same bytes again.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use prescale_domain::{CalendarEvent, Series, ServiceName, Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::{ForecastCrateError, Result};
use crate::models::{Forecaster, Lesson, Lstm, LstmSettings, ModelKind};
use crate::past::{Past, Request};

use super::score::mean_pinball;
use super::settings::OnlineSettings;

/// Origins that two models are compared at, at most.
const COMPARED_MAX: usize = 400;
const COMPARED_UPDATE_MAX: usize = 36;
/// A full training is judged on the newest part of the history, which it was not trained on: at most this long.
const HOLDOUT_MAX: Span = Span::from_minutes(12 * 60);
/// An update is judged on the newest windows.
const UPDATE_HOLDOUT: Span = Span::from_minutes(3 * 60);

/// Why a model is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainingKind {
    /// For the first time, or for a service that the model doesn't know.
    Initial,
    /// Because it is time.
    Scheduled,
    /// Because the error has grown.
    Drift,
    /// A few small steps from the replay buffer.
    Update,
}

impl TrainingKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Scheduled => "scheduled",
            Self::Drift => "drift",
            Self::Update => "update",
        }
    }
}

/// A training that was handed out and has not come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingJob {
    pub id: u64,
    pub kind: TrainingKind,
    pub started: Timestamp,
    /// When its result takes effect on the event clock.
    pub effective: Timestamp,
    /// Windows that start before this moment are trained on.
    pub until: Timestamp,
    pub services: BTreeSet<ServiceName>,
}

/// A training to be run.
#[derive(Clone, Debug)]
pub struct TrainingJob {
    pub id: u64,
    pub kind: TrainingKind,
    pub started: Timestamp,
    pub effective: Timestamp,
    until: Timestamp,
    settings: OnlineSettings,
    histories: BTreeMap<ServiceName, Series>,
    events: Vec<CalendarEvent>,
    base: Option<Arc<Vec<u8>>>,
}

/// What came of a training.
#[derive(Clone, Debug)]
pub struct TrainingResult {
    pub id: u64,
    pub kind: TrainingKind,
    pub started: Timestamp,
    pub(super) outcome: std::result::Result<Trained, String>,
}

/// A trained model and its figures on windows that it was not trained on.
#[derive(Clone, Debug)]
pub(super) struct Trained {
    pub model: Vec<u8>,
    pub figures: Figures,
}

/// Mean pinball loss over services, levels and leads, relative to damped Holt's on the same forecasts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures {
    pub challenger: f64,
    pub champion: Option<f64>,
    pub forecasts: usize,
}

impl TrainingJob {
    pub(super) fn new(
        pending: &PendingJob,
        settings: &OnlineSettings,
        histories: &BTreeMap<ServiceName, Series>,
        events: &[CalendarEvent],
        base: Option<Arc<Vec<u8>>>,
    ) -> Self {
        let earliest = (pending.until - settings.train_history).floor_to(settings.step);
        let part = |series: &Series| {
            let skipped = earliest.since(series.start).steps_up(series.step).min(series.values.len());
            let past = Past::before(series, pending.until);
            let values = past.values.get(skipped..).unwrap_or(&[]).to_vec();
            Series { start: past.moment(skipped), step: series.step, values }
        };
        let histories = histories
            .iter()
            .filter(|(service, _)| pending.services.contains(*service))
            .map(|(service, series)| (service.clone(), part(series)))
            .collect();
        let events = events.iter().filter(|event| event.known_at <= pending.started).cloned().collect();
        Self {
            id: pending.id,
            kind: pending.kind,
            started: pending.started,
            effective: pending.effective,
            until: pending.until,
            settings: settings.clone(),
            histories,
            events,
            base,
        }
    }

    /// Trains and compares; takes seconds.
    pub fn run(self) -> TrainingResult {
        let (id, kind, started) = (self.id, self.kind, self.started);
        // A crash is a failed training like any other: the serving model goes on.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.train()))
            .unwrap_or_else(|panic| Err(ForecastCrateError::Crashed(crash_text(&*panic))))
            .map_err(|error| error.to_string());
        TrainingResult { id, kind, started, outcome }
    }

    fn train(&self) -> Result<Trained> {
        let champion = self.base.as_ref().map(|bytes| Lstm::load(bytes)).transpose()?;
        let longest =
            self.histories.values().map(|series| series.end().since(series.start)).max().unwrap_or(Span::ZERO);
        let holdout = if self.kind == TrainingKind::Update {
            UPDATE_HOLDOUT
        } else {
            HOLDOUT_MAX.min(Span::from_millis(longest.millis() / 6))
        };
        let split = (self.until - holdout).floor_to(self.settings.step);
        let lesson = Lesson {
            histories: &self.histories,
            events: &self.events,
            train_until: split,
            end: self.until,
            horizon_steps: self.settings.horizon(),
            levels: &self.settings.levels,
        };
        let budget = &self.settings.budget;
        let settings = LstmSettings {
            fit_samples: budget.first_samples as usize,
            refit_samples: budget.refit_samples as usize,
            update_samples: budget.update_samples as usize,
            ..LstmSettings::default()
        };
        let seed = self.settings.seed ^ self.id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let challenger = match (&champion, self.kind) {
            (Some(champion), TrainingKind::Update) => {
                let mut model = champion.reseeded(settings, seed);
                model.update(&lesson)?;
                model
            }
            (Some(champion), TrainingKind::Scheduled | TrainingKind::Drift) => {
                let mut model = champion.reseeded(settings, seed);
                model.refit(&lesson)?;
                model
            }
            _ => {
                let mut model = Lstm::new(settings, seed);
                model.fit(&lesson)?;
                model
            }
        };
        let figures = self.compare(&lesson, &challenger, champion.as_ref())?;
        Ok(Trained { model: challenger.save(), figures })
    }

    /// Losses over the part of the lesson after `train_until`, as shares of Holt's, for an update of the champion's.
    fn compare(&self, lesson: &Lesson<'_>, challenger: &Lstm, champion: Option<&Lstm>) -> Result<Figures> {
        let mut holt = ModelKind::Holt.build(0);
        let update = self.kind == TrainingKind::Update;
        if !update {
            holt.fit(&Lesson { end: lesson.train_until, train_until: lesson.train_until - HOLDOUT_MAX, ..*lesson })?;
        }
        let compared_max = if update { COMPARED_UPDATE_MAX } else { COMPARED_MAX };
        let leads = crate::calibrate::leads(lesson.horizon_steps);
        let (mut sums, mut forecasts) = ([0.0_f64; 3], 0);
        let mut champion_knows_all = true;
        for (service, series) in &self.histories {
            let from = lesson.train_until.since(series.start).steps_up(series.step).max(1);
            let count = series.values.len();
            let stride = (count.saturating_sub(from) * self.histories.len() / compared_max).max(1);
            let mut own = [0.0_f64; 3];
            let mut scored = 0;
            for origin in (from..count).step_by(stride) {
                let past = Past::all(series).first(origin);
                let (horizon_steps, levels) = (lesson.horizon_steps, lesson.levels);
                let request = Request { service, past, horizon_steps, levels, events: &self.events, now: past.end() };
                let by_champion = champion.and_then(|model| model.predict(&request).ok());
                let by_yardstick = if update { by_champion.clone() } else { holt.predict(&request).ok() };
                let (Some(by_yardstick), Ok(by_challenger)) = (by_yardstick, challenger.predict(&request)) else {
                    continue;
                };
                champion_knows_all &= by_champion.is_some();
                for lead in &leads {
                    let Some(actual) = past_value(series, origin + lead - 1) else { continue };
                    let loss = |rows: &[Vec<f64>]| mean_pinball(actual, &rows[lead - 1], levels);
                    own[0] += loss(&by_yardstick);
                    own[1] += loss(&by_challenger);
                    own[2] += by_champion.as_ref().map_or(0.0, |rows| loss(rows));
                    scored += 1;
                }
                forecasts += 1;
            }
            // Each service counts the same, whatever its load.
            if scored > 0 && own[0] > 0.0 {
                sums[0] += 1.0;
                sums[1] += own[1] / own[0];
                sums[2] += own[2] / own[0];
            }
        }
        let services = sums[0].max(1.0);
        let champion = (champion.is_some() && champion_knows_all).then(|| sums[2] / services);
        Ok(Figures { challenger: sums[1] / services, champion, forecasts })
    }
}

fn crash_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}

fn past_value(series: &Series, index: usize) -> Option<f64> {
    series.values.get(index).copied().flatten()
}
