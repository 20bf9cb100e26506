//! What complete panes had accumulated, as it lies in the state store. Rule: what comes back is what was stored, by the same
//! plan and for the same place, or an error; nothing is guessed. Why it is so: `docs/designs/0013-stored-panes.md`.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::error::Result;
use prescale_store::{Store, StoreError, Table, Write, prefix_end};
use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::exec::groups::Partial;
use crate::partition::PartitionId;
use crate::sql::Aggregation;

/// First byte of what is stored; counts the forms.
const FORMAT: u8 = 1;
const HASH: usize = blake3::OUT_LEN;
/// Entries that are deleted at once.
const MANY: usize = 64;

/// Which part of a plan's state it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) input: usize,
    pub(crate) pane: i64,
    /// One partition's rows of one segment of the pane; `None` = all of the pane.
    pub(crate) segment: Option<(PartitionId, u32)>,
}

/// All that a checkpoint says to be stored of a pane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPane {
    /// Its input's place in the plan.
    pub input: usize,
    /// Its start, in nanoseconds.
    pub pane: i64,
    /// What is stored of a pane that is not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<StoredPart>,
}

/// What is stored of one partition's rows in a pane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPart {
    /// The place of its source in the plan.
    pub source: usize,
    pub partition: i32,
    /// Bit n stands for segment n.
    pub segments: u64,
}

/// A change to what is stored.
pub(crate) struct Change {
    pub(crate) place: Place,
    /// `None` = it is needed no more.
    pub(crate) content: Option<Content>,
}

/// What the groups of a pane had accumulated.
#[derive(Clone)]
pub(crate) struct Content {
    pub(crate) partial: Arc<Partial>,
    /// The first and the last moment of each group; only of sessions.
    pub(crate) spans: Arc<Vec<(i64, i64)>>,
    /// The offset of each partition's first row in it.
    pub(crate) firsts: Vec<(PartitionId, i64)>,
}

/// Where the panes of one pipeline are.
pub(crate) struct StoredPanes<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) pipeline: &'a str,
}

impl Content {
    /// Of a pane of windows that are no sessions.
    pub(crate) fn of(partial: Arc<Partial>, firsts: Vec<(PartitionId, i64)>) -> Self {
        Self { partial, spans: Arc::default(), firsts }
    }
}

impl StoredPane {
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        let Self { input, pane, part } = *self;
        let whole = part.is_none().then_some(Place { input, pane, segment: None });
        let segments = part.into_iter().flat_map(move |part| {
            let is_stored = move |segment: &u32| part.segments & (1 << segment) != 0;
            let place = move |segment| Place { input, pane, segment: Some(((part.source, part.partition), segment)) };
            (0..u64::BITS).filter(is_stored).map(place)
        });
        whole.into_iter().chain(segments)
    }
}

impl Place {
    /// `<pipeline> 0x00 <input> <pane> [<source> <partition> <segment>]`, numbers big-endian: panes sort by their time.
    fn key(&self, pipeline: &str) -> Vec<u8> {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes();
        let mut key = prefix(pipeline);
        key.extend_from_slice(&number(self.input));
        key.extend_from_slice(&(self.pane ^ i64::MIN).to_be_bytes());
        if let Some(((source, partition), segment)) = self.segment {
            key.extend_from_slice(&number(source));
            key.extend_from_slice(&partition.to_be_bytes());
            key.extend_from_slice(&segment.to_be_bytes());
        }
        key
    }
}

fn prefix(pipeline: &str) -> Vec<u8> {
    let mut prefix = pipeline.as_bytes().to_vec();
    prefix.push(0);
    prefix
}

impl StoredPanes<'_> {
    /// What is stored at a place.
    pub(crate) fn load(
        &self,
        place: &Place,
        aggregation: &Aggregation,
        fingerprint: &str,
    ) -> Result<Content, PipelineError> {
        let key = place.key(self.pipeline);
        let fault = |error: &str| PipelineError::Checkpoint {
            pipeline: self.pipeline.to_owned(),
            error: format!("the state of its pane at {} ns {error}", place.pane),
        };
        let bytes = self.store.get(Table::Panes, &key)?.ok_or_else(|| fault("is missing"))?;
        let body = match bytes.split_first() {
            Some((&FORMAT, rest)) => match rest.split_first_chunk::<HASH>() {
                Some((found, body)) if *found == hash(&key, fingerprint, body) => body,
                _ => return Err(fault("is damaged: its bytes are not those that were written")),
            },
            _ => return Err(fault("is in no form that this version knows")),
        };
        let content = decode(aggregation, body).map_err(|error| fault(&format!("can't be read: {error}")))?;
        content.ok_or_else(|| fault("is not that of the plan's aggregates"))
    }

    /// The change to the state store.
    pub(crate) fn write(&self, change: &Change, fingerprint: &str) -> Result<Write, PipelineError> {
        let key = change.place.key(self.pipeline);
        let value = match &change.content {
            None => None,
            Some(content) => {
                let body = encode(content)?;
                let mut value = vec![FORMAT];
                value.extend_from_slice(&hash(&key, fingerprint, &body));
                value.extend_from_slice(&body);
                Some(value)
            }
        };
        Ok(Write { table: Table::Panes, key, value })
    }

    /// Deletes what a pipeline without a checkpoint may have left.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        let (from, to) = (prefix(self.pipeline), prefix_end(&prefix(self.pipeline)));
        loop {
            let left = self.store.range(Table::Panes, &from, &to, MANY, false)?;
            if left.is_empty() {
                return Ok(());
            }
            let gone = left.into_iter().map(|(key, _)| Write { table: Table::Panes, key, value: None });
            self.store.write(&gone.collect::<Vec<_>>())?;
        }
    }
}

