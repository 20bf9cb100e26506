//! Makes quantiles cover what they promise. Rule: only outcomes that were known then move a quantile.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::models::residual::quantile_of_sorted;

/// Outcomes that the correction is read from.
pub const WINDOW: usize = 288;
/// Fewest outcomes before anything is corrected.
pub const OUTCOMES_MIN: usize = 24;
/// Step of the level after each outcome.
pub const GAMMA: f64 = 0.005;

/// Adaptive conformal inference (Gibbs & Candès 2021, "Adaptive conformal inference under distribution shift") for one
/// quantile of one horizon: the conformity score of an outcome is its distance from the quantile in widths of the
/// forecast; the correction is the score at a level that rises after each miss and falls after each hit, so that the
/// long-run coverage is the one asked for whatever the model does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveQuantile {
    target: f64,
    level: f64,
    /// Oldest first.
    #[serde(with = "crate::hex")]
    scores: VecDeque<f32>,
    #[serde(skip)]
    sorted: Vec<f64>,
}

impl AdaptiveQuantile {
    pub fn new(target: f64) -> Self {
        Self { target, level: target, scores: VecDeque::new(), sorted: Vec::new() }
    }

    /// To be called after reading it from bytes.
    pub fn restore(&mut self) {
        self.sorted = self.scores.iter().map(|score| f64::from(*score)).collect();
        self.sorted.sort_by(f64::total_cmp);
    }

    /// What to add to the quantile, in widths.
    pub fn correction(&self) -> f64 {
        if self.scores.len() < OUTCOMES_MIN { 0.0 } else { quantile_of_sorted(&self.sorted, self.level) }
    }

    /// Takes an outcome: its `score` against the uncorrected quantile, in widths.
    pub fn add(&mut self, score: f64) {
        if !score.is_finite() {
            return;
        }
        if self.scores.len() >= OUTCOMES_MIN {
            let covered = score <= self.correction();
            let step = GAMMA * (self.target - f64::from(u8::from(covered)));
            // Beyond [0, 1] the paper's set is empty or everything; a margin lets the level come back soon.
            self.level = (self.level + step).clamp(0.001, 0.999);
        }
        let score = score as f32;
        if self.scores.len() >= WINDOW
            && let Some(old) = self.scores.pop_front()
        {
            let place = self.sorted.partition_point(|s| *s < f64::from(old));
            self.sorted.remove(place.min(self.sorted.len() - 1));
        }
        let place = self.sorted.partition_point(|s| *s < f64::from(score));
        self.sorted.insert(place, f64::from(score));
        self.scores.push_back(score);
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

    /// To be called after reading it from bytes.
    pub fn restore(&mut self) {
        self.quantiles.iter_mut().flatten().for_each(AdaptiveQuantile::restore);
    }

    /// Takes the outcome of an uncorrected forecast `lead` steps ahead; leads that are not calibrated are passed over.
    pub fn add(&mut self, lead: usize, row: &[f64], actual: f64) {
        let Some(place) = self.leads.iter().position(|l| *l == lead) else { return };
        let width = width(&self.levels, row);
        for (quantile, value) in self.quantiles[place].iter_mut().zip(row) {
            quantile.add((actual - value) / width);
        }
    }

    /// Corrects quantiles by step ahead. The median stays where the model put it; the others stay ordered around it.
    pub fn correct(&self, rows: &mut [Vec<f64>]) {
        let corrections: Vec<Vec<f64>> =
            self.quantiles.iter().map(|row| row.iter().map(AdaptiveQuantile::correction).collect()).collect();
        for (k, row) in rows.iter_mut().enumerate() {
            let width = width(&self.levels, row);
            let (below, above, share) = self.between(k + 1);
            let median = self.levels.iter().position(|level| *level == 0.5).and_then(|i| row.get(i).copied());
            for (q, value) in row.iter_mut().enumerate() {
                let by = (1.0 - share) * corrections[below][q] + share * corrections[above][q];
                let moved = *value + by * width;
                *value = match (median, self.levels[q]) {
                    (Some(median), 0.5) => median,
                    (Some(median), level) if level < 0.5 => moved.min(median),
                    (Some(median), _) => moved.max(median),
                    (None, _) => moved,
                }
                .max(0.0);
            }
            row.sort_by(f64::total_cmp);
        }
    }

    /// The calibrated leads around a lead, and how far it is from the lower to the upper.
    fn between(&self, lead: usize) -> (usize, usize, f64) {
        let last = self.leads.len() - 1;
        let above = self.leads.iter().position(|l| *l >= lead).unwrap_or(last);
        if above == 0 || self.leads[above] <= lead {
            return (above, above, 0.0);
        }
        let (low, high) = (self.leads[above - 1], self.leads[above]);
        (above - 1, above, (lead - low) as f64 / (high - low) as f64)
    }
}

/// The unit of a row's scores: its spread from the 10 % to the 90 % quantile, never nothing.
fn width(levels: &[f64], row: &[f64]) -> f64 {
    let at = |level| crate::models::residual::at_level(levels, row, level);
    (at(0.9) - at(0.1)).max(1e-3 * at(0.5).abs()).max(1e-6)
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

    /// Coverage in percent of the corrected 90 % quantile of a model that thinks that the load is N(100, 10), in five
    /// consecutive parts of the stream.
    fn coverage(spread: impl Fn(usize) -> f64, shift: impl Fn(usize) -> f64) -> Vec<f64> {
        let (levels, row) = ([0.1, 0.5, 0.9], vec![87.2, 100.0, 112.8]);
        let mut calibrator = Calibrator::new(&levels, &[1]);
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut covered = vec![0.0; 5];
        for i in 0..5000 {
            let actual = 100.0 + shift(i) + Normal::new(0.0, spread(i)).unwrap().sample(&mut random);
            let mut rows = [row.clone()];
            calibrator.correct(&mut rows);
            assert!(rows[0].is_sorted() && rows[0][1] == 100.0, "{rows:?}");
            covered[i / 1000] += f64::from(u8::from(actual <= rows[0][2])) / 10.0;
            calibrator.add(1, &row, actual);
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
        near_90(&coverage(|i| if i < 2500 { 10.0 } else { 40.0 }, |_| 0.0), 5.0);
    }

    #[test]
    fn a_shift_of_the_level_is_made_up_for() {
        near_90(&coverage(|_| 10.0, |i| i as f64 * 0.02), 5.0);
        near_90(&coverage(|_| 10.0, |i| if i < 2500 { 0.0 } else { 60.0 }), 6.0);
    }

    #[test]
    fn state_read_from_bytes_corrects_in_the_same_way() {
        let mut calibrator = Calibrator::new(&[0.1, 0.5, 0.9], &[1, 5]);
        for i in 0..400 {
            calibrator.add(1 + 4 * (i % 2), &[8.0, 10.0, 12.0], f64::from(i as u32 * 7919 % 23));
        }
        let mut read: Calibrator = serde_json::from_slice(&serde_json::to_vec(&calibrator).unwrap()).unwrap();
        read.restore();
        assert_eq!(read, calibrator);
        let (mut one, mut two) = (vec![vec![8.0, 10.0, 12.0]; 7], vec![vec![8.0, 10.0, 12.0]; 7]);
        calibrator.correct(&mut one);
        read.correct(&mut two);
        assert_eq!(one, two);
        assert_ne!(one[0], [8.0, 10.0, 12.0]);
    }
}
