//! Bytes in and out: Kafka and file sources and sinks, the embedded broker, decoding to Arrow, dead letters.
//!
//! **Owns** rdkafka and the record decoders. **May depend on** `domain`, `telemetry`. Every byte read ends in a batch or
//! in a dead letter, with its offset. `decode` is pure.
//!
//! - [`Source`] is what a pipeline reads: [`kafka::KafkaSource`] (a topic, all partitions or one assigned by
//!   hand, bounded or endless) and [`file::FileSource`] (lines of files, each file a partition).
//! - [`kafka::KafkaSink`] is what it writes to: enqueue without waiting, then `flush`, which returns when the broker has
//!   acknowledged everything. [`kafka::TransactionalSink`] writes whole transactions, all of one or nothing.
//! - [`kafka::Group`] is membership of a consumer group: it says which partitions are this process's, and reads none.
//! - [`decode::Decoder`] turns a [`RawBatch`] into an Arrow batch and names each record that could not be used.
//! - [`event_minutes::EventMinutes`] is the calendar of events as rows that a pipeline can join, minute by minute.
//! - [`history`] reads histories from files and from Prometheus.
//! - [`feed`] reads calendars of events that come as files, and knows public holidays.
//! - [`registry::Registry`] is where writer schemas come from that records name by id; the decoder says which it lacks.
//! - [`embedded::EmbeddedBroker`] is a broker inside the process, for the demo and for tests.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod calendar;
pub mod decode;
pub mod embedded;
pub mod event_minutes;
pub mod feed;
pub mod file;
pub mod history;
pub mod kafka;
mod record;
pub mod registry;
mod source;

pub use calendar::CalendarMessage;
pub use record::{DeadLetter, OutRecord, RawBatch};
pub use source::{PartitionStart, Polled, Source, SourceError};
