//! Quantiles for models that only know a point: empirical quantiles of the relative error by horizon. Rule: measured on
//! windows after those that the parameters were chosen on.

use serde::{Deserialize, Serialize};

use crate::past::Past;
use crate::rows::Rows;

/// Most origins that the error of a cheap model is measured at.
pub(crate) const ORIGINS_MAX: usize = 576;
/// Fewest errors that a quantile is read from.
const ORIGINS_MIN: usize = 12;

/// Quantiles of `(value − point) / (point + offset)` for each step ahead: `[k][q]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ResidualQuantiles {
    pub levels: Vec<f64>,
    /// Added to the point so that an error relative to almost nothing stays finite; in the unit of the load.
    pub offset: f64,
    pub steps: Vec<Vec<f64>>,
}

impl ResidualQuantiles {
    /// Measures `points(past up to origin) -> one point per step` over the windows from index `from` on, at
    /// `origins_max` origins at most, spread evenly.
    pub(crate) fn measure(
        past: Past<'_>,
        from: usize,
        horizon_steps: usize,
        levels: &[f64],
        origins_max: usize,
        points: impl Fn(Past<'_>) -> Option<Vec<f64>>,
    ) -> Self {
        let offset = error_offset(past);
        let from = from.max(1).min(past.values.len());
        let stride = (past.values.len() - from).div_ceil(origins_max.max(1)).max(1);
        let mut errors = vec![Vec::new(); horizon_steps];
        for origin in (from..past.values.len()).step_by(stride) {
            let Some(points) = points(past.first(origin)) else { continue };
            for (k, point) in points.iter().enumerate() {
                let error = past.at((origin + k) as isize).map(|value| (value - point) / (point + offset));
                errors[k].extend(error.filter(|error| error.is_finite()));
            }
        }
        // A step without enough errors of its own borrows those of the step before.
        let mut steps: Vec<Vec<f64>> = Vec::with_capacity(horizon_steps);
        for errors in &mut errors {
            errors.sort_by(f64::total_cmp);
            let own = errors.len() >= ORIGINS_MIN;
            let row = match steps.last() {
                Some(last) if !own => last.clone(),
                _ if own => levels.iter().map(|level| quantile_of_sorted(errors, *level)).collect(),
                _ => levels.iter().map(|level| 1.5 * (level - 0.5)).collect(),
            };
            steps.push(row);
        }
        Self { levels: levels.to_vec(), offset, steps }
    }

    /// Quantiles at `levels` around `points`; the median is the point itself.
    pub(crate) fn around(&self, points: &[f64], levels: &[f64]) -> Rows {
        let same = self.levels == levels;
        let mut rows = Rows::zeros(levels.len(), points.len());
        for (k, (point, row)) in points.iter().zip(rows.iter_mut()).enumerate() {
            let Some(errors) = self.steps.get(k).or(self.steps.last()) else {
                row.fill(*point);
                continue;
            };
            // Below the median the forecast never lies above the point, and above it never below.
            let value = |level: f64, error: f64| {
                let error = if level < 0.5 { error.min(0.0) } else { error.max(0.0) };
                let error = if level == 0.5 { 0.0 } else { error };
                (point + (point + self.offset) * error).max(0.0)
            };
            if same && errors.len() == levels.len() {
                for (own, (level, error)) in row.iter_mut().zip(levels.iter().zip(errors)) {
                    *own = value(*level, *error);
                }
            } else {
                for (own, level) in row.iter_mut().zip(levels) {
                    *own = value(*level, at_level(&self.levels, errors, *level));
                }
            }
        }
        rows.sort();
        rows
    }
}

/// A tenth of the mean of the known values, at least a hair: the load below which relative errors mean little.
pub(crate) fn error_offset(past: Past<'_>) -> f64 {
    let finite = past.values.iter().flatten().filter(|value| value.is_finite());
    let (sum, count) = finite.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (0.1 * sum / f64::max(count, 1.0)).max(1e-6)
}

/// The empirical quantile of ascending values, linear between neighbours; `0` for none.
pub(crate) fn quantile_of_sorted(sorted: &[f64], level: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = (level.clamp(0.0, 1.0) * last as f64).min(last as f64);
    let below = place.floor() as usize;
    let share = place - below as f64;
    sorted[below] + share * (sorted[(below + 1).min(last)] - sorted[below])
}

/// The value at `level`, linear between known levels and constant beyond them.
pub(crate) fn at_level(levels: &[f64], values: &[f64], level: f64) -> f64 {
    let Some(upper) = levels.iter().position(|l| *l >= level) else { return values.last().copied().unwrap_or(0.0) };
    if upper == 0 || levels[upper] == level {
        return values[upper];
    }
    let share = (level - levels[upper - 1]) / (levels[upper] - levels[upper - 1]);
    values[upper - 1] + share * (values[upper] - values[upper - 1])
}
