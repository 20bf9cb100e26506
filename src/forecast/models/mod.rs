//! The models behind one interface. Rule: closed set, deterministic under a seed, saved form is refused unless known.

mod analog;
mod arima;
mod boosted;
mod ets;
mod holt;
pub(crate) mod lags;
mod linear;
mod logs;
mod lstm;
mod mstl;
mod naive;
mod pointwise;
mod profile_holt;
#[cfg(feature = "prophet")]
mod prophet;
mod regression;
pub(crate) mod residual;
mod season;
mod seasonal_naive;
mod ses;
#[cfg(test)]
mod tests;
#[cfg(not(feature = "prophet"))]
mod unbuilt;

use std::collections::BTreeMap;
use std::fmt;

use prescale_domain::{CalendarEvent, Series, ServiceName, Span, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{ForecastCrateError, Result};
use crate::past::{Covariates, Request};
use crate::rows::Rows;

pub use analog::Analog;
pub use arima::Arima;
pub use boosted::Boosted;
pub use ets::Ets;
pub use holt::Holt;
pub use lstm::{Lstm, LstmSettings, TrainingDevice};
pub use mstl::Mstl;
pub use naive::Naive;
pub use pointwise::{PointExpert, Pointwise};
pub use profile_holt::ProfileHolt;
#[cfg(feature = "prophet")]
pub use prophet::Prophet;
pub use regression::Regression;
pub use seasonal_naive::{DayLevel, DayNaive, SeasonalNaive};
pub use ses::Ses;

/// Which model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// The same window yesterday or last week, at that level or the present one: the best of the four on the training part.
    SeasonalNaive,
    /// The same window yesterday.
    DayNaive,
    /// Yesterday, smoothed and moved to the present level.
    DayLevel,
    /// The newest value.
    Naive,
    /// Simple exponential smoothing.
    Ses,
    /// Damped Holt on log1p.
    Holt,
    /// Median day profile and damped Holt on what it leaves.
    ProfileHolt,
    /// Median regression on lags, one for each lead.
    Regression,
    /// What followed the same minute of earlier hours, in the same state.
    Analog,
    /// Exponential smoothing in state space form, its form and parameters by likelihood.
    Ets,
    /// ARIMA on log1p.
    Arima,
    /// Daily and weekly season by repeated loess, and damped Holt on what they leave.
    Mstl,
    /// Prophet's daily and weekly season, and damped Holt on what they leave; in a build with the cargo feature `prophet`.
    Prophet,
    /// Gradient-boosted trees on lags.
    Boosted,
    /// Encoder-decoder LSTM with a quantile head.
    Lstm,
}

impl ModelKind {
    /// Those that the online loop mixes by default: what costs more for little gain has to be asked for.
    pub const DEFAULT: [Self; 10] = [
        Self::SeasonalNaive,
        Self::Naive,
        Self::Ses,
        Self::Holt,
        Self::ProfileHolt,
        Self::DayNaive,
        Self::DayLevel,
        Self::Regression,
        Self::Analog,
        Self::Lstm,
    ];

    /// Every kind that this build knows.
    pub const EACH: [Self; 14 + cfg!(feature = "prophet") as usize] = [
        Self::SeasonalNaive,
        Self::DayNaive,
        Self::DayLevel,
        Self::Naive,
        Self::Ses,
        Self::Holt,
        Self::ProfileHolt,
        Self::Regression,
        Self::Analog,
        Self::Ets,
        Self::Arima,
        Self::Mstl,
        #[cfg(feature = "prophet")]
        Self::Prophet,
        Self::Boosted,
        Self::Lstm,
    ];

