//! Whether the load itself has changed, beside its daily cycle. Rule: like is compared with like: each hour with the same
//! hour of the days before.

use std::collections::{BTreeMap, VecDeque};

use prescale_domain::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use super::{ks_critical, ks_statistic};

const HOUR: Span = Span::from_minutes(60);
const DAY_HOURS: i64 = 24;
/// Hours that are compared, the hours before them that they are compared with, and the fewest of those.
const RECENT: usize = 12;
const REFERENCE: usize = 7 * 24;
const REFERENCE_MIN: usize = 3 * 24;
/// Probability of exceeding the test's limit by chance, were hours independent.
const ALPHA: f64 = 0.001;
/// Hours of one day are not independent: the day as a whole must differ, too, by more than days did before ...
const BEYOND_DAYS: f64 = 1.5;
/// ... and by enough to matter: a factor of 1.25.
const SHIFT_MIN: f64 = 0.223;

/// Hourly means of a load, watched by the two-sample test of Kolmogorov and Smirnov: the last 12 hours against the 7 days
/// before, each as the logarithm of its ratio to the median of its hour of the day.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InputWatch {
    /// The hour under way, by number since 1970: sum and count.
    open: Option<(i64, f64, u32)>,
    /// Closed hours with a value, oldest first.
    hours: VecDeque<(i64, f64)>,
}

/// The load of the last hours is not that of the days before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InputChange {
    /// Largest distance of the two distributions, and what it had to exceed.
    pub statistic: f64,
    pub threshold: f64,
    /// Median of the last hours as a multiple of the usual.
    pub factor: f64,
    /// Hours that were compared, and those that they were compared with.
    pub recent: usize,
    pub reference: usize,
}

impl InputWatch {
    /// Takes the load of the window that starts at `start`; gaps are not told. After an alarm the last hours become the
    /// beginning of a new reference.
    pub fn add(&mut self, start: Timestamp, load: f64) -> Option<InputChange> {
        if !load.is_finite() {
            return None;
        }
        let hour = start.millis().div_euclid(HOUR.millis());
        match &mut self.open {
            Some((open, sum, count)) if *open == hour => {
                *sum += load;
                *count += 1;
                None
            }
            Some((open, ..)) if *open > hour => None,
            open => {
                let closed = open.replace((hour, load, 1));
                let (number, sum, count) = closed?;
                self.hours.push_back((number, sum / f64::from(count)));
                while self.hours.len() > REFERENCE + RECENT {
                    self.hours.pop_front();
                }
                let change = self.compare()?;
                self.hours.drain(..self.hours.len() - RECENT);
                Some(change)
            }
        }
    }

    fn compare(&self) -> Option<InputChange> {
        let split = self.hours.len().checked_sub(RECENT).filter(|split| *split >= REFERENCE_MIN)?;
        let hours: Vec<(i64, f64)> = self.hours.iter().copied().collect();
        let (reference, recent) = hours.split_at(split);
        // Hours that are long past stand for something else.
        if recent.last()?.0 - reference.first()?.0 > 2 * (REFERENCE + RECENT) as i64 {
            return None;
        }
        let offset = 0.1 * reference.iter().map(|(_, load)| load).sum::<f64>() / reference.len() as f64;
        if offset <= 0.0 {
            return None;
        }
        let mut by_hour: BTreeMap<i64, Vec<(i64, f64)>> = BTreeMap::new();
        for (number, load) in reference {
            by_hour.entry(number.rem_euclid(DAY_HOURS)).or_default().push((*number, *load));
        }
        // The hour itself is no part of what it is compared with.
        let ratio = |(number, load): &(i64, f64)| {
            let same = by_hour.get(&number.rem_euclid(DAY_HOURS))?;
            let others = same.iter().filter(|(other, _)| other != number).map(|(_, load)| *load);
            let usual = median(others.collect())?;
            Some(((load + offset) / (usual + offset)).ln())
        };
        let now: Vec<f64> = recent.iter().filter_map(ratio).collect();
        let shift = median(now.clone())?;
        if shift.abs() <= SHIFT_MIN {
            return None;
        }
        let before: Vec<(i64, f64)> = reference.iter().filter_map(|hour| Some((hour.0, ratio(hour)?))).collect();
        let then: Vec<f64> = before.iter().map(|(_, ratio)| *ratio).collect();
        if now.len() < RECENT / 2 || then.len() < REFERENCE_MIN / 2 {
            return None;
        }
        let (statistic, threshold) = (ks_statistic(&now, &then)?, ks_critical(now.len(), then.len(), ALPHA));
        let first = before.first()?.0;
        let mut by_part: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        for (number, ratio) in &before {
            by_part.entry((number - first) / RECENT as i64).or_default().push(*ratio);
        }
        let usual_shift = by_part.into_values().filter_map(|part| Some(median(part)?.abs())).fold(0.0, f64::max);
        let changed = statistic > threshold && shift.abs() > BEYOND_DAYS * usual_shift;
        let (recent, reference) = (now.len(), then.len());
        changed.then_some(InputChange { statistic, threshold, factor: shift.exp(), recent, reference })
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 })
}
