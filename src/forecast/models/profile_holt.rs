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
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature.
        return unsafe { profile_wide(past, from, to) };
    }
    profile_any(past, from, to)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn profile_wide(past: Past<'_>, from: usize, to: usize) -> Vec<f64> {
    profile_any(past, from, to)
}

#[inline(always)]
fn profile_any(past: Past<'_>, from: usize, to: usize) -> Vec<f64> {
    let (day, half) = (past.steps(DAY), past.steps(SMOOTHING) / 2);
    // `[day][window]`: what each window was on that day.
    let mut days = vec![f64::NAN; DAYS * (to - from)];
    let (mut logs, mut room) = (Vec::new(), Vec::new());
    for (back, own) in (1..).map(|days| days * day).zip(days.chunks_exact_mut((to - from).max(1))) {
        if back > to {
            break;
        }
        let first = (from as isize - back as isize - half as isize).max(0) as usize;
        let last = (to - back + half + 1).min(past.values.len());
        logs.clear();
        push_logs(&past.values[first.min(last)..last], 1.0, &mut logs);
        if first + back + half == from && last + back == to + half + 1 && all_known(&logs) {
            means(&mut logs, &mut room, 2 * half + 1, own);
            continue;
        }
        // Sums up to each window, and how many are known.
        let (mut sum, mut count) = (0.0, 0.0);
        let sums = logs.iter().map(|log| {
            sum += if log.is_nan() { 0.0 } else { *log };
            count += if log.is_nan() { 0.0 } else { 1.0 };
            (sum, count)
        });
        let sums: Vec<(f64, f64)> = std::iter::once((0.0, 0.0)).chain(sums).collect();
        for (place, own) in own.iter_mut().enumerate() {
            let Some(centre) = (from + place).checked_sub(back) else { continue };
            let low = centre.saturating_sub(half).max(first) - first;
            let high = (centre + half + 1).min(last).saturating_sub(first);
            if low < high && high < sums.len() && centre < last {
                // Of no known window: no number.
                *own = (sums[high].0 - sums[low].0) / (sums[high].1 - sums[low].1);
            }
        }
    }
    medians(&days, to - from)
}

/// Whether none of `logs`, which are finite where they are known, is unknown.
#[inline(always)]
fn all_known(logs: &[f64]) -> bool {
    // Without a way out in between, so that it is done a vector at a time.
    logs.iter().fold(true, |known, log| known & !log.is_nan())
}

/// Means of `count` neighbours from each place of `values` on, as many as there is room for in `means`. What is in `values`
/// and `room` is lost.
#[inline(always)]
fn means(values: &mut Vec<f64>, room: &mut Vec<f64>, count: usize, means: &mut [f64]) {
    means.fill(0.0);
    // Sums of one, two, four … neighbours, of which those that `count` is made of follow on each other: nothing waits for the
    // sum before it.
    let (mut width, mut place) = (1, 0);
    loop {
        if count & width != 0 {
            means.iter_mut().zip(&values[place..]).for_each(|(sum, value)| *sum += value);
            place += width;
        }
        if 2 * width > count {
            break;
        }
        room.clear();
        room.extend(values.iter().zip(&values[width..]).map(|(one, other)| one + other));
        std::mem::swap(values, room);
        width *= 2;
    }
    means.iter_mut().for_each(|sum| *sum /= count as f64);
}

/// Medians over the days of each window, of `[day][window]`.
#[inline(always)]
fn medians(days: &[f64], windows: usize) -> Vec<f64> {
    const LANES: usize = 4;
    let mut medians = Vec::with_capacity(windows);
    let mut place = 0;
    while place + LANES <= windows {
        let rows: [[f64; LANES]; DAYS] = from_fn(|day| from_fn(|lane| days[day * windows + place..][..LANES][lane]));
        // A sum is a number where all of it are.
        let sums = rows.iter().fold([0.0; LANES], |sums, row| from_fn(|lane| sums[lane] + row[lane]));
        if all_known(&sums) {
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
#[inline(always)]
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
    use prescale_domain::{Series, Timestamp};

    use super::*;

    #[test]
    fn means_are_those_of_neighbours() {
        for count in 1..40_usize {
            let values: Vec<f64> = (0..100).map(|i| f64::from(i * 7919 % 1009)).collect();
            let mut found = vec![0.0; 100 + 1 - count];
            means(&mut values.clone(), &mut Vec::new(), count, &mut found);
            let expected = values.windows(count).map(|own| own.iter().sum::<f64>() / count as f64);
            assert!(found.into_iter().eq(expected), "{count}");
        }
    }

    #[test]
    fn a_profile_is_the_median_of_days_that_are_means_of_what_is_known() {
        let load = |i: usize| 100.0 + (i % 288) as f64 + (i * 7919 % 31) as f64;
        // Gaps of the second last day, an hour and single ones.
        let known = |i: usize| !(288 * 6 + 110..288 * 6 + 122).contains(&i) && (i < 288 * 6 || !i.is_multiple_of(5));
        let values: Vec<Option<f64>> = (0..288 * 8).map(|i| known(i).then(|| load(i))).collect();
        let (start, step) = (Timestamp::from_millis(0), Span::from_minutes(5));
        // All days are there, or only some, the first of them in part.
        for length in [288 * 8, 288 * 7, 288 * 4 - 100] {
            let series = Series { start, step, values: values[288 * 8 - length..].to_vec() };
            let past = Past::all(&series);
            let (from, to) = (length - 188, length + 12);
            let plain = |at: usize| {
                let one = |days: usize| {
                    let centre = at.checked_sub(days * 288).filter(|centre| *centre < length);
                    let known = centre.map(|centre| &series.values[centre.saturating_sub(1)..(centre + 2).min(length)]);
                    let logs: Vec<f64> = known.unwrap_or(&[]).iter().flatten().map(|load| load.ln_1p()).collect();
                    logs.iter().sum::<f64>() / logs.len() as f64
                };
                median_of_known(from_fn(|day| one(day + 1)))
            };
            let found = profile(past, from, to);
            let expected: Vec<f64> = (from..to).map(plain).collect();
            let same = |(one, other): (&f64, &f64)| (one - other).abs() < 1e-12 || one.is_nan() && other.is_nan();
            assert!(found.len() == 200 && found.iter().zip(&expected).all(same), "{length}: {found:?} {expected:?}");
        }
    }

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
