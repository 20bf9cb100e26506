//! A regular history of one signal of one service. Rule: a gap is `None`, never zero.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Span, Timestamp};

/// More windows are a mistake in the times or the step: a century of minutes.
const WINDOWS_MAX: usize = 50_000_000;

/// Values of consecutive windows `[start + i · step, start + (i + 1) · step)`; `None` where nothing is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub start: Timestamp,
    pub step: Span,
    pub values: Vec<Option<f64>>,
}

/// Rows that are no regular history.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RowsError {
    #[error("there are no rows")]
    Empty,
    #[error("{count} windows are too many")]
    TooMany { count: usize },
    /// Row `index` is not on the grid of the first.
    #[error("{time} is no start of a window after {start}")]
    OffGrid { index: usize, time: Timestamp, start: Timestamp },
}

impl Series {
    /// The history that rows in any order of time make: windows without a row are gaps, and of several rows of one window
    /// the last counts.
    ///
    /// # Errors
    /// No rows, too many windows, or a time that is not a whole number of steps after the first.
    pub fn of_rows(
        rows: impl Iterator<Item = (Timestamp, Option<f64>)> + Clone,
        step: Span,
    ) -> Result<Self, RowsError> {
        let start = rows.clone().map(|row| row.0).min().ok_or(RowsError::Empty)?;
        let end = rows.clone().map(|row| row.0).max().unwrap_or(start);
        let count = end.since(start).steps_up(step).saturating_add(1);
        if count > WINDOWS_MAX {
            return Err(RowsError::TooMany { count });
        }
        let mut series = Self { start, step, values: vec![None; count] };
        for (index, (time, value)) in rows.enumerate() {
            let place = series.index_of(time).filter(|place| *place < count);
            series.values[place.ok_or(RowsError::OffGrid { index, time, start })?] = value;
        }
        Ok(series)
    }

    /// Start of the window after the last.
    pub fn end(&self) -> Timestamp {
        self.start + Span::from_millis(self.step.millis().saturating_mul(self.values.len() as i64))
    }

    /// Index of the window that starts at `moment`, whether it is inside or not.
    pub fn index_of(&self, moment: Timestamp) -> Option<usize> {
        let ahead = moment.millis().checked_sub(self.start.millis())?;
        if ahead < 0 || self.step.millis() <= 0 || ahead % self.step.millis() != 0 {
            return None;
        }
        usize::try_from(ahead / self.step.millis()).ok()
    }

    /// The value of the window that starts at `moment`; `None` for a gap and outside.
    pub fn at(&self, moment: Timestamp) -> Option<f64> {
        self.values.get(self.index_of(moment)?).copied().flatten()
    }

    /// The windows that start before `moment`.
    pub fn before(&self, moment: Timestamp) -> &[Option<f64>] {
        let ahead = moment.since(self.start).steps_up(self.step);
        &self.values[..ahead.min(self.values.len())]
    }
}
