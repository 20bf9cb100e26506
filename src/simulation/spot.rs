//! Spot first, proved: strategies that buy the same wish of the same market. Rule: a strategy sees prices, its units, notices
//! and whether a launch was granted; what will happen is known to the market alone.
//!
//! All buy for the same load with the same wish, so that they differ in what they buy and not in how much is wanted; a
//! launch takes the same time for each, and a unit is billed for the same minimum. [`Limit`] says what would have been
//! possible with the trace known: no strategy, a bound.

mod baselines;
mod fleet;
mod load;
mod play;
mod prescale;
mod scenario;
mod table;
#[cfg(test)]
mod tests;

pub use fleet::{FleetSettings, Lived};
pub use load::LoadShape;
pub use play::{Limit, Outcome, Strategy, limit, play};
pub use scenario::{RecordedPool, Scenario, generated};
pub use table::{Row, render};
