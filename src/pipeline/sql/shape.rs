//! The query's form: aggregations over rows of sources at the bottom, and what is made of their windows above them.
//! Rule: what the engine can't run is refused here, with the portable form.

use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::common::JoinType;
use datafusion::logical_expr::utils::{conjunction, find_valid_equijoin_key_pair, split_conjunction};
use datafusion::logical_expr::{
    Aggregate as LogicalAggregate, Expr, Join as LogicalJoin, LogicalPlan, Operator, Union as LogicalUnion,
    Window as LogicalWindow,
};

use super::aggregation::{self, Grid, WINDOW_HINT, is_window};
use super::plan::{Branch, Closed, Input, Join, JoinKind, RowNumber, SourceTable, Stage, Step};
use super::validate::{Context, check, nullable};
use crate::SqlError;

const JOIN_HINT: &str = "write SELECT … FROM (SELECT service, tumble(INTERVAL '1 minute') AS window, count(*) AS n FROM a GROUP BY service, window) AS a LEFT JOIN (… FROM b GROUP BY service, window) AS b ON a.service = b.service AND a.window = b.window";
const TOP_HINT: &str = "write ROW_NUMBER() OVER (PARTITION BY window ORDER BY n DESC) AS row_number over a query that is grouped by tumble(…) or hop(…) AS window";

/// What a query comes to.
pub(super) struct Shape {
    /// Places in the list of tables, in the order in which the query names them.
    pub(super) sources: Vec<usize>,
    pub(super) inputs: Vec<Input>,
    pub(super) closed: Closed,
    pub(super) grid: Grid,
}

/// Takes a query apart; `tables` are all sources that it may read.
pub(super) fn of(context: &Context<'_>, tables: &[SourceTable], query: &LogicalPlan) -> Result<Shape, SqlError> {
    let mut reading = Reading { context, tables, sources: Vec::new(), inputs: Vec::new(), grid: None };
    let closed = reading.closed(query)?;
    let grid = reading.grid.ok_or_else(|| no_window(context))?;
    let inputs = reading.inputs.into_iter().map(|(_, input)| input).collect();
    Ok(Shape { sources: reading.sources, inputs, closed, grid })
}

struct Reading<'a> {
    context: &'a Context<'a>,
    tables: &'a [SourceTable],
    sources: Vec<usize>,
    /// With the plan that each comes from: one that is read twice is computed once.
    inputs: Vec<(&'a LogicalAggregate, Input)>,
    grid: Option<Grid>,
}

impl<'a> Reading<'a> {
    /// A query whose rows are those of windows.
    fn closed(&mut self, plan: &'a LogicalPlan) -> Result<Closed, SqlError> {
        match plan {
            LogicalPlan::SubqueryAlias(node) => self.closed(&node.input),
            LogicalPlan::Projection(node) => self.row_step(plan, &node.input),
            LogicalPlan::Filter(node) => self.row_step(plan, &node.input),
            LogicalPlan::Aggregate(node) if is_windowed(&node.input) => {
                let from = self.closed(&node.input)?;
                let grid = self.grid.ok_or_else(|| no_window(self.context))?;
                Ok(then(from, Step::Aggregate(aggregation::nested(self.context, node, grid)?)))
            }
            LogicalPlan::Aggregate(node) => self.input(node),
            LogicalPlan::Window(node) => self.numbered(node),
            LogicalPlan::Join(node) => self.join(node),
            LogicalPlan::Union(node) => self.union(node),
            LogicalPlan::TableScan(_) => Err(no_window(self.context)),
            other => Err(unsupported(self.context, other)),
        }
    }

    fn row_step(&mut self, plan: &'a LogicalPlan, input: &'a LogicalPlan) -> Result<Closed, SqlError> {
        let from = self.closed(input)?;
        Ok(match stage(self.context, plan)? {
            Some(stage) => then(from, Step::Rows(stage)),
            None => from,
        })
    }

    /// An aggregation of a source's rows.
    fn input(&mut self, node: &'a LogicalAggregate) -> Result<Closed, SqlError> {
        if let Some(place) = self.inputs.iter().position(|(known, _)| *known == node) {
            return Ok(Closed::Input(place));
        }
        let branches = self.branches(&node.input)?;
        let (grid, aggregation) = aggregation::first(self.context, node)?;
        let all = *self.grid.get_or_insert(grid);
        if all != grid {
            let context = self.context;
            let at = context.text.find(grid.function()).unwrap_or(context.query);
            let message = format!("windows {} and {} stand in one query", all.text(), grid.text());
            let error = context.text.error("other-window", at, message);
            return Err(error.hint("write the same window in all parts, or one pipeline file for each"));
        }
        self.inputs.push((node, Input { branches, aggregation }));
        Ok(Closed::Input(self.inputs.len() - 1))
    }