/// Ties bytes to their place and their plan.
fn hash(key: &[u8], fingerprint: &str, body: &[u8]) -> [u8; HASH] {
    let mut hasher = blake3::Hasher::new();
    for part in [key, fingerprint.as_bytes(), body] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// The number of first rows, these, then keys, states by aggregate, and spans, as one batch in Arrow's IPC stream.
fn encode(content: &Content) -> Result<Vec<u8>> {
    let Content { partial, spans, firsts } = content;
    let mut columns = partial.keys.clone();
    columns.extend(partial.states.iter().flatten().cloned());
    if !spans.is_empty() {
        columns.push(Arc::new(Int64Array::from_iter_values(spans.iter().map(|span| span.0))));
        columns.push(Arc::new(Int64Array::from_iter_values(spans.iter().map(|span| span.1))));
    }
    let fields = columns.iter().enumerate();
    let fields = fields.map(|(at, column)| Field::new(format!("c{at}"), column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let options = RecordBatchOptions::new().with_row_count(Some(partial.count));
    let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
    let mut bytes = (firsts.len() as u64).to_le_bytes().to_vec();
    for ((source, partition), offset) in firsts {
        bytes.extend_from_slice(&(*source as u64).to_le_bytes());
        bytes.extend_from_slice(&partition.to_le_bytes());
        bytes.extend_from_slice(&offset.to_le_bytes());
    }
    let mut writer = StreamWriter::try_new(&mut bytes, &schema)?;
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

/// `None` when the columns are not those of the aggregation.
fn decode(aggregation: &Aggregation, bytes: &[u8]) -> Result<Option<Content>> {
    let mut bytes = bytes;
    let Some(firsts) = decode_firsts(&mut bytes) else { return Ok(None) };
    let mut reader = StreamReader::try_new(bytes, None)?;
    let Some(batch) = reader.next().transpose()? else { return Ok(None) };
    let (count, mut columns) = (batch.num_rows(), batch.columns().iter().cloned());
    // An accumulator takes the types of its state for granted.
    let mut take = |kind: &DataType| columns.next().filter(|column| column.data_type().equals_datatype(kind));
    let mut keys = Vec::new();
    for kind in aggregation.key_types() {
        let Some(key) = take(&kind) else { return Ok(None) };
        keys.push(key);
    }
    let mut states = Vec::with_capacity(aggregation.aggregates.len());
    for aggregate in &aggregation.aggregates {
        let mut state: Vec<ArrayRef> = Vec::new();
        if aggregate.shares.is_none() {
            for field in aggregate.function.state_fields()? {
                let Some(column) = take(field.data_type()) else { return Ok(None) };
                state.push(column);
            }
        }
        states.push(state);
    }
    let spans = match (columns.next(), columns.next(), columns.next()) {
        (None, None, None) => Vec::new(),
        (Some(starts), Some(ends), None) => {
            let (starts, ends) = (starts.as_primitive_opt::<Int64Type>(), ends.as_primitive_opt::<Int64Type>());
            let (Some(starts), Some(ends)) = (starts, ends) else { return Ok(None) };
            starts.values().iter().copied().zip(ends.values().iter().copied()).collect()
        }
        _ => return Ok(None),
    };
    Ok(Some(Content { partial: Arc::new(Partial::new(keys, states, count)), spans: Arc::new(spans), firsts }))
}

fn decode_firsts(bytes: &mut &[u8]) -> Option<Vec<(PartitionId, i64)>> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (taken, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*taken)
    }
    let first = |bytes: &mut &[u8]| {
        let source = usize::try_from(u64::from_le_bytes(take(bytes)?)).ok()?;
        Some(((source, i32::from_le_bytes(take(bytes)?)), i64::from_le_bytes(take(bytes)?)))
    };
    (0..u64::from_le_bytes(take(bytes)?)).map(|_| first(bytes)).collect()
}
