//! What came of an arm. Rule: sums, so that parts add up; a measure without its denominator is absent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What came of one service in a stretch of time under one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub seconds: f64,
    /// Of these, with less capacity in service than the load needed.
    pub short_seconds: f64,
    /// Load times seconds, and the part of it beyond the capacity in service.
    pub demanded: f64,
    pub missed: f64,
    /// `None` where no price is known.
    pub cost_usd: Option<f64>,
    pub actions: u64,
    /// Scaled pinball losses of the forecasts that were scored, and how many they are.
    pub forecast_loss: f64,
    pub forecasts: u64,
}

/// A number that is better when lower.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Percent of time short.
    TimePct,
    /// Percent of requests beyond capacity.
    RequestsPct,
    CostUsdHour,
    /// Cost of a million units of load times seconds within capacity.
    CostPerMillionGood,
    ActionsHour,
    /// Mean scaled pinball loss: for models.
    ForecastLoss,
    /// Cost an hour, and this many USD for each hour short.
    CostWithShortage {
        usd_short_hour: f64,
    },
}

/// The sum of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    sum: Sample,
    /// Time whose cost is unknown.
    unpriced_seconds: f64,
}

impl Measured {
    /// Adds one; a sample that is no number anywhere counts as not taken.
    pub fn add(&mut self, sample: &Sample) {
        let Sample { seconds, short_seconds, demanded, missed, cost_usd, forecast_loss, .. } = *sample;
        let numbers = [seconds, short_seconds, demanded, missed, cost_usd.unwrap_or(0.0), forecast_loss];
        if !numbers.iter().all(|number| number.is_finite() && *number >= 0.0) {
            return;
        }
        let sum = &mut self.sum;
        sum.seconds += seconds;
        sum.short_seconds += short_seconds;
        sum.demanded += demanded;
        sum.missed += missed;
        sum.actions = sum.actions.saturating_add(sample.actions);
        sum.forecast_loss += forecast_loss;
        sum.forecasts = sum.forecasts.saturating_add(sample.forecasts);
        match cost_usd {
            Some(cost) => sum.cost_usd = Some(sum.cost_usd.unwrap_or(0.0) + cost),
            None => self.unpriced_seconds += seconds,
        }
    }

    /// The metric over all of it; `None` where nothing was measured, or not all of its cost is known.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        let sum = &self.sum;
        let ratio = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        let hours = sum.seconds / 3600.0;
        let cost = sum.cost_usd.filter(|_| self.unpriced_seconds <= 0.0);
        match metric {
            Metric::TimePct => ratio(100.0 * sum.short_seconds, sum.seconds),
            Metric::RequestsPct => ratio(100.0 * sum.missed, sum.demanded),
            Metric::CostUsdHour => ratio(cost?, hours),
            Metric::CostPerMillionGood => ratio(1e6 * cost?, sum.demanded - sum.missed),
            Metric::ActionsHour => ratio(sum.actions as f64, hours),
            Metric::ForecastLoss => ratio(sum.forecast_loss, sum.forecasts as f64),
            Metric::CostWithShortage { usd_short_hour } => {
                ratio(cost? + usd_short_hour * sum.short_seconds / 3600.0, hours)
            }
        }
    }
}
