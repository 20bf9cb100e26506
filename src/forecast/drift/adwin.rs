//! A window that is as long as its mean is the same. Rule: memory grows with the logarithm of the window's length.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Buckets of a size before two become one of twice the size (`M` of the paper).
const BUCKETS: usize = 5;
/// Fewest values on either side of a cut: the normal bound means nothing below.
const SIDE_MIN: u64 = 5;
/// Sizes of buckets: 2⁰ to 2³¹ values.
const ROWS_MAX: usize = 32;

/// ADWIN2 (Bifet & Gavaldà 2007): an exponential histogram of the values in the window. Wherever the means of two parts of
/// the window differ by more than
/// `ε = √(2/m · σ² · ln(2/δ′)) + 2/(3m) · ln(2/δ′)` with `1/m = 1/n₀ + 1/n₁`, `δ′ = δ / ln n`,
/// the older part is dropped. Values are expected in [0, 1]: the second term of ε is in that unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adwin {
    /// Probability of a false cut (`δ`).
    delta: f64,
    /// The window is looked through after this many values.
    every: u32,
    ticks: u32,
    /// Row `i` holds buckets of `2^i` values, oldest first.
    rows: Vec<VecDeque<Bucket>>,
    count: u64,
    total: f64,
    /// Sum of the squared distances from the mean.
    spread: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bucket {
    total: f64,
    spread: f64,
}

/// A cut of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Mean of the values that were dropped, and of those that are left.
    pub before: f64,
    pub after: f64,
    /// Largest distance of the means at a cut, and the bound that it exceeded.
    pub statistic: f64,
    pub threshold: f64,
    pub dropped: u64,
    pub kept: u64,
}

impl Change {
    /// Whether the mean has grown.
    pub fn rose(&self) -> bool {
        self.after > self.before
    }
}

impl Adwin {
    /// `delta` in (0, 1); the window is looked through after `every` values, 1 as in the paper.
    pub fn new(delta: f64, every: u32) -> Self {
        Self { delta, every: every.max(1), ticks: 0, rows: Vec::new(), count: 0, total: 0.0, spread: 0.0 }
    }

    /// Number of values in the window.
    pub const fn width(&self) -> u64 {
        self.count
    }

