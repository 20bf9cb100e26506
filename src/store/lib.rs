//! Durable state: tables of bytes by key. A write is whole or absent.
//!
//! **Owns** redb and object_store. **May depend on** `domain`. Three implementations of [`Store`]: a redb file, held by one
//! process at a time; a prefix of a bucket, held by the process that opened it last; and memory, for what lives no longer
//! than the process (demo, back-tests). Beside them [`Objects`]: whole objects that several processes read and replace.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test"))]

mod bucket;
mod key;
mod memory;
mod objects;
mod redb_file;
#[cfg(test)]
mod tests;

pub use bucket::BucketStore;
pub use key::{prefix_end, service_time_key};
pub use memory::MemoryStore;
pub use objects::{Found, Objects};
pub use redb_file::RedbStore;
use thiserror::Error;

/// What is kept; each has one owner that knows the form of its keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// `pipeline`: how far each pipeline has come.
    Checkpoints,
    /// `pipeline`: output that is owed since its checkpoint.
    Outbox,
    /// `pipeline`: what complete panes of open windows had accumulated.
    Panes,
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
    /// Whoever follows `controller`: what would have run beside what really ran, by service and day.
    Shadow,
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
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    #[error(
        "state file `{path}` is held by another process\nhint: stop the other `prescale run`, or ask it through its API"
    )]
    Locked { path: String },
    #[error("state file `{path}`: {error}\nhint: check that the disk has room and that the directory can be written")]
    File { path: String, error: String },
    /// Another process has opened the store since: nothing of this one counts any more.
    #[error(
        "state `{place}`: another process has taken it over (as its generation {found}, this one is {own})\nhint: let one process use a place, or give each process a prefix of its own"
    )]
    Fenced { place: String, own: u64, found: u64 },
    /// May be gone by itself.
    #[error(
        "state `{place}` can't be reached: {error}\nhint: check the network, and AWS_ENDPOINT_URL where the store is not that of AWS"
    )]
    Unreachable { place: String, error: String },
    #[error(
        "state `{place}`: {error}\nhint: check the name of the bucket, AWS_REGION, the credentials in the environment and what they allow: get, put, list and delete"
    )]
    Refused { place: String, error: String },
    #[error(
        "state `{object}` is damaged: {error}\nhint: bring back an earlier version, of all objects of a prefix together, or delete them to start from the oldest record"
    )]
    Damaged { object: String, error: String },
}

impl StoreError {
    /// Whether the same write may work later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

impl Table {
    const ALL: [Self; 10] = [
        Self::Checkpoints,
        Self::Outbox,
        Self::Panes,
        Self::History,
        Self::Snapshots,
        Self::Decisions,
        Self::Actuations,
        Self::Events,
        Self::ModelEvents,
        Self::Shadow,
    ];

    /// What it is called where it lies.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Checkpoints => "checkpoints",
            Self::Outbox => "outbox",
            Self::Panes => "panes",
            Self::History => "history",
            Self::Snapshots => "snapshots",
            Self::Decisions => "decisions",
            Self::Actuations => "actuations",
            Self::Events => "events",
            Self::ModelEvents => "model_events",
            Self::Shadow => "shadow",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }
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
