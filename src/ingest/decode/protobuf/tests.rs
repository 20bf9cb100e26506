//! Protobuf records against prost-reflect's dynamic messages, and every kind of damage.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{
    DataType, Field, Float64Type, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
    UInt64Type,
};
use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, Value};

use super::schema::of_text;
use crate::RawBatch;
use crate::decode::{Decoded, Decoder, Format, ProtobufEncoding, RegisteredSchema, SchemaKind};

const PROTO: &str = r#"
    syntax = "proto3";
    package shop;
    import "google/protobuf/timestamp.proto";
    import "google/protobuf/wrappers.proto";
    enum Level { LOW = 0; HIGH = 1; }
    message Envelope {
        map<string, int32> counts = 1;
        message Inner { string service = 1; }
        Inner inner = 2;
    }
    message Request {
        google.protobuf.Timestamp ts = 1;
        string service = 2;
        optional int32 status = 3;
        sint64 delta = 4;
        float ratio = 5;
        Level level = 6;
        google.protobuf.DoubleValue cost = 7;
        fixed64 bytes = 8;
        bytes body = 9;
        bool ok = 10;
        oneof peer { string host = 11; uint32 port = 12; Envelope other = 13; }
        repeated string tags = 14;
    }
"#;

fn table() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("service", DataType::Utf8, false),
        Field::new("status", DataType::Int32, true),
        Field::new("delta", DataType::Int64, false),
        Field::new("ratio", DataType::Float64, true),
        Field::new("level", DataType::Utf8, true),
        Field::new("cost", DataType::Float64, true),
        Field::new("bytes", DataType::UInt64, true),
        Field::new("body", DataType::Binary, true),
        Field::new("ok", DataType::Boolean, true),
        Field::new("host", DataType::Utf8, true),
        Field::new("port", DataType::UInt16, true),
        Field::new("unheard_of", DataType::Utf8, true),
    ]))
}

fn registered(text: &str) -> RegisteredSchema {
    RegisteredSchema { kind: SchemaKind::Protobuf, text: text.to_owned(), references: Vec::new() }
}

fn descriptor(index: usize) -> MessageDescriptor {
    of_text(&registered(PROTO)).unwrap()[index].clone()
}

fn request() -> MessageDescriptor {
    descriptor(1)
}

/// Of the whole file, as protoc writes it.
fn descriptor_set() -> Arc<[u8]> {
    request().parent_pool().encode_to_vec().into()
}

fn decoder_of(message: &str, table: SchemaRef) -> Result<Decoder, String> {
    let encoding = ProtobufEncoding::Message { descriptor_set: descriptor_set(), message: message.to_owned() };
    Decoder::try_new(&Format::Protobuf(encoding), table).map_err(|error| error.to_string())
}

fn decoder() -> Decoder {
    decoder_of("shop.Request", table()).unwrap()
}

fn raw<R: AsRef<[u8]>>(records: &[Option<R>]) -> RawBatch {
    let mut raw = RawBatch::new("t".into(), 0);
    records.iter().zip(0..).for_each(|(record, offset)| raw.push(offset, None, record.as_ref().map(AsRef::as_ref)));
    raw
}

fn message(fields: &[(&str, Value)]) -> Vec<u8> {
    let mut message = DynamicMessage::new(request());
    fields.iter().for_each(|(name, value)| message.set_field_by_name(name, value.clone()));
    message.encode_to_vec()
}

fn timestamp(seconds: i64, nanos: i32) -> Value {
    let kind = request().parent_pool().get_message_by_name("google.protobuf.Timestamp").unwrap();
    let mut message = DynamicMessage::new(kind);
    message.set_field_by_name("seconds", Value::I64(seconds));
    message.set_field_by_name("nanos", Value::I32(nanos));
    Value::Message(message)
}

fn double(value: f64) -> Value {
    let kind = request().parent_pool().get_message_by_name("google.protobuf.DoubleValue").unwrap();
    let mut message = DynamicMessage::new(kind);
    message.set_field_by_name("value", Value::F64(value));
    Value::Message(message)
}

fn bad(decoded: &Decoded) -> Vec<(u32, &'static str)> {
    decoded.bad.iter().map(|bad| (bad.index, bad.reason)).collect()
}

