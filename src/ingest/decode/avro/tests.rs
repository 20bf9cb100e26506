//! Avro records against an encoder of the tests' own, and every kind of damage.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::{
    DataType, Field, Float64Type, Int16Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampNanosecondType,
};
use proptest::prelude::*;
use serde_json::json;

use crate::RawBatch;
use crate::decode::{AvroEncoding, Decoded, Decoder, Format, RegisteredSchema, SchemaKind};

const NANOS: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);

fn table() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", NANOS, false),
        Field::new("service", DataType::Utf8, false),
        Field::new("status", DataType::Int16, true),
        Field::new("latency_ms", DataType::Float64, true),
        Field::new("body", DataType::Binary, true),
    ]))
}

const WRITER: &str = r#"{"type": "record", "name": "Request", "namespace": "shop", "fields": [
    {"name": "trace", "type": {"type": "array", "items": "string"}, "default": []},
    {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "service", "type": "string"},
    {"name": "status", "type": ["null", "int"], "default": null},
    {"name": "latency_ms", "type": "float"},
    {"name": "level", "type": {"type": "enum", "name": "Level", "symbols": ["LOW", "HIGH"]}}
]}"#;

fn long(value: i64, out: &mut Vec<u8>) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag > 0x7f {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn text(value: &str, out: &mut Vec<u8>) {
    long(value.len() as i64, out);
    out.extend_from_slice(value.as_bytes());
}

/// A datum of [`WRITER`].
fn datum(millis: i64, service: &str, status: Option<i32>, latency: f32) -> Vec<u8> {
    let mut out = Vec::new();
    long(1, &mut out);
    text("hop", &mut out);
    long(0, &mut out);
    long(millis, &mut out);
    text(service, &mut out);
    match status {
        None => long(0, &mut out),
        Some(status) => {
            long(1, &mut out);
            long(status.into(), &mut out);
        }
    }
    out.extend_from_slice(&latency.to_le_bytes());
    long(1, &mut out);
    out
}

fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], body].concat()
}

fn raw<R: AsRef<[u8]>>(records: &[Option<R>]) -> RawBatch {
    let mut raw = RawBatch::new("t".into(), 0);
    records.iter().zip(0..).for_each(|(record, offset)| raw.push(offset, None, record.as_ref().map(AsRef::as_ref)));
    raw
}

fn decoder(encoding: AvroEncoding) -> Decoder {
    Decoder::try_new(&Format::Avro(encoding), table()).unwrap()
}

fn of_writer(text: &str) -> Decoder {
    decoder(AvroEncoding::Datum(Some(text.into())))
}

fn avro(text: &str) -> RegisteredSchema {
    RegisteredSchema { kind: SchemaKind::Avro, text: text.to_owned(), references: Vec::new() }
}

fn bad(decoded: &Decoded) -> Vec<(u32, &'static str)> {
    decoded.bad.iter().map(|bad| (bad.index, bad.reason)).collect()
}

#[track_caller]
fn refusal(writer: &str) -> String {
    let encoding = AvroEncoding::Datum(Some(writer.into()));
    Decoder::try_new(&Format::Avro(encoding), table()).unwrap_err().to_string()
}

#[test]
fn columns_are_found_by_name_and_cast_as_avro_promotes() {
    let records = [Some(datum(1500, "checkout", Some(200), 0.5)), None, Some(datum(-1, "é", None, -1.0))];
    let decoded = of_writer(WRITER).decode(&raw(&records));
    assert_eq!((decoded.rows.as_slice(), decoded.tombstones, decoded.bad.len()), (&[0, 2][..], 1, 0));
    let batch = &decoded.batch;
    assert_eq!(batch.column(0).as_primitive::<TimestampNanosecondType>().values(), &[1_500_000_000, -1_000_000]);
    assert_eq!(batch.column(1).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("checkout"), Some("é")]);
    assert_eq!(batch.column(2).as_primitive::<Int16Type>().iter().collect::<Vec<_>>(), [Some(200), None]);
    assert_eq!(batch.column(3).as_primitive::<Float64Type>().values(), &[0.5, -1.0]);
    assert_eq!(batch.column(4).null_count(), 2);
}

