//! What experts read from the past: logs of the load relative to the recent level, at lags of windows, hours and days.
//! Rules: level-free, so that a shift of the level breaks nothing; nothing after the origin is read.

use std::f64::consts::TAU;

use prescale_domain::{Span, Timestamp};

use super::DAY;
use crate::log::push_logs;
use crate::past::Past;

const HOUR: Span = Span::from_minutes(60);
/// The recent level is the mean over this length.
const LEVEL: Span = Span::from_minutes(5);
/// Lengths of the means before the origin.
const MEANS_MINUTES: [i64; 6] = [10, 15, 30, 60, 180, 720];
/// Newest windows that are read one by one.
const NEWEST: usize = 6;
/// Days back that are read around the target.
const DAYS: [isize; 3] = [1, 2, 7];
/// Days whose moves are averaged.
const DAYS_MEAN: isize = 7;
/// Length of the mean around a target on an earlier day, and of the mean that it is compared with.
const AROUND: Span = Span::from_minutes(15);
const BEFORE: Span = Span::from_minutes(30);

/// Inputs of one origin and one step ahead.
pub(crate) const INPUTS: usize = NEWEST + MEANS_MINUTES.len() + 2 * DAYS.len() + 3;
/// The same with the calendar.
pub(crate) const INPUTS_CALENDAR: usize = INPUTS + 6;

/// Steps ahead that experts with parameters by lead know: those of 1, 2, 5, 10, 15, 30, 60 … minutes and the last.
pub(crate) fn leads(step: Span, horizon_steps: usize) -> Vec<usize> {
    const MINUTES: [i64; 10] = [1, 2, 5, 10, 15, 30, 60, 120, 240, 480];
    let mut leads: Vec<usize> = MINUTES.into_iter().map(|minutes| Span::from_minutes(minutes).steps_up(step)).collect();
    leads.retain(|lead| (1..horizon_steps).contains(lead));
    leads.push(horizon_steps.max(1));
    leads.dedup();
    leads
}

/// Where step `k` (1 = the next window) lies among ascending `leads`: the lead at or below, the one at or above, and how
/// far it is from the first to the second.
pub(crate) fn between(leads: &[usize], k: usize) -> (usize, usize, f64) {
    let last = leads.len().saturating_sub(1);
    let above = leads.iter().position(|lead| *lead >= k).unwrap_or(last);
    if above == 0 || leads[above] <= k {
        return (above, above, 0.0);
    }
    let (low, high) = (leads[above - 1], leads[above]);
    (above - 1, above, (k - low) as f64 / (high - low) as f64)
}

/// The load that counts as little, in its own unit: a fiftieth of the mean of the known values.
pub(crate) fn small_load(past: Past<'_>) -> Option<f64> {
    let finite = past.values.iter().flatten().filter(|value| value.is_finite() && **value >= 0.0);
    let (sum, count) = finite.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| (0.02 * sum / f64::from(count)).max(1e-9))
}

/// Logs of parts of a history.
pub(crate) struct Logs {
    small: f64,
    step: Span,
    start: Timestamp,
    /// The newest part, then those around the same time of earlier days, in the order of the days; or one part for all.
    parts: Vec<Part>,
}

/// Logs from one index on.
struct Part {
    from: isize,
    /// NaN for gaps.
    logs: Vec<f64>,
    /// Sum and number of the known logs before each place, and of all.
    sums: Vec<(f64, u32)>,
}

impl Part {
    fn read(past: Past<'_>, small: f64, from: isize, to: isize) -> Self {
        let from = from.max(0);
        let known = &past.values[(from as usize).min(past.values.len())..];
        let known = &known[..usize::try_from(to - from).unwrap_or(0).min(known.len())];
        let mut logs = Vec::with_capacity(known.len());
        push_logs(known, small, &mut logs);
        let mut sums = Vec::with_capacity(logs.len() + 1);
        let (mut sum, mut count) = (0.0, 0);
        sums.push((sum, count));
        sums.extend(logs.iter().map(|log| {
            let known = !log.is_nan();
            sum += if known { *log } else { 0.0 };
            count += u32::from(known);
            (sum, count)
        }));
        Self { from, logs, sums }
    }

    fn at(&self, index: isize) -> Option<f64> {
        usize::try_from(index - self.from).ok().and_then(|place| self.logs.get(place)).copied()
    }

    /// Sum and number of the known logs in `[from, to)`; `None` if some of it is not here.
    fn sum(&self, from: isize, to: isize) -> Option<(f64, u32)> {
        let first = usize::try_from(from - self.from).ok()?;
        let last = usize::try_from(to - self.from).ok()?;
        let ((before, fewer), (sum, count)) = (self.sums.get(first)?, self.sums.get(last)?);
        Some((sum - before, count - fewer))
    }
}

/// Means before the same time as the origin on each earlier day, NaN where unknown.
#[derive(Clone, Copy)]
pub(crate) struct Before([f64; DAYS_MEAN as usize]);

impl Logs {
    /// All of `past`.
    pub(crate) fn all(past: Past<'_>, small: f64) -> Self {
        let parts = vec![Part::read(past, small, 0, past.values.len() as isize)];
        Self { small, step: past.step, start: past.start, parts }
    }

