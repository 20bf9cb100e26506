//! Learners of several quantiles side by side: the same steps in each lane of a vector. Rule: what a lane gives does not
//! depend on its neighbours, nor on how wide the machine's vectors are.
#![allow(clippy::needless_range_loop, reason = "a lane is a place in many arrays at once")]

use super::aggregate::Bernstein;
use crate::accuracy::pinball;
use crate::log::exp_of_negative;

/// Learners at once: as many as there are quantiles by default.
pub(super) const LANES: usize = 8;
pub(super) type Lane = [f64; LANES];

/// Learners of the same number of experts, one in each lane. A lane without one learns nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Learners {
    keep: Lane,
    factor: Lane,
    level: Lane,
    /// 1 where a learner goes by the subgradient.
    gradient: Lane,
    /// By expert.
    experts: Vec<Expert>,
}

/// What [`Bernstein`] keeps of one expert.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Expert {
    regret: Lane,
    squares: Lane,
    range: Lane,
    rate: Lane,
    weight: Lane,
}

impl Learners {
    /// Those of `each`, with the quantile that each learns, of `experts`.
    pub(super) fn of<'a>(experts: usize, each: impl Iterator<Item = (&'a Bernstein, f64)>) -> Self {
        let mut all = Self { experts: vec![Expert::default(); experts], ..Self::default() };
        for (lane, (own, level)) in each.take(LANES).enumerate() {
            all.keep[lane] = own.keep;
            all.factor[lane] = own.factor;
            all.level[lane] = level;
            all.gradient[lane] = f64::from(u8::from(own.gradient));
            let past = own.regret.iter().zip(&own.squares).zip(own.range.iter().zip(&own.rate)).zip(&own.weights);
            for (expert, (((regret, squares), (range, rate)), weight)) in all.experts.iter_mut().zip(past) {
                expert.regret[lane] = *regret;
                expert.squares[lane] = *squares;
                expert.range[lane] = *range;
                expert.rate[lane] = *rate;
                expert.weight[lane] = *weight;
            }
        }
        all
    }

    /// The weights of each expert.
    pub(super) fn weights(&self) -> impl Iterator<Item = &Lane> {
        self.experts.iter().map(|expert| &expert.weight)
    }

    /// The learner in a lane, by itself.
    pub(super) fn alone(&self, lane: usize) -> Bernstein {
        let of = |own: fn(&Expert) -> &Lane| self.experts.iter().map(|expert| own(expert)[lane]).collect();
        Bernstein {
            gradient: self.gradient[lane] > 0.0,
            factor: self.factor[lane],
            keep: self.keep[lane],
            regret: of(|expert| &expert.regret),
            squares: of(|expert| &expert.squares),
            range: of(|expert| &expert.range),
            rate: of(|expert| &expert.rate),
            weights: of(|expert| &expert.weight),
        }
    }

    /// The quantile that a lane learns.
    pub(super) fn level(&self, lane: usize) -> f64 {
        self.level[lane]
    }

    /// Takes the outcome `actual`, which is finite, of what experts `said`: gives their mix before it. NaN stands for asleep,
    /// and for a mix where all are.
    pub(super) fn observe(&mut self, said: &[Lane], actual: f64) -> Lane {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the feature.
            return unsafe { self.observe_wide(said, actual) };
        }
        self.observe_any(said, actual)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn observe_wide(&mut self, said: &[Lane], actual: f64) -> Lane {
        self.observe_any(said, actual)
    }

    #[inline(always)]
    fn observe_any(&mut self, said: &[Lane], actual: f64) -> Lane {
        let mixed = self.mix(said);
        let (mut slope, mut loss) = ([0.0; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            let level = self.level[lane];
            slope[lane] = if actual < mixed[lane] { 1.0 - level } else { -level };
            loss[lane] = pinball(actual, mixed[lane], level);
        }
        let spread = (self.experts.len().max(2) as f64).ln();
        for (own, said) in self.experts.iter_mut().zip(said) {
            for lane in 0..LANES {
                let value = said[lane];
                let by_slope = slope[lane] * (mixed[lane] - value);
                let by_loss = loss[lane] - pinball(actual, value, self.level[lane]);
                let r = if self.gradient[lane] > 0.0 { by_slope } else { by_loss };
                let decayed = self.keep[lane] * own.range[lane];
                let range = if r.abs() > decayed { r.abs() } else { decayed };
                let squares = self.keep[lane] * own.squares[lane] + r * r;
                let (steep, flat) = (0.5 / range, (spread / squares).sqrt());
                let eta = self.factor[lane] * if flat < steep { flat } else { steep };
                let eta = if range <= 0.0 || squares <= 0.0 { 0.0 } else { eta };
                let jump = if eta * r > 0.5 { range } else { 0.0 };
                let regret = self.keep[lane] * own.regret[lane] + 0.5 * (r - eta * r * r + jump);
                let awake = value.abs() < f64::INFINITY;
                own.range[lane] = if awake { range } else { own.range[lane] };
                own.squares[lane] = if awake { squares } else { own.squares[lane] };
                own.regret[lane] = if awake { regret } else { own.regret[lane] };
                own.rate[lane] = if awake { eta } else { own.rate[lane] };
            }
        }
        self.weigh();
        mixed
    }

    /// What the learners make of what experts `said`.
    #[inline(always)]
    fn mix(&self, said: &[Lane]) -> Lane {
        let (mut sum, mut weight) = ([0.0; LANES], [0.0; LANES]);
        for (own, said) in self.experts.iter().zip(said) {
            for lane in 0..LANES {
                let awake = said[lane].abs() < f64::INFINITY;
                sum[lane] += if awake { own.weight[lane] * said[lane] } else { 0.0 };
                weight[lane] += if awake { own.weight[lane] } else { 0.0 };
            }
        }
        let mut mixed = [0.0; LANES];
        for lane in 0..LANES {
            mixed[lane] = sum[lane] / weight[lane];
        }
        if weight.iter().any(|weight| *weight <= 0.0) {
            for lane in (0..LANES).filter(|lane| weight[*lane] <= 0.0) {
                mixed[lane] = plain_mean(said.iter().map(|said| said[lane]));
            }
        }
        mixed
    }

    /// Weights follow from regrets: each lane's sum to 1. Where nothing was ever learnt they stay as they are.
    #[inline(always)]
    pub(super) fn weigh(&mut self) {
        let (mut highest, mut most, mut sum) = ([f64::NEG_INFINITY; LANES], [0.0_f64; LANES], [0.0; LANES]);
        for own in &self.experts {
            for lane in 0..LANES {
                let exponent = exponent(own.rate[lane], own.regret[lane]);
                highest[lane] = if exponent > highest[lane] { exponent } else { highest[lane] };
            }
        }
        let before = |lane: usize| highest[lane] == f64::NEG_INFINITY;
        for own in &mut self.experts {
            for lane in 0..LANES {
                let exponent = exponent(own.rate[lane], own.regret[lane]);
                let sound = exponent > f64::NEG_INFINITY;
                let weight = own.rate[lane] * exp_of_negative(exponent - highest[lane]);
                most[lane] = if sound && weight > most[lane] { weight } else { most[lane] };
                // NaN for now: an expert that never differed from the mix stands where the best does.
                let weight = if sound { weight } else { f64::NAN };
                own.weight[lane] = if before(lane) { own.weight[lane] } else { weight };
            }
        }
        for own in &mut self.experts {
            for lane in 0..LANES {
                let weight = own.weight[lane];
                own.weight[lane] = if weight.is_nan() { most[lane] } else { weight };
                sum[lane] += own.weight[lane];
            }
        }
        for own in &mut self.experts {
            for lane in 0..LANES {
                let weight = own.weight[lane];
                own.weight[lane] = if before(lane) { weight } else { weight / sum[lane] };
            }
        }
    }
}

