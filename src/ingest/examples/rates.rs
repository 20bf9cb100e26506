//! Prints what decoding and the embedded broker carry on this machine: `cargo run -p prescale-ingest --example rates`.
#![allow(clippy::print_stdout, reason = "the figures are the result")]

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use prescale_domain::{Span, Timestamp};
use prescale_ingest::decode::{Decoder, Format};
use prescale_ingest::embedded::EmbeddedBroker;
use prescale_ingest::kafka::{KafkaSink, KafkaSource, KafkaSourceSettings};
use prescale_ingest::{RawBatch, Source};

const RECORDS: usize = 100_000;
const FLUSH: Span = Span::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let lines: Vec<String> = (0..RECORDS).map(line).collect();
    decoding(&lines)?;
    let broker = EmbeddedBroker::start()?;
    broker.create_topic("bulk", 4)?;
    broker.create_topic("steps", 1)?;
    bulk(&broker, &lines)?;
    lock_step(&broker, 5)?;
    lock_step(&broker, 3000)
}

fn line(number: usize) -> String {
    let moment = Timestamp::from_millis(1_795_420_800_000 + number as i64 * 7);
    format!(
        r#"{{"ts":"{moment}","service":"svc-{}","type":"http","route":"/api/v1/items/{}","priority":{},"status":{},"latency_ms":{}.{},"bytes":{},"instance":"i-{:08x}"}}"#,
        number % 20,
        number % 100,
        number % 3,
        if number.is_multiple_of(50) { 500 } else { 200 },
        number % 300,
        number % 10,
        number * 37 % 100_000,
        number % 64
    )
}

fn decoding(lines: &[String]) -> Result<(), Box<dyn Error>> {
    let mut raw = RawBatch::new("bulk".into(), 0);
    for (offset, line) in (0..).zip(lines) {
        raw.push(offset, None, Some(line.as_bytes()));
    }
    let schema = Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
        Field::new("service", DataType::Utf8, false),
        Field::new("route", DataType::Utf8, true),
        Field::new("status", DataType::Int32, true),
        Field::new("latency_ms", DataType::Float64, true),
        Field::new("bytes", DataType::Int64, true),
    ]));
    let text = Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, false)]));
    println!("mean record: {} bytes", raw.payload.len() / raw.len());
    for (name, decoder) in [
        ("json", Decoder::try_new(&Format::Json, schema)?),
        ("raw_string", Decoder::try_new(&Format::RawString, text)?),
    ] {
        let mut best = f64::INFINITY;
        for _ in 0..10 {
            let start = Instant::now();
            let decoded = decoder.decode(&raw);
            best = best.min(start.elapsed().as_secs_f64());
            if decoded.rows.len() != raw.len() {
                return Err(format!("{name}: {} records were not decoded", decoded.bad.len()).into());
            }
        }
        println!("decode {name}: {:.2} M records/s", raw.len() as f64 / best / 1e6);
    }
    Ok(())
}

fn bulk(broker: &EmbeddedBroker, lines: &[String]) -> Result<(), Box<dyn Error>> {
    let sink = KafkaSink::open(&broker.settings())?;
    let start = Instant::now();
    for (number, line) in lines.iter().enumerate() {
        sink.send("bulk", Some((number % 4) as i32), None, line.as_bytes(), &[])?;
    }
    sink.flush(FLUSH)?;
    println!("produce: {:.2} M records/s", lines.len() as f64 / start.elapsed().as_secs_f64() / 1e6);
    let settings = KafkaSourceSettings { until_end: true, ..KafkaSourceSettings::new(broker.settings(), "bulk") };
    let start = Instant::now();
    let (mut source, mut count, mut polls) = (KafkaSource::open(settings)?, 0, 0);
    loop {
        let polled = source.poll(Span::from_millis(100))?;
        count += polled.batches.iter().map(RawBatch::len).sum::<usize>();
        polls += 1;
        if polled.ended {
            break;
        }
    }
    println!(
        "consume: {:.2} M records/s ({count} in {polls} polls)",
        count as f64 / start.elapsed().as_secs_f64() / 1e6
    );
    Ok(())
}

/// Send, flush, read back, one step after the other.
fn lock_step(broker: &EmbeddedBroker, records: usize) -> Result<(), Box<dyn Error>> {
    let sink = KafkaSink::open(&broker.settings())?;
    let mut source = KafkaSource::open(KafkaSourceSettings {
        start: prescale_ingest::kafka::StartAt::Latest,
        ..KafkaSourceSettings::new(broker.settings(), "steps")
    })?;
    source.poll(Span::from_millis(100))?;
    let (mut sent, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let start = Instant::now();
        for number in 0..records {
            sink.send("steps", Some(0), Some(b"svc"), line(number).as_bytes(), &[])?;
        }
        sink.flush(FLUSH)?;
        sent.push(start.elapsed());
        let mut seen = 0;
        while seen < records {
            let polled = source.poll(Span::from_millis(100))?;
            seen += polled.batches.iter().map(RawBatch::len).sum::<usize>();
        }
        whole.push(start.elapsed());
    }
    sent.sort();
    whole.sort();
    let (flush, round) = (sent[50], whole[50]);
    println!("lock step of {records}: flushed after {flush:.1?}, read after {round:.1?} (p99 {:.1?})", whole[98]);
    Ok(())
}
