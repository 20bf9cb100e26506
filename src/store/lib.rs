//! Durable state: tables of bytes by key. A write is whole or absent.
//!
//! **Owns** redb. **May depend on** `domain`. Two implementations of [`Store`]: a redb file, held by one process at a
//! time, and memory, for what lives no longer than the process (demo, back-tests).

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test"))]

mod key;
mod memory;
mod redb_file;
#[cfg(test)]
mod tests;

pub use key::{prefix_end, service_time_key};
pub use memory::MemoryStore;
pub use redb_file::RedbStore;
use thiserror::Error;

/// What is kept; each has one owner that knows the form of its keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// `pipeline`: how far each pipeline has come.
    Checkpoints,
    /// `pipeline`: output that is owed since its checkpoint.
    Outbox,
    /// `features`: one row for each service and window.
    History,
    /// `controller`: its state at one moment.
    Snapshots,
    /// `controller`: decisions by service and time.
    Decisions,
    /// `controller`: attempts to act, before and after.
    Actuations,
    /// `controller`: calendar events by id.
    Events,
    /// `controller`: drift, training and promotion by service and time.
    ModelEvents,
}

/// One change: `None` deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub table: Table,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// Keys and values in key order.
pub type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// State that can't be read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error(
        "state file `{path}` is held by another process\nhint: stop the other `prescale run`, or ask it through its API"
    )]
    Locked { path: String },
    #[error("state file `{path}`: {error}\nhint: check that the disk has room and that the directory can be written")]
    File { path: String, error: String },
}

/// Tables of bytes, ordered by key.
pub trait Store: Send + Sync {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Entries with `from <= key < to`, at most `limit`; `newest_first` starts at the end of the range.
    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        newest_first: bool,
    ) -> Result<Entries, StoreError>;

    /// Applies all changes in order, or none; durable when it returns.
    fn write(&self, changes: &[Write]) -> Result<(), StoreError>;
}
