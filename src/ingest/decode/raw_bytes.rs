//! Whole records as bytes. Rule: nothing is looked at or changed.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::SchemaRef;

use super::{BAD_DECODE, BadRecord, Decoded, frame};
use crate::RawBatch;

pub(super) fn decode(schema: &SchemaRef, raw: &RawBatch) -> Decoded {
    let (column, rows, bad) = match whole(raw) {
        Some(column) => (column, (0..).take(raw.len()).collect(), Vec::new()),
        None => one_by_one(raw),
    };
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let batch = RecordBatch::try_new_with_options(schema.clone(), vec![Arc::new(column) as ArrayRef], &options)
        .expect("the schema was checked to be one column of bytes, and the column has no nulls");
    Decoded { batch, rows, bad, tombstones: raw.tombstones.len() }
}

/// All payloads in one copy.
fn whole(raw: &RawBatch) -> Option<BinaryArray> {
    if !raw.tombstones.is_empty() {
        return None;
    }
    i32::try_from(raw.payload.len()).ok()?;
    let mut offsets = Vec::with_capacity(raw.len() + 1);
    offsets.push(0);
    offsets.extend(raw.ends.iter().map(|end| *end as i32));
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    BinaryArray::try_new(offsets, Buffer::from(raw.payload.as_slice()), None).ok()
}

fn one_by_one(raw: &RawBatch) -> (BinaryArray, Vec<u32>, Vec<BadRecord>) {
    let (mut rows, mut bad) = (Vec::with_capacity(raw.len()), Vec::new());
    let sound = frame::records(raw).filter_map(|(index, bytes)| match bytes {
        Ok(bytes) => {
            rows.push(index);
            Some(bytes)
        }
        Err(error) => {
            bad.push(BadRecord { index, reason: BAD_DECODE, error });
            None
        }
    });
    let column = BinaryArray::from_iter_values(sound);
    (column, rows, bad)
}
