//! Decoding, by table and against Arrow's own JSON reader.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema, TimeUnit};
use arrow::json::ReaderBuilder;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use proptest::prelude::*;

use super::*;

fn raw(records: &[Option<&[u8]>]) -> RawBatch {
    let mut raw = RawBatch::new("t".into(), 2);
    for (offset, record) in (10..).zip(records) {
        raw.push(offset, Some(offset * 1000), *record);
    }
    raw
}

/// Decodes lines and shows each row as JSON, then each bad record as `index reason: error`.
fn show(schema: Schema, lines: &[&[u8]]) -> String {
    let decoder = Decoder::try_new(&Format::Json, Arc::new(schema)).unwrap();
    let decoded = decoder.decode(&raw(&lines.iter().map(|line| Some(*line)).collect::<Vec<_>>()));
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(&decoded.batch).unwrap();
    let mut out = String::from_utf8(writer.into_inner()).unwrap();
    for bad in &decoded.bad {
        writeln!(out, "{} {}: {}", bad.index, bad.reason, bad.error).unwrap();
    }
    out
}

#[track_caller]
fn check(data_type: DataType, values: &str, expected: &str) {
    let lines: Vec<String> = values.split_whitespace().map(|value| format!("{{\"x\":{value}}}")).collect();
    let bytes: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
    let shown = show(Schema::new(vec![Field::new("x", data_type, true)]), &bytes);
    let expected: String =
        expected.lines().map(str::trim).filter(|l| !l.is_empty()).map(|l| format!("{l}\n")).collect();
    assert_eq!(shown, expected);
}

#[test]
fn integers_take_numbers_and_quoted_numbers_in_range() {
    check(
        DataType::Int8,
        r#"1 -128 "7" 1e2 1.9 null 128 "x" true [1] {"a":[]} "#,
        r#"
        {"x":1}
        {"x":-128}
        {"x":7}
        {"x":100}
        {"x":1}
        {"x":null}
        6 schema: column `x`: expected a TINYINT, found 128
        7 schema: column `x`: expected a TINYINT, found the text `x`
        8 schema: column `x`: expected a TINYINT, found true
        9 schema: column `x`: expected a TINYINT, found a list
        10 schema: column `x`: expected a TINYINT, found an object
        "#,
    );
    check(
        DataType::UInt64,
        "18446744073709551615 -1",
        "{\"x\":18446744073709551615}\n1 schema: column `x`: expected a BIGINT UNSIGNED, found -1",
    );
}

#[test]
fn floats_booleans_and_texts_take_their_own() {
    check(
        DataType::Float64,
        r#"1 2.5 -1e-3 "0.25" "a" false"#,
        r#"
        {"x":1.0}
        {"x":2.5}
        {"x":-0.001}
        {"x":0.25}
        4 schema: column `x`: expected a number, found the text `a`
        5 schema: column `x`: expected a number, found false
        "#,
    );
    check(
        DataType::Boolean,
        r#"true false "true" 1"#,
        r#"
        {"x":true}
        {"x":false}
        2 schema: column `x`: expected true or false, found the text `true`
        3 schema: column `x`: expected true or false, found 1
        "#,
    );
    check(
        DataType::Utf8,
        r#""a" "\u00e9\n\"" "é" 1"#,
        r#"
        {"x":"a"}
        {"x":"é\n\""}
        {"x":"é"}
        3 schema: column `x`: expected a text, found 1
        "#,
    );
}

