//! Where raw records come from. Rule: a source says what it knows of each partition and never invents progress.

use prescale_domain::Span;
use thiserror::Error;

use crate::RawBatch;

/// Where to start reading a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionStart {
    pub partition: i32,
    /// The offset of the first record to read; `None` = as the source's own setting says (earliest, latest, group).
    pub offset: Option<i64>,
}

/// What one poll brought.
#[derive(Debug, Default)]
pub struct Polled {
    /// At most one batch a partition, ascending by partition.
    pub batches: Vec<RawBatch>,
    /// Partitions of the topic, all that are known now, ascending. New ones appear here while running.
    pub partitions: Vec<i32>,
    /// Partitions that have been read to the end: the high watermark at the start for a bounded source, the present one
    /// for an unbounded one.
    pub at_end: Vec<i32>,
    /// Of those of an unbounded source, the ones that hold nothing more at all, not even records of a transaction that is
    /// still open.
    pub caught_up: Vec<i32>,
    /// A bounded source: all partitions have been read to their end.
    pub ended: bool,
    /// The source can't be reached now; what it said last.
    pub unreachable: Option<String>,
}

/// A source that can't go on.
#[derive(Debug, Error)]
pub enum SourceError {
    #[error("read topic `{topic}`: {error}\nhint: {hint}")]
    Kafka { topic: String, error: String, hint: String },
    #[error(
        "topic `{topic}` partition {partition}: offsets {expected} to {found} are gone; the topic's retention dropped records that were not read yet\nhint: keep records longer, or delete the state directory to start from the earliest record"
    )]
    OffsetGap { topic: String, partition: i32, expected: i64, found: i64 },
    #[error("read `{path}`: {error}")]
    File { path: String, error: String },
}

/// Raw records by partition. Calls block; a source lives on a thread of its own.
pub trait Source: Send {
    /// Waits up to `wait` for records.
    fn poll(&mut self, wait: Span) -> Result<Polled, SourceError>;

    /// Tells the outside how far a restart would go back: for each partition the oldest offset that is still needed.
    fn commit(&mut self, oldest_needed: &[(i32, i64)]) -> Result<(), SourceError>;

    /// Does not read these partitions until it is told others; what is still under way of them may come. A source that can't
    /// do so goes on reading all.
    fn hold(&mut self, partitions: &[i32]) {
        let _all_are_read = partitions;
    }
}
