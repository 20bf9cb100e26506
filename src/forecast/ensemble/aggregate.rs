//! Bernstein online aggregation (Wintenberger 2017, "Optimal learning with Bernstein online aggregation") of expert
//! forecasts of one quantile at one lead, as in CRPS learning (Berrisch & Ziel 2023). Rules: an update uses nothing but
//! forecasts made before the outcome; experts without a forecast sleep (Freund et al. 1997): their regret stays.

use serde::{Deserialize, Serialize};

use crate::accuracy::pinball;

/// One learner of weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learner {
    /// What counts half after this many outcomes; `None` = nothing is forgotten.
    pub half_life: Option<f64>,
    /// Regret against the best fixed convex combination (by the subgradient of the loss at the mix) rather than against the
    /// best expert.
    pub gradient: bool,
    /// Factor on the learning rate; 1 = that of the theorem.
    pub rate: f64,
}

/// Weights over some experts and what they follow from. With ranges `|r| ≤ E` and without forgetting the regret against
/// expert k is at most of order `sqrt(ln K · Σ r²) + E · ln K` (Wintenberger 2017, theorem 4.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bernstein {
    learner: Learner,
    /// Of each expert: second-order regret, sum of squares and range of the regrets, in the unit of the load.
    regret: Vec<f64>,
    squares: Vec<f64>,
    range: Vec<f64>,
    /// Sum to 1.
    weights: Vec<f64>,
}

impl Bernstein {
    pub fn new(learner: Learner, experts: usize) -> Self {
        let weights = vec![1.0 / experts.max(1) as f64; experts];
        Self { learner, regret: vec![0.0; experts], squares: vec![0.0; experts], range: vec![0.0; experts], weights }
    }

    /// Weights of all experts, those asleep included; they sum to 1.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The mix of what experts `said`; NaN stands for asleep. `None` when all are.
    pub fn mix(&self, said: &[f64]) -> Option<f64> {
        let (mut sum, mut weight) = (0.0, 0.0);
        for (value, own) in said.iter().zip(&self.weights) {
            if value.is_finite() {
                sum += own * value;
                weight += own;
            }
        }
        if weight > 0.0 {
            return Some(sum / weight);
        }
        // All weight is on experts that sleep.
        let awake = said.iter().filter(|value| value.is_finite());
        let (sum, count) = awake.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
        (count > 0).then(|| sum / f64::from(count))
    }

    /// Takes the outcome `actual` of what experts `said` of the quantile `level`.
    pub fn observe(&mut self, said: &[f64], actual: f64, level: f64) {
        let Some(mixed) = self.mix(said) else { return };
        if !actual.is_finite() {
            return;
        }
        let keep = self.learner.half_life.map_or(1.0, |half_life| 0.5_f64.powf(1.0 / half_life.max(1.0)));
        let slope = if actual < mixed { 1.0 - level } else { -level };
        let loss = pinball(actual, mixed, level);
        let count = self.weights.len().max(2) as f64;
        let mut logs = vec![f64::NAN; self.weights.len()];
        for (k, value) in said.iter().enumerate().take(self.weights.len()) {
            if value.is_finite() {
                let r =
                    if self.learner.gradient { slope * (mixed - value) } else { loss - pinball(actual, *value, level) };
                self.range[k] = (keep * self.range[k]).max(r.abs());
                self.squares[k] = keep * self.squares[k] + r * r;
                let eta = rate(self.range[k], self.squares[k], count, self.learner.rate);
                let jump = if eta * r > 0.5 { self.range[k] } else { 0.0 };
                self.regret[k] = keep * self.regret[k] + 0.5 * (r - eta * r * r + jump);
            }
            let eta = rate(self.range[k], self.squares[k], count, self.learner.rate);
            if eta > 0.0 {
                logs[k] = eta.ln() + eta * self.regret[k];
            }
        }
        let highest = logs.iter().filter(|log| log.is_finite()).fold(f64::NEG_INFINITY, |high, log| high.max(*log));
        if !highest.is_finite() {
            return;
        }
        // An expert that never differed from the mix stands where the best does.
        let raw: Vec<f64> = logs.iter().map(|log| if log.is_finite() { (log - highest).exp() } else { 1.0 }).collect();
        let sum: f64 = raw.iter().sum();
        for (weight, own) in self.weights.iter_mut().zip(raw) {
            *weight = own / sum;
        }
    }
}

/// The learning rate of an expert; 0 as long as its regret was never anything but 0.
fn rate(range: f64, squares: f64, experts: f64, factor: f64) -> f64 {
    if range <= 0.0 || squares <= 0.0 {
        return 0.0;
    }
    factor * (0.5 / range).min((experts.ln() / squares).sqrt())
}

/// Several learners, and one more that weighs them by how their mixes did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mixer {
    level: f64,
    learners: Vec<Bernstein>,
    top: Bernstein,
    weights: Vec<f64>,
}

impl Mixer {
    pub fn new(level: f64, learners: &[Learner], top: Learner, experts: usize) -> Self {
        Self {
            level,
            learners: learners.iter().map(|learner| Bernstein::new(*learner, experts)).collect(),
            top: Bernstein::new(top, learners.len()),
            weights: vec![1.0 / experts.max(1) as f64; experts],
        }
    }

    /// Weights of all experts; they sum to 1.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Takes the outcome `actual` of what experts `said`; NaN stands for asleep.
    pub fn observe(&mut self, said: &[f64], actual: f64) {
        let mixes: Vec<f64> = self.learners.iter().map(|learner| learner.mix(said).unwrap_or(f64::NAN)).collect();
        self.top.observe(&mixes, actual, self.level);
        for learner in &mut self.learners {
            learner.observe(said, actual, self.level);
        }
        for (k, weight) in self.weights.iter_mut().enumerate() {
            let shares = self.top.weights().iter().zip(&self.learners);
            *weight = shares.map(|(share, learner)| share * learner.weights()[k]).sum();
        }
    }
}
