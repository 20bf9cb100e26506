//! Groups and their accumulators, and their merge. Rule: each partition's rows are accumulated in offset order, and
//! states are merged in one order, so that floating-point sums have one order.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StructArray, TimestampNanosecondArray};
use arrow::compute::{SortColumn, lexsort_to_indices};
use arrow::datatypes::{Field, Schema};
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::quantile_udaf;
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

/// What a [`PaneStore`] held: groups and the states of their accumulators, as often to be merged as there are readers.
pub(crate) struct Partial {
    keys: Vec<ArrayRef>,
    states: Vec<Vec<ArrayRef>>,
    count: usize,
}

/// Groups and their accumulators.
pub(crate) struct PaneStore {
    /// `None` when the window is the only key.
    groups: Option<Box<dyn GroupValues>>,
    accumulators: Vec<Slot>,
    count: usize,
}

/// The accumulator of one aggregate.
struct Slot {
    accumulator: Box<dyn GroupsAccumulator>,
    /// The slot that is filled in its place.
    shares: Option<usize>,
}

impl PaneStore {
    pub(crate) fn new(plan: &Aggregation) -> Result<Self> {
        let types = plan.key_types();
        let groups = if types.is_empty() {
            None
        } else {
            let fields: Vec<Field> =
                types.into_iter().enumerate().map(|(i, kind)| Field::new(format!("k{i}"), kind, true)).collect();
            Some(new_group_values(Arc::new(Schema::new(fields)), &GroupOrdering::None)?)
        };
        let mut accumulators = Vec::new();
        for aggregate in &plan.aggregates {
            let function = aggregate.function.clone();
            let accumulator: Box<dyn GroupsAccumulator> = if function.groups_accumulator_supported() {
                function.create_groups_accumulator()?
            } else {
                Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator()))
            };
            accumulators.push(Slot { accumulator, shares: aggregate.shares });
        }
        Ok(Self { groups, accumulators, count: 0 })
    }

    /// Adds rows; `ids` is scratch space.
    pub(crate) fn update(&mut self, inputs: &Inputs, ids: &mut Vec<usize>) -> Result<()> {
        self.intern(&inputs.keys, inputs.rows, ids)?;
        for ((slot, arguments), filter) in self.accumulators.iter_mut().zip(&inputs.arguments).zip(&inputs.filters) {
            if slot.shares.is_none() {
                slot.accumulator.update_batch(arguments, ids, filter.as_ref(), self.count)?;
            }
        }
        Ok(())
    }

    /// Adds all that a store had accumulated.
    pub(crate) fn merge(&mut self, from: &Partial, ids: &mut Vec<usize>) -> Result<()> {
        self.intern(&from.keys, from.count, ids)?;
        for (slot, states) in self.accumulators.iter_mut().zip(&from.states) {
            if slot.shares.is_none() {
                slot.accumulator.merge_batch(states, ids, self.count)?;
            }
        }
        Ok(())
    }

    pub(crate) fn into_partial(mut self) -> Result<Partial> {
        let keys = self.emit_keys()?;
        let states = self.accumulators.iter_mut().map(|slot| match slot.shares {
            None => slot.accumulator.state(EmitTo::All),
            Some(_) => Ok(Vec::new()),
        });
        Ok(Partial { keys, states: states.collect::<Result<_>>()?, count: self.count })
    }

    /// The aggregation's output for the window `[start, end)`, sorted by key.
    pub(crate) fn finish(mut self, plan: &Aggregation, start: i64, end: i64) -> Result<RecordBatch> {
        let keys = self.emit_keys()?;
        let mut values = self.values()?;
        let mut sorted = keys;
        if !sorted.is_empty() {
            let columns: Vec<SortColumn> =
                sorted.iter().map(|key| SortColumn { values: key.clone(), options: None }).collect();
            let order = lexsort_to_indices(&columns, None)?;
            sorted = take_all(&sorted, &order)?;
            values = take_all(&values, &order)?;
        }
        let mut sorted = sorted.into_iter();
        let mut columns = Vec::with_capacity(plan.output.fields().len());
        for key in &plan.keys {
            match key {
                GroupKey::Window => columns.push(window_column(start, end, self.count)),
                GroupKey::Column(_) => columns.extend(sorted.next()),
            }
        }
        columns.append(&mut values);
        new_batch(&plan.output, columns, self.count)
    }

    /// The value of each aggregate, by group.
    fn values(&mut self) -> Result<Vec<ArrayRef>> {
        // First what is read from others' sketches: evaluating empties them.
        let read = |slot: &Slot| {
            let owner = slot.shares.and_then(|owner| self.accumulators.get(owner));
            owner.map(|owner| quantile_udaf::shared(slot.accumulator.as_ref(), owner.accumulator.as_ref())).transpose()
        };
        let shared = self.accumulators.iter().map(read).collect::<Result<Vec<_>>>()?;
        let slots = self.accumulators.iter_mut().zip(shared);
        slots.map(|(slot, shared)| shared.map_or_else(|| slot.accumulator.evaluate(EmitTo::All), Ok)).collect()
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
    Arc::new(StructArray::new(crate::sql::window_fields(), vec![moment(start), moment(end)], None))
}
