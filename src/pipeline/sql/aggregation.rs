//! GROUP BY with a window. Rule: a query has one window, which every aggregation over an aggregation groups by again; an
//! aggregate is taken only if its result depends on the rows of the window and not on how they came.

use arrow::datatypes::DataType;
use datafusion::error::Result as PlanResult;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Aggregate as LogicalAggregate, Expr, LogicalPlan};
use datafusion::physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};
use datafusion::scalar::ScalarValue;

use super::functions::{self, HOP, SESSION, TUMBLE};
use super::plan::{Aggregate, Aggregation, GroupKey};
use super::types;
use super::validate::{Context, check, nullable, type_of};
use crate::SqlError;
use crate::exec::quantile_udaf;
use crate::window::Windows;

pub(super) const WINDOW_HINT: &str = "write SELECT service, window.start AS window_start, window.end AS window_end, requests FROM (SELECT service, tumble(INTERVAL '1 minute') AS window, count(*) AS requests FROM t GROUP BY service, window)";

const TUMBLE_HINT: &str = "write tumble(INTERVAL '1 minute'): a literal of days or less, more than zero";
const HOP_HINT: &str = "write hop(INTERVAL '1 minute', INTERVAL '5 minutes'): the slide, then the width, which is a multiple of it; literals of days or less, more than zero";
const NESTED_HINT: &str =
    "select the window of the inner query and write GROUP BY window in the outer one, without tumble(…) or hop(…)";

const SESSION_HINT: &str = "write session(INTERVAL '30 seconds'): a literal of days or less, more than zero";

/// A row is in at most so many windows.
const MOST_WINDOWS: i64 = 10_000;

/// Panes of a session's gap: rows of one key in one pane are surely in one session, and a session is complete at the end
/// of the pane in which it ends. More panes write it sooner and merge it more often.
const PANES_OF_GAP: i64 = 4;

/// The windows of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) windows: Windows,
    pub(super) session_gap: Option<i64>,
}

impl Grid {
    pub(super) fn is_session(self) -> bool {
        self.session_gap.is_some()
    }

    /// The name of the function that asks for it.
    pub(super) fn function(self) -> &'static str {
        match self.session_gap {
            Some(_) => SESSION,
            None if self.windows.is_tumbling() => TUMBLE,
            None => HOP,
        }
    }

    /// As in the SQL, for messages.
    pub(super) fn text(self) -> String {
        let span = |nanos: i64| prescale_domain::Span::from_millis(nanos / 1_000_000);
        let Windows { slide, width } = self.windows;
        match (self.session_gap, self.windows.is_tumbling()) {
            (Some(gap), _) => format!("session({})", span(gap)),
            (None, true) => format!("tumble({})", span(width)),
            (None, false) => format!("hop({}, {})", span(slide), span(width)),
        }
    }
}

/// The aggregation over the rows of a source, and its windows.
pub(super) fn first(context: &Context<'_>, node: &LogicalAggregate) -> Result<(Grid, Aggregation), SqlError> {
    let (mut grid, mut keys) = (None, Vec::new());
    for expr in &node.group_expr {
        if let Some(found) = grid_of(context, expr)? {
            if grid.replace(found).is_some() {
                return Err(second_window(context));
            }
            keys.push(GroupKey::Window);
        } else {
            keys.push(column(context, node, expr)?);
        }
    }
    let Some(grid) = grid else {
        return Err(context.text.error("no-window", context.query, "the GROUP BY has no window").hint(WINDOW_HINT));
    };
    Ok((grid, aggregation(context, node, keys)?))
}