/// What experts say, weighted: by lane, with weights between those of two leads, `share` of the way from the first to the
/// second. Where no weight is left it is the plain mean.
pub(super) fn mix(said: &[Lane], below: &[Lane], above: &[Lane], share: f64) -> Lane {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature.
        return unsafe { mix_wide(said, below, above, share) };
    }
    mix_any(said, below, above, share)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn mix_wide(said: &[Lane], below: &[Lane], above: &[Lane], share: f64) -> Lane {
    mix_any(said, below, above, share)
}

#[inline(always)]
fn mix_any(said: &[Lane], below: &[Lane], above: &[Lane], share: f64) -> Lane {
    let (mut sum, mut total) = ([0.0; LANES], [0.0; LANES]);
    for (value, (low, high)) in said.iter().zip(below.iter().zip(above)) {
        for lane in 0..LANES {
            let weight = low[lane] + share * (high[lane] - low[lane]);
            sum[lane] += weight * value[lane];
            total[lane] += weight;
        }
    }
    let mut mixed = [0.0; LANES];
    for lane in 0..LANES {
        mixed[lane] = sum[lane] / total[lane];
    }
    for lane in (0..LANES).filter(|lane| total[*lane] <= 0.0) {
        mixed[lane] = plain_mean(said.iter().map(|said| said[lane]));
    }
    mixed
}

/// The mean of those that are finite; NaN without any.
fn plain_mean(values: impl Iterator<Item = f64>) -> f64 {
    let finite = values.filter(|value| value.is_finite());
    let (sum, count) = finite.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}

/// What an expert's weight is the exponential of; minus infinity where that says nothing.
#[inline(always)]
fn exponent(eta: f64, regret: f64) -> f64 {
    let product = eta * regret;
    if eta > 0.0 && product.abs() < f64::INFINITY { product } else { f64::NEG_INFINITY }
}
