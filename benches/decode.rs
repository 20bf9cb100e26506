//! Records into Arrow batches, in one thread, by its processor time: JSON by our decoder beside Arrow's own reader, and the
//! same requests in Avro and Protobuf, framed as with a schema registry, beside our JSON. Rule: a ratio is printed only if
//! both found the same rows.
//!
//! `cargo bench --workspace --bench decode`; `-- --quick` is for a first look.
#![allow(clippy::print_stdout, reason = "the figures are the result")]

#[path = "kit/report.rs"]
mod kit;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::json::ReaderBuilder;
use kit::{Result, spread};
use prescale_domain::{Span, Timestamp};
use prescale_ingest::RawBatch;
use prescale_ingest::decode::{AvroEncoding, Decoder, Format, ProtobufEncoding, RegisteredSchema, SchemaKind};

const BATCH: usize = 8192;
/// 2026-11-23 is a Monday.
const START: Timestamp = Timestamp::from_millis(1_795_392_000_000);
/// Of the writer's schema in the frames.
const ID: u32 = 7;

const AVRO: &str = r#"{"type": "record", "name": "Request", "fields": [
    {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "service", "type": "string"}, {"name": "type", "type": ["null", "string"]},
    {"name": "route", "type": ["null", "string"]}, {"name": "priority", "type": ["null", "string"]},
    {"name": "status", "type": ["null", "int"]}, {"name": "latency_ms", "type": ["null", "double"]},
    {"name": "bytes", "type": ["null", "long"]}, {"name": "instance", "type": ["null", "string"]}]}"#;

const PROTOBUF: &str = r#"syntax = "proto3"; import "google/protobuf/timestamp.proto";
    message Request { google.protobuf.Timestamp ts = 1; string service = 2; string type = 3; string route = 4;
        string priority = 5; int32 status = 6; double latency_ms = 7; int64 bytes = 8; string instance = 9; }"#;

fn main() -> Result<()> {
    let quick = kit::quick()?;
    let (records, rounds) = if quick { (50_000, 3) } else { (500_000, 9) };
    println!("profile: {}\nmachine: {}", kit::profile(), kit::machine());
    for (what, shorten) in [("latency with all digits", false), ("latency in microseconds", true)] {
        let requests = requests(records, shorten);
        let json = Records::new(&requests, Decoder::try_new(&Format::Json, schema())?, &write_json);
        let avro = Format::Avro(AvroEncoding::Registry);
        let avro = Records::new(&requests, registered(&avro, SchemaKind::Avro, AVRO)?, &write_avro);
        let protobuf = Format::Protobuf(ProtobufEncoding::Registry);
        let protobuf = Records::new(&requests, registered(&protobuf, SchemaKind::Protobuf, PROTOBUF)?, &write_protobuf);
        println!("{what}: {records} records, batches of {BATCH}, {rounds} rounds");
        let mut rates: [Vec<f64>; 4] = Default::default();
        for round in 0..=rounds {
            let found = [json.rate()?, rate(records, || by_arrow(&json.batches))?, avro.rate()?, protobuf.rate()?];
            for (name, (_, rows)) in ["Arrow's JSON", "Avro", "Protobuf"].iter().zip(&found[1..]) {
                if *rows != found[0].1 {
                    return Err(format!("{name}: {} rows, JSON {}, or others", count(rows), count(&found[0].1)).into());
                }
            }
            // The first round warms up.
            if round > 0 {
                rates.iter_mut().zip(found).for_each(|(rates, (rate, _))| rates.push(rate / 1e6));
            }
        }
        let sizes = [json.size(), json.size(), avro.size(), protobuf.size()];
        for ((name, rates), size) in ["JSON", "JSON by Arrow", "Avro", "Protobuf"].iter().zip(&rates).zip(sizes) {
            println!("  {name:<14} {} M records of {size} bytes per CPU second", spread(rates, 2));
        }
        let [json, arrow, avro, protobuf] = &rates;
        let ratios = |these: &[f64], those: &[f64]| -> Vec<f64> {
            these.iter().zip(those).map(|(this, that)| this / that).collect()
        };
        println!("  (g) JSON: ours / Arrow's {} (wanted: at least 2)", spread(&ratios(json, arrow), 2));
        println!("  (g) Avro / our JSON      {}", spread(&ratios(avro, json), 2));
        println!("  (g) Protobuf / our JSON  {}", spread(&ratios(protobuf, json), 2));
    }
    Ok(())
}

/// The same requests in one format.
struct Records {
    batches: Vec<RawBatch>,
    decoder: Decoder,
}

impl Records {
    fn new(requests: &[Request], decoder: Decoder, write: &dyn Fn(&Request, &mut Vec<u8>)) -> Self {
        let (mut bytes, mut offset) = (Vec::new(), 0);
        let mut batch = |requests: &[Request]| {
            let mut batch = RawBatch::new("requests".into(), 0);
            for request in requests {
                bytes.clear();
                write(request, &mut bytes);
                batch.push(offset, None, Some(&bytes));
                offset += 1;
            }
            batch
        };
        Self { batches: requests.chunks(BATCH).map(&mut batch).collect(), decoder }
    }

    /// Bytes of a record, on average.
    fn size(&self) -> usize {
        let bytes: usize = self.batches.iter().map(|batch| batch.payload.len()).sum();
        bytes / self.batches.iter().map(RawBatch::len).sum::<usize>().max(1)
    }

    fn rate(&self) -> Result<(f64, Vec<RecordBatch>)> {
        let records = self.batches.iter().map(RawBatch::len).sum();
        rate(records, || Ok(self.batches.iter().map(|batch| self.decoder.decode(batch).batch).collect()))
    }
}

