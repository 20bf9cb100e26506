//! JSON records into Arrow batches: our decoder beside Arrow's own reader, on the same records, in one thread, by its
//! processor time. Rule: a ratio is printed only if both found the same rows.
//!
//! `cargo bench --profile dev --workspace --bench decode`; both readers and the crates they stand on are optimised in that
//! profile. `-- --quick` is for a first look. Another format is one more yardstick in `main`: records, our decoder, theirs.
#![allow(clippy::print_stdout, reason = "the figures are the result")]

#[path = "kit/report.rs"]
mod kit;

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::json::ReaderBuilder;
use kit::{Result, spread};
use prescale_domain::{Span, Timestamp};
use prescale_ingest::RawBatch;
use prescale_ingest::decode::{Decoder, Format};

const BATCH: usize = 8192;
/// 2026-11-23 is a Monday.
const START: Timestamp = Timestamp::from_millis(1_795_392_000_000);

fn main() -> Result<()> {
    let quick = kit::quick()?;
    let (records, rounds) = if quick { (50_000, 3) } else { (500_000, 9) };
    println!("profile: {}\nmachine: {}", kit::profile(), kit::machine());
    for (what, shorten) in [("latency with all digits", false), ("latency in microseconds", true)] {
        let batches = raw_batches(records, shorten)?;
        let bytes: usize = batches.iter().map(|batch| batch.payload.len()).sum();
        println!("{what}: {records} records of {} bytes, batches of {BATCH}, {rounds} rounds", bytes / records);
        let (mut ours, mut arrows, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=rounds {
            let (our_rate, our_rows) = rate(records, || by_us(&batches))?;
            let (arrow_rate, arrow_rows) = rate(records, || by_arrow(&batches))?;
            if our_rows != arrow_rows {
                return Err(
                    format!("we read {} rows, Arrow {}, or others", count(&our_rows), count(&arrow_rows)).into()
                );
            }
            // The first round warms up.
            if round > 0 {
                ours.push(our_rate / 1e6);
                arrows.push(arrow_rate / 1e6);
                ratios.push(our_rate / arrow_rate);
            }
        }
        println!("  ours    {} M records per CPU second", spread(&ours, 2));
        println!("  Arrow's {} M records per CPU second", spread(&arrows, 2));
        println!("  (g) JSON: ours / Arrow's {} (wanted: at least 2)", spread(&ratios, 2));
    }
    Ok(())
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

fn by_us(batches: &[RawBatch]) -> Result<Vec<RecordBatch>> {
    let decoder = Decoder::try_new(&Format::Json, schema())?;
    Ok(batches.iter().map(|batch| decoder.decode(batch).batch).collect())
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

/// Requests as `pipelines/requests.sql` reads them, one a few milliseconds after the other.
fn raw_batches(records: usize, shorten: bool) -> Result<Vec<RawBatch>> {
    const ROUTES: [&str; 4] = ["/", "/cart", "/items/{id}", "/search"];
    const SERVICES: [&str; 3] = ["catalog", "checkout", "search"];
    let mut batches = Vec::new();
    let mut batch = RawBatch::new("requests".into(), 0);
    // A linear congruence is as good as any source of variety here (Knuth's MMIX).
    let mut state = 1_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut line = String::new();
    for (number, offset) in (0..records).zip(0_i64..) {
        let moment = START + Span::from_millis(offset * 7);
        let (service, route) = (SERVICES[draw(3) as usize], ROUTES[draw(4) as usize]);
        let micros = draw(300_000) as f64 / 1e3;
        let latency = if shorten { micros } else { micros / 7.0 };
        let (status, size, instance) = (if draw(50) == 0 { 503 } else { 200 }, draw(20_000), draw(40));
        line.clear();
        write!(
            line,
            r#"{{"ts":"{moment}","service":"{service}","type":"read","route":"{route}","priority":"normal","status":{status},"latency_ms":{latency:?},"bytes":{size},"instance":"i-{instance:04}"}}"#
        )?;
        batch.push(offset, None, Some(line.as_bytes()));
        if batch.len() == BATCH || number + 1 == records {
            batches.push(std::mem::replace(&mut batch, RawBatch::new("requests".into(), 0)));
        }
    }
    Ok(batches)
}
