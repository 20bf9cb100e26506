//! The functions of the dialect. Rule: only deterministic functions, and only aggregates whose result does not depend
//! on how rows were batched.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};
use datafusion::error::Result;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::regexp;
use crate::exec::quantile_udaf;

/// The name under which windows are asked for.
pub(super) const TUMBLE: &str = "tumble";

/// Aggregates that may be used; each exists in DataFusion 48 and 55.2 under the same name.
const AGGREGATES: [&str; 18] = [
    "approx_distinct",
    "approx_percentile_cont",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "count",
    "max",
    "mean",
    "min",
    "stddev",
    "stddev_pop",
    "sum",
    "var",
    "var_pop",
    "var_samp",
];

/// All scalar functions by their names and aliases, and the window placeholder.
pub(super) fn scalars() -> Vec<Arc<ScalarUDF>> {
    let mut all = SessionStateDefaults::default_scalar_functions();
    for udf in &mut all {
        if udf.name() == regexp::NAME {
            *udf = Arc::new(ScalarUDF::new_from_impl(regexp::RegexpReplace::new(udf.clone())));
        }
    }
    all.push(Arc::new(ScalarUDF::new_from_impl(Tumble::new())));
    all
}

/// The aggregates of the profile, with our quantile sketch under DataFusion's name.
pub(super) fn aggregates() -> Vec<Arc<AggregateUDF>> {
    let mut all: Vec<_> = SessionStateDefaults::default_aggregate_functions()
        .into_iter()
        .filter(|udaf| AGGREGATES.contains(&udaf.name()) && udaf.name() != quantile_udaf::NAME)
        .collect();
    all.push(Arc::new(AggregateUDF::new_from_impl(quantile_udaf::QuantileSketch::new())));
    all
}

/// `{start, end}` of a window.
pub(crate) fn window_fields() -> Fields {
    let moment = DataType::Timestamp(TimeUnit::Nanosecond, None);
    Fields::from(vec![Field::new("start", moment.clone(), false), Field::new("end", moment, false)])
}

/// `tumble(width)`: stands in the plan for the window; the engine replaces it, nobody calls it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Tumble {
    signature: Signature,
}

impl Tumble {
    fn new() -> Self {
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        Self { signature: Signature::exact(vec![interval], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Tumble {
    fn name(&self) -> &str {
        TUMBLE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(window_fields()))
    }

    fn return_field_from_args(
        &self,
        _: datafusion::logical_expr::ReturnFieldArgs<'_>,
    ) -> Result<arrow::datatypes::FieldRef> {
        Ok(Arc::new(Field::new(TUMBLE, DataType::Struct(window_fields()), false)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        datafusion::common::exec_err!("tumble stands only in GROUP BY of a windowed query")
    }
}
