//! What the network sees of a history. Rule: everything is relative to the recent level of the service, and nothing is
//! read after the origin.

use prescale_domain::{CALENDAR_WIDTH, CalendarEvent, ServiceName, Span, calendar_features};
use serde::{Deserialize, Serialize};

use crate::models::{DAY, event_at};
use crate::past::Past;

/// Windows that each step of the encoder averages over, oldest first: three hours of minutes in 36 steps.
const BUCKETS: [usize; 36] = [
    15, 15, 15, 15, 15, 15, 15, 15, 5, 5, 5, 5, 5, 5, 5, 5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
];
/// Windows before the origin that the encoder sees.
pub(super) const REACH: usize = 180;
pub(super) const ENCODER_STEPS: usize = BUCKETS.len();
/// Relative load, known or not, events, width of the bucket.
pub(super) const ENCODER_INPUTS: usize = 4;
/// Calendar, place in the horizon, yesterday, last week and the mean day (value and known or not), events.
pub(super) const DECODER_INPUTS: usize = CALENDAR_WIDTH + 1 + 2 + 2 + 2 + 2;
/// The first calendar features are of the day, the others of the week.
const CALENDAR_DAILY: usize = 4;
/// Windows that the level is averaged over, with weights that fade.
const LEVEL_STEPS: usize = 240;
/// Days of the mean day.
const DAYS: usize = 7;
/// Values of former days are averaged over this length around the target, and twice that around the origin.
const SMOOTHING: Span = Span::from_minutes(15);
/// Relative loads are bounded by this, in units of e.
const LOG_MAX: f64 = 4.0;
/// Smoothings that the level of a service is chosen from.
const ALPHAS: [f64; 9] = [0.04, 0.06, 0.09, 0.13, 0.2, 0.3, 0.5, 0.8, 1.0];

/// What is kept of a service to make its load comparable with that of others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Scale {
    /// Weight of the newest value in the level.
    pub alpha: f64,
    /// Added to loads before logarithms, in the unit of the load.
    pub offset: f64,
    /// Unit of the loss, in the unit of the load.
    pub unit: f64,
    /// Whether enough former days and weeks were seen in training for their values, and for the time of day and of
    /// week, to mean something.
    pub days: bool,
    pub weeks: bool,
}

impl Scale {
    /// Measures a training history; `None` where there is no load at all.
    pub(super) fn measure(past: Past<'_>, horizon_steps: usize) -> Option<Self> {
        let known = past.known();
        let mean = past.values.iter().flatten().sum::<f64>() / known.max(1) as f64;
        if known < 2 || mean <= 0.0 {
            return None;
        }
        let mut scale = Self { alpha: 0.0, offset: 0.1 * mean, unit: 1.0, days: false, weeks: false };
        let errors = ALPHAS.map(|alpha| level_error(past, &Self { alpha, ..scale.clone() }, horizon_steps));
        let best = errors.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |best| best.0);
        scale.alpha = ALPHAS[best];
        scale.unit = if errors[best].is_finite() { errors[best].max(1e-3 * mean) } else { mean };
        let days = past.values.len() as f64 / past.steps(DAY) as f64;
        scale.days = days >= 2.0;
        scale.weeks = days >= 9.0;
        Some(scale)
    }

    /// The level after the last window: a mean with fading weights over the known values; `None` without any.
    pub(super) fn level(&self, past: Past<'_>) -> Option<f64> {
        let (mut sum, mut weights, mut weight) = (0.0, 0.0, 1.0);
        for value in past.values.iter().rev().take(LEVEL_STEPS) {
            if let Some(value) = value {
                sum += weight * value;
                weights += weight;
            }
            weight *= 1.0 - self.alpha;
            if weight < 1e-4 && weights > 0.0 {
                break;
            }
        }
        // With alpha 1 the newest known value is the level.
        if weights > 1e-12 { Some(sum / weights) } else { past.newest(LEVEL_STEPS) }
    }
}

fn level_error(past: Past<'_>, scale: &Scale, horizon_steps: usize) -> f64 {
    let count = past.values.len();
    let stride = (count / 800).max(1);
    let (mut sum, mut terms) = (0.0, 0_u32);
    for origin in (1..count).step_by(stride) {
        let Some(level) = scale.level(past.first(origin)) else { continue };
        for lead in [horizon_steps.div_ceil(6), horizon_steps.div_ceil(2)] {
            if let Some(value) = past.at((origin + lead - 1) as isize) {
                sum += (value - level).abs();
                terms += 1;
            }
        }
    }
    if terms == 0 { f64::INFINITY } else { sum / f64::from(terms) }
}

