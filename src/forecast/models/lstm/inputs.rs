//! What the network sees of a history. Rule: everything is relative to the recent level of the service, nothing is read
//! after the origin, and what is not a load (NaN, negative, beyond all bounds) is a gap.

use prescale_domain::{CalendarEvent, ServiceName, Span};
use serde::{Deserialize, Serialize};

use super::calendar::{MOMENT_WIDTH, moments, seen};
use super::covariates::{self, Gauge};
use crate::log::take_lns;
use crate::models::{DAY, event_at};
use crate::past::Past;

/// Windows that each step of the encoder averages over, oldest first: three hours of minutes in 36 steps.
pub(super) const BUCKETS: [usize; 36] = [
    15, 15, 15, 15, 15, 15, 15, 15, 5, 5, 5, 5, 5, 5, 5, 5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
];
/// Windows before the origin that the encoder sees.
pub(super) const REACH: usize = 180;
pub(super) const ENCODER_STEPS: usize = BUCKETS.len();
/// Relative load, known or not, events, width of the bucket, distance from the same bucket yesterday, known or not.
pub(super) const ENCODER_INPUTS: usize = 6;
/// Calendar and place in the horizon, then by name below.
pub(super) const DECODER_INPUTS: usize =
    MOMENT_WIDTH + 1 + YESTERDAY + DAYS_BEFORE + LAST_WEEK + HOURS + RECENT + EVENTS;
/// Yesterday's value at the target, the same smoothed, known or not, and yesterday's level at the origin.
const YESTERDAY: usize = 4;
/// Means over the last days: value at the target, its distance from the day's level at the origin, share known.
const DAYS_BEFORE: usize = 3;
/// Last week's value at the target, its distance from the level then, known or not.
const LAST_WEEK: usize = 3;
/// The value a whole number of hours before the target, the mean over three such hours, known or not.
const HOURS: usize = 3;
/// Means over the newest windows.
const RECENT: usize = RECENT_STEPS.len();
const RECENT_STEPS: [usize; 3] = [1, 5, 30];
/// Whether an event covers the target, and the logarithm of the uplift that is expected of it.
const EVENTS: usize = 2;
/// Windows that the level is averaged over, with weights that fade.
const LEVEL_STEPS: usize = 240;
/// Days of the mean day.
const DAYS: usize = 7;
/// Hours of the mean hour.
const HOURS_BACK: usize = 3;
/// Values of former days are averaged over this length around the target, and twice that around the origin.
const SMOOTHING: Span = Span::from_minutes(15);
const HOUR: Span = Span::from_minutes(60);
/// Relative loads are bounded by this, in units of e.
const LOG_MAX: f64 = 4.0;
/// A value above this is no load; sums and multiples of such loads are finite even in single precision.
const LOAD_MAX: f64 = 1e30;
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
    /// week and of month, to mean something.
    pub days: bool,
    pub weeks: bool,
    pub months: bool,
}

impl Scale {
    /// Measures a training history; `None` where there is no load at all.
    pub(super) fn measure(past: Past<'_>, horizon_steps: usize) -> Option<Self> {
        let known = past.values.iter().filter_map(|value| load(*value)).count();
        let mean = past.values.iter().filter_map(|value| load(*value)).sum::<f64>() / known.max(1) as f64;
        if known < 2 || mean <= 0.0 || !mean.is_finite() {
            return None;
        }
        let mut scale = Self { alpha: 0.0, offset: 0.1 * mean, unit: 1.0, days: false, weeks: false, months: false };
        let errors = ALPHAS.map(|alpha| level_error(past, &Self { alpha, ..scale.clone() }, horizon_steps));
        let best = errors.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |best| best.0);
        scale.alpha = ALPHAS[best];
        scale.unit = if errors[best].is_finite() { errors[best].max(1e-3 * mean) } else { mean };
        let days = past.values.len() as f64 / past.steps(DAY) as f64;
        scale.days = days >= 2.0;
        scale.weeks = days >= 9.0;
        scale.months = days >= 62.0;
        Some(scale)
    }

    /// The level after the last window: a mean with fading weights over the known values; `None` without any.
    pub(super) fn level(&self, past: Past<'_>) -> Option<f64> {
        let (mut sum, mut weights, mut weight) = (0.0, 0.0, 1.0);
        for value in past.values.iter().rev().take(LEVEL_STEPS) {
            if let Some(value) = load(*value) {
                sum += weight * value;
                weights += weight;
            }
            weight *= 1.0 - self.alpha;
            if weight < 1e-4 && weights > 0.0 {
                break;
            }
        }
        // With alpha 1 the newest known value is the level.
        if weights > 1e-12 { Some(sum / weights) } else { newest(past, LEVEL_STEPS) }
    }
}

