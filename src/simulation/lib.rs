//! Workloads, baselines and the score card: what Prescale is measured with.
//!
//! **Owns** generated and replayed request loads, the published autoscalers that Prescale is compared with, the arena in
//! which each of them drives the same simulated fleet through the same load, and the score card that comes out of it.
//! **May depend on** `domain`, `decide` and `actuate`, whose simulated fleet it drives.
//!
//! **Pure and seeded**: no clock, file or network; the same seed gives the same load whatever the order in which minutes
//! are asked for. **Fair**: no baseline sees more than it would in reality, each has the same provisioning latencies unit
//! by unit, and a baseline with a parameter is judged at the best value of a sweep (see [`sweep`]).
//!
//! - [`workload`]: load by service and minute, and the request records that make it up.
//! - [`baselines`]: the published autoscalers, and the oracle.
//! - [`arena`]: one controller, one fleet, one load: violations, cost, actions.
//! - [`prescale`]: Prescale among them, on forecasts that a [`stream`] keeps.
//! - [`meeting`]: all systems on the same services and seeds, each over its parameters.
//! - [`sweep`]: the targets of a sweep, and which one counts; HPA over them.
//! - [`frontier`]: cost against violation, and whether one system lies beyond another.
//! - [`score`]: the score card as data and as a terminal table.
//! - [`queueing`]: a fleet that serves requests one by one: latency, drops, cost, drains, lost spot units.
//! - [`market`]: the spot market, generated or recorded.
//! - [`aws`]: an AWS account that speaks AWS's protocols, on that market.
//! - [`spot`]: strategies that buy the same wish of the same spot market, Prescale's among them.
//! - [`profile`]: loads of a kind, for `prescale simulate`.
//! - [`acceptance`]: scenarios with an objective, and whether a run reached it.
//! - [`report`]: a back-test as JSON, as a terminal table and as one HTML page.
//! - [`shadow`]: the same numbers live: what would have run beside what really ran.
//! - [`selector`]: trains the selector of policies.
//! - [`experiment`]: decisions on a simple seasonal forecast, without Kafka or models, to try policies in seconds.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that fails should stop where it fails"))]

pub mod acceptance;
pub mod arena;
pub mod aws;
pub mod baselines;
pub mod experiment;
pub mod frontier;
pub mod market;
pub mod meeting;
pub mod prescale;
pub mod profile;
pub mod queueing;
pub mod report;
pub mod score;
mod seeded;
pub mod selector;
pub mod shadow;
pub mod spot;
pub mod stream;
pub mod sweep;
pub mod workload;
