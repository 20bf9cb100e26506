//! Bernstein online aggregation (Wintenberger 2017, "Optimal learning with Bernstein online aggregation") of expert
//! forecasts of one quantile at one lead, as in CRPS learning (Berrisch & Ziel 2023). Rules: an update uses nothing but
//! forecasts made before the outcome; experts without a forecast sleep (Freund et al. 1997): their regret stays.

use serde::{Deserialize, Serialize};

use crate::accuracy::pinball;
use crate::log::exp_of_negative;

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
    /// By the subgradient, see [`Learner`].
    gradient: bool,
    /// Factor on the learning rate.
    factor: f64,
    /// What is left of everything after an outcome.
    keep: f64,
    /// Of each expert: second-order regret, sum of squares and range of the regrets, in the unit of the load.
    #[serde(with = "crate::hex")]
    regret: Vec<f64>,
    #[serde(with = "crate::hex")]
    squares: Vec<f64>,
    #[serde(with = "crate::hex")]
    range: Vec<f64>,
    /// Its learning rate; 0 as long as its regret was never anything but 0.
    #[serde(with = "crate::hex")]
    rate: Vec<f64>,
    /// Sum to 1.
    #[serde(with = "crate::hex")]
    weights: Vec<f64>,
}

impl Bernstein {
    pub fn new(learner: Learner, experts: usize) -> Self {
        let none = vec![0.0; experts];
        Self {
            gradient: learner.gradient,
            factor: learner.rate,
            keep: learner.half_life.map_or(1.0, |half_life| 0.5_f64.powf(1.0 / half_life.max(1.0))),
            regret: none.clone(),
            squares: none.clone(),
            range: none.clone(),
            rate: none,
            weights: vec![1.0 / experts.max(1) as f64; experts],
        }
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
        if let Some(mixed) = self.mix(said) {
            self.learn(said, mixed, actual, level);
        }
    }

    /// Takes the outcome of what experts `said`, whose [`Bernstein::mix`] was `mixed`.
    fn learn(&mut self, said: &[f64], mixed: f64, actual: f64, level: f64) {
        if !actual.is_finite() {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the feature.
            unsafe { self.learn_wide(said, mixed, actual, level) };
            return;
        }
        self.learn_any(said, mixed, actual, level);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn learn_wide(&mut self, said: &[f64], mixed: f64, actual: f64, level: f64) {
        self.learn_any(said, mixed, actual, level);
    }

    #[inline(always)]
    fn learn_any(&mut self, said: &[f64], mixed: f64, actual: f64, level: f64) {
        let keep = self.keep;
        let slope = if actual < mixed { 1.0 - level } else { -level };
        let loss = pinball(actual, mixed, level);
        let spread = (self.weights.len().max(2) as f64).ln();
        let sums = self.regret.iter_mut().zip(&mut self.squares);
        let sums = sums.zip(self.range.iter_mut().zip(&mut self.rate));
        for (value, ((own_regret, own_squares), (own_range, own_rate))) in said.iter().zip(sums) {
            let awake = value.is_finite();
            let r = if self.gradient { slope * (mixed - value) } else { loss - pinball(actual, *value, level) };
            let range = (keep * *own_range).max(r.abs());
            let squares = keep * *own_squares + r * r;
            let eta = self.factor * (0.5 / range).min((spread / squares).sqrt());
            let eta = if range <= 0.0 || squares <= 0.0 { 0.0 } else { eta };
            let jump = if eta * r > 0.5 { range } else { 0.0 };
            let regret = keep * *own_regret + 0.5 * (r - eta * r * r + jump);
            *own_range = if awake { range } else { *own_range };
            *own_squares = if awake { squares } else { *own_squares };
            *own_regret = if awake { regret } else { *own_regret };
            *own_rate = if awake { eta } else { *own_rate };
        }
        self.weigh();
    }

    /// Expert `place` begins anew, with the past of the best of the others.
    fn renew(&mut self, place: usize) {
        let others = self.weights.iter().enumerate().filter(|(other, _)| *other != place);
        let best = others.max_by(|one, other| one.1.total_cmp(other.1));
        if let Some((best, _)) = best
            && place < self.weights.len()
        {
            for own in [&mut self.regret, &mut self.squares, &mut self.range, &mut self.rate] {
                own[place] = own[best];
            }
            self.weigh();
        }
    }

    #[inline(always)]
    fn weigh(&mut self) {
        let mut highest = f64::NEG_INFINITY;
        for (eta, regret) in self.rate.iter().zip(&self.regret) {
            let exponent = exponent(*eta, *regret);
            highest = if exponent > highest { exponent } else { highest };
        }
        if highest == f64::NEG_INFINITY {
            return;
        }
        let (mut most, mut alike) = (0.0_f64, false);
        for ((weight, eta), regret) in self.weights.iter_mut().zip(&self.rate).zip(&self.regret) {
            let exponent = exponent(*eta, *regret);
            // NaN for now: an expert that never differed from the mix stands where the best does.
            let sound = exponent > f64::NEG_INFINITY;
            let own = eta * exp_of_negative(exponent - highest);
            *weight = if sound { own } else { f64::NAN };
            alike |= !sound;
            most = if sound && own > most { own } else { most };
        }
        if alike {
            self.weights.iter_mut().filter(|weight| weight.is_nan()).for_each(|weight| *weight = most);
        }
        let sum: f64 = self.weights.iter().sum();
        self.weights.iter_mut().for_each(|weight| *weight /= sum);
    }
}

/// What an expert's weight is the exponential of; minus infinity where that says nothing.
#[inline(always)]
fn exponent(eta: f64, regret: f64) -> f64 {
    let product = eta * regret;
    if eta > 0.0 && product.is_finite() { product } else { f64::NEG_INFINITY }
}

/// Several learners, and one more that weighs them by how their mixes did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mixer {
    level: f64,
    learners: Vec<Bernstein>,
    top: Bernstein,
    #[serde(with = "crate::hex")]
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

    /// See [`super::Ensemble::renew`].
    pub fn renew(&mut self, place: usize) {
        self.learners.iter_mut().for_each(|learner| learner.renew(place));
        self.mix_weights();
    }

    /// Takes the outcome `actual` of what experts `said`; NaN stands for asleep. `room` is for its own use.
    pub fn observe(&mut self, said: &[f64], actual: f64, room: &mut Vec<f64>) {
        room.clear();
        for learner in &mut self.learners {
            let mixed = learner.mix(said);
            if let Some(mixed) = mixed {
                learner.learn(said, mixed, actual, self.level);
            }
            room.push(mixed.unwrap_or(f64::NAN));
        }
        self.top.observe(room, actual, self.level);
        self.mix_weights();
    }

    fn mix_weights(&mut self) {
        self.weights.fill(0.0);
        for (share, learner) in self.top.weights().iter().zip(&self.learners) {
            for (weight, own) in self.weights.iter_mut().zip(learner.weights()) {
                *weight += share * own;
            }
        }
    }
}
