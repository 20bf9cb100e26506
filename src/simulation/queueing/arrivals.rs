//! When requests arrive. Rule: a moment depends on the seed and the series alone, never on who serves.
//!
//! A rate series is an inhomogeneous Poisson process, made by inversion: unit exponentials are spent along the integral
//! of the rate, which for a rate that is constant within a step is exact and wastes no draw, as thinning would.

use prescale_domain::{Span, Timestamp};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};

use super::moment::{Nanos, nanos_since};
use crate::seeded::{Purpose, rng};

/// A rate by step; nothing arrives outside.
#[derive(Clone, Debug, PartialEq)]
pub struct RateSeries {
    pub start: Timestamp,
    pub step: Span,
    /// Requests per second, the same within a step.
    pub per_second: Vec<f64>,
}

/// Requests counted by step; nothing arrives outside.
#[derive(Clone, Debug, PartialEq)]
pub struct CountSeries {
    pub start: Timestamp,
    pub step: Span,
    /// Requests in each step.
    pub counts: Vec<u64>,
}

/// Where requests come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// A Poisson process.
    Rate(RateSeries),
    /// Exactly as many as were counted, at moments drawn within their step.
    Counts(CountSeries),
    /// The moments of a request log, in order.
    Log(Vec<Timestamp>),
}

impl Arrivals {
    /// Requests per second to be expected on average over `[from, to)`.
    pub fn mean_rate(&self, from: Timestamp, to: Timestamp) -> f64 {
        let seconds = to.since(from).seconds();
        if seconds <= 0.0 {
            return 0.0;
        }
        match self {
            Self::Rate(series) => {
                let of = |index: usize| series.per_second[index];
                overlap(series.start, series.step, series.per_second.len(), from, to, of) / seconds
            }
            Self::Counts(series) => {
                let step = series.step.seconds();
                let of = |index: usize| series.counts[index] as f64 / step;
                overlap(series.start, series.step, series.counts.len(), from, to, of) / seconds
            }
            Self::Log(moments) => {
                let before = |limit: Timestamp| moments.partition_point(|moment| *moment < limit);
                (before(to) - before(from)) as f64 / seconds
            }
        }
    }

    /// The end of the last step, or the moment of the last request.
    pub fn end(&self) -> Option<Timestamp> {
        let after = |start: Timestamp, step: Span, steps: usize| {
            (steps > 0)
                .then(|| start + Span::from_millis(step.millis().saturating_mul(i64::try_from(steps).unwrap_or(0))))
        };
        match self {
            Self::Rate(series) => after(series.start, series.step, series.per_second.len()),
            Self::Counts(series) => after(series.start, series.step, series.counts.len()),
            Self::Log(moments) => moments.last().copied(),
        }
    }

    pub(super) fn stream(&self, start: Timestamp, seed: u64) -> Stream<'_> {
        Stream {
            arrivals: self,
            start,
            rng: rng(seed, Purpose::Arrivals, 0, start),
            index: 0,
            inside: None,
            opened: false,
            offset: 0.0,
            left: 0,
        }
    }
}

/// The integral over `[from, to)` of a function that is constant in each step.
fn overlap(
    start: Timestamp,
    step: Span,
    steps: usize,
    from: Timestamp,
    to: Timestamp,
    value: impl Fn(usize) -> f64,
) -> f64 {
    let width = step.millis().max(1);
    let (from, to) = (from.millis().saturating_sub(start.millis()), to.millis().saturating_sub(start.millis()));
    let first = usize::try_from(from.div_euclid(width).max(0)).unwrap_or(usize::MAX);
    let mut total = 0.0;
    for index in first..steps {
        let begins = i64::try_from(index).unwrap_or(i64::MAX).saturating_mul(width);
        if begins >= to {
            break;
        }
        let millis = begins.saturating_add(width).min(to) - begins.max(from);
        total += value(index) * millis as f64 / 1000.0;
    }
    total
}

/// The moments of a run's arrivals, one after the other.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    arrivals: &'a Arrivals,
    start: Timestamp,
    rng: ChaCha8Rng,
    index: usize,
    /// Start of the present step and its width in seconds; `None` before it was looked at.
    inside: Option<(Nanos, f64)>,
    /// Whether the present step's count has been taken over.
    opened: bool,
    /// Seconds of the present step that are over.
    offset: f64,
    /// Requests of the present step that are to come.
    left: u64,
}

impl Stream<'_> {
    /// The next arrival; `None` when there are no more.
    pub(super) fn next(&mut self) -> Option<Nanos> {
        match self.arrivals {
            Arrivals::Rate(series) => self.next_of_rate(series),
            Arrivals::Counts(series) => self.next_of_counts(series),
            Arrivals::Log(moments) => {
                if self.index == 0 {
                    self.index = moments.partition_point(|moment| *moment < self.start);
                }
                let moment = moments.get(self.index)?;
                self.index += 1;
                Some(nanos_since(self.start, *moment))
            }
        }
    }

    fn next_of_rate(&mut self, series: &RateSeries) -> Option<Nanos> {
        let mut need: f64 = Exp1.sample(&mut self.rng);
        loop {
            let rate = *series.per_second.get(self.index)?;
            let (begins, width) = self.step(series.start, series.step)?;
            let held = (width - self.offset) * rate;
            if need < held {
                self.offset += need / rate;
                return Some(begins.plus(Nanos::from_seconds(self.offset)));
            }
            need -= held.max(0.0);
            self.turn();
        }
    }

    /// Of `n` uniform moments that are left in the rest of a step, the first is at the share 1 − U^(1/n) of the rest.
    fn next_of_counts(&mut self, series: &CountSeries) -> Option<Nanos> {
        loop {
            let count = *series.counts.get(self.index)?;
            let (begins, width) = self.step(series.start, series.step)?;
            if !self.opened {
                self.opened = true;
                // A run that begins inside a step has its share of it.
                let share = (width - self.offset) / series.step.seconds();
                self.left = (count as f64 * share).round() as u64;
            }
            if self.left > 0 {
                let drawn: f64 = Exp1.sample(&mut self.rng);
                let share = -(-drawn / self.left as f64).exp_m1();
                self.offset += (width - self.offset) * share;
                self.left -= 1;
                return Some(begins.plus(Nanos::from_seconds(self.offset)));
            }
            self.turn();
        }
    }

    /// Start and width of the present step as far as it lies in the run; steps before the run are passed over.
    fn step(&mut self, first: Timestamp, step: Span) -> Option<(Nanos, f64)> {
        if let Some(inside) = self.inside {
            return Some(inside);
        }
        let width = step.millis();
        if width <= 0 {
            return None;
        }
        let begins = |index: usize| {
            first.millis().saturating_add(width.saturating_mul(i64::try_from(index).unwrap_or(i64::MAX)))
        };
        let ends = begins(self.index).saturating_add(width);
        let cut = self.start.millis().max(begins(self.index)).min(ends);
        let inside = (nanos_since(self.start, Timestamp::from_millis(cut)), (ends - cut) as f64 / 1000.0);
        self.inside = Some(inside);
        Some(inside)
    }

    fn turn(&mut self) {
        self.index += 1;
        self.inside = None;
        self.opened = false;
        self.offset = 0.0;
    }
}
