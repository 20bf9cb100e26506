//! What is refused before anything is compiled, as the author sees it; manifests and folders. Libraries that are really
//! built and called are in `tests/it/udf.rs`.

use std::fmt::Write;
use std::path::Path;

use super::folder::Udfs;
use super::manifest::Manifest;
use super::source::UdfSource;
use super::*;
use crate::sql::{check_udf_name, compile_with};

const PLAIN: &str = "use arroyo_udf_plugin::udf;\n\n#[udf]\nfn f(x: i64) -> i64 {\n    x\n}\n";

#[track_caller]
fn parsed(text: &str) -> UdfSource {
    UdfSource::parse(Path::new("f.rs"), text.to_owned()).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

#[track_caller]
fn refused(texts: &[&str]) -> String {
    texts.iter().fold(String::new(), |mut out, text| {
        match UdfSource::parse(Path::new("f.rs"), (*text).to_owned()) {
            Ok(_) => panic!("this was accepted:\n{text}"),
            Err(error) => writeln!(out, "{error}\n").unwrap(),
        }
        out
    })
}

/// With this signature.
fn function(signature: &str) -> String {
    format!("#[udf]\nfn f{signature} {{\n    loop {{}}\n}}\n")
}

#[test]
fn types_as_the_macro_reads_them() {
    let signature = "(a: i32, mut b: i64, c: u32, d: u64, e: f32, f: f64, g: &str, h: &[u8], i: Option<&str>, _: std::option::Option<i32>) -> Option<Vec<u8>>";
    let found = parsed(&function(signature));
    let types: Vec<String> =
        found.arguments.iter().map(|a| format!("{} {} {}", a.name, a.kind.sql_name(), a.nullable)).collect();
    insta::assert_snapshot!(types.join("\n"));
    assert_eq!((found.returns.kind, found.returns.nullable), (Kind::Bytes, true));
    assert_eq!(parsed(&function("(x: i32) -> String")).returns.kind, Kind::Text);
    assert_eq!(parsed(PLAIN).name, "f");
    assert_eq!(parsed(&PLAIN.replace("#[udf]", "#[arroyo_udf_plugin::udf]")).name, "f");
}

#[test]
fn dependencies_as_arroyo_reads_them() {
    let text = format!("/*\n[dependencies]\nregex = \"1\"\nserde = {{ version = \"1\" }}\n*/\n{PLAIN}");
    assert_eq!(parsed(&text).dependencies.keys().collect::<Vec<_>>(), ["regex", "serde"]);
    assert!(parsed(PLAIN).dependencies.is_empty());
}

#[test]
fn refused_sources() {
    let texts = [
        "fn f(x: i64) -> i64 { x }".to_owned(),
        "fn f(x: i64) -> i64 { x".to_owned(),
        format!("{PLAIN}\n#[udf]\nfn g(x: i64) -> i64 {{ x }}\n"),
        PLAIN.replace("fn f", "fn other"),
        PLAIN.replace("fn f", "fn Capital"),
        PLAIN.replace("fn f", "async fn f"),
        PLAIN.replace("fn f(x: i64)", "fn f<T>(x: T)"),
        function("() -> i64"),
        function("(x: i64)"),
        function("(x: Vec<f64>) -> f64"),
        function("(x: Vec<u8>) -> f64"),
        function("(x: String) -> f64"),
        function("(x: Option<String>) -> f64"),
        function("(x: bool) -> f64"),
        function("(x: SystemTime) -> f64"),
        function("(x: Option<Option<i32>>) -> f64"),
        function("(x: &mut str) -> f64"),
        function("(x: i64) -> bool"),
        function("(x: &str) -> &str"),
        function("(x: i64) -> Vec<i64>"),
        function("(x: i64) -> (i64, i64)"),
        format!("/* [dependencies]\nregex = \"1\" */\n{PLAIN}"),
        format!("/*\n[dependencies]\nregex = 1.\n*/\n{PLAIN}"),
        format!("/*\n[dependencies]\nregex = \"1\"\n*/\n/*\n[dependencies]\nserde = \"1\"\n*/\n{PLAIN}"),
        format!("/*\n[dependencies]\nregex = \"1\"\n[profile.release]\npanic = \"abort\"\n*/\n{PLAIN}"),
        format!("/*\n[dependencies]\narroyo-udf-plugin = \"0.1\"\n*/\n{PLAIN}"),
        format!("#[global_allocator]\nstatic A: std::alloc::System = std::alloc::System;\n{PLAIN}"),
    ];
    insta::assert_snapshot!(refused(&texts.iter().map(String::as_str).collect::<Vec<_>>()));
}

#[test]
fn a_name_that_sql_has_already_is_refused() {
    for name in ["lower", "count", "mean", "tumble", "session", "now", "array_sum", "cast", "case", "select", "exists"]
    {
        let error = check_udf_name(name).expect_err(name);
        assert!(!error.is_outside() && error.to_string().starts_with(&format!("udf `{name}`: SQL has")), "{error}");
    }
    for name in ["route_template", "user_agent_class", "f"] {
        check_udf_name(name).unwrap();
    }
}

const QUERY: &str = "CREATE TABLE t (ts TIMESTAMP NOT NULL, service TEXT NOT NULL, x BIGINT, WATERMARK FOR ts)
WITH (connector = 'kafka', type = 'source', topic = 't', format = 'json');
CREATE TABLE features WITH (connector = 'kafka', type = 'sink', topic = 'features', format = 'json');
INSERT INTO features SELECT service, window.start AS window_start, window.end AS window_end, n FROM (
  SELECT service, tumble(INTERVAL '1 minute') AS window, max(f(x)) AS n FROM t GROUP BY service, window);
";

/// What a pipeline that calls `f` is told, without the path of the folder.
#[track_caller]
fn told(folder: &Path) -> String {
    let error = compile_with(QUERY, &Udfs::open(folder).unwrap()).expect_err("`f` can't be called");
    let told = error.to_string().replace(&folder.display().to_string(), "DIR");
    told.replace(std::env::consts::DLL_SUFFIX, ".so")
}

#[test]
fn why_a_function_of_a_folder_cannot_be_called() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut all = String::new();
    let mut tell = |what: &str| writeln!(all, "-- {what}\n{}\n", told(folder)).unwrap();
    tell("an empty folder");
    std::fs::write(folder.join("f.rs"), PLAIN).unwrap();
    tell("not built");
    let out = folder.join("target");
    std::fs::create_dir(&out).unwrap();
    let source = UdfSource::read(&folder.join("f.rs")).unwrap();
    let manifest = Manifest::new(&source, b"no library");
    manifest.write(&out).unwrap();
    tell("the library is gone");
    let library = out.join(&manifest.library);
    std::fs::write(&library, b"another library").unwrap();
    tell("the library is another one");
    std::fs::write(&library, b"no library").unwrap();
    let text = told(folder);
    assert!(text.contains("sql error[udf-library]") && text.contains("can't be loaded"), "{text}");
    std::fs::write(folder.join("f.rs"), PLAIN.replace("    x\n", "    x + 1\n")).unwrap();
    tell("the text has changed");
    std::fs::write(Manifest::path(&out, "f"), "{}").unwrap();
    tell("no manifest");
    let newer = Manifest { version: 9, ..manifest.clone() };
    newer.write(&out).unwrap();
    tell("a manifest of a later version");
    let far = Manifest { library: "../f.so".to_owned(), ..manifest };
    far.write(&out).unwrap();
    tell("a library elsewhere");
    insta::assert_snapshot!(all);
}