    /// The name in configuration, results and telemetry.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SeasonalNaive => "seasonal-naive",
            Self::DayNaive => "day-naive",
            Self::DayLevel => "day-level",
            Self::Naive => "naive",
            Self::Ses => "ses",
            Self::Holt => "holt",
            Self::ProfileHolt => "profile-holt",
            Self::Regression => "regression",
            Self::Analog => "analog",
            Self::Ets => "ets",
            Self::Arima => "arima",
            Self::Mstl => "mstl",
            Self::Prophet => "prophet",
            Self::Boosted => "boosted",
            Self::Lstm => "lstm",
        }
    }

    /// Whether this build knows it.
    pub const fn is_built(self) -> bool {
        !matches!(self, Self::Prophet) || cfg!(feature = "prophet")
    }

    /// Whether a fit takes so long, or the model is so large, that it never happens on the way of a decision.
    pub const fn is_costly(self) -> bool {
        !matches!(
            self,
            Self::SeasonalNaive
                | Self::DayNaive
                | Self::DayLevel
                | Self::Naive
                | Self::Ses
                | Self::Holt
                | Self::ProfileHolt
                | Self::Analog
        )
    }

    /// An unfitted model that draws all its chance from `seed`. One that this build doesn't know can't be fitted, and says so.
    pub fn build(self, seed: u64) -> Box<dyn Forecaster> {
        match self {
            Self::SeasonalNaive => Box::new(SeasonalNaive::default()),
            Self::DayNaive => Box::new(DayNaive::default()),
            Self::DayLevel => Box::new(DayLevel::default()),
            Self::Naive => Box::new(Naive::default()),
            Self::Ses => Box::new(Ses::default()),
            Self::Holt => Box::new(Holt::default()),
            Self::ProfileHolt => Box::new(ProfileHolt::default()),
            Self::Regression => Box::new(Regression::default()),
            Self::Analog => Box::new(Analog::default()),
            Self::Ets => Box::new(Ets::default()),
            Self::Arima => Box::new(Arima::default()),
            Self::Mstl => Box::new(Mstl::default()),
            #[cfg(feature = "prophet")]
            Self::Prophet => Box::new(Prophet::default()),
            #[cfg(not(feature = "prophet"))]
            Self::Prophet => Box::new(unbuilt::Unbuilt(self)),
            Self::Boosted => Box::new(Boosted::new(seed)),
            Self::Lstm => Box::new(Lstm::new(LstmSettings::default(), seed)),
        }
    }

    /// A model as [`Forecaster::save`] wrote it.
    ///
    /// # Errors
    /// Bytes of another kind, format or version, or damaged ones.
    pub fn load(self, bytes: &[u8]) -> Result<Box<dyn Forecaster>> {
        Ok(match self {
            Self::SeasonalNaive => Box::new(SeasonalNaive::load(bytes)?),
            Self::DayNaive => Box::new(DayNaive::load(bytes)?),
            Self::DayLevel => Box::new(DayLevel::load(bytes)?),
            Self::Naive => Box::new(Naive::load(bytes)?),
            Self::Ses => Box::new(Ses::load(bytes)?),
            Self::Holt => Box::new(Holt::load(bytes)?),
            Self::ProfileHolt => Box::new(ProfileHolt::load(bytes)?),
            Self::Regression => Box::new(Regression::load(bytes)?),
            Self::Analog => Box::new(Analog::load(bytes)?),
            Self::Ets => Box::new(Ets::load(bytes)?),
            Self::Arima => Box::new(Arima::load(bytes)?),
            Self::Mstl => Box::new(Mstl::load(bytes)?),
            #[cfg(feature = "prophet")]
            Self::Prophet => Box::new(Prophet::load(bytes)?),
            #[cfg(not(feature = "prophet"))]
            Self::Prophet => return Err(ForecastCrateError::NotBuilt { model: self.to_string() }),
            Self::Boosted => Box::new(Boosted::load(bytes)?),
            Self::Lstm => Box::new(Lstm::load(bytes)?),
        })
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for ModelKind {
    type Err = ForecastCrateError;

    fn from_str(name: &str) -> Result<Self> {
        #[cfg(not(feature = "prophet"))]
        if name == Self::Prophet.name() {
            return Err(ForecastCrateError::NotBuilt { model: name.to_owned() });
        }
        Self::EACH.into_iter().find(|kind| kind.name() == name).ok_or_else(|| ForecastCrateError::Setting {
            name: "model",
            value: format!("`{name}`"),
            expected: "the name of a model, such as holt, regression or lstm",
        })
    }
}

/// What models learn from: the histories of all services, what was measured beside them, and what was known of the calendar.
#[derive(Clone, Copy, Debug)]
pub struct Lesson<'a> {
    pub histories: &'a BTreeMap<ServiceName, Series>,
    /// What was measured beside the loads: for models that look at it.
    pub covariates: &'a Covariates<'a>,
    pub events: &'a [CalendarEvent],
    /// Parameters are chosen on windows before this moment, error quantiles are measured from it to `end`.
    pub train_until: Timestamp,
    /// Nothing from this moment on is looked at.
    pub end: Timestamp,
    pub horizon_steps: usize,
    pub levels: &'a [f64],
}

