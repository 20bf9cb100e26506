//! A history as a model may see it. Rule: nothing after the origin is reachable, so that no forecast can leak.

use prescale_domain::{CalendarEvent, Series, ServiceName, Span, Timestamp};

/// The values of one service up to and with the window that starts at the origin.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    pub start: Timestamp,
    pub step: Span,
    pub values: &'a [Option<f64>],
}

impl<'a> Past<'a> {
    /// All of `series`.
    pub fn all(series: &'a Series) -> Self {
        Self { start: series.start, step: series.step, values: &series.values }
    }

    /// The windows of `series` that start before `end`.
    pub fn before(series: &'a Series, end: Timestamp) -> Self {
        Self { start: series.start, step: series.step, values: series.before(end) }
    }

    /// Start of the window at `index`.
    pub fn moment(&self, index: usize) -> Timestamp {
        self.start + Span::from_millis(self.step.millis().saturating_mul(index as i64))
    }

    /// Start of the window after the last.
    pub fn end(&self) -> Timestamp {
        self.moment(self.values.len())
    }

    /// The first `count` windows.
    pub fn first(&self, count: usize) -> Self {
        Self { values: &self.values[..count.min(self.values.len())], ..*self }
    }

    /// The value at `index`; `None` for gaps, outside, and before the start.
    pub fn at(&self, index: isize) -> Option<f64> {
        usize::try_from(index).ok().and_then(|i| self.values.get(i).copied().flatten())
    }

    /// The newest value, at most `back` windows old.
    pub fn newest(&self, back: usize) -> Option<f64> {
        self.values.iter().rev().take(back).find_map(|value| *value)
    }

    /// Number of windows that are not gaps.
    pub fn known(&self) -> usize {
        self.values.iter().flatten().count()
    }

    /// Windows in `length`, at least 1.
    pub fn steps(&self, length: Span) -> usize {
        length.steps_up(self.step).max(1)
    }
}

/// What a forecast is made from.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub service: &'a ServiceName,
    /// The origin is the last window of it.
    pub past: Past<'a>,
    pub horizon_steps: usize,
    /// Ascending, each in (0, 1).
    pub levels: &'a [f64],
    /// Calendar events; those not known at `now` are ignored.
    pub events: &'a [CalendarEvent],
    pub now: Timestamp,
}
