//! Exponential smoothing in state space form on log1p (Hyndman, Koehler, Ord & Snyder 2008): level alone, with a trend, or
//! with a damped one. Rule: which, and its parameters, follow from likelihood and AICc on the training part (`augurs-ets`);
//! level and trend are filtered over the windows up to the origin, here, since a fitted model of that crate takes in no new
//! value.

use std::panic::{AssertUnwindSafe, catch_unwind};

use augurs_core::{Fit as _, Predict as _};
use augurs_ets::{AutoETS, AutoSpec, model::TrendComponent};
use serde::{Deserialize, Serialize};

use super::ModelKind;
use super::linear::LeastSquares;
use super::logs::{filled, loads, logs};
use super::pointwise::{PointExpert, Pointwise};
use crate::past::Past;

/// Windows that the filter runs over before the origin.
const MEMORY_STEPS: usize = 480;
/// Most windows of the training part that it is chosen on, the newest: the search looks at each some thousand times.
const FIT_STEPS_MAX: usize = 2_000;
/// Logs that move less than this are a constant, of which the likelihood says nothing.
const STILL: f64 = 1e-6;
/// Bounds of the damping in the crate's search.
const PHI: (f64, f64) = (0.8, 0.98);

/// Exponential smoothing for each service.
pub type Ets = Pointwise<Smoother>;

/// With `e` the error one step ahead: level + φ trend + α e, φ trend + β e. Without trend β and φ are 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Smoother {
    alpha: f64,
    beta: f64,
    phi: f64,
}

impl PointExpert for Smoother {
    const KIND: ModelKind = ModelKind::Ets;
    const VERSION: u32 = 1;
    const KNOWN_MIN: usize = 30;

    fn choose(training: Past<'_>, _: usize) -> Option<Self> {
        let recent = &training.values[training.values.len().saturating_sub(FIT_STEPS_MAX)..];
        let logs = logs(recent);
        if logs.iter().flatten().count() < Self::KNOWN_MIN {
            return None;
        }
        choose(&filled(&logs))
    }

    fn points(&self, past: Past<'_>, horizon_steps: usize) -> Option<Vec<f64>> {
        let recent = &past.values[past.values.len().saturating_sub(MEMORY_STEPS)..];
        let state = self.filter(&logs(recent))?;
        let (mut damping, mut reach) = (1.0, 0.0);
        let ahead = (0..horizon_steps).map(|_| {
            damping *= self.phi;
            reach += damping;
            state.level + reach * state.trend
        });
        loads(ahead, recent)
    }
}

#[derive(Clone, Copy, Debug)]
struct State {
    level: f64,
    trend: f64,
}

impl Smoother {
    /// Moves on by one window and returns the error; a gap is as forecast.
    fn step(&self, state: &mut State, log: Option<f64>) -> f64 {
        let ahead = state.level + self.phi * state.trend;
        let error = log.map_or(0.0, |log| log - ahead);
        *state = State { level: ahead + self.alpha * error, trend: self.phi * state.trend + self.beta * error };
        error
    }

    /// Level and trend after `logs`, from the start with the least squared error. Errors are linear in the start, so that
    /// three filters side by side (from nothing, and what a level and a trend of 1 would change) give it exactly.
    fn filter(&self, logs: &[Option<f64>]) -> Option<State> {
        logs.iter().flatten().next()?;
        let mut plain = State { level: 0.0, trend: 0.0 };
        let (mut level, mut trend) = (State { level: 1.0, ..plain }, State { trend: 1.0, ..plain });
        let mut sums = LeastSquares::new(2);
        for log in logs {
            let error = self.step(&mut plain, *log);
            let zero = log.map(|_| 0.0);
            let of_trend = self.step(&mut trend, zero);
            sums.add(&[self.step(&mut level, zero), if self.phi > 0.0 { of_trend } else { 0.0 }], -error);
        }
        let start = sums.solve()?;
        let at = |of: fn(&State) -> f64| of(&plain) + start[0] * of(&level) + start[1] * of(&trend);
        Some(State { level: at(|state| state.level), trend: at(|state| state.trend) })
    }
}

/// What `augurs-ets` finds best for `logs`; `None` where it finds nothing.
fn choose(logs: &[f64]) -> Option<Smoother> {
    let (low, high) = logs.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), log| (l.min(*log), h.max(*log)));
    if high - low < STILL {
        return Some(Smoother { alpha: 0.5, beta: 0.0, phi: 0.0 });
    }
    let spec: AutoSpec = "AZN".parse().ok()?;
    // It indexes without checks and counts on sizes; a history that makes it stop must not stop us.
    let fit = catch_unwind(AssertUnwindSafe(|| {
        let fitted = AutoETS::from_spec(1, spec).fit(logs).ok()?;
        let forecasts = fitted.predict_in_sample(None).ok()?.point;
        Some((fitted.model().model_type().trend, fitted.model().damped(), forecasts))
    }));
    let (trend, damped, forecasts) = fit.ok()??;
    parameters(logs, &forecasts, trend != TrendComponent::None, damped)
}