fn level_error(past: Past<'_>, scale: &Scale, horizon_steps: usize) -> f64 {
    let count = past.values.len();
    let stride = (count / 800).max(1);
    let (mut sum, mut terms) = (0.0, 0_u32);
    for origin in (1..count).step_by(stride) {
        let Some(level) = scale.level(past.first(origin)) else { continue };
        for lead in [horizon_steps.div_ceil(6), horizon_steps.div_ceil(2)] {
            if let Some(value) = at(past, (origin + lead - 1) as isize) {
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
    /// What the encoder sees beside, as [`covariates::inputs`] has it.
    pub covariates: Vec<f32>,
    pub level: f64,
}

/// What the inputs are built with.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub scale: &'a Scale,
    /// Of its covariates, by channel.
    pub gauges: &'a [Option<Gauge>],
    pub service: &'a ServiceName,
    /// Those that the network may use.
    pub events: &'a [CalendarEvent],
    /// From the first target on, one row a step of the horizon.
    pub moments: &'a [[f32; MOMENT_WIDTH]],
    /// Added to the logarithms of former days, as if the level had been another then; zero but in training.
    pub shift: f64,
}

/// The calendar of the targets of a forecast at the end of `past`.
pub(super) fn target_moments(past: Past<'_>, horizon_steps: usize) -> Vec<[f32; MOMENT_WIDTH]> {
    moments(past.end(), past.step, horizon_steps)
}

/// Builds the inputs at the end of `past`. `None` without a recent value.
pub(super) fn inputs(past: Past<'_>, view: &View<'_>) -> Option<Inputs> {
    newest(past, REACH)?;
    let scale = view.scale;
    let level = scale.level(past)?;
    let frame =
        Frame { past, scale, base: (level + scale.offset).ln(), shift: view.shift, now: past.values.len() as isize };
    let end = past.end();
    let lift = |index: isize| {
        if view.events.is_empty() {
            return None;
        }
        let moment = past.start + Span::from_millis(past.step.millis().saturating_mul(index as i64));
        event_at(view.events, view.service, moment, end)
    };
    let encoder = frame.encoder(&lift);
    let decoder = frame.decoder(view.moments, &lift);
    let covariates = covariates::inputs(past, view.gauges);
    Some(Inputs { encoder, decoder, covariates, level })
}

/// A history with the origin and the level that everything is relative to.
struct Frame<'a> {
    past: Past<'a>,
    scale: &'a Scale,
    base: f64,
    shift: f64,
    /// Index of the first target.
    now: isize,
}

impl Frame<'_> {
    /// A load relative to the level.
    fn relative(&self, value: f64) -> f64 {
        (value + self.scale.offset).ln() - self.base
    }

    fn encoder(&self, lift: &dyn Fn(isize) -> Option<f64>) -> [[f32; ENCODER_INPUTS]; ENCODER_STEPS] {
        let mut rows = [[0.0_f32; ENCODER_INPUTS]; ENCODER_STEPS];
        let day = self.past.steps(DAY) as isize;
        let mut from = self.now - REACH as isize;
        for (row, width) in rows.iter_mut().zip(BUCKETS) {
            let to = from + width as isize;
            let value = mean(self.past, from, to).map(|value| self.relative(value));
            if let Some(value) = value {
                row[0] = bounded(value);
                row[1] = 1.0;
            }
            row[2] = lift(to - 1).map_or(0.0, |uplift| 1.0 + bounded(safe_log(uplift)));
            row[3] = match width {
                1 => 0.0,
                5 => 0.5,
                _ => 1.0,
            };
            if self.scale.days
                && let Some(value) = value
                && let Some(before) = mean(self.past, from - day, to - day)
            {
                row[4] = bounded(value - self.relative(before) - self.shift);
                row[5] = 1.0;
            }
            from = to;
        }
        rows
    }

    fn decoder(
        &self,
        moments: &[[f32; MOMENT_WIDTH]],
        lift: &dyn Fn(isize) -> Option<f64>,
    ) -> Vec<[f32; DECODER_INPUTS]> {
        let horizon = moments.len();
        let seasons = self.seasons(horizon);
        let recent = RECENT_STEPS.map(|steps| mean(self.past, self.now - steps as isize, self.now));
        let recent = recent.map(|value| value.map_or(0.0, |value| bounded(self.relative(value))));
        let row = |k: usize| {
            let mut row = [0.0_f32; DECODER_INPUTS];
            let (calendar, rest) = row.split_at_mut(MOMENT_WIDTH);
            calendar.copy_from_slice(&seen(&moments[k], self.scale, self.past.step));
            let (place, rest) = rest.split_at_mut(1);
            place[0] = (k + 1) as f32 / horizon as f32;
            let (yesterday, rest) = rest.split_at_mut(YESTERDAY);
            let (before, rest) = rest.split_at_mut(DAYS_BEFORE);
            let (week, rest) = rest.split_at_mut(LAST_WEEK);
            let (hour, rest) = rest.split_at_mut(HOURS);
            let (newest, events) = rest.split_at_mut(RECENT);
            if let Some((exact, smooth, anchor)) = seasons.day(1, k) {
                yesterday.copy_from_slice(&[bounded(exact), bounded(smooth), 1.0, bounded(anchor)]);
            }
            let (mut exacts, mut shapes, mut count) = (0.0, 0.0, 0.0);
            for (exact, smooth, anchor) in (1..=DAYS).filter_map(|back| seasons.day(back, k)) {
                exacts += exact;
                shapes += smooth - anchor;
                count += 1.0;
            }
            if count > 0.0 {
                let share = (count / DAYS as f64) as f32;
                before.copy_from_slice(&[bounded(exacts / count), bounded(shapes / count), share]);
            }
            if self.scale.weeks
                && let Some((exact, smooth, anchor)) = seasons.day(DAYS, k)
            {
                week.copy_from_slice(&[bounded(exact), bounded(smooth - anchor), 1.0]);
            }
            let (mut sum, mut count) = (0.0, 0.0);
            for value in (0..HOURS_BACK).filter_map(|more| seasons.hour(more, k)) {
                sum += value;
                count += 1.0;
            }
            if count > 0.0 {
                let mean = sum / count;
                hour.copy_from_slice(&[bounded(seasons.hour(0, k).unwrap_or(mean)), bounded(mean), 1.0]);
            }
            newest.copy_from_slice(&recent);
            if let Some(uplift) = lift(self.now + k as isize) {
                events.copy_from_slice(&[1.0, bounded(safe_log(uplift))]);
            }
            row
        };
        (0..horizon).map(row).collect()
    }

    /// Former days and hours around the targets.
    fn seasons(&self, horizon: usize) -> Seasons {
        let past = self.past;
        let mut values = vec![f64::NAN; Seasons::size(horizon)];
        let (days, hours) = values.split_at_mut(DAYS * Seasons::of_day(horizon));
        if self.scale.days {
            for (back, own) in (1..).zip(days.chunks_exact_mut(Seasons::of_day(horizon))) {
                self.former_day(back * past.steps(DAY), own);
            }
        }
        // A whole number of hours before each target: the fewest that lie before the origin, and more.
        let hour = past.steps(HOUR);
        for (more, own) in hours.chunks_exact_mut(horizon.max(1)).enumerate() {
            for (k, place) in own.iter_mut().enumerate() {
                let back = (k / hour + 1 + more) * hour;
                *place = at(past, self.now + k as isize - back as isize).unwrap_or(f64::NAN);
            }
        }
        values.iter_mut().for_each(|value| *value += self.scale.offset);
        take_lns(&mut values);
        let (days, hours) = values.split_at_mut(DAYS * Seasons::of_day(horizon));
        days.iter_mut().for_each(|log| *log = *log - self.base + self.shift);
        hours.iter_mut().for_each(|log| *log -= self.base);
        Seasons { horizon, values }
    }

    /// Loads so many windows before the targets: `[0]` the level at the hour of the origin, then each target's value, then
    /// the same smoothed. Nothing without a level.
    fn former_day(&self, back: usize, own: &mut [f64]) {
        let (past, half) = (self.past, (self.past.steps(SMOOTHING) / 2) as isize);
        let start = self.now - back as isize;
        let anchor = start - 1;
        let Some(level) = mean(past, anchor - 2 * half, (anchor + 2 * half + 1).min(self.now)) else { return };
        let (first, rest) = own.split_at_mut(1);
        first[0] = level;
        let (exact, smooth) = rest.split_at_mut(rest.len() / 2);
        // The window slides: what enters on the right and leaves on the left. Days are known up to the origin only.
        let (mut sum, mut count) = (0.0, 0_i32);
        let known = |index: isize| if index < self.now { at(past, index) } else { None };
        for value in (start - half..start + half).filter_map(known) {
            sum += value;
            count += 1;
        }
        for ((target, exact), smooth) in (start..).zip(exact).zip(smooth) {
            if let Some(value) = known(target + half) {
                sum += value;
                count += 1;
            }
            if count > 0 {
                *smooth = (sum / f64::from(count)).max(0.0);
            }
            *exact = known(target).unwrap_or(f64::NAN);
            if let Some(value) = known(target - half) {
                sum -= value;
                count -= 1;
            }
        }
    }
}

