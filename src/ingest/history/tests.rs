//! The same history in each form is the same, and what is none is refused by line or row with what to do.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::basic::Compression as Packing;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use prescale_domain::{Series, ServiceName, Span, Timestamp};
use tempfile::TempDir;

use super::*;

const MINUTE: Span = Span::from_minutes(1);

/// A folder of files.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn text(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        if name.ends_with(".gz") {
            let mut packed = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
            packed.write_all(text.as_bytes()).unwrap();
            packed.finish().unwrap();
        } else {
            std::fs::write(&path, text).unwrap();
        }
        path
    }

    /// Row groups of times, loads (`None` = null) and services.
    fn parquet(&self, message: &str, packing: Packing, groups: &[&[(i64, Option<f64>, &str)]]) -> PathBuf {
        let path = self.0.path().join("history.parquet");
        let schema = Arc::new(parse_message_type(message).unwrap());
        let has_services = schema.get_fields().len() > 2;
        let properties = WriterProperties::builder().set_compression(packing).build();
        let mut writer = SerializedFileWriter::new(File::create(&path).unwrap(), schema, properties.into()).unwrap();
        for group in groups {
            let mut rows = writer.next_row_group().unwrap();
            let times: Vec<i64> = group.iter().map(|row| row.0).collect();
            let mut column = rows.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(&times, None, None).unwrap();
            column.close().unwrap();
            let loads: Vec<f64> = group.iter().filter_map(|row| row.1).collect();
            let levels: Vec<i16> = group.iter().map(|row| i16::from(row.1.is_some())).collect();
            let mut column = rows.next_column().unwrap().unwrap();
            column.typed::<DoubleType>().write_batch(&loads, Some(&levels), None).unwrap();
            column.close().unwrap();
            if has_services {
                let services: Vec<ByteArray> = group.iter().map(|row| ByteArray::from(row.2)).collect();
                let mut column = rows.next_column().unwrap().unwrap();
                column.typed::<ByteArrayType>().write_batch(&services, None, None).unwrap();
                column.close().unwrap();
            }
            rows.close().unwrap();
        }
        writer.close().unwrap();
        path
    }
}

fn at(minute: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + Span::from_minutes(minute)
}

/// Minutes 0 to 3: 1, a gap, 2.5, 4.
fn expected() -> Series {
    Series { start: at(0), step: MINUTE, values: vec![Some(1.0), None, Some(2.5), Some(4.0)] }
}

const CSV: &str = "timestamp,value\n2026-01-01T00:00:00Z,1\n2026-01-01T00:03:00Z,4\n2026-01-01T00:02:00Z,9\n\
                   2026-01-01T00:01:00Z,\n2026-01-01T01:02:00+01:00,2.5\n";
const NDJSON: &str = r#"{"timestamp":"2026-01-01T00:00:00Z","value":1,"labels":{"a":[1]},"note":"x"}
{"value":4.0,"timestamp":"2026-01-01T00:03:00Z"}
{"timestamp":"2026-01-01T00:02:00Z","value":2.5}

{"timestamp":"2026-01-01T00\u003a01:00Z","value":null}
"#;
const TABLE: &str = "message history { required int64 timestamp (TIMESTAMP(MICROS,true)); optional double value; }";

#[track_caller]
fn read(path: &Path) -> Series {
    read_history(path, &Columns::default(), &[]).and_then(|read| read.series(None, MINUTE)).unwrap()
}

#[track_caller]
fn refused(path: &Path, columns: &Columns, expected: &str) {
    let error = read_history(path, columns, &[]).and_then(|read| read.series(None, MINUTE)).unwrap_err();
    assert!(!error.is_passing());
    let (said, place) = (error.to_string(), path.display().to_string());
    assert_eq!(said.replace(&place, "FILE"), expected);
}

#[test]
fn one_history_in_every_form_is_the_same() {
    let files = Files::new();
    let forms = [
        ("a.csv", CSV.to_owned()),
        ("a.csv.gz", CSV.to_owned()),
        ("a.txt", CSV.replace("timestamp,value\n", "\u{feff}")),
        ("b.csv", CSV.replace("timestamp,value", "\u{feff}window_start , rate").replace('\n', "\r\n")),
        ("a.ndjson", NDJSON.to_owned()),
        ("a.jsonl.gz", NDJSON.to_owned()),
        ("b.json", NDJSON.replace("\"timestamp\"", "\"ts\"").replace("\"value\"", "\"rate\"")),
    ];
    for (name, text) in forms {
        assert_eq!(read(&files.text(name, &text)), expected(), "{name}");
    }
    let micros = |minute: i64| at(minute).millis() * 1000;
    let groups: [&[_]; 2] = [
        &[(micros(3), Some(4.0), ""), (micros(1), None, "")],
        &[(micros(0), Some(1.0), ""), (micros(2), Some(2.5), "")],
    ];
    for packing in
        [Packing::UNCOMPRESSED, Packing::SNAPPY, Packing::GZIP(Default::default()), Packing::ZSTD(Default::default())]
    {
        assert_eq!(read(&files.parquet(TABLE, packing, &groups)), expected(), "{packing}");
    }
}