#[test]
fn columns_are_fields_by_name_and_absent_ones_what_protobuf_says() {
    let full = message(&[
        ("ts", timestamp(-1, 500_000_000)),
        ("service", Value::String("checkout".to_owned())),
        ("status", Value::I32(-7)),
        ("delta", Value::I64(i64::MIN)),
        ("ratio", Value::F32(0.5)),
        ("level", Value::EnumNumber(1)),
        ("cost", double(2.5)),
        ("bytes", Value::U64(u64::MAX)),
        ("body", Value::Bytes(b"\xff".as_slice().into())),
        ("ok", Value::Bool(true)),
        ("port", Value::U32(80)),
    ]);
    let decoded = decoder().decode(&raw(&[Some(full), Some(Vec::new()), None]));
    assert_eq!((decoded.rows.as_slice(), decoded.tombstones), (&[0, 1][..], 1), "{:?}", decoded.bad);
    let column = |index: usize| decoded.batch.column(index);
    let times: Vec<_> = column(0).as_primitive::<TimestampMicrosecondType>().iter().collect();
    assert_eq!(times, [Some(-500_000), None]);
    assert_eq!(column(1).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("checkout"), Some("")]);
    assert_eq!(column(2).as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [Some(-7), None]);
    assert_eq!(column(3).as_primitive::<Int64Type>().values(), &[i64::MIN, 0]);
    assert_eq!(column(4).as_primitive::<Float64Type>().values(), &[0.5, 0.0]);
    assert_eq!(column(5).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("HIGH"), Some("LOW")]);
    assert_eq!(column(6).as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), [Some(2.5), None]);
    assert_eq!(column(7).as_primitive::<UInt64Type>().values(), &[u64::MAX, 0]);
    assert_eq!(column(8).as_binary::<i32>().iter().collect::<Vec<_>>(), [Some(&b"\xff"[..]), Some(b"")]);
    assert_eq!((column(10).null_count(), column(11).null_count(), column(12).null_count()), (2, 1, 2));
}

#[test]
fn the_last_of_equal_fields_counts_and_a_oneof_has_one_member() {
    let host = message(&[("host", Value::String("a".to_owned()))]);
    let port = message(&[("port", Value::U32(80))]);
    let early = message(&[("ts", timestamp(5, 0)), ("service", Value::String("x".to_owned()))]);
    let late = message(&[("ts", timestamp(0, 1_000)), ("service", Value::String("y".to_owned()))]);
    let other = message(&[("other", Value::Message(DynamicMessage::new(descriptor(0))))]);
    let records = [
        [&host[..], &port].concat(),
        [&port[..], &host].concat(),
        [&early[..], &late].concat(),
        [&host[..], &other].concat(),
    ];
    let decoded = decoder().decode(&raw(&records.map(Some)));
    let hosts: Vec<_> = decoded.batch.column(10).as_string::<i32>().iter().collect();
    assert_eq!(hosts, [None, Some("a"), None, None]);
    assert_eq!(decoded.batch.column(11).null_count(), 3);
    assert_eq!(decoded.batch.column(1).as_string::<i32>().value(2), "y");
    assert_eq!(decoded.batch.column(0).as_primitive::<TimestampMicrosecondType>().value(2), 5_000_001);
}

#[test]
fn bad_records_leave_the_others_alone() {
    let good = message(&[("service", Value::String("a".to_owned())), ("status", Value::I32(1))]);
    let records = [
        good.clone(),
        good[..good.len() - 1].to_vec(),
        // Field 2 as a varint, field 2 that is not text, port 70000, a field number 0.
        vec![0x10, 1],
        vec![0x12, 1, 0xff],
        message(&[("port", Value::U32(70_000))]),
        vec![0x00, 1],
        good,
    ];
    let decoded = decoder().decode(&raw(&records.map(Some)));
    assert_eq!(decoded.rows, [0, 6]);
    let expected = [(1, "decode"), (2, "schema"), (3, "decode"), (4, "schema"), (5, "decode")];
    assert_eq!(bad(&decoded), expected, "{:?}", decoded.bad);
    assert_eq!(decoded.bad[3].error, "column `port`: expected a SMALLINT UNSIGNED, found 70000");
}

