//! From statements to a plan that can run. Rule: every check names the place in the text.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::Volatility;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::aggregation::WINDOW_HINT;
use super::ddl::TableDefinition;
use super::options::{self, SinkOptions, SourceOptions, TableOptions};
use super::plan::{Plan, SinkTable, Stage, Step};
use super::planner::Planner;
use super::script::{Script, SourceText, span_of};
use super::{functions, shape, source, syntax, types};
use crate::SqlError;
use crate::error::one_line;
use crate::udf::Udfs;

/// What the checks work on.
pub(super) struct Context<'a> {
    pub(super) text: &'a SourceText<'a>,
    pub(super) planner: Planner,
    /// Where the query begins.
    pub(super) query: Span,
}

impl Context<'_> {
    pub(super) fn physical(&self, expr: &Expr, schema: &DFSchema, at: Span) -> Result<Arc<dyn PhysicalExpr>, SqlError> {
        let physical = self
            .simplified(expr.clone(), schema)
            .and_then(|expr| {
                create_physical_expr(&expr, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
            })
            .map_err(|error| self.planner.error(self.text, &error, at))?;
        // What fails without any row would fail for each.
        let none = RecordBatch::new_empty(Arc::new(schema.as_arrow().clone()));
        match physical.evaluate(&none) {
            Ok(_) => Ok(physical),
            Err(error) => {
                let message = format!("`{expr}` fails for every row: {}", one_line(&error));
                Err(self.text.error("always-fails", at, message).hint("correct the constants in it"))
            }
        }
    }

    /// Constants folded; some functions, such as `coalesce`, exist only before this step.
    fn simplified(&self, expr: Expr, schema: &DFSchema) -> Result<Expr, DataFusionError> {
        let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
        ExprSimplifier::new(context).simplify(expr)
    }

    /// The arguments and the filter of an aggregate simplified; the call itself stays.
    pub(super) fn simplified_arguments(&self, expr: Expr, schema: &DFSchema) -> Result<Expr, DataFusionError> {
        let simplify = |inner: Expr| self.simplified(inner, schema).map(Transformed::yes);
        let done = match expr {
            Expr::Alias(mut alias) => {
                *alias.expr = alias.expr.map_children(simplify)?.data;
                Expr::Alias(alias)
            }
            call => call.map_children(simplify)?.data,
        };
        Ok(done)
    }
}

/// Checks the whole script.
pub(super) fn plan(text: &SourceText<'_>, script: Script, udfs: &Udfs) -> Result<Plan, SqlError> {
    let (mut sources, mut sinks) = (Vec::new(), Vec::new());
    for table in &script.tables {
        match options::read(text, table)? {
            TableOptions::Source(options) => sources.push((table, options)),
            TableOptions::Sink(options) => sinks.push((table, options)),
        }
    }
    let query = span_of(script.insert.query.as_ref());
    let mut context = Context { text, planner: Planner::new(udfs), query };
    let (sink, sink_options) = find_sink(&context, &script, &sources, &sinks)?;
    for (_, view) in &script.views {
        syntax::check(text, view)?;
    }
    syntax::check(text, &script.insert.query)?;
    let mut tables = Vec::new();
    for (table, options) in sources {
        let table = source::plan(&mut context, table, options)?;
        context.planner.add_table(&table.name, table.schema.clone());
        tables.push(table);
    }
    let planned = context.planner.plan(&script.insert.query, &script.views);
    let logical = planned.map_err(|error| context.planner.error(text, &error, query))?;
    let shape = shape::of(&context, &tables, &logical)?;
    let sink = sink_table(&context, sink, sink_options, logical.schema().as_arrow())?;
    let to_sink = Step::Rows(cast_to_sink(logical.schema().as_arrow(), &sink));
    let sources: Vec<_> = shape.sources.iter().filter_map(|place| tables.get(*place).cloned()).collect();
    Ok(Plan {
        fingerprint: fingerprint(&sources, &logical, &sink.options, &context.planner.versions(text)),
        sources,
        sink,
        windows: shape.grid.windows,
        session_gap: shape.grid.session_gap,
        inputs: shape.inputs,
        closed: shape::then(shape.closed, to_sink),
    })
}

