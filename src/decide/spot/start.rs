//! How late replacements are. Rule: the time from launch to service is log-normal between its median and its p90; where
//! only the p90 is known, it is taken as certain.

use prescale_domain::{Span, SpotInputs};
use statrs::distribution::{ContinuousCDF, LogNormal};

/// The standard normal's p90.
const Z_P90: f64 = 1.281_551_565_545;
/// Beyond this multiple of the p90 nobody waits.
const LATEST: f64 = 3.0;
const STEPS: u32 = 60;

/// Launch → serving at full speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starts {
    pub median: Option<Span>,
    pub p90: Span,
}

impl Starts {
    /// What a plan's inputs say of replacements.
    pub fn of(inputs: &SpotInputs) -> Self {
        Self { median: inputs.replacement_median, p90: inputs.replacement }
    }

    /// `None` = the p90 is certain.
    fn distribution(&self) -> Option<LogNormal> {
        let (median, p90) = (self.median?.seconds(), self.p90.seconds());
        let varies = median > 0.0 && median < p90;
        varies.then(|| LogNormal::new(median.ln(), (p90 / median).ln() / Z_P90).ok()).flatten()
    }

    /// For how many hours after `deadline` fewer than `needed` of `needed + extra` units serve, launched together: the mean.
    pub fn late_hours(&self, needed: u32, extra: u32, deadline: Span) -> f64 {
        let begin = deadline.seconds().max(0.0);
        let end = self.p90.seconds() * LATEST;
        if needed == 0 || end <= begin {
            return 0.0;
        }
        let Some(distribution) = self.distribution() else {
            return (self.p90.seconds() - begin).max(0.0) / 3600.0;
        };
        let width = (end - begin) / f64::from(STEPS);
        let late = |step: u32| {
            let serves = distribution.cdf(begin + (f64::from(step) + 0.5) * width);
            fewer_than(needed, needed.saturating_add(extra), serves)
        };
        (0..STEPS).map(late).sum::<f64>() * width / 3600.0
    }

    /// Units to launch beyond the `lost` ones, up to a share of them, so that the slowest need not be waited for: as many as
    /// shorten the wait by a tenth each at least.
    pub fn hedge(&self, lost: u32, share_max: f64, deadline: Span) -> u32 {
        let most = (f64::from(lost) * share_max.clamp(0.0, 1.0)).ceil() as u32;
        let mut late = self.late_hours(lost, 0, deadline);
        for extra in 0..most {
            let next = self.late_hours(lost, extra + 1, deadline);
            // A tenth of a second is nothing that anybody sees.
            if late < 0.1 / 3600.0 || next > 0.9 * late {
                return extra;
            }
            late = next;
        }
        most
    }
}

/// Probability that fewer than `needed` of `of` units serve.
fn fewer_than(needed: u32, of: u32, serves: f64) -> f64 {
    if serves >= 1.0 {
        return 0.0;
    }
    let odds = serves / (1.0 - serves);
    let mut term = (1.0 - serves).powi(of.min(1000).cast_signed());
    let mut sum = 0.0;
    for count in 0..needed.min(1000) {
        sum += term;
        term *= odds * f64::from(of.saturating_sub(count)) / f64::from(count + 1);
    }
    sum.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Starts = Starts { median: Some(Span::from_secs(75)), p90: Span::from_secs(110) };

    #[test]
    fn the_distribution_has_its_median_and_its_p90() {
        let distribution = QUICK.distribution().unwrap();
        assert!((distribution.cdf(75.0) - 0.5).abs() < 1e-9);
        assert!((distribution.cdf(110.0) - 0.9).abs() < 1e-9);
        let certain = Starts { median: None, ..QUICK };
        assert!((certain.late_hours(5, 3, Span::from_secs(80)) - 30.0 / 3600.0).abs() < 1e-12);
    }

    #[test]
    fn of_one_unit_the_wait_is_the_mean_of_what_is_late() {
        // By parts: the mean of (L - d)+ of a log-normal is m exp(s²/2) N(s - a) - d N(-a), a = ln(d/m)/s.
        let sigma = (110.0_f64 / 75.0).ln() / Z_P90;
        let a = (90.0_f64 / 75.0).ln() / sigma;
        let normal = |z: f64| statrs::distribution::Normal::standard().cdf(z);
        let exact = 75.0 * (sigma * sigma / 2.0).exp() * normal(sigma - a) - 90.0 * normal(-a);
        let found = QUICK.late_hours(1, 0, Span::from_secs(90)) * 3600.0;
        assert!((found - exact).abs() < 0.05, "{found} and {exact}");
    }

    #[test]
    fn more_launches_shorten_the_wait_for_the_slowest() {
        let waits: Vec<f64> = (0..12).map(|extra| QUICK.late_hours(10, extra, Span::from_secs(90))).collect();
        assert!(waits.windows(2).all(|pair| pair[1] < pair[0]), "{waits:?}");
        assert!(waits[5] < 0.1 * waits[0], "{waits:?}");
        let hedge = QUICK.hedge(10, 0.5, Span::from_secs(90));
        assert_eq!(hedge, 5, "half of them at most");
        assert_eq!(QUICK.hedge(10, 0.5, Span::from_secs(600)), 0, "nothing is late");
        assert_eq!(QUICK.hedge(0, 0.5, Span::from_secs(90)), 0);
    }
}