#[test]
fn messages_that_can_not_fill_the_table_say_why() {
    let column = |name: &str, data_type, nullable| Arc::new(Schema::new(vec![Field::new(name, data_type, nullable)]));
    for (message, table, expected) in [
        ("shop.Request", column("tags", DataType::Utf8, true), "expected a text, found repeated string"),
        ("shop.Request", column("service", DataType::Int32, true), "expected an INT, found string"),
        ("shop.Request", column("other", DataType::Utf8, true), "found message shop.Envelope"),
        ("shop.Envelope", column("counts", DataType::Utf8, true), "found a map of"),
        ("shop.Request", column("gone", DataType::Utf8, false), "NOT NULL and not a field of `shop.Request`"),
        ("shop.Nothing", column("a", DataType::Utf8, true), "no message `shop.Nothing`; it has google"),
    ] {
        let error = decoder_of(message, table).unwrap_err();
        assert!(error.contains(expected) && error.contains("hint:"), "{error}");
    }
    let encoding = ProtobufEncoding::Message { descriptor_set: b"nonsense".as_slice().into(), message: "a".to_owned() };
    assert!(Decoder::try_new(&Format::Protobuf(encoding), table()).is_err());
}

fn framed(id: u32, path: &[u8], body: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], path, body].concat()
}

#[test]
fn a_frame_names_the_schema_and_the_message_in_it() {
    let table = Arc::new(Schema::new(vec![Field::new("service", DataType::Utf8, true)]));
    let mut decoder = Decoder::try_new(&Format::Protobuf(ProtobufEncoding::Registry), table).unwrap();
    // Zigzag: one index, 1 = the second message; two indexes, 0 and 0 = the first inside the first.
    let (second, inner) = ([2, 2], [4, 0, 0]);
    let request = message(&[("service", Value::String("a".to_owned()))]);
    let only = "syntax = \"proto3\"; import \"b.proto\"; message R { B inner = 1; string service = 2; }";
    let mut referring = registered(only);
    referring.references.push(("b.proto".to_owned(), registered("syntax = \"proto3\"; message B {}")));
    let records = [
        framed(1, &second, &request),
        framed(1, &inner, &[0x0a, 1, b'b']),
        framed(2, &[0], &request),
        framed(1, &[2, 8], &request),
        framed(1, &[], &[]),
        framed(1, &[1], &request),
        framed(3, &[0], &request),
        framed(4, &[0], &request),
        b"\0\0".to_vec(),
        framed(1, &[0xff; 9], &request),
    ];
    let raw = raw(&records.map(Some));
    assert_eq!(decoder.lacks(&raw), [1, 2, 3, 4]);
    decoder.learn(1, Some(&registered(PROTO)));
    decoder.learn(2, Some(&referring));
    decoder.learn(3, None);
    decoder.learn(4, Some(&registered("syntax = \"proto3\"; import \"gone.proto\"; message R {}")));
    assert!(decoder.lacks(&raw).is_empty());
    let decoded = decoder.decode(&raw);
    assert_eq!(decoded.rows, [0, 1, 2], "{:?}", decoded.bad);
    assert_eq!(decoded.batch.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["a", "b", "a"]);
    let expected =
        [(3, "schema"), (4, "decode"), (5, "decode"), (6, "decode"), (7, "schema"), (8, "decode"), (9, "decode")];
    assert_eq!(bad(&decoded), expected, "{:?}", decoded.bad);
}

fn sound() -> impl Strategy<Value = Vec<u8>> {
    let first =
        (any::<i64>(), any::<i32>(), any::<String>(), proptest::option::of(any::<i32>()), any::<i64>(), any::<f32>());
    let second = (
        0_i32..4,
        proptest::option::of(any::<f64>()),
        any::<u64>(),
        proptest::collection::vec(any::<u8>(), 0..9),
        any::<bool>(),
        0_u32..100_000,
    );
    (first, second).prop_map(
        |((seconds, nanos, service, status, delta, ratio), (level, cost, bytes, body, ok, port))| {
            let mut fields = vec![
                ("ts", timestamp(seconds >> 20, nanos)),
                ("service", Value::String(service)),
                ("delta", Value::I64(delta)),
                ("ratio", Value::F32(ratio)),
                ("level", Value::EnumNumber(level)),
                ("bytes", Value::U64(bytes)),
                ("body", Value::Bytes(body.into())),
                ("ok", Value::Bool(ok)),
                ("tags", Value::List(vec![Value::String("t".to_owned())])),
            ];
            fields.extend(status.map(|status| ("status", Value::I32(status))));
            fields.extend(cost.map(|cost| ("cost", double(cost))));
            fields.push(if ok { ("port", Value::U32(port)) } else { ("host", Value::String(port.to_string())) });
            message(&fields)
        },
    )
}

