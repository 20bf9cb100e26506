//! Bernstein online aggregation (Wintenberger 2017, "Optimal learning with Bernstein online aggregation") of expert
//! forecasts of one quantile at one lead, as in CRPS learning (Berrisch & Ziel 2023). Rules: an update uses nothing but
//! forecasts made before the outcome; experts without a forecast sleep (Freund et al. 1997): their regret stays.

use serde::{Deserialize, Serialize};

use super::lanes::{LANES, Lane, Learners};

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
    pub(super) gradient: bool,
    /// Factor on the learning rate.
    pub(super) factor: f64,
    /// What is left of everything after an outcome.
    pub(super) keep: f64,
    /// Of each expert: second-order regret, sum of squares and range of the regrets, in the unit of the load.
    #[serde(with = "crate::hex")]
    pub(super) regret: Vec<f64>,
    #[serde(with = "crate::hex")]
    pub(super) squares: Vec<f64>,
    #[serde(with = "crate::hex")]
    pub(super) range: Vec<f64>,
    /// Its learning rate; 0 as long as its regret was never anything but 0.
    #[serde(with = "crate::hex")]
    pub(super) rate: Vec<f64>,
    /// Sum to 1.
    #[serde(with = "crate::hex")]
    pub(super) weights: Vec<f64>,
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

    /// Takes the outcome `actual` of what experts `said` of the quantile `level`, NaN standing for asleep: gives their mix
    /// before it. `None` when all are asleep, or where the outcome is no number: nothing is learnt then.
    pub fn observe(&mut self, said: &[f64], actual: f64, level: f64) -> Option<f64> {
        if !actual.is_finite() {
            return None;
        }
        let said: Vec<Lane> = said.iter().map(|value| [*value; LANES]).collect();
        let mut own = Learners::of(said.len(), std::iter::once((&*self, level)));
        let [mixed, ..] = own.observe(&said, actual);
        *self = own.alone(0);
        (!mixed.is_nan()).then_some(mixed)
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
            let mut own = Learners::of(self.weights.len(), std::iter::once((&*self, 0.5)));
            own.weigh();
            *self = own.alone(0);
        }
    }
}

/// Several learners, and one more that weighs them by how their mixes did. This is how a mix is saved; it learns as one of a
/// [`Group`](super::group::Group).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mixer {
    pub(super) level: f64,
    pub(super) learners: Vec<Bernstein>,
    pub(super) top: Bernstein,
    #[serde(with = "crate::hex")]
    pub(super) weights: Vec<f64>,
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

    /// See [`super::Ensemble::renew`].
    pub fn renew(&mut self, place: usize) {
        self.learners.iter_mut().for_each(|learner| learner.renew(place));
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
