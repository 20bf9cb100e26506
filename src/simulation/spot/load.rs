//! What is wanted and what is needed. Rule: the wish knows the daily shape and not the noise on it.

use prescale_domain::{Span, Timestamp};

use crate::seeded::{Purpose, normal};

/// A day's cycle with noise, in units of capacity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadShape {
    pub mean_units: f64,
    /// Up and down from the mean over a day.
    pub swing_units: f64,
    /// Standard deviation of the noise of a minute, as a share.
    pub noise: f64,
    /// What is wanted beyond what is expected, as a share.
    pub headroom: f64,
    pub seed: u64,
}

impl LoadShape {
    /// 5 to 15 units, 4 % of noise and a tenth of headroom.
    pub fn usual(seed: u64) -> Self {
        Self { mean_units: 10.0, swing_units: 5.0, noise: 0.04, headroom: 0.1, seed }
    }

    fn expected(&self, at: Timestamp) -> f64 {
        const DAY_MILLIS: i64 = 86_400_000;
        let day = at.millis().rem_euclid(DAY_MILLIS) as f64 / DAY_MILLIS as f64;
        (self.mean_units - self.swing_units * (day * std::f64::consts::TAU).cos()).max(0.0)
    }

    /// Units that the load of that moment takes.
    pub fn needed(&self, at: Timestamp) -> f64 {
        let minute = at.floor_to(Span::from_minutes(1));
        (self.expected(at) * (1.0 + self.noise * normal(self.seed, Purpose::Count, 0, minute))).max(0.0)
    }

    /// Units to have, so that what is asked for now is there when it is needed.
    pub fn wanted(&self, at: Timestamp, lead: Span) -> u32 {
        let expected = self.expected(at).max(self.expected(at + lead));
        (expected * (1.0 + self.headroom)).ceil() as u32
    }
}
