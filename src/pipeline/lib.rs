//! Feature SQL over event-time windows: a text becomes a plan, an engine turns raw records into feature rows, a runner
//! moves both between Kafka and the state store.
//!
//! **Owns** DataFusion. **May depend on** `domain`, `telemetry`, `store`, `ingest`. The output depends on the input rows
//! and nothing else: not on batch sizes, the interleaving of partitions, restarts or the wall clock (which is asked only
//! whether a source has fallen silent).
//!
//! | module | what |
//! | --- | --- |
//! | `sql` | Arroyo's dialect in a portable profile: parse, check, plan |
//! | `udf` | Rust functions that the SQL calls: build, load, call |
//! | `watermark`, `window`, `late` | the pure rules of event time |
//! | `partition`, `panes`, `runs`, `sessions` | how far a partition has come; rows by pane, panes into windows |
//! | `prepared` | batches to rows, on all cores |
//! | `stored`, `held` | what of that the state store has; how much memory it takes |
//! | `routing`, `gathered` | rows to the inputs that read them; windows in their order |
//! | `silence` | what was not heard is a gap |
//! | `exec` | physical expressions row by row where they fail, accumulators by window, JSON rows |
//! | `sketch` | quantiles with exact merging |
//! | `engine` | batches in, closed windows, dead letters and checkpoints out; no I/O |
//! | `commit` | the protocol that writes each epoch exactly once, as a pure state machine |
//! | `outbox`, `transactions` | what it keeps in the store, and what it does on Kafka |
//! | `schemas` | writer schemas out of a registry, before the records that name them are decoded |
//! | `runner` | the engine between a source, a sink and a store |
//! | `records`, `quiet` | what an epoch writes; how long a partition has been silent |
//! | `shared` | several processes, each with the shares that the consumer group gives it |
//! | `steady` | the clock that silence is measured with |
//! | `files` | the same engine over files, and over what topics hold |

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test"))]

mod attempts;
mod checkpoint;
mod commit;
mod engine;
mod error;
mod exec;
mod files;
mod gathered;
mod held;
pub mod late;
mod outbox;
mod panes;
mod partition;
mod prepared;
mod quiet;
mod records;
mod routing;
mod runner;
mod runs;
mod schemas;
mod sessions;
mod shared;
mod silence;
mod sketch;
mod sql;
mod steady;
mod stored;
#[cfg(test)]
mod tests;
mod transactions;
pub mod udf;
pub mod watermark;
pub mod window;

pub use checkpoint::{Checkpoint, Counters, PartitionCheckpoint, SourceCheckpoint};
pub use engine::{Engine, EpochOutput, OutRow, PartitionView, ProgressNote};
pub use error::{PipelineError, Place, SqlError};
pub use files::{check, run_over_files, run_to_end};
pub use held::Held;
pub use runner::{CommitStep, Delivery, OpenSources, RunnerSettings, Summary, run, source_settings};
pub use shared::{ShareOf, run_shared};
pub use sketch::{RELATIVE_ACCURACY, Sketch};
pub use sql::{
    Aggregate, Aggregation, Branch, Closed, Computed, GroupKey, Input, Join, JoinKind, Plan, PlanSummary, RowNumber,
    SinkOptions, SinkTable, SourceOptions, SourceSummary, SourceTable, Stage, StartAt, Step, compile, compile_with,
};
pub use steady::SteadyClock;
pub use stored::{StoredPane, StoredPart};