#[test]
fn a_manifest_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let source = parsed(&function("(x: Option<i64>, y: &str) -> Option<String>").replace("fn f", "/* */ fn f"));
    let manifest = Manifest::new(&source, b"library");
    manifest.write(folder.path()).unwrap();
    assert_eq!(Manifest::read(&Manifest::path(folder.path(), "f")).unwrap(), manifest);
    assert_eq!(manifest.signature(), "f(BIGINT, TEXT) -> TEXT");
    assert_eq!(manifest.source, source.text);
}

#[test]
fn a_folder_with_a_name_of_the_dialect_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lower.rs"), PLAIN.replace("fn f", "fn lower")).unwrap();
    let error = Udfs::open(folder.path()).expect_err("`lower` is there already").to_string();
    assert!(error.starts_with("udf `lower`: SQL has a function of this name already"), "{error}");
}

#[test]
fn widening_goes_as_far_as_values_stay_what_they_are() {
    use arrow::datatypes::DataType;
    for (kind, from, fits) in [
        (Kind::BigInt, DataType::Int32, true),
        (Kind::BigInt, DataType::UInt64, false),
        (Kind::Int, DataType::Int64, false),
        (Kind::Double, DataType::Int64, true),
        (Kind::Double, DataType::Float32, true),
        (Kind::Double, DataType::Utf8, false),
        (Kind::Text, DataType::Utf8View, true),
        (Kind::Text, DataType::Int64, false),
        (Kind::Bytes, DataType::Utf8, false),
        (Kind::IntUnsigned, DataType::Int32, false),
        (Kind::Text, DataType::Null, true),
    ] {
        assert_eq!(kind.accepts(&from), fits, "{kind:?} from {from}");
    }
}
