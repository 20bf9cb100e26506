//! ARIMA(p, d, q) on log1p, p and q up to 3, d 0 or 1 (Box & Jenkins 1970). Rule: the order and the coefficients are chosen
//! at a fit (d by the KPSS test, p and q by AICc as in Hyndman & Khandakar 2008, coefficients by Hannan & Rissanen 1982);
//! from then on only residuals are filtered, over the windows up to the origin. Why it is written here:
//! `docs/designs/0026-costly-experts.md`.

use serde::{Deserialize, Serialize};

use super::ModelKind;
use super::linear::LeastSquares;
use super::logs::{filled, loads, logs};
use super::pointwise::{PointExpert, Pointwise};
use crate::past::Past;

/// Most autoregressive and moving-average terms.
const ORDER_MAX: usize = 3;
/// Windows that the residuals are filtered over before the origin.
const MEMORY_STEPS: usize = 480;
/// Most windows of the training part that it is fitted on: the newest.
const FIT_STEPS_MAX: usize = 10_000;
/// Most terms of the long autoregression that stands for the residuals in the first pass.
const LONG_MAX: usize = 24;
/// Critical value of the KPSS test of a level at 5 % (Kwiatkowski et al. 1992, table 1).
const KPSS_CRITICAL: f64 = 0.463;

/// ARIMA for each service.
pub type Arima = Pointwise<Terms>;

/// The coefficients; there are as many as the order says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// Whether the logs are differenced once.
    differenced: bool,
    /// Mean of what is modelled; 0 for differences: a drift of an hour is noise.
    mean: f64,
    autoregressive: Vec<f64>,
    moving_average: Vec<f64>,
}

impl PointExpert for Terms {
    const KIND: ModelKind = ModelKind::Arima;
    const VERSION: u32 = 1;
    const KNOWN_MIN: usize = 60;

    fn choose(training: Past<'_>, _: usize) -> Option<Self> {
        let recent = &training.values[training.values.len().saturating_sub(FIT_STEPS_MAX)..];
        let logs = logs(recent);
        if logs.iter().flatten().count() < Self::KNOWN_MIN {
            return None;
        }
        Some(choose(&filled(&logs)))
    }

    fn points(&self, past: Past<'_>, horizon_steps: usize) -> Option<Vec<f64>> {
        let recent = &past.values[past.values.len().saturating_sub(MEMORY_STEPS)..];
        let mut state = State::default();
        let mut logs = logs(recent).into_iter().skip_while(Option::is_none);
        state.level = logs.next()??;
        if !self.differenced {
            state.push(state.level - self.mean, 0.0);
        }
        for log in logs {
            self.step(&mut state, log);
        }
        let ahead: Vec<f64> = (0..horizon_steps)
            .map(|_| {
                self.step(&mut state, None);
                state.level
            })
            .collect();
        loads(ahead.into_iter(), recent)
    }
}

impl Terms {
    /// Moves on by one window and returns how far off the forecast was; a gap is as forecast.
    fn step(&self, state: &mut State, log: Option<f64>) -> f64 {
        let expected = dot(&self.autoregressive, &state.values) + dot(&self.moving_average, &state.residuals);
        let base = self.mean + if self.differenced { state.level } else { 0.0 };
        let log = log.unwrap_or(base + expected);
        let value = log - base;
        state.level = log;
        state.push(value, value - expected);
        value - expected
    }

    /// Mean squared residual over `centred` from `from` on, which is also where the filter starts.
    fn error(&self, centred: &[f64], from: usize) -> f64 {
        let still = Self { differenced: false, mean: 0.0, ..self.clone() };
        let mut state = State::default();
        for value in &centred[from.saturating_sub(ORDER_MAX)..from] {
            state.push(*value, 0.0);
        }
        let sum: f64 = centred[from..].iter().map(|value| still.step(&mut state, Some(*value)).powi(2)).sum();
        sum / (centred.len() - from) as f64
    }
}

/// The newest values about the mean and residuals, newest first.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The newest log.
    level: f64,
    values: [f64; ORDER_MAX],
    residuals: [f64; ORDER_MAX],
}

