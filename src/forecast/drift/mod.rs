//! Whether the error of a model, or what it is fed with, has changed. Rule: pure, bounded state, serialised with the loop.
//!
//! | detector | of what | published as |
//! |---|---|---|
//! | [`PageHinkley`] | rise of the mean of an error | Page 1954; Hinkley 1971; as used on streams by Gama, Sebastião & Rodrigues 2013 |
//! | [`Adwin`] | any change of the mean of a bounded value | Bifet & Gavaldà 2007, "Learning from time-changing data with adaptive windowing", ADWIN2 |
//! | [`InputWatch`] | change of the distribution of the load, hour by hour | two-sample test of Kolmogorov and Smirnov (Smirnov 1948) with the limit of [`ks_critical`] |
//!
//! Measured by `drift/tests.rs` (its limits are looser), 200 streams each; values as the loop feeds them: errors in
//! widths of the forecast, exponential, mean 0.4, ADWIN on a third of them (in [0, 1]); hourly loads with a daily wave, 8 %
//! noise of the hour and 5 % of the day. Delay: mean and worst, from the change to the alarm, in values; false alarms: in all
//! streams without change together, 200 × 10,080 values (one week of minutes each) or 200 × 8 weeks of hours.
//!
//! | change of the mean | Page–Hinkley δ 0.15, λ 40 | ADWIN δ 0.002 | Kolmogorov–Smirnov α 0.001, 12 h |
//! |---|---|---|---|
//! | none | 0 | 0 | 5 |
//! | × 1.5 | 842, 1,980; 99 of 200 not found within 2,000 | 237, 479 | 7.4 h, 12 h |
//! | × 2 | 173, 331 | 93, 163 | 6.8 h, 7 h |
//! | × 3 | 72, 127 | 43, 79 | 6.8 h, 7 h |

mod adwin;
mod inputs;
mod page_hinkley;
#[cfg(test)]
mod tests;

pub use adwin::{Adwin, Change};
pub use inputs::{InputChange, InputWatch};
pub use page_hinkley::{Alarm, PageHinkley};

/// The statistic of Kolmogorov and Smirnov: the largest distance between the empirical distributions of two samples, in
/// [0, 1]. `None` where a sample is empty or holds a value that is not a number.
pub fn ks_statistic(first: &[f64], second: &[f64]) -> Option<f64> {
    if first.is_empty() || second.is_empty() || first.iter().chain(second).any(|value| value.is_nan()) {
        return None;
    }
    let sorted = |sample: &[f64]| {
        let mut sample = sample.to_vec();
        sample.sort_by(f64::total_cmp);
        sample
    };
    let (first, second) = (sorted(first), sorted(second));
    let (mut i, mut j, mut largest) = (0, 0, 0.0_f64);
    while i < first.len() && j < second.len() {
        let value = first[i].min(second[j]);
        while i < first.len() && first[i] <= value {
            i += 1;
        }
        while j < second.len() && second[j] <= value {
            j += 1;
        }
        let distance = i as f64 / first.len() as f64 - j as f64 / second.len() as f64;
        largest = largest.max(distance.abs());
    }
    Some(largest)
}

/// The limit that [`ks_statistic`] of two samples of the same distribution exceeds with a probability of about `alpha`:
/// `√(−½ ln(α/2)) · √((n + m) / (n m))`, the first term of Smirnov's limit (1948), as in the tables of Massey 1951. For
/// independent values; on small samples it errs to the safe side.
pub fn ks_critical(first: usize, second: usize, alpha: f64) -> f64 {
    let (n, m) = (first.max(1) as f64, second.max(1) as f64);
    (-0.5 * (alpha / 2.0).ln()).sqrt() * ((n + m) / (n * m)).sqrt()
}
