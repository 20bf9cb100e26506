//! How late replacements are. Rule: the time from launch to service is log-normal between its median and its p90; where
//! only the p90 is known, it is taken as certain.

use prescale_domain::Span;

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
    /// Probability that a unit serves so long after its launch.
    fn serves_within(&self, seconds: f64) -> f64 {
        let p90 = self.p90.seconds();
        let median = self.median.map_or(p90, |median| median.seconds().clamp(0.0, p90));
        if median <= 0.0 || median >= p90 {
            return if seconds >= p90 { 1.0 } else { 0.0 };
        }
        let sigma = (p90 / median).ln() / Z_P90;
        if seconds <= 0.0 { 0.0 } else { normal((seconds / median).ln() / sigma) }
    }

    /// For how many hours after `deadline` fewer than `needed` of `needed + extra` units serve, launched together: the mean.
    pub fn late_hours(&self, needed: u32, extra: u32, deadline: Span) -> f64 {
        let begin = deadline.seconds().max(0.0);
        let end = self.p90.seconds() * LATEST;
        if needed == 0 || end <= begin {
            return 0.0;
        }
        if self.median.is_none_or(|median| median >= self.p90) {
            return (self.p90.seconds() - begin).max(0.0) / 3600.0;
        }
        let width = (end - begin) / f64::from(STEPS);
        let late = |step: u32| {
            let serves = self.serves_within(begin + (f64::from(step) + 0.5) * width);
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
            // A second is nothing that anybody sees.
            if late < 1.0 / 3600.0 || next > 0.9 * late {
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

/// Distribution function of the standard normal, to 1e-7 (Abramowitz and Stegun 26.2.17).
fn normal(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let poly = t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * poly;
    if z >= 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Starts = Starts { median: Some(Span::from_secs(75)), p90: Span::from_secs(110) };

    #[test]
    fn the_distribution_has_its_median_and_its_p90() {
        assert!((QUICK.serves_within(75.0) - 0.5).abs() < 1e-6);
        assert!((QUICK.serves_within(110.0) - 0.9).abs() < 1e-6);
        let certain = Starts { median: None, ..QUICK };
        assert!((certain.late_hours(5, 3, Span::from_secs(80)) - 30.0 / 3600.0).abs() < 1e-12);
    }

    #[test]
    fn of_one_unit_the_wait_is_the_mean_of_what_is_late() {
        // By parts: the mean of (L - d)+ of a log-normal is m exp(s²/2) N(s - a) - d N(-a), a = ln(d/m)/s.
        let sigma = (110.0_f64 / 75.0).ln() / Z_P90;
        let a = (90.0_f64 / 75.0).ln() / sigma;
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
        assert!((3..=5).contains(&hedge), "{hedge}");
        assert_eq!(QUICK.hedge(10, 0.5, Span::from_secs(600)), 0, "nothing is late");
        assert_eq!(QUICK.hedge(0, 0.5, Span::from_secs(90)), 0);
    }
}
