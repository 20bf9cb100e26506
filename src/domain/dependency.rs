//! What a service's load does to that of a service it calls, as learnt. Rule: all that a lift is made of is in it.

use std::f64::consts::TAU;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ServiceName, Span, Timestamp};

/// A callee's load as its caller's makes it: `base + daily(t) + ratio × caller(t - lag) + rest(t)`, where the rest fades by
/// `persistence` each window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dependency {
    /// Start of the last window that it was learnt from, and the width of each.
    pub at: Timestamp,
    pub step: Span,
    /// Windows from the caller's load to the callee's.
    pub lag: u32,
    /// The callee's load for each of the caller's.
    pub ratio: f64,
    /// The callee's load that has other causes: its mean, and what it does each day, once a day has been seen.
    pub base: f64,
    pub daily: [f64; 4],
    /// What the last window had above that; `None` = one of the two loads was not known.
    pub rest: Option<f64>,
    /// Share of the rest that is left a window later, in \[0, 1\].
    pub persistence: f64,
    /// Standard deviation of what is new in the rest each window.
    pub noise: f64,
    /// Share of what the callee's own past leaves open that the caller's load explains, in \[0, 1\].
    pub explained: f64,
    /// Chance of as much between independent services, over all lags together.
    pub chance: f64,
    /// Windows that it was learnt from.
    pub windows: u64,
}

impl Dependency {
    /// Once and twice around the day: sine, cosine, sine, cosine.
    pub fn day(at: Timestamp) -> [f64; 4] {
        const DAY: i64 = 86_400_000;
        let angle = at.millis().rem_euclid(DAY) as f64 / DAY as f64 * TAU;
        [angle.sin(), angle.cos(), (2.0 * angle).sin(), (2.0 * angle).cos()]
    }

    /// The callee's load of a window without what the rest adds.
    pub fn caused(&self, at: Timestamp, caller: f64) -> f64 {
        let daily: f64 = Self::day(at).iter().zip(self.daily).map(|(wave, height)| wave * height).sum();
        self.base + daily + self.ratio * caller
    }

    /// In a sentence.
    pub fn sentence(&self, caller: &str, callee: &str) -> String {
        let when = match self.lag {
            0 => "in the same window".to_owned(),
            lag => format!("{} before", Span::from_millis(self.step.millis().saturating_mul(i64::from(lag)))),
        };
        format!(
            "`{callee}` has {:.2} of load for each of `{caller}` {when}: that explains {:.0} % of what its own past leaves \
             open, in {} windows",
            self.ratio,
            100.0 * self.explained,
            self.windows
        )
    }
}

/// A forecast that is higher for what a caller's load does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lifted {
    pub caller: ServiceName,
    /// By how much a quantile rose at most.
    pub most: f64,
    pub dependency: Dependency,
}
