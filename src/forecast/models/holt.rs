//! Damped Holt on log1p (Gardner & McKenzie 1985): level and fading trend. Rule: parameters by grid on the training part,
//! state from the values up to the origin alone.

use serde::{Deserialize, Serialize};

use super::ModelKind;
use super::pointwise::{PointExpert, Pointwise};
use crate::log::{known, push_logs};
use crate::past::Past;

/// Windows that the filter runs over before the origin: older ones weigh nothing.
const MEMORY_STEPS: usize = 720;
/// Most windows of the training part that the grid is searched over: the newest.
const GRID_STEPS_MAX: usize = 30_000;

/// Steps ahead that the grid is searched by, at most; a quarter of the horizon where that is less.
const GRID_AHEAD_MAX: usize = 10;

const ALPHAS: [f64; 9] = [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9];
const BETAS: [f64; 4] = [0.0, 0.01, 0.05, 0.1];
const PHIS: [f64; 3] = [0.8, 0.9, 0.98];

/// Damped Holt for each service.
pub type Holt = Pointwise<DampedTrend>;

/// Smoothing of the level, of the trend, and damping of the trend, each in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DampedTrend {
    alpha: f64,
    beta: f64,
    phi: f64,
}

impl PointExpert for DampedTrend {
    const KIND: ModelKind = ModelKind::Holt;
    const VERSION: u32 = 1;
    const KNOWN_MIN: usize = 3;

    fn choose(training: Past<'_>, horizon_steps: usize) -> Option<Self> {
        let values = &training.values[training.values.len().saturating_sub(GRID_STEPS_MAX)..];
        let mut logs = Vec::with_capacity(values.len());
        push_logs(values, 1.0, &mut logs);
        let logs: Vec<Option<f64>> = logs.into_iter().map(known).collect();
        Some(search(&logs, horizon_steps))
    }

    fn points(&self, past: Past<'_>, horizon_steps: usize) -> Option<Vec<f64>> {
        let recent = &past.values[past.values.len().saturating_sub(MEMORY_STEPS)..];
        let highest = past.highest(MEMORY_STEPS);
        let mut logs = Vec::with_capacity(recent.len());
        push_logs(recent, 1.0, &mut logs);
        // A trend on the log scale may explode; ten times the highest recent value is enough.
        let points = ahead(logs.into_iter().map(known), *self, horizon_steps)?;
        Some(points.into_iter().map(|log| log.exp_m1().clamp(0.0, 10.0 * highest)).collect())
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
    fn step(&mut self, value: Option<f64>, by: DampedTrend) {
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
pub(super) fn search(logs: &[Option<f64>], horizon_steps: usize) -> DampedTrend {
    let ahead = (horizon_steps / 4).clamp(1, GRID_AHEAD_MAX);
    let mut best = (f64::INFINITY, DampedTrend { alpha: 0.2, beta: 0.0, phi: 0.9 });
    let Some(first) = logs.iter().position(Option::is_some) else { return best.1 };
    for alpha in ALPHAS {
        for beta in BETAS {
            for phi in PHIS {
                let by = DampedTrend { alpha, beta, phi };
                let error = error_ahead(&logs[first..], by, ahead);
                if error < best.0 {
                    best = (error, by);
                }
            }
        }
    }
    best.1
}

/// Mean squared error `ahead` steps ahead, over the values that are known.
fn error_ahead(logs: &[Option<f64>], by: DampedTrend, ahead: usize) -> f64 {
    let reach: f64 = (1..=ahead as i32).map(|k| by.phi.powi(k)).sum();
    let mut state = State { level: logs.first().copied().flatten().unwrap_or(0.0), trend: 0.0 };
    let (mut sum, mut count) = (0.0, 0_u64);
    for (index, value) in logs.iter().enumerate().skip(1) {
        state.step(*value, by);
        if let Some(later) = logs.get(index + ahead).copied().flatten() {
            let miss = later - (state.level + reach * state.trend);
            sum += miss * miss;
            count += 1;
        }
    }
    if count == 0 { f64::INFINITY } else { sum / count as f64 }
}

/// The logs after the last of `logs`, one for each step; `None` without any value.
pub(super) fn ahead(
    logs: impl Iterator<Item = Option<f64>>,
    by: DampedTrend,
    horizon_steps: usize,
) -> Option<Vec<f64>> {
    let mut logs = logs.skip_while(Option::is_none);
    let mut state = State { level: logs.next()??, trend: 0.0 };
    for value in logs {
        state.step(value, by);
    }
    let (mut damping, mut reach) = (1.0, 0.0);
    let points = (0..horizon_steps).map(|_| {
        damping *= by.phi;
        reach += damping;
        state.level + reach * state.trend
    });
    Some(points.collect())
}
