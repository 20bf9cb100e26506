//! Loads of a kind, for `prescale simulate --profile` and for scenarios: what each is like, and its defaults. Rule: any
//! step is computed from the seed and its own moment, whatever was asked for before.
//!
//! | profile | usual load | what is out of the usual |
//! |---|---|---|
//! | `diurnal` | a day between base and peak, highest at 15:00 UTC | – |
//! | `weekly` | as diurnal | Saturday and Sunday at `factor` of it |
//! | `flash-crowd` | base | once in each period, at a moment that nobody knows, up to the peak |
//! | `ramp` | base | from `hold` after the start, over `rise`, to the peak, and it stays |
//! | `micro-bursts` | base | once in each period some seconds at half to all of the peak |
//! | `step` | base and peak in turn, half a period each | – |
//! | `campaign` | as diurnal | once in each period, announced 4 to 20 hours before, `factor` times the usual |
//! | `maintenance-dip` | as diurnal | each Sunday at 02:00 UTC, announced three days before, `factor` times the usual |
//! | `gpu-inference` | Monday to Friday 09:00 to 17:00 UTC between base and peak; nothing at all otherwise | – |

mod kind;
mod lift;
mod load;
mod records;
mod shape;
#[cfg(test)]
mod tests;

use prescale_domain::{ServiceName, Span, Timestamp};
use thiserror::Error;

pub use kind::Profile;
pub use load::ProfileLoad;
pub use records::{GPU_CONCURRENCY, GPU_SERVICE, GPU_TOKENS_MEAN, MetricRecord};

/// A load to generate. [`ProfileSettings::new`] gives the defaults of a profile.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileSettings {
    pub profile: Profile,
    pub service: ServiceName,
    pub seed: u64,
    pub start: Timestamp,
    pub length: Span,
    /// Requests per second at quiet times, and at the height.
    pub base_per_second: f64,
    pub peak_per_second: f64,
    /// How often what the profile is about comes again.
    pub period: Span,
    /// How long a rise takes, how long the height lasts, and how long it takes until a fall is done but for a third.
    pub rise: Span,
    pub hold: Span,
    pub fall: Span,
    /// Load at unusual times as a multiple of the usual, where the profile has such times.
    pub factor: f64,
    pub noise: Noise,
}

/// What makes a load differ from its shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// Variance of the requests in a step over their mean; 1 is that of a Poisson process, 1.9 the residual dispersion of
    /// the NASA 1995 log per minute.
    pub dispersion: f64,
    /// Spread of the logarithm of the load from day to day.
    pub day_spread: f64,
    /// The same from minute to minute, shared by neighbours.
    pub short_spread: f64,
}

/// A profile that cannot be generated.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ProfileError {
    #[error("unknown profile `{name}`, expected one of {}", Profile::names())]
    Unknown { name: String },
    #[error("profile `{profile}`: {fault}")]
    Invalid { profile: Profile, fault: String },
}

impl Default for Noise {
    fn default() -> Self {
        Self { dispersion: 1.9, day_spread: 0.04, short_spread: 0.04 }
    }
}

impl Noise {
    /// The shape and nothing else; counts are those of a Poisson process.
    pub const NONE: Self = Self { dispersion: 1.0, day_spread: 0.0, short_spread: 0.0 };
}

impl ProfileSettings {
    /// The defaults of a profile from `start` on: base 20 and peak 100 requests a second, over a time in which everything
    /// that the profile is about happens at least once.
    pub fn new(profile: Profile, service: ServiceName, start: Timestamp, seed: u64) -> Self {
        let (minutes, hours, days) =
            (Span::from_minutes, |h: i64| Span::from_minutes(60 * h), |d: i64| Span::from_minutes(1440 * d));
        let (secs, none) = (Span::from_secs, Span::ZERO);
        // Length, period, rise, hold, fall, factor.
        let (length, period, rise, hold, fall, factor) = match profile {
            Profile::Diurnal => (days(1), days(1), none, none, none, 1.0),
            Profile::Weekly => (days(7), days(7), none, none, none, 0.7),
            Profile::FlashCrowd => (days(1), days(1), minutes(2), minutes(15), minutes(10), 1.0),
            Profile::Ramp => (hours(2), hours(2), hours(1), minutes(10), none, 1.0),
            Profile::MicroBursts => (hours(2), minutes(5), secs(1), secs(10), secs(2), 1.0),
            Profile::Step => (hours(2), hours(1), none, none, none, 1.0),
            Profile::Campaign => (days(4), days(2), minutes(3), minutes(60), minutes(5), 2.5),
            Profile::MaintenanceDip => (days(7), days(7), minutes(2), minutes(118), minutes(5), 0.1),
            Profile::GpuInference => (days(7), days(1), none, none, none, 1.0),
        };
        Self {
            profile,
            service,
            seed,
            start,
            length,
            base_per_second: 20.0,
            peak_per_second: 100.0,
            period,
            rise,
            hold,
            fall,
            factor,
            noise: Noise::default(),
        }
    }

    pub fn end(&self) -> Timestamp {
        self.start + self.length
    }

    pub(super) fn check(&self) -> Result<(), ProfileError> {
        let amount = |value: f64| value.is_finite() && value >= 0.0;
        let Noise { dispersion, day_spread, short_spread } = self.noise;
        let faults = [
            (!amount(self.base_per_second), format!("base {} requests per second", self.base_per_second)),
            (
                !amount(self.peak_per_second) || self.peak_per_second < self.base_per_second,
                format!("peak {} is below base {}", self.peak_per_second, self.base_per_second),
            ),
            (!amount(self.factor), format!("factor {}", self.factor)),
            (self.length <= Span::ZERO, format!("length {} is not positive", self.length)),
            (self.period < Span::from_secs(1), format!("period {} is below 1s", self.period)),
            (
                !amount(dispersion) || dispersion < 1.0 || !amount(day_spread) || !amount(short_spread),
                format!("noise of dispersion {dispersion} (at least 1), {day_spread} by day, {short_spread} by minute"),
            ),
        ];
        let fault = faults.into_iter().find(|(wrong, _)| *wrong);
        fault.map_or(Ok(()), |(_, fault)| Err(ProfileError::Invalid { profile: self.profile, fault }))
    }
}
