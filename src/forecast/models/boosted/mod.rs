//! Gradient-boosted trees on lags and the calendar, one forest for each lead and quantile, over all services together.
//! Rules: level-free inputs and targets, so that a shift of the level breaks nothing; quantiles between those that are
//! trained follow the normal distribution on the log scale.

mod tree;

use std::collections::BTreeMap;

use prescale_domain::ServiceName;
use serde::{Deserialize, Serialize};

use super::lags::{INPUTS_CALENDAR, Logs, between, leads, small_load};
use super::{DAY, Forecaster, Lesson, ModelKind, seal, unseal};
use crate::error::{ForecastCrateError, Result};
use crate::past::{Past, Request};
use crate::rows::Rows;

use tree::{Binned, Effort, Forest};

const VERSION: u32 = 1;
/// Rows of all services together, at most, spread evenly over their histories.
const ROWS_MAX: usize = 12_000;
/// Fewest rows for a fit.
const ROWS_MIN: usize = 200;
/// Quantiles that are trained.
const TRAINED: [f64; 3] = [0.1, 0.5, 0.9];
const EFFORT: Effort = Effort { trees: 100, leaves: 12, leaf_rows: 30, rate: 0.07, row_share: 0.5, input_share: 0.6 };
/// A forecast moves at most this far from the recent level, as a difference of logs.
const MOVE_MAX: f64 = 5.0;

/// Gradient-boosted trees on lags.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Boosted {
    seed: u64,
    fitted: Option<Fitted>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fitted {
    /// The load that counts as little, by service, in its own unit.
    small: BTreeMap<ServiceName, f64>,
    /// Steps ahead, ascending.
    leads: Vec<usize>,
    horizon_steps: usize,
    /// `[lead][quantile]`.
    forests: Vec<Vec<Forest>>,
}

impl Boosted {
    /// An unfitted model that draws its chance from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, fitted: None }
    }

    /// Reads what `save` wrote.
    ///
    /// # Errors
    /// Bytes of another format or version, or trees that lead nowhere.
    pub fn load(bytes: &[u8]) -> Result<Self> {
        let model: Self = unseal(ModelKind::Boosted, VERSION, bytes)?;
        if let Some(fitted) = &model.fitted {
            let shaped = !fitted.leads.is_empty()
                && fitted.forests.len() == fitted.leads.len()
                && fitted.forests.iter().all(|row| row.len() == TRAINED.len() && row.iter().all(Forest::is_sound));
            if !shaped {
                return Err(ForecastCrateError::Format("the trees don't fit their leads".into()));
            }
        }
        Ok(model)
    }

    fn too_short(found: usize) -> ForecastCrateError {
        ForecastCrateError::TooShort { model: ModelKind::Boosted.to_string(), found, needed: ROWS_MIN }
    }
}

impl Forecaster for Boosted {
    fn kind(&self) -> ModelKind {
        ModelKind::Boosted
    }

