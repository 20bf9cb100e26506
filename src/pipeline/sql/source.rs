//! The source table: generated columns and the watermark as physical expressions. Rule: both see the payload and the
//! metadata only; a part of them that repeats a generated column is computed once.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ScalarValue, TableReference};
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, LogicalPlan, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast::{self, Ident, SelectItem, SetExpr};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Span;

use prescale_ingest::decode::{DecodeError, Decoder, Format};

use super::ddl::{ColumnDefinition, Origin, TableDefinition, WatermarkDefinition};
use super::options::SourceOptions;
use super::plan::{Computed, SourceTable};
use super::script::span_of;
use super::validate::{Context, check, type_of};
use super::{syntax, types};
use crate::SqlError;

/// The name of the watermark among the internal columns.
const WATERMARK: &str = "__watermark";

const NANOS: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);

/// Checks and plans a source table.
pub(super) fn plan(
    context: &mut Context<'_>,
    table: &TableDefinition,
    options: SourceOptions,
) -> Result<SourceTable, SqlError> {
    check_columns(context, table, &options)?;
    let watermark = table.watermark.as_ref().ok_or_else(|| {
        let message = format!("source `{}` has no watermark", table.name.value);
        context
            .text
            .error("no-watermark", table.name.span, message)
            .hint("write WATERMARK FOR ts AS ts - INTERVAL '5 seconds' after the columns")
    })?;
    let name = table.name.value.clone();
    let field = |column: &ColumnDefinition| -> FieldRef {
        Arc::new(Field::new(&column.name.value, column.kind.clone(), !column.not_null))
    };
    let payload: Vec<FieldRef> =
        table.columns.iter().filter(|c| matches!(c.origin, Origin::Payload)).map(field).collect();
    let metadata: Vec<_> = table
        .columns
        .iter()
        .filter_map(|column| match column.origin {
            Origin::Metadata(kind) => Some((field(column), kind)),
            _ => None,
        })
        .collect();
    let mut fields = payload.clone();
    fields.extend(metadata.iter().map(|(field, _)| field.clone()));
    context.planner.add_table(&name, Arc::new(Schema::new(fields.clone())));

    let mut known = Known { table: name.clone(), exprs: Vec::new() };
    let mut computed = Vec::new();
    for column in &table.columns {
        if let Origin::Generated(expr) = &column.origin {
            let is_event_time = column.name.value == watermark.column.value;
            let expr = generated(context, table, column, expr, &fields, &mut known)?;
            computed.push(Computed { field: field(column), expr, is_event_time });
            fields.push(field(column));
        }
    }
    let expr = watermark_expr(context, table, watermark, &fields, &known)?;
    let internal_index = |name: &str| fields.iter().position(|field| field.name() == name);
    let visible: Vec<usize> = table.columns.iter().filter_map(|column| internal_index(&column.name.value)).collect();
    let schema = Arc::new(Schema::new(visible.iter().map(|index| fields[*index].clone()).collect::<Vec<_>>()));
    let event =
        Expr::Cast(Cast::new(Box::new(Expr::Column(Column::new(Some(name.as_str()), &watermark.column.value))), NANOS));
    let event_time = context.physical(&event, &known.schema(context, &fields)?, watermark.span)?;
    // Rows with a null in a NOT NULL column are taken out after evaluation: until then nulls are allowed.
    let mut internal: Vec<Field> = fields.iter().map(|f| Field::new(f.name(), f.data_type().clone(), true)).collect();
    internal.push(Field::new(WATERMARK, NANOS, true));
    Ok(SourceTable {
        name,
        options,
        payload: Arc::new(Schema::new(payload)),
        metadata,
        computed,
        internal: Arc::new(Schema::new(internal)),
        visible,
        schema,
        record_key: None,
        event_time,
        watermark: expr,
    })
}

