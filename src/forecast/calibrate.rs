//! Makes quantiles cover what they promise. Rule: only outcomes that were known then move a quantile.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::models::lags::between;
use crate::rows::Rows;

/// Step of the correction after each outcome, in widths of the forecast.
pub const RATE: f64 = 0.02;
/// Beyond this many steps ahead the rate falls with the lead. An outcome tells of the correction that was served so many steps
/// before, and a correction that moves on faster than it hears of its steps swings.
const PROMPT_LEAD: f64 = 30.0;
/// The correction never goes beyond the most extreme of this many last outcomes: a day of minutes.
pub const WINDOW: u64 = 1440;

/// Quantile tracking (Angelopoulos, Candès & Tibshirani 2023, "Conformal PID control for time series prediction") for one
/// quantile of one horizon: an outcome's score is its distance from the quantile in widths of the forecast; the correction
/// rises by [`RATE`] × level after a miss and falls by [`RATE`] × (1 − level) after a hit, so that the long-run coverage is
/// the one asked for whatever the model does. A burst of misses counts by its length, not by its height; what a long one
/// leaves behind is cut back once the last [`WINDOW`] outcomes no longer call for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveQuantile {
    level: f64,
    correction: f64,
    outcomes: u64,
    /// The outcomes that were the most extreme since, by number, most extreme first; towards the tail of the level.
    extremes: VecDeque<(u64, f64)>,
}

impl AdaptiveQuantile {
    pub fn new(level: f64) -> Self {
        Self { level, correction: 0.0, outcomes: 0, extremes: VecDeque::new() }
    }

    /// What to add to the quantile, in widths.
    pub fn correction(&self) -> f64 {
        self.correction
    }

    /// Takes an outcome: its `score` against the uncorrected quantile, in widths; the correction that was `served` with the
    /// forecast, and the `rate` to learn at. It counts whether that one covered the outcome: one that followed the outcomes in
    /// the meantime would have, and tells nothing of those that are served now.
    pub fn add(&mut self, score: f64, served: f64, rate: f64) {
        if !score.is_finite() || !served.is_finite() {
            return;
        }
        let covered = f64::from(u8::from(score <= served));
        self.correction += rate * (self.level - covered);
        let side = if self.level < 0.5 { -1.0 } else { 1.0 };
        while self.extremes.pop_back_if(|(_, last)| side * *last <= side * score).is_some() {}
        self.extremes.push_back((self.outcomes, score));
        self.outcomes += 1;
        let oldest = self.outcomes.saturating_sub(WINDOW);
        while self.extremes.pop_front_if(|(number, _)| *number < oldest).is_some() {}
        if self.outcomes >= WINDOW
            && let Some((_, extreme)) = self.extremes.front()
            && side * self.correction > side * extreme
        {
            self.correction = *extreme;
        }
    }
}

/// Corrections of all quantiles of one model of one service, at some leads and interpolated between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibrator {
    levels: Vec<f64>,
    /// Steps ahead, ascending.
    leads: Vec<usize>,
    /// `[lead][level]`.
    quantiles: Vec<Vec<AdaptiveQuantile>>,
}

impl Calibrator {
    pub fn new(levels: &[f64], leads: &[usize]) -> Self {
        let row: Vec<_> = levels.iter().map(|level| AdaptiveQuantile::new(*level)).collect();
        Self { levels: levels.to_vec(), leads: leads.to_vec(), quantiles: vec![row; leads.len()] }
    }

    /// The corrections of now, `[lead][level]` in one row: what [`add`](Self::add) wants to know of a forecast.
    pub fn corrections(&self) -> Vec<f64> {
        self.quantiles.iter().flat_map(|row| row.iter().map(AdaptiveQuantile::correction)).collect()
    }

    /// Takes the outcome of an uncorrected forecast `lead` steps ahead that was served with the corrections `served`; leads
    /// that are not calibrated are passed over. Where it is not known what was served, the corrections of now stand for it.
    pub fn add(&mut self, lead: usize, row: &[f64], actual: f64, served: &[f64]) {
        let Some(place) = self.leads.iter().position(|l| *l == lead) else { return };
        let width = Width::of(&self.levels).of_row(row);
        let rate = RATE * (PROMPT_LEAD / lead as f64).min(1.0);
        let served = served.get(place * self.levels.len()..).unwrap_or(&[]);
        for (index, (quantile, value)) in self.quantiles[place].iter_mut().zip(row).enumerate() {
            let served = served.get(index).copied().unwrap_or(quantile.correction);
            quantile.add((actual - value) / width, served, rate);
        }
    }

