//! `approx_percentile_cont` on our own sketch. Rule: the result depends on the values alone; DataFusion's t-digest
//! depends on batch boundaries and has no accumulator for many groups.

use std::any::Any;
use std::mem::size_of_val;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{ScalarValue, exec_datafusion_err, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;

use crate::sketch::Sketch;

/// DataFusion's name for it.
pub(crate) const NAME: &str = "approx_percentile_cont";

/// The aggregate function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct QuantileSketch {
    signature: Signature,
}

impl QuantileSketch {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for QuantileSketch {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types.first() {
            Some(kind) => Ok(kind.clone()),
            None => plan_err!("{NAME} takes a column and a quantile"),
        }
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [value, quantile] if value.is_numeric() && quantile.is_numeric() => {
                let value = if value.is_floating() { value.clone() } else { DataType::Float64 };
                Ok(vec![value, DataType::Float64])
            }
            _ => plan_err!("{NAME} takes a numeric column and a quantile between 0 and 1"),
        }
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "sketch"), DataType::Binary, false))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(One(Sketches::new(&args)?)))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Sketches::new(&args)?))
    }
}

/// The quantile that `reader` stands for, of the sketches that `owner` has filled.
pub(crate) fn shared(
    reader: &(dyn GroupsAccumulator + 'static),
    owner: &(dyn GroupsAccumulator + 'static),
) -> Result<ArrayRef> {
    let reader: &dyn Any = reader;
    let owner: &dyn Any = owner;
    match (reader.downcast_ref::<Sketches>(), owner.downcast_ref::<Sketches>()) {
        (Some(reader), Some(owner)) => reader.read(&owner.groups),
        _ => exec_err!("only {NAME} shares its sketches"),
    }
}

/// One sketch a group.
#[derive(Debug)]
struct Sketches {
    quantile: f64,
    kind: DataType,
    groups: Vec<Sketch>,
}

impl Sketches {
    fn new(args: &AccumulatorArgs<'_>) -> Result<Self> {
        let quantile = args.exprs.get(1).and_then(literal);
        let Some(quantile) = quantile.filter(|q| (0.0..=1.0).contains(q)) else {
            return plan_err!("the quantile of {NAME} must be a number between 0 and 1");
        };
        let descending = args.order_bys.first().is_some_and(|order| order.options.descending);
        let quantile = if descending { 1.0 - quantile } else { quantile };
        Ok(Self { quantile, kind: args.return_type().clone(), groups: Vec::new() })
    }

    fn grow(&mut self, groups: usize) {
        if self.groups.len() < groups {
            self.groups.resize_with(groups, Sketch::default);
        }
    }

    /// Our quantile of each of `groups`.
    fn read(&self, groups: &[Sketch]) -> Result<ArrayRef> {
        let values: Float64Array = groups.iter().map(|sketch| sketch.quantile(self.quantile)).collect();
        Ok(cast(&values, &self.kind)?)
    }

    fn emit(&mut self, emit_to: EmitTo) -> Vec<Sketch> {
        emit_to.take_needed(&mut self.groups)
    }
}

fn literal(expr: &Arc<dyn PhysicalExpr>) -> Option<f64> {
    match expr.downcast_ref::<Literal>()?.value() {
        ScalarValue::Float64(value) => *value,
        _ => None,
    }
}

impl GroupsAccumulator for Sketches {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        let floats = cast(&values[0], &DataType::Float64)?;
        let floats = floats.as_primitive::<Float64Type>();
        if floats.null_count() == 0 && opt_filter.is_none() {
            for (&value, &group) in floats.values().iter().zip(group_indices) {
                self.groups[group].add(value);
            }
            return Ok(());
        }
        let kept = |row: usize| opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        for (row, (&value, &group)) in floats.values().iter().zip(group_indices).enumerate() {
            if floats.is_valid(row) && kept(row) {
                self.groups[group].add(value);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = self.emit(emit_to);
        self.read(&groups)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (mut bytes, mut one) = (BinaryBuilder::new(), Vec::new());
        for sketch in self.emit(emit_to) {
            one.clear();
            sketch.write_bytes(&mut one);
            bytes.append_value(&one);
        }
        Ok(vec![Arc::new(bytes.finish())])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.grow(total_num_groups);
        for (bytes, &group) in values[0].as_binary::<i32>().iter().zip(group_indices) {
            let merged = self.groups[group].merge_bytes(bytes.unwrap_or_default());
            merged.ok_or_else(|| exec_datafusion_err!("the state of {NAME} is cut off"))?;
        }
        Ok(())
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        exec_err!("{NAME} has no state of single rows")
    }

    fn size(&self) -> usize {
        self.groups.iter().map(Sketch::size).sum()
    }
}

/// The same for a single group, which DataFusion asks for without GROUP BY.
#[derive(Debug)]
struct One(Sketches);

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let groups = vec![0; values[0].len()];
        self.0.update_batch(values, &groups, None, 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.grow(1);
        ScalarValue::try_from_array(&GroupsAccumulator::evaluate(&mut self.0, EmitTo::All)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.grow(1);
        let state = GroupsAccumulator::state(&mut self.0, EmitTo::All)?;
        Ok(vec![ScalarValue::try_from_array(&state[0], 0)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let groups = vec![0; states[0].len()];
        self.0.merge_batch(states, &groups, 1)
    }
}