#[test]
fn times_are_text_or_numbers_in_the_columns_unit() {
    check(
        DataType::Timestamp(TimeUnit::Millisecond, None),
        r#""2026-11-23T08:00:00Z" "2026-11-23T08:00:00.25+01:00" 1500 1.5e3 "soon""#,
        r#"
        {"x":"2026-11-23T08:00:00"}
        {"x":"2026-11-23T07:00:00.250"}
        {"x":"1970-01-01T00:00:01.500"}
        {"x":"1970-01-01T00:00:01.500"}
        4 schema: column `x`: expected a time such as 2026-11-23T08:00:00Z, found the text `soon`
        "#,
    );
    check(
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        r#"1 "2026-11-23T08:00:00.000000001Z" "9999-01-01T00:00:00Z""#,
        r#"
        {"x":"1970-01-01T00:00:00.000000001"}
        {"x":"2026-11-23T08:00:00.000000001"}
        2 schema: column `x`: expected a time such as 2026-11-23T08:00:00Z, found the text `9999-01-01T00:00:00Z`
        "#,
    );
    check(DataType::Date32, r#""2026-11-23" 1"#, "{\"x\":\"2026-11-23\"}\n{\"x\":\"1970-01-02\"}");
}

#[test]
fn what_is_not_an_object_is_bad_and_disturbs_nothing() {
    let schema = || Schema::new(vec![Field::new("a", DataType::Int64, false), Field::new("b", DataType::Utf8, true)]);
    let lines: [&[u8]; 12] = [
        br#"{"a":1,"b":"x"}"#,
        br#"{"a":"#,
        br#"[1]"#,
        br#""#,
        br#"{"b":"no a"}"#,
        br#"{"a":null}"#,
        br#"{"a":1} {"a":2}"#,
        b"{\"a\":1,\"b\":\"\xff\"}",
        br#" {"other":{"a":[9]},"b":null,"a":2} "#,
        br#"{"a":"x","b":1,"a":3,"b":"last"}"#,
        br#"{"a":1,}"#,
        br#"{"a":"x","b"}"#,
    ];
    let expected = r#"{"a":1,"b":"x"}
{"a":2,"b":null}
{"a":3,"b":"last"}
1 decode: EOF while parsing a value at line 1 column 5
2 decode: invalid type: sequence, expected a JSON object at line 1 column 0
3 decode: EOF while parsing a value at line 1 column 0
4 schema: column `a`: it is NOT NULL and missing
5 schema: column `a`: it is NOT NULL and null
6 decode: trailing characters at line 1 column 9
7 decode: invalid utf-8 sequence of 1 bytes from index 12
10 decode: trailing comma at line 1 column 8
11 decode: expected `:` at line 1 column 13
"#;
    assert_eq!(show(schema(), &lines), expected);
}

#[test]
fn text_is_checked_record_by_record() {
    // The two halves of one character: together text, apart not.
    let (first, second): (&[u8], &[u8]) = (b"a\xc3", b"\xa9b");
    let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, false)]));
    let decoder = Decoder::try_new(&Format::RawString, schema).unwrap();
    let decoded = decoder.decode(&raw(&[Some(first), None, Some(second), Some("é".as_bytes()), Some(b"")]));
    assert_eq!(decoded.rows, [3, 4]);
    assert_eq!(
        decoded.bad.iter().map(|bad| (bad.index, bad.reason)).collect::<Vec<_>>(),
        [(0, "decode"), (2, "decode")]
    );
    assert_eq!(decoded.tombstones, 1);
    let column = decoded.batch.column(0).as_string::<i32>();
    assert_eq!((column.value(0), column.value(1)), ("é", ""));
    let decoded = decoder.decode(&raw(&[Some(b"one"), Some(b""), Some(b"two")]));
    assert_eq!(decoded.rows, [0, 1, 2]);
    assert_eq!(decoded.batch.column(0).as_string::<i32>().value(2), "two");
    assert_eq!(decoder.decode(&raw(&[])).batch.num_rows(), 0);
}

#[test]
fn bytes_are_taken_as_they_are() {
    let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Binary, false)]));
    let decoder = Decoder::try_new(&Format::RawBytes, schema).unwrap();
    for records in [&[Some(&b"\xff\0"[..]), Some(b""), Some(b"a")][..], &[Some(b"\xff\0"), None, Some(b"a")]] {
        let decoded = decoder.decode(&raw(records));
        let read: Vec<_> = decoded.batch.column(0).as_binary::<i32>().iter().collect();
        assert_eq!(read, records.iter().copied().filter(Option::is_some).collect::<Vec<_>>());
        assert_eq!((decoded.rows.len() + decoded.tombstones, decoded.bad.len()), (records.len(), 0));
    }
}

