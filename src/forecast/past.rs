//! A history as a model may see it. Rule: nothing after the origin is reachable, so that no forecast can leak; of what was
//! measured beside the load neither.

use std::collections::BTreeMap;

use prescale_domain::{CalendarEvent, Series, ServiceName, Span, Timestamp};

/// A measure beside the load of a service that may tell what the load will do: its queue length, its response time, or the
/// load of a service that calls it.
#[derive(Clone, Copy, Debug)]
pub struct Covariate<'a> {
    /// As the configuration names it: a feature column, or `service:` and the name of another service.
    pub name: &'a str,
    /// Windows of the same width as those of the load; where it begins and ends may differ.
    pub series: &'a Series,
}

/// Covariates by service; a service without any may be left out.
pub type Covariates<'a> = BTreeMap<ServiceName, Vec<Covariate<'a>>>;

/// What is known of all services: their loads, and what was measured beside them.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub histories: &'a BTreeMap<ServiceName, Series>,
    pub covariates: &'a Covariates<'a>,
}

impl<'a> From<&'a BTreeMap<ServiceName, Series>> for Known<'a> {
    fn from(histories: &'a BTreeMap<ServiceName, Series>) -> Self {
        Self { histories, covariates: no_covariates() }
    }
}

/// No covariates of any service.
pub fn no_covariates() -> &'static Covariates<'static> {
    static NONE: Covariates<'static> = Covariates::new();
    &NONE
}

/// The values of one service up to and with the window that starts at the origin.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    pub start: Timestamp,
    pub step: Span,
    pub values: &'a [Option<f64>],
    /// Whole series: read by [`Past::measured`] only, which stops at the origin.
    pub(crate) covariates: &'a [Covariate<'a>],
}

impl<'a> Past<'a> {
    /// All of `series`.
    pub fn all(series: &'a Series) -> Self {
        Self { start: series.start, step: series.step, values: &series.values, covariates: &[] }
    }

    /// The windows of `series` that start before `end`.
    pub fn before(series: &'a Series, end: Timestamp) -> Self {
        Self { values: series.before(end), ..Self::all(series) }
    }

    /// The same with what was measured beside the load, up to the same origin.
    pub fn with(self, covariates: &'a [Covariate<'a>]) -> Self {
        Self { covariates, ..self }
    }

    /// The same with the covariates that `all` has of `service`.
    pub fn with_those_of(self, service: &ServiceName, all: &'a Covariates<'a>) -> Self {
        self.with(all.get(service).map_or(&[], Vec::as_slice))
    }

    /// The covariate of that name, as known at the origin; `None` where there is none, or none of the same step.
    pub(crate) fn measured(&self, name: &str) -> Option<Measured<'a>> {
        let series = self.covariates.iter().find(|covariate| covariate.name == name)?.series;
        let (ahead, step) = (self.start.millis().checked_sub(series.start.millis())?, self.step.millis());
        if series.step != self.step || step <= 0 || ahead % step != 0 {
            return None;
        }
        let offset = isize::try_from(ahead / step).ok()?;
        Some(Measured { values: series.before(self.end()), offset })
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

    /// The highest of the newest `count` values, at least 0.
    pub(crate) fn highest(&self, count: usize) -> f64 {
        const SIDE_BY_SIDE: usize = 8;
        let recent = &self.values[self.values.len().saturating_sub(count)..];
        let (parts, rest) = recent.as_chunks::<SIDE_BY_SIDE>();
        let higher = |high: f64, value: &Option<f64>| {
            let value = value.unwrap_or(0.0);
            if value > high { value } else { high }
        };
        let mut highest = [0.0; SIDE_BY_SIDE];
        for part in parts {
            highest.iter_mut().zip(part).for_each(|(high, value)| *high = higher(*high, value));
        }
        highest.into_iter().fold(rest.iter().fold(0.0, higher), f64::max)
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

impl<'a> From<&'a Series> for Past<'a> {
    fn from(series: &'a Series) -> Self {
        Self::all(series)
    }
}

/// A covariate up to an origin, by the windows of the load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured<'a> {
    values: &'a [Option<f64>],
    /// Its window that is the first of the load.
    offset: isize,
}

impl<'a> Measured<'a> {
    /// Its values in the windows `[from, to)` of the load, as far as they are there.
    pub(crate) fn between(&self, from: isize, to: isize) -> &'a [Option<f64>] {
        let place = |index: isize| usize::try_from(index.saturating_add(self.offset)).unwrap_or(0);
        let end = place(to).min(self.values.len());
        self.values.get(place(from).min(end)..end).unwrap_or(&[])
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
