//! Clauses that a query may not have. Rule: each is refused where it stands, before planning, with the portable form.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArgumentClause, FunctionArguments, JoinConstraint, JoinOperator, Query,
    Select, SetExpr, SetOperator, SetQuantifier, TableFactor, Visit, visit_expressions,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::script::{SourceText, span_of};
use super::{allowed, functions};
use crate::SqlError;

/// Checks a query and the queries inside it.
pub(super) fn check(text: &SourceText<'_>, query: &Query) -> Result<(), SqlError> {
    let at = span_of(query);
    let keyword = |word: &str| text.find(word).unwrap_or(at);
    if let Some(with) = &query.with {
        if with.recursive {
            return Err(text.error("recursive", keyword("RECURSIVE"), "WITH RECURSIVE is not supported"));
        }
        for cte in &with.cte_tables {
            check(text, &cte.query)?;
        }
    }
    if query.order_by.is_some() {
        return Err(text
            .error("order-by", keyword("ORDER"), "ORDER BY is not supported: a stream has no end to sort at")
            .hint("leave it out: rows are written by window and key"));
    }
    if query.limit_clause.is_some() || query.fetch.is_some() {
        return Err(text
            .error("limit", keyword("LIMIT"), "LIMIT is not supported: a stream has no end")
            .hint("leave it out"));
    }
    check_body(text, &query.body, at)?;
    check_calls(text, query)
}

fn check_body(text: &SourceText<'_>, body: &SetExpr, at: Span) -> Result<(), SqlError> {
    match body {
        SetExpr::Select(select) => check_select(text, select),
        SetExpr::Query(inner) => check(text, inner),
        SetExpr::SetOperation { op: SetOperator::Union, set_quantifier: SetQuantifier::All, left, right } => {
            check_body(text, left, at)?;
            check_body(text, right, at)
        }
        SetExpr::SetOperation { op, .. } => {
            let at = text.find(&op.to_string()).unwrap_or(at);
            let hint = if *op == SetOperator::Union { "write UNION ALL" } else { "filter with WHERE" };
            let what = if *op == SetOperator::Union { "UNION without ALL".to_owned() } else { op.to_string() };
            Err(text.error("set-operation", at, format!("{what} is not supported")).hint(hint))
        }
        _ => Err(text.error("unsupported-query", at, "expected a SELECT")),
    }
}

/// Checks the function calls in a query or an expression.
pub(super) fn check_calls(text: &SourceText<'_>, node: &impl Visit) -> Result<(), SqlError> {
    let mut fault = None;
    let _faulty_or_not: ControlFlow<()> = visit_expressions(node, |expr| match expr {
        Expr::Function(call) => match check_call(text, call) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                fault = Some(error);
                ControlFlow::Break(())
            }
        },
        _ => ControlFlow::Continue(()),
    });
    fault.map_or(Ok(()), Err)
}

fn check_select(text: &SourceText<'_>, select: &Select) -> Result<(), SqlError> {
    let at = span_of(select);
    let keyword = |word: &str| text.find(word).unwrap_or(at);
    if select.distinct.is_some() {
        return Err(text
            .error("distinct", keyword("DISTINCT"), "SELECT DISTINCT is not supported")
            .hint("group by the columns and a window"));
    }
    if select.from.len() > 1 {
        return Err(text
            .error("cross-join", span_of(&select.from[1]), "a list of tables after FROM is not supported")
            .hint("write JOIN … ON a.service = b.service AND a.window = b.window"));
    }
    for from in &select.from {
        check_relation(text, &from.relation)?;
        for join in &from.joins {
            check_relation(text, &join.relation)?;
            check_join(text, &join.join_operator, keyword("JOIN"))?;
        }
    }
    Ok(())
}

fn check_relation(text: &SourceText<'_>, relation: &TableFactor) -> Result<(), SqlError> {
    match relation {
        TableFactor::Derived { subquery, .. } => check(text, subquery),
        TableFactor::Table { name, args: Some(_), .. } => {
            Err(text.error("table-function", span_of(name), format!("table function `{name}` is not supported")).hint(
                "write GROUP BY tumble(INTERVAL '1 minute') or GROUP BY hop(INTERVAL '1 minute', INTERVAL '5 minutes')",
            ))
        }
        TableFactor::Table { .. } => Ok(()),
        other => Err(text.error("unsupported-query", span_of(other), "expected a table or a subquery after FROM")),
    }
}