    /// The branches below an aggregation, each from its source upwards.
    fn branches(&mut self, plan: &'a LogicalPlan) -> Result<Vec<Branch>, SqlError> {
        let step = |reading: &mut Self, input: &'a LogicalPlan| {
            let mut all = reading.branches(input)?;
            if let Some(stage) = stage(reading.context, plan)? {
                all.iter_mut().for_each(|branch| branch.stages.push(stage.clone()));
            }
            Ok(all)
        };
        match plan {
            LogicalPlan::Projection(node) => step(self, &node.input),
            LogicalPlan::Filter(node) => step(self, &node.input),
            LogicalPlan::SubqueryAlias(node) => self.branches(&node.input),
            LogicalPlan::TableScan(scan) => {
                Ok(vec![Branch { source: self.source(scan.table_name.table())?, stages: Vec::new() }])
            }
            LogicalPlan::Union(node) => {
                let mut all = Vec::new();
                for input in &node.inputs {
                    all.append(&mut self.branches(input)?);
                }
                Ok(all)
            }
            LogicalPlan::Join(_) => Err(self.unwindowed_join()),
            LogicalPlan::Window(_) => Err(over_rows(self.context)),
            other => Err(unsupported(self.context, other)),
        }
    }

    fn source(&mut self, name: &str) -> Result<usize, SqlError> {
        let Some(table) = self.tables.iter().position(|table| table.name == name) else {
            let message = format!("the query reads `{name}`, which is no source");
            return Err(self.context.text.error("unknown-table", self.context.query, message));
        };
        Ok(self.sources.iter().position(|known| *known == table).unwrap_or_else(|| {
            self.sources.push(table);
            self.sources.len() - 1
        }))
    }

    fn union(&mut self, node: &'a LogicalUnion) -> Result<Closed, SqlError> {
        let windowed = node.inputs.iter().filter(|input| is_windowed(input)).count();
        if windowed == 0 {
            return Err(no_window(self.context));
        }
        if windowed < node.inputs.len() {
            let at = self.context.text.find("UNION").unwrap_or(self.context.query);
            let message = "UNION ALL of a windowed query and one without a window";
            let error = self.context.text.error("union-windows", at, message);
            return Err(error.hint("group all parts by the same window, or write UNION ALL below one GROUP BY"));
        }
        let parts = node.inputs.iter().map(|input| self.closed(input)).collect::<Result<_, _>>()?;
        self.no_sessions("UNION ALL", "UNION")?;
        Ok(Closed::Union(parts, nullable(node.schema.as_arrow())))
    }

    fn join(&mut self, node: &'a LogicalJoin) -> Result<Closed, SqlError> {
        let context = self.context;
        let refuse = |code, message: String| {
            let at = context.text.find("JOIN").unwrap_or(context.query);
            Err(context.text.error(code, at, message).hint(JOIN_HINT))
        };
        if !is_windowed(&node.left) || !is_windowed(&node.right) {
            return Err(self.unwindowed_join());
        }
        let kind = match node.join_type {
            JoinType::Inner => JoinKind::Inner,
            JoinType::Left => JoinKind::Left,
            JoinType::Right => JoinKind::Right,
            JoinType::Full => JoinKind::Full,
            other => return refuse("join-kind", format!("a {other} join is not supported")),
        };
        let (pairs, filter) = conditions(node);
        if pairs.is_empty() {
            return refuse("join-condition", "a join has no pair of columns that have to be equal".to_owned());
        }
        let (left, right) = (self.closed(&node.left)?, self.closed(&node.right)?);
        self.no_sessions("a join", "JOIN")?;
        let mut on = Vec::new();
        for (a, b) in &pairs {
            // Rows meet in their window anyway.
            if is_window(a, &node.left) && is_window(b, &node.right) {
                continue;
            }
            check(context, a)?;
            check(context, b)?;
            let a = context.physical(a, node.left.schema(), context.query)?;
            on.push((a, context.physical(b, node.right.schema(), context.query)?));
        }
        let filter = match filter {
            Some(filter) => {
                check(context, &filter)?;
                Some(context.physical(&filter, &node.schema, context.query)?)
            }
            None => None,
        };
        Ok(Closed::Join(Box::new(Join { left, right, kind, on, filter, schema: nullable(node.schema.as_arrow()) })))
    }

    fn numbered(&mut self, node: &'a LogicalWindow) -> Result<Closed, SqlError> {
        let context = self.context;
        if !is_windowed(&node.input) {
            return Err(over_rows(context));
        }
        let refuse = |code, message: &str| {
            let at = context.text.find("OVER").unwrap_or(context.query);
            Err(context.text.error(code, at, message).hint(TOP_HINT))
        };
        let mut from = self.closed(&node.input)?;
        self.no_sessions("ROW_NUMBER", "OVER")?;
        let schema = nullable(node.schema.as_arrow());
        let columns = node.input.schema().fields().len();
        for (place, expr) in (columns + 1..).zip(&node.window_expr) {
            let Expr::WindowFunction(call) = expr.clone().unalias() else {
                return refuse("over", "only ROW_NUMBER is supported with OVER");
            };
            let params = call.params;
            if !params.partition_by.iter().any(|expr| is_window(expr, &node.input)) {
                return refuse("over-window", "ROW_NUMBER is not partitioned by the window of the query below it");
            }
            if params.order_by.is_empty() {
                return refuse("over-order", "ROW_NUMBER without ORDER BY numbers rows in no order");
            }
            let mut partition = Vec::new();
            for expr in params.partition_by.iter().filter(|expr| !is_window(expr, &node.input)) {
                check(context, expr)?;
                partition.push(context.physical(expr, node.input.schema(), context.query)?);
            }
            let mut order = Vec::new();
            for sort in &params.order_by {
                check(context, &sort.expr)?;
                let expr = context.physical(&sort.expr, node.input.schema(), context.query)?;
                order.push((expr, SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first }));
            }
            let schema = Arc::new(
                schema
                    .project(&(0..place).collect::<Vec<_>>())
                    .map_err(|error| context.text.error("query", context.query, error.to_string()))?,
            );
            from = then(from, Step::RowNumber(RowNumber { partition, order, schema }));
        }
        Ok(from)
    }

    fn unwindowed_join(&self) -> SqlError {
        let at = self.context.text.find("JOIN").unwrap_or(self.context.query);
        let message = "a join needs the same window on both sides: its rows would have to be kept for ever";
        self.context.text.error("unwindowed-join", at, message).hint(JOIN_HINT)
    }

    fn no_sessions(&self, what: &str, word: &str) -> Result<(), SqlError> {
        if !self.grid.is_some_and(Grid::is_session) {
            return Ok(());
        }
        let at = self.context.text.find(word).unwrap_or(self.context.query);
        let error = self.context.text.error("session", at, format!("{what} over session windows is not supported"));
        Err(error.hint("group by tumble(…) or hop(…), or write the sessions to a topic of their own"))
    }
}

