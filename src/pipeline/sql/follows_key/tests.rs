//! Which queries processes can share, and what is said of those that they can't.

use std::collections::BTreeMap;

use crate::compile;

const TABLES: &str = "CREATE TABLE t (ts TIMESTAMP NOT NULL, service TEXT NOT NULL, region TEXT, k TEXT METADATA FROM 'key', WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
WITH (connector = 'kafka', type = 'source', topic = 't', format = 'json');
CREATE TABLE u (ts TIMESTAMP NOT NULL, service TEXT NOT NULL, region TEXT, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
WITH (connector = 'kafka', type = 'source', topic = 'u', format = 'json');
CREATE TABLE features WITH (connector = 'kafka', type = 'sink', topic = 'features', format = 'json');
INSERT INTO features\n";

const TUMBLE: &str = "tumble(INTERVAL '1 minute') AS window";
const TIMES: &str = "window.start AS window_start, window.end AS window_end";

/// What is said of a query whose sources `t` and `u` have the text of `service` as key; `t` declares it as `k` too.
#[track_caller]
fn said(query: &str) -> Option<String> {
    let plan = compile(&format!("{TABLES}{query}")).unwrap_or_else(|error| panic!("{error}"));
    let keys = ["t", "U"].map(|table| (table.to_owned(), "service".to_owned()));
    plan.unshareable(&BTreeMap::from(keys))
}

/// `SELECT service, count(*)` of `from` by `group` and window.
fn counted(from: &str, group: &str) -> String {
    format!("SELECT {group}, {TUMBLE}, count(*) AS n FROM {from} GROUP BY {group}, window")
}

#[test]
fn what_keeps_to_the_key_is_shared() {
    let (t, u) = (counted("t", "service"), counted("u", "service"));
    for query in [
        format!("SELECT service, {TIMES}, n FROM ({t})"),
        format!("SELECT k AS service, {TIMES}, n FROM ({})", counted("t", "k")),
        format!("SELECT service, {TIMES}, n FROM ({})", counted("t", "region, service")),
        // Renamed, filtered and moved about on the way.
        format!(
            "SELECT s AS service, {TIMES}, n FROM ({})",
            counted("(SELECT region, ts, service AS s FROM t WHERE region <> 'x')", "s")
        ),
        // Of both branches below one GROUP BY.
        format!(
            "SELECT service, {TIMES}, n FROM ({})",
            counted("(SELECT ts, service FROM t UNION ALL SELECT ts, service FROM u)", "service")
        ),
        format!("SELECT service, {TIMES}, n FROM ({t}) UNION ALL SELECT service, {TIMES}, n FROM ({u})"),
        format!(
            "SELECT a.service AS service, a.window.start AS window_start, a.window.end AS window_end, b.n AS n FROM ({t}) AS a LEFT JOIN ({u}) AS b ON a.service = b.service AND a.window = b.window"
        ),
        format!(
            "SELECT coalesce(a.service, b.service) AS service, coalesce(a.window.start, b.window.start) AS window_start, coalesce(a.window.end, b.window.end) AS window_end FROM ({t}) AS a FULL JOIN ({u}) AS b ON a.service = b.service AND a.window = b.window"
        ),
        // Again, of windows.
        format!(
            "SELECT service, {TIMES}, most FROM (SELECT service, window, max(n) AS most FROM ({}) GROUP BY service, window)",
            counted("t", "service, region")
        ),
        format!(
            "SELECT service, {TIMES}, n, place FROM (SELECT service, window, n, ROW_NUMBER() OVER (PARTITION BY window, service ORDER BY n DESC) AS place FROM ({})) WHERE place < 3",
            counted("t", "service, region")
        ),
    ] {
        assert_eq!(said(&query), None, "{query}");
    }
}

#[test]
fn what_does_not_is_refused() {
    let (t, u) = (counted("t", "service"), counted("u", "region"));
    let mut out = String::new();
    for query in [
        format!("SELECT region AS service, {TIMES}, n FROM ({})", counted("t", "region")),
        format!(
            "SELECT service, {TIMES}, n FROM ({})",
            counted("t", "upper(service) AS service")
                .replace("GROUP BY upper(service) AS service", "GROUP BY upper(service)")
        ),
        format!("SELECT 'all' AS service, {TIMES}, n FROM (SELECT {TUMBLE}, count(*) AS n FROM t GROUP BY window)"),
        format!(
            "SELECT service, {TIMES}, n FROM ({})",
            counted("(SELECT ts, service FROM t UNION ALL SELECT ts, region AS service FROM u)", "service")
        ),
        format!("SELECT service, {TIMES}, n FROM ({t}) UNION ALL SELECT region AS service, {TIMES}, n FROM ({u})"),
        format!(
            "SELECT a.service AS service, a.window.start AS window_start, a.window.end AS window_end, b.n AS n FROM ({}) AS a JOIN ({}) AS b ON a.region = b.region AND a.window = b.window",
            counted("t", "service, region"),
            counted("u", "service, region")
        ),
        // Of a side that may have no partner, the key may be NULL.
        format!(
            "SELECT service, {TIMES}, total FROM (SELECT service, window, sum(n) AS total FROM (SELECT b.service AS service, a.window AS window, a.n AS n FROM ({t}) AS a LEFT JOIN ({}) AS b ON a.service = b.service AND a.window = b.window) GROUP BY service, window)",
            counted("u", "service")
        ),
        format!(
            "SELECT region AS service, {TIMES}, total FROM (SELECT region, window, sum(n) AS total FROM ({}) GROUP BY region, window)",
            counted("t", "service, region")
        ),
        format!(
            "SELECT service, {TIMES}, n, place FROM (SELECT service, window, n, ROW_NUMBER() OVER (PARTITION BY window ORDER BY n DESC) AS place FROM ({t})) WHERE place < 3"
        ),
    ] {
        out += &said(&query).unwrap_or_else(|| panic!("this was accepted:\n{query}"));
        out += "\n\n";
    }
    insta::assert_snapshot!(out);
}

#[test]
fn a_source_whose_key_is_not_known_is_refused() {
    let query = format!("{TABLES}SELECT service, {TIMES}, n FROM ({})", counted("u", "service"));
    let plan = compile(&query).unwrap_or_else(|error| panic!("{error}"));
    let said = |keys: &[(&str, &str)]| {
        let keys = keys.iter().map(|(table, column)| ((*table).to_owned(), (*column).to_owned()));
        plan.unshareable(&keys.collect()).unwrap_or_default()
    };
    assert_eq!(said(&[("u", "service")]), "");
    let (other, wrong, time) = (said(&[("other", "service")]), said(&[("u", "servise")]), said(&[("u", "ts")]));
    insta::assert_snapshot!(format!("{other}\n\n{wrong}\n\n{time}"));
}