    /// Mean of the window; `None` when it is empty.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.total / self.count as f64)
    }

    /// Number of buckets held, for the bound on memory.
    pub fn buckets(&self) -> usize {
        self.rows.iter().map(VecDeque::len).sum()
    }

    /// Adds a value in [0, 1] (others are clamped, what is no number is passed over). Says what was dropped.
    pub fn add(&mut self, value: f64) -> Option<Change> {
        if value.is_nan() {
            return None;
        }
        self.insert(value.clamp(0.0, 1.0));
        self.ticks += 1;
        if self.ticks < self.every {
            return None;
        }
        self.ticks = 0;
        self.shrink()
    }

    /// Forgets everything.
    pub fn restart(&mut self) {
        *self = Self::new(self.delta, self.every);
    }

    fn insert(&mut self, value: f64) {
        if let Some(mean) = self.mean() {
            let n = self.count as f64;
            self.spread += n / (n + 1.0) * (value - mean) * (value - mean);
        }
        self.count += 1;
        self.total += value;
        let mut carried = Bucket { total: value, spread: 0.0 };
        for row in 0..ROWS_MAX {
            if self.rows.len() == row {
                self.rows.push(VecDeque::new());
            }
            self.rows[row].push_back(carried);
            if self.rows[row].len() <= BUCKETS {
                return;
            }
            let size = (1_u64 << row) as f64;
            let (Some(a), Some(b)) = (self.rows[row].pop_front(), self.rows[row].pop_front()) else { return };
            let between = (a.total - b.total) / size;
            carried = Bucket { total: a.total + b.total, spread: a.spread + b.spread + size / 2.0 * between * between };
        }
    }

    /// Drops oldest buckets while two parts differ.
    fn shrink(&mut self) -> Option<Change> {
        let mut dropped = (0_u64, 0.0);
        let mut worst: Option<(f64, f64)> = None;
        while let Some((distance, bound)) = self.cut() {
            if worst.is_none_or(|(most, _)| distance > most) {
                worst = Some((distance, bound));
            }
            let (size, total) = self.drop_oldest()?;
            dropped = (dropped.0 + size, dropped.1 + total);
        }
        let (statistic, threshold) = worst?;
        let before = dropped.1 / dropped.0.max(1) as f64;
        let after = self.mean().unwrap_or(before);
        Some(Change { before, after, statistic, threshold, dropped: dropped.0, kept: self.count })
    }

    /// The first cut from the oldest on at which the means differ: by how much, and by more than what.
    fn cut(&self) -> Option<(f64, f64)> {
        let n = self.count as f64;
        if self.count < 2 * SIDE_MIN {
            return None;
        }
        let log = (2.0 * n.ln() / self.delta).ln();
        let variance = self.spread.max(0.0) / n;
        let (mut older, mut older_total) = (0_u64, 0.0);
        for (row, buckets) in self.rows.iter().enumerate().rev() {
            for bucket in buckets {
                older += 1 << row;
                older_total += bucket.total;
                let newer = self.count.saturating_sub(older);
                if newer < SIDE_MIN {
                    return None;
                }
                if older < SIDE_MIN {
                    continue;
                }
                let (n0, n1) = (older as f64, newer as f64);
                let distance = (older_total / n0 - (self.total - older_total) / n1).abs();
                let inverse = 1.0 / n0 + 1.0 / n1;
                let bound = (2.0 * inverse * variance * log).sqrt() + 2.0 / 3.0 * inverse * log;
                if distance > bound {
                    return Some((distance, bound));
                }
            }
        }
        None
    }

    fn drop_oldest(&mut self) -> Option<(u64, f64)> {
        while self.rows.last().is_some_and(VecDeque::is_empty) {
            self.rows.pop();
        }
        let row = self.rows.len().checked_sub(1)?;
        let bucket = self.rows[row].pop_front()?;
        let size = 1_u64 << row;
        let (n, k) = (self.count as f64, size as f64);
        self.count -= size;
        self.total -= bucket.total;
        let left = self.count as f64;
        if left > 0.0 {
            let between = bucket.total / k - self.total / left;
            self.spread = (self.spread - bucket.spread - k * left / n * between * between).max(0.0);
        } else {
            (self.total, self.spread) = (0.0, 0.0);
        }
        Some((size, bucket.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_of_a_constant_is_all_of_it_in_little_memory() {
        let mut adwin = Adwin::new(0.002, 1);
        for _ in 0..100_000 {
            assert_eq!(adwin.add(0.25), None);
        }
        assert_eq!((adwin.width(), adwin.mean()), (100_000, Some(0.25)));
        assert!(adwin.buckets() <= 6 * 17, "{}", adwin.buckets());
        assert_eq!(adwin.add(f64::NAN), None);
    }

    #[test]
    fn total_and_spread_of_what_is_left_are_those_of_its_values() {
        let mut adwin = Adwin::new(0.002, 1);
        let value = |i: u32| f64::from(i * 7919 % 101) / 400.0 + if i < 3000 { 0.0 } else { 0.5 };
        let changes: Vec<Change> = (0..4000).filter_map(|i| adwin.add(value(i))).collect();
        assert!(changes.first().is_some_and(|change| change.rose() && change.statistic > change.threshold));
        let kept: Vec<f64> = (4000 - adwin.width() as u32..4000).map(value).collect();
        let mean = kept.iter().sum::<f64>() / kept.len() as f64;
        let spread: f64 = kept.iter().map(|value| (value - mean) * (value - mean)).sum();
        assert!((adwin.mean().unwrap() - mean).abs() < 1e-9);
        assert!((adwin.spread - spread).abs() < 1e-6 * spread, "{} {spread}", adwin.spread);
        assert!(kept.len() >= 950, "{}", kept.len());
    }
}
