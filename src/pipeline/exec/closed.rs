//! From the aggregations of one window to its rows for the sink. Rule: all of it depends on that window's rows alone.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datafusion::error::Result;

use super::rows::{Failure, Rows};
use super::{join, number, pane};
use crate::sql::{Closed, RowNumber, Step};

/// A complete window: `batches` are what each input's aggregation holds.
pub(crate) struct Window<'a> {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) batches: &'a [RecordBatch],
}

/// The rows of a window; those that could not be evaluated are added to `failures`.
pub(crate) fn rows(
    plan: &Closed,
    window: &Window<'_>,
    ids: &mut Vec<usize>,
    failures: &mut Vec<Failure>,
) -> Result<RecordBatch> {
    Ok(match plan {
        Closed::Input(input) => match window.batches.get(*input) {
            Some(batch) => batch.clone(),
            None => return datafusion::common::exec_err!("a window lacks its input {input}"),
        },
        Closed::Steps(from, steps) => {
            let mut rows = Rows::all(self::rows(from, window, ids, failures)?);
            for step in steps {
                failures.extend(match step {
                    Step::Rows(stage) => rows.run(stage)?.1,
                    Step::Aggregate(plan) => pane::aggregate(&mut rows, plan, (window.start, window.end), ids)?,
                    Step::RowNumber(plan) => numbered(&mut rows, plan)?,
                });
            }
            rows.batch
        }
        Closed::Join(plan) => {
            let left = self::rows(&plan.left, window, ids, failures)?;
            let right = self::rows(&plan.right, window, ids, failures)?;
            join::join(plan, &left, &right)?
        }
        Closed::Union(parts, schema) => {
            let mut batches = Vec::with_capacity(parts.len());
            for part in parts {
                let batch = self::rows(part, window, ids, failures)?;
                batches.push(super::rows::new_batch(schema, batch.columns().to_vec(), batch.num_rows())?);
            }
            concat_batches(schema, &batches)?
        }
    })
}

/// Numbers the rows; those for which that fails are taken out before.
fn numbered(rows: &mut Rows, plan: &RowNumber) -> Result<Vec<Failure>> {
    if let Ok(batch) = number::number(plan, &rows.batch) {
        rows.batch = batch;
        return Ok(Vec::new());
    }
    let schema = rows.batch.schema();
    let failures = rows.map(&schema, &|batch| number::number(plan, batch).map(|_| batch.clone()))?;
    rows.batch = number::number(plan, &rows.batch)?;
    Ok(failures)
}