/// Former days and hours around the targets, as logarithms relative to the present level; NaN where nothing is known.
struct Seasons {
    horizon: usize,
    /// Of each day: its level at the hour of the origin, the values and the smoothed values; then the values of the hours.
    values: Vec<f64>,
}

impl Seasons {
    fn of_day(horizon: usize) -> usize {
        1 + 2 * horizon
    }

    fn size(horizon: usize) -> usize {
        DAYS * Self::of_day(horizon) + HOURS_BACK * horizon
    }

    /// Value, smoothed value and level `back` days before a target; the smoothed value stands for one that is not known.
    fn day(&self, back: usize, k: usize) -> Option<(f64, f64, f64)> {
        let own = &self.values[(back - 1) * Self::of_day(self.horizon)..][..Self::of_day(self.horizon)];
        let (anchor, exact, smooth) = (own[0], own[1 + k], own[1 + self.horizon + k]);
        if smooth.is_nan() {
            return None;
        }
        Some((if exact.is_nan() { smooth } else { exact }, smooth, anchor))
    }

    /// The value `more` hours before the newest known same minute of an hour.
    fn hour(&self, more: usize, k: usize) -> Option<f64> {
        let value = self.values[DAYS * Self::of_day(self.horizon) + more * self.horizon + k];
        (!value.is_nan()).then_some(value)
    }
}

pub(super) fn bounded(value: f64) -> f32 {
    value.clamp(-LOG_MAX, LOG_MAX) as f32
}

fn safe_log(uplift: f64) -> f64 {
    if uplift.is_finite() && uplift > 0.0 { uplift.ln() } else { 0.0 }
}

/// A value that is a load.
fn load(value: Option<f64>) -> Option<f64> {
    value.filter(|value| (0.0..=LOAD_MAX).contains(value))
}

/// The load at `index`; `None` for gaps and outside.
pub(super) fn at(past: Past<'_>, index: isize) -> Option<f64> {
    load(past.at(index))
}

/// The newest load, at most `back` windows old.
pub(super) fn newest(past: Past<'_>, back: usize) -> Option<f64> {
    past.values.iter().rev().take(back).find_map(|value| load(*value))
}

fn mean(past: Past<'_>, from: isize, to: isize) -> Option<f64> {
    let start = usize::try_from(from.max(0)).unwrap_or(0);
    let end = usize::try_from(to.max(0)).unwrap_or(0).min(past.values.len());
    let (mut sum, mut count) = (0.0, 0_u32);
    for value in past.values.get(start..end)?.iter().filter_map(|value| load(*value)) {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / f64::from(count))
}
