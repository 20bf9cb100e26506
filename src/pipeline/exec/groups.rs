//! Keys of groups, and the accumulators of an aggregation by group. Rule: a group is a number, given in the order in which
//! keys are first seen.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef};
use arrow::datatypes::{Field, Schema};
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::pane::Inputs;
use super::quantile_udaf;
use super::rows::take_all;
use crate::sql::Aggregation;

/// What some groups had accumulated: their keys and the states of their accumulators, as often to be merged as there are
/// readers.
pub(crate) struct Partial {
    pub(crate) keys: Vec<ArrayRef>,
    pub(crate) states: Vec<Vec<ArrayRef>>,
    pub(crate) count: usize,
    /// Memory held.
    pub(crate) bytes: usize,
}

impl Partial {
    pub(crate) fn new(keys: Vec<ArrayRef>, states: Vec<Vec<ArrayRef>>, count: usize) -> Self {
        let arrays = keys.iter().chain(states.iter().flatten());
        let bytes = arrays.map(|array| array.get_array_memory_size()).sum();
        Self { keys, states, count, bytes }
    }
}

/// The keys of groups.
pub(crate) struct Keys {
    /// `None` when the window is the only key.
    groups: Option<Box<dyn GroupValues>>,
    count: usize,
}

impl Keys {
    pub(crate) fn new(plan: &Aggregation) -> Result<Self> {
        let types = plan.key_types();
        if types.is_empty() {
            return Ok(Self { groups: None, count: 0 });
        }
        let fields: Vec<Field> =
            types.into_iter().enumerate().map(|(i, kind)| Field::new(format!("k{i}"), kind, true)).collect();
        let groups = new_group_values(Arc::new(Schema::new(fields)), &GroupOrdering::None)?;
        Ok(Self { groups: Some(groups), count: 0 })
    }

    /// Leaves the group of each of `rows` rows in `ids`; returns how many groups there are.
    pub(crate) fn intern(&mut self, keys: &[ArrayRef], rows: usize, ids: &mut Vec<usize>) -> Result<usize> {
        ids.clear();
        self.count = match &mut self.groups {
            Some(groups) => {
                groups.intern(keys, ids)?;
                groups.len()
            }
            None => {
                ids.resize(rows, 0);
                self.count.max(usize::from(rows > 0))
            }
        };
        Ok(self.count)
    }

    /// All keys in the order of their groups, which are forgotten.
    pub(crate) fn emit(&mut self) -> Result<Vec<ArrayRef>> {
        self.count = 0;
        self.groups.as_mut().map_or(Ok(Vec::new()), |groups| groups.emit(EmitTo::All))
    }

    /// Memory held, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.groups.as_ref().map_or(0, |groups| groups.size())
    }
}

/// The accumulators of an aggregation.
pub(crate) struct States(Vec<Slot>);

/// The accumulator of one aggregate.
struct Slot {
    accumulator: Box<dyn GroupsAccumulator>,
    /// The slot that is filled in its place.
    shares: Option<usize>,
}

impl States {
    pub(crate) fn new(plan: &Aggregation) -> Result<Self> {
        let mut slots = Vec::with_capacity(plan.aggregates.len());
        for aggregate in &plan.aggregates {
            let function = aggregate.function.clone();
            let accumulator: Box<dyn GroupsAccumulator> = if function.groups_accumulator_supported() {
                function.create_groups_accumulator()?
            } else {
                Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator()))
            };
            slots.push(Slot { accumulator, shares: aggregate.shares });
        }
        Ok(Self(slots))
    }

    /// Adds rows to the groups `ids`; there are `count` groups.
    pub(crate) fn update(&mut self, inputs: &Inputs, ids: &[usize], count: usize) -> Result<()> {
        for ((slot, arguments), filter) in self.0.iter_mut().zip(&inputs.arguments).zip(&inputs.filters) {
            if slot.shares.is_none() {
                slot.accumulator.update_batch(arguments, ids, filter.as_ref(), count)?;
            }
        }
        Ok(())
    }

    /// Adds states to the groups `ids`; there are `count` groups.
    pub(crate) fn merge(&mut self, states: &[Vec<ArrayRef>], ids: &[usize], count: usize) -> Result<()> {
        for (slot, states) in self.0.iter_mut().zip(states) {
            if slot.shares.is_none() {
                slot.accumulator.merge_batch(states, ids, count)?;
            }
        }
        Ok(())
    }

    /// The state of each aggregate by group; the accumulators are empty afterwards.
    pub(crate) fn take(&mut self) -> Result<Vec<Vec<ArrayRef>>> {
        let states = self.0.iter_mut().map(|slot| match slot.shares {
            None => slot.accumulator.state(EmitTo::All),
            Some(_) => Ok(Vec::new()),
        });
        states.collect()
    }

    /// Memory held, in bytes. That asks each group where an accumulator does not keep the sum.
    pub(crate) fn size(&self) -> usize {
        self.0.iter().map(|slot| slot.accumulator.size()).sum()
    }

    /// The value of each aggregate by group; the accumulators are empty afterwards.
    pub(crate) fn values(&mut self) -> Result<Vec<ArrayRef>> {
        // First what is read from others' sketches: evaluating empties them.
        let read = |slot: &Slot| {
            let owner = slot.shares.and_then(|owner| self.0.get(owner));
            owner.map(|owner| quantile_udaf::shared(slot.accumulator.as_ref(), owner.accumulator.as_ref())).transpose()
        };
        let shared = self.0.iter().map(read).collect::<Result<Vec<_>>>()?;
        let slots = self.0.iter_mut().zip(shared);
        slots.map(|(slot, shared)| shared.map_or_else(|| slot.accumulator.evaluate(EmitTo::All), Ok)).collect()
    }
}

/// The states of the groups at `positions`.
pub(crate) fn take_states(states: &[Vec<ArrayRef>], positions: &[usize]) -> Result<Vec<Vec<ArrayRef>>> {
    let positions = positions.iter().map(|at| u32::try_from(*at).unwrap_or(u32::MAX)).collect::<Vec<_>>().into();
    states.iter().map(|state| take_all(state, &positions)).collect()
}
