//! The accumulators of one window and source partition, and their merge. Rule: each partition's rows are accumulated in
//! offset order and partitions are merged in their order, so that floating-point sums have one order.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StructArray, TimestampNanosecondArray};
use arrow::compute::{SortColumn, lexsort_to_indices};
use arrow::datatypes::{Field, Schema};
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::rows::{new_batch, take_all};
use crate::sql::{GroupKey, Plan};

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
    pub(crate) fn of(plan: &Plan, batch: &RecordBatch) -> Result<Self> {
        let rows = batch.num_rows();
        let mut keys = Vec::new();
        for key in &plan.keys {
            if let GroupKey::Column(expr) = key {
                keys.push(expr.evaluate(batch)?.into_array(rows)?);
            }
        }
        let (mut arguments, mut filters) = (Vec::new(), Vec::new());
        for aggregate in &plan.aggregates {
            let values = aggregate.function.expressions();
            arguments.push(values.iter().map(|expr| expr.evaluate(batch)?.into_array(rows)).collect::<Result<_>>()?);
            let filter = aggregate.filter.as_ref().map(|filter| filter.evaluate(batch)?.into_array(rows));
            filters.push(filter.transpose()?.map(|mask| mask.as_boolean().clone()));
        }
        Ok(Self { keys, arguments, filters, rows })
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
    /// `None` when the window is the only key.
    groups: Option<Box<dyn GroupValues>>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    count: usize,
}

impl PaneStore {
    pub(crate) fn new(plan: &Plan) -> Result<Self> {
        let types = plan.key_types();
        let groups = if types.is_empty() {
            None
        } else {
            let fields: Vec<Field> =
                types.into_iter().enumerate().map(|(i, kind)| Field::new(format!("k{i}"), kind, true)).collect();
            Some(new_group_values(Arc::new(Schema::new(fields)), &GroupOrdering::None)?)
        };
        let mut accumulators: Vec<Box<dyn GroupsAccumulator>> = Vec::new();
        for aggregate in &plan.aggregates {
            let function = aggregate.function.clone();
            accumulators.push(if function.groups_accumulator_supported() {
                function.create_groups_accumulator()?
            } else {
                Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator()))
            });
        }
        Ok(Self { groups, accumulators, count: 0 })
    }

    /// Adds rows; `ids` is scratch space.
    pub(crate) fn update(&mut self, inputs: &Inputs, ids: &mut Vec<usize>) -> Result<()> {
        self.intern(&inputs.keys, inputs.rows, ids)?;
        for ((accumulator, arguments), filter) in
            self.accumulators.iter_mut().zip(&inputs.arguments).zip(&inputs.filters)
        {
            accumulator.update_batch(arguments, ids, filter.as_ref(), self.count)?;
        }
        Ok(())
    }

    /// Adds all that `other` has accumulated.
    pub(crate) fn merge(&mut self, mut other: Self, ids: &mut Vec<usize>) -> Result<()> {
        let keys = other.emit_keys()?;
        self.intern(&keys, other.count, ids)?;
        for (accumulator, from) in self.accumulators.iter_mut().zip(&mut other.accumulators) {
            accumulator.merge_batch(&from.state(EmitTo::All)?, ids, self.count)?;
        }
        Ok(())
    }

    /// The aggregation's output for the window `[start, end)`, sorted by key.
    pub(crate) fn finish(mut self, plan: &Plan, start: i64, end: i64) -> Result<RecordBatch> {
        let keys = self.emit_keys()?;
        let values = self.accumulators.iter_mut().map(|accumulator| accumulator.evaluate(EmitTo::All));
        let mut values = values.collect::<Result<Vec<_>>>()?;
        let mut sorted = keys;
        if !sorted.is_empty() {
            let columns: Vec<SortColumn> =
                sorted.iter().map(|key| SortColumn { values: key.clone(), options: None }).collect();
            let order = lexsort_to_indices(&columns, None)?;
            sorted = take_all(&sorted, &order)?;
            values = take_all(&values, &order)?;
        }
        let mut sorted = sorted.into_iter();
        let mut columns = Vec::with_capacity(plan.aggregated.fields().len());
        for key in &plan.keys {
            match key {
                GroupKey::Window => columns.push(window_column(start, end, self.count)),
                GroupKey::Column(_) => columns.extend(sorted.next()),
            }
        }
        columns.append(&mut values);
        new_batch(&plan.aggregated, columns, self.count)
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize, ids: &mut Vec<usize>) -> Result<()> {
        ids.clear();
        match &mut self.groups {
            Some(groups) => {
                groups.intern(keys, ids)?;
                self.count = groups.len();
            }
            None => {
                ids.resize(rows, 0);
                self.count = 1;
            }
        }
        Ok(())
    }

    fn emit_keys(&mut self) -> Result<Vec<ArrayRef>> {
        self.groups.as_mut().map_or(Ok(Vec::new()), |groups| groups.emit(EmitTo::All))
    }
}

/// The window as `{start, end}`, the same in each row.
fn window_column(start: i64, end: i64, rows: usize) -> ArrayRef {
    let moment = |nanos: i64| -> ArrayRef { Arc::new(TimestampNanosecondArray::from_value(nanos, rows)) };
    Arc::new(StructArray::new(crate::sql::window_fields(), vec![moment(start), moment(end)], None))
}
