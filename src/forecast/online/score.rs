//! Forecasts against what came (prequential scores). Rule: a forecast is scored once, by the value of its window.

use std::collections::{BTreeMap, VecDeque};

use prescale_domain::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::accuracy::{Accuracy, pinball};
use crate::calibrate::Calibrator;
use crate::drift::{Adwin, Alarm, Change, InputChange, InputWatch, PageHinkley};
use crate::ensemble::Said;
use crate::models::ModelKind;
use crate::models::residual::at_level;
use crate::rows::Rows;

use super::settings::OnlineSettings;

/// The level whose coverage is scored.
const UPPER: f64 = 0.9;
/// Half of a model's recent loss is from the last 12 hours.
const HALF_LIFE: Span = Span::from_minutes(12 * 60);
/// The lead whose error the drift test watches.
const DRIFT_LEAD: Span = Span::from_minutes(5);
/// One outlier is no drift: an error counts as at most this many widths.
const ERROR_MAX: f64 = 3.0;
/// ADWIN looks through its window after this many values.
const ADWIN_EVERY: u32 = 4;

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sign {
    /// The mean error of the served model has grown.
    Error(Alarm),
    /// Newer errors are larger than older ones.
    Window(Change),
    /// The load is not what it was.
    Inputs(InputChange),
}

/// What came of the outcome of one window.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) signs: Vec<Sign>,
    /// Of each forecast that a model in the shadow made as well: its origin, the loss of the serving one, the shadow's.
    pub(crate) pairs: Vec<(Timestamp, f64, f64)>,
}

/// Models that are scored by themselves, beside their mix: the LSTM, and those that it has to be better than.
const JUDGED: [ModelKind; 3] = [ModelKind::SeasonalNaive, ModelKind::Holt, ModelKind::Lstm];

/// A forecast that waits for its outcomes: rows at the scored leads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Waiting {
    origin: Timestamp,
    /// What was served, calibrated.
    calibrated: Vec<Vec<f64>>,
    /// The mix before it was calibrated.
    #[serde(default)]
    mixed: Vec<Vec<f64>>,
    /// What calibration added to the mix, `[lead][level]`; empty in a state of before it was kept.
    #[serde(default)]
    corrections: Vec<f64>,
    /// What each judged model said, uncalibrated.
    native: BTreeMap<ModelKind, Vec<Vec<f64>>>,
    /// The calibrated 90 % quantile of each.
    #[serde(default)]
    upper: BTreeMap<ModelKind, Vec<f64>>,
    /// What calibration added to each.
    #[serde(default)]
    own_corrections: BTreeMap<ModelKind, Vec<f64>>,
    /// What the model in the shadow said.
    #[serde(default)]
    shadow: Option<Vec<Vec<f64>>>,
}

/// A decayed mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recent {
    sum: f64,
    weight: f64,
}

impl Recent {
    fn add(&mut self, value: f64, decay: f64) {
        self.sum = decay * self.sum + value;
        self.weight = decay * self.weight + 1.0;
    }

    /// The mean once the weight of `least` outcomes is in it.
    pub(crate) fn mean(&self, least: f64) -> Option<f64> {
        (self.weight >= least).then(|| self.sum / self.weight)
    }
}

/// Scores of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scores {
    levels: Vec<f64>,
    leads: Vec<usize>,
    step: Span,
    waiting: VecDeque<Waiting>,
    /// Of the mix; absent in a state of before there was one.
    #[serde(default)]
    calibrator: Option<Calibrator>,
    /// Of each judged model.
    calibrators: BTreeMap<ModelKind, Calibrator>,
    /// Mean pinball loss of each judged model over levels and leads, decayed.
    pub(crate) recent: BTreeMap<ModelKind, Recent>,
    /// Of what was served, by lead.
    pub(crate) served: Vec<Accuracy>,
    /// By the name of the model.
    pub(crate) forecasts: BTreeMap<String, u64>,
    /// Share of outcomes below the calibrated 90 % quantile of each judged model, decayed.
    #[serde(default)]
    pub(crate) covered: BTreeMap<ModelKind, Recent>,
    drift: PageHinkley,
    /// `None` = switched off, or read from a state without it: then begun when settings are known.
    #[serde(default)]
    adwin: Option<Adwin>,
    /// Errors since ADWIN was told their mean: neighbours overlap.
    #[serde(default)]
    errors: (f64, u32),
    #[serde(default)]
    inputs: Option<InputWatch>,
    previous: Option<f64>,
    difference: Recent,
}