#[test]
fn services_are_told_apart() {
    let files = Files::new();
    let csv = files.text("a.csv", "service,time,value\nweb,2026-01-01T00:00:00Z,1\ncart,2026-01-01T00:00:00Z,2\n");
    let json = files.text(
        "a.ndjson",
        "{\"service\":\"web\",\"window_start\":\"2026-01-01T00:00:00Z\",\"window_end\":\"x\",\"requests\":7,\"requests_per_second\":1}\n\
         {\"service\":\"cart\",\"window_start\":\"2026-01-01T00:00:00Z\",\"window_end\":\"x\",\"requests\":7,\"requests_per_second\":2}\n",
    );
    let message = "message history { required int64 time (TIMESTAMP(NANOS,true)); optional double value; required binary service (STRING); }";
    let nanos = at(0).millis() * 1_000_000;
    let table = files.parquet(message, Packing::SNAPPY, &[&[(nanos, Some(1.0), "web"), (nanos, Some(2.0), "cart")]]);
    for path in [csv, json, table] {
        let read = read_history(&path, &Columns::default(), &["requests_per_second"]).unwrap();
        assert_eq!(read.services().collect::<Vec<_>>(), ["cart", "web"]);
        for (name, load) in [("web", 1.0), ("cart", 2.0)] {
            let series = read.series(Some(&ServiceName::new(name)), MINUTE).unwrap();
            assert_eq!((series.start, series.values), (at(0), vec![Some(load)]));
        }
        let error = read.series(None, MINUTE).unwrap_err().to_string();
        assert!(error.ends_with("it has 2 services: cart, web\nhint: name one of them"), "{error}");
        let error = read.series(Some(&"shop".into()), MINUTE).unwrap_err().to_string();
        assert!(error.contains("no rows of service `shop`, but of: cart, web"), "{error}");
    }
}

#[test]
fn columns_are_found_by_the_names_that_were_given() {
    let files = Files::new();
    let path = files.text("a.csv", "when,load,peak,who\n2026-01-01T00:00:00Z,1,9,web\n");
    let named = |time: &str, value: &str| Columns {
        time: Some(time.to_owned()),
        value: Some(value.to_owned()),
        service: Some("who".to_owned()),
    };
    let read = read_history(&path, &named("when", "peak"), &[]).unwrap();
    assert_eq!(read.series(None, MINUTE).unwrap().values, [Some(9.0)]);
    refused(
        &path,
        &named("when", "lode"),
        "history `FILE`: there is no column `lode`; the columns are: when, load, peak, who\n\
         hint: name the column of the value as it is; CSV has commas between columns",
    );
    refused(
        &path,
        &Columns { time: Some("when".to_owned()), ..Columns::default() },
        "history `FILE`: several columns could be the load: load, peak, who\nhint: name the column of the value",
    );
    refused(
        &files.text("b.csv", "2026-01-01T00:00:00Z,1\n"),
        &named("when", "load"),
        "history `FILE` line 1: columns were named, but this is no line of names\nhint: put the names of the columns first",
    );
}