fn check_columns(context: &Context<'_>, table: &TableDefinition, options: &SourceOptions) -> Result<(), SqlError> {
    for (index, column) in table.columns.iter().enumerate() {
        let name = &column.name;
        if table.columns[..index].iter().any(|other| other.name.value == name.value) {
            return Err(context.text.error(
                "second-column",
                name.span,
                format!("column `{}` is given twice", name.value),
            ));
        }
        if let Origin::Metadata(kind) = column.origin
            && !kind.data_types().contains(&column.kind)
        {
            let expected = kind.data_types().iter().map(types::sql_name).collect::<Vec<_>>().join(" or ");
            let message =
                format!("metadata column `{}` is {}, expected {expected}", name.value, types::sql_name(&column.kind));
            return Err(context
                .text
                .error("metadata-type", name.span, message)
                .hint(format!("write {} {expected} METADATA FROM '…'", name.value)));
        }
    }
    let payload: Vec<_> = table.columns.iter().filter(|c| matches!(c.origin, Origin::Payload)).collect();
    let one_value =
        |kind: &DataType| payload.len() == 1 && payload[0].kind == *kind && payload[0].name.value == "value";
    let whole = match options.format {
        Format::RawString => Some(("raw_string", "raw-string-columns", "TEXT", DataType::Utf8)),
        Format::RawBytes => Some(("raw_bytes", "raw-bytes-columns", "BYTEA", DataType::Binary)),
        _ => None,
    };
    if let Some((format, code, name, _)) = whole.filter(|(_, _, _, kind)| !one_value(kind)) {
        let message = format!("a {format} source has one payload column, `value {name}`");
        return Err(context
            .text
            .error(code, table.name.span, message)
            .hint(format!("write value {name} NOT NULL and derive the others with GENERATED ALWAYS AS (…)")));
    }
    check_format(context, &payload, &options.format)
}

/// Whether each payload column can be read from the format.
fn check_format(context: &Context<'_>, payload: &[&ColumnDefinition], format: &Format) -> Result<(), SqlError> {
    let fields: Vec<Field> = payload.iter().map(|c| Field::new(&c.name.value, c.kind.clone(), !c.not_null)).collect();
    let Err(error) = Decoder::try_new(format, Arc::new(Schema::new(fields))) else { return Ok(()) };
    let span = match &error {
        DecodeError::Type { column, .. } => payload.iter().find(|c| c.name.value == *column).map(|c| c.name.span),
        _ => None,
    };
    let text = error.to_string();
    let (message, hint) = text.split_once("\nhint: ").unwrap_or((&text, ""));
    let error = context.text.error("column-format", span.unwrap_or_else(Span::empty), message);
    Err(if hint.is_empty() { error } else { error.hint(hint) })
}

/// Generated columns so far, so that a later expression that repeats one reads it instead.
struct Known {
    table: String,
    exprs: Vec<(Expr, String)>,
}

impl Known {
    fn reuse(&self, expr: Expr) -> Expr {
        let replaced = expr.clone().transform_down(|node| {
            let known = self.exprs.iter().find(|(known, _)| *known == node);
            Ok(match known {
                Some((_, name)) => Transformed::yes(Expr::Column(Column::new(Some(self.table.as_str()), name))),
                None => Transformed::no(node),
            })
        });
        replaced.map_or(expr, |replaced| replaced.data)
    }

    fn schema(&self, context: &Context<'_>, fields: &[FieldRef]) -> Result<DFSchema, SqlError> {
        let schema = Schema::new(fields.to_vec());
        DFSchema::try_from_qualified_schema(TableReference::bare(self.table.as_str()), &schema)
            .map_err(|error| context.planner.error(context.text, &error, context.query))
    }
}

fn generated(
    context: &Context<'_>,
    table: &TableDefinition,
    column: &ColumnDefinition,
    expr: &ast::Expr,
    fields: &[FieldRef],
    known: &mut Known,
) -> Result<Arc<dyn PhysicalExpr>, SqlError> {
    let at = span_of(expr);
    let logical = logical(context, table, expr, at)?;
    check(context, &logical)?;
    let schema = known.schema(context, fields)?;
    let (kind, _) = type_of(&logical, &schema).unwrap_or((DataType::Null, true));
    if !arrow::compute::can_cast_types(&kind, &column.kind) {
        let message = format!(
            "generated column `{}` is {}, its expression is {}",
            column.name.value,
            types::sql_name(&column.kind),
            types::sql_name(&kind)
        );
        return Err(context.text.error("generated-type", at, message));
    }
    let reused = known.reuse(logical.clone());
    if kind == column.kind {
        known.exprs.push((logical, column.name.value.clone()));
    }
    let cast = if kind == column.kind { reused } else { Expr::Cast(Cast::new(Box::new(reused), column.kind.clone())) };
    context.physical(&cast, &schema, at)
}

