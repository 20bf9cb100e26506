//! Mixes of several quantiles that learn side by side, and stay so from one outcome to the next. Rule: they are saved as the
//! [`Mixer`]s that they are.

use serde::{Deserialize, Deserializer, Serializer};

use super::aggregate::Mixer;
use super::lanes::{LANES, Lane, Learners};

/// Up to [`LANES`] mixers of the same experts and as many learners, one in each lane.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    /// Lanes with a mixer.
    count: usize,
    learners: Vec<Learners>,
    /// Weighs the learners.
    top: Learners,
    /// By expert.
    weights: Vec<Lane>,
}

/// Where [`Group::observe`] works.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// By expert, and by learner.
    said: Vec<Lane>,
    mixed: Vec<Lane>,
}

impl Group {
    /// Of the first [`LANES`] of `mixers`.
    fn new(mixers: &[Mixer]) -> Self {
        let mixers = &mixers[..mixers.len().min(LANES)];
        let experts = mixers.iter().map(|mixer| mixer.weights.len()).min().unwrap_or(0);
        let learners = mixers.iter().map(|mixer| mixer.learners.len()).min().unwrap_or(0);
        let of = |learner| Learners::of(experts, mixers.iter().map(|mixer| (&mixer.learners[learner], mixer.level)));
        let mut weights = vec![[0.0; LANES]; experts];
        for (lane, mixer) in mixers.iter().enumerate() {
            weights.iter_mut().zip(&mixer.weights).for_each(|(own, weight)| own[lane] = *weight);
        }
        Self {
            count: mixers.len(),
            learners: (0..learners).map(of).collect(),
            top: Learners::of(learners, mixers.iter().map(|mixer| (&mixer.top, mixer.level))),
            weights,
        }
    }

    /// Groups of `mixers`, in their order.
    pub(super) fn all(mixers: &[Mixer]) -> Vec<Self> {
        mixers.chunks(LANES).map(Self::new).collect()
    }

    /// What they are by themselves.
    fn mixers(&self) -> impl Iterator<Item = Mixer> {
        (0..self.count).map(|lane| Mixer {
            level: self.top.level(lane),
            learners: self.learners.iter().map(|own| own.alone(lane)).collect(),
            top: self.top.alone(lane),
            weights: self.weights.iter().map(|own| own[lane]).collect(),
        })
    }

    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Weights of all experts; those of each lane with a mixer sum to 1.
    pub(super) fn weights(&self) -> &[Lane] {
        &self.weights
    }

    /// Takes the outcome `actual`, which is finite, of what experts `said`, `[mixer][expert]`; NaN stands for asleep.
    pub(super) fn observe(&mut self, said: &[f32], actual: f64, room: &mut Room) {
        room.said.clear();
        room.said.resize(self.weights.len(), [f64::NAN; LANES]);
        for (lane, said) in said.chunks_exact(self.weights.len().max(1)).take(self.count).enumerate() {
            for (place, value) in room.said.iter_mut().zip(said) {
                place[lane] = f64::from(*value);
            }
        }
        room.mixed.clear();
        room.mixed.extend(self.learners.iter_mut().map(|learners| learners.observe(&room.said, actual)));
        self.top.observe(&room.mixed, actual);
        self.weights.fill([0.0; LANES]);
        for (share, learner) in self.top.weights().zip(&self.learners) {
            for (weight, own) in self.weights.iter_mut().zip(learner.weights()) {
                for ((weight, share), own) in weight.iter_mut().zip(share).zip(own) {
                    *weight += share * own;
                }
            }
        }
    }

    /// See [`super::Ensemble::renew`].
    pub(super) fn renew(&mut self, place: usize) {
        let mut mixers: Vec<Mixer> = self.mixers().collect();
        mixers.iter_mut().for_each(|mixer| mixer.renew(place));
        *self = Self::new(&mixers);
    }
}

/// `[lead][mixer]`; for `#[serde(with = "group")]`.
pub(super) fn serialize<S: Serializer>(groups: &[Vec<Group>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(groups.iter().map(|groups| groups.iter().flat_map(Group::mixers).collect::<Vec<_>>()))
}

/// For `#[serde(with = "group")]`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<Group>>, D::Error> {
    let mixers = Vec::<Vec<Mixer>>::deserialize(deserializer)?;
    Ok(mixers.iter().map(|mixers| Group::all(mixers)).collect())
}