    fn fit(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        let pasts: Vec<(&ServiceName, Past<'_>, f64)> = lesson
            .histories
            .iter()
            .filter_map(|(service, series)| {
                // Its quantiles are trained, so all of the lesson is for training.
                let past = Past::before(series, lesson.end);
                Some((service, past, small_load(past)?))
            })
            .collect();
        let step = pasts.first().map(|(_, past, _)| past.step).ok_or_else(|| Self::too_short(0))?;
        let total: usize = pasts.iter().map(|(_, past, _)| past.values.len()).sum();
        let stride = (total / ROWS_MAX).max(1);
        let leads = leads(step, lesson.horizon_steps);
        let logs: Vec<Logs> = pasts.iter().map(|(_, past, small)| Logs::all(*past, *small)).collect();
        let mut forests = Vec::with_capacity(leads.len());
        for (place, lead) in leads.iter().enumerate() {
            let (mut inputs, mut targets, mut row) = (Vec::new(), Vec::new(), Vec::new());
            for ((_, past, _), logs) in pasts.iter().zip(&logs) {
                let first = past.steps(DAY).min(past.values.len() / 4).max(1);
                for origin in (first..past.values.len()).step_by(stride) {
                    let end = origin as isize;
                    let Some(level) = logs.level(end) else { continue };
                    let Some(target) = logs.known(end + *lead as isize - 1) else { continue };
                    row.clear();
                    row_of(logs, end, *lead, level, &mut row);
                    inputs.extend(row.iter().map(|input| *input as f32));
                    targets.push((target - level) as f32);
                }
            }
            if targets.len() < ROWS_MIN {
                return Err(Self::too_short(targets.len()));
            }
            let binned = Binned::new(&inputs, INPUTS_CALENDAR);
            let own = TRAINED.iter().enumerate().map(|(q, level)| {
                let seed = self.seed.wrapping_mul(1_000_003) ^ (place * TRAINED.len() + q) as u64;
                Forest::fit(&binned, &targets, *level, &EFFORT, seed)
            });
            forests.push(own.collect());
        }
        let small = pasts.iter().map(|(service, _, small)| ((*service).clone(), *small)).collect();
        self.fitted = Some(Fitted { small, leads, horizon_steps: lesson.horizon_steps, forests });
        Ok(())
    }

    fn update(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        self.fit(lesson)
    }

    fn predict(&self, request: &Request<'_>) -> Result<Rows> {
        let model = || self.kind().to_string();
        let fitted = self.fitted.as_ref().ok_or_else(|| ForecastCrateError::NotFitted { model: model() })?;
        let small = fitted.small.get(request.service).ok_or_else(|| ForecastCrateError::UnknownService {
            model: model(),
            service: request.service.to_string(),
        })?;
        if request.horizon_steps > fitted.horizon_steps {
            let (found, asked) = (fitted.horizon_steps, request.horizon_steps);
            return Err(ForecastCrateError::Horizon { model: model(), found, asked });
        }
        let logs = Logs::at_end(request.past, *small, request.horizon_steps);
        let end = request.past.values.len() as isize;
        let level = logs.level(end).ok_or_else(|| Self::too_short(request.past.known()))?;
        let mut at_leads = Vec::with_capacity(fitted.leads.len());
        let (mut row, mut narrow) = (Vec::new(), Vec::new());
        for (lead, forests) in fitted.leads.iter().zip(&fitted.forests) {
            row.clear();
            row_of(&logs, end, *lead, level, &mut row);
            narrow.clear();
            narrow.extend(row.iter().map(|input| *input as f32));
            at_leads.push([0, 1, 2].map(|q| forests[q].predict(&narrow).clamp(-MOVE_MAX, MOVE_MAX)));
        }
        let mut rows = Rows::new(request.levels.len(), request.horizon_steps);
        for k in 1..=request.horizon_steps {
            let (below, above, share) = between(&fitted.leads, k);
            let (low, high) = (at_leads[below], at_leads[above]);
            let moved = [0, 1, 2].map(|q: usize| low[q] + share * (high[q] - low[q]));
            rows.push(request.levels.iter().map(|at| logs.load(level + spread(moved, *at))));
        }
        rows.sort();
        if rows.is_sound() { Ok(rows) } else { Err(Self::too_short(0)) }
    }

    fn save(&self) -> Vec<u8> {
        seal(ModelKind::Boosted, VERSION, self)
    }
}

fn row_of(logs: &Logs, end: isize, lead: usize, level: f64, row: &mut Vec<f64>) {
    logs.near(end, level, row);
    logs.ahead(end, lead, level, &logs.before(end), row);
    logs.calendar(end, lead, row);
}

/// The quantile at `level`, from those at 0.1, 0.5 and 0.9: as far out as in a normal distribution of that width.
fn spread([low, middle, high]: [f64; 3], level: f64) -> f64 {
    // Quantiles of the standard normal distribution in units of its 0.9 quantile.
    const KNOWN: [(f64, f64); 6] =
        [(0.5, 0.0), (0.75, 0.526_3), (0.9, 1.0), (0.95, 1.283_5), (0.99, 1.815_3), (1.0, 2.5)];
    let outer = level.max(1.0 - level);
    let above = KNOWN.iter().position(|(at, _)| *at >= outer).unwrap_or(KNOWN.len() - 1).max(1);
    let ((a, from), (b, to)) = (KNOWN[above - 1], KNOWN[above]);
    let units = from + (to - from) * ((outer - a) / (b - a)).clamp(0.0, 1.0);
    let side = if level < 0.5 { (low - middle).min(0.0) } else { (high - middle).max(0.0) };
    middle + units * side
}
