//! What a machine and its containers use, as records of the `metrics` topic: `prescale agent`.
//!
//! **Owns** the readings of a host (sysinfo) and of the containers of a Docker Engine (bollard), and the rows that are made of
//! them. **May depend on** `domain` and `telemetry`. Rule: the agent never grows and never dies of what is around it. What can't
//! be read has no row, never a zero; what Kafka does not take within its limits is given up, and counted.
//!
//! ```text
//! host        reads the machine              rows     readings to records: pure
//! engine      reads the containers           rate     counters to rates: pure
//! container   an engine's answers: pure      outlet   records to Kafka, or to a writer as NDJSON
//! agent       round after round
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod agent;
mod container;
mod engine;
mod error;
mod host;
mod outlet;
pub mod rate;
pub mod rows;

pub use agent::{AgentSettings, DockerUse, Summary, run};
pub use container::{ContainerReading, SERVICE_LABEL};
pub use engine::DEFAULT_HOST as DEFAULT_DOCKER_HOST;
pub use error::CollectError;
pub use host::{DiskReading, HostReading};
pub use outlet::{KafkaOutlet, KafkaOutletSettings, Outlet};
pub use rows::MetricRecord;
