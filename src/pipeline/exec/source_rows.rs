//! From decoded payloads to the rows that the query sees. Rule: generated columns before event time, event time before
//! the watermark, the watermark before any filter.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::is_not_null;
use arrow::datatypes::{DataType, Schema, SchemaRef, TimestampNanosecondType};
use datafusion::error::Result;
use prescale_ingest::RawBatch;

use super::future;
use super::record_key;
use super::rows::{Failure, Rows, new_batch};
use crate::sql::SourceTable;

/// Rows of the source table, with their times.
pub(crate) struct SourceRows {
    /// Columns as the query sees them.
    pub(crate) rows: Rows,
    /// Event time in nanoseconds, by row.
    pub(crate) times: Vec<i64>,
    /// The watermark that each row proposes, by row.
    pub(crate) watermarks: Vec<i64>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) null_times: Vec<u32>,
    /// Rows of the far future, which are not among `rows`.
    pub(crate) future: Vec<Failure>,
    /// Rows that are not what their record's key says, which are not among `rows` either.
    pub(crate) strange: Vec<Failure>,
}

/// The schemas that evaluation passes through, made once.
#[derive(Debug)]
pub(crate) struct SourceStep {
    prefixes: Vec<SchemaRef>,
}

impl SourceStep {
    pub(crate) fn new(table: &SourceTable) -> Self {
        let stored = table.payload.fields().len() + table.metadata.len();
        let prefix = |length: usize| Arc::new(Schema::new(table.internal.fields()[..length].to_vec()));
        Self { prefixes: (stored..=stored + table.computed.len()).map(prefix).collect() }
    }

    /// Evaluates generated columns, event time and watermark over `payload`, whose row i is record `index[i]` of `raw`.
    pub(crate) fn rows(
        &self,
        table: &SourceTable,
        raw: &RawBatch,
        payload: RecordBatch,
        index: Vec<u32>,
    ) -> Result<SourceRows> {
        let mut columns = payload.columns().to_vec();
        columns.extend(table.metadata.iter().map(|(field, kind)| kind.column(raw, &index, field.data_type())));
        let stored = new_batch(&self.prefixes[0], columns, payload.num_rows())?;
        let mut rows = Rows { batch: stored, index };
        let mut failures = rows.map(&table.internal, &|batch| self.evaluate(table, batch))?;
        // A row without an event time is told as such below.
        let computed = table.computed.iter().map(|c| ("generated", &c.field, !c.is_event_time));
        let beside = table.metadata.iter().map(|(field, _)| ("metadata", field, true)).chain(computed);
        for (column, (origin, field, checked)) in (table.payload.fields().len()..).zip(beside) {
            let column = rows.batch.column(column);
            if checked && !field.is_nullable() && column.null_count() > 0 {
                let gone = rows.keep(&is_not_null(column)?)?;
                let error = format!("{origin} column `{}` is NULL, declared NOT NULL", field.name());
                failures.extend(gone.into_iter().map(|record| (record, error.clone())));
            }
        }
        let mut times = table.event_time.evaluate(&rows.batch)?.into_array(rows.batch.num_rows())?;
        let mut null_times = Vec::new();
        if times.null_count() > 0 {
            null_times = rows.keep(&is_not_null(&times)?)?;
            times = table.event_time.evaluate(&rows.batch)?.into_array(rows.batch.num_rows())?;
        }
        let watermark = |rows: &Rows| nanos(rows.batch.column(rows.batch.num_columns() - 1));
        let (mut times, mut watermarks, mut future) = (nanos(&times), watermark(&rows), Vec::new());
        if let Some(limit) = table.options.max_future_millis
            && let Some(kept) = future::kept(limit, raw, &rows.index, &times, &watermarks)
        {
            future = future::failures(limit, raw, &rows.index, &times, &kept);
            rows.keep(&kept)?;
            times = filtered(&times, &kept);
            watermarks = filtered(&watermarks, &kept);
        }
        rows.batch = rows.batch.project(&table.visible)?;
        let mut strange = Vec::new();
        if let Some((place, kept)) = record_key::kept(table, raw, &rows)? {
            strange = record_key::failures(place, raw, &rows, &kept)?;
            rows.keep(&kept)?;
            times = filtered(&times, &kept);
            watermarks = filtered(&watermarks, &kept);
        }
        Ok(SourceRows { rows, times, watermarks, failures, null_times, future, strange })
    }

    fn evaluate(&self, table: &SourceTable, stored: &RecordBatch) -> Result<RecordBatch> {
        let mut batch = stored.clone();
        let mut columns = stored.columns().to_vec();
        for (computed, schema) in table.computed.iter().zip(&self.prefixes[1..]) {
            columns.push(computed.expr.evaluate(&batch)?.into_array(batch.num_rows())?);
            batch = new_batch(schema, columns.clone(), stored.num_rows())?;
        }
        columns.push(table.watermark.evaluate(&batch)?.into_array(batch.num_rows())?);
        // Event time may fail to fit into nanoseconds: find it out here, where rows are isolated.
        table.event_time.evaluate(&batch)?;
        new_batch(&table.internal, columns, stored.num_rows())
    }
}

fn filtered(values: &[i64], kept: &BooleanArray) -> Vec<i64> {
    values.iter().zip(kept.values()).filter_map(|(value, kept)| kept.then_some(*value)).collect()
}

/// The values of a timestamp column; a null proposes nothing.
fn nanos(array: &ArrayRef) -> Vec<i64> {
    debug_assert!(matches!(array.data_type(), DataType::Timestamp(..)));
    let array = array.as_primitive::<TimestampNanosecondType>();
    if array.null_count() == 0 {
        return array.values().to_vec();
    }
    array.iter().map(|value| value.unwrap_or(i64::MIN)).collect()
}
