//! Rolling-origin evaluation of models and their ensemble on a history. Rules: a forecast sees nothing after its origin;
//! whatever learns, learns from outcomes that had come by then; no clock.

mod history;
mod report;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;

use prescale_domain::{DEFAULT_QUANTILES, Series, ServiceName, Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::accuracy::mase_scale;
use crate::calibrate::Calibrator;
use crate::ensemble::{ENSEMBLE, Ensemble, EnsembleSettings, Said};
use crate::error::{ForecastCrateError, Result};
use crate::models::{DAY, Forecaster, Lesson, ModelKind};
use crate::past::{Covariates, Past, Request};

pub use history::parse_csv;
pub use report::{HorizonReport, Outcome, Report, horizon_name};

/// At most this much before the test is looked at.
const HISTORY_MAX: Span = Span::from_minutes(21 * 24 * 60);
/// Error quantiles are measured on at most this much before a fit.
const RESIDUALS: Span = Span::from_minutes(2 * 24 * 60);

/// What is evaluated: a model by itself, or the mix of the ensemble's experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    Model(ModelKind),
    Ensemble,
}

impl Contender {
    /// The name in options and results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model(kind) => kind.name(),
            Self::Ensemble => ENSEMBLE,
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Contender {
    type Err = ForecastCrateError;

    fn from_str(name: &str) -> Result<Self> {
        if name == ENSEMBLE { Ok(Self::Ensemble) } else { name.parse().map(Self::Model) }
    }
}

/// What to evaluate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluateSettings {
    /// Parameters are chosen on windows before this moment; from here to `test_from` the ensemble and the calibration learn
    /// as in service.
    pub train_until: Timestamp,
    pub test_from: Timestamp,
    pub test_to: Timestamp,
    /// Horizon h of the origin window `[t, t + step)` is the window that starts at `t + h`.
    pub horizons: Vec<Span>,
    pub models: Vec<Contender>,
    pub ensemble: EnsembleSettings,
    /// Fit models again once a day of the test, on what had come by then.
    pub online: bool,
    /// Origins that count. Forecasts are made at every window, as in service, so that learning does not depend on this.
    pub origin_every: Span,
    pub seed: u64,
}

impl Default for EvaluateSettings {
    fn default() -> Self {
        Self {
            train_until: Timestamp::MIN,
            test_from: Timestamp::MIN,
            test_to: Timestamp::MAX,
            horizons: [5, 10, 15, 30, 60].map(Span::from_minutes).to_vec(),
            models: ModelKind::EACH.into_iter().map(Contender::Model).chain([Contender::Ensemble]).collect(),
            ensemble: EnsembleSettings::default(),
            online: false,
            origin_every: Span::from_minutes(5),
            seed: 1,
        }
    }
}

/// What an evaluation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Fit(ModelKind),
    Test,
}

/// Fits the models and forecasts from every window of the test; what `past` has beside the load is for the models that look
/// at it. `progress` hears the share done in [0, 1] at each change of
/// the stage and now and then within.
///
/// # Errors
/// Bounds outside the history. A model that fails is left out and named in the report.
pub fn evaluate<'a>(
    past: impl Into<Past<'a>>,
    settings: &'a EvaluateSettings,
    progress: &mut dyn FnMut(f64, Stage),
) -> Result<Report> {
    let past = past.into();
    let from = past.start.max((settings.test_from - HISTORY_MAX).floor_to(past.step));
    let until = settings.test_to.min(past.end());
    if settings.train_until <= from + DAY || settings.test_from < settings.train_until || until <= settings.test_from {
        return Err(ForecastCrateError::Bounds {
            from: past.start.to_string(),
            to: past.end().to_string(),
            needed: format!(
                "a day before train-until {}, test-from {} not before it, and test-to {} after that",
                settings.train_until, settings.test_from, settings.test_to
            ),
        });
    }
    let skipped = from.since(past.start).steps_up(past.step);
    let window = Series { start: past.moment(skipped), step: past.step, values: past.values[skipped..].to_vec() };
    let scale = mase_scale(window.before(settings.train_until)).ok_or_else(|| ForecastCrateError::TooShort {
        model: "any".into(),
        found: 0,
        needed: 2,
    })?;
    let service = ServiceName::new("history");
    let index = |moment: Timestamp| moment.since(window.start).steps_up(window.step);
    let horizon_steps = settings.horizons.iter().map(|h| h.steps_up(past.step)).max().unwrap_or(1).max(1);
    let mut run = Run {
        settings,
        horizon_steps,
        warm: index(settings.train_until),
        test: index(settings.test_from),
        last: index(until).min(window.values.len()),
        day: DAY.steps_up(past.step).max(1),
        stride: settings.origin_every.steps_up(past.step).max(1),
        models: BTreeMap::new(),
        failed: BTreeMap::new(),
        ensemble: Ensemble::new(&settings.ensemble, &DEFAULT_QUANTILES, past.step, horizon_steps),
        calibrators: BTreeMap::new(),
        waiting: VecDeque::new(),
        outcomes: BTreeMap::new(),
        histories: BTreeMap::from([(service.clone(), window)]),
        covariates: BTreeMap::from([(service.clone(), past.covariates.to_vec())]),
        service,
    };
    let origins = run.all(progress);
    Ok(run.report(scale, origins, until))
}

