//! Bytes in and out: Kafka and file sources and sinks, the embedded broker, decoding to Arrow, dead letters.
//!
//! **Owns** rdkafka and the record decoders. **May depend on** `domain`, `telemetry`. Every byte read ends in a batch or
//! in a dead letter, with its offset. `decode` is pure.

mod record;
mod source;

pub use record::{DeadLetter, RawBatch};
pub use source::{PartitionStart, Polled, Source, SourceError};
