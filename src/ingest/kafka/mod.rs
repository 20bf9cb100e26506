//! Topics in and out through librdkafka. Rule: what was sent is known to have arrived, what was read is known by offset.

mod extent;
mod group;
mod native;
mod settings;
mod sink;
mod source;
mod transaction;

pub use extent::{Extent, ReadFrom, extent};
pub use group::{Group, GroupSettings, Held};
pub use native::keep_freed_memory;
pub use settings::{KafkaSettings, StartAt};
pub use sink::{KafkaSink, SinkError};
pub use source::{KafkaSource, KafkaSourceSettings};
pub use transaction::{Remedy, TransactionError, TransactionalSink, newest_value};