fn check_join(text: &SourceText<'_>, join: &JoinOperator, at: Span) -> Result<(), SqlError> {
    let (JoinOperator::Join(constraint)
    | JoinOperator::Inner(constraint)
    | JoinOperator::Left(constraint)
    | JoinOperator::LeftOuter(constraint)
    | JoinOperator::Right(constraint)
    | JoinOperator::RightOuter(constraint)
    | JoinOperator::FullOuter(constraint)) = join
    else {
        let hint = "write JOIN, LEFT JOIN, RIGHT JOIN or FULL JOIN … ON a.service = b.service AND a.window = b.window";
        return Err(text.error("join-kind", at, "this kind of join is not supported").hint(hint));
    };
    let what = match constraint {
        JoinConstraint::On(_) => return Ok(()),
        JoinConstraint::Using(_) => "a join with USING is not supported",
        JoinConstraint::Natural => "a NATURAL join is not supported",
        JoinConstraint::None => "a join without ON is not supported",
    };
    Err(text.error("join-condition", at, what).hint("write ON a.service = b.service AND a.window = b.window"))
}

fn check_call(text: &SourceText<'_>, call: &Function) -> Result<(), SqlError> {
    let (name, at) = (call.name.to_string().to_lowercase(), span_of(&call.name));
    let name = name.trim_matches('"');
    if call.over.is_some() {
        if name == functions::ROW_NUMBER {
            return Ok(());
        }
        return Err(text
            .error("over", at, format!("{name} with OVER is not supported"))
            .hint("aggregate in a window, GROUP BY tumble(…); only ROW_NUMBER() may stand with OVER"));
    }
    if let Some(refusal) = allowed::refusal(name) {
        return Err(text.error(refusal.code(), at, refusal.message(name)).hint(refusal.hint()));
    }
    let (mut arguments, mut is_distinct, mut is_ordered) = (0, false, false);
    if let FunctionArguments::List(list) = &call.args {
        arguments = list.args.len();
        is_distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
        is_ordered = list.clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)));
    }
    if is_distinct {
        check_distinct(text, call, name, arguments)?;
    }
    match name {
        "tumble" if arguments != 1 => Err(text
            .error("window-arguments", at, format!("tumble takes one argument, its width, not {arguments}"))
            .hint("write tumble(INTERVAL '1 minute'): the time is the one of WATERMARK FOR")),
        "hop" if arguments != 2 => Err(text
            .error("window-arguments", at, format!("hop takes two arguments, its slide and its width, not {arguments}"))
            .hint("write hop(INTERVAL '1 minute', INTERVAL '5 minutes'): the time is the one of WATERMARK FOR")),
        "session" if arguments != 1 => Err(text
            .error("window-arguments", at, format!("session takes one argument, its gap, not {arguments}"))
            .hint("write session(INTERVAL '30 seconds'): the time is the one of WATERMARK FOR")),
        "first_value" | "last_value" if !is_ordered => Err(text
            .error("no-order", at, format!("{name} without ORDER BY depends on the order in which rows came"))
            .hint(format!("write {name}(x ORDER BY y)"))),
        _ => Ok(()),
    }
}

/// Refuses DISTINCT where the result would depend on the order of rows, or where nothing would come of it.
fn check_distinct(text: &SourceText<'_>, call: &Function, name: &str, arguments: usize) -> Result<(), SqlError> {
    let refuse =
        |message: String, hint: &str| Err(text.error("distinct-aggregate", span_of(&call.name), message).hint(hint));
    match name {
        "count" if arguments != 1 => refuse(
            format!("count(DISTINCT …) takes one argument, not {arguments}"),
            "write count(DISTINCT concat_ws('|', x, y))",
        ),
        "count" | "sum" | "min" | "max" | "bool_and" | "bool_or" | "bit_and" | "bit_or" => Ok(()),
        "avg" | "mean" => refuse(
            format!("{name}(DISTINCT …) depends on the order of rows"),
            "write CAST(sum(DISTINCT x) AS DOUBLE) / count(DISTINCT x) over whole numbers",
        ),
        _ => refuse(format!("{name}(DISTINCT …) is not supported"), "leave out DISTINCT"),
    }
}