#[test]
fn a_frame_before_json_is_taken_off() {
    let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Utf8, true)]));
    let decoder = Decoder::try_new(&Format::FramedJson, schema).unwrap();
    let records: [&[u8]; 6] = [
        b"\0\0\0\0\x07{\"x\":\"\xc3\xa9\"}",
        b"\0\xff\xff\xff\xff{\"x\":\"b\"}",
        b"{\"x\":\"c\"}",
        b"\0\0\0",
        b"\0\0\0\0\x07{\"x\":\"\xff\"}",
        b"\0\0\0\0\x07",
    ];
    let decoded = decoder.decode(&raw(&records.map(Some)));
    assert_eq!(decoded.rows, [0, 1], "{:?}", decoded.bad);
    assert_eq!(decoded.batch.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["é", "b"]);
    assert!(decoded.bad.iter().all(|bad| bad.reason == "decode"));
    assert!(decoder.lacks(&raw(&[Some(records[0])])).is_empty());
}

#[test]
fn metadata_follows_the_rows() {
    let mut raw = RawBatch::new("t".into(), 2);
    for (offset, key) in [(10, Some(&b"a"[..])), (11, Some(b"b")), (12, None), (13, Some(b"\xff")), (14, Some(b""))] {
        key.into_iter().for_each(|key| raw.push_key(key));
        raw.push(offset, (offset < 14).then_some(offset * 1000), Some(b"x"));
    }
    let rows = [0, 2, 3, 4];
    let columns = |name: &str| -> Vec<arrow::array::ArrayRef> {
        let field: MetadataField = name.parse().unwrap();
        let columns = field.data_types().iter().map(|data_type| (data_type, field.column(&raw, &rows, data_type)));
        columns.inspect(|(data_type, column)| assert_eq!(column.data_type(), *data_type)).map(|(_, c)| c).collect()
    };
    let longs = |name: &str| columns(name)[0].as_primitive::<arrow::datatypes::Int64Type>().iter().collect::<Vec<_>>();
    assert_eq!(longs("offset_id"), [Some(10), Some(12), Some(13), Some(14)]);
    assert_eq!(longs("timestamp"), [Some(10_000), Some(12_000), Some(13_000), None]);
    assert_eq!(columns("partition")[0].as_primitive::<arrow::datatypes::Int32Type>().values(), &[2; 4]);
    assert_eq!(columns("topic")[0].as_string::<i32>().value(3), "t");
    let [text, bytes] = &columns("key")[..] else { panic!("a key is text or bytes") };
    assert_eq!(text.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a"), None, None, Some("")]);
    assert_eq!(bytes.as_binary::<i32>().iter().collect::<Vec<_>>(), [Some(&b"a"[..]), None, Some(b"\xff"), Some(b"")]);
    assert!("headers".parse::<MetadataField>().unwrap_err().to_string().contains("hint:"));
}

#[test]
fn tables_that_a_format_can_not_fill_are_refused() {
    let schema = |data_type| Arc::new(Schema::new(vec![Field::new("x", data_type, true)]));
    let zoned = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    for (format, data_type) in [
        (Format::Json, DataType::Binary),
        (Format::Json, zoned.clone()),
        (Format::RawString, DataType::Int64),
        (Format::RawBytes, DataType::Utf8),
        (Format::Avro(AvroEncoding::Registry), zoned.clone()),
        (Format::Protobuf(ProtobufEncoding::Registry), zoned),
    ] {
        let error = Decoder::try_new(&format, schema(data_type)).unwrap_err().to_string();
        assert!(error.contains("column `x`") && error.contains("hint:"), "{error}");
    }
    assert!(Decoder::try_new(&Format::RawString, Arc::new(Schema::empty())).is_err());
}

fn wide() -> Schema {
    let types = [
        DataType::Boolean,
        DataType::Int8,
        DataType::Int64,
        DataType::UInt16,
        DataType::UInt64,
        DataType::Float64,
        DataType::Utf8,
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::Timestamp(TimeUnit::Second, None),
        DataType::Date32,
    ];
    let field =
        |(index, data_type): (usize, &DataType)| Field::new(format!("f{index}"), data_type.clone(), index % 3 != 1);
    Schema::new(types.iter().enumerate().map(field).collect::<Vec<_>>())
}

/// A JSON value as text: of every type, in and out of every range.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        (-200i64..70_000).prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        (-1e6f64..1e6).prop_map(|number| format!("{number:?}")),
        Just("1e300".to_owned()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        (-300i64..300).prop_map(|number| format!("\"{number}\"")),
        (0i64..4_000_000_000)
            .prop_map(|seconds| { format!("\"{}\"", prescale_domain::Timestamp::from_millis(seconds * 1000)) }),
        Just("\"2026-02-28\"".to_owned()),
        Just("[1,{\"a\":null}]".to_owned()),
        Just("{\"f1\":[]}".to_owned()),
    ]
}

