//! Means, their differences and the intervals around them for one look. Rule: an interval that can't be had is absent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Number, mean and sum of squared deviations of what was seen, kept by Welford's update (Technometrics 4, 1962).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    count: u64,
    mean: f64,
    squares: f64,
}

/// An effect with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// Treatment − control, in the unit of the metric.
    pub effect: f64,
    pub low: f64,
    pub high: f64,
    /// Probability that the interval holds the true effect, such as 0.95.
    pub level: f64,
    /// Pairs of periods, or services.
    pub units: u64,
}

impl Moments {
    /// One more; what is no number is not counted.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.count += 1;
        let ahead = value - self.mean;
        self.mean += ahead / self.count as f64;
        self.squares += ahead * (value - self.mean);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    /// With n − 1.
    pub fn variance(&self) -> Option<f64> {
        (self.count > 1).then(|| self.squares / (self.count - 1) as f64)
    }
}

impl Extend<f64> for Moments {
    fn extend<T: IntoIterator<Item = f64>>(&mut self, values: T) {
        values.into_iter().for_each(|value| self.add(value));
    }
}

impl FromIterator<f64> for Moments {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        let mut moments = Self::default();
        moments.extend(values);
        moments
    }
}

/// The mean of independent differences, with Student's interval at `1 − alpha`; from 2 on.
pub fn student(differences: &Moments, alpha: f64) -> Option<Estimate> {
    let (count, effect) = (differences.count(), differences.mean()?);
    let error = (differences.variance()? / count as f64).sqrt();
    around(effect, error, (count - 1) as f64, alpha, count)
}

/// The difference of the means of two groups of unlike variance, with the interval of Welch (Biometrika 34, 1947) at
/// `1 − alpha`; from 2 of each on.
pub fn welch(control: &Moments, treatment: &Moments, alpha: f64) -> Option<Estimate> {
    let effect = treatment.mean()? - control.mean()?;
    let share = |group: &Moments| Some(group.variance()? / group.count() as f64);
    let (of_control, of_treatment) = (share(control)?, share(treatment)?);
    let error = (of_control + of_treatment).sqrt();
    let part = |share: f64, group: &Moments| share * share / (group.count() - 1) as f64;
    let parts = part(of_control, control) + part(of_treatment, treatment);
    // Groups without any spread: the freedom of the smaller one.
    let freedom = if parts > 0.0 {
        (of_control + of_treatment).powi(2) / parts
    } else {
        (control.count().min(treatment.count()) - 1) as f64
    };
    around(effect, error, freedom, alpha, control.count() + treatment.count())
}

fn around(effect: f64, error: f64, freedom: f64, alpha: f64, units: u64) -> Option<Estimate> {
    let reach = t_quantile(freedom, 1.0 - alpha / 2.0)? * error;
    let sound = reach.is_finite() && effect.is_finite();
    sound.then_some(Estimate { effect, low: effect - reach, high: effect + reach, level: 1.0 - alpha, units })
}

/// The quantile of Student's distribution with `freedom` degrees of freedom.
pub(crate) fn t_quantile(freedom: f64, level: f64) -> Option<f64> {
    if !(level > 0.0 && level < 1.0) {
        return None;
    }
    Some(StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(level))
}
