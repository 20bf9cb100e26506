//! The older way to name event time and watermark: `event_time_field` and `watermark_field` in WITH. Rule: they become the
//! WATERMARK FOR that they stand for, and a warning says how to write it.

use datafusion::sql::sqlparser::ast::{Expr, Ident};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::ddl::{OptionDefinition, Origin, TableDefinition, WatermarkDefinition};
use super::script::SourceText;
use crate::SqlError;

const EVENT_TIME: &str = "event_time_field";
const WATERMARK: &str = "watermark_field";

pub(super) const KEYS: [&str; 2] = [EVENT_TIME, WATERMARK];

fn option<'a>(table: &'a TableDefinition, key: &str) -> Option<&'a OptionDefinition> {
    table.options.iter().find(|option| option.key == key)
}

/// What the older options of a table stand for; `None` where it has none of them.
pub(super) fn watermark(
    source: &SourceText<'_>,
    table: &TableDefinition,
) -> Result<Option<WatermarkDefinition>, SqlError> {
    let (event_time, watermark) = (option(table, EVENT_TIME), option(table, WATERMARK));
    let Some(first) = event_time.or(watermark) else { return Ok(None) };
    if let Some(given) = &table.watermark {
        let message = format!("{} and WATERMARK FOR are both given", first.key);
        return Err(source
            .error("second-watermark", first.key_span, message)
            .hint(format!("leave {} out: WATERMARK FOR {} says it", first.key, given.column.value)));
    }
    let Some(event_time) = event_time else {
        return Err(source
            .error("no-watermark", first.key_span, "watermark_field without event_time_field")
            .hint("write WATERMARK FOR <event time> AS <watermark> after the columns"));
    };
    let column = Ident { value: event_time.value.clone(), quote_style: None, span: event_time.value_span };
    let expr = match watermark {
        None => {
            let name = column.value.replace('"', "\"\"");
            let text = format!("\"{name}\" - INTERVAL '1 second'");
            let parsed =
                Parser::new(&PostgreSqlDialect {}).try_with_sql(&text).and_then(|mut parser| parser.parse_expr());
            parsed.map_err(|error| source.error("syntax", event_time.value_span, error.to_string()))?
        }
        Some(option) => {
            let named = table.columns.iter().find(|column| column.name.value == option.value);
            match named.map(|column| &column.origin) {
                Some(Origin::Generated(expr)) => *expr.clone(),
                Some(_) => Expr::Identifier(Ident { span: option.value_span, ..Ident::with_quote('"', &option.value) }),
                None => {
                    let message = format!("unknown column `{}`", option.value);
                    let names: Vec<&str> = table.columns.iter().map(|column| column.name.value.as_str()).collect();
                    return Err(source
                        .error("unknown-column", option.value_span, message)
                        .hint(format!("the columns are {}", names.join(", "))));
                }
            }
        }
    };
    Ok(Some(WatermarkDefinition { column, expr: Some(expr), span: event_time.key_span }))
}

/// What to say of a table that uses them.
pub(super) fn warnings(table: &TableDefinition) -> Vec<String> {
    let Some(event_time) = option(table, EVENT_TIME) else { return Vec::new() };
    let place = event_time.key_span.start.line;
    let column = &event_time.value;
    let expr = match table.watermark.as_ref().and_then(|watermark| watermark.expr.as_ref()) {
        Some(expr) => format!(" AS {expr}"),
        None => String::new(),
    };
    let named = if option(table, WATERMARK).is_some() { "event_time_field and watermark_field" } else { EVENT_TIME };
    let verb = if named == EVENT_TIME { "is" } else { "are" };
    vec![format!(
        "line {place}: {named} of `{}` {verb} deprecated\nhint: write WATERMARK FOR {column}{expr} after the columns",
        table.name.value
    )]
}

#[cfg(test)]
mod tests {
    use crate::compile;

    const QUERY: &str =
        "CREATE TABLE features WITH (connector = 'kafka', type = 'sink', topic = 'features', format = 'json');
        INSERT INTO features SELECT service, window.start AS window_start, window.end AS window_end, n FROM (
        SELECT service, tumble(INTERVAL '1 minute') AS window, count(*) AS n FROM t GROUP BY service, window);";

    fn table(columns: &str, options: &str) -> String {
        format!(
            "CREATE TABLE t (ts TIMESTAMP NOT NULL, service TEXT NOT NULL{columns}) WITH (connector = 'kafka', type = 'source', topic = 't', format = 'json'{options});\n{QUERY}"
        )
    }

    #[test]
    fn the_older_options_mean_what_watermark_for_says() {
        let generated = ", late TIMESTAMP GENERATED ALWAYS AS (ts - INTERVAL '7 seconds') STORED";
        for (older, newer, written) in [
            (
                table("", ", event_time_field = 'ts'"),
                table(", WATERMARK FOR ts AS ts - INTERVAL '1 second'", ""),
                "WATERMARK FOR ts AS \"ts\" - INTERVAL '1 second'",
            ),
            (
                table(generated, ", event_time_field = 'ts', watermark_field = 'late'"),
                table(&format!("{generated}, WATERMARK FOR ts AS ts - INTERVAL '7 seconds'"), ""),
                "WATERMARK FOR ts AS ts - INTERVAL '7 seconds'",
            ),
            (
                table("", ", event_time_field = 'ts', watermark_field = 'ts'"),
                table(", WATERMARK FOR ts", ""),
                "WATERMARK FOR ts AS \"ts\"",
            ),
        ] {
            let (older, newer) = (compile(&older).unwrap(), compile(&newer).unwrap());
            assert_eq!(format!("{}", older.sources[0].watermark), format!("{}", newer.sources[0].watermark));
            assert_eq!(newer.summary().warnings, Vec::<String>::new());
            let warnings = older.summary().warnings;
            assert!(warnings.len() == 1 && warnings[0].contains("deprecated"), "{warnings:?}");
            assert!(warnings[0].contains(written), "{warnings:?}");
        }
    }

    #[test]
    fn what_they_can_not_mean_is_refused() {
        for (columns, options, code) in [
            (", WATERMARK FOR ts", ", event_time_field = 'ts'", "second-watermark"),
            ("", ", watermark_field = 'ts'", "no-watermark"),
            ("", ", event_time_field = 'tz'", "unknown-column"),
            ("", ", event_time_field = 'ts', watermark_field = 'tz'", "unknown-column"),
            ("", ", event_time_field = 'service'", "watermark-type"),
        ] {
            assert_eq!(compile(&table(columns, options)).unwrap_err().code, code, "{columns} {options}");
        }
    }
}
