//! `CREATE TABLE` of Arroyo's dialect, which the stock parser does not know: `WATERMARK FOR`, `METADATA FROM`,
//! `GENERATED ALWAYS AS` without `STORED`. Rule: no clause is skipped silently.

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{Expr, Ident};
use datafusion::sql::sqlparser::tokenizer::{Span, Token};
use prescale_ingest::decode::MetadataField;

use super::script::Cursor;
use super::{older, types};
use crate::SqlError;

/// One `CREATE TABLE`, as written.
pub(super) struct TableDefinition {
    pub(super) name: Ident,
    pub(super) columns: Vec<ColumnDefinition>,
    pub(super) watermark: Option<WatermarkDefinition>,
    pub(super) options: Vec<OptionDefinition>,
}

pub(super) struct ColumnDefinition {
    pub(super) name: Ident,
    pub(super) kind: DataType,
    pub(super) not_null: bool,
    pub(super) origin: Origin,
}

/// Where the values of a column come from.
#[derive(Clone)]
pub(super) enum Origin {
    Payload,
    Metadata(MetadataField),
    Generated(Box<Expr>),
}

/// `WATERMARK FOR column [AS expr]`.
pub(super) struct WatermarkDefinition {
    pub(super) column: Ident,
    pub(super) expr: Option<Expr>,
    pub(super) span: Span,
}

/// `'key' = 'value'` and where each stands.
pub(super) struct OptionDefinition {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) key_span: Span,
    pub(super) value_span: Span,
}

/// Reads what follows `CREATE TABLE`.
pub(super) fn table(cursor: &mut Cursor<'_>) -> Result<TableDefinition, SqlError> {
    let name = cursor.identifier()?;
    let (mut columns, mut watermark) = (Vec::new(), None);
    if cursor.parser.consume_token(&Token::LParen) {
        loop {
            let start = cursor.here();
            if cursor.take_word("WATERMARK") {
                if watermark.is_some() {
                    return Err(cursor.source.error("second-watermark", start, "a table has one WATERMARK FOR"));
                }
                watermark = Some(watermark_for(cursor, start)?);
            } else {
                columns.push(column(cursor)?);
            }
            if cursor.parser.consume_token(&Token::Comma) {
                continue;
            }
            cursor.expect(&Token::RParen)?;
            break;
        }
    }
    if cursor.take_word("AS") {
        return Err(cursor
            .source
            .error("create-table-as", name.span, "CREATE TABLE … AS is not supported")
            .hint("write CREATE VIEW … AS SELECT …"));
    }
    if !cursor.take_word("WITH") {
        return Err(cursor.unexpected("WITH ('connector' = 'kafka', …)"));
    }
    let options = options(cursor)?;
    if let Some(span) = Some(cursor.here()).filter(|_| cursor.take_word("PARTITIONED")) {
        return Err(cursor
            .source
            .error("partitioned-by", span, "PARTITIONED BY is not supported")
            .hint("leave it out: rows are partitioned by the sink's key"));
    }
    let mut table = TableDefinition { name, columns, watermark, options };
    if let Some(watermark) = older::watermark(cursor.source, &table)? {
        table.watermark = Some(watermark);
    }
    Ok(table)
}

fn watermark_for(cursor: &mut Cursor<'_>, start: Span) -> Result<WatermarkDefinition, SqlError> {
    cursor.expect_word("FOR")?;
    let column = cursor.identifier()?;
    let expr = if cursor.take_word("AS") { Some(expression(cursor)?) } else { None };
    let span = start.union(&column.span);
    Ok(WatermarkDefinition { column, expr, span })
}

fn column(cursor: &mut Cursor<'_>) -> Result<ColumnDefinition, SqlError> {
    let name = cursor.identifier()?;
    let kind = types::column_type(cursor)?;
    let (mut not_null, mut origin) = (false, Origin::Payload);
    loop {
        let start = cursor.here();
        if cursor.take_word("NOT") {
            cursor.expect_word("NULL")?;
            not_null = true;
        } else if cursor.take_word("NULL") {
            not_null = false;
        } else if cursor.take_word("GENERATED") {
            cursor.expect_word("ALWAYS")?;
            cursor.expect_word("AS")?;
            cursor.expect(&Token::LParen)?;
            origin = Origin::Generated(Box::new(expression(cursor)?));
            cursor.expect(&Token::RParen)?;
            if !cursor.take_word("STORED") {
                cursor.take_word("VIRTUAL");
            }
        } else if cursor.take_word("METADATA") {
            cursor.expect_word("FROM")?;
            origin = Origin::Metadata(metadata(cursor)?);
        } else if cursor.take_word("PRIMARY") {
            return Err(cursor
                .source
                .error("primary-key", start, "PRIMARY KEY is not supported")
                .hint("leave it out: rows are only ever added"));
        } else {
            return Ok(ColumnDefinition { name, kind, not_null, origin });
        }
    }
}

fn metadata(cursor: &mut Cursor<'_>) -> Result<MetadataField, SqlError> {
    let (key, span) = text(cursor)?;
    key.parse().map_err(|_| {
        let error = cursor.source.error("unknown-metadata", span, format!("unknown metadata `{key}`"));
        error.hint("metadata is one of 'offset_id' (BIGINT), 'partition' (INT), 'topic' (TEXT), 'timestamp' (BIGINT), 'key' (TEXT or BYTEA)")
    })
}

fn options(cursor: &mut Cursor<'_>) -> Result<Vec<OptionDefinition>, SqlError> {
    cursor.expect(&Token::LParen)?;
    let mut options: Vec<OptionDefinition> = Vec::new();
    loop {
        let (key, key_span) = option_key(cursor)?;
        cursor.expect(&Token::Eq)?;
        let (value, value_span) = text(cursor)?;
        if options.iter().any(|option| option.key == key) {
            return Err(cursor.source.error("second-option", key_span, format!("option `{key}` is given twice")));
        }
        options.push(OptionDefinition { key, value, key_span, value_span });
        if !cursor.parser.consume_token(&Token::Comma) {
            break;
        }
    }
    cursor.expect(&Token::RParen)?;
    Ok(options)
}

/// `connector`, `source.offset` or `'source.offset'`.
fn option_key(cursor: &mut Cursor<'_>) -> Result<(String, Span), SqlError> {
    if matches!(cursor.parser.peek_token().token, Token::SingleQuotedString(_)) {
        return text(cursor);
    }
    let first = cursor.identifier()?;
    let (mut key, mut span) = (first.value, first.span);
    while cursor.parser.consume_token(&Token::Period) {
        let part = cursor.identifier()?;
        key = format!("{key}.{}", part.value);
        span = span.union(&part.span);
    }
    Ok((key, span))
}

fn text(cursor: &mut Cursor<'_>) -> Result<(String, Span), SqlError> {
    let token = cursor.parser.peek_token();
    match token.token {
        Token::SingleQuotedString(text) | Token::Number(text, _) => {
            cursor.parser.next_token();
            Ok((text, token.span))
        }
        _ => Err(cursor.unexpected("a text in single quotes")),
    }
}

fn expression(cursor: &mut Cursor<'_>) -> Result<Expr, SqlError> {
    let parsed = cursor.parser.parse_expr();
    parsed.map_err(|error| cursor.syntax(error))
}
