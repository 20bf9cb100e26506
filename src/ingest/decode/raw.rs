//! Whole records as the only column. Rule: nothing is trimmed or changed.

use std::sync::Arc;

use arrow::array::{ArrayRef, GenericByteArray, GenericByteBuilder, RecordBatch, RecordBatchOptions};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{BinaryType, ByteArrayType, SchemaRef, Utf8Type};

use super::{BAD_DECODE, BadRecord, Decoded, Text, Texts, frame};
use crate::RawBatch;

/// Records as text.
pub(super) fn texts(schema: &SchemaRef, raw: &RawBatch) -> Decoded {
    let records = Texts::new(raw, 0).filter_map(|(index, text)| match text {
        Text::Valid(text) => Some((index, Ok(text))),
        Text::Invalid(error) => Some((index, Err(error))),
        Text::Tombstone => None,
    });
    decode::<Utf8Type>(schema, raw, records)
}

/// Records as bytes.
pub(super) fn bytes(schema: &SchemaRef, raw: &RawBatch) -> Decoded {
    decode::<BinaryType>(schema, raw, frame::records(raw))
}

/// `records` are those of `raw` one by one, for where they can't be copied all together.
fn decode<'a, T: ByteArrayType<Offset = i32>>(
    schema: &SchemaRef,
    raw: &RawBatch,
    records: impl Iterator<Item = (u32, Result<&'a T::Native, String>)>,
) -> Decoded
where
    T::Native: AsRef<T::Native> + 'a,
{
    let (column, rows, bad) = match whole::<T>(raw) {
        Some(column) => (column, (0..).take(raw.len()).collect(), Vec::new()),
        None => one_by_one(raw, records),
    };
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let batch = RecordBatch::try_new_with_options(schema.clone(), vec![Arc::new(column) as ArrayRef], &options)
        .expect("the schema was checked to be one column of this type, and the column has no nulls");
    Decoded { batch, rows, bad, tombstones: raw.tombstones.len() }
}

/// All payloads in one copy, where each is sound.
fn whole<T: ByteArrayType<Offset = i32>>(raw: &RawBatch) -> Option<GenericByteArray<T>> {
    if !raw.tombstones.is_empty() {
        return None;
    }
    i32::try_from(raw.payload.len()).ok()?;
    let mut offsets = Vec::with_capacity(raw.len() + 1);
    offsets.push(0);
    offsets.extend(raw.ends.iter().map(|end| *end as i32));
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    // Checks of texts that they are UTF-8 and that no offset is inside a character.
    GenericByteArray::try_new(offsets, Buffer::from(raw.payload.as_slice()), None).ok()
}

fn one_by_one<'a, T: ByteArrayType<Offset = i32>>(
    raw: &RawBatch,
    records: impl Iterator<Item = (u32, Result<&'a T::Native, String>)>,
) -> (GenericByteArray<T>, Vec<u32>, Vec<BadRecord>)
where
    T::Native: AsRef<T::Native> + 'a,
{
    let mut column = GenericByteBuilder::with_capacity(raw.len(), raw.payload.len());
    let (mut rows, mut bad) = (Vec::with_capacity(raw.len()), Vec::new());
    for (index, record) in records {
        match record {
            Ok(record) => {
                column.append_value(record);
                rows.push(index);
            }
            Err(error) => bad.push(BadRecord { index, reason: BAD_DECODE, error }),
        }
    }
    (column.finish(), rows, bad)
}