/// An aggregation over rows that are aggregated by the windows of `grid` already.
pub(super) fn nested(context: &Context<'_>, node: &LogicalAggregate, grid: Grid) -> Result<Aggregation, SqlError> {
    if grid.is_session() {
        let at = context.text.find(SESSION).unwrap_or(context.query);
        let error = context.text.error("session", at, "an aggregation over session windows is not supported");
        return Err(error.hint("group by tumble(…) or hop(…), or write the sessions to a topic of their own"));
    }
    let mut keys = Vec::new();
    for expr in &node.group_expr {
        if let Some(found) = grid_of(context, expr)? {
            if found != grid {
                let at = context.text.find(found.function()).unwrap_or(context.query);
                let message = "window in group by does not match input window";
                return Err(context.text.error("other-window", at, message).hint(NESTED_HINT));
            }
            keys.push(GroupKey::Window);
        } else if is_window(expr, &node.input) {
            keys.push(GroupKey::Window);
        } else {
            keys.push(column(context, node, expr)?);
        }
    }
    match keys.iter().filter(|key| matches!(key, GroupKey::Window)).count() {
        0 => {
            let message = "an aggregation over windows does not group by their window";
            Err(context.text.error("nested-window", context.query, message).hint(NESTED_HINT))
        }
        1 => aggregation(context, node, keys),
        _ => Err(second_window(context)),
    }
}

fn second_window(context: &Context<'_>) -> SqlError {
    let error = context.text.error("second-window", context.query, "a GROUP BY has one window");
    error.hint("write one tumble(…), hop(…) or session(…)")
}

fn column(context: &Context<'_>, node: &LogicalAggregate, expr: &Expr) -> Result<GroupKey, SqlError> {
    check(context, expr)?;
    Ok(GroupKey::Column(context.physical(expr, node.input.schema(), context.query)?))
}

fn aggregation(context: &Context<'_>, node: &LogicalAggregate, keys: Vec<GroupKey>) -> Result<Aggregation, SqlError> {
    let schema = node.input.schema();
    let (mut aggregates, mut sketches) = (Vec::new(), Vec::new());
    for expr in &node.aggr_expr {
        check(context, expr)?;
        let expr = &context
            .simplified_arguments(expr.clone(), schema)
            .map_err(|error| context.planner.error(context.text, &error, context.query))?;
        check_types(context, node, expr)?;
        let (props, planning) = (ExecutionProps::new(), PhysicalPlanningContext::default());
        let lowered = LoweredAggregateBuilder::new(expr, schema, schema.as_arrow(), &props, &planning)
            .build()
            .and_then(|lowered| try_out(&lowered.aggregate).map(|()| lowered))
            .map_err(|error| context.planner.error(context.text, &error, context.query))?;
        let mut shares = None;
        if let Expr::AggregateFunction(call) = expr.clone().unalias()
            && call.func.name() == quantile_udaf::NAME
        {
            let values = (call.params.args.into_iter().next(), call.params.filter);
            shares = sketches.iter().find(|(known, _)| *known == values).map(|(_, index)| *index);
            sketches.push((values, aggregates.len()));
        }
        aggregates.push(Aggregate { function: lowered.aggregate, filter: lowered.filter, shares });
    }
    Ok(Aggregation { keys, aggregates, output: nullable(node.schema.as_arrow()) })
}

/// Makes an accumulator: some aggregates find out only then that they can't.
fn try_out(function: &AggregateFunctionExpr) -> PlanResult<()> {
    if function.groups_accumulator_supported() {
        function.create_groups_accumulator().map(drop)
    } else {
        function.create_accumulator().map(drop)
    }
}

/// Refuses types for which an aggregate depends on the order of rows.
fn check_types(context: &Context<'_>, node: &LogicalAggregate, expr: &Expr) -> Result<(), SqlError> {
    let Expr::AggregateFunction(call) = expr.clone().unalias() else { return Ok(()) };
    let name = call.func.name();
    let Some((kind, _)) = call.params.args.first().and_then(|argument| type_of(argument, node.input.schema())) else {
        return Ok(());
    };
    let refuse = |message: String, hint: &str| {
        let at = context.text.find(name).unwrap_or(context.query);
        Err(context.text.error("aggregate-type", at, message).hint(hint))
    };
    match name {
        "sum" if call.params.distinct && kind.is_floating() => refuse(
            format!("sum(DISTINCT …) of {} depends on the order of rows", types::sql_name(&kind)),
            "write sum(DISTINCT CAST(x AS BIGINT))",
        ),
        "first_value" | "last_value" if kind == DataType::Boolean => {
            refuse(format!("{name} of BOOLEAN is not supported"), "write CAST(x AS INT)")
        }
        _ => Ok(()),
    }
}