/// A record: an object with known and unknown fields in any order, or damaged.
fn record() -> impl Strategy<Value = Option<Vec<u8>>> {
    let fields = proptest::collection::vec((0usize..12, value()), 0..14);
    (fields, 0u8..20).prop_map(|(fields, damage)| {
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"f{name}\": {value}")).collect();
        let mut bytes = format!("{{{}}}", fields.join(", ")).into_bytes();
        match damage {
            0 => return None,
            1 => bytes.truncate(bytes.len() / 2),
            2 => bytes.insert(bytes.len() / 2, 0xff),
            3 => bytes.extend_from_slice(b" x"),
            _ => {}
        }
        Some(bytes)
    })
}

/// A record that is likely to fit: every column has a sound value.
fn sound() -> impl Strategy<Value = Option<Vec<u8>>> {
    (any::<bool>(), any::<i8>(), any::<i64>(), any::<u16>(), any::<u64>(), -1e9f64..1e9, any::<String>(), 0i64..4_000_000_000)
        .prop_map(|(flag, small, large, port, count, ratio, text, seconds)| {
            let text = serde_json::to_string(&text).unwrap();
            let moment = prescale_domain::Timestamp::from_millis(seconds * 1000);
            let line = format!(
                r#"{{"f9":"2026-01-31","f0":{flag},"f1":{small},"f2":{large},"f3":{port},"f4":{count},"f5":{ratio:?},"f6":{text},"f7":"{moment}","f8":{seconds}}}"#
            );
            Some(line.into_bytes())
        })
}

/// The plain way: one record at a time, a JSON tree for the format and Arrow's reader for the types.
fn reference(schema: &SchemaRef, record: &[u8]) -> Result<RecordBatch, &'static str> {
    match serde_json::from_slice::<serde_json::Value>(record) {
        Ok(serde_json::Value::Object(_)) => {}
        _ => return Err("decode"),
    }
    let mut decoder = ReaderBuilder::new(schema.clone()).build_decoder().map_err(|_| "schema")?;
    decoder.decode(record).map_err(|_| "schema")?;
    decoder.flush().map_err(|_| "schema")?.ok_or("schema")
}

