//! Spot first: how much of a wish is spot, where, and what to do when a unit is going to be lost. Rule: pure; what is learnt
//! and remembered is handed in and out, so that a plan can be made again from what was recorded.
//!
//! - [`learn()`] takes in what happens in pools; [`SpotKnowledge`] says what is believed of each.
//! - [`plan()`] splits a wish; its [`SpotPlan`] has the cost, what was binding and what was rejected.
//! - [`Notices`] turns interruption notices and rebalance recommendations into replacements and drains.
//! - [`SpotKeeper`] does all of it for one service, from decision to decision.
//! - [`eventbridge`] reads those out of AWS's envelope.

mod age;
mod budget;
pub mod eventbridge;
mod keep;
mod learn;
mod loss;
mod notices;
mod plan;
mod spread;
mod start;
mod tell;
#[cfg(test)]
mod tests;

pub use keep::{SpotKeeper, SpotLook, SpotPool};
pub use learn::{LearningSettings, SpotKnowledge, learn};
pub use notices::{LiveUnit, NoticeAction, NoticeInput, NoticeSettings, Notices, Passed};
pub use plan::plan;
pub use start::Starts;
