//! What is refused, as its author sees it, and what the shipped pipelines come to.

use std::fmt::Write;

use super::*;

const SOURCE: &str = "CREATE TABLE t (ts TIMESTAMP NOT NULL, service TEXT NOT NULL, x DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
WITH (connector = 'kafka', type = 'source', topic = 't', format = 'json');
";
const SINK: &str =
    "CREATE TABLE features WITH (connector = 'kafka', type = 'sink', topic = 'features', format = 'json');
";
const QUERY: &str =
    "INSERT INTO features SELECT service, window.start AS window_start, window.end AS window_end, n FROM (
  SELECT service, tumble(INTERVAL '1 minute') AS window, count(*) AS n FROM t GROUP BY service, window);
";

#[track_caller]
fn refusal(text: &str) -> String {
    match compile(text) {
        Ok(_) => panic!("this was accepted:\n{text}"),
        Err(error) => error.to_string(),
    }
}

/// Each text in place of the query.
#[track_caller]
fn refused_queries(queries: &[&str]) -> String {
    queries.iter().fold(String::new(), |mut out, query| {
        writeln!(out, "{}\n", refusal(&format!("{SOURCE}{SINK}INSERT INTO features\n{query}"))).unwrap();
        out
    })
}

/// Each text in place of the source table.
#[track_caller]
fn refused_tables(tables: &[&str]) -> String {
    tables.iter().fold(String::new(), |mut out, table| {
        writeln!(out, "{}\n", refusal(&format!("{table}\n{SINK}{QUERY}"))).unwrap();
        out
    })
}

#[test]
fn shipped_pipelines_compile() {
    let mut out = String::new();
    for name in ["requests", "requests_10s", "requests_5m", "metrics", "access_log", "dependencies", "campaigns"] {
        let path = format!("{}/../../pipelines/{name}.sql", env!("CARGO_MANIFEST_DIR"));
        let plan = compile(&std::fs::read_to_string(path).unwrap()).unwrap_or_else(|error| panic!("{name}:\n{error}"));
        writeln!(out, "{}", serde_json::to_string_pretty(&plan.summary()).unwrap()).unwrap();
    }
    insta::assert_snapshot!(out);
}

