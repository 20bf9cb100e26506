//! The same minute yesterday or last week, moved to the present level. Rule: the floor that every other model must beat.

use std::collections::BTreeMap;

use prescale_domain::{ServiceName, Span};
use serde::{Deserialize, Serialize};

use super::residual::ResidualQuantiles;
use super::{DAY, Forecaster, Lesson, ModelKind, WEEK, seal, unseal};
use crate::error::{ForecastCrateError, Result};
use crate::past::{Past, Request};

const VERSION: u32 = 1;
/// Yesterday's value is smoothed over this length around the target minute.
const SMOOTHING: Span = Span::from_minutes(15);
/// The level is the mean over this length before the origin.
const LEVEL: Span = Span::from_minutes(30);
/// How far back a value may be to stand for the present.
const NEWEST: Span = Span::from_minutes(120);

/// Seasonal naive: the season with the lower error on the training part, per service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SeasonalNaive {
    services: BTreeMap<ServiceName, Fitted>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fitted {
    weekly: bool,
    levelled: bool,
    residuals: ResidualQuantiles,
}

impl SeasonalNaive {
    /// Reads what `save` wrote.
    ///
    /// # Errors
    /// Bytes of another format or version.
    pub fn load(bytes: &[u8]) -> Result<Self> {
        unseal(ModelKind::SeasonalNaive, VERSION, bytes)
    }
}

impl Forecaster for SeasonalNaive {
    fn kind(&self) -> ModelKind {
        ModelKind::SeasonalNaive
    }

    fn fit(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        let mut services = BTreeMap::new();
        for (service, series) in lesson.histories {
            let past = Past::before(series, lesson.end);
            if past.known() == 0 {
                continue;
            }
            let from = lesson.train_until.since(past.start).steps_up(past.step).min(past.values.len());
            let choices = [(false, false), (false, true), (true, false), (true, true)];
            let (weekly, levelled) = choices
                .into_iter()
                .filter(|(weekly, _)| !weekly || from > past.steps(WEEK) + past.steps(DAY))
                .map(|choice| (choice, training_error(past.first(from), choice, lesson.horizon_steps)))
                .min_by(|a, b| a.1.total_cmp(&b.1))
                .map_or((false, true), |best| best.0);
            let residuals = ResidualQuantiles::measure(past, from, lesson.horizon_steps, lesson.levels, |past| {
                points(past, weekly, levelled, lesson.horizon_steps)
            });
            services.insert(service.clone(), Fitted { weekly, levelled, residuals });
        }
        if services.is_empty() {
            return Err(ForecastCrateError::TooShort { model: self.kind().to_string(), found: 0, needed: 1 });
        }
        self.services = services;
        Ok(())
    }

    fn update(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        self.fit(lesson)
    }

    fn predict(&self, request: &Request<'_>) -> Result<Vec<Vec<f64>>> {
        let fitted = self.services.get(request.service).ok_or_else(|| ForecastCrateError::UnknownService {
            model: self.kind().to_string(),
            service: request.service.to_string(),
        })?;
        let points = points(request.past, fitted.weekly, fitted.levelled, request.horizon_steps)
            .ok_or_else(|| ForecastCrateError::TooShort { model: self.kind().to_string(), found: 0, needed: 1 })?;
        Ok(fitted.residuals.around(&points, request.levels))
    }

    fn save(&self) -> Vec<u8> {
        seal(ModelKind::SeasonalNaive, VERSION, self)
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
    let points = (0..horizon_steps as isize).map(|k| {
        let target = end + k - season;
        // Windows at or after the origin are unknown, so the smoothing window ends there.
        let around = if levelled { mean(past, target - half, (target + half + 1).min(end)) } else { past.at(target) };
        around.map_or(flat, |value| value * ratio)
    });
    Some(points.collect())
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
