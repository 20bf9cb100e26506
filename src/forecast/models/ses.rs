//! Simple exponential smoothing (Brown 1956): a level, no trend. Rule: the smoothing is chosen by the error some steps
//! ahead on the training part; the level is that of the values up to the origin.

use serde::{Deserialize, Serialize};

use super::ModelKind;
use super::pointwise::{PointExpert, Pointwise};
use crate::past::Past;

/// Windows that the filter runs over before the origin.
const MEMORY_STEPS: usize = 360;
/// Most windows of the training part that the grid is searched over: the newest.
const GRID_STEPS_MAX: usize = 30_000;
const ALPHAS: [f64; 12] = [0.02, 0.05, 0.08, 0.12, 0.16, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 0.95];

/// Exponential smoothing for each service.
pub type Ses = Pointwise<Smoothing>;

/// Share of the newest value in the level, in (0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Smoothing {
    alpha: f64,
}

impl PointExpert for Smoothing {
    const KIND: ModelKind = ModelKind::Ses;
    const VERSION: u32 = 1;
    const KNOWN_MIN: usize = 3;

    fn choose(training: Past<'_>, horizon_steps: usize) -> Option<Self> {
        let values = &training.values[training.values.len().saturating_sub(GRID_STEPS_MAX)..];
        let ahead = (horizon_steps / 4).clamp(1, 10);
        let error = |alpha: f64| {
            let (mut level, mut sum) = (None::<f64>, 0.0);
            for (index, value) in values.iter().enumerate() {
                level = step(level, *value, alpha);
                if let (Some(level), Some(Some(later))) = (level, values.get(index + ahead)) {
                    sum += (later - level).abs();
                }
            }
            sum
        };
        let best = ALPHAS.into_iter().map(|alpha| (alpha, error(alpha))).min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(Self { alpha: best.0 })
    }

    fn points(&self, past: Past<'_>, horizon_steps: usize) -> Option<Vec<f64>> {
        let recent = &past.values[past.values.len().saturating_sub(MEMORY_STEPS)..];
        let level = recent.iter().fold(None, |level, value| step(level, *value, self.alpha))?;
        Some(vec![level.max(0.0); horizon_steps])
    }
}

/// A gap leaves the level where it is.
fn step(level: Option<f64>, value: Option<f64>, alpha: f64) -> Option<f64> {
    match (level, value) {
        (Some(level), Some(value)) => Some(level + alpha * (value - level)),
        (None, value) => value,
        (level, None) => level,
    }
}
