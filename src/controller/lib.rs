//! The loop: reads the `features` topic, keeps history and state, forecasts, decides, acts.
//!
//! **Owns** the loop, its state, champion and challenger, and what readers see of it (`view`). **May depend on** all
//! crates of layers 0 to 2. All that can wake the loop is one closed enum, [`Event`]; time comes from the clock that was
//! injected or from the watermark. It acts only on a plan that was validated against fresh state, and one service's
//! failure never stops the others.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test"))]

mod act;
mod archive;
mod back_fill;
mod capacity;
mod choose;
mod contention;
mod control;
mod dependencies;
mod early;
mod experiments;
mod fallback;
#[cfg(test)]
mod fixture;
mod follow;
mod intake;
mod learn;
mod ledger;
mod listen;
mod models;
mod nodes;
mod pause;
mod plan;
mod publish;
pub mod registry;
pub mod replay;
mod round;
mod select;
mod settings;
mod shares;
mod show;
mod signals;
mod spot_wish;
mod state;
#[cfg(test)]
mod tests;
mod training;
mod units;
mod victims;
pub mod view;
mod weights;

pub use archive::{StoredDecisions, decision_bytes};
pub use control::{Controller, Event, Parts, Summary, covariates};
pub use experiments::{ExperimentSetup, ExperimentView};
pub use fallback::{FallbackBoard, FallbackSettings, Fallbacks, Silence};
pub use follow::Follower;
pub use models::ModelNews;
pub use nodes::NodesSetup;
pub use select::SelectorSetup;
pub use settings::{ClockMode, ControllerSettings, OutTopics, ServiceSettings};
use thiserror::Error;

/// A loop that can't go on.
#[derive(Debug, Error)]
pub enum ControllerError {
    #[error(transparent)]
    Store(#[from] prescale_store::StoreError),
    #[error(transparent)]
    Features(#[from] prescale_features::FeatureError),
    #[error(transparent)]
    Source(#[from] prescale_ingest::SourceError),
    #[error("state of the controller is unreadable: {error}\nhint: move the state directory away and start afresh")]
    Corrupt { error: String },
    #[error("target of `{service}`: {error}")]
    Target { service: String, error: String },
}