    /// Corrects quantiles by step ahead. The median stays where the model put it; the others stay ordered around it.
    pub fn correct(&self, rows: &mut Rows) {
        let levels = self.levels.len();
        let corrections = self.corrections();
        let width = Width::of(&self.levels);
        let middle = self.levels.iter().position(|level| *level == 0.5);
        for (k, row) in rows.iter_mut().enumerate() {
            let width = width.of_row(row);
            let (below, above, share) = between(&self.leads, k + 1);
            let of = |lead: usize| corrections.get(lead * levels..).unwrap_or(&[]);
            let median = middle.and_then(|middle| row.get(middle).copied());
            for (value, (below, above)) in row.iter_mut().zip(of(below).iter().zip(of(above))) {
                *value += ((1.0 - share) * below + share * above) * width;
            }
            if let (Some(median), Some(middle)) = (median, middle) {
                row[..middle].iter_mut().for_each(|value| *value = value.min(median));
                row[middle] = median;
                row[middle + 1..].iter_mut().for_each(|value| *value = value.max(median));
            }
            row.iter_mut().for_each(|value| *value = value.max(0.0));
        }
        rows.sort();
    }
}

/// The unit of a row's scores: its spread from the 10 % to the 90 % quantile, never nothing.
struct Width {
    low: Place,
    middle: Place,
    high: Place,
}

/// Where a level lies among those of a row: the ones around it, and how far it is from the first to the second.
struct Place(usize, usize, f64);

impl Width {
    fn of(levels: &[f64]) -> Self {
        let place = |level: f64| {
            let upper = levels.iter().position(|l| *l >= level).unwrap_or(levels.len().saturating_sub(1));
            if upper == 0 || levels[upper] <= level {
                return Place(upper, upper, 0.0);
            }
            Place(upper - 1, upper, (level - levels[upper - 1]) / (levels[upper] - levels[upper - 1]))
        };
        Self { low: place(0.1), middle: place(0.5), high: place(0.9) }
    }

    fn of_row(&self, row: &[f64]) -> f64 {
        let at = |Place(below, above, share): &Place| match (row.get(*below), row.get(*above)) {
            (Some(below), Some(above)) => below + share * (above - below),
            _ => 0.0,
        };
        (at(&self.high) - at(&self.low)).max(1e-3 * at(&self.middle).abs()).max(1e-6)
    }
}

