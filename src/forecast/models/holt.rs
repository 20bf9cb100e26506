//! Damped Holt on log1p (Gardner & McKenzie 1985): level and fading trend. Rule: parameters by grid on the training part,
//! state from the values up to the origin alone.

use std::collections::BTreeMap;

use prescale_domain::ServiceName;
use serde::{Deserialize, Serialize};

use super::residual::ResidualQuantiles;
use super::{Forecaster, Lesson, ModelKind, seal, unseal};
use crate::error::{ForecastCrateError, Result};
use crate::past::{Past, Request};

const VERSION: u32 = 1;
/// Windows that the filter runs over before the origin: older ones weigh nothing.
const MEMORY_STEPS: usize = 720;
/// Fewest known values.
const KNOWN_MIN: usize = 3;
/// Most windows of the training part that the grid is searched over: the newest.
const GRID_STEPS_MAX: usize = 30_000;

/// Steps ahead that the grid is searched by.
const GRID_AHEAD: usize = 10;

const ALPHAS: [f64; 9] = [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9];
const BETAS: [f64; 4] = [0.0, 0.01, 0.05, 0.1];
const PHIS: [f64; 3] = [0.8, 0.9, 0.98];

/// Damped Holt for each service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Holt {
    services: BTreeMap<ServiceName, Fitted>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fitted {
    parameters: Parameters,
    residuals: ResidualQuantiles,
}

/// Smoothing of the level, of the trend, and damping of the trend, each in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Parameters {
    alpha: f64,
    beta: f64,
    phi: f64,
}

impl Holt {
    /// Reads what `save` wrote.
    ///
    /// # Errors
    /// Bytes of another format or version.
    pub fn load(bytes: &[u8]) -> Result<Self> {
        unseal(ModelKind::Holt, VERSION, bytes)
    }
}

impl Forecaster for Holt {
    fn kind(&self) -> ModelKind {
        ModelKind::Holt
    }

    fn fit(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        let mut services = BTreeMap::new();
        for (service, series) in lesson.histories {
            let past = Past::before(series, lesson.end);
            if past.known() < KNOWN_MIN {
                continue;
            }
            let from = lesson.train_until.since(past.start).steps_up(past.step).min(past.values.len());
            let parameters = search(&past.values[from.saturating_sub(GRID_STEPS_MAX)..from]);
            let residuals = ResidualQuantiles::measure(past, from, lesson.horizon_steps, lesson.levels, |past| {
                points(past, parameters, lesson.horizon_steps)
            });
            services.insert(service.clone(), Fitted { parameters, residuals });
        }
        if services.is_empty() {
            return Err(ForecastCrateError::TooShort { model: self.kind().to_string(), found: 0, needed: KNOWN_MIN });
        }
        self.services = services;
        Ok(())
    }

    fn update(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        self.fit(lesson)
    }

    fn predict(&self, request: &Request<'_>) -> Result<Vec<Vec<f64>>> {
        let fitted = self.services.get(request.service).ok_or_else(|| ForecastCrateError::UnknownService {
            model: self.kind().to_string(),
            service: request.service.to_string(),
        })?;
        let points = points(request.past, fitted.parameters, request.horizon_steps).ok_or_else(|| {
            ForecastCrateError::TooShort { model: self.kind().to_string(), found: 0, needed: KNOWN_MIN }
        })?;
        Ok(fitted.residuals.around(&points, request.levels))
    }

    fn save(&self) -> Vec<u8> {
        seal(ModelKind::Holt, VERSION, self)
    }
}

/// Level and trend on the log scale.
#[derive(Clone, Copy, Debug)]
struct State {
    level: f64,
    trend: f64,
}

impl State {
    /// Moves on by one window; a gap moves along the damped trend.
    fn step(&mut self, value: Option<f64>, by: Parameters) {
        let damped = by.phi * self.trend;
        let ahead = self.level + damped;
        match value {
            Some(value) => {
                let level = ahead + by.alpha * (value - ahead);
                self.trend = by.beta * (level - self.level) + (1.0 - by.beta) * damped;
                self.level = level;
            }
            None => {
                self.level = ahead;
                self.trend = damped;
            }
        }
    }
}

/// The grid point with the lowest mean squared error on the log scale, some steps ahead; ties go to the first. One step
/// ahead rewards chasing noise that is gone before capacity could follow.
fn search(values: &[Option<f64>]) -> Parameters {
    let logs: Vec<Option<f64>> = values.iter().map(|value| value.map(|v| v.max(0.0).ln_1p())).collect();
    let mut best = (f64::INFINITY, Parameters { alpha: 0.2, beta: 0.0, phi: 0.9 });
    let Some(first) = logs.iter().position(Option::is_some) else { return best.1 };
    for alpha in ALPHAS {
        for beta in BETAS {
            for phi in PHIS {
                let by = Parameters { alpha, beta, phi };
                let error = error_ahead(&logs[first..], by);
                if error < best.0 {
                    best = (error, by);
                }
            }
        }
    }
    best.1
}

/// Mean squared error `GRID_AHEAD` steps ahead, over the values that are known.
fn error_ahead(logs: &[Option<f64>], by: Parameters) -> f64 {
    let reach: f64 = (1..=GRID_AHEAD as i32).map(|k| by.phi.powi(k)).sum();
    let mut state = State { level: logs.first().copied().flatten().unwrap_or(0.0), trend: 0.0 };
    let (mut sum, mut count) = (0.0, 0_u64);
    for (index, value) in logs.iter().enumerate().skip(1) {
        state.step(*value, by);
        if let Some(later) = logs.get(index + GRID_AHEAD).copied().flatten() {
            let miss = later - (state.level + reach * state.trend);
            sum += miss * miss;
            count += 1;
        }
    }
    if count == 0 { f64::INFINITY } else { sum / count as f64 }
}

/// One point per step after the end of `past`; `None` without any value.
fn points(past: Past<'_>, by: Parameters, horizon_steps: usize) -> Option<Vec<f64>> {
    let recent = &past.values[past.values.len().saturating_sub(MEMORY_STEPS)..];
    let first = recent.iter().position(Option::is_some)?;
    let start = recent[first]?.max(0.0).ln_1p();
    let mut state = State { level: start, trend: 0.0 };
    for value in &recent[first + 1..] {
        state.step(value.map(|v| v.max(0.0).ln_1p()), by);
    }
    let highest = recent.iter().flatten().fold(0.0_f64, |high, value| high.max(*value));
    let (mut damping, mut reach) = (1.0, 0.0);
    let points = (0..horizon_steps).map(|_| {
        damping *= by.phi;
        reach += damping;
        // A trend on the log scale may explode; ten times the highest recent value is enough.
        (state.level + reach * state.trend).exp_m1().clamp(0.0, 10.0 * highest)
    });
    Some(points.collect())
}
