//! A callee's forecast, lifted to what its caller makes of it. Rule: no quantile ever falls.

use prescale_domain::{Dependency, QuantileForecast, Span, Timestamp};
use statrs::distribution::{ContinuousCDF, Normal};

/// Lifts the forecast of a callee, quantile by quantile, to what the caller's load will make of it: the load that is known and
/// still on its way, and beyond that the caller's own forecast. `known` are the caller's loads, newest first, the first of
/// the window at [`Dependency::at`].
///
/// The forecast and by how much it rose at most; `None` = nothing rose.
pub fn lift(
    forecast: &QuantileForecast,
    dependency: &Dependency,
    known: &[Option<f64>],
    caller: Option<&QuantileForecast>,
) -> Option<(QuantileForecast, f64)> {
    let step = dependency.step.millis();
    if forecast.validate().is_err() || step <= 0 || forecast.step != dependency.step {
        return None;
    }
    let rest = dependency.rest?;
    let normal = Normal::standard();
    let caller = caller.filter(|caller| caller.validate().is_ok());
    let deviations: Vec<f64> =
        forecast.levels.iter().map(|level| normal.inverse_cdf(level.clamp(1e-6, 1.0 - 1e-6))).collect();
    let mut lifted = forecast.clone();
    let mut most = 0.0_f64;
    for (number, values) in lifted.values.iter_mut().enumerate() {
        let window = forecast.origin + times(forecast.step, number as i64 + 1);
        let ahead = window.since(dependency.at).millis() / step;
        if ahead < 1 {
            continue;
        }
        let source = window - times(dependency.step, i64::from(dependency.lag));
        let Some(load) = Load::of(source, dependency, known, caller) else { continue };
        let fade = dependency.persistence.powf(ahead as f64);
        let middle = dependency.caused(window, load.middle()) + rest * fade;
        // What the rest gathers on its way from here.
        let gathered: f64 = dependency.noise.powi(2) * gathered(dependency.persistence, ahead);
        for ((value, level), deviation) in values.iter_mut().zip(&forecast.levels).zip(&deviations) {
            let spread = (load.beyond(*level) * dependency.ratio).hypot(deviation * gathered.sqrt());
            let induced = middle + spread.copysign(level - 0.5);
            if induced.is_finite() && induced > *value {
                most = most.max(induced - *value);
                *value = induced;
            }
        }
    }
    (most > 0.0 && lifted.validate().is_ok()).then_some((lifted, most))
}

/// A caller's load in the window that makes the callee's.
enum Load<'a> {
    Known(f64),
    Forecast(Timestamp, &'a QuantileForecast),
}

impl<'a> Load<'a> {
    fn of(
        source: Timestamp,
        dependency: &Dependency,
        known: &[Option<f64>],
        caller: Option<&'a QuantileForecast>,
    ) -> Option<Self> {
        if source <= dependency.at {
            let back = dependency.at.since(source).millis() / dependency.step.millis();
            return known.get(usize::try_from(back).ok()?).copied().flatten().map(Self::Known);
        }
        let caller = caller?;
        caller.at(source, 0.5).map(|_| Self::Forecast(source, caller))
    }

    fn middle(&self) -> f64 {
        match self {
            Self::Known(load) => *load,
            Self::Forecast(at, caller) => caller.at(*at, 0.5).unwrap_or(0.0),
        }
    }

    /// How far a quantile is from the median.
    fn beyond(&self, level: f64) -> f64 {
        match self {
            Self::Known(_) => 0.0,
            Self::Forecast(at, caller) => caller.at(*at, level).map_or(0.0, |load| load - self.middle()),
        }
    }
}

/// Variance after so many windows of what gains one a window and keeps so much of itself.
fn gathered(persistence: f64, windows: i64) -> f64 {
    let kept = persistence * persistence;
    if kept > 1.0 - 1e-9 { windows as f64 } else { (1.0 - kept.powf(windows as f64)) / (1.0 - kept) }
}

fn times(span: Span, count: i64) -> Span {
    Span::from_millis(span.millis().saturating_mul(count))
}
