//! Whether one model is better than another, asked again and again while outcomes come. Rule: the answer may be looked at
//! after every outcome without losing its promise; pure, a few numbers of state.

use serde::{Deserialize, Serialize};

/// Shares of the wealth that are bet, one gambler each.
const STAKES: [f64; 8] = [0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9];

/// A test by betting of "the mean of these differences is not above 0" (Waudby-Smith & Ramdas 2023, "Estimating means of
/// bounded random variables by betting"). Differences are in [−1, 1]; a gambler with stake λ multiplies its wealth by
/// `1 + λ d`, and the mean of the wealth of eight gamblers (their "diversified Kelly betting") is an e-process: under the
/// hypothesis it exceeds `1/α` at any time whatever with a probability of at most α (Ville 1939; Howard, Ramdas, McAuliffe
/// & Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences"). It needs no independence: it is
/// enough that no difference is expected to be above 0 by what was known before it.
///
/// Measured with α = 0.05 over 1,000 sequences of 200 normal differences, cut at ±1, standard deviation 0.5 (the test's
/// limits are looser): without a difference, 2.4 % exceed `1/α` at some time; with a mean of 0.1, 57 % do,
/// after 101 on average; of 0.2, 99.8 %, after 55; of 0.4, all, after 20.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BettingTest {
    /// Logarithm of each gambler's wealth.
    wealth: [f64; STAKES.len()],
    count: u64,
    /// Logarithm of the largest mean wealth so far.
    highest: f64,
}

impl Default for BettingTest {
    fn default() -> Self {
        Self { wealth: [0.0; STAKES.len()], count: 0, highest: 0.0 }
    }
}

impl BettingTest {
    /// Takes the next difference, in [−1, 1]; others are cut, what is no number is passed over.
    pub fn add(&mut self, difference: f64) {
        if difference.is_nan() {
            return;
        }
        let difference = difference.clamp(-1.0, 1.0);
        for (wealth, stake) in self.wealth.iter_mut().zip(STAKES) {
            *wealth += (stake * difference).ln_1p();
        }
        self.count += 1;
        self.highest = self.highest.max(self.log_e());
    }

    /// Logarithm of the e-value now.
    pub fn log_e(&self) -> f64 {
        let most = self.wealth.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.wealth.iter().map(|wealth| (wealth - most).exp()).sum();
        most + (sum / STAKES.len() as f64).ln()
    }

    /// The e-value now, at most 10⁹: how many times the stake was won.
    pub fn e_value(&self) -> f64 {
        self.log_e().exp().min(1e9)
    }

    /// Whether the e-value has reached `1/alpha` at any time.
    pub fn rejects(&self, alpha: f64) -> bool {
        self.highest >= -alpha.ln()
    }

    /// Differences so far.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

/// Brings differences of losses into [−1, 1]: each is divided by the mean size of those before it and cut, so that the unit
/// of a bet is fixed before its outcome is known, and no single window decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    sum: f64,
    count: f64,
}

impl Default for Scale {
    /// Before the first difference: as if one of a tenth had been seen.
    fn default() -> Self {
        Self { sum: 0.1, count: 1.0 }
    }
}

impl Scale {
    /// The difference in the unit of the differences before, cut at ±1. What is no number counts as none.
    pub fn apply(&mut self, difference: f64) -> f64 {
        if !difference.is_finite() {
            return 0.0;
        }
        let unit = (self.sum / self.count).max(1e-9);
        self.sum += difference.abs();
        self.count += 1.0;
        (difference / unit).clamp(-1.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution as _, Normal};

    use super::*;

    /// Share of 1,000 sequences of 200 differences that reject at 5 %, and after how many on average.
    fn rejected(mean: f64, scaled: bool) -> (f64, f64) {
        let (mut rejected, mut after) = (0, 0);
        for seed in 0..1000 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let noise = Normal::new(mean, 0.5).unwrap();
            let (mut test, mut scale) = (BettingTest::default(), Scale::default());
            for n in 1..=200 {
                let difference: f64 = noise.sample(&mut random);
                test.add(if scaled { scale.apply(difference) } else { difference });
                if test.rejects(0.05) {
                    rejected += 1;
                    after += n;
                    break;
                }
            }
        }
        let result = (f64::from(rejected) / 1000.0, f64::from(after) / f64::from(rejected.max(1)));
        crate::measured::tell(format!("mean {mean} scaled {scaled}: {result:?}"));
        result
    }

    #[test]
    fn equal_models_are_told_apart_as_seldom_as_promised() {
        for scaled in [false, true] {
            let (share, _) = rejected(0.0, scaled);
            assert!(share <= 0.05, "{share}");
        }
    }

    #[test]
    fn a_better_model_is_found_the_sooner_the_better_it_is() {
        for (mean, least, most) in [(0.1, 0.4, 140.0), (0.2, 0.95, 70.0), (0.4, 1.0, 25.0)] {
            let (share, after) = rejected(mean, false);
            assert!(share >= least && after <= most, "{mean}: {share} {after}");
        }
    }

    #[test]
    fn a_worse_model_is_never_called_better() {
        let (share, _) = rejected(-0.1, true);
        assert!(share <= 0.01, "{share}");
    }

    #[test]
    fn evidence_stays_finite_whatever_comes() {
        let mut test = BettingTest::default();
        for _ in 0..100_000 {
            test.add(f64::INFINITY);
        }
        assert_eq!(test.e_value(), 1e9);
        for _ in 0..1_000_000 {
            test.add(-1.0);
        }
        test.add(f64::NAN);
        assert!(test.log_e().is_finite() && test.rejects(0.05));
        assert_eq!(Scale::default().apply(f64::NAN), 0.0);
    }
}
