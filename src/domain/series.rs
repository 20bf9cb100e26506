//! A regular history of one signal of one service. Rule: a gap is `None`, never zero.

use serde::{Deserialize, Serialize};

use crate::{Span, Timestamp};

/// Values of consecutive windows `[start + i · step, start + (i + 1) · step)`; `None` where nothing is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub start: Timestamp,
    pub step: Span,
    pub values: Vec<Option<f64>>,
}

impl Series {
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