fn registered(format: &Format, kind: SchemaKind, text: &str) -> Result<Decoder> {
    let mut decoder = Decoder::try_new(format, schema())?;
    decoder.learn(ID, Some(&RegisteredSchema { kind, text: text.to_owned(), references: Vec::new() }));
    Ok(decoder)
}

fn count(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

/// Records per second of processor time; all of it is in this thread.
fn rate(records: usize, read: impl FnOnce() -> Result<Vec<RecordBatch>>) -> Result<(f64, Vec<RecordBatch>)> {
    let begun = thread_seconds()?;
    let batches = read()?;
    Ok((records as f64 / (thread_seconds()? - begun), batches))
}

fn thread_seconds() -> Result<f64> {
    // The kernel brings a thread's time up to date when it is scheduled.
    std::thread::yield_now();
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = stat.split(' ').next().ok_or("an empty schedstat")?;
    Ok(nanos.parse::<f64>()? / 1e9)
}

fn by_arrow(batches: &[RawBatch]) -> Result<Vec<RecordBatch>> {
    let mut decoder = ReaderBuilder::new(schema()).with_batch_size(BATCH).build_decoder()?;
    let mut read = Vec::with_capacity(batches.len());
    for batch in batches {
        decoder.decode(&batch.payload)?;
        read.extend(decoder.flush()?);
    }
    Ok(read)
}

/// The columns of `pipelines/requests.sql`.
fn schema() -> SchemaRef {
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, name != "ts" && name != "service");
    Arc::new(Schema::new(vec![
        field("ts", DataType::Timestamp(TimeUnit::Nanosecond, None)),
        field("service", DataType::Utf8),
        field("type", DataType::Utf8),
        field("route", DataType::Utf8),
        field("priority", DataType::Utf8),
        field("status", DataType::Int32),
        field("latency_ms", DataType::Float64),
        field("bytes", DataType::Int64),
        field("instance", DataType::Utf8),
    ]))
}

struct Request {
    moment: Timestamp,
    service: &'static str,
    route: &'static str,
    status: i64,
    latency_ms: f64,
    bytes: i64,
    instance: String,
}

/// Requests, one a few milliseconds after the other.
fn requests(records: usize, shorten: bool) -> Vec<Request> {
    const ROUTES: [&str; 4] = ["/", "/cart", "/items/{id}", "/search"];
    const SERVICES: [&str; 3] = ["catalog", "checkout", "search"];
    // A linear congruence is as good as any source of variety here (Knuth's MMIX).
    let mut state = 1_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let request = |number: i64| {
        let (service, route) = (SERVICES[draw(3) as usize], ROUTES[draw(4) as usize]);
        let micros = draw(300_000) as f64 / 1e3;
        Request {
            moment: START + Span::from_millis(number * 7),
            service,
            route,
            status: if draw(50) == 0 { 503 } else { 200 },
            latency_ms: if shorten { micros } else { micros / 7.0 },
            // Protobuf does not write what is 0.
            bytes: 1 + draw(20_000) as i64,
            instance: format!("i-{:04}", draw(40)),
        }
    };
    (0_i64..).take(records).map(request).collect()
}

fn write_json(request: &Request, out: &mut Vec<u8>) {
    let Request { moment, service, route, status, latency_ms, bytes, instance } = request;
    let line = format!(
        r#"{{"ts":"{moment}","service":"{service}","type":"read","route":"{route}","priority":"normal","status":{status},"latency_ms":{latency_ms:?},"bytes":{bytes},"instance":"{instance}"}}"#
    );
    out.extend_from_slice(line.as_bytes());
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn frame(out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&ID.to_be_bytes());
}

/// A datum of [`AVRO`].
fn write_avro(request: &Request, out: &mut Vec<u8>) {
    let Request { moment, service, route, status, latency_ms, bytes, instance } = request;
    let long = |value: i64, out: &mut Vec<u8>| varint(((value << 1) ^ (value >> 63)) as u64, out);
    let text = |value: &str, out: &mut Vec<u8>| {
        long(value.len() as i64, out);
        out.extend_from_slice(value.as_bytes());
    };
    // All but the first two are the second of a union.
    let second = |out: &mut Vec<u8>| long(1, out);
    frame(out);
    long(moment.millis(), out);
    text(service, out);
    for value in ["read", route, "normal"] {
        second(out);
        text(value, out);
    }
    second(out);
    long(*status, out);
    second(out);
    out.extend_from_slice(&latency_ms.to_le_bytes());
    second(out);
    long(*bytes, out);
    second(out);
    text(instance, out);
}

/// A message of [`PROTOBUF`].
fn write_protobuf(request: &Request, out: &mut Vec<u8>) {
    let Request { moment, service, route, status, latency_ms, bytes, instance } = request;
    let number = |field: u64, value: u64, out: &mut Vec<u8>| {
        varint(field << 3, out);
        varint(value, out);
    };
    let text = |field: u64, value: &[u8], out: &mut Vec<u8>| {
        varint(field << 3 | 2, out);
        varint(value.len() as u64, out);
        out.extend_from_slice(value);
    };
    frame(out);
    // The first message of the file.
    out.push(0);
    let mut time = Vec::with_capacity(16);
    number(1, moment.millis().div_euclid(1000) as u64, &mut time);
    number(2, moment.millis().rem_euclid(1000) as u64 * 1_000_000, &mut time);
    text(1, &time, out);
    for (field, value) in (2..).zip([*service, "read", route, "normal"]) {
        text(field, value.as_bytes(), out);
    }
    number(6, *status as u64, out);
    varint(7 << 3 | 1, out);
    out.extend_from_slice(&latency_ms.to_le_bytes());
    number(8, *bytes as u64, out);
    text(9, instance.as_bytes(), out);
}
