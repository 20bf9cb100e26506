//! The same minute yesterday or last week, moved to the present level. Rule: the floor that every other model must beat.

use prescale_domain::Span;
use serde::{Deserialize, Serialize};

use super::pointwise::{PointExpert, Pointwise};
use super::{DAY, ModelKind, WEEK};
use crate::past::Past;

/// Yesterday's value is smoothed over this length around the target minute.
const SMOOTHING: Span = Span::from_minutes(15);
/// The level is the mean over this length before the origin.
const LEVEL: Span = Span::from_minutes(30);
/// How far back a value may be to stand for the present.
const NEWEST: Span = Span::from_minutes(120);

/// Seasonal naive: the best of its four forms on the training part, per service.
pub type SeasonalNaive = Pointwise<Season>;
/// The same window yesterday, as it was.
pub type DayNaive = Pointwise<Yesterday>;
/// Yesterday, smoothed and moved to the present level.
pub type DayLevel = Pointwise<YesterdayLevelled>;

/// The season, and whether it is moved to the present level.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Season {
    weekly: bool,
    levelled: bool,
}

impl PointExpert for Season {
    const KIND: ModelKind = ModelKind::SeasonalNaive;
    const VERSION: u32 = 2;
    const KNOWN_MIN: usize = 1;

    fn choose(training: Past<'_>, horizon_steps: usize) -> Option<Self> {
        let choices = [(false, false), (false, true), (true, false), (true, true)];
        let best = choices
            .into_iter()
            .filter(|(weekly, _)| !weekly || training.values.len() > training.steps(WEEK) + training.steps(DAY))
            .map(|choice| (choice, training_error(training, choice, horizon_steps)))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        let (weekly, levelled) = best.map_or((false, true), |best| best.0);
        Some(Self { weekly, levelled })
    }

    fn points(&self, past: Past<'_>, horizon_steps: usize) -> Option<Vec<f64>> {
        points(past, self.weekly, self.levelled, horizon_steps)
    }
}

/// No parameters.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Yesterday;

impl PointExpert for Yesterday {
    const KIND: ModelKind = ModelKind::DayNaive;
    const VERSION: u32 = 1;
    const KNOWN_MIN: usize = 1;

    fn choose(training: Past<'_>, _: usize) -> Option<Self> {
        (training.values.len() >= training.steps(DAY)).then_some(Self)
    }

    fn points(&self, past: Past<'_>, horizon_steps: usize) -> Option<Vec<f64>> {
        (past.values.len() >= past.steps(DAY)).then(|| points(past, false, false, horizon_steps))?
    }
}

/// No parameters.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct YesterdayLevelled;

impl PointExpert for YesterdayLevelled {
    const KIND: ModelKind = ModelKind::DayLevel;
    const VERSION: u32 = 1;
    const KNOWN_MIN: usize = 1;

    fn choose(training: Past<'_>, _: usize) -> Option<Self> {
        (training.values.len() >= training.steps(DAY)).then_some(Self)
    }

    fn points(&self, past: Past<'_>, horizon_steps: usize) -> Option<Vec<f64>> {
        (past.values.len() >= past.steps(DAY)).then(|| points(past, false, true, horizon_steps))?
    }
}

/// Mean absolute error over some origins of the training part; infinite when there are none.
fn training_error(past: Past<'_>, (weekly, levelled): (bool, bool), horizon_steps: usize) -> f64 {
    let season = past.steps(if weekly { WEEK } else { DAY });
    let stride = (past.values.len() / 400).max(1);
    let (mut sum, mut count) = (0.0, 0_u32);
    for origin in (season + 1..past.values.len()).step_by(stride) {
        let Some(points) = points(past.first(origin), weekly, levelled, horizon_steps) else { continue };
        for k in [horizon_steps / 4, horizon_steps.saturating_sub(1)] {
            if let (Some(value), Some(point)) = (past.at((origin + k) as isize), points.get(k)) {
                sum += (value - point).abs();
                count += 1;
            }
        }
    }
    if count == 0 { f64::INFINITY } else { sum / f64::from(count) }
}

/// One point per step after the end of `past`; the newest value where last season is unknown; `None` without any value.
fn points(past: Past<'_>, weekly: bool, levelled: bool, horizon_steps: usize) -> Option<Vec<f64>> {
    let newest = past.newest(past.steps(NEWEST))?;
    let end = past.values.len() as isize;
    let season = past.steps(if weekly { WEEK } else { DAY }) as isize;
    let level_steps = past.steps(LEVEL) as isize;
    let half = (past.steps(SMOOTHING) / 2) as isize;
    let ratio = if levelled {
        let now = mean(past, end - level_steps, end);
        let then = mean(past, end - season - level_steps, end - season);
        now.zip(then).map_or(1.0, |(now, then)| if then > 0.0 { (now / then).clamp(0.1, 10.0) } else { 1.0 })
    } else {
        1.0
    };
    let flat = mean(past, end - level_steps, end).unwrap_or(newest);
    if !levelled {
        return Some(
            (0..horizon_steps as isize)
                .map(|k| past.at(end + k - season).map_or(flat, |value| value * ratio))
                .collect(),
        );
    }
    let around = means_around(past, end - season, half, horizon_steps).into_iter();
    Some(around.map(|(sum, count)| if count > 0.0 { sum / count * ratio } else { flat }).collect())
}

/// Sum and number of the known values from `half` windows before to `half` after each of `count` windows from index `from`
/// on. Windows at or after the origin are unknown.
fn means_around(past: Past<'_>, from: isize, half: isize, count: usize) -> Vec<(f64, f64)> {
    let width = 2 * half as usize + 1;
    let known =
        (from - half..).take(count + width).map(|index| past.at(index).map_or((0.0, 0.0), |value| (value, 1.0)));
    let known: Vec<(f64, f64)> = known.collect();
    let mut sums = vec![(0.0, 0.0); count];
    // All windows side by side: a sum by itself would wait for each of its values.
    for place in 0..width {
        for (sum, value) in sums.iter_mut().zip(&known[place..]) {
            sum.0 += value.0;
            sum.1 += value.1;
        }
    }
    sums
}

fn mean(past: Past<'_>, from: isize, to: isize) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0_u32);
    for index in from..to {
        if let Some(value) = past.at(index) {
            sum += value;
            count += 1;
        }
    }
    (count > 0).then(|| sum / f64::from(count))
}
