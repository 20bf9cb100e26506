//! From a SQL text to a validated plan. Rule: what is not in the portable profile is refused with its place and the
//! portable form; a plan that leaves here can run.

mod aggregation;
mod allowed;
mod ddl;
mod follows_key;
mod functions;
mod older;
mod options;
mod plan;
mod planner;
mod regexp;
mod script;
mod shape;
mod source;
mod syntax;
mod types;
mod used;
mod validate;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

pub(crate) use allowed::check_udf_name;
pub(crate) use functions::window_fields;
pub use options::{SinkOptions, SourceOptions, StartAt};
pub use plan::{
    Aggregate, Aggregation, Branch, Closed, Computed, GroupKey, Input, Join, JoinKind, Plan, PlanSummary, RowNumber,
    SinkTable, SourceSummary, SourceTable, Stage, Step,
};
pub(crate) use script::SourceText;
pub(crate) use types::sql_name;

use crate::SqlError;
use crate::udf::Udfs;

/// Reads, checks and plans a pipeline that calls no UDF.
pub fn compile(text: &str) -> Result<Plan, SqlError> {
    compile_with(text, &Udfs::default())
}

/// Reads, checks and plans a pipeline that may call `udfs`.
pub fn compile_with(text: &str, udfs: &Udfs) -> Result<Plan, SqlError> {
    let source = SourceText::new(text);
    let script = script::parse(&source)?;
    validate::plan(&source, script, udfs)
}