/// One sample's inputs: rows by step.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    pub encoder: [[f32; ENCODER_INPUTS]; ENCODER_STEPS],
    pub decoder: Vec<[f32; DECODER_INPUTS]>,
    pub level: f64,
}

/// Builds the inputs at the end of `past`; `events` are those that the network may use. `None` without a recent value.
pub(super) fn inputs(
    past: Past<'_>,
    scale: &Scale,
    service: &ServiceName,
    events: &[CalendarEvent],
    horizon_steps: usize,
) -> Option<Inputs> {
    past.newest(REACH)?;
    let level = scale.level(past)?;
    let now = past.end();
    let count = past.values.len() as isize;
    let base = (level + scale.offset).ln();
    let log = |value: f64| (value + scale.offset).ln();
    let bounded = |value: f64| value.clamp(-LOG_MAX, LOG_MAX) as f32;
    let lift = |index: isize| {
        if events.is_empty() {
            return None;
        }
        let moment = past.start + Span::from_millis(past.step.millis() * index as i64);
        event_at(events, service, moment, now)
    };
    let mut encoder = [[0.0_f32; ENCODER_INPUTS]; ENCODER_STEPS];
    let mut from = count - REACH as isize;
    for (row, width) in encoder.iter_mut().zip(BUCKETS) {
        let to = from + width as isize;
        if let Some(value) = mean(past, from, to) {
            row[0] = bounded(log(value) - base);
            row[1] = 1.0;
        }
        row[2] = lift(to - 1).map_or(0.0, |uplift| 1.0 + bounded(safe_log(uplift)));
        row[3] = match width {
            1 => 0.0,
            5 => 0.5,
            _ => 1.0,
        };
        from = to;
    }
    let half = (past.steps(SMOOTHING) / 2) as isize;
    let (day, week) = (past.steps(DAY) as isize, 7 * past.steps(DAY) as isize);
    let around = |center: isize, half: isize| mean(past, center - half, (center + half + 1).min(count));
    let anchors: Vec<Option<f64>> = (1..=DAYS as isize)
        .map(|back| if scale.days { around(count - 1 - back * day, 2 * half).map(log) } else { None })
        .collect();
    let decoder = (0..horizon_steps as isize).map(|k| {
        let target = count + k;
        let moment = past.start + Span::from_millis(past.step.millis() * target as i64);
        let mut row = [0.0_f32; DECODER_INPUTS];
        let calendar = calendar_features(moment, Span::ZERO);
        for (index, (place, value)) in row.iter_mut().zip(calendar).enumerate() {
            let seen = if index < CALENDAR_DAILY { scale.days } else { scale.weeks };
            if seen {
                *place = value as f32;
            }
        }
        let row_rest = &mut row[CALENDAR_WIDTH..];
        row_rest[0] = (k + 1) as f32 / horizon_steps as f32;
        let shape = |back: isize| {
            let anchor = anchors.get(usize::try_from(back).ok()?.checked_sub(1)?).copied().flatten()?;
            Some(log(around(target - back * day, half)?) - anchor)
        };
        if let Some(value) = shape(1) {
            row_rest[1] = bounded(value);
            row_rest[2] = 1.0;
        }
        if scale.weeks
            && target - week + half >= 0
            && let Some(value) = shape(7)
        {
            row_rest[3] = bounded(value);
            row_rest[4] = 1.0;
        }
        let (mut sum, mut terms) = (0.0, 0);
        for back in 1..=DAYS as isize {
            if let Some(value) = shape(back) {
                sum += value;
                terms += 1;
            }
        }
        if terms > 0 {
            row_rest[5] = bounded(sum / f64::from(terms));
            row_rest[6] = (f64::from(terms) / DAYS as f64) as f32;
        }
        if let Some(uplift) = lift(target) {
            row_rest[7] = 1.0;
            row_rest[8] = bounded(safe_log(uplift));
        }
        row
    });
    Some(Inputs { encoder, decoder: decoder.collect(), level })
}

fn safe_log(uplift: f64) -> f64 {
    if uplift.is_finite() && uplift > 0.0 { uplift.ln() } else { 0.0 }
}

fn mean(past: Past<'_>, from: isize, to: isize) -> Option<f64> {
    let start = usize::try_from(from.max(0)).unwrap_or(0);
    let end = usize::try_from(to.max(0)).unwrap_or(0).min(past.values.len());
    let (mut sum, mut count) = (0.0, 0_u32);
    for value in past.values.get(start..end)?.iter().flatten() {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / f64::from(count))
}
