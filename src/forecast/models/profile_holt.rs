//! Day profile and damped Holt on what it leaves (a cheap MSTL; Bandara, Hyndman & Bergmeir 2021): the profile of a minute
//! is the median over the last seven days of the smoothed logs, and Holt follows the remainder. Rule: both are computed
//! from the values up to the origin, so that a shift of the level is in the next forecast.

use std::array::from_fn;

use prescale_domain::Span;
use serde::{Deserialize, Serialize};

use super::holt::{self, DampedTrend};
use super::pointwise::{PointExpert, Pointwise};
use super::{DAY, ModelKind};
use crate::log::{known, push_logs};
use crate::past::Past;

const DAYS: usize = 7;
/// Logs are smoothed over this length around a window.
const SMOOTHING: Span = Span::from_minutes(15);
/// Windows that the filter runs over before the origin.
const MEMORY_STEPS: usize = 240;
/// Most windows of the training part that the grid is searched over: the newest.
const GRID_STEPS_MAX: usize = 20_000;

/// Day profile with damped Holt for each service.
pub type ProfileHolt = Pointwise<Profile>;

/// The Holt on the remainder.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Profile {
    remainder: DampedTrend,
}

impl PointExpert for Profile {
    const KIND: ModelKind = ModelKind::ProfileHolt;
    const VERSION: u32 = 1;
    const KNOWN_MIN: usize = 3;

    fn choose(training: Past<'_>, horizon_steps: usize) -> Option<Self> {
        let (end, day) = (training.values.len(), training.steps(DAY));
        let from = day.max(end.saturating_sub(GRID_STEPS_MAX));
        if from >= end {
            return None;
        }
        let left = remainders(training, from, &profile(training, from, end));
        let left: Vec<Option<f64>> = left.into_iter().map(known).collect();
        Some(Self { remainder: holt::search(&left, horizon_steps) })
    }

    fn points(&self, past: Past<'_>, horizon_steps: usize) -> Option<Vec<f64>> {
        let (end, day) = (past.values.len(), past.steps(DAY));
        let from = day.max(end.saturating_sub(MEMORY_STEPS));
        if from >= end {
            return None;
        }
        let profile = profile(past, from, end + horizon_steps);
        let left = remainders(past, from, &profile[..end - from]);
        let ahead = holt::ahead(left.into_iter().map(known), self.remainder, horizon_steps)?;
        let highest = past.highest(end - from);
        let newest = profile[..end - from].iter().rev().find_map(|log| known(*log))?;
        let points = ahead.iter().zip(&profile[end - from..]).map(|(left, log)| {
            // Where the profile is unknown it stays as it is now.
            (left + known(*log).unwrap_or(newest)).exp_m1().clamp(0.0, 10.0 * highest)
        });
        Some(points.collect())
    }
}

/// What the profile leaves of the logs from index `from` on; NaN where it is not known.
fn remainders(past: Past<'_>, from: usize, profile: &[f64]) -> Vec<f64> {
    let mut left = Vec::with_capacity(profile.len());
    push_logs(&past.values[from..], 1.0, &mut left);
    left.iter_mut().zip(profile).for_each(|(log, profile)| *log -= profile);
    left
}