/// A forecast that waits for its outcome.
struct Waiting {
    target: usize,
    lead: usize,
    contender: Contender,
    native: Vec<f64>,
    /// What calibration added.
    corrections: Rc<[f64]>,
    /// Calibrated, where the origin counts.
    counted: Option<Vec<f64>>,
}

struct Run<'a> {
    settings: &'a EvaluateSettings,
    horizon_steps: usize,
    service: ServiceName,
    histories: BTreeMap<ServiceName, Series>,
    covariates: Covariates<'a>,
    /// First windows of the warm-up, of the test, and after the end.
    warm: usize,
    test: usize,
    last: usize,
    day: usize,
    stride: usize,
    models: BTreeMap<ModelKind, Box<dyn Forecaster>>,
    failed: BTreeMap<String, String>,
    ensemble: Ensemble,
    calibrators: BTreeMap<Contender, Calibrator>,
    waiting: VecDeque<Waiting>,
    outcomes: BTreeMap<String, BTreeMap<Span, Vec<Outcome>>>,
}

impl Run<'_> {
    fn series(&self) -> &Series {
        &self.histories[&self.service]
    }

    fn kinds(&self) -> Vec<ModelKind> {
        let with_ensemble = self.settings.models.contains(&Contender::Ensemble);
        let asked = |kind: &ModelKind| {
            self.settings.models.contains(&Contender::Model(*kind))
                || (with_ensemble && self.settings.ensemble.experts.contains(kind))
        };
        ModelKind::EACH.into_iter().filter(asked).collect()
    }

    /// Every window from the start of the warm-up on; gives the number of origins that count.
    fn all(&mut self, progress: &mut dyn FnMut(f64, Stage)) -> usize {
        let leads: Vec<(Span, usize)> =
            self.settings.horizons.iter().map(|h| (*h, h.steps_up(self.series().step).max(1))).collect();
        let mut calibrated: Vec<usize> = leads.iter().map(|lead| lead.1).collect();
        calibrated.sort_unstable();
        calibrated.dedup();
        for contender in &self.settings.models {
            self.calibrators.insert(*contender, Calibrator::new(&DEFAULT_QUANTILES, &calibrated));
        }
        let span = (self.last - self.warm).max(1) as f64;
        let mut origins = 0;
        for origin in self.warm..self.last {
            let done = (origin - self.warm) as f64 / span;
            let into_test = origin.checked_sub(self.test);
            let first = origin == self.warm;
            let daily = self.settings.online && into_test.is_some_and(|steps| steps > 0 && steps % self.day == 0);
            if first || into_test == Some(0) || daily {
                self.fit(origin, daily, &mut |stage| progress(done, stage));
                progress(done, Stage::Test);
            }
            if origin % 500 == 0 {
                progress(done, Stage::Test);
            }
            self.learn(origin);
            let counted = into_test.is_some_and(|steps| steps % self.stride == 0);
            self.forecast(origin, counted, &calibrated);
            origins += usize::from(counted);
        }
        origins
    }

    /// Fits every model on the windows before `end`: parameters on those before `train_until` until the test begins, then
    /// on all but the last two days.
    fn fit(&mut self, end: usize, again: bool, progress: &mut dyn FnMut(Stage)) {
        let past = Past::all(self.series());
        let split = if end <= self.test && end > self.warm {
            self.warm
        } else {
            end - RESIDUALS.steps_up(past.step).min(end / 3)
        };
        let (train_until, end_at) = (past.moment(split), past.moment(end));
        for kind in self.kinds() {
            // The LSTM's quantiles are its own: it is trained once before the test, with the warm-up to stop by.
            let once = kind == ModelKind::Lstm;
            let (train_until, end_at) = if once && !again {
                (self.settings.train_until, self.settings.test_from)
            } else {
                (train_until, end_at)
            };
            if once && !again && self.models.contains_key(&kind) {
                continue;
            }
            progress(Stage::Fit(kind));
            let lesson = Lesson {
                histories: &self.histories,
                covariates: &self.covariates,
                events: &[],
                train_until,
                end: end_at,
                horizon_steps: self.horizon_steps,
                levels: &DEFAULT_QUANTILES,
            };
            let fitted = match self.models.get_mut(&kind) {
                Some(model) => model.update(&lesson),
                None => {
                    let mut model = kind.build(self.settings.seed);
                    let fitted = model.fit(&lesson);
                    if fitted.is_ok() {
                        self.models.insert(kind, model);
                    }
                    fitted
                }
            };
            match fitted {
                Ok(()) => self.failed.remove(kind.name()),
                Err(error) => self.failed.insert(kind.name().to_owned(), error.to_string()),
            };
        }
    }

    /// Takes the value of the window `index` where it is within the test.
    fn learn(&mut self, index: usize) {
        let series = &self.histories[&self.service];
        let moment = Past::all(series).moment(index);
        let actual = if index < self.last { series.values[index] } else { None };
        self.ensemble.observe(moment, actual);
        let (step, test_to) = (series.step, self.last);
        let (calibrators, outcomes) = (&mut self.calibrators, &mut self.outcomes);
        self.waiting.retain(|waiting| {
            if waiting.target > index {
                return true;
            }
            let Some(actual) = actual.filter(|_| waiting.target == index) else { return false };
            if let Some(calibrator) = calibrators.get_mut(&waiting.contender) {
                calibrator.add(waiting.lead, &waiting.native, actual, &waiting.corrections);
            }
            if let Some(row) = waiting.counted.as_ref().filter(|_| index < test_to) {
                for horizon in &self.settings.horizons {
                    if horizon.steps_up(step).max(1) == waiting.lead {
                        let by_horizon = outcomes.entry(waiting.contender.name().to_owned()).or_default();
                        let outcome = Outcome { target: moment, actual, row: row.clone() };
                        by_horizon.entry(*horizon).or_default().push(outcome);
                    }
                }
            }
            false
        });
    }

    /// Forecasts of all contenders from the window `origin`, which is the last that they see.
    fn forecast(&mut self, origin: usize, counted: bool, leads: &[usize]) {
        let series = &self.histories[&self.service];
        let past = Past::all(series).first(origin + 1).with_those_of(&self.service, &self.covariates);
        let request = Request {
            service: &self.service,
            past,
            horizon_steps: self.horizon_steps,
            levels: &DEFAULT_QUANTILES,
            events: &[],
            now: past.end(),
        };
        let mut said = Said::new();
        for (kind, model) in &self.models {
            if let Ok(rows) = model.predict(&request) {
                said.insert(*kind, rows);
            }
        }
        let mixed = self.ensemble.combine(&said);
        for contender in &self.settings.models {
            let native = match contender {
                Contender::Model(kind) => said.get(kind),
                Contender::Ensemble => mixed.as_ref(),
            };
            let (Some(native), Some(calibrator)) = (native, self.calibrators.get(contender)) else { continue };
            let rows = counted.then(|| {
                let mut rows = native.clone();
                calibrator.correct(&mut rows);
                rows
            });
            let corrections: Rc<[f64]> = calibrator.corrections().into();
            for lead in leads {
                self.waiting.push_back(Waiting {
                    target: origin + lead,
                    lead: *lead,
                    contender: *contender,
                    native: native[lead - 1].to_vec(),
                    corrections: Rc::clone(&corrections),
                    counted: rows.as_ref().map(|rows| rows[lead - 1].to_vec()),
                });
            }
        }
        self.ensemble.expect(past.moment(origin), &said);
    }

    fn report(self, scale: f64, origins: usize, test_to: Timestamp) -> Report {
        let series = &self.histories[&self.service];
        let test_from = self.settings.test_from;
        let mut models = BTreeMap::new();
        for (name, horizons) in &self.outcomes {
            let figures = horizons.iter().filter_map(|(horizon, outcomes)| {
                let figures = report::figures(outcomes, &DEFAULT_QUANTILES, scale, test_from)?;
                Some((horizon_name(*horizon), figures))
            });
            models.insert(name.clone(), figures.collect());
        }
        let mut weights = BTreeMap::new();
        if self.settings.models.contains(&Contender::Ensemble) {
            for horizon in &self.settings.horizons {
                if let Some(own) = self.ensemble.weights(horizon.steps_up(series.step).max(1), 0.5) {
                    let named = own.into_iter().map(|(kind, weight)| (kind.name().to_owned(), weight));
                    weights.insert(horizon_name(*horizon), named.collect());
                }
            }
        }
        Report {
            models,
            failed: self.failed,
            train_seconds: None,
            origins,
            mase_scale: scale,
            step: series.step,
            train_from: series.start,
            train_until: self.settings.train_until,
            test_from,
            test_to,
            online: self.settings.online,
            seed: self.settings.seed,
            weights,
            outcomes: self.outcomes,
            levels: DEFAULT_QUANTILES.to_vec(),
        }
    }
}
