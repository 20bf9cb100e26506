//! Day profile and damped Holt on what it leaves (a cheap MSTL; Bandara, Hyndman & Bergmeir 2021): the profile of a minute
//! is the median over the last seven days of the smoothed logs, and Holt follows the remainder. Rule: both are computed
//! from the values up to the origin, so that a shift of the level is in the next forecast.

use prescale_domain::Span;
use serde::{Deserialize, Serialize};

use super::holt::{self, DampedTrend};
use super::pointwise::{PointExpert, Pointwise};
use super::{DAY, ModelKind};
use crate::log::ln_1p;
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
        let ahead = holt::ahead(left.into_iter(), self.remainder, horizon_steps)?;
        let highest = past.values[from..].iter().flatten().fold(0.0_f64, |high, value| high.max(*value));
        let newest = profile[..end - from].iter().rev().find_map(|log| *log)?;
        let points = ahead.iter().zip(&profile[end - from..]).map(|(left, log)| {
            // Where the profile is unknown it stays as it is now.
            (left + log.unwrap_or(newest)).exp_m1().clamp(0.0, 10.0 * highest)
        });
        Some(points.collect())
    }
}

/// What the profile leaves of the logs from index `from` on.
fn remainders(past: Past<'_>, from: usize, profile: &[Option<f64>]) -> Vec<Option<f64>> {
    let logs = past.values[from..].iter().map(|value| value.map(ln_1p));
    logs.zip(profile).map(|(log, profile)| log.zip(*profile).map(|(log, profile)| log - profile)).collect()
}

/// The profile of the windows `from..to`, each from the days before it; `None` where no day is known.
fn profile(past: Past<'_>, from: usize, to: usize) -> Vec<Option<f64>> {
    let (day, half) = (past.steps(DAY), past.steps(SMOOTHING) / 2);
    // What each window was on the days that are known, and how many those are.
    let mut days = vec![([0.0; DAYS], 0_usize); to - from];
    let mut sums = Vec::new();
    for back in (1..=DAYS).map(|days| days * day) {
        if back > to {
            break;
        }
        // A mean that slides over the day, by sums up to each window.
        let first = (from as isize - back as isize - half as isize).max(0) as usize;
        let last = (to - back + half + 1).min(past.values.len());
        sums.clear();
        let (mut sum, mut count) = (0.0, 0_u32);
        sums.push((sum, count));
        for value in &past.values[first.min(last)..last] {
            if let Some(value) = value {
                sum += ln_1p(*value);
                count += 1;
            }
            sums.push((sum, count));
        }
        for (place, (own, known)) in days.iter_mut().enumerate() {
            let Some(centre) = (from + place).checked_sub(back) else { continue };
            let low = centre.saturating_sub(half).max(first) - first;
            let high = (centre + half + 1).min(last).saturating_sub(first);
            if low < high && high < sums.len() && centre < last {
                let (sum, count) = (sums[high].0 - sums[low].0, sums[high].1 - sums[low].1);
                if count > 0 {
                    own[*known] = sum / f64::from(count);
                    *known += 1;
                }
            }
        }
    }
    days.iter_mut().map(|(own, known)| median(&mut own[..*known])).collect()
}

/// Of a few values, by insertion.
fn median(values: &mut [f64]) -> Option<f64> {
    for sorted in 1..values.len() {
        let mut place = sorted;
        while place > 0 && values[place - 1] > values[place] {
            values.swap(place - 1, place);
            place -= 1;
        }
    }
    let upper = *values.get(values.len() / 2)?;
    Some(if values.len() % 2 == 1 { upper } else { 0.5 * (upper + values[values.len() / 2 - 1]) })
}