    /// What a forecast of `horizon_steps` from the end of `past` reads.
    pub(crate) fn at_end(past: Past<'_>, small: f64, horizon_steps: usize) -> Self {
        let (end, horizon) = (past.values.len() as isize, horizon_steps as isize);
        let longest =
            MEANS_MINUTES.iter().map(|minutes| past.steps(Span::from_minutes(*minutes))).max().unwrap_or(1) as isize;
        let mut parts = Vec::with_capacity(1 + DAYS_MEAN as usize);
        parts.push(Part::read(past, small, end - longest.max(past.steps(HOUR) as isize), end));
        let (day, margin) = (past.steps(DAY) as isize, past.steps(BEFORE) as isize);
        parts.extend((1..=DAYS_MEAN).map(|days| {
            let from = end - days * day - margin;
            Part::read(past, small, from, (from + 2 * margin + horizon).min(end))
        }));
        Self { small, step: past.step, start: past.start, parts }
    }

    /// The part that holds what a forecast reads of so many days ago, unless it reaches out of it.
    fn part(&self, days: isize) -> &Part {
        self.parts.get(days as usize).unwrap_or(&self.parts[0])
    }

    /// The log at `index`, NaN where there is none; first looked for in what is kept of so many `days` ago.
    fn at(&self, days: isize, index: isize) -> f64 {
        let elsewhere = || self.parts.iter().find_map(|part| part.at(index)).unwrap_or(f64::NAN);
        self.part(days).at(index).unwrap_or_else(elsewhere)
    }

    fn steps(&self, length: Span) -> isize {
        length.steps_up(self.step).max(1) as isize
    }

    /// Mean over `[from, to)`, NaN without any value; first looked for in what is kept of so many `days` ago.
    fn mean(&self, days: isize, from: isize, to: isize) -> f64 {
        let from = from.max(0);
        if from >= to {
            return f64::NAN;
        }
        let elsewhere = || {
            self.parts.iter().find_map(|part| part.sum(from, to)).unwrap_or_else(|| {
                let known = (from..to).map(|index| self.at(days, index)).filter(|log| !log.is_nan());
                known.fold((0.0, 0_u32), |(sum, count), log| (sum + log, count + 1))
            })
        };
        let (sum, count) = self.part(days).sum(from, to).unwrap_or_else(elsewhere);
        if count == 0 { f64::NAN } else { sum / f64::from(count) }
    }

    /// The recent level before index `end`, or the newest value of the last hour.
    pub(crate) fn level(&self, end: isize) -> Option<f64> {
        let level = self.mean(0, end - self.steps(LEVEL), end);
        if !level.is_nan() {
            return Some(level);
        }
        (end - self.steps(HOUR)..end).rev().map(|index| self.at(0, index)).find(|log| !log.is_nan())
    }

    /// The log at `index` where it is known.
    pub(crate) fn known(&self, index: isize) -> Option<f64> {
        Some(self.at(0, index)).filter(|log| !log.is_nan())
    }

    /// Inputs that are the same for each step ahead of index `end`.
    pub(crate) fn near(&self, end: isize, level: f64, inputs: &mut Vec<f64>) {
        for back in 1..=NEWEST as isize {
            inputs.push(self.at(0, end - back) - level);
        }
        for minutes in MEANS_MINUTES {
            inputs.push(self.mean(0, end - self.steps(Span::from_minutes(minutes)), end) - level);
        }
    }

    /// What [`Logs::ahead`] of index `end` compares earlier days with.
    pub(crate) fn before(&self, end: isize) -> Before {
        let (day, before) = (self.steps(DAY), self.steps(BEFORE));
        let mut means = [f64::NAN; DAYS_MEAN as usize];
        for (days, mean) in (1..).zip(&mut means) {
            *mean = self.mean(days, end - days * day - before, end - days * day);
        }
        Before(means)
    }

    /// Inputs of the window `k` steps ahead (1 = the next) of index `end`.
    pub(crate) fn ahead(&self, end: isize, k: usize, level: f64, before: &Before, inputs: &mut Vec<f64>) {
        let (target, day) = (end + k as isize - 1, self.steps(DAY));
        let around = self.steps(AROUND) / 2;
        let (mut moves, mut count) = (0.0, 0_u32);
        for (days, before) in (1..).zip(&before.0) {
            let back = days * day;
            let then = self.mean(days, target - back - around, (target - back + around + 1).min(end));
            let moved = then - before;
            if DAYS.contains(&days) {
                inputs.push(self.at(days, target - back) - level);
                inputs.push(moved);
            }
            if !moved.is_nan() {
                moves += moved;
                count += 1;
            }
        }
        inputs.push(if count == 0 { f64::NAN } else { moves / f64::from(count) });
        // The newest known window at the same minute of an hour, and of half an hour.
        for cycle in [HOUR, BEFORE] {
            let cycle = self.steps(cycle);
            let back = (k as isize).div_euclid(cycle) * cycle + if (k as isize) % cycle == 0 { 0 } else { cycle };
            inputs.push(self.at(0, target - back) - level);
        }
    }

    /// The time of the window `k` steps ahead of index `end`: of the hour, day and week (UTC).
    pub(crate) fn calendar(&self, end: isize, k: usize, inputs: &mut Vec<f64>) {
        let index = (end + k as isize - 1) as i64;
        let millis = self.start.millis().saturating_add(self.step.millis().saturating_mul(index));
        for (cycle, offset) in [(3_600_000, 0), (86_400_000, 0), (604_800_000, 0)] {
            let angle = TAU * ((millis + offset).rem_euclid(cycle) as f64 / cycle as f64);
            inputs.extend([angle.sin(), angle.cos()]);
        }
    }

    /// The load whose log is `log`.
    pub(crate) fn load(&self, log: f64) -> f64 {
        (self.small * log.exp_m1()).max(0.0)
    }
}
