//! From a SQL text to a validated plan. Rule: what is not in the portable profile is refused with its place and the
//! portable form; a plan that leaves here can run.

mod aggregation;
mod allowed;
mod ddl;
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
mod validate;

#[cfg(test)]
mod tests;

pub(crate) use functions::window_fields;
pub use options::{Format, SinkOptions, SourceOptions, StartAt};
pub use plan::{
    Aggregate, Aggregation, Branch, Closed, Computed, GroupKey, Input, Join, JoinKind, Plan, PlanSummary, RowNumber,
    SinkTable, SourceSummary, SourceTable, Stage, Step,
};
pub(crate) use script::SourceText;

use crate::SqlError;

/// Reads, checks and plans a pipeline.
pub fn compile(text: &str) -> Result<Plan, SqlError> {
    let source = SourceText::new(text);
    let script = script::parse(&source)?;
    validate::plan(&source, script)
}
