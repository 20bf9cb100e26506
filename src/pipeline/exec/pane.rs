//! What an aggregation reads of rows, and the groups of a pane. Rule: each partition's rows are accumulated in offset
//! order, and states are merged in one order, so that floating-point sums have one order.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StructArray, TimestampNanosecondArray};
use arrow::compute::{SortColumn, lexsort_to_indices, take};
use datafusion::error::Result;

use super::groups::{Keys, Partial, States};
use super::rows::{Failure, Rows, new_batch, take_all};
use crate::sql::{Aggregation, GroupKey};

/// What the aggregation reads of some rows: key columns, then for each aggregate its arguments and filter.
#[derive(Clone)]
pub(crate) struct Inputs {
    pub(crate) keys: Vec<ArrayRef>,
    pub(crate) arguments: Vec<Vec<ArrayRef>>,
    pub(crate) filters: Vec<Option<BooleanArray>>,
    pub(crate) rows: usize,
}

impl Inputs {
    /// Evaluates them over a batch.
    pub(crate) fn of(plan: &Aggregation, batch: &RecordBatch) -> Result<Self> {
        let rows = batch.num_rows();
        let mut keys = Vec::new();
        for key in &plan.keys {
            if let GroupKey::Column(expr) = key {
                keys.push(expr.evaluate(batch)?.into_array(rows)?);
            }
        }
        let (mut arguments, mut filters) = (Vec::new(), Vec::new());
        for aggregate in &plan.aggregates {
            if aggregate.shares.is_some() {
                arguments.push(Vec::new());
                filters.push(None);
                continue;
            }
            let mut values = aggregate.function.expressions();
            // What depends on an order is given what to order by.
            values.extend(aggregate.function.order_bys().iter().map(|order| order.expr.clone()));
            arguments.push(values.iter().map(|expr| expr.evaluate(batch)?.into_array(rows)).collect::<Result<_>>()?);
            let filter = aggregate.filter.as_ref().map(|filter| filter.evaluate(batch)?.into_array(rows));
            filters.push(filter.transpose()?.map(|mask| mask.as_boolean().clone()));
        }
        Ok(Self { keys, arguments, filters, rows })
    }

    /// Evaluates them over rows; those for which it fails are taken out and returned.
    pub(crate) fn isolated(plan: &Aggregation, rows: &mut Rows) -> Result<(Self, Vec<Failure>)> {
        if let Ok(inputs) = Self::of(plan, &rows.batch) {
            return Ok((inputs, Vec::new()));
        }
        let schema = rows.batch.schema();
        let failures = rows.map(&schema, &|batch| Self::of(plan, batch).map(|_| batch.clone()))?;
        Ok((Self::of(plan, &rows.batch)?, failures))
    }

    /// Rows `start` to `start + length`, without copying.
    pub(crate) fn slice(&self, start: usize, length: usize) -> Self {
        let cut = |arrays: &Vec<ArrayRef>| arrays.iter().map(|array| array.slice(start, length)).collect();
        Self {
            keys: cut(&self.keys),
            arguments: self.arguments.iter().map(cut).collect(),
            filters: self.filters.iter().map(|filter| filter.as_ref().map(|mask| mask.slice(start, length))).collect(),
            rows: length,
        }
    }

    /// The rows at `positions`, in their order.
    pub(crate) fn take(&self, positions: Vec<u32>) -> Result<Self> {
        let rows = positions.len();
        let positions = positions.into();
        let arguments = self.arguments.iter().map(|arrays| take_all(arrays, &positions)).collect::<Result<_>>()?;
        let mut filters = Vec::with_capacity(self.filters.len());
        for filter in &self.filters {
            filters.push(match filter {
                Some(mask) => Some(arrow::compute::take(mask, &positions, None)?.as_boolean().clone()),
                None => None,
            });
        }
        Ok(Self { keys: take_all(&self.keys, &positions)?, arguments, filters, rows })
    }
}

/// Groups and their accumulators.
pub(crate) struct PaneStore {
    keys: Keys,
    states: States,
    count: usize,
    /// Memory held when it was last measured, in bytes.
    bytes: usize,
    /// Rows and groups that came since then.
    unmeasured: usize,
}

/// To measure visits each group, which costs some nanoseconds; so it is done after a quarter as many rows.
const ROWS_A_GROUP: usize = 4;

