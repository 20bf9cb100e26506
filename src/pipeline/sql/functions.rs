//! The functions of the dialect. Rule: only deterministic functions, and only aggregates whose result does not depend
//! on how rows were batched.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion::error::Result;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::{allowed, regexp};
use crate::exec::quantile_udaf;

/// The names under which windows are asked for.
pub(super) const TUMBLE: &str = "tumble";
pub(super) const HOP: &str = "hop";
pub(super) const SESSION: &str = "session";
/// The only function that may stand with OVER.
pub(super) const ROW_NUMBER: &str = "row_number";

/// Whether a function of this name stands for a window.
pub(super) fn is_window(name: &str) -> bool {
    matches!(name, TUMBLE | HOP | SESSION)
}

/// The scalar functions of the profile, and the window placeholders.
pub(super) fn scalars() -> Vec<Arc<ScalarUDF>> {
    let allowed = allowed::scalars();
    let mut all = SessionStateDefaults::default_scalar_functions();
    all.retain(|udf| allowed.contains(udf.name()));
    for udf in &mut all {
        if udf.name() == regexp::NAME {
            *udf = Arc::new(ScalarUDF::new_from_impl(regexp::RegexpReplace::new(udf.clone())));
        }
    }
    all.push(Arc::new(ScalarUDF::new_from_impl(Window::new(TUMBLE, 1))));
    all.push(Arc::new(ScalarUDF::new_from_impl(Window::new(HOP, 2))));
    all.push(Arc::new(ScalarUDF::new_from_impl(Window::new(SESSION, 1))));
    all
}

/// The aggregates of the profile, with our quantile sketch under DataFusion's name.
pub(super) fn aggregates() -> Vec<Arc<AggregateUDF>> {
    let allowed = allowed::aggregates();
    let mut all: Vec<_> = SessionStateDefaults::default_aggregate_functions()
        .into_iter()
        .filter(|udaf| allowed.contains(udaf.name()) && udaf.name() != quantile_udaf::NAME)
        .collect();
    all.push(Arc::new(AggregateUDF::new_from_impl(quantile_udaf::QuantileSketch::new())));
    all
}

/// `{start, end}` of a window.
pub(crate) fn window_fields() -> Fields {
    let moment = DataType::Timestamp(TimeUnit::Nanosecond, None);
    Fields::from(vec![Field::new("start", moment.clone(), false), Field::new("end", moment, false)])
}

/// `tumble(width)`, `hop(slide, width)` or `session(gap)`: stands in the plan for the window; the engine replaces it, nobody calls it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Window {
    name: &'static str,
    signature: Signature,
}

impl Window {
    fn new(name: &'static str, arguments: usize) -> Self {
        // Types are checked where the window is read from the plan, which names the place.
        Self { name, signature: Signature::any(arguments, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Window {
    fn name(&self) -> &str {
        self.name
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
        Ok(Arc::new(Field::new(self.name, DataType::Struct(window_fields()), false)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        datafusion::common::exec_err!("{} stands only in GROUP BY of a windowed query", self.name)
    }
}