impl State {
    fn push(&mut self, value: f64, residual: f64) {
        self.values.rotate_right(1);
        self.residuals.rotate_right(1);
        (self.values[0], self.residuals[0]) = (value, residual);
    }
}

fn dot(coefficients: &[f64], values: &[f64]) -> f64 {
    coefficients.iter().zip(values).map(|(coefficient, value)| coefficient * value).sum()
}

/// The order with the least AICc among those that are stationary and invertible.
fn choose(logs: &[f64]) -> Terms {
    let differenced = kpss(logs) > KPSS_CRITICAL;
    let (mean, centred): (f64, Vec<f64>) = if differenced {
        (0.0, logs.windows(2).map(|pair| pair[1] - pair[0]).collect())
    } else {
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        (mean, logs.iter().map(|log| log - mean).collect())
    };
    let none = Terms { differenced, mean, autoregressive: Vec::new(), moving_average: Vec::new() };
    let long = LONG_MAX.min(centred.len() / 10);
    let Some(residuals) = long_residuals(&centred, long) else { return none };
    // All are compared over the same windows.
    let from = long + ORDER_MAX;
    let count = (centred.len() - from) as f64;
    let criterion = |terms: &Terms, size: usize| {
        let parameters = (size + 1) as f64;
        count * terms.error(&centred, from).max(1e-18).ln() + 2.0 * parameters * count / (count - parameters - 1.0)
    };
    let mut best = (criterion(&none, 0), none.clone());
    for p in 0..=ORDER_MAX {
        for q in 0..=ORDER_MAX {
            let Some((autoregressive, moving_average)) = coefficients(&centred, &residuals, from, (p, q)) else {
                continue;
            };
            let inverted: Vec<f64> = moving_average.iter().map(|theta| -theta).collect();
            if !is_stationary(&autoregressive) || !is_stationary(&inverted) {
                continue;
            }
            let terms = Terms { autoregressive, moving_average, ..none.clone() };
            let own = criterion(&terms, p + q);
            if own < best.0 {
                best = (own, terms);
            }
        }
    }
    best.1
}

/// What a long autoregression leaves: the first pass of Hannan & Rissanen. Zero where it has no past yet.
fn long_residuals(centred: &[f64], long: usize) -> Option<Vec<f64>> {
    let mut sums = LeastSquares::new(long);
    let mut row = vec![0.0; long];
    for end in long..centred.len() {
        lags(&centred[..end], &mut row);
        sums.add(&row, centred[end]);
    }
    let coefficients = sums.solve()?;
    let mut residuals = vec![0.0; centred.len()];
    for end in long..centred.len() {
        lags(&centred[..end], &mut row);
        residuals[end] = centred[end] - dot(&coefficients, &row);
    }
    Some(residuals)
}

/// The newest of `values`, newest first.
fn lags(values: &[f64], row: &mut [f64]) {
    for (input, value) in row.iter_mut().zip(values.iter().rev()) {
        *input = *value;
    }
}

/// The second pass: each value on `p` values and `q` residuals before it.
fn coefficients(
    centred: &[f64],
    residuals: &[f64],
    from: usize,
    (p, q): (usize, usize),
) -> Option<(Vec<f64>, Vec<f64>)> {
    let mut sums = LeastSquares::new(p + q);
    let mut row = vec![0.0; p + q];
    for end in from..centred.len() {
        lags(&centred[..end], &mut row[..p]);
        lags(&residuals[..end], &mut row[p..]);
        sums.add(&row, centred[end]);
    }
    let mut autoregressive = sums.solve()?;
    let moving_average = autoregressive.split_off(p);
    Some((autoregressive, moving_average))
}

/// Whether all roots of `1 − Σ φ zⁱ` lie outside the unit circle, by the Durbin–Levinson recursion backwards: each partial
/// autocorrelation is below 1. A little below, since a root at the circle never forgets what the filter started from.
fn is_stationary(coefficients: &[f64]) -> bool {
    let mut left = coefficients.to_vec();
    while let Some(last) = left.pop() {
        if last.is_nan() || last.abs() >= 0.9999 {
            return false;
        }
        let scale = 1.0 - last * last;
        let next = (0..left.len()).map(|i| (left[i] + last * left[left.len() - 1 - i]) / scale).collect();
        left = next;
    }
    true
}