proptest! {
    #[test]
    fn one_pass_equals_arrows_reader_record_by_record(
        records in proptest::collection::vec(prop_oneof![record(), sound()], 0..12),
    ) {
        let schema: SchemaRef = Arc::new(wide());
        let raw = raw(&records.iter().map(Option::as_deref).collect::<Vec<_>>());
        let decoded = Decoder::try_new(&Format::Json, schema.clone()).unwrap().decode(&raw);
        let (mut batches, mut rows, mut bad, mut tombstones) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (index, record) in (0..).zip(&records) {
            match record.as_deref().map(|record| reference(&schema, record)) {
                None => tombstones += 1,
                Some(Ok(batch)) => {
                    batches.push(batch);
                    rows.push(index);
                }
                Some(Err(reason)) => bad.push((index, reason)),
            }
        }
        prop_assert_eq!(&decoded.rows, &rows);
        prop_assert_eq!(decoded.bad.iter().map(|bad| (bad.index, bad.reason)).collect::<Vec<_>>(), bad);
        prop_assert_eq!(decoded.tombstones, tombstones);
        prop_assert_eq!(decoded.batch, concat_batches(&schema, &batches).unwrap());
    }

    #[test]
    fn the_quick_way_reads_as_the_general_one_does(
        records in proptest::collection::vec((prop_oneof![record(), sound()], any::<(u16, u8, bool)>()), 0..12),
        kept in proptest::collection::vec(any::<bool>(), wide().fields().len()),
    ) {
        // Half of the records have one byte changed, mostly into one that means something in JSON.
        let damaged = records.into_iter().map(|(record, (place, byte, damage))| {
            let mut record = record?;
            if damage && !record.is_empty() {
                let place = usize::from(place) % record.len();
                const MEANINGFUL: &[u8] = b"\"\\{}[]:,. -+0123456789eEtfnuZT\n";
                record[place] = if byte < 200 { MEANINGFUL[usize::from(byte) % MEANINGFUL.len()] } else { byte };
            }
            Some(record)
        });
        let records: Vec<Option<Vec<u8>>> = damaged.collect();
        let raw = raw(&records.iter().map(Option::as_deref).collect::<Vec<_>>());
        let schema: SchemaRef = Arc::new(wide());
        let plan = JsonPlan::try_new(&schema, 0).unwrap();
        let [quick, general] = [true, false].map(|quick| plan.decode_by(&schema, &raw, quick));
        prop_assert_eq!(&quick.batch, &general.batch);
        prop_assert_eq!(&quick.rows, &general.rows);
        prop_assert_eq!(&quick.bad, &general.bad);
        // And so it does where the values of some columns are only checked.
        let checking = Decoder::try_new(&Format::Json, schema.clone()).unwrap().keeping(&kept).decode(&raw);
        let columns: Vec<usize> = (0..kept.len()).filter(|column| kept[*column]).collect();
        prop_assert_eq!(checking.batch.project(&columns).unwrap(), general.batch.project(&columns).unwrap());
        prop_assert_eq!(checking.batch.num_rows(), general.batch.num_rows());
        prop_assert_eq!((checking.rows, checking.bad), (general.rows, general.bad));
    }

    #[test]
    fn any_bytes_end_in_exactly_one_place(
        records in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..30)), 0..12),
    ) {
        let raw = raw(&records.iter().map(Option::as_deref).collect::<Vec<_>>());
        let text = Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, false)]));
        let bytes = Arc::new(Schema::new(vec![Field::new("value", DataType::Binary, false)]));
        for (format, schema) in [
            (Format::Json, Arc::new(wide())),
            (Format::FramedJson, Arc::new(wide())),
            (Format::RawString, text),
            (Format::RawBytes, bytes),
            (Format::Avro(AvroEncoding::Container), Arc::new(wide())),
            (Format::Avro(AvroEncoding::Datum(None)), Arc::new(wide())),
            (Format::Avro(AvroEncoding::Registry), Arc::new(wide())),
            (Format::Protobuf(ProtobufEncoding::Registry), Arc::new(wide())),
        ] {
            let decoded = Decoder::try_new(&format, schema).unwrap().decode(&raw);
            prop_assert_eq!(decoded.rows.len(), decoded.batch.num_rows());
            let mut seen: Vec<u32> = decoded.rows.iter().copied().chain(decoded.bad.iter().map(|bad| bad.index)).collect();
            seen.extend(raw.tombstones.iter().map(|index| *index as u32));
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..raw.len() as u32).collect::<Vec<_>>());
        }
    }
}