/// A model of the load of all services together.
pub trait Forecaster: Send + Sync {
    fn kind(&self) -> ModelKind;

    /// Learns from scratch.
    ///
    /// # Errors
    /// Too little history, or training that diverged; the model is then as before.
    fn fit(&mut self, lesson: &Lesson<'_>) -> Result<()>;

    /// Chooses parameters once more, on all of the lesson, where that is not what [`Forecaster::fit`] did; the quantiles of
    /// the error stay those that were measured on windows that it had not been fitted on.
    fn choose_again(&mut self, _: &Lesson<'_>) {}

    /// Takes a few steps from where it is.
    ///
    /// # Errors
    /// As [`Forecaster::fit`].
    fn update(&mut self, lesson: &Lesson<'_>) -> Result<()>;

    /// Quantiles by step ahead: `[k][q]` is level `q` of the window that starts `k + 1` steps after the origin; finite,
    /// not negative, ordered.
    ///
    /// # Errors
    /// Not fitted, too little history, or a horizon beyond what was fitted.
    fn predict(&self, request: &Request<'_>) -> Result<Rows>;

    /// The model as bytes that [`ModelKind::load`] reads.
    fn save(&self) -> Vec<u8>;
}

/// Whether an event covers the window that starts at `moment`, and the largest uplift that those covering it expect.
pub(crate) fn event_at(
    events: &[CalendarEvent],
    service: &ServiceName,
    moment: Timestamp,
    now: Timestamp,
) -> Option<f64> {
    let covering = events.iter().filter(|event| event.covers(service, moment, now));
    covering.map(|event| event.expected_uplift.unwrap_or(1.0)).fold(None, |best: Option<f64>, uplift| {
        Some(best.map_or(uplift, |b| if (uplift - 1.0).abs() > (b - 1.0).abs() { uplift } else { b }))
    })
}

/// One day and one week.
pub(crate) const DAY: Span = Span::from_minutes(24 * 60);
pub(crate) const WEEK: Span = Span::from_minutes(7 * 24 * 60);

/// Writes `state` under `kind`'s mark and version.
pub(crate) fn seal<T: Serialize>(kind: ModelKind, version: u32, state: &T) -> Vec<u8> {
    let envelope = Envelope { format: format!("prescale-{kind}"), version, state };
    serde_json::to_vec(&envelope).expect("model state is plain numbers and names")
}

/// Reads what [`seal`] wrote.
pub(crate) fn unseal<T: for<'de> Deserialize<'de>>(kind: ModelKind, version: u32, bytes: &[u8]) -> Result<T> {
    let mark: Mark = serde_json::from_slice(bytes).map_err(|error| ForecastCrateError::Format(error.to_string()))?;
    let expected = format!("prescale-{kind}");
    if mark.format != expected {
        return Err(ForecastCrateError::Format(format!("format is `{}`, expected `{expected}`", mark.format)));
    }
    if mark.version != version {
        return Err(ForecastCrateError::Version { found: mark.version, expected: version });
    }
    let envelope: Envelope<T> =
        serde_json::from_slice(bytes).map_err(|error| ForecastCrateError::Format(error.to_string()))?;
    Ok(envelope.state)
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: String,
    version: u32,
    state: T,
}

#[derive(Deserialize)]
struct Mark {
    format: String,
    version: u32,
}