#[test]
fn the_examples_of_the_manual_compile() {
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/sql.md")).unwrap();
    let examples: Vec<&str> = manual.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let (tables, whole): (Vec<&str>, Vec<&str>) =
        examples.iter().filter(|example| example.starts_with("CREATE")).partition(|text| !text.contains("INSERT INTO"));
    let queries: Vec<&&str> = examples.iter().filter(|example| example.starts_with("INSERT")).collect();
    assert_eq!((tables.len(), whole.len(), queries.len()), (2, 1, 7));
    let texts = queries.iter().map(|query| format!("{}{query}", tables.concat())).chain([whole[0].to_owned()]);
    for text in texts {
        compile(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    }
}

#[test]
fn views_and_common_table_expressions_are_inlined() {
    let inner = "SELECT service, tumble(INTERVAL '1 minute') AS window, count(*) AS n FROM t GROUP BY service, window";
    let outer = "SELECT service, window.start AS window_start, window.end AS window_end, n FROM counts";
    for text in [
        format!("CREATE VIEW counts AS {inner}; INSERT INTO features {outer}"),
        format!("INSERT INTO features WITH counts AS ({inner}) {outer}"),
        format!("INSERT INTO features {outer}").replace("counts", &format!("({inner}) AS counts")),
    ] {
        compile(&format!("{SOURCE}{SINK}{text}")).unwrap_or_else(|error| panic!("{text}:\n{error}"));
    }
}

#[test]
fn refused_in_queries() {
    let grouped = |group: &str| {
        format!(
            "SELECT service, window.start AS window_start, window.end AS window_end, n FROM (SELECT service, {group} AS window, count(*) AS n FROM t GROUP BY service, window)"
        )
    };
    insta::assert_snapshot!(refused_queries(&[
        "SELECT servce, count(*) FROM t GROUP BY servce, tumble(INTERVAL '1 minute')",
        "SELECT service FROM nowhere",
        "SELECT service, x FROM t",
        "SELECT service, count(*) FROM t GROUP BY service",
        "SELECT service, tumbel(INTERVAL '1 minute') FROM t",
        "SELECT service, percentile_cont(0.5) WITHIN GROUP (ORDER BY x) FROM t GROUP BY service, tumble(INTERVAL '1 minute')",
        &grouped("tumble(ts, INTERVAL '1 minute')"),
        &grouped("session(INTERVAL '1 minute', INTERVAL '2 minutes')"),
        &grouped("session(INTERVAL '0 seconds')"),
        &grouped("session(INTERVAL '1 month')"),
        &grouped("tumble(INTERVAL '1 month')"),
        &grouped("tumble(INTERVAL '0 seconds')"),
        "SELECT service, now() FROM t GROUP BY service, tumble(INTERVAL '1 minute')",
        "SELECT service FROM t ORDER BY service",
        "SELECT service FROM t LIMIT 5",
        "SELECT DISTINCT service FROM t",
        "SELECT a.service FROM t a JOIN t b ON a.service = b.service",
        "SELECT service FROM t UNION ALL SELECT service FROM t",
        "SELECT service, count(*) AS n FROM t GROUP BY service, tumble(INTERVAL '1 minute')",
        "SELECT service FROM t EMIT CHANGES",
        "SELECT service, count(*) AS n FROM t WHERE x > 1 / 0 GROUP BY service, tumble(INTERVAL '1 minute')",
        "SELECT service, sum(CAST('many' AS INT)) AS n FROM t GROUP BY service, tumble(INTERVAL '1 minute')",
        "SELECT service FROM (SELECT",
    ]));
}

#[test]
fn refused_hops() {
    let grouped = |group: &str| format!("SELECT service, count(*) AS n\nFROM t GROUP BY service,\n  {group}");
    insta::assert_snapshot!(refused_queries(&[
        &grouped("hop(INTERVAL '2 minutes', INTERVAL '5 minutes')"),
        &grouped("hop(INTERVAL '5 minutes', INTERVAL '1 minute')"),
        &grouped("hop(INTERVAL '0 seconds', INTERVAL '5 minutes')"),
        &grouped("hop(INTERVAL '1 minute', INTERVAL '-5 minutes')"),
        &grouped("hop(INTERVAL '1 month', INTERVAL '2 months')"),
        &grouped("hop(INTERVAL '1 millisecond', INTERVAL '1 hour')"),
        &grouped("hop(to_timestamp(5) - to_timestamp(2), INTERVAL '5 minutes')"),
        &grouped("hop('1 minute', '5 minutes')"),
        &grouped("hop(INTERVAL '1 minute')"),
        &grouped("hop(ts, INTERVAL '1 minute', INTERVAL '5 minutes')"),
        &grouped("hop(INTERVAL '1 minute', INTERVAL '5 minutes'), tumble(INTERVAL '1 minute')"),
        "SELECT service, hop(INTERVAL '1 minute', INTERVAL '5 minutes') AS w FROM t",
        "SELECT service FROM t WHERE hop(INTERVAL '1 minute', INTERVAL '5 minutes') IS NOT NULL GROUP BY service, tumble(INTERVAL '1 minute')",
    ]));
}

#[test]
fn refused_functions() {
    let called =
        |call: &str| format!("SELECT service, {call} AS v\nFROM t GROUP BY service, tumble(INTERVAL '1 minute')");
    insta::assert_snapshot!(refused_queries(&[
        &called("any_value(x)"),
        &called("quantile_cont(x, 0.9)"),
        &called("median(x)"),
        &called("approx_median(x)"),
        &called("array_agg(x)"),
        &called("string_agg(service, ',')"),
        &called("max(make_time(1, 2, 3))"),
        &called("max(to_time(service))"),
        &called("max(regexp_instr(service, 'a'))"),
        &called("max(cast_to_type(x, 1))"),
        &called("max(array_sum(x))"),
        &called("max(list_position(x, 1))"),
        &called("max(\"random\"())"),
        &called("count(uuid())"),
        &called("first_value(x)"),
        &called("last_value(x)"),
        &called("first_value(x > 1 ORDER BY ts)"),
        &called("avg(DISTINCT x)"),
        &called("sum(DISTINCT x)"),
        &called("stddev(DISTINCT x)"),
        &called("count(DISTINCT x, service)"),
        &called("row_number(x)"),
    ]));
}

#[test]
fn refused_aggregations_over_windows() {
    let over = |rest: &str| {
        format!(
            "SELECT service, max(n) AS n FROM (\n  SELECT service, hop(INTERVAL '1 minute', INTERVAL '5 minutes') AS window, count(*) AS n FROM t GROUP BY service, window)\nGROUP BY {rest}"
        )
    };
    insta::assert_snapshot!(refused_queries(&[
        &over("service"),
        &over("service, window.start"),
        &over("service, tumble(INTERVAL '1 minute')"),
        &over("service, window, hop(INTERVAL '1 minute', INTERVAL '5 minutes')"),
    ]));
}

#[test]
fn refused_unions() {
    let counts = |window: &str| {
        format!(
            "SELECT service, window.start AS window_start, window.end AS window_end, n FROM (SELECT service, {window} AS window, count(*) AS n FROM t GROUP BY service, window)"
        )
    };
    let minute = counts("tumble(INTERVAL '1 minute')");
    insta::assert_snapshot!(refused_queries(&[
        &format!("{minute}\nUNION ALL\n{}", counts("tumble(INTERVAL '2 minutes')")),
        &format!("{minute}\nUNION ALL\nSELECT service, ts, ts AS e, 1 FROM t"),
        "SELECT service, ts, x FROM t UNION ALL SELECT service, ts, x FROM t",
        "SELECT service FROM t UNION SELECT service FROM t",
        "SELECT service FROM t EXCEPT SELECT service FROM t",
        "SELECT service, count(*) FROM (SELECT service, x FROM t UNION ALL SELECT service FROM t) GROUP BY service, tumble(INTERVAL '1 minute')",
        "SELECT service, count(*) FROM (SELECT service, x FROM t UNION ALL SELECT service, count(*) FROM t GROUP BY service, tumble(INTERVAL '1 minute')) GROUP BY service, tumble(INTERVAL '1 minute')",
    ]));
}

#[test]
fn refused_joins() {
    let side =
        |window: &str| format!("(SELECT service, {window} AS window, count(*) AS n FROM t GROUP BY service, window)");
    let minute = side("tumble(INTERVAL '1 minute')");
    let join = |join: &str| {
        format!(
            "SELECT a.service, a.window.start AS window_start, a.window.end AS window_end, a.n\nFROM {minute} AS a\n{join}"
        )
    };
    insta::assert_snapshot!(refused_queries(&[
        "SELECT a.service FROM t AS a JOIN t AS b ON a.service = b.service",
        "SELECT service, count(*) FROM (SELECT a.service FROM t AS a JOIN t AS b ON a.service = b.service) GROUP BY service, tumble(INTERVAL '1 minute')",
        &join("JOIN t AS b ON a.service = b.service"),
        &join(&format!("JOIN {minute} AS b ON a.n < b.n")),
        &join(&format!("JOIN {minute} AS b USING (service)")),
        &join(&format!("NATURAL JOIN {minute} AS b")),
        &join(&format!("CROSS JOIN {minute} AS b")),
        &join(&format!("LEFT SEMI JOIN {minute} AS b ON a.service = b.service")),
        &join(&format!(", {minute} AS b")),
        &join(&format!(
            "JOIN {} AS b ON a.service = b.service AND a.window = b.window",
            side("hop(INTERVAL '30 seconds', INTERVAL '1 minute')")
        )),
        &join(&format!("JOIN {minute} AS b ON a.service = b.servce")),
    ]));
}

#[test]
fn refused_over_sessions() {
    let sessions =
        "(SELECT service, session(INTERVAL '1 minute') AS window, count(*) AS n FROM t GROUP BY service, window)";
    insta::assert_snapshot!(refused_queries(&[
        &format!("SELECT window, count(*) FROM {sessions} GROUP BY window"),
        &format!("SELECT service, session(INTERVAL '1 minute'), sum(n) FROM {sessions} GROUP BY 1, 2"),
        &format!("SELECT a.service FROM {sessions} AS a JOIN {sessions} AS b ON a.service = b.service"),
        &format!("SELECT service FROM {sessions} UNION ALL SELECT service FROM {sessions}"),
        &format!("SELECT service, row_number() OVER (PARTITION BY window ORDER BY n) FROM {sessions}"),
    ]));
}

#[test]
fn refused_numbers() {
    let over = |call: &str| {
        format!(
            "SELECT service, {call} AS place\nFROM (SELECT service, tumble(INTERVAL '1 minute') AS window, count(*) AS n FROM t GROUP BY service, window)"
        )
    };
    insta::assert_snapshot!(refused_queries(&[
        &over("rank() OVER (PARTITION BY window ORDER BY n)"),
        &over("sum(n) OVER (PARTITION BY window)"),
        &over("row_number() OVER (PARTITION BY service ORDER BY n)"),
        &over("row_number() OVER (ORDER BY n)"),
        &over("row_number() OVER (PARTITION BY window)"),
        "SELECT service, row_number() OVER (PARTITION BY service ORDER BY x) AS place FROM t",
        "SELECT service, max(place) FROM (SELECT service, row_number() OVER (PARTITION BY service ORDER BY x) AS place FROM t) GROUP BY service, tumble(INTERVAL '1 minute')",
    ]));
}

#[test]
fn refused_in_generated_columns() {
    let with = "WITH (connector = 'kafka', type = 'source', topic = 't', format = 'json');";
    insta::assert_snapshot!(refused_tables(&[
        &format!(
            "CREATE TABLE t (s TEXT NOT NULL, ts TIMESTAMP NOT NULL GENERATED ALWAYS AS (now()), WATERMARK FOR ts) {with}"
        ),
        &format!(
            "CREATE TABLE t (s TEXT NOT NULL, ts TIMESTAMP NOT NULL, r BIGINT GENERATED ALWAYS AS (regexp_instr(s, 'a')), WATERMARK FOR ts) {with}"
        ),
    ]));
}

#[test]
fn refused_in_tables() {
    let with = "WITH (connector = 'kafka', type = 'source', topic = 't', format = 'json');";
    let raw = "WITH (connector = 'kafka', type = 'source', topic = 't', format = 'raw_string');";
    insta::assert_snapshot!(refused_tables(&[
        &format!("CREATE TABLE t (ts TIMESTAMP NOT NULL, service TEXT) {with}"),
        &format!("CREATE TABLE t (ts BIGINT NOT NULL, service TEXT, WATERMARK FOR ts) {with}"),
        &format!("CREATE TABLE t (ts TIMESTAMP, service TEXT, WATERMARK FOR ts) {with}"),
        &format!("CREATE TABLE t (ts TIMESTAMP NOT NULL, service TEXT, WATERMARK FOR tss) {with}"),
        &format!("CREATE TABLE t (ts TIMESTAMPTZ, service TEXT, WATERMARK FOR ts) {with}"),
        &format!(
            "CREATE TABLE t (s TEXT NOT NULL, ts TIMESTAMP NOT NULL GENERATED ALWAYS AS (CAST(s AS TIMESTAMP)), WATERMARK FOR ts AS ts - INTERVAL '1 second') {with}"
        ),
        &format!("CREATE TABLE t (ts TIMESTAMP NOT NULL, o INT METADATA FROM 'offset_id', WATERMARK FOR ts) {with}"),
        &format!("CREATE TABLE t (ts TIMESTAMP NOT NULL, k INT METADATA FROM 'key', WATERMARK FOR ts) {with}"),
        &format!("CREATE TABLE t (ts TIMESTAMP NOT NULL, h TEXT METADATA FROM 'headers', WATERMARK FOR ts) {with}"),
        &format!("CREATE TABLE t (ts TIMESTAMP NOT NULL, service TEXT PRIMARY KEY, WATERMARK FOR ts) {with}"),
        &format!("CREATE TABLE t (line TEXT) {raw}"),
        "CREATE TABLE t (ts TIMESTAMP NOT NULL, WATERMARK FOR ts) WITH (connector = 'kafka', type = 'source', topik = 't', format = 'json');",
        "CREATE TABLE t (ts TIMESTAMP NOT NULL, WATERMARK FOR ts) WITH (connector = 'kafka', type = 'source', format = 'json');",
        "CREATE TABLE t (ts TIMESTAMP NOT NULL, WATERMARK FOR ts) WITH (connector = 'kafka', type = 'source', topic = 't', format = 'protobuf');",
        "CREATE TABLE t (ts TIMESTAMP NOT NULL, WATERMARK FOR ts) WITH (connector = 'single_file', type = 'source');",
        "CREATE TEMPORARY TABLE t (a INT);",
        "SET updating_ttl = INTERVAL '1 hour';",
        "CREATE TABLE t (ts TIMESTAMP NOT NULL",
    ]));
}

#[test]
fn refused_formats() {
    let table = |columns: &str, with: &str| {
        format!(
            "CREATE TABLE t ({columns}, WATERMARK FOR ts)\nWITH (connector = 'kafka', type = 'source', topic = 't', {with});"
        )
    };
    let ts = |with: &str| table("ts TIMESTAMP NOT NULL", with);
    insta::assert_snapshot!(refused_tables(&[
        &ts("format = 'parquet'"),
        &ts("format = 'protobuf'"),
        &ts("format = 'avro', 'avro.raw_datums' = 'yes'"),
        &ts("format = 'avro', 'avro.raw_datums' = 'true', 'avro.confluent_schema_registry' = 'true'"),
        &ts("format = 'avro', 'avro.into_unstructured_json' = 'true'"),
        &ts("format = 'avro', 'json.confluent_schema_registry' = 'true'"),
        &ts("format = 'json', 'avro.raw_datums' = 'true'"),
        &ts("format = 'json', 'schema_registry.api_key' = 'me'"),
        &table("ts TIMESTAMP NOT NULL, body BYTEA", "format = 'json'"),
        &table("line TEXT, ts TIMESTAMP NOT NULL GENERATED ALWAYS AS (TIMESTAMP '2026-01-01')", "format = 'raw_bytes'"),
    ]));
}

#[test]
fn formats_are_read_from_their_options() {
    use prescale_ingest::decode::{AvroEncoding, Format};
    let format = |with: &str| {
        let table = SOURCE.replace("format = 'json'", with);
        compile(&format!("{table}{SINK}{QUERY}"))
            .unwrap_or_else(|error| panic!("{with}:\n{error}"))
            .sources
            .remove(0)
            .options
    };
    for (with, expected) in [
        ("format = 'json'", Format::Json),
        ("format = 'json', 'json.confluent_schema_registry' = 'true'", Format::FramedJson),
        ("format = 'avro'", Format::Avro(AvroEncoding::Container)),
        ("format = 'avro', 'avro.raw_datums' = 'true'", Format::Avro(AvroEncoding::Datum(None))),
        ("format = 'avro', 'avro.confluent_schema_registry' = 'true'", Format::Avro(AvroEncoding::Registry)),
    ] {
        assert_eq!(format(with).format, expected);
    }
    let with = "format = 'avro', 'avro.confluent_schema_registry' = 'true', 'value.subject' = 't-value', 'schema_registry.endpoint' = 'https://a', 'schema_registry.api_key' = 'k', 'schema_registry.api_secret' = 's'";
    let registry = format(with).schema_registry.unwrap();
    assert_eq!(
        (registry.endpoint.as_str(), registry.api_key.as_deref(), registry.api_secret.as_deref()),
        ("https://a", Some("k"), Some("s"))
    );
}

#[test]
fn refused_sinks() {
    let sink = |columns: &str| {
        format!(
            "{SOURCE}CREATE TABLE features ({columns}) WITH (connector = 'kafka', type = 'sink', topic = 'features', format = 'json');\n{QUERY}"
        )
    };
    let texts = [
        sink("service TEXT, window_start TIMESTAMP, window_end TIMESTAMP"),
        sink("name TEXT, window_start TIMESTAMP, window_end TIMESTAMP, n BIGINT"),
        sink("service TEXT, window_start TIMESTAMP, window_end BOOLEAN, n BIGINT"),
        format!("{SOURCE}{SINK}{}", QUERY.replace("INTO features", "INTO t")),
        format!("{SOURCE}{SINK}{QUERY}{QUERY}"),
        format!("{SOURCE}{SINK}"),
        format!("{SOURCE}{}{QUERY}", SINK.replace("'json'", "'avro'")),
    ];
    let out = texts.iter().fold(String::new(), |mut out, text| {
        writeln!(out, "{}\n", refusal(text)).unwrap();
        out
    });
    insta::assert_snapshot!(out);
}