/// The steps ahead that are scored and calibrated for a horizon.
pub fn leads(horizon_steps: usize) -> Vec<usize> {
    const LEADS: [usize; 10] = [1, 2, 5, 10, 15, 30, 60, 120, 240, 480];
    let mut leads: Vec<usize> = LEADS.into_iter().filter(|lead| *lead < horizon_steps).collect();
    leads.push(horizon_steps.max(1));
    leads
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution as _, Normal};

    use super::*;

    const PART: usize = 5000;

    /// Coverage in percent of the corrected 90 % quantile of a model that thinks that the load is N(100, 10), in five
    /// consecutive parts of the stream.
    fn coverage(spread: impl Fn(usize) -> f64, shift: impl Fn(usize) -> f64) -> Vec<f64> {
        let (levels, row) = ([0.1, 0.5, 0.9], [87.2, 100.0, 112.8]);
        let mut calibrator = Calibrator::new(&levels, &[1]);
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut covered = vec![0.0; 5];
        for i in 0..PART * 5 {
            let actual = 100.0 + shift(i) + Normal::new(0.0, spread(i)).unwrap().sample(&mut random);
            let mut rows = Rows::from(&[row][..]);
            calibrator.correct(&mut rows);
            assert!(rows[0].is_sorted() && rows[0][1] == 100.0, "{rows:?}");
            covered[i / PART] += f64::from(u8::from(actual <= rows[0][2])) * 100.0 / PART as f64;
            let served = calibrator.corrections();
            calibrator.add(1, &row, actual, &served);
        }
        covered
    }

    #[track_caller]
    fn near_90(parts: &[f64], within: f64) {
        assert!(parts.iter().all(|part| (part - 90.0).abs() < within), "{parts:?}");
    }

    #[test]
    fn a_model_that_is_too_sure_or_not_sure_enough_comes_to_cover_what_it_promises() {
        near_90(&coverage(|_| 30.0, |_| 0.0), 3.0);
        near_90(&coverage(|_| 3.0, |_| 0.0), 3.0);
        near_90(&coverage(|i| if i < 12_500 { 10.0 } else { 40.0 }, |_| 0.0), 5.0);
    }

    #[test]
    fn a_shift_of_the_level_is_made_up_for() {
        near_90(&coverage(|_| 10.0, |i| i as f64 * 0.004), 5.0);
        near_90(&coverage(|_| 10.0, |i| if i < 12_500 { 0.0 } else { 60.0 }), 6.0);
    }

    /// Coverage in percent an hour ahead of a load that wanders for half an hour to either side of its forecast.
    fn an_hour_ahead(is_served_known: bool) -> f64 {
        let (lead, row, outcomes) = (60, [87.2, 100.0, 112.8], 8 * PART);
        let mut calibrator = Calibrator::new(&[0.1, 0.5, 0.9], &[lead]);
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let (mut away, mut covered) = (0.0, 0.0);
        let mut waiting = VecDeque::from(vec![calibrator.corrections(); lead]);
        for _ in 0..outcomes {
            away = 0.967 * away + Normal::new(0.0, 5.0).unwrap().sample(&mut random);
            waiting.push_back(calibrator.corrections());
            let served = waiting.pop_front().unwrap();
            let upper = row[2] + served[2] * (row[2] - row[0]);
            covered += f64::from(u8::from(100.0 + away <= upper));
            calibrator.add(lead, &row, 100.0 + away, if is_served_known { &served } else { &[] });
        }
        covered * 100.0 / outcomes as f64
    }

    #[test]
    fn far_ahead_it_is_what_was_served_that_covers() {
        near_90(&[an_hour_ahead(true)], 0.4);
        // A correction that has followed the outcomes since covers those of its own minute, and fewer of those to come.
        assert!(an_hour_ahead(false) < 89.0, "{}", an_hour_ahead(false));
    }

    #[test]
    fn what_a_long_burst_leaves_behind_ends_with_the_day() {
        let mut quantile = AdaptiveQuantile::new(0.99);
        let usual = |i: usize| ((i * 7919 % 100) as f64 - 99.0) / 100.0;
        let mut after = Vec::new();
        for i in 0..3 * WINDOW as usize {
            quantile.add(if (200..400).contains(&i) { 5.0 } else { usual(i) }, quantile.correction(), RATE);
            after.push(quantile.correction());
        }
        // 200 misses have lifted it far, and hits alone would take weeks to bring it back.
        assert!(after[400] > 3.0 && after[399 + WINDOW as usize - 1] > 2.0, "{} {}", after[400], after[1838]);
        assert!(after[400 + WINDOW as usize] <= 0.0, "{}", after[400 + WINDOW as usize]);
    }

    #[test]
    fn a_short_burst_moves_the_tail_by_its_length_not_by_its_height() {
        let lifted = |height: f64| {
            let mut quantile = AdaptiveQuantile::new(0.99);
            for _ in 0..15 {
                quantile.add(height, quantile.correction(), RATE);
            }
            quantile.correction()
        };
        assert_eq!(lifted(1.0), lifted(100.0));
        assert!(lifted(1.0) < 0.3);
    }

    #[test]
    fn state_read_from_bytes_corrects_in_the_same_way() {
        let mut calibrator = Calibrator::new(&[0.1, 0.5, 0.9], &[1, 5]);
        for i in 0..400 {
            calibrator.add(1 + 4 * (i % 2), &[8.0, 10.0, 12.0], f64::from(i as u32 * 7919 % 23), &[]);
        }
        let read: Calibrator = serde_json::from_slice(&serde_json::to_vec(&calibrator).unwrap()).unwrap();
        assert_eq!(read, calibrator);
        let mut one = Rows::from(&[[8.0, 10.0, 12.0]; 7][..]);
        let mut two = one.clone();
        calibrator.correct(&mut one);
        read.correct(&mut two);
        assert_eq!(one, two);
        assert_ne!(one[0], [8.0, 10.0, 12.0]);
    }
}
