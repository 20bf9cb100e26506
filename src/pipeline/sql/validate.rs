//! From statements to a plan that can run. Rule: every check names the place in the text.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::Volatility;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Aggregate as LogicalAggregate, Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::aggregation::{self, WINDOW_HINT};
use super::ddl::TableDefinition;
use super::functions::{HOP, TUMBLE};
use super::options::{self, SinkOptions, SourceOptions, TableOptions};
use super::plan::{Plan, SinkTable, Stage, Step};
use super::planner::Planner;
use super::script::{Script, SourceText, span_of};
use super::{source, syntax, types};
use crate::SqlError;
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
        self.simplified(expr.clone(), schema)
            .and_then(|expr| {
                create_physical_expr(&expr, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
            })
            .map_err(|error| self.planner.error(self.text, &error, at))
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
    let shape = Shape::of(&context, &logical)?;
    let source = tables.into_iter().find(|table| table.name == shape.table).ok_or_else(|| {
        text.error("unknown-table", query, format!("the query reads `{}`, which is no source", shape.table))
    })?;
    let fingerprint = fingerprint(&source, &logical, &sink_options, &context.planner.versions(text));
    let (windows, aggregation) = aggregation::first(&context, shape.aggregate)?;
    let branch = |nodes: &Vec<&LogicalPlan>| {
        let stages = nodes.iter().map(|node| stage(&context, node));
        stages.filter_map(Result::transpose).collect::<Result<Vec<_>, SqlError>>()
    };
    let branches = shape.branches.iter().map(branch).collect::<Result<_, _>>()?;
    let mut after = Vec::new();
    for node in &shape.above {
        if let LogicalPlan::Aggregate(node) = node {
            after.push(Step::Aggregate(aggregation::nested(&context, node, windows)?));
        } else {
            after.extend(stage(&context, node)?.map(Step::Rows));
        }
    }
    let sink = sink_table(&context, sink, sink_options, logical.schema().as_arrow())?;
    after.push(Step::Rows(cast_to_sink(logical.schema().as_arrow(), &sink)));
    Ok(Plan { source, sink, windows, branches, aggregation, after, fingerprint })
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

/// The query as a chain: branches below the aggregation of the source's rows, and steps above it, which may aggregate
/// again; each from its input upwards.
struct Shape<'a> {
    table: String,
    branches: Vec<Vec<&'a LogicalPlan>>,
    aggregate: &'a LogicalAggregate,
    above: Vec<&'a LogicalPlan>,
}

impl<'a> Shape<'a> {
    fn of(context: &Context<'_>, top: &'a LogicalPlan) -> Result<Self, SqlError> {
        let (mut above, mut below, mut aggregate, mut plan) = (Vec::new(), Vec::new(), None, top);
        loop {
            plan = match plan {
                LogicalPlan::Projection(node) => {
                    below.push(plan);
                    &node.input
                }
                LogicalPlan::Filter(node) => {
                    below.push(plan);
                    &node.input
                }
                LogicalPlan::SubqueryAlias(node) => &node.input,
                LogicalPlan::Aggregate(node) => {
                    above.extend(aggregate.replace((plan, node)).map(|(plan, _)| plan));
                    above.append(&mut below);
                    &node.input
                }
                LogicalPlan::Union(_) if aggregate.is_none() => return Err(union_of_windows(context)),
                _ => {
                    let mut branches = branches(context, plan)?;
                    let Some((_, aggregate)) = aggregate else {
                        return Err(context
                            .text
                            .error("no-window", context.query, "the query has no window")
                            .hint(WINDOW_HINT));
                    };
                    below.reverse();
                    above.reverse();
                    let table = branches.first().map(|(table, _)| *table).unwrap_or_default();
                    if let Some((other, _)) = branches.iter().find(|(other, _)| *other != table) {
                        let at = context.text.find("UNION").unwrap_or(context.query);
                        let message =
                            format!("UNION ALL of two sources, `{table}` and `{other}`, is not supported yet");
                        let error = context.text.error("union-sources", at, message);
                        return Err(error.hint("write one pipeline file for each source"));
                    }
                    branches.iter_mut().for_each(|(_, nodes)| nodes.extend(&below));
                    let branches = branches.into_iter().map(|(_, nodes)| nodes).collect();
                    return Ok(Self { table: table.to_owned(), branches, aggregate, above });
                }
            };
        }
    }
}

/// The table of each branch and its steps, from the table upwards.
type Branches<'a> = Vec<(&'a str, Vec<&'a LogicalPlan>)>;

fn branches<'a>(context: &Context<'_>, plan: &'a LogicalPlan) -> Result<Branches<'a>, SqlError> {
    let above = |input: &'a LogicalPlan| {
        let mut all = branches(context, input)?;
        all.iter_mut().for_each(|(_, nodes)| nodes.push(plan));
        Ok(all)
    };
    match plan {
        LogicalPlan::Projection(node) => above(&node.input),
        LogicalPlan::Filter(node) => above(&node.input),
        LogicalPlan::SubqueryAlias(node) => branches(context, &node.input),
        LogicalPlan::TableScan(scan) => Ok(vec![(scan.table_name.table(), Vec::new())]),
        LogicalPlan::Union(node) => {
            let mut all = Vec::new();
            for input in &node.inputs {
                all.append(&mut branches(context, input)?);
            }
            Ok(all)
        }
        LogicalPlan::Aggregate(_) => Err(union_of_windows(context)),
        other => {
            let what = other.display().to_string();
            let what = what.split(':').next().unwrap_or_default();
            Err(context
                .text
                .error("unsupported-query", context.query, format!("`{what}` is not supported in a pipeline"))
                .hint(WINDOW_HINT))
        }
    }
}

fn union_of_windows(context: &Context<'_>) -> SqlError {
    let at = context.text.find("UNION").unwrap_or(context.query);
    let error = context.text.error("union-windows", at, "UNION ALL of windowed queries is not supported yet");
    error.hint("write UNION ALL below the GROUP BY, or one pipeline file for each part")
}

/// A step over single rows; `None` for a node that does nothing to them.
fn stage(context: &Context<'_>, node: &LogicalPlan) -> Result<Option<Stage>, SqlError> {
    Ok(match node {
        LogicalPlan::Filter(filter) => {
            check(context, &filter.predicate)?;
            Some(Stage::Filter(context.physical(&filter.predicate, filter.input.schema(), context.query)?))
        }
        LogicalPlan::Projection(projection) => {
            let mut exprs = Vec::new();
            for expr in &projection.expr {
                check(context, expr)?;
                exprs.push(context.physical(expr, projection.input.schema(), context.query)?);
            }
            Some(Stage::Project { exprs, schema: nullable(projection.schema.as_arrow()) })
        }
        _ => None,
    })
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
            if matches!(call.name(), TUMBLE | HOP) {
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

fn fingerprint(source: &super::SourceTable, logical: &LogicalPlan, sink: &SinkOptions, udfs: &str) -> String {
    let computed: Vec<String> = source.computed.iter().map(|c| format!("{} = {}", c.field, c.expr)).collect();
    let text = format!(
        "1|{}|{:?}|{:?}|{computed:?}|{}|{}|{:?}{udfs}",
        source.name,
        source.options.format,
        source.payload,
        source.watermark,
        logical.display_indent_schema(),
        sink.key_field,
    );
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

/// The type of an expression over `schema`, for messages.
pub(super) fn type_of(expr: &Expr, schema: &DFSchema) -> Option<(DataType, bool)> {
    Some((expr.get_type(schema).ok()?, expr.nullable(schema).ok()?))
}
