//! Direct median regression on lags (Koenker & Bassett 1978), one for each lead: how the log of the load moves from the
//! recent level, given the newest windows, means up to half a day, and what earlier days did at the same time. Rules: least
//! absolute deviations by reweighting, with a small ridge; coefficients between two leads are interpolated.

use prescale_domain::Span;
use serde::{Deserialize, Serialize};

use super::lags::{Before, INPUTS, Logs, between, leads, small_load};
use super::pointwise::{PointExpert, Pointwise};
use super::{DAY, ModelKind};
use crate::log::ln_1p;
use crate::past::Past;

/// Origins that coefficients are fitted on, at most, spread evenly.
const ROWS_MAX: usize = 6_000;
/// Fewest origins for a fit.
const ROWS_MIN: usize = 4 * INPUTS;
/// Rounds of reweighting.
const ROUNDS: usize = 8;
/// Ridge, in shares of the inputs' mean square.
const RIDGE: f64 = 1e-3;
/// Half of the weight of the rows is from the last days: a week, or after a change of the load one.
const HALF_LIFE_DAYS: f64 = 7.0;
const HALF_LIFE_DAYS_CHANGED: f64 = 1.0;
/// The shorter one counts if it lowers the error of this much before the end by this share.
const COMPARED: Span = Span::from_minutes(6 * 60);
const COMPARED_ORIGINS: usize = 48;
const CHANGED_BELOW: f64 = 0.95;
/// A forecast moves at most this far from the highest recent value, as a factor.
const HIGHEST: f64 = 10.0;

/// Median regression on lags for each service.
pub type Regression = Pointwise<Coefficients>;

/// Coefficients by lead, the last of each is the constant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coefficients {
    /// The load that counts as little, in its own unit.
    small: f64,
    /// Steps ahead, ascending.
    leads: Vec<usize>,
    by_lead: Vec<Vec<f64>>,
}

impl PointExpert for Coefficients {
    const KIND: ModelKind = ModelKind::Regression;
    const VERSION: u32 = 1;
    const KNOWN_MIN: usize = ROWS_MIN;

    fn choose(training: Past<'_>, horizon_steps: usize) -> Option<Self> {
        let (end, compared) = (training.values.len(), training.steps(COMPARED));
        let half_life = if end > 2 * training.steps(DAY) {
            let error = |half_life| {
                let fitted = Self::fit(training.first(end - compared), horizon_steps, half_life)?;
                Some(fitted.error(training, end - compared, horizon_steps))
            };
            let changed = error(HALF_LIFE_DAYS_CHANGED).zip(error(HALF_LIFE_DAYS));
            let changed = changed.is_some_and(|(short, long)| short < CHANGED_BELOW * long);
            if changed { HALF_LIFE_DAYS_CHANGED } else { HALF_LIFE_DAYS }
        } else {
            HALF_LIFE_DAYS
        };
        Self::fit(training, horizon_steps, half_life)
    }

    fn points(&self, past: Past<'_>, horizon_steps: usize) -> Option<Vec<f64>> {
        let logs = Logs::at_end(past, self.small, horizon_steps);
        let end = past.values.len() as isize;
        let level = logs.level(end)?;
        let highest = past.highest(past.steps(DAY));
        let mut row = Vec::with_capacity(INPUTS + 1);
        logs.near(end, level, &mut row);
        let near = row.len();
        let before = logs.before(end);
        let points = (1..=horizon_steps).map(|k| {
            row.truncate(near);
            far(&logs, end, k, level, &before, &mut row, 0);
            let (below, above, share) = between(&self.leads, k);
            let (below, above) = (&self.by_lead[below], &self.by_lead[above]);
            let pairs = row.iter().zip(below.iter().zip(above));
            let moved: f64 = pairs.map(|(x, (b, a))| x * (b + share * (a - b))).sum();
            logs.load(level + moved).min(HIGHEST * highest)
        });
        let points: Vec<f64> = points.collect();
        points.iter().all(|point| point.is_finite()).then_some(points)
    }
}

impl Coefficients {
    fn fit(training: Past<'_>, horizon_steps: usize, half_life_days: f64) -> Option<Self> {
        let small = small_load(training)?;
        let logs = Logs::all(training, small);
        let (end, day) = (training.values.len(), training.steps(DAY));
        let first = if end > 2 * day { day } else { end / 4 };
        let stride = (end.saturating_sub(first) / ROWS_MAX).max(1);
        let leads = leads(training.step, horizon_steps);
        let mut by_lead = Vec::with_capacity(leads.len());
        let origins: Vec<(isize, f64)> = (first.max(1)..end)
            .step_by(stride)
            .filter_map(|origin| Some((origin as isize, logs.level(origin as isize)?)))
            .collect();
        for lead in &leads {
            let mut rows = Rows::default();
            for (origin, level) in &origins {
                let Some(target) = logs.known(origin + *lead as isize - 1) else { continue };
                let age_days = (end as f64 - *origin as f64) / day as f64;
                inputs(&logs, *origin, *lead, *level, &mut rows.inputs);
                rows.targets.push(target - level);
                rows.weights.push(0.5_f64.powf(age_days / half_life_days));
            }
            if rows.targets.len() < ROWS_MIN {
                return None;
            }
            by_lead.push(rows.least_deviations()?);
        }
        Some(Self { small, leads, by_lead })
    }

