//! Trainings: built from state and histories, run anywhere, judged by `finish`. Rule: a job is a pure function of what it
//! was built from, so that after a restart it gives the same bytes again.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use prescale_domain::{CalendarEvent, Series, ServiceName, Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::anomaly;
use crate::error::{ForecastCrateError, Result};
use crate::models::{Forecaster, Lesson, Lstm, LstmSettings, ModelKind};
use crate::past::{Covariate, Covariates, Known, Past, Request};
use crate::registry::Training;
use crate::rows::Rows;

use super::experts::Experts;
use super::score::mean_pinball;
use super::settings::OnlineSettings;
use super::trial::{Role, Trial, block_steps, relative};

/// Origins that two models are compared at, at most.
const COMPARED_MAX: usize = 400;
const COMPARED_UPDATE_MAX: usize = 36;
/// A full training is judged on the newest part of the history, which it was not trained on: at most this long.
const HOLDOUT_MAX: Span = Span::from_minutes(12 * 60);
/// After drift the newest windows are what is to be learnt; the shadow judges.
const DRIFT_HOLDOUT: Span = Span::from_minutes(60);
/// An update is judged on the newest windows.
const UPDATE_HOLDOUT: Span = Span::from_minutes(3 * 60);
/// A seed that makes a training crash in tests.
#[cfg(test)]
const CRASH: u64 = u64::MAX - 7;

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
    /// The models beside the LSTM, of each service for itself.
    Experts,
    /// By hand, outside of the loop.
    Manual,
}

impl TrainingKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Scheduled => "scheduled",
            Self::Drift => "drift",
            Self::Update => "update",
            Self::Experts => "experts",
            Self::Manual => "manual",
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
    /// Which of the models that served it starts from.
    #[serde(default)]
    pub(super) generation: u64,
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
    covariates: BTreeMap<ServiceName, Vec<(String, Series)>>,
    events: Vec<CalendarEvent>,
    base: Option<Arc<Vec<u8>>>,
    /// A challenger takes the same small steps as the model that serves: its trial, and itself.
    shadow: Option<(u64, Arc<Vec<u8>>)>,
}

/// What came of a training.
#[derive(Clone, Debug)]
pub struct TrainingResult {
    pub id: u64,
    pub kind: TrainingKind,
    pub started: Timestamp,
    pub(super) outcome: std::result::Result<Outcome, String>,
}

/// What was trained.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Lstm(Trained),
    Experts(BTreeMap<ServiceName, Experts>),
}

/// A trained model and its figures on windows that it was not trained on.
#[derive(Clone, Debug)]
pub(super) struct Trained {
    pub model: Vec<u8>,
    pub figures: Figures,
    pub training: Training,
    /// The challenger of that trial after the same small steps, where they made it no worse.
    pub shadow: Option<(u64, Vec<u8>)>,
}

/// Mean pinball loss over services, levels and leads, relative to damped Holt's on the same forecasts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Figures {
    pub challenger: f64,
    pub champion: Option<f64>,
    pub forecasts: usize,
    /// By how much the challenger's loss is below the champion's, relative to both, in blocks that do not overlap.
    pub blocks: Vec<f64>,
}

impl Figures {
    /// As a registry keeps them.
    pub(super) fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::from([("forecasts".to_owned(), self.forecasts as f64)]);
        if self.forecasts > 0 && self.challenger.is_finite() {
            metrics.insert("loss".to_owned(), self.challenger);
            metrics.extend(self.champion.map(|loss| ("champion_loss".to_owned(), loss)));
        }
        metrics
    }
}

impl TrainingJob {
    pub(super) fn new(
        pending: &PendingJob,
        settings: &OnlineSettings,
        known: Known<'_>,
        events: &[CalendarEvent],
        base: Option<Arc<Vec<u8>>>,
        trial: Option<&Trial>,
    ) -> Self {
        let updated = |trial: &&Trial| pending.kind == TrainingKind::Update && trial.role == Role::Challenger;
        let shadow = trial.filter(updated).map(|trial| (trial.job, Arc::clone(&trial.model)));
        let earliest = (pending.until - settings.train_history).floor_to(settings.step);
        let part = |series: &Series| {
            let skipped = earliest.since(series.start).steps_up(series.step).min(series.values.len());
            let past = Past::before(series, pending.until);
            let values = past.values.get(skipped..).unwrap_or(&[]).to_vec();
            Series { start: past.moment(skipped), step: series.step, values }
        };
        let (histories, covariates) = (known.histories.iter(), known.covariates.iter());
        let histories = histories.filter(|(service, _)| pending.services.contains(*service));
        let histories = histories.map(|(service, series)| (service.clone(), part(series))).collect();
        // The models beside the LSTM don't look at them.
        let is_read = pending.kind != TrainingKind::Experts;
        let covariates = covariates.filter(|(service, _)| is_read && pending.services.contains(*service));
        let parts = |own: &Vec<Covariate<'_>>| own.iter().map(|one| (one.name.to_owned(), part(one.series))).collect();
        let covariates = covariates.map(|(service, own)| (service.clone(), parts(own))).collect();
        let events = events.iter().filter(|event| event.known_at <= pending.started).cloned().collect();
        Self {
            id: pending.id,
            kind: pending.kind,
            started: pending.started,
            effective: pending.effective,
            until: pending.until,
            settings: settings.clone(),
            histories,
            covariates,
            events,
            base,
            shadow,
        }
    }

