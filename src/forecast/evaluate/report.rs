//! Figures of an evaluation. Rule: every figure is of the values at a horizon, never of sums up to it; a figure without data
//! is absent.

use std::collections::BTreeMap;

use prescale_domain::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::accuracy::{Accuracy, pinball};
use crate::models::DAY;
use crate::models::residual::at_level;

/// The level whose coverage is watched over time.
const UPPER: f64 = 0.9;

/// Figures of all models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// By name and horizon, such as `5m`.
    pub models: BTreeMap<String, BTreeMap<String, HorizonReport>>,
    /// Models that could not be fitted or asked, and why.
    pub failed: BTreeMap<String, String>,
    /// Time spent fitting, where whoever ran the evaluation has measured it.
    pub train_seconds: Option<f64>,
    /// Origins of the test.
    pub origins: usize,
    /// Mean absolute first difference of the training part, in the unit of the load.
    pub mase_scale: f64,
    pub step: Span,
    pub train_from: Timestamp,
    pub train_until: Timestamp,
    pub test_from: Timestamp,
    pub test_to: Timestamp,
    /// Whether models were fitted again, once a day, during the test.
    pub online: bool,
    pub seed: u64,
    /// Weights of the ensemble's experts for the median after the last origin, by horizon.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, BTreeMap<String, f64>>,
    /// Every forecast of the test with its outcome, by name and horizon.
    #[serde(skip)]
    pub outcomes: BTreeMap<String, BTreeMap<Span, Vec<Outcome>>>,
    #[serde(skip)]
    pub levels: Vec<f64>,
}

/// Figures of one model at one horizon. Point figures are of the median. Quantiles are calibrated as in service: every
/// outcome moves those of later origins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HorizonReport {
    /// Mean absolute error in units of the MASE scale.
    pub mase: f64,
    /// Mean of 200 |e| / (y + f), percent.
    pub smape: f64,
    /// Mean of 100 |e| / y over y > 0, percent.
    pub mape: Option<f64>,
    /// In the unit of the load.
    pub mae: f64,
    pub rmse: f64,
    /// Sum of |e| over sum of y; 1 − this is what others call accuracy.
    pub wape: Option<f64>,
    /// Mean pinball loss by level, in the unit of the load.
    pub pinball: BTreeMap<String, f64>,
    /// Share of values at or below the quantile, by level.
    pub coverage: BTreeMap<String, f64>,
    /// Lowest and highest coverage of the 90 % quantile in any two whole days of the test.
    pub coverage_two_days: Option<(f64, f64)>,
    pub n: u64,
}

/// A forecast of one window and what came.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Start of the window that was forecast.
    pub target: Timestamp,
    pub actual: f64,
    /// Quantiles at the report's levels.
    pub row: Vec<f64>,
}

/// The name of a horizon: in minutes where it is whole ones.
pub fn horizon_name(horizon: Span) -> String {
    if horizon.millis() % 60_000 == 0 { format!("{}m", horizon.millis() / 60_000) } else { horizon.to_string() }
}

/// Figures of outcomes in order of time; `None` without any.
pub(super) fn figures(outcomes: &[Outcome], levels: &[f64], scale: f64, test_from: Timestamp) -> Option<HorizonReport> {
    let mut sums = Accuracy::default();
    let (mut missed, mut total) = (0.0, 0.0);
    for outcome in outcomes {
        let at = |level| at_level(levels, &outcome.row, level);
        sums.add(outcome.actual, at(0.5), at(UPPER), UPPER);
        missed += (outcome.actual - at(0.5)).abs();
        total += outcome.actual;
    }
    let mean = |of: &dyn Fn(&Outcome, usize) -> f64| -> BTreeMap<String, f64> {
        let count = outcomes.len().max(1) as f64;
        let by_level = levels.iter().enumerate();
        by_level.map(|(q, level)| (level.to_string(), outcomes.iter().map(|o| of(o, q)).sum::<f64>() / count)).collect()
    };
    Some(HorizonReport {
        mase: sums.mase(scale)?,
        smape: sums.smape_pct()?,
        mape: sums.mape_pct(),
        mae: sums.mae()?,
        rmse: sums.rmse()?,
        wape: (total > 0.0).then(|| missed / total),
        pinball: mean(&|outcome, q| pinball(outcome.actual, outcome.row[q], levels[q])),
        coverage: mean(&|outcome, q| f64::from(u8::from(outcome.actual <= outcome.row[q]))),
        coverage_two_days: two_days(outcomes, levels, test_from),
        n: sums.count(),
    })
}

/// Lowest and highest coverage over two whole days, from each midnight after the start of the test.
fn two_days(outcomes: &[Outcome], levels: &[f64], test_from: Timestamp) -> Option<(f64, f64)> {
    let mut days: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for outcome in outcomes {
        let day = outcome.target.since(test_from).millis().div_euclid(DAY.millis());
        let sums = days.entry(day).or_default();
        sums.0 += f64::from(u8::from(outcome.actual <= at_level(levels, &outcome.row, UPPER)));
        sums.1 += 1.0;
    }
    let most = days.values().map(|sums| sums.1).fold(0.0, f64::max);
    let pairs = days.iter().filter_map(|(day, one)| Some((one, days.get(&(day + 1))?)));
    // The last target days are cut short by the horizon.
    let whole = pairs.filter(|(one, two)| one.1 + two.1 >= 1.8 * most);
    let shares = whole.map(|(one, two)| (one.0 + two.0) / (one.1 + two.1));
    shares.fold(None, |range: Option<(f64, f64)>, share| {
        Some(range.map_or((share, share), |(low, high)| (low.min(share), high.max(share))))
    })
}