fn find_sink<'a>(
    context: &Context<'_>,
    script: &'a Script,
    sources: &[(&TableDefinition, SourceOptions)],
    sinks: &[(&'a TableDefinition, SinkOptions)],
) -> Result<(&'a TableDefinition, SinkOptions), SqlError> {
    let name = &script.insert.sink;
    if let Some((table, options)) = sinks.iter().find(|(table, _)| table.name.value == name.value) {
        return Ok((table, options.clone()));
    }
    if sources.iter().any(|(table, _)| table.name.value == name.value) {
        let message = format!("`{}` is a source and can't be inserted into", name.value);
        return Err(context
            .text
            .error("insert-into-source", name.span, message)
            .hint("insert into a table with type = 'sink'"));
    }
    let known: Vec<&str> = sinks.iter().map(|(table, _)| table.name.value.as_str()).collect();
    let error = context.text.error("unknown-table", name.span, format!("unknown sink `{}`", name.value));
    Err(error.hint(format!("the sinks are {}", known.join(", "))))
}

/// Columns as they may come out of evaluation: without promises about nulls.
pub(super) fn nullable(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> =
        schema.fields().iter().map(|f| Field::new(f.name(), f.data_type().clone(), true)).collect();
    Arc::new(Schema::new(fields))
}

/// Refuses what is not deterministic, and windows outside GROUP BY.
pub(super) fn check(context: &Context<'_>, expr: &Expr) -> Result<(), SqlError> {
    let mut fault = None;
    let walked = expr.apply(|node| {
        if let Expr::ScalarFunction(call) = node {
            if functions::is_window(call.name()) {
                fault = Some((
                    "window-outside-group-by",
                    call.name().to_owned(),
                    "a window stands only in GROUP BY, and by its alias in the same SELECT".to_owned(),
                ));
            } else if call.func.signature().volatility != Volatility::Immutable {
                fault = Some((
                    "not-deterministic",
                    call.name().to_owned(),
                    format!("function `{}` is not deterministic", call.name()),
                ));
            }
        }
        Ok(if fault.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.map_err(|error| context.planner.error(context.text, &error, context.query))?;
    match fault {
        None => Ok(()),
        Some((code, word, message)) => {
            let at = context.text.find(&word).unwrap_or(context.query);
            let hint = if code == "not-deterministic" {
                "use the event time: the same input must give the same rows"
            } else {
                WINDOW_HINT
            };
            Err(context.text.error(code, at, message).hint(hint))
        }
    }
}

fn sink_table(
    context: &Context<'_>,
    table: &TableDefinition,
    options: SinkOptions,
    query: &Schema,
) -> Result<SinkTable, SqlError> {
    if let Some(watermark) = &table.watermark {
        return Err(context.text.error("sink-watermark", watermark.span, "a sink has no WATERMARK FOR"));
    }
    let fields: Vec<Field> = if table.columns.is_empty() {
        query.fields().iter().map(|field| Field::new(field.name(), field.data_type().clone(), true)).collect()
    } else {
        if table.columns.len() != query.fields().len() {
            let message = format!(
                "sink `{}` has {} columns, the query has {}",
                table.name.value,
                table.columns.len(),
                query.fields().len()
            );
            return Err(context
                .text
                .error("column-count", context.query, message)
                .hint("values go to columns by position"));
        }
        table.columns.iter().map(|column| Field::new(&column.name.value, column.kind.clone(), true)).collect()
    };
    for (from, to) in query.fields().iter().zip(&fields) {
        if !arrow::compute::can_cast_types(from.data_type(), to.data_type()) {
            let message = format!(
                "column `{}` is {}, which can't be written as {}",
                to.name(),
                types::sql_name(from.data_type()),
                types::sql_name(to.data_type())
            );
            return Err(context.text.error("column-type", context.query, message));
        }
    }
    let at = |name: &str, kind: &str, fits: fn(&DataType) -> bool| {
        let found = fields.iter().position(|field| field.name() == name);
        found.filter(|index| fits(fields[*index].data_type())).ok_or_else(|| {
            context
                .text
                .error(
                    "features-columns",
                    table.name.span,
                    format!("sink `{}` has no column `{name}` of type {kind}", table.name.value),
                )
                .hint("a features row has service TEXT, window_start TIMESTAMP and window_end TIMESTAMP")
        })
    };
    let is_text = |kind: &DataType| matches!(kind, DataType::Utf8);
    let is_time = |kind: &DataType| matches!(kind, DataType::Timestamp(_, None));
    at("service", "TEXT", is_text)?;
    let (window_start, window_end) =
        (at("window_start", "TIMESTAMP", is_time)?, at("window_end", "TIMESTAMP", is_time)?);
    let key = at(options.key_field.as_deref().unwrap_or("service"), "TEXT", is_text)?;
    let schema = Arc::new(Schema::new(fields));
    Ok(SinkTable { name: table.name.value.clone(), options, schema, key, window_start, window_end })
}

/// The last step: each column by position, cast to the sink's type.
fn cast_to_sink(query: &Schema, sink: &SinkTable) -> Stage {
    let exprs = query.fields().iter().zip(sink.schema.fields()).enumerate().map(|(index, (from, to))| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(from.name(), index));
        if from.data_type() == to.data_type() {
            column
        } else {
            Arc::new(CastExpr::new(column, to.data_type().clone(), None)) as _
        }
    });
    Stage::Project { exprs: exprs.collect(), schema: sink.schema.clone() }
}

fn fingerprint(sources: &[super::SourceTable], logical: &LogicalPlan, sink: &SinkOptions, udfs: &str) -> String {
    let sources = sources.iter().map(|source| {
        let computed: Vec<String> = source.computed.iter().map(|c| format!("{} = {}", c.field, c.expr)).collect();
        format!("{}|{:?}|{:?}|{computed:?}|{}", source.name, source.options.format, source.payload, source.watermark)
    });
    let sources = sources.collect::<Vec<_>>().join("|");
    let text = format!("1|{sources}|{}|{:?}{udfs}", logical.display_indent_schema(), sink.key_field);
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

/// The type of an expression over `schema`, for messages.
pub(super) fn type_of(expr: &Expr, schema: &DFSchema) -> Option<(DataType, bool)> {
    Some((expr.get_type(schema).ok()?, expr.nullable(schema).ok()?))
}