/// Whether an expression over `input` is the window by which `input` is aggregated.
pub(super) fn is_window(expr: &Expr, input: &LogicalPlan) -> bool {
    match expr {
        Expr::Alias(alias) => is_window(&alias.expr, input),
        Expr::Column(column) => {
            let index = input.schema().index_of_column(column);
            index.is_ok_and(|index| is_window_column(input, index))
        }
        Expr::ScalarFunction(call) => functions::is_window(call.name()),
        _ => false,
    }
}

fn is_window_column(plan: &LogicalPlan, index: usize) -> bool {
    match plan {
        LogicalPlan::Projection(node) => node.expr.get(index).is_some_and(|expr| is_window(expr, &node.input)),
        LogicalPlan::Filter(node) => is_window_column(&node.input, index),
        LogicalPlan::SubqueryAlias(node) => is_window_column(&node.input, index),
        LogicalPlan::Aggregate(node) => node.group_expr.get(index).is_some_and(|expr| is_window(expr, &node.input)),
        LogicalPlan::Window(node) => is_window_column(&node.input, index),
        LogicalPlan::Union(node) => node.inputs.iter().all(|input| is_window_column(input, index)),
        LogicalPlan::Join(node) => {
            let left = node.left.schema().fields().len();
            match index.checked_sub(left) {
                Some(index) => is_window_column(&node.right, index),
                None => is_window_column(&node.left, index),
            }
        }
        _ => false,
    }
}

/// The windows that `expr` asks for, if it is such a call.
fn grid_of(context: &Context<'_>, expr: &Expr) -> Result<Option<Grid>, SqlError> {
    let Expr::ScalarFunction(call) = expr.clone().unalias() else { return Ok(None) };
    let name = call.name();
    let hint = match name {
        TUMBLE => TUMBLE_HINT,
        HOP => HOP_HINT,
        SESSION => SESSION_HINT,
        _ => return Ok(None),
    };
    let at = context.text.find(name).unwrap_or(context.query);
    let refuse = |message: String| context.text.error("window-width", at, message).hint(hint);
    let length = |argument: Option<&Expr>, what: &str| match nanoseconds(argument) {
        Ok(nanos) if nanos > 0 => Ok(nanos),
        Ok(_) => Err(refuse(format!("the {what} of a window is more than zero"))),
        Err(Length::Months) => Err(refuse("months have no fixed length".to_owned())),
        Err(Length::NoLiteral) => Err(refuse(format!("the {what} of a window is an interval literal"))),
    };
    let first = call.args.first();
    let (windows, session_gap) = match name {
        TUMBLE => (Windows::tumble(length(first, "width")?), None),
        SESSION => {
            let gap = length(first, "gap")?;
            (Windows::tumble((gap / PANES_OF_GAP).max(1)), Some(gap))
        }
        _ => (Windows { slide: length(first, "slide")?, width: length(call.args.get(1), "width")? }, None),
    };
    if windows.width % windows.slide != 0 {
        return Err(refuse("the width of a hop window is not a multiple of its slide".to_owned()));
    }
    if windows.width / windows.slide > MOST_WINDOWS {
        return Err(refuse(format!("a row is in more than {MOST_WINDOWS} windows")));
    }
    Ok(Some(Grid { windows, session_gap }))
}

/// Why an argument is no length of time.
enum Length {
    Months,
    NoLiteral,
}

fn nanoseconds(argument: Option<&Expr>) -> Result<i64, Length> {
    let Some(Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(length)), _)) = argument else {
        return Err(Length::NoLiteral);
    };
    if length.months != 0 {
        return Err(Length::Months);
    }
    let days = i64::from(length.days).checked_mul(86_400_000_000_000);
    // What is too long for 64 bits is refused as if it were nothing.
    Ok(days.and_then(|days| days.checked_add(length.nanoseconds)).unwrap_or(0))
}