impl Scores {
    pub(crate) fn new(settings: &OnlineSettings) -> Self {
        let leads = crate::calibrate::leads(settings.horizon());
        let drift = &settings.drift;
        Self {
            levels: settings.levels.clone(),
            served: vec![Accuracy::default(); leads.len()],
            leads,
            step: settings.step,
            waiting: VecDeque::new(),
            calibrator: None,
            calibrators: BTreeMap::new(),
            recent: BTreeMap::new(),
            forecasts: BTreeMap::new(),
            covered: BTreeMap::new(),
            drift: PageHinkley::new(drift.delta, drift.threshold, drift.warm_up),
            adwin: adwin(settings),
            errors: (0.0, 0),
            inputs: settings.drift.inputs.then(InputWatch::default),
            previous: None,
            difference: Recent::default(),
        }
    }

    /// Begins or ends the watches that the settings ask for; those that are there go on.
    pub(crate) fn watch(&mut self, settings: &OnlineSettings) {
        let watched = self.adwin.take();
        self.adwin = adwin(settings).map(|fresh| watched.unwrap_or(fresh));
        let watched = self.inputs.take();
        self.inputs = settings.drift.inputs.then(|| watched.unwrap_or_default());
    }

    pub(crate) fn leads(&self) -> &[usize] {
        &self.leads
    }

    /// Corrects a mix.
    pub(crate) fn correct(&self, rows: &mut Rows) {
        if let Some(calibrator) = &self.calibrator {
            calibrator.correct(rows);
        }
    }

    /// Corrects what `kind` said.
    fn calibrate(&self, kind: ModelKind, rows: &mut Rows) {
        if let Some(calibrator) = self.calibrators.get(&kind) {
            calibrator.correct(rows);
        }
    }

    /// Keeps a forecast until its outcomes come; the first of an origin counts.
    pub(crate) fn expect(
        &mut self,
        origin: Timestamp,
        model: &str,
        [calibrated, mixed]: [&Rows; 2],
        native: Said,
        shadow: Option<&Rows>,
    ) {
        if self.waiting.back().is_some_and(|last| last.origin >= origin) {
            return;
        }
        let leads = self.leads.clone();
        let row = |rows: &Rows, lead: &usize| rows.get(lead - 1).map(<[f64]>::to_vec);
        let pick = |rows: &Rows| leads.iter().filter_map(|lead| row(rows, lead)).collect::<Vec<_>>();
        let upper = |(kind, rows): (&ModelKind, &Rows)| {
            let mut rows = rows.clone();
            self.calibrate(*kind, &mut rows);
            (*kind, pick(&rows).iter().map(|row| at_level(&self.levels, row, UPPER)).collect())
        };
        let judged = || native.iter().filter(|(kind, _)| JUDGED.contains(kind));
        let upper = judged().map(upper).collect();
        let added = |calibrator: Option<&Calibrator>| match calibrator {
            Some(calibrator) => calibrator.corrections(),
            None => vec![0.0; leads.len() * self.levels.len()],
        };
        let corrections = added(self.calibrator.as_ref());
        let own_corrections = judged().map(|(kind, _)| (*kind, added(self.calibrators.get(kind)))).collect();
        let native = judged().map(|(kind, rows)| (*kind, pick(rows))).collect();
        let (calibrated, mixed, shadow) = (pick(calibrated), pick(mixed), shadow.map(pick));
        *self.forecasts.entry(model.to_owned()).or_default() += 1;
        self.waiting.push_back(Waiting {
            origin,
            calibrated,
            mixed,
            corrections,
            native,
            upper,
            own_corrections,
            shadow,
        });
    }