/// The statistic of Kwiatkowski, Phillips, Schmidt & Shin (1992) for a level that stays, with Bartlett weights over
/// 4 (n / 100)^¼ lags; 0 for a constant.
fn kpss(logs: &[f64]) -> f64 {
    let count = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / count;
    let about: Vec<f64> = logs.iter().map(|log| log - mean).collect();
    let lags = (4.0 * (count / 100.0).powf(0.25)) as usize;
    let covariance = |lag: usize| about.iter().zip(&about[lag..]).map(|(a, b)| a * b).sum::<f64>() / count;
    let weighted = (1..=lags).map(|lag| 2.0 * (1.0 - lag as f64 / (lags + 1) as f64) * covariance(lag)).sum::<f64>();
    let variance = covariance(0) + weighted;
    let (mut sum, mut squares) = (0.0, 0.0);
    for value in &about {
        sum += value;
        squares += sum * sum;
    }
    if variance > 1e-18 { squares / (count * count * variance) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    use super::*;

    /// A process about `mean`, with its noise of standard deviation 0.1.
    fn process(mean: f64, autoregressive: &[f64], moving_average: &[f64], count: usize) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut state = State::default();
        let values = (0..count + 200).map(|_| {
            let noise = 0.1 * rng.sample::<f64, _>(StandardNormal);
            let value = dot(autoregressive, &state.values) + dot(moving_average, &state.residuals) + noise;
            state.push(value, noise);
            mean + value
        });
        values.skip(200).collect()
    }

    /// Mean squared error one step ahead over the logs after those that `terms` were chosen on.
    fn error_after(terms: &Terms, logs: &[f64], from: usize) -> f64 {
        let centred: Vec<f64> = if terms.differenced {
            logs.windows(2).map(|pair| pair[1] - pair[0]).collect()
        } else {
            logs.iter().map(|log| log - terms.mean).collect()
        };
        terms.error(&centred, from)
    }

    #[test]
    fn an_ar2_process_is_forecast_one_step_ahead_up_to_its_noise() {
        let logs = process(5.0, &[1.2, -0.5], &[], 4_000);
        let terms = choose(&logs[..3_000]);
        assert!(!terms.differenced, "{terms:?}");
        let error = error_after(&terms, &logs, 3_000);
        assert!((0.9..1.1).contains(&(error / 0.01)), "{error}: {terms:?}");
    }

    #[test]
    fn a_walk_with_a_moving_average_is_differenced_and_its_coefficient_found() {
        let steps = process(0.0, &[], &[-0.6], 5_000);
        let logs: Vec<f64> = steps
            .iter()
            .scan(5.0, |level, step| {
                *level += step;
                Some(*level)
            })
            .collect();
        let terms = choose(&logs[..4_000]);
        assert!(terms.differenced, "{terms:?}");
        let error = error_after(&terms, &logs, 4_000);
        assert!((0.9..1.1).contains(&(error / 0.01)), "{error}: {terms:?}");
    }

    #[test]
    fn noise_about_a_level_needs_no_terms() {
        let terms = choose(&process(4.0, &[], &[], 3_000));
        assert!(!terms.differenced && (terms.mean - 4.0).abs() < 0.01, "{terms:?}");
        let weight: f64 = terms.autoregressive.iter().chain(&terms.moving_average).map(|c| c.abs()).sum();
        assert!(terms.autoregressive.len() + terms.moving_average.len() <= 2 && weight < 0.2, "{terms:?}");
    }

    #[test]
    fn roots_inside_the_circle_are_known_as_such() {
        assert!(is_stationary(&[]) && is_stationary(&[0.9]) && is_stationary(&[1.2, -0.5]));
        assert!(!is_stationary(&[1.01]) && !is_stationary(&[0.6, 0.5]) && !is_stationary(&[f64::NAN]));
    }

    #[test]
    fn a_gap_is_as_forecast() {
        let terms = Terms { differenced: false, mean: 2.0, autoregressive: vec![0.5], moving_average: vec![] };
        let mut state = State::default();
        state.push(1.0, 0.0);
        assert_eq!(terms.step(&mut state, None), 0.0);
        assert_eq!((state.level, state.values[0]), (2.5, 0.5));
    }
}