/// Plans an expression over the payload and metadata columns of `table`.
fn logical(context: &Context<'_>, table: &TableDefinition, expr: &ast::Expr, at: Span) -> Result<Expr, SqlError> {
    if let Some(column) = first_generated(table, expr) {
        let message = format!("`{}` is a generated column, which can't be used here", column.value);
        return Err(context
            .text
            .error("generated-reference", column.span, message)
            .hint("repeat its expression: it is computed once"));
    }
    syntax::check_calls(context.text, expr)?;
    let mut query = Parser::new(&PostgreSqlDialect {})
        .try_with_sql("SELECT 1 FROM t")
        .and_then(|mut parser| parser.parse_query())
        .map_err(|error| context.text.error("syntax", at, error.to_string()))?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection = vec![SelectItem::UnnamedExpr(expr.clone())];
        if let Some(ast::TableFactor::Table { name, .. }) = select.from.first_mut().map(|from| &mut from.relation) {
            *name = ast::ObjectName::from(vec![Ident::with_quote('"', &table.name.value)]);
        }
    }
    let planned = context.planner.plan(&query, &[]).map_err(|error| context.planner.error(context.text, &error, at))?;
    match planned {
        LogicalPlan::Projection(mut projection) if projection.expr.len() == 1 => {
            Ok(projection.expr.remove(0).unalias_nested().data)
        }
        _ => {
            Err(context.text.error("generated-expression", at, "expected one expression over the columns of the table"))
        }
    }
}

fn first_generated(table: &TableDefinition, expr: &ast::Expr) -> Option<Ident> {
    let mut found = None;
    let _found_or_not: std::ops::ControlFlow<()> = ast::visit_expressions(expr, |node| {
        if let ast::Expr::Identifier(ident) = node {
            let name = ident.value.to_lowercase();
            let generated =
                |column: &&ColumnDefinition| matches!(column.origin, Origin::Generated(_)) && column.name.value == name;
            if table.columns.iter().any(|column| generated(&column)) {
                found = Some(ident.clone());
                return std::ops::ControlFlow::Break(());
            }
        }
        std::ops::ControlFlow::Continue(())
    });
    found
}

fn watermark_expr(
    context: &Context<'_>,
    table: &TableDefinition,
    watermark: &WatermarkDefinition,
    fields: &[FieldRef],
    known: &Known,
) -> Result<Arc<dyn PhysicalExpr>, SqlError> {
    let column = &watermark.column;
    let Some(definition) = table.columns.iter().find(|c| c.name.value == column.value) else {
        let names: Vec<&str> = table.columns.iter().map(|c| c.name.value.as_str()).collect();
        return Err(context
            .text
            .error("unknown-column", column.span, format!("unknown column `{}`", column.value))
            .hint(format!("the columns are {}", names.join(", "))));
    };
    if !matches!(definition.kind, DataType::Timestamp(_, None)) {
        let message =
            format!("event time `{}` is {}, expected TIMESTAMP", column.value, types::sql_name(&definition.kind));
        return Err(context
            .text
            .error("watermark-type", column.span, message)
            .hint(format!("declare {} TIMESTAMP NOT NULL", column.value)));
    }
    let schema = known.schema(context, fields)?;
    let (expr, at) = match &watermark.expr {
        None => (Expr::Column(Column::new(Some(known.table.as_str()), &column.value)), column.span),
        Some(expr) => (logical(context, table, expr, span_of(expr))?, span_of(expr)),
    };
    check(context, &expr)?;
    let (kind, nullable) = type_of(&expr, &schema).unwrap_or((DataType::Null, true));
    if !matches!(kind, DataType::Timestamp(_, None)) {
        let message = format!("the watermark is {}, expected TIMESTAMP", types::sql_name(&kind));
        return Err(context.text.error("watermark-type", at, message).hint("write a TIMESTAMP minus an INTERVAL"));
    }
    if nullable {
        let error = context.text.error("watermark-nullable", at, "the watermark may be NULL");
        return Err(error.hint("declare the column NOT NULL, or write coalesce(<expression>, TIMESTAMP '1970-01-01 00:00:00') - INTERVAL '…'"));
    }
    let expr = by_duration(known.reuse(expr), &schema);
    context.physical(&Expr::Cast(Cast::new(Box::new(expr), NANOS)), &schema, at)
}

/// `ts - INTERVAL '…'` with a length in nanoseconds where the interval has no months: the same for times without a zone,
/// and many times quicker, since no calendar is asked.
fn by_duration(expr: Expr, schema: &DFSchema) -> Expr {
    let Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Plus | Operator::Minus), right }) = expr else {
        return expr;
    };
    let length = match &*right {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) if interval.months == 0 => {
            let days = i64::from(interval.days).checked_mul(86_400_000_000_000);
            days.and_then(|days| days.checked_add(interval.nanoseconds))
        }
        _ => None,
    };
    let right = match length {
        Some(length) if matches!(type_of(&left, schema), Some((NANOS, _))) => {
            Box::new(Expr::Literal(ScalarValue::DurationNanosecond(Some(length)), None))
        }
        _ => right,
    };
    Expr::BinaryExpr(BinaryExpr { left, op, right })
}
