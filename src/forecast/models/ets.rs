//! Exponential smoothing by maximum likelihood on the log scale (Hyndman et al. 2008, "Forecasting with exponential
//! smoothing"; the implementation is that of `augurs`). Rule: the form (trend or none, damped or not) is chosen on the
//! training part by AICc; smoothing and states are estimated again at every forecast from the newest windows, which takes
//! milliseconds: not asked by default.

use augurs_core::prelude::*;
use augurs_ets::AutoETS;
use serde::{Deserialize, Serialize};

use super::ModelKind;
use super::pointwise::{PointExpert, Pointwise};
use crate::past::Past;

/// Windows that a forecast is estimated from.
const MEMORY_STEPS: usize = 300;
/// Fewest windows for an estimate.
const KNOWN_MIN: usize = 30;
/// Estimates of the training part that the form is chosen by, spread over its newest windows.
const CHOICES: usize = 5;

/// Exponential smoothing by likelihood for each service.
pub type Ets = Pointwise<Form>;

/// Whether there is a trend, and whether it fades.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Form {
    trend: bool,
    damped: bool,
}

impl PointExpert for Form {
    const KIND: ModelKind = ModelKind::Ets;
    const VERSION: u32 = 1;
    const KNOWN_MIN: usize = KNOWN_MIN;
    const ORIGINS_MAX: usize = 64;

    fn choose(training: Past<'_>, _: usize) -> Option<Self> {
        // The form that most of the estimates prefer.
        let count = training.values.len();
        let mut votes = std::collections::BTreeMap::<Self, u32>::new();
        for choice in 0..CHOICES {
            let Some(end) = count.checked_sub(choice * MEMORY_STEPS) else { break };
            let Some(logs) = logs(training.first(end)) else { continue };
            if is_flat(&logs) {
                *votes.entry(Self { trend: false, damped: false }).or_default() += 1;
                continue;
            }
            let Ok(fitted) = AutoETS::new(1, "AZN").and_then(|search| search.fit(&logs)) else { continue };
            let model = fitted.model();
            let form = Self { trend: model.model_type().trend.included(), damped: model.damped() };
            *votes.entry(form).or_default() += 1;
        }
        votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(form, _)| form)
    }

    fn points(&self, past: Past<'_>, horizon_steps: usize) -> Option<Vec<f64>> {
        let logs = logs(past)?;
        if is_flat(&logs) {
            return Some(vec![logs[0].exp_m1(); horizon_steps]);
        }
        let recent = &past.values[past.values.len().saturating_sub(MEMORY_STEPS)..];
        let highest = recent.iter().flatten().fold(0.0_f64, |high, value| high.max(*value));
        // A trend on the log scale may explode; ten times the highest recent value is enough.
        let load = |log: f64| log.exp_m1().clamp(0.0, 10.0 * highest);
        // Where there is no likelihood, as after a jump, the newest value stands.
        let ahead = self.ahead(&logs, horizon_steps).unwrap_or_else(|| vec![logs[logs.len() - 1]; horizon_steps]);
        Some(ahead.into_iter().map(load).collect())
    }
}

impl Form {
    fn ahead(self, logs: &[f64], horizon_steps: usize) -> Option<Vec<f64>> {
        let model = AutoETS::new(1, if self.trend { "AAN" } else { "ANN" }).ok()?.damped(self.damped).ok()?;
        let logs = model.fit(logs).ok()?.predict(horizon_steps, None).ok()?.point;
        logs.iter().all(|log| log.is_finite()).then_some(logs)
    }
}

/// The newest logs, gaps filled with the value before; `None` when they are too few.
fn logs(past: Past<'_>) -> Option<Vec<f64>> {
    let recent = &past.values[past.values.len().saturating_sub(MEMORY_STEPS)..];
    let known = recent.iter().flatten().filter(|value| value.is_finite() && **value >= 0.0);
    if known.count() < KNOWN_MIN {
        return None;
    }
    let mut last = None;
    let mut logs = Vec::with_capacity(recent.len());
    for value in recent {
        last = value.filter(|value| value.is_finite() && *value >= 0.0).map(f64::ln_1p).or(last);
        logs.extend(last);
    }
    Some(logs)
}

/// Nothing changes, so there is no likelihood.
fn is_flat(logs: &[f64]) -> bool {
    logs.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 1e-9)
}