/// The parameters, which the crate keeps to itself, from its forecasts `f` one step ahead and their errors `e`. Without
/// trend Δf′ = α e. With one, Δf′ = φ Δf + (α + φβ) e′ − φα e, where ′ is one window later: both hold exactly.
fn parameters(logs: &[f64], forecasts: &[f64], trend: bool, damped: bool) -> Option<Smoother> {
    let errors: Vec<f64> = logs.iter().zip(forecasts).map(|(log, forecast)| log - forecast).collect();
    let moves: Vec<f64> = forecasts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let found = if trend {
        let rows = || (1..moves.len()).map(|t| (moves[t], moves[t - 1], errors[t], errors[t - 1]));
        let phi = if damped {
            let mut sums = LeastSquares::new(3);
            rows().for_each(|(next, last, error, before)| sums.add(&[last, error, before], next));
            sums.solve()?[0].clamp(PHI.0, PHI.1)
        } else {
            1.0
        };
        let mut sums = LeastSquares::new(2);
        rows().for_each(|(next, last, error, before)| sums.add(&[error, before], next - phi * last));
        let solved = sums.solve()?;
        let alpha = -solved[1] / phi;
        Smoother { alpha, beta: (solved[0] - alpha) / phi, phi }
    } else {
        let mut sums = LeastSquares::new(1);
        moves.iter().zip(&errors).for_each(|(next, error)| sums.add(&[*error], *next));
        Smoother { alpha: sums.solve()?[0], beta: 0.0, phi: 0.0 }
    };
    Some(Smoother { alpha: found.alpha.clamp(0.0, 1.0), beta: found.beta.clamp(0.0, 1.0), ..found })
}

#[cfg(test)]
mod tests {
    use prescale_domain::{Span, Timestamp};
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    use super::*;

    /// Logs that follow `by` from `state`, with noise of standard deviation 0.1.
    fn simulated(by: Smoother, mut state: State, count: usize) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut next = || {
            let log = state.level + by.phi * state.trend + 0.1 * rng.sample::<f64, _>(StandardNormal);
            by.step(&mut state, Some(log));
            log
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn parameters_of_each_form_are_found_again() {
        let still = State { level: 5.0, trend: 0.0 };
        let level = choose(&simulated(Smoother { alpha: 0.3, beta: 0.0, phi: 0.0 }, still, 2_000)).unwrap();
        assert!((level.alpha - 0.3).abs() < 0.05, "{level:?}");
        let truth = Smoother { alpha: 0.4, beta: 0.1, phi: 0.9 };
        let damped = choose(&simulated(truth, still, 2_000)).unwrap();
        assert!((damped.alpha - 0.4).abs() < 0.1 && (damped.beta - 0.1).abs() < 0.05, "{damped:?}");
        assert!((damped.phi - 0.9).abs() < 0.05, "{damped:?}");
    }

    #[test]
    fn the_filter_forecasts_what_the_crate_forecasts() {
        let truth = Smoother { alpha: 0.4, beta: 0.1, phi: 0.9 };
        let logs = simulated(truth, State { level: 5.0, trend: 0.01 }, 400);
        let fitted = AutoETS::new(1, "AZN").unwrap().fit(&logs).unwrap();
        let own = choose(&logs).unwrap();
        let state = own.filter(&logs.iter().copied().map(Some).collect::<Vec<_>>()).unwrap();
        let (ours, theirs) = (state.level + own.phi * state.trend, fitted.predict(1, None).unwrap().point[0]);
        assert!((ours - theirs).abs() < 1e-3, "{ours} against {theirs}: {own:?}");
    }

    #[test]
    fn a_trend_goes_on() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let values: Vec<Option<f64>> = (0..1_200)
            .map(|i| Some((5.0 + 0.002 * f64::from(i) + 0.02 * rng.sample::<f64, _>(StandardNormal)).exp_m1()))
            .collect();
        let past =
            Past { start: Timestamp::from_millis(0), step: Span::from_minutes(1), values: &values, covariates: &[] };
        let points = Smoother::choose(past.first(1_000), 60).unwrap().points(past.first(1_140), 60).unwrap();
        let (found, truth) = ((points[59] / points[0]).ln(), 0.002 * 59.0);
        assert!((found - truth).abs() < 0.3 * truth, "{found} against {truth}");
    }
}
