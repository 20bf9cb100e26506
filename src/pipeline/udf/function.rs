//! A loaded UDF as a function of DataFusion. Rule: it is called as Arroyo calls it: where an argument that is no `Option`
//! is NULL, the result is NULL without a call.

use std::sync::Arc;

use arrow::array::new_empty_array;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::folder::Udf;
use super::kind::list;

/// In front of what is said of a call with wrong types; the planner looks for it.
pub(crate) const WRONG_TYPES: &str = "udf call: ";

#[derive(Debug)]
pub(crate) struct Function {
    udf: Arc<Udf>,
    signature: Signature,
}

impl Function {
    /// Immutable: its author promises that the result depends on the arguments alone, as the dialect asks of each function.
    /// A call on constants is made when the SQL is planned; if it panics there it is left for the rows, each of which fails.
    pub(crate) fn new(udf: Arc<Udf>) -> Self {
        Self { udf, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.udf.manifest() == other.udf.manifest()
    }
}

impl Eq for Function {}

impl std::hash::Hash for Function {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.udf.name().hash(state);
        self.udf.manifest().library_hash.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.udf.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.udf.manifest().returns.kind.data_type())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let manifest = self.udf.manifest();
        let skipped =
            manifest.arguments.iter().zip(args.arg_fields).any(|(own, given)| !own.nullable && given.is_nullable());
        Ok(Arc::new(Field::new(self.name(), manifest.returns.kind.data_type(), manifest.returns.nullable || skipped)))
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let own = &self.udf.manifest().arguments;
        if given.len() != own.len() || own.iter().zip(given).any(|(own, given)| !own.kind.accepts(given)) {
            let given: Vec<String> = given.iter().map(crate::sql::sql_name).collect();
            let name = self.name();
            return plan_err!("{WRONG_TYPES}`{name}` takes {}, not ({})", list(own.iter()), given.join(", "));
        }
        Ok(own.iter().map(|own| own.kind.data_type()).collect())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let manifest = self.udf.manifest();
        let returns = manifest.returns.kind.data_type();
        let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        // Not even a call on constants: where all rows were taken out because it fails, there is nobody left to call it for.
        if args.number_rows == 0 {
            return Ok(ColumnarValue::Array(new_empty_array(&returns)));
        }
        let rows = if constant { 1 } else { args.number_rows };
        let mut arrays = Vec::with_capacity(args.args.len());
        for (value, own) in args.args.into_iter().zip(&manifest.arguments) {
            let array = value.into_array(rows)?;
            if *array.data_type() != own.kind.data_type() || array.len() != rows {
                let (name, found) = (self.name(), array.data_type());
                return exec_err!(
                    "udf `{name}` got {} values of {found} for {rows} rows of {:?}",
                    array.len(),
                    own.kind
                );
            }
            arrays.push((array, own.kind));
        }
        match self.udf.library.call(&arrays, rows, manifest.returns.kind) {
            Ok(array) if constant => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
            Ok(array) => Ok(ColumnarValue::Array(array)),
            Err(error) => exec_err!("udf `{}` {error}", self.name()),
        }
    }
}
