//! What a library says of the season, made into an expert: the season is fixed when it is fitted, damped Holt follows what
//! it leaves of the logs up to the origin. Rule: what is known of the season is a table, so that it is saved as numbers.

use prescale_domain::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use super::holt::{self, DampedTrend};
use super::logs::{loads, logs};
use super::{DAY, WEEK};
use crate::past::Past;

/// Most of the training part that a season is fitted on: the newest.
const FIT: Span = Span::from_minutes(21 * 24 * 60);
/// Windows that the filter runs over before the origin.
const MEMORY_STEPS: usize = 240;
/// Most windows of the training part that the grid of Holt is searched over: the newest.
const GRID_STEPS_MAX: usize = 20_000;

/// Means of the logs over buckets of equal width, as a season is fitted on them.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    pub start: Timestamp,
    pub width: Span,
    pub means: Vec<Option<f64>>,
}

impl Buckets {
    /// Of the newest three weeks of `training`; at least `width` wide. `None` without two days of them.
    pub(super) fn of(training: Past<'_>, width: Span) -> Option<Self> {
        let each = training.steps(width);
        let all = logs(training.values);
        let recent = &all[all.len().saturating_sub(training.steps(FIT))..];
        let first = recent.iter().position(Option::is_some)?;
        let start = training.moment(all.len() - recent.len() + first);
        let mean = |logs: &[Option<f64>]| {
            let (sum, count) = logs.iter().flatten().fold((0.0, 0.0), |(sum, count), log| (sum + log, count + 1.0));
            (count > 0.0).then(|| sum / count)
        };
        let means: Vec<Option<f64>> = recent[first..].chunks_exact(each).map(mean).collect();
        let width = Span::from_millis(training.step.millis() * each as i64);
        let own = Self { start, width, means };
        (own.means.len() >= 2 * own.day()).then_some(own)
    }

    /// Buckets in a day.
    pub(super) fn day(&self) -> usize {
        DAY.steps_up(self.width).max(1)
    }

    /// Buckets in a week, when two weeks are known.
    pub(super) fn week(&self) -> Option<usize> {
        let week = WEEK.steps_up(self.width).max(1);
        (self.means.len() >= 2 * week).then_some(week)
    }

    /// Without gaps: what it was a day before, or after; where no day knows, the mean of all.
    pub(super) fn filled(&self) -> Vec<f64> {
        let (day, mut means) = (self.day(), self.means.clone());
        for index in day..means.len() {
            means[index] = means[index].or(means[index - day]);
        }
        for index in (0..means.len().saturating_sub(day)).rev() {
            means[index] = means[index].or(means[index + day]);
        }
        let (sum, count) = means.iter().flatten().fold((0.0, 0.0), |(sum, count), log| (sum + log, count + 1.0));
        means.iter().map(|mean| mean.unwrap_or(sum / f64::max(count, 1.0))).collect()
    }
}

/// A season, and the Holt on what it leaves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Seasonal {
    /// Start of the first bucket of the table, and their width.
    start: Timestamp,
    width: Span,
    /// What the season adds to the log in each bucket of a day or a week, over and over.
    table: Vec<f64>,
    remainder: DampedTrend,
}

impl Seasonal {
    /// With the season `table` of `buckets`. `None` when it is not finite.
    pub(super) fn new(training: Past<'_>, buckets: &Buckets, table: Vec<f64>, horizon_steps: usize) -> Option<Self> {
        if table.is_empty() || table.iter().any(|log| !log.is_finite()) {
            return None;
        }
        let remainder = holt::search(&[], horizon_steps);
        let mut own = Self { start: buckets.start, width: buckets.width, table, remainder };
        let left = own.remainders(training, training.values.len().saturating_sub(GRID_STEPS_MAX));
        own.remainder = holt::search(&left, horizon_steps);
        Some(own)
    }

    pub(super) fn points(&self, past: Past<'_>, horizon_steps: usize) -> Option<Vec<f64>> {
        let end = past.values.len();
        let from = end.saturating_sub(MEMORY_STEPS);
        let left = self.remainders(past, from);
        let ahead = holt::ahead(left.into_iter(), self.remainder, horizon_steps)?;
        let logs = ahead.iter().enumerate().map(|(k, left)| left + self.at(past.moment(end + k), past.step));
        loads(logs, &past.values[from..])
    }

    /// What the season leaves of the logs from index `from` on.
    fn remainders(&self, past: Past<'_>, from: usize) -> Vec<Option<f64>> {
        let logs = logs(&past.values[from..]).into_iter().enumerate();
        logs.map(|(index, log)| log.map(|log| log - self.at(past.moment(from + index), past.step))).collect()
    }

    /// In the window of `step` that starts at `moment`: on the line between the middles of two buckets.
    fn at(&self, moment: Timestamp, step: Span) -> f64 {
        let since = (moment.millis() - self.start.millis()) as f64 + 0.5 * (step.millis() - self.width.millis()) as f64;
        let place = since / self.width.millis() as f64;
        let bucket = |index: f64| self.table[index.rem_euclid(self.table.len() as f64) as usize % self.table.len()];
        let share = place - place.floor();
        bucket(place.floor()) * (1.0 - share) + bucket(place.floor() + 1.0) * share
    }
}
