//! What can go wrong when models are fitted, asked or loaded. Rule: kind, name, value and bound in every message.

use thiserror::Error;

/// An error of the forecast crate.
#[derive(Debug, Error)]
pub enum ForecastCrateError {
    #[error("model `{model}` can't be fitted: {found} values in the history, needs {needed}; hint: back-fill or wait")]
    TooShort { model: String, found: usize, needed: usize },
    #[error("model `{model}` has not been fitted")]
    NotFitted { model: String },
    #[error("model `{model}` doesn't know service `{service}`; hint: it is learnt at the next training")]
    UnknownService { model: String, service: String },
    #[error("model `{model}` forecasts {found} steps, {asked} were asked for")]
    Horizon { model: String, found: usize, asked: usize },
    #[error("training of `{model}` diverged: loss is {loss}")]
    Diverged { model: String, loss: f64 },
    #[error("the LSTM can't be trained on a GPU: {reason}; hint: {hint}")]
    Gpu { reason: String, hint: &'static str },
    #[error(
        "model `{model}` is not in this build; hint: build with `--features {model}`, or leave it out of the models"
    )]
    NotBuilt { model: String },
    #[error("training crashed: {0}")]
    Crashed(String),
    #[error("saved model: {0}")]
    Format(String),
    #[error("saved model has format version {found}, this build reads {expected}; hint: train again")]
    Version { found: u32, expected: u32 },
    #[error("forecast setting `{name}` is {value}, expected {expected}")]
    Setting { name: &'static str, value: String, expected: &'static str },
    #[error("history line {line}: {reason}")]
    History { line: usize, reason: String },
    #[error("history covers {from} to {to}, the evaluation needs {needed}; hint: choose other bounds")]
    Bounds { from: String, to: String, needed: String },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, ForecastCrateError>;
