//! Rows that are not what the key of their record says. Rule: where processes share a topic by key, a group is whole only if
//! all its records have that key; one that has another is told, not counted where it happens to be.

use arrow::array::{AsArray, BooleanArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::error::Result;
use prescale_ingest::RawBatch;

use super::rows::{Failure, Rows};
use crate::sql::SourceTable;

/// Which rows have the text of the table's key column as their record's key, and where that column is; `None` = all have,
/// or the table has no such column.
pub(super) fn kept(table: &SourceTable, raw: &RawBatch, rows: &Rows) -> Result<Option<(usize, BooleanArray)>> {
    let Some(place) = table.record_key.filter(|place| *place < rows.batch.num_columns()) else {
        return Ok(None);
    };
    let texts = texts(place, rows)?;
    let is_kept = |(record, text): (&u32, Option<&str>)| raw.key(*record as usize) == text.map(str::as_bytes);
    let kept: BooleanArray = rows.index.iter().zip(texts.iter()).map(is_kept).map(Some).collect();
    Ok((kept.true_count() < kept.len()).then_some((place, kept)))
}

/// What is told of the rows that are not kept.
pub(super) fn failures(place: usize, raw: &RawBatch, rows: &Rows, kept: &BooleanArray) -> Result<Vec<Failure>> {
    let schema = rows.batch.schema();
    let (column, texts) = (schema.field(place).name(), texts(place, rows)?);
    let quoted = |text: Option<&str>| text.map_or_else(|| "nothing".to_owned(), |text| format!("`{text}`"));
    let all = rows.index.iter().zip(texts.iter()).zip(kept.values());
    let gone = all.filter_map(|((record, text), kept)| (!kept).then_some((*record, text)));
    let told = gone.map(|(record, text)| {
        let key = raw.key(record as usize).map(String::from_utf8_lossy);
        (record, format!("`{column}` is {}, the record's key is {}", quoted(text), quoted(key.as_deref())))
    });
    Ok(told.collect())
}

fn texts(place: usize, rows: &Rows) -> Result<StringArray> {
    Ok(cast(rows.batch.column(place), &DataType::Utf8)?.as_string::<i32>().clone())
}
