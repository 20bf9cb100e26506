//! Clauses that a query may not have. Rule: each is refused where it stands, before planning, with the portable form.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, Query, Select, SetExpr, TableFactor, visit_expressions,
};

use super::script::{SourceText, span_of};
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
    match query.body.as_ref() {
        SetExpr::Select(select) => check_select(text, select)?,
        SetExpr::Query(inner) => check(text, inner)?,
        SetExpr::SetOperation { op, .. } => {
            return Err(text
                .error("set-operation", keyword(&op.to_string()), format!("{op} is not supported yet"))
                .hint("write one pipeline file for each part"));
        }
        _ => return Err(text.error("unsupported-query", at, "expected a SELECT")),
    }
    let mut fault = None;
    let _faulty_or_not: ControlFlow<()> = visit_expressions(query, |expr| match expr {
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
    if select.from.len() > 1 || select.from.iter().any(|from| !from.joins.is_empty()) {
        return Err(text
            .error("join", keyword("JOIN"), "joins are not supported yet")
            .hint("select from one source or subquery"));
    }
    for from in &select.from {
        match &from.relation {
            TableFactor::Derived { subquery, .. } => check(text, subquery)?,
            TableFactor::Table { name, args: Some(_), .. } => {
                return Err(text
                    .error("table-function", span_of(name), format!("table function `{name}` is not supported"))
                    .hint("group by tumble(INTERVAL '1 minute')"));
            }
            TableFactor::Table { .. } => {}
            other => {
                return Err(text.error(
                    "unsupported-query",
                    span_of(other),
                    "expected a table or a subquery after FROM",
                ));
            }
        }
    }
    Ok(())
}

fn check_call(text: &SourceText<'_>, call: &Function) -> Result<(), SqlError> {
    let (name, at) = (call.name.to_string().to_lowercase(), span_of(&call.name));
    if call.over.is_some() {
        return Err(text
            .error("over", at, "OVER is not supported yet")
            .hint("aggregate in a window: GROUP BY tumble(…)"));
    }
    let arguments = match &call.args {
        FunctionArguments::List(list) => list.args.len(),
        FunctionArguments::None | FunctionArguments::Subquery(_) => 0,
    };
    match name.as_str() {
        "tumble" if arguments != 1 => Err(text
            .error("window-arguments", at, format!("tumble takes one argument, its width, not {arguments}"))
            .hint("write tumble(INTERVAL '1 minute'): the time is the one of WATERMARK FOR")),
        "hop" | "session" => Err(text
            .error("unsupported-window", at, format!("{name} windows are not supported yet"))
            .hint("write tumble(INTERVAL '1 minute')")),
        _ => Ok(()),
    }
}
