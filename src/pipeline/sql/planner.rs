//! The bridge to DataFusion's SQL planner: names to tables and functions, and its errors with a place. Rule: nothing is
//! looked up outside the file.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{DataFusionError, SchemaError, TableReference};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::SessionStateDefaults;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::builder::LogicalTableSource;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF};
use datafusion::optimizer::Analyzer;
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast::{Ident, Query, Statement};
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use super::script::{SourceText, lower_first};
use super::{allowed, functions};
use crate::SqlError;
use crate::error::one_line;
use crate::udf::{Function, Udfs, WRONG_TYPES};

/// Plans queries over the tables given to it.
pub(super) struct Planner {
    tables: HashMap<String, SchemaRef>,
    scalars: HashMap<String, Arc<ScalarUDF>>,
    aggregates: HashMap<String, Arc<AggregateUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    options: ConfigOptions,
    udfs: Udfs,
}

impl Planner {
    pub(super) fn new(udfs: &Udfs) -> Self {
        let (mut scalars, mut aggregates) = (HashMap::new(), HashMap::new());
        for udf in functions::scalars() {
            for name in udf.aliases().iter().map(String::as_str).chain([udf.name()]) {
                scalars.insert(name.to_owned(), udf.clone());
            }
        }
        for udaf in functions::aggregates() {
            for name in udaf.aliases().iter().map(String::as_str).chain([udaf.name()]) {
                aggregates.insert(name.to_owned(), udaf.clone());
            }
        }
        for udf in udfs.iter() {
            let function = ScalarUDF::new_from_impl(Function::new(udf.clone()));
            scalars.insert(udf.name().to_owned(), Arc::new(function));
        }
        let planners = SessionStateDefaults::default_expr_planners();
        let (options, udfs) = (ConfigOptions::default(), udfs.clone());
        Self { tables: HashMap::new(), scalars, aggregates, planners, options, udfs }
    }

    /// The texts of the UDFs that a pipeline names, for its fingerprint.
    pub(super) fn versions(&self, text: &SourceText<'_>) -> String {
        let named = self.udfs.iter().filter(|udf| text.find(udf.name()).is_some());
        named.map(|udf| format!("|{} {}", udf.name(), udf.manifest().source_hash)).collect()
    }

    pub(super) fn add_table(&mut self, name: &str, schema: SchemaRef) {
        self.tables.insert(name.to_owned(), schema);
    }

    /// A query to a plan with all types coerced; views are inlined.
    pub(super) fn plan(&self, query: &Query, views: &[(Ident, Box<Query>)]) -> Result<LogicalPlan> {
        let options = ParserOptions::new().with_collect_spans(true).with_map_string_types_to_utf8view(false);
        let planner = SqlToRel::new_with_options(self, options);
        let mut context = PlannerContext::new();
        for (name, view) in views {
            let statement = Statement::Query(view.clone());
            let plan = planner.sql_statement_to_plan_with_context(statement, &mut context.clone())?;
            context.insert_cte(name.value.clone(), plan);
        }
        let statement = Statement::Query(Box::new(query.clone()));
        let plan = planner.sql_statement_to_plan_with_context(statement, &mut context)?;
        Analyzer::new().execute_and_check(plan, &self.options, |_, _| {})
    }

    /// Our form of a planning error; `fallback` is where it is said to be when DataFusion does not say.
    pub(super) fn error(&self, source: &SourceText<'_>, error: &DataFusionError, fallback: Span) -> SqlError {
        if let DataFusionError::SchemaError(inner, _) = error.find_root()
            && let SchemaError::FieldNotFound { field, valid_fields } = inner.as_ref()
        {
            let span = diagnostic_span(error).or_else(|| source.find(&field.name)).unwrap_or(fallback);
            let names: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
            let error = source.error("unknown-column", span, format!("unknown column `{}`", field.flat_name()));
            return match nearest(&field.name, names.iter().copied()) {
                Some(near) => error.hint(format!("did you mean `{near}`? the columns are {}", names.join(", "))),
                None if names.is_empty() => error.hint("there is no table to take it from"),
                None => error.hint(format!("the columns are {}", names.join(", "))),
            };
        }
        let message = lower_first(&one_line(error));
        if let Some((_, said)) = message.split_once(WRONG_TYPES) {
            return wrong_types(source, said, fallback);
        }
        if let Some(name) = message.strip_prefix("invalid function '").and_then(|rest| rest.split('\'').next()) {
            return self.unknown_function(source, name, fallback);
        }
        if let Some(name) = message.strip_prefix("unknown table `").and_then(|rest| rest.strip_suffix('`')) {
            let span = source.find(name).unwrap_or(fallback);
            let mut names: Vec<&str> = self.tables.keys().map(String::as_str).collect();
            names.sort_unstable();
            return source
                .error("unknown-table", span, message.clone())
                .hint(format!("the tables to select from are {}", names.join(", ")));
        }
        source.error("query", diagnostic_span(error).unwrap_or(fallback), message)
    }

    fn unknown_function(&self, source: &SourceText<'_>, name: &str, fallback: Span) -> SqlError {
        let span = source.find(name).unwrap_or(fallback);
        if let Some(problem) = self.udfs.problem(name) {
            return source.error(problem.code, span, problem.message.clone()).hint(problem.hint.clone());
        }
        if let Some(refusal) = allowed::refusal(name) {
            return source.error(refusal.code(), span, refusal.message(name)).hint(refusal.hint());
        }
        let error = source.error("unknown-function", span, format!("function `{name}` is not supported"));
        let known = self.scalars.keys().chain(self.aggregates.keys()).map(String::as_str);
        match nearest(name, known) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        }
    }
}

/// A call of a UDF with other types than its own; DataFusion has added words of its own behind.
fn wrong_types(source: &SourceText<'_>, said: &str, fallback: Span) -> SqlError {
    let said = said.split(" No function matches").next().unwrap_or_default().trim_end_matches(['.', ' ']);
    let name = said.split('`').nth(1).unwrap_or_default();
    let error = source.error("udf-arguments", source.find(name).unwrap_or(fallback), said);
    error.hint("write CAST(… AS …) where a type differs")
}

fn diagnostic_span(error: &DataFusionError) -> Option<Span> {
    let span = error.diagnostic()?.span?;
    let location = |at: datafusion::common::Location| Location { line: at.line, column: at.column };
    Some(Span::new(location(span.start), location(span.end)))
}

/// The name nearest to `wanted`, if one is near.
pub(super) fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (wanted.chars().count() / 3).max(1);
    known.map(|name| (distance(wanted, name), name)).filter(|(d, _)| *d <= allowed).min().map(|(_, name)| name)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

impl ContextProvider for Planner {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        match self.tables.get(name.table()) {
            Some(schema) => Ok(Arc::new(LogicalTableSource::new(schema.clone()))),
            None => datafusion::common::plan_err!("unknown table `{}`", name.table()),
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalars.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        (name == functions::ROW_NUMBER).then(row_number_udwf)
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.scalars.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.aggregates.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        vec![functions::ROW_NUMBER.to_owned()]
    }
}