impl PaneStore {
    pub(crate) fn new(plan: &Aggregation) -> Result<Self> {
        Ok(Self { keys: Keys::new(plan)?, states: States::new(plan)?, count: 0, bytes: 0, unmeasured: 0 })
    }

    /// Memory held, in bytes, and groups. It is at most as old as a quarter of the groups' number of rows.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.bytes, self.count)
    }

    fn measure(&mut self, rows: usize) {
        self.unmeasured += rows;
        if self.unmeasured * ROWS_A_GROUP >= self.count {
            self.bytes = self.keys.size() + self.states.size();
            self.unmeasured = 0;
        }
    }

    /// Adds rows; `ids` is scratch space, in which the group of each row is left.
    pub(crate) fn update(&mut self, inputs: &Inputs, ids: &mut Vec<usize>) -> Result<()> {
        self.count = self.keys.intern(&inputs.keys, inputs.rows, ids)?;
        self.states.update(inputs, ids, self.count)?;
        self.measure(inputs.rows);
        Ok(())
    }

    /// Adds all that a store had accumulated; the group of each of its groups is left in `ids`.
    pub(crate) fn merge(&mut self, from: &Partial, ids: &mut Vec<usize>) -> Result<()> {
        self.count = self.keys.intern(&from.keys, from.count, ids)?;
        self.states.merge(&from.states, ids, self.count)?;
        self.measure(from.count);
        Ok(())
    }

    pub(crate) fn into_partial(mut self) -> Result<Partial> {
        Ok(Partial::new(self.keys.emit()?, self.states.take()?, self.count))
    }

    /// The aggregation's output for the window `[start, end)`, sorted by key.
    pub(crate) fn finish(mut self, plan: &Aggregation, start: i64, end: i64) -> Result<RecordBatch> {
        let (keys, values, windows) = (self.keys.emit()?, self.states.values()?, window_column(start, end, self.count));
        output(plan, &[], Groups { keys, values, windows })
    }
}

/// Groups with their final values and windows.
pub(crate) struct Groups {
    pub(crate) keys: Vec<ArrayRef>,
    pub(crate) values: Vec<ArrayRef>,
    pub(crate) windows: ArrayRef,
}

/// The aggregation's output, sorted by some columns, then by key.
pub(crate) fn output(plan: &Aggregation, first: &[ArrayRef], groups: Groups) -> Result<RecordBatch> {
    let Groups { mut keys, mut values, mut windows } = groups;
    let sort = first.iter().chain(&keys).map(|key| SortColumn { values: key.clone(), options: None });
    let sort: Vec<SortColumn> = sort.collect();
    if !sort.is_empty() {
        let order = lexsort_to_indices(&sort, None)?;
        keys = take_all(&keys, &order)?;
        values = take_all(&values, &order)?;
        windows = take(&windows, &order, None)?;
    }
    let (count, mut keys) = (windows.len(), keys.into_iter());
    let mut columns = Vec::with_capacity(plan.output.fields().len());
    for key in &plan.keys {
        match key {
            GroupKey::Window => columns.push(windows.clone()),
            GroupKey::Column(_) => columns.extend(keys.next()),
        }
    }
    columns.append(&mut values);
    new_batch(&plan.output, columns, count)
}

/// Replaces all rows of the window `[start, end)` by their aggregation; returns the rows that could not be evaluated.
pub(crate) fn aggregate(
    rows: &mut Rows,
    plan: &Aggregation,
    (start, end): (i64, i64),
    ids: &mut Vec<usize>,
) -> Result<Vec<Failure>> {
    let (inputs, failures) = Inputs::isolated(plan, rows)?;
    let mut store = PaneStore::new(plan)?;
    // Without rows there is no group, not even where the window is the only key.
    let batch = if inputs.rows == 0 {
        RecordBatch::new_empty(plan.output.clone())
    } else {
        store.update(&inputs, ids)?;
        store.finish(plan, start, end)?
    };
    *rows = Rows::all(batch);
    Ok(failures)
}

/// The window as `{start, end}`, the same in each row.
fn window_column(start: i64, end: i64, rows: usize) -> ArrayRef {
    let moment = |nanos: i64| -> ArrayRef { Arc::new(TimestampNanosecondArray::from_value(nanos, rows)) };
    windows(moment(start), moment(end))
}

/// Windows as `{start, end}`.
pub(crate) fn windows(starts: ArrayRef, ends: ArrayRef) -> ArrayRef {
    Arc::new(StructArray::new(crate::sql::window_fields(), vec![starts, ends], None))
}
