//! Forecasts of load: models, their accuracy, calibration and drift, rolling-origin evaluation, and the online loop that
//! trains, scores and replaces models while the service runs.
//!
//! **Owns** [`models`] (from the newest value to trees and the LSTM, behind [`models::Forecaster`]), [`ensemble`],
//! [`accuracy`], [`calibrate`], [`drift`], [`evaluate`] and [`online`]. **May depend on** `domain` and `telemetry`. Pure: no clock, no files, no
//! network; time and seeds are arguments, and the same inputs give the same bytes on the same kind of machine (the
//! kernels use fused multiply-add where the processor has it).
//!
//! - [`past::Past`] is all that a model sees of a history: nothing after the origin, so that no forecast can leak.
//! - A model is fitted on a [`models::Lesson`] of all services and asked with a [`past::Request`] for one.
//! - [`ensemble::Ensemble`] mixes what the models say of one service: `combine` at an origin, `expect` keeps what was said
//!   there, `observe` learns from a window's value.
//! - [`online::Online`] is a state machine: `observe` scores, `forecast` serves, `due` hands out training jobs that run
//!   anywhere, `finish` promotes their result only if it is better. `save` and `restore` keep every byte of it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that can't go on may panic"))]

pub mod accuracy;
pub mod anomaly;
pub mod calibrate;
pub mod drift;
pub mod ensemble;
mod error;
pub mod evaluate;
mod hex;
mod log;
#[cfg(test)]
mod measured;
pub mod models;
pub mod online;
pub mod past;
pub mod patterns;
pub mod registry;
mod rows;
pub mod sequential;

pub use error::{ForecastCrateError, Result};
pub use rows::Rows;
