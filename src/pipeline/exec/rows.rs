//! Evaluation that isolates failing rows. Rule: whether a row fails depends on the row alone.

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, prep_null_mask_filter, take};
use arrow::datatypes::SchemaRef;
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};

use crate::error::one_line;
use crate::sql::Stage;

/// Rows on their way, and which record of the raw batch each came from.
#[derive(Clone)]
pub(crate) struct Rows {
    pub(crate) batch: RecordBatch,
    pub(crate) index: Vec<u32>,
}

/// A row that could not be evaluated: its record, and why.
pub(crate) type Failure = (u32, String);

impl Rows {
    /// All rows of a batch, each its own record.
    pub(crate) fn all(batch: RecordBatch) -> Self {
        let index = (0..u32::try_from(batch.num_rows()).unwrap_or(u32::MAX)).collect();
        Self { batch, index }
    }

    /// All rows of branches that began with the same records: by record, then by branch.
    pub(crate) fn union(branches: &[Self]) -> Result<Self> {
        let Some(first) = branches.first() else { return exec_err!("a union has no branch") };
        let batch = concat_batches(&first.batch.schema(), branches.iter().map(|branch| &branch.batch))?;
        let records: Vec<u32> = branches.iter().flat_map(|branch| &branch.index).copied().collect();
        let mut positions: Vec<u32> = (0..).zip(&records).map(|(at, _)| at).collect();
        positions.sort_by_key(|at| records[*at as usize]);
        let index = positions.iter().map(|at| records[*at as usize]).collect();
        let positions = UInt32Array::from(positions);
        let columns = take_all(batch.columns(), &positions)?;
        Ok(Self { batch: new_batch(&batch.schema(), columns, positions.len())?, index })
    }

    /// Takes out the rows of some records.
    pub(crate) fn without(&mut self, gone: &BTreeSet<u32>) -> Result<()> {
        let kept: BooleanArray = self.index.iter().map(|record| Some(!gone.contains(record))).collect();
        self.keep(&kept).map(drop)
    }

    /// Replaces the columns by what `evaluate` makes of them; rows for which it fails are taken out and returned.
    pub(crate) fn map(
        &mut self,
        schema: &SchemaRef,
        evaluate: &dyn Fn(&RecordBatch) -> Result<RecordBatch>,
    ) -> Result<Vec<Failure>> {
        match evaluate(&self.batch) {
            Ok(batch) => {
                self.batch = batch;
                return Ok(Vec::new());
            }
            Err(error) if self.batch.num_rows() == 0 => return Err(error),
            Err(_) => {}
        }
        let (mut parts, mut kept, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        bisect(&self.batch, 0, evaluate, &mut |from, outcome| match outcome {
            Ok(batch) => {
                kept.extend_from_slice(&self.index[from..from + batch.num_rows()]);
                parts.push(batch);
            }
            Err(error) => failures.push((self.index[from], one_line(&error))),
        });
        self.batch = concat_batches(schema, &parts)?;
        self.index = kept;
        Ok(failures)
    }

    /// Keeps the rows for which `mask` is true (null is false) and says how many went.
    pub(crate) fn keep(&mut self, mask: &BooleanArray) -> Result<Vec<u32>> {
        let mask = if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() };
        if mask.true_count() == mask.len() {
            return Ok(Vec::new());
        }
        self.batch = filter_record_batch(&self.batch, &mask)?;
        let (mut kept, mut gone) = (Vec::with_capacity(self.batch.num_rows()), Vec::new());
        for (&record, keep) in self.index.iter().zip(mask.values()) {
            if keep { kept.push(record) } else { gone.push(record) }
        }
        self.index = kept;
        Ok(gone)
    }

    /// Runs one stage; returns the filtered records and the failures.
    pub(crate) fn run(&mut self, stage: &Stage) -> Result<(Vec<u32>, Vec<Failure>)> {
        match stage {
            Stage::Project { exprs, schema } => {
                let failures = self.map(schema, &|batch| {
                    let columns = exprs.iter().map(|expr| expr.evaluate(batch)?.into_array(batch.num_rows()));
                    new_batch(schema, columns.collect::<Result<_>>()?, batch.num_rows())
                })?;
                Ok((Vec::new(), failures))
            }
            Stage::Filter(predicate) => {
                let mask_of = |batch: &RecordBatch| predicate.evaluate(batch)?.into_array(batch.num_rows());
                if let Ok(mask) = mask_of(&self.batch) {
                    return Ok((self.keep(mask.as_boolean())?, Vec::new()));
                }
                // First take out the rows for which it fails, then ask again.
                let schema = self.batch.schema();
                let failures = self.map(&schema, &|batch| mask_of(batch).map(|_| batch.clone()))?;
                let mask = mask_of(&self.batch)?;
                Ok((self.keep(mask.as_boolean())?, failures))
            }
        }
    }
}

/// A batch that may have no columns.
pub(crate) fn new_batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// The rows of `arrays` at `positions`.
pub(crate) fn take_all(arrays: &[ArrayRef], positions: &UInt32Array) -> Result<Vec<ArrayRef>> {
    arrays.iter().map(|array| Ok(take(array, positions, None)?)).collect()
}

type Outcome<'a> = &'a mut dyn FnMut(usize, std::result::Result<RecordBatch, DataFusionError>);

/// Halves a batch that failed until each failing row stands alone; `outcome` is told of the parts in order.
fn bisect(
    batch: &RecordBatch,
    from: usize,
    evaluate: &dyn Fn(&RecordBatch) -> Result<RecordBatch>,
    outcome: Outcome<'_>,
) {
    let rows = batch.num_rows();
    if rows == 0 {
        return;
    }
    if rows > 1 {
        let half = rows / 2;
        for (start, length) in [(0, half), (half, rows - half)] {
            let part = batch.slice(start, length);
            match evaluate(&part) {
                Ok(done) => outcome(from + start, Ok(done)),
                Err(error) if length == 1 => outcome(from + start, Err(error)),
                Err(_) => bisect(&part, from + start, evaluate, outcome),
            }
        }
    } else {
        outcome(from, evaluate(batch));
    }
}