    /// Mean error of the logs over some origins from index `from` on.
    fn error(&self, past: Past<'_>, from: usize, horizon_steps: usize) -> f64 {
        let (mut sum, mut count) = (0.0, 0_u32);
        let stride = ((past.values.len() - from) / COMPARED_ORIGINS).max(1);
        for origin in (from..past.values.len()).step_by(stride) {
            let Some(points) = self.points(past.first(origin), horizon_steps) else { continue };
            for lead in &self.leads {
                if let Some(value) = past.at((origin + lead - 1) as isize) {
                    sum += (ln_1p(value / self.small) - ln_1p(points[lead - 1] / self.small)).abs();
                    count += 1;
                }
            }
        }
        if count == 0 { f64::INFINITY } else { sum / f64::from(count) }
    }
}

/// One row of inputs: unknown ones are 0, which is the level; the last is the constant.
fn inputs(logs: &Logs, end: isize, k: usize, level: f64, row: &mut Vec<f64>) {
    let start = row.len();
    logs.near(end, level, row);
    far(logs, end, k, level, &logs.before(end), row, start);
}

/// The inputs of one step ahead behind those of the origin, which begin at `start`.
fn far(logs: &Logs, end: isize, k: usize, level: f64, before: &Before, row: &mut Vec<f64>, start: usize) {
    logs.ahead(end, k, level, before, row);
    for input in &mut row[start..] {
        if input.is_nan() {
            *input = 0.0;
        }
    }
    row.push(1.0);
}

#[derive(Default)]
struct Rows {
    inputs: Vec<f64>,
    targets: Vec<f64>,
    weights: Vec<f64>,
}

impl Rows {
    /// Coefficients of the weighted median, by iteratively reweighted least squares (Schlossmacher 1973).
    fn least_deviations(&self) -> Option<Vec<f64>> {
        const WIDTH: usize = INPUTS + 1;
        let spread = self.targets.iter().map(|target| target.abs()).sum::<f64>() / self.targets.len() as f64;
        let least = (0.02 * spread).max(1e-9);
        let mut coefficients = vec![0.0; WIDTH];
        for round in 0..ROUNDS {
            let (mut square, mut product) = (vec![0.0; WIDTH * WIDTH], vec![0.0; WIDTH]);
            for ((row, target), weight) in self.inputs.chunks_exact(WIDTH).zip(&self.targets).zip(&self.weights) {
                let said: f64 = row.iter().zip(&coefficients).map(|(x, c)| x * c).sum();
                let weight = if round == 0 { *weight } else { weight / (target - said).abs().max(least) };
                for (i, x) in row.iter().enumerate() {
                    let weighted = weight * x;
                    product[i] += weighted * target;
                    for (sum, y) in square[i * WIDTH..=i * WIDTH + i].iter_mut().zip(row) {
                        *sum += weighted * y;
                    }
                }
            }
            let trace: f64 = (0..WIDTH).map(|i| square[i * WIDTH + i]).sum();
            for i in 0..WIDTH {
                square[i * WIDTH + i] += RIDGE * trace / WIDTH as f64 + 1e-12;
            }
            coefficients = solve(&mut square, &product, WIDTH)?;
        }
        coefficients.iter().all(|c| c.is_finite()).then_some(coefficients)
    }
}

/// Solves a symmetric positive definite system by Cholesky; `square` holds the lower triangle.
pub(super) fn solve(square: &mut [f64], product: &[f64], width: usize) -> Option<Vec<f64>> {
    for i in 0..width {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| square[i * width + k] * square[j * width + k]).sum();
            let left = square[i * width + j] - dot;
            square[i * width + j] =
                if i == j { Some(left).filter(|l| *l > 0.0)?.sqrt() } else { left / square[j * width + j] };
        }
    }
    let mut solution = product.to_vec();
    for i in 0..width {
        let dot: f64 = (0..i).map(|k| square[i * width + k] * solution[k]).sum();
        solution[i] = (solution[i] - dot) / square[i * width + i];
    }
    for i in (0..width).rev() {
        let dot: f64 = (i + 1..width).map(|k| square[k * width + i] * solution[k]).sum();
        solution[i] = (solution[i] - dot) / square[i * width + i];
    }
    Some(solution)
}
