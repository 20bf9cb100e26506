//! The documents' own examples. Rule: what a page tells a newcomer to type does what the page says.

use crate::kit;

/// The fenced blocks of a language, in their order.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    page.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_first_pipeline_of_the_manual_prints_what_the_manual_says() {
    let manual = std::fs::read_to_string(kit::root().join("docs/sql.md")).unwrap();
    let first = manual.split("## A first pipeline, with a join").nth(1).unwrap().split("\n## ").next().unwrap();
    let (sql, json) = (blocks(first, "sql"), blocks(first, "json"));
    let ([sql], [requests, cpu, expected]) = (&sql[..], &json[..]) else { panic!("other examples") };
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [("first.sql", sql), ("requests.ndjson", requests), ("cpu.ndjson", cpu)] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let run = |arguments: &[&str]| kit::prescale(arguments).current_dir(directory.path()).output().unwrap();
    let printed = run(&["sql", "run", "first.sql", "--output", "-"]);
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), *expected);
    // Without --output the rows go to the file of the sink.
    assert!(run(&["sql", "first.sql"]).status.success());
    assert_eq!(std::fs::read_to_string(directory.path().join("features.ndjson")).unwrap(), *expected);
    assert!(run(&["sql", "check", "first.sql"]).status.success());
}
