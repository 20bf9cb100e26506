//! Column types of the dialect. Rule: the Arrow type is the one that Arroyo gives the same name.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::script::Cursor;
use crate::SqlError;

const KNOWN: &str = "BOOLEAN, TINYINT, SMALLINT, INT, BIGINT (each also UNSIGNED), FLOAT, REAL, DOUBLE, TEXT, VARCHAR, STRING, TIMESTAMP, TIMESTAMP(0|3|6|9), DATE, BYTEA";

/// Reads a type name.
pub(super) fn column_type(cursor: &mut Cursor<'_>) -> Result<DataType, SqlError> {
    let token = cursor.parser.next_token();
    let Token::Word(word) = &token.token else {
        return Err(cursor.source.error("syntax", token.span, format!("expected a column type, found `{token}`")));
    };
    let name = word.value.to_uppercase();
    let plain = match name.as_str() {
        "BOOLEAN" | "BOOL" => DataType::Boolean,
        "TINYINT" => integer(cursor, DataType::Int8, DataType::UInt8),
        "SMALLINT" => integer(cursor, DataType::Int16, DataType::UInt16),
        "INT" | "INTEGER" => integer(cursor, DataType::Int32, DataType::UInt32),
        "BIGINT" => integer(cursor, DataType::Int64, DataType::UInt64),
        "FLOAT" | "REAL" => DataType::Float32,
        "DOUBLE" => {
            cursor.take_word("PRECISION");
            DataType::Float64
        }
        "TEXT" | "STRING" => DataType::Utf8,
        "VARCHAR" | "CHAR" => {
            length(cursor)?;
            DataType::Utf8
        }
        "TIMESTAMP" | "DATETIME" => timestamp(cursor)?,
        "DATE" => DataType::Date32,
        "BYTEA" => DataType::Binary,
        _ => {
            let error =
                cursor.source.error("unsupported-type", token.span, format!("column type `{token}` is not supported"));
            let hint = match name.as_str() {
                "TIMESTAMPTZ" => "write TIMESTAMP: event time is UTC".to_owned(),
                _ => format!("the types are {KNOWN}"),
            };
            return Err(error.hint(hint));
        }
    };
    Ok(plain)
}

/// The SQL name of a type, for messages and summaries.
pub(crate) fn sql_name(kind: &DataType) -> String {
    let name = match kind {
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INT",
        DataType::Int64 => "BIGINT",
        DataType::UInt8 => "TINYINT UNSIGNED",
        DataType::UInt16 => "SMALLINT UNSIGNED",
        DataType::UInt32 => "INT UNSIGNED",
        DataType::UInt64 => "BIGINT UNSIGNED",
        DataType::Float32 => "FLOAT",
        DataType::Float64 => "DOUBLE",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "TEXT",
        DataType::Timestamp(TimeUnit::Nanosecond, None) => "TIMESTAMP",
        DataType::Timestamp(_, None) => "TIMESTAMP(p)",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE",
        DataType::Date32 => "DATE",
        DataType::Binary => "BYTEA",
        other => return other.to_string(),
    };
    name.to_owned()
}

fn integer(cursor: &mut Cursor<'_>, signed: DataType, unsigned: DataType) -> DataType {
    if cursor.take_word("UNSIGNED") { unsigned } else { signed }
}

fn length(cursor: &mut Cursor<'_>) -> Result<Option<u64>, SqlError> {
    if !cursor.parser.consume_token(&Token::LParen) {
        return Ok(None);
    }
    let token = cursor.parser.next_token();
    let Token::Number(text, _) = &token.token else {
        return Err(cursor.source.error("syntax", token.span, format!("expected a number, found `{token}`")));
    };
    let number =
        text.parse().map_err(|_| cursor.source.error("syntax", token.span, format!("`{text}` is not a length")))?;
    cursor.expect(&Token::RParen)?;
    Ok(Some(number))
}

fn timestamp(cursor: &mut Cursor<'_>) -> Result<DataType, SqlError> {
    let start = cursor.here();
    let unit = match length(cursor)? {
        None | Some(9) => TimeUnit::Nanosecond,
        Some(6) => TimeUnit::Microsecond,
        Some(3) => TimeUnit::Millisecond,
        Some(0) => TimeUnit::Second,
        Some(other) => {
            return Err(cursor
                .source
                .error("unsupported-type", start, format!("TIMESTAMP({other}) is not supported"))
                .hint("precision is one of 0, 3, 6, 9"));
        }
    };
    let zone = cursor.here();
    if cursor.take_word("WITH") {
        return Err(cursor
            .source
            .error("unsupported-type", zone, "TIMESTAMP WITH TIME ZONE is not supported")
            .hint("write TIMESTAMP: event time is UTC"));
    }
    Ok(DataType::Timestamp(unit, None))
}
