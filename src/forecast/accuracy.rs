//! How far forecasts were off. Rule: pure sums in a fixed order; a figure without data is `None`, never 0.

use serde::{Deserialize, Serialize};

/// Sums over pairs of what was forecast and what came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    count: u64,
    absolute: f64,
    squared: f64,
    percent: f64,
    percent_count: u64,
    symmetric: f64,
    pinball: f64,
    covered: u64,
}

impl Accuracy {
    /// Adds one value `actual` with its median forecast and its forecast at `level`.
    pub fn add(&mut self, actual: f64, median: f64, upper: f64, level: f64) {
        let miss = (actual - median).abs();
        self.count += 1;
        self.absolute += miss;
        self.squared += miss * miss;
        if actual > 0.0 {
            self.percent += miss / actual;
            self.percent_count += 1;
        }
        let both = actual.abs() + median.abs();
        if both > 0.0 {
            self.symmetric += 2.0 * miss / both;
        }
        self.pinball += pinball(actual, upper, level);
        self.covered += u64::from(actual <= upper);
    }

    pub const fn count(&self) -> u64 {
        self.count
    }

    fn mean(&self, sum: f64) -> Option<f64> {
        (self.count > 0).then(|| sum / self.count as f64)
    }

    /// Mean absolute error, in the unit of the load.
    pub fn mae(&self) -> Option<f64> {
        self.mean(self.absolute)
    }

    /// Root of the mean squared error, in the unit of the load.
    pub fn rmse(&self) -> Option<f64> {
        self.mean(self.squared).map(f64::sqrt)
    }

    /// Mean absolute error in percent of the actual value, over values above 0.
    pub fn mape_pct(&self) -> Option<f64> {
        (self.percent_count > 0).then(|| 100.0 * self.percent / self.percent_count as f64)
    }

    /// Mean of `200 |e| / (y + f)`, percent.
    pub fn smape_pct(&self) -> Option<f64> {
        self.mean(100.0 * self.symmetric)
    }

    /// Mean absolute error in units of `scale` (Hyndman & Koehler 2006); see [`mase_scale`].
    pub fn mase(&self, scale: f64) -> Option<f64> {
        self.mae().filter(|_| scale > 0.0).map(|mae| mae / scale)
    }

    /// Mean pinball loss at the level, in the unit of the load.
    pub fn pinball(&self) -> Option<f64> {
        self.mean(self.pinball)
    }

    /// Percent of values at or below the forecast at the level.
    pub fn coverage_pct(&self) -> Option<f64> {
        self.mean(100.0 * self.covered as f64)
    }
}

/// Pinball loss of `forecast` for the quantile `level` when `actual` came (Koenker & Bassett 1978).
pub fn pinball(actual: f64, forecast: f64, level: f64) -> f64 {
    let miss = actual - forecast;
    if miss >= 0.0 { level * miss } else { (level - 1.0) * miss }
}

/// Mean absolute first difference of the known neighbours; `None` without any, or when nothing ever changes.
pub fn mase_scale(values: &[Option<f64>]) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0_u64);
    for pair in values.windows(2) {
        if let [Some(a), Some(b)] = pair {
            sum += (b - a).abs();
            count += 1;
        }
    }
    (count > 0 && sum > 0.0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_two_pairs_are_those_of_the_definitions() {
        let mut accuracy = Accuracy::default();
        accuracy.add(10.0, 8.0, 12.0, 0.9);
        accuracy.add(0.0, 1.0, 0.0, 0.9);
        assert_eq!(accuracy.mae(), Some(1.5));
        assert_eq!(accuracy.rmse(), Some(2.5_f64.sqrt()));
        assert_eq!(accuracy.mape_pct(), Some(20.0));
        assert_eq!(accuracy.smape_pct(), Some(100.0 * (4.0 / 18.0 + 2.0) / 2.0));
        assert_eq!(accuracy.mase(3.0), Some(0.5));
        assert!((accuracy.pinball().unwrap() - 0.1).abs() < 1e-12);
        assert_eq!(accuracy.coverage_pct(), Some(100.0));
    }

    #[test]
    fn nothing_is_not_zero() {
        assert_eq!(Accuracy::default().mae(), None);
        assert_eq!(mase_scale(&[Some(1.0), None, Some(2.0)]), None);
        assert_eq!(mase_scale(&[Some(1.0), Some(3.0), Some(2.0)]), Some(1.5));
    }
}
