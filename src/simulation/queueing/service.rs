//! How long a request is in service. Rule: distributions are given by mean and squared coefficient of variation, the two
//! figures that waiting depends on.

use prescale_domain::Span;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, LogNormal};
use serde::{Deserialize, Serialize};

use super::moment::Nanos;

/// Seconds that a request is in service at a warm unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ServiceTime {
    /// Always the mean.
    Deterministic { mean_seconds: f64 },
    /// Without memory: squared coefficient of variation 1.
    Exponential { mean_seconds: f64 },
    /// What request logs mostly look like.
    LogNormal { mean_seconds: f64, squared_variation: f64 },
    /// Two exponentials with balanced means (each brings half of the work); the squared coefficient of variation is
    /// above 1.
    HyperExponential { mean_seconds: f64, squared_variation: f64 },
}

/// How a unit that has just come into service speeds up: linearly from `initial_speed` to 1 over `span`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WarmUp {
    pub span: Span,
    /// Share of the full speed at which it starts.
    pub initial_speed: f64,
}

/// A distribution ready to be drawn from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sampler {
    Fixed(f64),
    Exponential(f64),
    LogNormal(LogNormal<f64>),
    /// Probability and mean of the first, mean of the second.
    Mixed(f64, f64, f64),
}

impl ServiceTime {
    pub fn mean_seconds(&self) -> f64 {
        match *self {
            Self::Deterministic { mean_seconds }
            | Self::Exponential { mean_seconds }
            | Self::LogNormal { mean_seconds, .. }
            | Self::HyperExponential { mean_seconds, .. } => mean_seconds,
        }
    }

    /// Variance over squared mean.
    pub fn squared_variation(&self) -> f64 {
        match *self {
            Self::Deterministic { .. } => 0.0,
            Self::Exponential { .. } => 1.0,
            Self::LogNormal { squared_variation, .. } | Self::HyperExponential { squared_variation, .. } => {
                squared_variation
            }
        }
    }

    pub(super) fn sampler(&self) -> Sampler {
        let (mean, squared) = (self.mean_seconds(), self.squared_variation());
        match self {
            Self::Deterministic { .. } => Sampler::Fixed(mean),
            Self::Exponential { .. } => Sampler::Exponential(mean),
            Self::LogNormal { .. } => {
                let variance = (1.0 + squared).ln();
                let drawn = LogNormal::new(mean.ln() - variance / 2.0, variance.sqrt());
                drawn.map_or(Sampler::Fixed(mean), Sampler::LogNormal)
            }
            Self::HyperExponential { .. } => {
                let first = (1.0 + ((squared - 1.0) / (squared + 1.0)).max(0.0).sqrt()) / 2.0;
                Sampler::Mixed(first, mean / (2.0 * first), mean / (2.0 * (1.0 - first)))
            }
        }
    }
}

impl Sampler {
    pub(super) fn sample(&self, rng: &mut ChaCha8Rng) -> f64 {
        let unit = |rng: &mut ChaCha8Rng| -> f64 { Exp1.sample(rng) };
        match *self {
            Self::Fixed(mean) => mean,
            Self::Exponential(mean) => mean * unit(rng),
            Self::LogNormal(drawn) => drawn.sample(rng),
            Self::Mixed(first, short, long) => {
                let mean = if rng.random::<f64>() < first { short } else { long };
                mean * unit(rng)
            }
        }
    }
}

impl WarmUp {
    /// Full speed from the first moment.
    pub const NONE: Self = Self { span: Span::ZERO, initial_speed: 1.0 };

    /// Share of the full speed at `age` in service.
    pub fn speed(&self, age_seconds: f64) -> f64 {
        let span = self.span.seconds();
        if age_seconds >= span {
            1.0
        } else {
            self.initial_speed + (1.0 - self.initial_speed) * age_seconds.max(0.0) / span
        }
    }

    /// How long `work` seconds of work take a unit that has been in service for `age`: until the integral of its speed
    /// has reached them.
    pub(super) fn duration(&self, work: f64, age: Nanos) -> f64 {
        let (span, age) = (self.span.seconds(), age.seconds());
        let left = span - age;
        if left <= 0.0 {
            return work;
        }
        let speed = self.speed(age);
        let slope = (1.0 - self.initial_speed) / span;
        let done_warming = (speed + 1.0) / 2.0 * left;
        if work >= done_warming {
            left + (work - done_warming)
        } else if slope > 0.0 {
            ((speed * speed + 2.0 * slope * work).sqrt() - speed) / slope
        } else {
            work / speed
        }
    }
}
