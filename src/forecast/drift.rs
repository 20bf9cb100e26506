//! Whether the error of a model has grown. Rule: pure, the state is a few sums.

use serde::{Deserialize, Serialize};

/// The Page–Hinkley test for an increase of the mean (Page 1954, "Continuous inspection schemes"; Hinkley 1971,
/// "Inference about the change-point from cumulative sum tests").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageHinkley {
    /// Growth of the mean that is tolerated, in the unit of the values.
    delta: f64,
    /// The cumulative sum's rise above its minimum that raises the alarm, in the unit of the values.
    threshold: f64,
    /// Values before the first alarm is possible.
    warm_up: u64,
    count: u64,
    mean: f64,
    sum: f64,
    lowest: f64,
}

/// Why an alarm was raised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alarm {
    /// Height of the statistic, and what it had to exceed.
    pub statistic: f64,
    pub threshold: f64,
    /// Mean of all values since the last start.
    pub mean: f64,
    pub count: u64,
}

impl PageHinkley {
    pub const fn new(delta: f64, threshold: f64, warm_up: u64) -> Self {
        Self { delta, threshold, warm_up, count: 0, mean: 0.0, sum: 0.0, lowest: 0.0 }
    }

    /// Adds a value: `m_t = Σ (x_i − mean_i − δ)`, alarm when `m_t − min m > λ`. After an alarm the test starts anew.
    pub fn add(&mut self, value: f64) -> Option<Alarm> {
        if !value.is_finite() {
            return None;
        }
        self.count += 1;
        self.mean += (value - self.mean) / self.count as f64;
        self.sum += value - self.mean - self.delta;
        self.lowest = self.lowest.min(self.sum);
        let statistic = self.sum - self.lowest;
        if self.count < self.warm_up || statistic <= self.threshold {
            return None;
        }
        let alarm = Alarm { statistic, threshold: self.threshold, mean: self.mean, count: self.count };
        self.restart();
        Some(alarm)
    }

    /// Forgets everything.
    pub const fn restart(&mut self) {
        *self = Self::new(self.delta, self.threshold, self.warm_up);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution as _, Exp};

    use super::*;

    fn alarms(seed: u64, count: usize, mean_at: impl Fn(usize) -> f64) -> Vec<usize> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let noise = Exp::new(1.0).unwrap();
        let mut test = PageHinkley::new(0.2, 40.0, 100);
        (0..count).filter(|i| test.add(mean_at(*i) * noise.sample(&mut random)).is_some()).collect()
    }

    #[test]
    fn a_threefold_error_is_found_within_120_values_of_its_start() {
        for seed in 0..20 {
            let found = alarms(seed, 3000, |i| if i < 2000 { 0.4 } else { 1.2 });
            let first = *found.first().unwrap();
            assert!((2000..2120).contains(&first), "seed {seed}: {found:?}");
        }
    }

    #[test]
    fn a_steady_error_raises_no_alarm_in_a_week_of_minutes() {
        let false_alarms: usize = (0..20).map(|seed| alarms(seed, 10_080, |_| 0.4).len()).sum();
        assert_eq!(false_alarms, 0);
    }

    #[test]
    fn an_error_that_shrinks_raises_no_alarm() {
        assert!(alarms(7, 4000, |i| if i < 2000 { 1.0 } else { 0.3 }).is_empty());
    }
}
