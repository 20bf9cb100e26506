//! The feature store: a regular history for each service, gaps marked, and the calendar of external events.
//!
//! **Owns** the form of the `History` and `Events` tables. **May depend on** `domain`, `store`. Never hands out a value
//! that was not known at the time asked for: windows enter when they are closed, events count from when they were known.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test"))]

mod calendar;
mod coarse;
mod covariates;
mod history;
#[cfg(test)]
mod point_in_time;

pub use calendar::EventBook;
pub use coarse::CoarseWindow;
pub use covariates::{Covariate, ERROR_RATE, ERROR_RATE_OF, STANDARD, STANDARD_NAME, expanded, measure};
pub use history::{Closed, FeatureStore, HistorySettings, first_window};
use prescale_store::StoreError;
use thiserror::Error;

/// Features that can't be kept or read back.
#[derive(Debug, Error)]
pub enum FeatureError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "history of `{service}`: {error}\nhint: the state directory was written by another version; move it away and start afresh"
    )]
    Corrupt { service: String, error: String },
    #[error(
        "`{service}`: window {window_start} does not start at a multiple of the step {step}\nhint: set features.step to the window width of the pipeline"
    )]
    Misaligned { service: String, window_start: String, step: String },
}
