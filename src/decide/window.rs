//! The part of a forecast that one decision looks at. Rule: from the first window that the forecast speaks of to the last
//! in which this decision, and not yet the next, determines capacity.

use prescale_domain::{ForecastInput, LeadTime, QuantileForecast, Span, Timestamp};
use thiserror::Error;

/// A forecast that cannot serve a decision.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WindowError {
    #[error("forecast ends at {last}, but capacity asked for now counts until {needed}")]
    Short { last: Timestamp, needed: Timestamp },
    #[error("forecast has a step of {0}, expected a positive one")]
    Step(Span),
}

impl WindowError {
    /// The reason code for a decision that has to do without this forecast.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Short { .. } => "horizon-short",
            Self::Step(_) => "forecast-invalid",
        }
    }
}

/// The quantile 0.95 of the standard normal distribution: lead times longer than that at this level are not looked at.
const Z_LATE: f64 = 1.644_853_627;

/// Cuts the window of a decision at `at` out of `forecast`, at the quantile `level` and the median.
///
/// Capacity asked for at `at` is effective from `at + lead_time.until_effective()`; that of the next decision one decision
/// interval later. A forecast that ends between the two is used as far as it goes; one that ends before the first is an
/// error. Later windows are there as far as a late unit, or a unit that is worth keeping for `churn` longer, would count.
pub fn forecast_input(
    forecast: &QuantileForecast,
    at: Timestamp,
    lead_time: &LeadTime,
    level: f64,
    churn: Span,
) -> Result<ForecastInput, WindowError> {
    let step = forecast.step;
    if step.millis() <= 0 {
        return Err(WindowError::Step(step));
    }
    let from = forecast.origin + step;
    let effective = at + lead_time.until_effective();
    let until = effective + lead_time.decision_interval;
    let effective_index = usize::try_from(effective.since(from).millis() / step.millis()).unwrap_or(usize::MAX);
    let late = at + lead_time.until_effective_at(Z_LATE) + lead_time.decision_interval;
    let latest = until.max(late).max(effective + churn);
    let end_index = latest.since(from).steps_up(step).max(effective_index.saturating_add(1));
    if effective_index >= forecast.values.len() {
        return Err(WindowError::Short { last: forecast.last(), needed: until });
    }
    let count = end_index.min(forecast.values.len());
    Ok(ForecastInput {
        model: forecast.model.clone(),
        reason: forecast.reason.clone(),
        origin: forecast.origin,
        step,
        quantile: level,
        from,
        upper: forecast.at_level(level).take(count).collect(),
        median: forecast.at_level(0.5).take(count).collect(),
        effective_index,
        levels: forecast.levels.clone(),
        values: forecast.values[..count].into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forecast(steps: usize) -> QuantileForecast {
        QuantileForecast {
            service: "checkout".into(),
            origin: Timestamp::from_millis(0),
            step: Span::from_minutes(1),
            model: "holt".to_owned(),
            reason: "champion".to_owned(),
            levels: vec![0.5, 0.9],
            values: (1..=steps).map(|k| vec![k as f64, 10.0 * k as f64]).collect(),
        }
    }

    fn lead(interval_secs: i64, provisioning_secs: i64) -> LeadTime {
        LeadTime {
            data_age: Span::ZERO,
            decision_interval: Span::from_secs(interval_secs),
            provisioning_latency: Span::from_secs(provisioning_secs),
            warm_up: Span::from_secs(60),
            provisioning_median: None,
        }
    }

    #[track_caller]
    fn cut(steps: usize, at_secs: i64, lead_time: LeadTime) -> (usize, Vec<f64>) {
        let at = Timestamp::from_millis(at_secs * 1000);
        let input = forecast_input(&forecast(steps), at, &lead_time, 0.9, Span::ZERO).unwrap();
        (input.effective_index, input.upper)
    }

    #[test]
    fn the_window_runs_from_the_first_forecast_to_the_next_decision_taking_effect() {
        // Decided at the end of the origin's window: effective after 4 minutes, the next decision one later.
        assert_eq!(cut(10, 60, lead(60, 180)), (4, vec![10.0, 20.0, 30.0, 40.0, 50.0]));
        // 15 s later, effective inside the fifth window, the next decision inside the sixth.
        assert_eq!(cut(10, 75, lead(60, 180)), (4, vec![10.0, 20.0, 30.0, 40.0, 50.0, 60.0]));
        // A decision before the first forecast window has effect there.
        assert_eq!(cut(10, 0, lead(60, -60)), (0, vec![10.0]));
    }

    #[test]
    fn a_forecast_that_ends_early_is_used_as_far_as_it_goes() {
        assert_eq!(cut(5, 75, lead(60, 180)), (4, vec![10.0, 20.0, 30.0, 40.0, 50.0]));
        let short = forecast_input(&forecast(4), Timestamp::from_millis(60_000), &lead(60, 180), 0.9, Span::ZERO);
        assert_eq!(short.unwrap_err().code(), "horizon-short");
    }
}
