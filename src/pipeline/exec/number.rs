//! `ROW_NUMBER` over the rows of one window. Rule: among equals in their order, the row that came first is first.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{SortColumn, lexsort_to_indices, partition};
use datafusion::error::Result;

use super::rows::{new_batch, take_all};
use crate::sql::RowNumber;

/// The rows in their order, with their number as one more column.
pub(crate) fn number(plan: &RowNumber, batch: &RecordBatch) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let mut columns = batch.columns().to_vec();
    let mut groups = Vec::with_capacity(plan.partition.len());
    for expr in &plan.partition {
        groups.push(expr.evaluate(batch)?.into_array(rows)?);
    }
    let mut sort: Vec<SortColumn> =
        groups.iter().map(|values| SortColumn { values: values.clone(), options: None }).collect();
    for (expr, options) in &plan.order {
        let values = expr.evaluate(batch)?.into_array(rows)?;
        sort.push(SortColumn { values, options: Some(*options) });
    }
    let places = UInt32Array::from_iter_values(0..u32::try_from(rows).unwrap_or(u32::MAX));
    sort.push(SortColumn { values: Arc::new(places), options: None });
    let order = lexsort_to_indices(&sort, None)?;
    let ranges = if groups.is_empty() {
        std::iter::once(0..rows).collect()
    } else {
        partition(&take_all(&groups, &order)?)?.ranges()
    };
    let mut numbers = vec![0; rows];
    for range in ranges {
        for (number, at) in (1..).zip(range) {
            numbers[order.value(at) as usize] = number;
        }
    }
    columns.push(Arc::new(UInt64Array::from(numbers)) as ArrayRef);
    new_batch(&plan.schema, columns, rows)
}
