//! Whether the mean of a value has grown. Rule: the state is a few sums.

use serde::{Deserialize, Serialize};

/// The Page–Hinkley test for an increase of the mean (Page 1954, "Continuous inspection schemes"; Hinkley 1971,
/// "Inference about the change-point from cumulative sum tests"), with the running mean in place of a known one as in Gama,
/// Sebastião & Rodrigues 2013, "On evaluating stream learning algorithms", section 5: `m_T = Σ (x_t − x̄_t − δ)`, where
/// `x̄_t` is the mean of the first t values; alarm where `m_T − min(0, m_1, …, m_T) > λ`. The 0 is the start of Page's
/// cumulative sum.
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
    /// Tolerates growth by `delta`, raises the alarm above `threshold` (both in the unit of the values), never within the
    /// first `warm_up` values.
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