/// The conditions of a join: pairs of expressions over the left and the right that have to be equal, and the rest.
fn conditions(node: &LogicalJoin) -> (Vec<(Expr, Expr)>, Option<Expr>) {
    let (mut pairs, mut rest) = (node.on.clone(), Vec::new());
    let (left, right) = (node.left.schema(), node.right.schema());
    for part in node.filter.iter().flat_map(split_conjunction) {
        let pair = match part {
            Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
                find_valid_equijoin_key_pair(&binary.left, &binary.right, left, right).unwrap_or(None)
            }
            _ => None,
        };
        match pair {
            Some(pair) => pairs.push(pair),
            None => rest.push(part.clone()),
        }
    }
    (pairs, conjunction(rest))
}

/// Whether rows of windows come out of a query.
fn is_windowed(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Aggregate(_)) || plan.inputs().into_iter().any(is_windowed)
}

/// A step after another.
pub(super) fn then(from: Closed, step: Step) -> Closed {
    match from {
        Closed::Steps(from, mut steps) => {
            steps.push(step);
            Closed::Steps(from, steps)
        }
        from => Closed::Steps(Box::new(from), vec![step]),
    }
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

fn no_window(context: &Context<'_>) -> SqlError {
    context.text.error("no-window", context.query, "the query has no window").hint(WINDOW_HINT)
}

fn over_rows(context: &Context<'_>) -> SqlError {
    let at = context.text.find("OVER").unwrap_or(context.query);
    let error =
        context.text.error("over-window", at, "ROW_NUMBER stands over rows that are not aggregated by a window");
    error.hint(TOP_HINT)
}

fn unsupported(context: &Context<'_>, plan: &LogicalPlan) -> SqlError {
    let what = plan.display().to_string();
    let what = what.split(':').next().unwrap_or_default();
    let error =
        context.text.error("unsupported-query", context.query, format!("`{what}` is not supported in a pipeline"));
    error.hint(WINDOW_HINT)
}