/// Sound records, two of them end to end (which is one message), and damaged ones.
fn record() -> impl Strategy<Value = Option<Vec<u8>>> {
    (sound(), sound(), any::<u8>(), any::<u16>(), proptest::collection::vec(any::<u8>(), 0..40)).prop_map(
        |(mut bytes, more, damage, at, anything)| {
            let at = usize::from(at) % bytes.len().max(1);
            match damage % 8 {
                0 => return None,
                1 => bytes.truncate(at),
                2 if !bytes.is_empty() => bytes[at] ^= 1 << (damage / 32),
                3 => return Some(anything),
                4 => bytes.extend_from_slice(&more),
                _ => {}
            }
            Some(bytes)
        },
    )
}

proptest! {
    #[test]
    fn a_damaged_record_ends_in_one_place_and_disturbs_no_other(records in proptest::collection::vec(record(), 0..12)) {
        let decoder = decoder();
        let decoded = decoder.decode(&raw(&records));
        let (mut batches, mut rows, mut faults, mut tombstones) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (index, record) in (0..).zip(&records) {
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
    }

    #[test]
    fn a_row_is_what_a_dynamic_message_holds(record in record()) {
        let Some(record) = record else { return Ok(()) };
        let decoded = decoder().decode(&raw(&[Some(record.clone())]));
        let Ok(message) = DynamicMessage::decode(request(), &record[..]) else {
            // It may be damaged only in what no column wants.
            return Ok(());
        };
        let get = |name: &str| message.get_field_by_name(name).unwrap().into_owned();
        let has = |name: &str| message.has_field_by_name(name);
        let port_fits = !has("port") || get("port").as_u32().unwrap() <= u16::MAX.into();
        let fits = port_fits && !decoded.bad.iter().any(|bad| bad.error.contains("TIMESTAMP"));
        prop_assert_eq!(decoded.rows.len(), usize::from(fits), "{:?}", decoded.bad);
        if !fits {
            return Ok(());
        }
        let column = |index: usize| decoded.batch.column(index);
        let (service, body) = (get("service"), get("body"));
        prop_assert_eq!(column(1).as_string::<i32>().value(0), service.as_str().unwrap());
        let status = has("status").then(|| get("status").as_i32().unwrap());
        prop_assert_eq!(column(2).as_primitive::<Int32Type>().iter().next(), Some(status));
        prop_assert_eq!(column(3).as_primitive::<Int64Type>().value(0), get("delta").as_i64().unwrap());
        let ratio = f64::from(get("ratio").as_f32().unwrap());
        prop_assert_eq!(column(4).as_primitive::<Float64Type>().value(0).to_bits(), ratio.to_bits());
        let level = get("level").as_enum_number().unwrap();
        let level = ["LOW", "HIGH"].get(usize::try_from(level).unwrap_or(9)).map_or(level.to_string(), |name| (*name).to_owned());
        prop_assert_eq!(column(5).as_string::<i32>().value(0), level);
        prop_assert_eq!(column(6).is_valid(0), has("cost"));
        prop_assert_eq!(column(7).as_primitive::<UInt64Type>().value(0), get("bytes").as_u64().unwrap());
        prop_assert_eq!(column(8).as_binary::<i32>().value(0), &body.as_bytes().unwrap()[..]);
        prop_assert_eq!(column(9).as_boolean().value(0), get("ok").as_bool().unwrap());
        let host = has("host").then(|| get("host").as_str().unwrap().to_owned());
        prop_assert_eq!(column(10).as_string::<i32>().iter().next().flatten().map(str::to_owned), host);
        prop_assert_eq!(column(11).is_valid(0), has("port"));
    }

    #[test]
    fn any_text_as_a_schema_is_read_or_refused(words in proptest::collection::vec(proptest::sample::select(vec![
        "syntax", "=", "\"proto3\"", ";", "message", "R", "{", "}", "string", "int32", "a", "1", "0", "-1", "import", "\"x.proto\"",
        "enum", "oneof", "map<string,", "R>", "repeated", "optional", "reserved", "extend", "\"google/protobuf/any.proto\"",
    ]), 0..30)) {
        drop(of_text(&registered(&words.join(" "))));
    }
}