#[test]
fn what_is_no_history_is_refused_by_line_with_what_to_do() {
    let files = Files::new();
    let number = "\nhint: write loads as numbers of at least 0, and nothing where the load is not known";
    let time = "\nhint: write times as RFC 3339, such as 2026-11-23T08:00:00Z";
    let csv = |name: &str, text: &str, expected: &str| refused(&files.text(name, text), &Columns::default(), expected);
    let header = "timestamp,value\n2026-01-01T00:00:00Z,1\n";
    csv("a.csv", "", "history `FILE`: there are no rows\nhint: name a file that has some");
    csv("a.csv", &format!("{header}yesterday,1\n"), &format!("history `FILE` line 3: `yesterday` is no time{time}"));
    for (wrong, said) in [("many", "many"), ("NaN", "NaN"), ("inf", "inf"), ("-1", "-1")] {
        csv(
            "a.csv",
            &format!("{header}2026-01-01T00:01:00Z,{wrong}\n"),
            &format!("history `FILE` line 3: value `{said}` is not a number of at least 0{number}"),
        );
    }
    csv(
        "a.csv",
        &format!("{header}2026-01-01T00:01:00Z\n"),
        "history `FILE` line 3: has 1 columns, column 2 is wanted\nhint: give each line as many columns as the first has, with commas between them",
    );
    csv(
        "a.csv",
        "2026-01-01T00:00:00Z;1\n",
        "history `FILE`: none of the columns timestamp, time, ts, window_start is there; the columns are: 2026-01-01T00:00:00Z;1\n\
         hint: name the column of the time; CSV has commas between columns",
    );
    csv(
        "a.csv",
        &format!("{header}2026-01-01T00:00:30Z,1\n"),
        "history `FILE` line 3: 2026-01-01T00:00:30Z is no multiple of 1m after 2026-01-01T00:00:00Z\n\
         hint: name the step of the data, or bring it to windows of 1m first",
    );
    csv(
        "a.csv",
        &format!("{header}0001-01-01T00:00:00Z,1\n"),
        "history `FILE`: 1065047041 windows of 1m are too many\nhint: is the step right, and are all times of the same era?",
    );
    let row = "{\"ts\":\"2026-01-01T00:00:00Z\",\"value\":1}\n";
    csv(
        "a.ndjson",
        &format!("{row}{{\"ts\":\"2026-01-01T00:01:00Z\",\"value\":\"1\"}}"),
        "history `FILE` line 2: is no row: invalid type: string \"1\", expected f64\n\
         hint: write one object a line, with RFC 3339 times; write loads as numbers of at least 0, and nothing where the load is not known",
    );
    csv(
        "a.ndjson",
        &format!("{row}{{\"value\":1}}"),
        "history `FILE` line 2: has no `ts`\nhint: name the time in each row",
    );
    csv(
        "a.ndjson",
        &format!("{row}{{\"ts\":\"2026-01-01T00:01:00Z\",\"value\":-1}}"),
        &format!("history `FILE` line 2: value `-1` is not a number of at least 0{number}"),
    );
    csv(
        "a.ndjson",
        "[1]\n",
        "history `FILE` line 1: is no JSON object: invalid type: sequence, expected a map at line 1 column 0\nhint: write one object a line",
    );
    refused(
        &files.0.path().join("absent.csv"),
        &Columns::default(),
        "history `FILE`: No such file or directory (os error 2)\nhint: name a file that can be read",
    );
}

#[test]
fn tables_that_are_no_histories_are_refused_by_row_or_column() {
    let files = Files::new();
    let (first, second) = (at(0).millis(), at(1).millis());
    let millis = "message history { required int64 timestamp (TIMESTAMP(MILLIS,true)); optional double value; }";
    let rows = [(first, Some(1.0), ""), (second, Some(f64::NAN), "")];
    refused(
        &files.parquet(millis, Packing::SNAPPY, &[&rows]),
        &Columns::default(),
        "history `FILE` row 2: value `NaN` is not a number of at least 0\n\
         hint: write loads as numbers of at least 0, and nothing where the load is not known",
    );
    refused(
        &files.parquet(millis, Packing::SNAPPY, &[&[(first, Some(1.0), "")], &[(second + 1, Some(1.0), "")]]),
        &Columns::default(),
        "history `FILE` row 2: 2026-01-01T00:01:00.001Z is no multiple of 1m after 2026-01-01T00:00:00Z\n\
         hint: name the step of the data, or bring it to windows of 1m first",
    );
    let bare = "message history { required int64 timestamp; optional double value; }";
    refused(
        &files.parquet(bare, Packing::SNAPPY, &[&[(first, Some(1.0), "")]]),
        &Columns::default(),
        "history `FILE`: column `timestamp` is INT64 and no time\n\
         hint: write it as a timestamp, or as RFC 3339 text: a bare number may be of seconds or milliseconds",
    );
    let error = read_history(&files.text("a.parquet", CSV), &Columns::default(), &[]).unwrap_err().to_string();
    assert!(error.contains("hint: write the file again; it must be whole"), "{error}");
}

#[test]
fn a_damaged_table_is_an_error_wherever_it_is_damaged() {
    let files = Files::new();
    let rows: Vec<_> = (0..500).map(|n| (at(n).millis(), (n % 7 != 0).then_some(n as f64), "web")).collect();
    let message = "message history { required int64 time (TIMESTAMP(MILLIS,true)); optional double value; required binary service (STRING); }";
    let path = files.parquet(message, Packing::SNAPPY, &[&rows]);
    let whole = std::fs::read(&path).unwrap();
    for place in (0..whole.len()).step_by(7) {
        for change in [0x01, 0xff] {
            let mut bytes = whole.clone();
            bytes[place] ^= change;
            std::fs::write(&path, bytes).unwrap();
            // Some damage can't be noticed; what counts is that no panic comes out.
            drop(read_history(&path, &Columns::default(), &[]));
        }
    }
    std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    assert!(read_history(&path, &Columns::default(), &[]).is_err());
}