/// The profile of the windows `from..to`, each from the days before it; NaN where no day is known.
fn profile(past: Past<'_>, from: usize, to: usize) -> Vec<f64> {
    let (day, half) = (past.steps(DAY), past.steps(SMOOTHING) / 2);
    // `[day][window]`: what each window was on that day.
    let mut days = vec![f64::NAN; DAYS * (to - from)];
    // Of the logs up to each window, and of how many are known.
    let (mut logs, mut sums, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for (back, own) in (1..).map(|days| days * day).zip(days.chunks_exact_mut((to - from).max(1))) {
        if back > to {
            break;
        }
        // A mean that slides over the day, by sums up to each window.
        let first = (from as isize - back as isize - half as isize).max(0) as usize;
        let last = (to - back + half + 1).min(past.values.len());
        logs.clear();
        push_logs(&past.values[first.min(last)..last], 1.0, &mut logs);
        let (mut sum, mut count) = (0.0, 0.0);
        sums.clear();
        counts.clear();
        sums.push(sum);
        counts.push(count);
        sums.extend(logs.iter().map(|log| {
            sum += if log.is_nan() { 0.0 } else { *log };
            sum
        }));
        counts.extend(logs.iter().map(|log| {
            count += if log.is_nan() { 0.0 } else { 1.0 };
            count
        }));
        let windows = 2 * half + 1;
        if first + back + half == from && last + back == to + half + 1 {
            // All of the day is there: without looking for the ends of each mean.
            let sums = sums.iter().zip(&sums[windows..]).zip(counts.iter().zip(&counts[windows..]));
            for (own, ((before, sum), (fewer, count))) in own.iter_mut().zip(sums) {
                *own = (sum - before) / (count - fewer);
            }
            continue;
        }
        for (place, own) in own.iter_mut().enumerate() {
            let Some(centre) = (from + place).checked_sub(back) else { continue };
            let low = centre.saturating_sub(half).max(first) - first;
            let high = (centre + half + 1).min(last).saturating_sub(first);
            if low < high && high < sums.len() && centre < last {
                // Of no known window: no number.
                *own = (sums[high] - sums[low]) / (counts[high] - counts[low]);
            }
        }
    }
    medians(&days, to - from)
}

/// Medians over the days of each window, of `[day][window]`.
fn medians(days: &[f64], windows: usize) -> Vec<f64> {
    const LANES: usize = 4;
    let mut medians = Vec::with_capacity(windows);
    let mut place = 0;
    while place + LANES <= windows {
        let rows: [[f64; LANES]; DAYS] = from_fn(|day| from_fn(|lane| days[day * windows + place..][..LANES][lane]));
        let all = rows.iter().flatten().all(|log| !log.is_nan());
        if all {
            medians.extend(median_of_seven(rows));
        } else {
            medians.extend((0..LANES).map(|lane| median_of_known(rows.map(|row| row[lane]))));
        }
        place += LANES;
    }
    medians.extend((place..windows).map(|place| median_of_known(from_fn(|day| days[day * windows + place]))));
    medians
}

/// Lane by lane, by exchanges that depend on nothing.
fn median_of_seven<const LANES: usize>(mut p: [[f64; LANES]; DAYS]) -> [f64; LANES] {
    const EXCHANGES: [(usize, usize); 13] =
        [(0, 5), (0, 3), (1, 6), (2, 4), (0, 1), (3, 5), (2, 6), (2, 3), (3, 6), (4, 5), (1, 4), (1, 3), (3, 4)];
    for (low, high) in EXCHANGES {
        let (a, b) = (p[low], p[high]);
        p[low] = from_fn(|lane| if a[lane] < b[lane] { a[lane] } else { b[lane] });
        p[high] = from_fn(|lane| if a[lane] < b[lane] { b[lane] } else { a[lane] });
    }
    p[DAYS / 2]
}

/// Of those that are numbers, by insertion; NaN if none is.
fn median_of_known(mut values: [f64; DAYS]) -> f64 {
    let mut count = 0;
    for place in 0..DAYS {
        let value = values[place];
        if value.is_nan() {
            continue;
        }
        let mut hole = count;
        while hole > 0 && values[hole - 1] > value {
            values[hole] = values[hole - 1];
            hole -= 1;
        }
        values[hole] = value;
        count += 1;
    }
    match count {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => 0.5 * (values[even / 2] + values[even / 2 - 1]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_a_window_is_that_of_its_known_days() {
        // Exchanges that sort all sequences of zeros and ones sort everything (Knuth, 5.3.4).
        for bits in 0..1_u32 << DAYS {
            let days: [f64; DAYS] = from_fn(|day| f64::from(bits >> day & 1));
            let expected = f64::from(u8::from(bits.count_ones() as usize > DAYS / 2));
            assert_eq!(median_of_seven(days.map(|value| [value])), [expected], "{days:?}");
            assert_eq!(median_of_known(days), expected, "{days:?}");
        }
        let nan = f64::NAN;
        assert_eq!(median_of_known([nan, 3.0, nan, 1.0, nan, nan, nan]), 2.0);
        assert_eq!(median_of_known([5.0, nan, 3.0, 1.0, nan, nan, nan]), 3.0);
        assert!(median_of_known([nan; DAYS]).is_nan());
        // Windows that fill a vector, and those left over.
        let days: Vec<f64> = (0..DAYS * 6).map(|i| (i * 31 % 17) as f64).collect();
        let one = |place: usize| median_of_known(from_fn(|day| days[day * 6 + place]));
        assert_eq!(medians(&days, 6), (0..6).map(one).collect::<Vec<_>>());
    }
}
