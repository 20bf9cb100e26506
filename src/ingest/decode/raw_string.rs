//! Whole records as text. Rule: nothing is trimmed or changed.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, StringBuilder};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::SchemaRef;

use super::{BAD_DECODE, BadRecord, Decoded, Text, Texts};
use crate::RawBatch;

pub(super) fn decode(schema: &SchemaRef, raw: &RawBatch) -> Decoded {
    let (column, rows, bad) = match whole(raw) {
        Some(column) => (column, (0..).take(raw.len()).collect(), Vec::new()),
        None => one_by_one(raw),
    };
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let batch = RecordBatch::try_new_with_options(schema.clone(), vec![Arc::new(column) as ArrayRef], &options)
        .expect("the schema was checked to be one text column, and the column has no nulls");
    Decoded { batch, rows, bad, tombstones: raw.tombstones.len() }
}

/// All payloads in one copy, where every record is text.
fn whole(raw: &RawBatch) -> Option<StringArray> {
    if !raw.tombstones.is_empty() {
        return None;
    }
    i32::try_from(raw.payload.len()).ok()?;
    let mut offsets = Vec::with_capacity(raw.len() + 1);
    offsets.push(0);
    offsets.extend(raw.ends.iter().map(|end| *end as i32));
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    // Checks that the text is UTF-8 and that no offset is inside a character.
    StringArray::try_new(offsets, Buffer::from(raw.payload.as_slice()), None).ok()
}

fn one_by_one(raw: &RawBatch) -> (StringArray, Vec<u32>, Vec<BadRecord>) {
    let mut column = StringBuilder::with_capacity(raw.len(), raw.payload.len());
    let (mut rows, mut bad) = (Vec::with_capacity(raw.len()), Vec::new());
    for (index, text) in Texts::new(raw, 0) {
        match text {
            Text::Valid(text) => {
                column.append_value(text);
                rows.push(index);
            }
            Text::Invalid(error) => bad.push(BadRecord { index, reason: BAD_DECODE, error }),
            Text::Tombstone => {}
        }
    }
    (column.finish(), rows, bad)
}