#[test]
fn bad_records_leave_the_others_alone() {
    let good = datum(1, "a", Some(1), 1.0);
    let mut not_text = good.clone();
    let at = not_text.windows(2).position(|pair| pair == [2, b'a']).unwrap();
    not_text[at + 1] = 0xff;
    let records = [
        good.clone(),
        good[..good.len() - 3].to_vec(),
        good.clone(),
        not_text,
        [&good[..], b"\0"].concat(),
        datum(1, "b", Some(70_000), 1.0),
        datum(i64::MAX, "c", None, 1.0),
        Vec::new(),
        good,
    ];
    let decoded = of_writer(WRITER).decode(&raw(&records.map(Some)));
    assert_eq!(decoded.rows, [0, 2, 8]);
    let expected = [(1, "decode"), (3, "decode"), (4, "decode"), (5, "schema"), (6, "schema"), (7, "decode")];
    assert_eq!(bad(&decoded), expected, "{:?}", decoded.bad);
    assert!(decoded.bad[1].error.contains("column `service`"), "{:?}", decoded.bad[1]);
    assert_eq!(decoded.bad[3].error, "column `status`: expected a SMALLINT, found 70000");
}

#[test]
fn null_where_the_table_allows_none_is_a_schema_fault() {
    let writer = WRITER.replace(r#""service", "type": "string""#, r#""service", "type": ["string", "null"]"#);
    let record = |service: Option<&str>| {
        let mut out = datum(1, "", None, 0.0);
        let at = out.len() - 7;
        let mut field = Vec::new();
        match service {
            Some(service) => {
                long(0, &mut field);
                text(service, &mut field);
            }
            None => long(1, &mut field),
        }
        out.splice(at..=at, field);
        Some(out)
    };
    let decoded = of_writer(&writer).decode(&raw(&[record(Some("a")), record(None), record(Some("b"))]));
    assert_eq!(decoded.rows, [0, 2], "{:?}", decoded.bad);
    assert_eq!(decoded.bad[0].error, "column `service`: it is NOT NULL and null");
    assert_eq!(decoded.bad[0].reason, "schema");
}

#[test]
fn schemas_that_can_not_fill_the_table_say_why() {
    for (from, to, expected) in [
        (
            r#""service", "type": "string""#,
            r#""service", "type": "int""#,
            "column `service`: expected a text, found int",
        ),
        (
            r#""service", "type": "string""#,
            r#""name", "type": "string""#,
            "NOT NULL and the writer's schema has no such field",
        ),
        (r#"["null", "int"]"#, r#"["null", "int", "string"]"#, "found a union of 3 types"),
        (r#"{"type": "long", "logicalType": "timestamp-millis"}"#, r#""long""#, "found long"),
        (r#""type": "float""#, r#""type": {"type": "map", "values": "int"}"#, "found map"),
        (r#""type": "float""#, r#""type": "shop.Unheard""#, "`shop.Unheard` is not a type"),
        (r#""items": "string""#, r#""items": "Request""#, "holds itself"),
        ("Request", "Request\"", "not an Avro schema"),
    ] {
        let error = refusal(&WRITER.replacen(from, to, 1));
        assert!(error.contains(expected), "{error}");
    }
    assert!(refusal("\"string\"").contains("not a record"));
}

#[test]
fn a_schema_that_grows_when_written_out_is_refused() {
    let mut fields = vec![json!({ "name": "x0", "type": { "type": "record", "name": "r0", "fields": [] } })];
    for depth in 1..30 {
        let inner = format!("r{}", depth - 1);
        let twice = json!([{ "name": "a", "type": inner }, { "name": "b", "type": inner }]);
        fields.push(json!({ "name": format!("x{depth}"), "type": { "type": "record", "name": format!("r{depth}"), "fields": twice } }));
    }
    let schema = json!({ "type": "record", "name": "bomb", "fields": fields }).to_string();
    assert!(refusal(&schema).contains("parts"));
}

#[test]
fn the_schema_of_a_table_is_the_one_that_its_columns_stand_for() {
    let mut record = Vec::new();
    long(7, &mut record);
    text("a", &mut record);
    long(0, &mut record);
    long(1, &mut record);
    record.extend_from_slice(&2.5_f64.to_le_bytes());
    long(1, &mut record);
    text("\u{0}b", &mut record);
    let decoded = decoder(AvroEncoding::Datum(None)).decode(&raw(&[Some(record)]));
    assert_eq!(decoded.rows, [0], "{:?}", decoded.bad);
    assert_eq!(decoded.batch.column(0).as_primitive::<TimestampNanosecondType>().values(), &[7_000]);
    assert_eq!(decoded.batch.column(4).as_binary::<i32>().value(0), b"\0b");
}

#[test]
fn ids_are_looked_up_before_and_each_schema_reads_its_own() {
    let mut decoder = decoder(AvroEncoding::Registry);
    let without_latency = r#"{"type": "record", "name": "r", "fields": [
        {"name": "service", "type": "bytes"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "added", "type": "double"}]}"#;
    let mut other = Vec::new();
    text("b", &mut other);
    long(5, &mut other);
    other.extend_from_slice(&1.0_f64.to_le_bytes());
    let one = framed(1, &datum(1, "a", Some(1), 1.0));
    let records =
        [one.clone(), framed(2, &other), one, framed(9, b"?"), b"{}".to_vec(), framed(3, b""), framed(2, &other)];
    let raw = raw(&records.map(Some));
    assert_eq!(decoder.lacks(&raw), [1, 2, 3, 9]);
    decoder.learn(1, Some(&avro(WRITER)));
    decoder.learn(2, Some(&avro(without_latency)));
    decoder.learn(3, Some(&RegisteredSchema { kind: SchemaKind::Json, text: "{}".to_owned(), references: Vec::new() }));
    assert_eq!(decoder.lacks(&raw), [9]);
    decoder.learn(9, None);
    let decoded = decoder.decode(&raw);
    assert_eq!(decoded.rows, [0, 1, 2, 6], "{:?}", decoded.bad);
    let services: Vec<_> = decoded.batch.column(1).as_string::<i32>().iter().flatten().collect();
    assert_eq!(services, ["a", "b", "a", "b"]);
    assert_eq!(
        decoded.batch.column(0).as_primitive::<TimestampNanosecondType>().values(),
        &[1_000_000, 5_000, 1_000_000, 5_000]
    );
    assert_eq!(bad(&decoded), [(3, "decode"), (4, "decode"), (5, "schema")]);
    assert_eq!(decoded.bad[0].error, "schema 9 is not in the registry");
    decoder.forget_unknown();
    assert_eq!(decoder.lacks(&raw), [9]);
}

#[test]
fn types_may_be_defined_by_references() {
    let mut decoder = decoder(AvroEncoding::Registry);
    let mut schema = avro(
        r#"{"type": "record", "name": "r", "namespace": "shop", "fields": [
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}}, {"name": "service", "type": "Name"}]}"#,
    );
    let name = avro(r#"{"type": "enum", "name": "Name", "namespace": "shop", "symbols": ["cart", "checkout"]}"#);
    schema.references.push(("shop.Name".to_owned(), name));
    decoder.learn(1, Some(&schema));
    let record = |symbol| Some(framed(1, &[2, symbol]));
    let decoded = decoder.decode(&raw(&[record(2), record(0), record(4)]));
    assert_eq!(decoded.rows, [0, 1], "{:?}", decoded.bad);
    assert_eq!(decoded.batch.column(1).as_string::<i32>().value(0), "checkout");
}

/// An object container file.
fn container(schema: &str, codec: &str, count: i64, block: &[u8]) -> Vec<u8> {
    let mut out = b"Obj\x01".to_vec();
    long(2, &mut out);
    text("avro.schema", &mut out);
    text(schema, &mut out);
    text("avro.codec", &mut out);
    text(codec, &mut out);
    long(0, &mut out);
    out.extend_from_slice(&[7; 16]);
    long(count, &mut out);
    long(block.len() as i64, &mut out);
    out.extend_from_slice(block);
    out.extend_from_slice(&[7; 16]);
    out
}

#[test]
fn a_container_holds_one_datum_and_its_schema() {
    use std::io::Write;
    let good = datum(1, "a", None, 1.0);
    let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&good).unwrap();
    let packed = packer.finish().unwrap();
    let mut bomb = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![0; 65 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    let records = [
        container(WRITER, "null", 1, &good),
        container(WRITER, "deflate", 1, &packed),
        container(WRITER, "deflate", 1, &bomb),
        container(WRITER, "snappy", 1, &good),
        container(WRITER, "null", 2, &[&good[..], &good].concat()),
        container("{}", "null", 1, &good),
        [&container(WRITER, "null", 1, &good)[..], b"x"].concat(),
        good.clone(),
    ];
    let decoded = decoder(AvroEncoding::Container).decode(&raw(&records.map(Some)));
    assert_eq!(decoded.rows, [0, 1], "{:?}", decoded.bad);
    let expected = [(2, "decode"), (3, "decode"), (4, "decode"), (5, "schema"), (6, "decode"), (7, "decode")];
    assert_eq!(bad(&decoded), expected, "{:?}", decoded.bad);
}

/// A sound record, or one that is cut, has a bit turned, or is anything.
fn damaged(sound: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Option<Vec<u8>>> {
    (sound, any::<u8>(), any::<u16>(), proptest::collection::vec(any::<u8>(), 0..40)).prop_map(
        |(mut bytes, damage, at, anything)| {
            let at = usize::from(at) % bytes.len().max(1);
            match damage % 8 {
                0 => return None,
                1 => bytes.truncate(at),
                2 => bytes[at] ^= 1 << (damage / 32),
                3 => return Some(anything),
                4 => bytes.extend_from_slice(&anything),
                _ => {}
            }
            Some(bytes)
        },
    )
}

fn sound() -> impl Strategy<Value = Vec<u8>> {
    let status = proptest::option::of(-40_000_i32..40_000);
    (any::<i64>(), any::<String>(), status, any::<f32>())
        .prop_map(|(millis, service, status, latency)| datum(millis >> 20, &service, status, latency))
}

/// Decodes the batch at once and record by record: the same rows, the same faults, and each record in one place.
fn equals_one_by_one(decoder: &Decoder, records: &[Option<Vec<u8>>]) -> Result<(), TestCaseError> {
    let decoded = decoder.decode(&raw(records));
    let (mut batches, mut rows, mut faults, mut tombstones) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for (index, record) in (0..).zip(records) {
        let alone = decoder.decode(&raw(std::slice::from_ref(record)));
        prop_assert_eq!(alone.rows.len() + alone.bad.len() + alone.tombstones, 1);
        tombstones += alone.tombstones;
        rows.extend(alone.rows.iter().map(|_| index));
        faults.extend(alone.bad.into_iter().map(|bad| (index, bad.reason, bad.error)));
        batches.push(alone.batch);
    }
    prop_assert_eq!(&decoded.rows, &rows);
    prop_assert_eq!(decoded.bad.into_iter().map(|bad| (bad.index, bad.reason, bad.error)).collect::<Vec<_>>(), faults);
    prop_assert_eq!(decoded.tombstones, tombstones);
    prop_assert_eq!(decoded.batch, concat_batches(&table(), &batches).unwrap());
    Ok(())
}

proptest! {
    #[test]
    fn a_damaged_record_ends_in_one_place_and_disturbs_no_other(
        records in proptest::collection::vec(damaged(sound()), 0..12),
    ) {
        equals_one_by_one(&of_writer(WRITER), &records)?;
    }

    #[test]
    fn framed_records_too(
        records in proptest::collection::vec(damaged((0_u32..5, sound()).prop_map(|(id, bytes)| framed(id, &bytes))), 0..12),
    ) {
        let mut decoder = decoder(AvroEncoding::Registry);
        decoder.learn(0, Some(&avro(WRITER)));
        decoder.learn(1, Some(&avro(&WRITER.replace("timestamp-millis", "timestamp-micros"))));
        decoder.learn(2, Some(&avro(r#"{"type": "record", "name": "empty", "fields": []}"#)));
        decoder.learn(3, None);
        equals_one_by_one(&decoder, &records)?;
    }

    #[test]
    fn containers_too(
        records in proptest::collection::vec(damaged(sound().prop_map(|bytes| container(WRITER, "null", 1, &bytes))), 0..6),
    ) {
        equals_one_by_one(&decoder(AvroEncoding::Container), &records)?;
    }

    #[test]
    fn sound_records_are_read_as_they_were_written(
        values in proptest::collection::vec(
            (any::<i64>().prop_map(|v| v >> 24), any::<String>(), proptest::option::of(any::<i16>()), -1e9_f32..1e9), 1..20,
        ),
    ) {
        let records: Vec<_> = values.iter().map(|(t, s, c, l)| Some(datum(*t, s, c.map(i32::from), *l))).collect();
        let decoded = of_writer(WRITER).decode(&raw(&records));
        prop_assert_eq!(decoded.rows.len(), values.len());
        for (row, (millis, service, status, latency)) in values.iter().enumerate() {
            prop_assert_eq!(decoded.batch.column(0).as_primitive::<TimestampNanosecondType>().value(row), millis * 1_000_000);
            prop_assert_eq!(decoded.batch.column(1).as_string::<i32>().value(row), service);
            prop_assert_eq!(decoded.batch.column(2).as_primitive::<Int16Type>().iter().nth(row), Some(*status));
            prop_assert_eq!(decoded.batch.column(3).as_primitive::<Float64Type>().value(row), f64::from(*latency));
        }
    }

    #[test]
    fn any_text_as_a_schema_is_read_or_refused(words in proptest::collection::vec(proptest::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"type\"", "\"record\"", "\"name\"", "\"fields\"", "\"enum\"", "\"symbols\"", "\"x\"",
        "\"int\"", "\"null\"", "\"fixed\"", "\"size\"", "-1", "99999999999", "\"array\"", "\"items\"", "null",
    ]), 0..30)) {
        drop(Decoder::try_new(&Format::Avro(AvroEncoding::Datum(Some(words.concat().into()))), table()));
    }
}

#[test]
fn integers_widen_as_avro_says() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, false),
        Field::new("b", DataType::Float64, false),
        Field::new("c", DataType::UInt64, true),
        Field::new("d", DataType::Date32, true),
    ]));
    let writer = r#"{"type": "record", "name": "r", "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "long"},
        {"name": "c", "type": "long"}, {"name": "d", "type": {"type": "int", "logicalType": "date"}}]}"#;
    let decoder = Decoder::try_new(&Format::Avro(AvroEncoding::Datum(Some(writer.into()))), schema).unwrap();
    let record = |values: [i64; 4]| {
        let mut out = Vec::new();
        values.iter().for_each(|value| long(*value, &mut out));
        Some(out)
    };
    let decoded = decoder.decode(&raw(&[record([-1, 1 << 40, 3, 20_000]), record([1, 2, -3, 4])]));
    assert_eq!(decoded.rows, [0]);
    assert_eq!(decoded.batch.column(0).as_primitive::<Int64Type>().values(), &[-1]);
    assert_eq!(decoded.batch.column(1).as_primitive::<Float64Type>().values(), &[(1_i64 << 40) as f64]);
    assert_eq!(decoded.bad[0].error, "column `c`: expected a BIGINT UNSIGNED, found -3");
}
