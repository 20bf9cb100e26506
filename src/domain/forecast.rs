//! A forecast as quantiles per step ahead. Rule: finite, not negative, ordered over the quantiles.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{ServiceName, Span, Timestamp};

/// The quantile levels that are forecast unless configured otherwise.
pub const DEFAULT_QUANTILES: [f64; 8] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99];

/// Quantiles of a service's load for each step of the horizon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuantileForecast {
    pub service: ServiceName,
    /// Start of the last closed window `[origin, origin + step)` that the forecast has seen.
    pub origin: Timestamp,
    pub step: Span,
    /// The model that made it, such as `lstm` or `holt`.
    pub model: String,
    /// Why this model and no other, as a reason code: `champion`, `cold-start`, `model-failed`, …
    pub reason: String,
    /// Ascending, each in (0, 1).
    pub levels: Vec<f64>,
    /// `values[k][q]`: level `levels[q]` of the load in the window that starts at `origin + (k + 1) · step`.
    pub values: Vec<Vec<f64>>,
}

/// A forecast that breaks its own rule.
#[derive(Debug, Error, PartialEq)]
pub enum ForecastError {
    #[error("forecast of `{service}` by `{model}`: step {step} has {found} quantiles, expected {expected}")]
    Shape { service: String, model: String, step: usize, found: usize, expected: usize },
    #[error("forecast of `{service}` by `{model}`: step {step} is not finite, not negative and ordered: {values:?}")]
    Values { service: String, model: String, step: usize, values: Vec<f64> },
}

impl QuantileForecast {
    /// Checks shape, finiteness and order.
    pub fn validate(&self) -> Result<(), ForecastError> {
        for (step, values) in self.values.iter().enumerate() {
            let (service, model) = (self.service.to_string(), self.model.clone());
            if values.len() != self.levels.len() {
                let (found, expected) = (values.len(), self.levels.len());
                return Err(ForecastError::Shape { service, model, step, found, expected });
            }
            let sound = values.iter().all(|v| v.is_finite() && *v >= 0.0) && values.is_sorted();
            if !sound {
                return Err(ForecastError::Values { service, model, step, values: values.clone() });
            }
        }
        Ok(())
    }

    /// The forecast at `level` for the window that starts at `moment`, interpolated linearly between the levels and
    /// clamped to the outermost; `None` outside the horizon.
    pub fn at(&self, moment: Timestamp, level: f64) -> Option<f64> {
        let ahead = moment.millis().checked_sub(self.origin.millis())?;
        if ahead <= 0 || self.step.millis() <= 0 {
            return None;
        }
        let index = usize::try_from((ahead + self.step.millis() - 1) / self.step.millis() - 1).ok()?;
        self.values.get(index).map(|values| Place::of(&self.levels, level).read(values))
    }

    /// The forecast at `level` for each window in turn, as [`at`](Self::at) gives it.
    pub fn at_level(&self, level: f64) -> impl Iterator<Item = f64> {
        let place = Place::of(&self.levels, level);
        self.values.iter().map(move |values| place.read(values))
    }

    /// The last moment for which there is a forecast: the start of the last window.
    pub fn last(&self) -> Timestamp {
        self.origin + Span::from_millis(self.step.millis().saturating_mul(self.values.len() as i64))
    }
}

/// Where a level lies among those of a forecast.
#[derive(Clone, Copy)]
enum Place {
    At(usize),
    /// So far of the way from the quantile before this one to it.
    Before(usize, f64),
    Beyond,
}

impl Place {
    fn of(levels: &[f64], level: f64) -> Self {
        match levels.iter().position(|known| *known >= level) {
            None => Self::Beyond,
            Some(upper) if upper == 0 || levels[upper] == level => Self::At(upper),
            Some(upper) => Self::Before(upper, (level - levels[upper - 1]) / (levels[upper] - levels[upper - 1])),
        }
    }

    /// The quantile there, of one window; the highest where it has fewer than it should.
    fn read(self, values: &[f64]) -> f64 {
        let highest = || values.last().copied().unwrap_or(0.0);
        let value = |index: usize| values.get(index).copied().unwrap_or_else(highest);
        match self {
            Self::At(index) => value(index),
            Self::Before(upper, share) => value(upper - 1) + share * (value(upper) - value(upper - 1)),
            Self::Beyond => highest(),
        }
    }
}