    /// One that crashes, for tests.
    #[cfg(test)]
    pub(super) fn broken(mut self) -> Self {
        self.settings.seed = CRASH;
        self
    }

    /// Trains and compares; takes seconds.
    pub fn run(self) -> TrainingResult {
        let (id, kind, started) = (self.id, self.kind, self.started);
        // A crash is a failed training like any other: the serving model goes on.
        let work = || match kind {
            TrainingKind::Experts => Ok(Outcome::Experts(self.fit_experts())),
            _ => self.train().map(Outcome::Lstm),
        };
        let outcome = catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|panic| Err(ForecastCrateError::Crashed(crash_text(&*panic))))
            .map_err(|error| error.to_string());
        TrainingResult { id, kind, started, outcome }
    }

    /// What nothing should be learnt from becomes a gap.
    fn clean(&mut self) {
        for (service, series) in &mut self.histories {
            let past = Past::all(series);
            let found = anomaly::find(past, service, &self.events, self.started);
            series.values = anomaly::without(past, &found);
        }
        // Nor is the effect of an incident learnt.
        self.events.retain(|event| !anomaly::is_incident(&event.kind));
    }

    /// The models beside the LSTM, of each service by itself.
    fn fit_experts(mut self) -> BTreeMap<ServiceName, Experts> {
        self.clean();
        let settings = &self.settings;
        let kinds = || settings.models.iter().copied().filter(|kind| *kind != ModelKind::Lstm);
        let shape = (settings.horizon(), &*settings.levels, settings.seed);
        let each = self.histories.into_iter().map(|(service, series)| {
            let fitted = Experts::fit(kinds(), &BTreeMap::from([(service.clone(), series)]), shape);
            (service, fitted)
        });
        each.collect()
    }

    fn train(mut self) -> Result<Trained> {
        #[cfg(test)]
        assert!(self.settings.seed != CRASH, "made to crash");
        self.clean();
        let champion = self.base.as_ref().map(|bytes| Lstm::load(bytes)).transpose()?;
        let longest =
            self.histories.values().map(|series| series.end().since(series.start)).max().unwrap_or(Span::ZERO);
        let holdout = match self.kind {
            TrainingKind::Update => UPDATE_HOLDOUT,
            TrainingKind::Drift => DRIFT_HOLDOUT.min(Span::from_millis(longest.millis() / 6)),
            _ => HOLDOUT_MAX.min(Span::from_millis(longest.millis() / 6)),
        };
        let split = (self.until - holdout).floor_to(self.settings.step);
        let covariates = borrowed(&self.covariates);
        let lesson = Lesson {
            histories: &self.histories,
            covariates: &covariates,
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
            device: self.settings.device,
            ..LstmSettings::default()
        };
        let seed = self.settings.seed ^ self.id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let challenger = match (&champion, self.kind) {
            (Some(champion), TrainingKind::Update) => {
                let mut model = champion.reseeded(settings.clone(), seed);
                model.update(&lesson)?;
                model
            }
            (Some(champion), TrainingKind::Drift) => {
                // As many steps as a first training takes, and as bold, half of them from the newest day and the other half
                // from all of the history, up to the newest window: a full training stops by what the newest day says, and
                // so never learns from it.
                let (update_samples, update_rate) = (settings.fit_samples, settings.fit_rate);
                let recent = LstmSettings { update_samples, update_rate, ..settings.clone() };
                let mut model = champion.reseeded(recent, seed);
                model.update(&lesson)?;
                model.reseeded(settings.clone(), seed)
            }
            (Some(champion), TrainingKind::Scheduled) => {
                let mut model = champion.reseeded(settings.clone(), seed);
                model.refit(&lesson)?;
                model
            }
            _ => {
                let mut model = Lstm::new(settings.clone(), seed);
                model.fit(&lesson)?;
                model
            }
        };
        let figures = self.compare(&lesson, &challenger, champion.as_ref())?;
        // One that can't be updated goes on as it is; its trial will tell.
        let stepped = |(trial, bytes): &(u64, Arc<Vec<u8>>)| {
            let former = Lstm::load(bytes).ok()?;
            let mut model = former.reseeded(settings.clone(), seed);
            model.update(&lesson).ok()?;
            let figures = self.compare(&lesson, &model, Some(&former)).ok()?;
            let better = figures.champion.is_some_and(|before| figures.challenger < before);
            better.then(|| (*trial, model.save()))
        };
        let shadow = self.shadow.as_ref().and_then(stepped);
        let training = Training {
            from: self.histories.values().map(|series| series.start).min().unwrap_or_default(),
            until: self.until,
            step: self.settings.step,
            horizon_steps: self.settings.horizon_steps,
            services: self.histories.keys().cloned().collect(),
        };
        Ok(Trained { model: challenger.save(), figures, training, shadow })
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
        let (block_origins, cycle) = block_steps(lesson.horizon_steps);
        let mut blocks: BTreeMap<usize, BTreeMap<&ServiceName, (f64, f64)>> = BTreeMap::new();
        for (service, series) in &self.histories {
            let from = lesson.train_until.since(series.start).steps_up(series.step).max(1);
            let count = series.values.len();
            let stride = (count.saturating_sub(from) * self.histories.len() / compared_max).max(1);
            let mut own = [0.0_f64; 3];
            let mut scored = 0;
            for origin in (from..count).step_by(stride) {
                let past = Past::all(series).first(origin).with_those_of(service, lesson.covariates);
                let (horizon_steps, levels) = (lesson.horizon_steps, lesson.levels);
                let request = Request { service, past, horizon_steps, levels, events: &self.events, now: past.end() };
                let by_champion = champion.and_then(|model| model.predict(&request).ok());
                let by_yardstick = if update { by_champion.clone() } else { holt.predict(&request).ok() };
                let (Some(by_yardstick), Ok(by_challenger)) = (by_yardstick, challenger.predict(&request)) else {
                    continue;
                };
                champion_knows_all &= by_champion.is_some();
                let at = origin - from;
                let in_block = by_champion.is_some().then_some(at / cycle).filter(|_| at % cycle < block_origins);
                for lead in &leads {
                    let Some(actual) = past_value(series, origin + lead - 1) else { continue };
                    let loss = |rows: &Rows| mean_pinball(actual, &rows[lead - 1], levels);
                    own[0] += loss(&by_yardstick);
                    own[1] += loss(&by_challenger);
                    own[2] += by_champion.as_ref().map_or(0.0, loss);
                    if let (Some(block), Some(rows)) = (in_block, &by_champion) {
                        let sums = blocks.entry(block).or_default().entry(service).or_default();
                        sums.0 += loss(rows);
                        sums.1 += loss(&by_challenger);
                    }
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
        let blocks = blocks.into_values().filter_map(|own| {
            let each: Vec<f64> = own.into_values().filter_map(|(champion, other)| relative(champion, other)).collect();
            (!each.is_empty()).then(|| each.iter().sum::<f64>() / each.len() as f64)
        });
        let blocks = blocks.collect();
        Ok(Figures { challenger: sums[1] / services, champion, forecasts, blocks })
    }
}

/// A model that was trained outside of the loop.
#[derive(Clone, Debug)]
pub struct Handmade {
    /// As it saves itself.
    pub model: Vec<u8>,
    /// `loss`: mean pinball loss as a share of damped Holt's on the newest part of the history, which it was not trained on;
    /// `champion_loss`: that of the model it started from; `forecasts`: how many were compared.
    pub metrics: BTreeMap<String, f64>,
    pub training: Training,
}

/// Trains the LSTM on all that is known, from `base` where it is given, as the loop would.
///
/// # Errors
/// Too little history, a base that can't be read, or a training that diverged or crashed.
pub fn train_by_hand<'a>(
    settings: &OnlineSettings,
    known: impl Into<Known<'a>>,
    base: Option<Vec<u8>>,
) -> Result<Handmade> {
    let known = known.into();
    let histories = known.histories;
    let until = histories.values().map(Series::end).max().unwrap_or_default();
    let step = settings.step;
    if let Some((service, series)) = histories.iter().find(|(_, series)| series.step != step) {
        let value = format!("{step}, history of `{service}` has {}", series.step);
        return Err(ForecastCrateError::Setting { name: "step", value, expected: "that of the history" });
    }
    let kind = if base.is_some() { TrainingKind::Scheduled } else { TrainingKind::Initial };
    let services = histories.keys().cloned().collect();
    let pending = PendingJob { id: 0, kind, started: until, effective: until, until, services, generation: 0 };
    let job = TrainingJob::new(&pending, settings, known, &[], base.map(Arc::new), None);
    let trained = catch_unwind(AssertUnwindSafe(|| job.train()))
        .unwrap_or_else(|panic| Err(ForecastCrateError::Crashed(crash_text(&*panic))))?;
    Ok(Handmade { metrics: trained.figures.metrics(), model: trained.model, training: trained.training })
}

fn borrowed(covariates: &BTreeMap<ServiceName, Vec<(String, Series)>>) -> Covariates<'_> {
    let each = covariates.iter().map(|(service, own)| {
        let own = own.iter().map(|(name, series)| Covariate { name, series });
        (service.clone(), own.collect())
    });
    each.collect()
}

fn crash_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}

fn past_value(series: &Series, index: usize) -> Option<f64> {
    series.values.get(index).copied().flatten()
}
