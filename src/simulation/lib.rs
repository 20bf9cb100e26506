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
//! - [`baselines`]: Kubernetes HPA, static peak.
//! - [`arena`]: one controller, one fleet, one load: violations, cost, actions.
//! - [`sweep`]: HPA over its targets, and which one counts.
//! - [`score`]: the score card as data and as a terminal table.
//! - [`report`]: a back-test as JSON, as a terminal table and as one HTML page.
//! - [`shadow`]: the same numbers live: what would have run beside what really ran.
//! - [`selector`]: trains the selector of policies.
//! - [`experiment`]: decisions on a simple seasonal forecast, without Kafka or models, to try policies in seconds.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that fails should stop where it fails"))]

pub mod arena;
pub mod baselines;
pub mod experiment;
pub mod report;
pub mod score;
mod seeded;
pub mod selector;
pub mod shadow;
pub mod sweep;
pub mod workload;
