//! A fleet that serves requests one by one, in virtual time: arrivals, waiting, service, drops, launches, drains, lost
//! spot units, and what it costs. Rule: the n-th request arrives at the same moment and brings the same work, and the
//! n-th unit launched takes the same time to come, whatever a controller decides; the same seed gives the same bytes.
//!
//! [`simulate`] is event-driven and exact. [`simulate_fluid`] treats requests as a liquid and adds the waiting inside a
//! tick from queueing theory: for rates at which there are too many requests to follow, and checked against the first
//! at rates at which there are not.

mod arrivals;
mod balance;
mod billing;
mod engine;
mod fluid;
mod line;
mod moment;
mod outcome;
mod record;
mod service;
mod settings;
#[cfg(test)]
mod tests;
pub mod theory;
mod units;
mod validate;

pub use arrivals::{Arrivals, CountSeries, RateSeries};
pub use billing::{ClassCost, PriceClass, Pricing, SpotShare};
pub use engine::simulate;
pub use fluid::simulate_fluid;
pub use outcome::{Observation, QueueOutcome, Totals, WindowOutcome};
pub use service::{ServiceTime, WarmUp};
pub use settings::{FleetModel, Latency, Queueing, RunSettings, ServiceModel, SpotReaction};
pub use validate::SettingsError;
