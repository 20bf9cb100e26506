//! Rust functions in SQL, for real: `prescale udf build` compiles them with cargo, pipelines call them. Rule: what a
//! function does to one row, panic included, is that row's affair.

use std::path::{Path, PathBuf};
use std::process::Command;

use prescale_ingest::RawBatch;
use prescale_pipeline::udf::Udfs;
use prescale_pipeline::{Engine, EpochOutput, PartitionView, Plan, SqlError, compile_with};

use crate::kit::{self, Finished};

const TABLES: &str =
    "CREATE TABLE t (ts TIMESTAMP NOT NULL, service TEXT NOT NULL, x BIGINT, name TEXT, WATERMARK FOR ts)
WITH (connector = 'kafka', type = 'source', topic = 't', format = 'json');
CREATE TABLE features WITH (connector = 'kafka', type = 'sink', topic = 'features', format = 'json');
";

/// `prescale udf build` in the quick profile; dependencies are compiled once for all tests, in a folder that is kept.
fn build(arguments: &[&str]) -> Command {
    let mut command = kit::prescale(&["udf", "build", "--profile", "dev"]);
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| kit::root().join("target"), PathBuf::from);
    command.args(arguments).env("CARGO_TARGET_DIR", target.join("udfs")).env_remove("RUSTC_WORKSPACE_WRAPPER");
    command
}

