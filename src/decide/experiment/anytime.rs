//! Intervals that hold at every moment at once, so that one may look and stop at will. Rule: the probability that any of
//! them ever misses the true effect is at most alpha.
//!
//! For independent differences: the mixture sequential probability ratio test of Robbins (Ann. Math. Stat. 41, 1970), which
//! Johari, Koomen, Pekelis and Walsh (Operations Research 70, 2022) made the usual one for A/B tests, in its form for an
//! unknown variance: a normal mixture over the effect in standard deviations and a flat one over log σ (Lai, Ann. Stat. 4,
//! 1976; Wang and Ramdas, Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance, 2023).
//! With n differences of sum S and sum of squares V the ratio against "no effect" is
//! √(c²/(n+c²)) · (V / (V − S²/(n+c²)))^(n/2), a martingale for normal differences whatever their variance; Ville's
//! inequality bounds the probability that it ever reaches 1/α. Solved for the effect it gives the interval in closed form.

use prescale_domain::Span;

use super::effect::{Estimate, Moments};

/// The interval around the mean of `differences`; `None` while it would be boundless. `tuned_at` is the number of
/// differences at which it is to be narrowest.
pub fn interval(differences: &Moments, alpha: f64, tuned_at: u32) -> Option<Estimate> {
    let (units, effect) = (differences.count(), differences.mean()?);
    let n = units as f64;
    let variance = differences.variance()? * (n - 1.0) / n;
    let c2 = width_parameter(alpha, tuned_at);
    // The ratio is below 1/α where the effect's distance d from the mean keeps (σ² + d²) < k (σ² + d² c²/(n+c²)).
    let k = ((n + c2) / (c2 * alpha * alpha)).powf(1.0 / n);
    let room = 1.0 - k * c2 / (n + c2);
    if room <= 0.0 {
        return None;
    }
    let reach = (variance * (k - 1.0) / room).sqrt();
    reach.is_finite().then_some(Estimate {
        effect,
        low: effect - reach,
        high: effect + reach,
        level: 1.0 - alpha,
        units,
    })
}

/// c²: the mixture's width that makes the interval narrowest at `tuned_at`, nearly, as for a known variance (Waudby-Smith,
/// Arbour, Sinha, Kennedy and Ramdas, Time-uniform central limit theory, Ann. Stat. 52, 2024).
fn width_parameter(alpha: f64, tuned_at: u32) -> f64 {
    let twice = -2.0 * alpha.ln();
    f64::from(tuned_at.max(1)) / (twice + (1.0 + twice).ln())
}

/// The number of the look that is due after `passed`: the first at `first`, each further one at twice the time; 0 before.
pub fn look(passed: Span, first: Span) -> u32 {
    let times = passed.millis() / first.millis().max(1);
    if times <= 0 { 0 } else { times.ilog2() + 1 }
}

/// The share of alpha that look `number`, from 1, may spend: 1/(k(k+1)), which sums to 1. By the union bound this holds
/// however the looks depend on each other, which with the same services they do.
pub fn look_alpha(number: u32) -> f64 {
    let k = f64::from(number.max(1));
    1.0 / (k * (k + 1.0))
}
