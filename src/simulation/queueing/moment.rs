//! Virtual time in whole nanoseconds since the start of a run. Rule: integers, so that sums do not depend on their order
//! and ties are ties.

use prescale_domain::{Span, Timestamp};

const PER_MILLI: u64 = 1_000_000;
const PER_SECOND: f64 = 1e9;

/// A moment, or a length of time, of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Nanos(pub(crate) u64);

impl Nanos {
    pub(crate) const ZERO: Self = Self(0);
    pub(crate) const MAX: Self = Self(u64::MAX);

    /// Rounded to the nearest nanosecond; what is negative or no number is 0.
    pub(crate) fn from_seconds(seconds: f64) -> Self {
        // The cast saturates.
        Self((seconds * PER_SECOND).round() as u64)
    }

    pub(crate) fn seconds(self) -> f64 {
        self.0 as f64 / PER_SECOND
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Time since `earlier`, 0 when that is later.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// The calendar's time, to the millisecond, of a run that started at `start`.
    pub(crate) fn after(self, start: Timestamp) -> Timestamp {
        start + Span::from_millis(i64::try_from(self.0 / PER_MILLI).unwrap_or(i64::MAX))
    }
}

impl From<Span> for Nanos {
    /// A negative length counts as none.
    fn from(span: Span) -> Self {
        Self(u64::try_from(span.millis()).unwrap_or(0).saturating_mul(PER_MILLI))
    }
}

/// A moment of the calendar in a run that started at `start`; one before it is the start.
pub(crate) fn nanos_since(start: Timestamp, moment: Timestamp) -> Nanos {
    moment.since(start).into()
}