#[track_caller]
fn finished(mut command: Command) -> Finished {
    let output = command.output().unwrap();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[track_caller]
fn built(arguments: &[&str]) -> String {
    let finished = finished(build(arguments));
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    finished.stdout
}

/// A folder of sources; each is named by its function.
fn folder(sources: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in sources {
        std::fs::write(folder.path().join(format!("{name}.rs")), text).unwrap();
    }
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn rust(function: &str) -> String {
    format!("use arroyo_udf_plugin::udf;\n\n#[udf]\n{function}\n")
}

/// `SELECT …` by service and minute, over the rows of `from`.
fn grouped(columns: &str, from: &str) -> String {
    format!(
        "{TABLES}INSERT INTO features SELECT service, window.start AS window_start, window.end AS window_end, * FROM (
  SELECT service, tumble(INTERVAL '1 minute') AS window, {columns} FROM {from} GROUP BY service, window);\n"
    )
    .replace("window_end, *", &format!("window_end, {}", names(columns)))
}

/// The aliases of a list of columns; ` AS ` in capitals is of CAST.
fn names(columns: &str) -> String {
    columns.split(" as ").skip(1).map(|rest| rest.split(',').next().unwrap().trim()).collect::<Vec<_>>().join(", ")
}

#[track_caller]
fn plan(sql: &str, udfs: &Udfs) -> Plan {
    compile_with(sql, udfs).unwrap_or_else(|error| panic!("{sql}\n{error}"))
}

/// Runs JSON rows through a plan, in one batch.
#[track_caller]
fn run(plan: Plan, rows: &[String]) -> EpochOutput {
    let mut engine = Engine::new(plan.into(), None).unwrap();
    let mut batch = RawBatch::new("t".into(), 0);
    for (offset, row) in (0..).zip(rows) {
        batch.push(offset, None, Some(row.as_bytes()));
    }
    engine.push(0, &batch).unwrap();
    engine.close(&[PartitionView { known: &[0], ended: &[0], all_ended: true, ..PartitionView::default() }]).unwrap()
}

fn row(second: u32, x: &str, name: &str) -> String {
    format!(r#"{{"ts":"2026-03-01T12:00:{second:02}Z","service":"web","x":{x},"name":{name}}}"#)
}

fn json_of(output: &EpochOutput) -> Vec<String> {
    output.rows.iter().map(|row| String::from_utf8(row.json.clone()).unwrap()).collect()
}

/// The example of the manual that calls the shipped functions.
fn example() -> String {
    let manual = std::fs::read_to_string(kit::root().join("docs/sql.md")).unwrap();
    manual.split("```sql udf\n").nth(1).unwrap().split("```").next().unwrap().to_owned()
}

#[test]
fn the_shipped_functions_pass_their_tests_and_run_in_a_pipeline() {
    let out = tempfile::tempdir().unwrap();
    let said = built(&["--locked", "--test", "--out", text(out.path())]);
    assert!(
        said.contains("route_template(TEXT) -> TEXT: ") && said.contains("user_agent_class(TEXT) -> TEXT: "),
        "{said}"
    );
    let udfs = Udfs::open(out.path()).unwrap();
    let source = std::fs::read_to_string(kit::root().join("pipelines/udfs/route_template.rs")).unwrap();
    assert_eq!(udfs.get("route_template").unwrap().source(), source);

    let directory = tempfile::tempdir().unwrap();
    let (sql, input) = (directory.path().join("routes.sql"), directory.path().join("requests.ndjson"));
    std::fs::write(&sql, example()).unwrap();
    let agents = ["Mozilla/5.0 (X11) Gecko/20100101 Firefox/127.0", "Googlebot/2.1", "curl/8.5.0"];
    let requests: String = (0..60)
        .map(|i| {
            let route = ["/users/ID", "/users/ID/orders?page=ID", "/health"][i % 3].replace("ID", &i.to_string());
            let agent = agents[i / 3 % 3];
            format!(r#"{{"ts":"2026-03-01T12:00:{i:02}Z","route":"{route}","user_agent":"{agent}"}}"#) + "\n"
        })
        .collect();
    std::fs::write(&input, requests).unwrap();
    let input = format!("requests={}", input.display());
    let finished = kit::run(&["sql", "run", text(&sql), "--input", &input, "--udfs", text(out.path())]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let window = r#""window_start":"2026-03-01T12:00:00Z","window_end":"2026-03-01T12:01:00Z""#;
    let expected = ["/health", "/users/{id}", "/users/{id}/orders"]
        .map(|route| format!(r#"{{"service":"{route}",{window},"requests":13,"by_tools":6}}"#) + "\n");
    let plain = finished.stdout.replace(":00.000Z", ":00Z");
    assert_eq!(plain, expected.concat(), "{}", finished.stderr);
    assert!(finished.stderr.contains("60 rows read: 39 windowed, 21 filtered, 0 late, 0 bad"), "{}", finished.stderr);
}

#[test]
fn arguments_and_results_of_every_type() {
    let mixed = rust(
        "fn mixed(a: i32, b: Option<u32>, c: u64, d: f32, e: f64, f: &str, g: Option<&[u8]>) -> Option<String> {
    (f != \"none\").then(|| format!(\"{a} {b:?} {c} {d} {e} {f} {g:?}\"))
}",
    );
    let reversed = rust("fn reversed(bytes: &[u8]) -> Vec<u8> {\n    bytes.iter().rev().copied().collect()\n}");
    let numbers: Vec<(String, String)> = ["i32", "i64", "u32", "u64", "f32", "f64"]
        .iter()
        .map(|kind| {
            (format!("next_{kind}"), rust(&format!("fn next_{kind}(x: {kind}) -> {kind} {{\n    x + 1 as {kind}\n}}")))
        })
        .collect();
    let digits = "/*\n[dependencies]\nregex = \"1\"\n*/\n".to_owned()
        + &rust(
            "fn digits(text: &str) -> u64 {\n    regex::Regex::new(\"[0-9]\").unwrap().find_iter(text).count() as u64\n}",
        );
    let mut sources = vec![("mixed", mixed.as_str()), ("reversed", reversed.as_str()), ("digits", digits.as_str())];
    sources.extend(numbers.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    let folder = folder(&sources);
    let files: Vec<String> = sources.iter().map(|(name, _)| format!("{}/{name}.rs", folder.path().display())).collect();
    built(&files.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(folder.path().join("Cargo.lock").is_file());
    let udfs = Udfs::open(folder.path()).unwrap();

    let call = "mixed(CAST(x AS INT), CAST(x AS INT UNSIGNED), CAST(7 AS BIGINT UNSIGNED), CAST(0.5 AS FLOAT), x, name, CAST(name AS BYTEA))";
    let sums = ["i32", "i64", "u32", "u64", "f32", "f64"].map(|kind| {
        let sql = match kind {
            "i32" => "CAST(x AS INT)",
            "i64" => "x",
            "u32" => "CAST(x AS INT UNSIGNED)",
            "u64" => "CAST(x AS BIGINT UNSIGNED)",
            "f32" => "CAST(x AS FLOAT)",
            _ => "CAST(x AS DOUBLE)",
        };
        format!("sum(next_{kind}({sql})) as {kind}")
    });
    let columns = format!(
        "count(*) as n, max({call}) as mixed, count({call}) as calls, max(CAST(reversed(CAST(name AS BYTEA)) AS TEXT)) as reversed, sum(digits(name)) as digits, max(mixed(CAST(1 AS INT), NULL, CAST(1 AS BIGINT UNSIGNED), CAST(1 AS FLOAT), 1, 'c', NULL)) as constant, {}",
        sums.join(", ")
    );
    // `x` and `name` are NULL in one row each: `f` and `a` are no Options, so there is no call. "none" gives None.
    let rows = [row(1, "3", "\"ab1\""), row(2, "null", "\"zz\""), row(3, "4", "null"), row(4, "5", "\"none\"")];
    let output = run(plan(&grouped(&columns, "t"), &udfs), &rows);
    assert_eq!(output.dead_letters.len(), 0, "{:?}", output.dead_letters.first().map(|letter| &letter.error));
    let rows = json_of(&output);
    let found: serde_json::Value = serde_json::from_str(&rows[0]).unwrap();
    let expect = |column: &str, value: serde_json::Value| assert_eq!(found[column], value, "{column} of {}", rows[0]);
    expect("mixed", "3 Some(3) 7 0.5 3 ab1 Some([97, 98, 49])".into());
    expect("calls", 1.into());
    expect("n", 4.into());
    expect("reversed", "zz".into());
    expect("digits", 1.into());
    expect("constant", "1 None 1 1 1 c None".into());
    for kind in ["i32", "i64", "u32", "u64"] {
        expect(kind, 15.into());
    }
    for kind in ["f32", "f64"] {
        expect(kind, 15.0.into());
    }
}

#[test]
fn a_panic_is_the_affair_of_its_row() {
    let picky = rust(
        "fn picky(x: i64) -> i64 {\n    if x % 1000 == 13 {\n        panic!(\"{x} is\\nunlucky\");\n    }\n    x\n}",
    );
    let folder = folder(&[("picky", &picky)]);
    built(&[text(&folder.path().join("picky.rs"))]);
    let udfs = Udfs::open(folder.path()).unwrap();
    let rows: Vec<String> = (0..3000).map(|i| row(i % 60, &i.to_string(), "null")).collect();
    let calls = [
        ("count(*) as n, sum(picky(x)) as total", "t"),
        ("count(*) as n, sum(y) as total", "(SELECT service, picky(x) AS y FROM t)"),
        ("count(*) as n, sum(x) as total", "(SELECT service, x FROM t WHERE picky(x) >= 0)"),
    ];
    for (columns, from) in calls {
        let output = run(plan(&grouped(columns, from), &udfs), &rows);
        let offsets: Vec<i64> = output.dead_letters.iter().map(|letter| letter.offset).collect();
        assert_eq!(offsets, [13, 1013, 2013], "{columns}");
        for letter in &output.dead_letters {
            assert_eq!(letter.reason, "expression");
            let expected = format!("udf `picky` panicked: {} is unlucky (line 6 of ", letter.offset);
            assert!(letter.error.starts_with(&expected), "{}", letter.error);
        }
        let total = (0..3000).sum::<i64>() - (13 + 1013 + 2013);
        let rows = json_of(&output);
        assert!(rows[0].contains(&format!(r#""n":2997,"total":{total}"#)), "{rows:?}");
        assert_eq!((output.counters.read, output.counters.windowed, output.counters.expression), (3000, 2997, 3));
    }
    // A call on constants is made when the SQL is planned, and a panic there is none of the planner.
    let output = run(plan(&grouped("count(*) as n, max(picky(13)) as total", "t"), &udfs), &rows[..2]);
    assert_eq!((output.rows.len(), output.dead_letters.len()), (0, 2));
}

#[test]
fn a_changed_text_is_another_function() {
    let twice = rust("fn times(x: i64) -> i64 {\n    x * 2\n}");
    let folder = folder(&[("times", &twice)]);
    let file = folder.path().join("times.rs");
    let (calling, other) = (grouped("sum(times(x)) as n", "t"), grouped("sum(x) as n", "t"));
    built(&[text(&file)]);
    let before = Udfs::open(folder.path()).unwrap();
    let first = plan(&calling, &before);
    assert_eq!(first.fingerprint, plan(&calling, &Udfs::open(folder.path()).unwrap()).fingerprint);
    std::fs::write(&file, twice.replace("* 2", "* 3")).unwrap();
    let stale = Udfs::open(folder.path()).unwrap();
    let error = compile_with(&calling, &stale).unwrap_err();
    assert_eq!(error.code, "udf-stale");
    assert_eq!(error.hint, Some(format!("run `prescale udf build {}`", file.display())));
    // Who does not call it is not concerned.
    plan(&other, &stale);
    built(&[text(&file)]);
    let after = Udfs::open(folder.path()).unwrap();
    let second = plan(&calling, &after);
    assert_ne!(first.fingerprint, second.fingerprint);
    assert_eq!(plan(&other, &before).fingerprint, plan(&other, &Udfs::default()).fingerprint);
    // Both are loaded, each with its own code.
    let rows = [row(1, "5", "null")];
    assert!(json_of(&run(first, &rows))[0].contains(r#""n":10"#));
    assert!(json_of(&run(second, &rows))[0].contains(r#""n":15"#));

    wrong_calls(&after);
}

/// Calls that the planner refuses, and what it says.
#[track_caller]
fn wrong_calls(udfs: &Udfs) {
    let refused = |columns: &str| -> SqlError { compile_with(&grouped(columns, "t"), udfs).unwrap_err() };
    let error = refused("sum(times(name)) as n");
    assert_eq!((error.code, error.message.as_str()), ("udf-arguments", "`times` takes (BIGINT), not (TEXT)"));
    assert_eq!(error.source_line[error.place.column - 1..][..5], *"times");
    assert_eq!(refused("sum(times(x, x)) as n").message, "`times` takes (BIGINT), not (BIGINT, BIGINT)");
    assert_eq!(refused("sum(times()) as n").message, "`times` takes (BIGINT), not ()");
    let near = refused("sum(timess(x)) as n");
    assert_eq!(near.hint.as_deref(), Some("did you mean `times`?"));
}

#[test]
fn what_cannot_be_built_is_refused_with_a_way_out() {
    #[track_caller]
    fn refused(command: Command, code: i32, words: &[&str]) {
        let finished = finished(command);
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(code), ""), "{}", finished.stderr);
        for word in words {
            assert!(finished.stderr.contains(word), "`{word}` is not in:\n{}", finished.stderr);
        }
    }
    let wrong = rust("fn wrong(x: i64) -> i64 {\n    x.no_such_thing()\n}");
    let untested =
        rust("fn untested(x: i64) -> i64 {\n    x\n}\n\n#[test]\nfn fails() {\n    assert_eq!(untested(1), 2);\n}");
    let later = rust("async fn later(x: i64) -> i64 {\n    x\n}");
    let lower = rust("fn lower(x: i64) -> i64 {\n    x\n}");
    let folder = folder(&[("wrong", &wrong), ("untested", &untested), ("later", &later), ("lower", &lower)]);
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    refused(
        build(&[&file("wrong.rs")]),
        3,
        &["error: udf `wrong` did not compile", "no_such_thing", &format!("{}:5:7", file("wrong.rs"))],
    );
    refused(build(&["--test", &file("untested.rs")]), 3, &["the unit tests of udf `untested` failed", "left: 1"]);
    refused(build(&[&file("later.rs")]), 3, &["later.rs:4:10: `later` is async", "hint: "]);
    refused(build(&[&file("lower.rs")]), 3, &["udf `lower`: SQL has a function of this name already", "hint: "]);
    refused(build(&[&file("absent.rs")]), 4, &["absent.rs"]);
    let (empty, elsewhere) = (tempfile::tempdir().unwrap(), file("wrong.rs"));
    let other = empty.path().join("x.rs");
    refused(build(&[&elsewhere, text(&other)]), 3, &["are in two folders"]);
    let mut without = build(&[&file("wrong.rs")]);
    without.env("PATH", empty.path());
    refused(without, 4, &["cargo is not there", "hint: install Rust"]);
    let mut nothing = build(&[]);
    nothing.current_dir(empty.path());
    refused(nothing, 3, &["`pipelines/udfs` holds no .rs file", "hint: prescale udf build FILE"]);
    refused(build(&["--no-such-flag"]), 2, &["--no-such-flag"]);
    let help = kit::run(&["udf", "build", "--help"]);
    assert_eq!(help.code, Some(0));
    assert!(help.stdout.contains("Example:\n  prescale udf build\n"), "{}", help.stdout);
}

#[test]
fn a_pipeline_is_told_to_build_what_it_calls() {
    let directory = tempfile::tempdir().unwrap();
    let sql = directory.path().join("routes.sql");
    std::fs::write(&sql, example()).unwrap();
    std::fs::create_dir(directory.path().join("udfs")).unwrap();
    for name in ["route_template.rs", "user_agent_class.rs"] {
        std::fs::copy(kit::root().join("pipelines/udfs").join(name), directory.path().join("udfs").join(name)).unwrap();
    }
    let finished = kit::run(&["sql", "check", text(&sql)]);
    assert_eq!(finished.code, Some(3), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("is not built") && finished.stderr.contains("hint: run `prescale udf build "),
        "{}",
        finished.stderr
    );
    let config = directory.path().join("prescale.toml");
    std::fs::write(&config, "[features]\npipelines = [\"routes.sql\"]\n").unwrap();
    let finished = kit::run(&["check", "-c", text(&config)]);
    assert_eq!(finished.code, Some(3), "{}", finished.stderr);
    assert!(finished.stderr.contains("hint: run `prescale udf build "), "{}", finished.stderr);
}