    /// Scores all forecasts of the window at `start`.
    pub(crate) fn outcome(&mut self, start: Timestamp, value: Option<f64>) -> Outcome {
        let longest = self.leads.last().copied().unwrap_or(1);
        let reach = Span::from_millis(self.step.millis().saturating_mul(longest as i64));
        while self.waiting.front().is_some_and(|first| first.origin + reach < start) {
            self.waiting.pop_front();
        }
        let Some(value) = value else {
            self.previous = None;
            return Outcome::default();
        };
        if let Some(previous) = self.previous.replace(value) {
            self.difference.add((value - previous).abs(), 1.0);
        }
        let drift_lead = DRIFT_LEAD.steps_up(self.step).max(1);
        let watched = self.leads.iter().rposition(|lead| *lead <= drift_lead).unwrap_or(0);
        let decay = 0.5_f64.powf(1.0 / (HALF_LIFE.steps_up(self.step).max(1) * self.leads.len()) as f64);
        let mut outcome = Outcome::default();
        let mut error = None;
        // Losses are compared over the same windows: nights are easier than days, so a newcomer begins a new comparison.
        let is_due = |waiting: &&Waiting| self.leads.contains(&start.since(waiting.origin).steps_up(self.step));
        let mut due = self.waiting.iter().filter(is_due).flat_map(|waiting| waiting.native.keys());
        if due.any(|kind| !self.recent.contains_key(kind)) {
            self.recent.clear();
            self.covered.clear();
        }
        for waiting in &self.waiting {
            let ahead = start.since(waiting.origin).steps_up(self.step);
            let Some(place) = self.leads.iter().position(|lead| *lead == ahead) else { continue };
            for (kind, rows) in &waiting.native {
                let Some(row) = rows.get(place) else { continue };
                let loss = mean_pinball(value, row, &self.levels);
                self.recent.entry(*kind).or_default().add(loss, decay);
                let calibrator =
                    self.calibrators.entry(*kind).or_insert_with(|| Calibrator::new(&self.levels, &self.leads));
                calibrator.add(ahead, row, value, waiting.own_corrections.get(kind).map_or(&[], Vec::as_slice));
            }
            if let Some(row) = waiting.mixed.get(place) {
                let fresh = || Calibrator::new(&self.levels, &self.leads);
                self.calibrator.get_or_insert_with(fresh).add(ahead, row, value, &waiting.corrections);
            }
            for (kind, upper) in &waiting.upper {
                let Some(upper) = upper.get(place) else { continue };
                self.covered.entry(*kind).or_default().add(f64::from(u8::from(value <= *upper)), decay);
            }
            if let Some(row) = waiting.shadow.as_ref().and_then(|rows| rows.get(place))
                && let Some(serving) = waiting.native.get(&ModelKind::Lstm).and_then(|rows| rows.get(place))
            {
                let loss = |row: &[f64]| mean_pinball(value, row, &self.levels);
                outcome.pairs.push((waiting.origin, loss(serving), loss(row)));
            }
            if let Some(row) = waiting.calibrated.get(place) {
                let at = |level| at_level(&self.levels, row, level);
                self.served[place].add(value, at(0.5), at(UPPER), UPPER);
            }
            // The mix follows a change by its weights; it is the LSTM that is trained again.
            let model = waiting.native.get(&ModelKind::Lstm).unwrap_or(&waiting.mixed);
            if place == watched
                && let Some(row) = model.get(place)
            {
                let at = |level| at_level(&self.levels, row, level);
                let width = (at(0.9) - at(0.1)).max(0.02 * at(0.5)).max(1e-6);
                error = Some(((value - at(0.5)).abs() / width).min(ERROR_MAX));
            }
        }
        if let Some(error) = error {
            outcome.signs.extend(self.drift.add(error).map(Sign::Error));
            outcome.signs.extend(self.window(error, drift_lead).map(Sign::Window));
        }
        let change = self.inputs.as_mut().and_then(|inputs| inputs.add(start, value));
        outcome.signs.extend(change.map(Sign::Inputs));
        outcome
    }

    /// Gives ADWIN the mean of as many errors as overlap, so that it sees values that are less alike than neighbours.
    fn window(&mut self, error: f64, overlap: usize) -> Option<Change> {
        let adwin = self.adwin.as_mut()?;
        self.errors.0 += error;
        self.errors.1 += 1;
        if (self.errors.1 as usize) < overlap {
            return None;
        }
        let mean = self.errors.0 / f64::from(self.errors.1);
        self.errors = (0.0, 0);
        let change = adwin.add(mean / ERROR_MAX).filter(Change::rose)?;
        // It would cut again and again while the newer errors come to prevail.
        adwin.restart();
        // In widths, as the other test says it.
        let (before, after) = (change.before * ERROR_MAX, change.after * ERROR_MAX);
        let (statistic, threshold) = (change.statistic * ERROR_MAX, change.threshold * ERROR_MAX);
        Some(Change { before, after, statistic, threshold, ..change })
    }

    /// Forgets what the model in the shadow said: another takes its place.
    pub(crate) fn forget_shadow(&mut self) {
        self.waiting.iter_mut().for_each(|waiting| waiting.shadow = None);
    }

    /// Mean absolute first difference of the load so far.
    pub(crate) fn scale(&self) -> Option<f64> {
        self.difference.mean(1.0).filter(|scale| *scale > 0.0)
    }

    /// Another model serves: its error has a mean of its own.
    pub(crate) fn restart_drift(&mut self) {
        self.drift.restart();
        if let Some(adwin) = &mut self.adwin {
            adwin.restart();
        }
        self.errors = (0.0, 0);
    }
}

fn adwin(settings: &OnlineSettings) -> Option<Adwin> {
    let delta = settings.drift.adwin_delta;
    (delta > 0.0).then(|| Adwin::new(delta, ADWIN_EVERY))
}

/// Mean pinball loss over the levels, in the unit of the load.
pub(crate) fn mean_pinball(actual: f64, row: &[f64], levels: &[f64]) -> f64 {
    let losses = row.iter().zip(levels).map(|(value, level)| pinball(actual, *value, *level));
    losses.sum::<f64>() / levels.len().max(1) as f64
}
