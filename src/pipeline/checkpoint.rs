//! How far a pipeline has come. Rule: a restart from a checkpoint writes the same bytes as a run without one.

use std::collections::BTreeMap;

use prescale_domain::Timestamp;
use prescale_ingest::PartitionStart;
use prescale_store::{Store, Table, Write};
use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::engine::to_millis;
use crate::silence::Silence;
use crate::stored::StoredPane;
use crate::watermark::{ENDED, UNSTARTED};

/// Rows by their fate. Conservation law: `read = windowed + filtered + late + future + decode + expression +
/// null_event_time + key`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Records with a payload.
    pub read: u64,
    pub windowed: u64,
    pub filtered: u64,
    pub late: u64,
    /// Rows whose event time is too far after the timestamp of their record.
    #[serde(default)]
    pub future: u64,
    pub decode: u64,
    pub expression: u64,
    pub null_event_time: u64,
    /// Rows that are not what their record's key says.
    #[serde(default)]
    pub key: u64,
    /// Records without a payload; not counted as read.
    pub tombstones: u64,
    /// Rows written to the sink.
    pub rows_out: u64,
    /// Rows of closed windows that could not be written; see the dead letters.
    pub rows_failed: u64,
}

/// One source partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionCheckpoint {
    /// The first offset not processed yet.
    pub next: i64,
    /// The partition's watermark at `next`, in nanoseconds.
    pub watermark: i64,
    /// The first offset that an open window needs and that is in no stored pane; `next` when none is.
    pub oldest: i64,
    /// The partition's watermark just before the row at `oldest`.
    pub oldest_watermark: i64,
    /// Both watermarks by the partition's rows alone; only where panes are cut into segments by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_own: Option<i64>,
    /// The first offset that an open window needs, where that is before `oldest`: for whoever starts without the stored panes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<i64>,
}

/// One source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCheckpoint {
    pub partitions: BTreeMap<i32, PartitionCheckpoint>,
    /// By partition: the offsets, after its oldest needed one, before which its watermark was lifted to a value in
    /// nanoseconds by others' rows, because it had fallen idle.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lifts: BTreeMap<i32, Vec<(i64, i64)>>,
}

/// All that a restart needs beside the sources themselves; written once for each epoch, with its output or after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Of the plan that wrote it.
    pub fingerprint: String,
    /// The query watermark in nanoseconds.
    pub watermark: i64,
    /// The last watermark that was told downstream.
    pub told: Option<i64>,
    /// The end of the last window that had a row.
    pub last_end: Option<i64>,
    pub silence: Silence,
    /// By table.
    pub sources: BTreeMap<String, SourceCheckpoint>,
    pub counters: Counters,
    /// What the state store has of the panes of open windows; `None` = nothing, and `oldest` reaches back to their first
    /// rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panes: Option<Vec<StoredPane>>,
}

impl Counters {
    /// All rows that were read, by what became of them.
    pub(crate) fn by_fate(&self) -> [(&'static str, u64); 8] {
        [
            ("windowed", self.windowed),
            ("filtered", self.filtered),
            ("late", self.late),
            ("future", self.future),
            ("decode", self.decode),
            ("expression", self.expression),
            ("null_event_time", self.null_event_time),
            ("key", self.key),
        ]
    }

    pub fn bad(&self) -> u64 {
        self.decode + self.expression + self.null_event_time + self.key
    }

    /// Counts the rows of another share too.
    pub(crate) fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.windowed += other.windowed;
        self.filtered += other.filtered;
        self.late += other.late;
        self.future += other.future;
        self.decode += other.decode;
        self.expression += other.expression;
        self.null_event_time += other.null_event_time;
        self.key += other.key;
        self.tombstones += other.tombstones;
        self.rows_out += other.rows_out;
        self.rows_failed += other.rows_failed;
    }

    /// Whether no row was lost or counted twice.
    pub fn is_conserved(&self) -> bool {
        self.read == self.windowed + self.filtered + self.late + self.future + self.bad()
    }
}

impl Checkpoint {
    /// The query watermark with which a run goes on. A bounded input that was read to its end may have got more since: what
    /// it wrote stays written, and the windows after that are open.
    pub(crate) fn goes_on_at(&self) -> i64 {
        if self.watermark == ENDED { self.last_end.unwrap_or(UNSTARTED) } else { self.watermark }
    }

    /// Where the source of a table must start so that no open window lacks a row.
    pub fn starts(&self, table: &str) -> Vec<PartitionStart> {
        let partitions = self.sources.get(table).into_iter().flat_map(|source| &source.partitions);
        partitions.map(|(&partition, at)| PartitionStart { partition, offset: Some(at.oldest) }).collect()
    }

    /// The checkpoint of `pipeline`, if it ever wrote one.
    pub fn load(store: &dyn Store, pipeline: &str) -> Result<Option<Self>, PipelineError> {
        let Some(bytes) = store.get(Table::Checkpoints, pipeline.as_bytes())? else { return Ok(None) };
        let read = serde_json::from_slice(&bytes);
        read.map(Some)
            .map_err(|error| PipelineError::Checkpoint { pipeline: pipeline.to_owned(), error: error.to_string() })
    }

    /// The watermark that was told downstream; the beginning of time before any was.
    pub(crate) fn told(&self) -> Timestamp {
        to_millis(self.told.unwrap_or(UNSTARTED))
    }

    /// The change that records it.
    pub(crate) fn write(&self, pipeline: &str) -> Result<Write, PipelineError> {
        let value = serde_json::to_vec(self)
            .map_err(|error| PipelineError::Checkpoint { pipeline: pipeline.to_owned(), error: error.to_string() })?;
        Ok(Write { table: Table::Checkpoints, key: pipeline.as_bytes().to_vec(), value: Some(value) })
    }
}
