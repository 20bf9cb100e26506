//! Formats from the SQL to the rows: over files, and through the engine with records that name their schemas.

use std::sync::Arc;

use prescale_ingest::RawBatch;
use prescale_ingest::decode::{RegisteredSchema, SchemaKind};

use crate::{Engine, PartitionView, compile, run_over_files};

fn sql(with: &str) -> String {
    format!(
        "CREATE TABLE t (ts TIMESTAMP NOT NULL, service TEXT NOT NULL, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
WITH (connector = 'kafka', type = 'source', topic = 't', {with});
CREATE TABLE features WITH (connector = 'kafka', type = 'sink', topic = 'features', format = 'json');
INSERT INTO features SELECT service, window.start AS window_start, window.end AS window_end, n FROM (
  SELECT service, tumble(INTERVAL '1 minute') AS window, count(*) AS n FROM t GROUP BY service, window);"
    )
}

#[test]
fn files_hold_records_without_frames_and_what_is_not_text_is_refused() {
    let path = std::env::temp_dir().join(format!("prescale-formats-{}.ndjson", std::process::id()));
    std::fs::write(&path, "{\"ts\": \"2026-01-01T00:00:00Z\", \"service\": \"a\"}\n").unwrap();
    let inputs = [("t".to_owned(), path.clone())];
    let mut out = Vec::new();
    let framed = sql("format = 'json', 'json.confluent_schema_registry' = 'true'");
    assert_eq!(run_over_files(compile(&framed).unwrap(), &inputs, &mut out).unwrap().windowed, 1);
    assert!(String::from_utf8(out).unwrap().contains("\"n\":1"));
    let error =
        run_over_files(compile(&sql("format = 'avro'")).unwrap(), &inputs, &mut Vec::new()).unwrap_err().to_string();
    std::fs::remove_file(path).unwrap();
    assert!(error.contains("format `avro` can't be read from a file of lines") && error.contains("hint:"), "{error}");
}

/// `ts` in milliseconds as a zigzag varint, then the service.
fn datum(millis: i64, service: &str) -> Vec<u8> {
    let mut zigzag = (millis << 1) as u64;
    let mut out = Vec::new();
    while zigzag > 0x7f {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
    out.push(u8::try_from(service.len() * 2).unwrap());
    out.extend_from_slice(service.as_bytes());
    out
}

#[test]
fn records_that_name_their_schema_are_conserved() {
    let plan = Arc::new(compile(&sql("format = 'avro', 'avro.confluent_schema_registry' = 'true'")).unwrap());
    let mut engine = Engine::new(plan, None).unwrap();
    let mut raw = RawBatch::new("t".into(), 0);
    let frame = |id: u8, body: &[u8]| [&[0, 0, 0, 0, id], body].concat();
    let records =
        [frame(1, &datum(0, "a")), frame(2, b"?"), frame(1, &datum(1, "a")), frame(1, b"\x02"), b"{}".to_vec()];
    records.iter().zip(0..).for_each(|(record, offset)| raw.push(offset, None, Some(record)));
    let text = r#"{"type": "record", "name": "r", "fields": [
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}}, {"name": "service", "type": "string"}]}"#;
    let schema = RegisteredSchema { kind: SchemaKind::Avro, text: text.to_owned(), references: Vec::new() };
    let decoder = engine.decoder_mut(0).unwrap();
    assert_eq!(decoder.lacks(&raw), [1, 2]);
    decoder.learn(1, Some(&schema));
    decoder.learn(2, None);
    engine.push(0, &raw).unwrap();
    let view = PartitionView { known: &[0], ended: &[0], all_ended: true, ..PartitionView::default() };
    let output = engine.close(&[view]).unwrap();
    let json: Vec<_> = output.rows.iter().map(|row| String::from_utf8_lossy(&row.json).into_owned()).collect();
    assert!(json.len() == 1 && json[0].contains("\"n\":2"), "{json:?}");
    let letters: Vec<_> = output.dead_letters.iter().map(|letter| (letter.offset, letter.reason.as_str())).collect();
    assert_eq!(letters, [(1, "decode"), (3, "decode"), (4, "decode")]);
    assert_eq!(output.dead_letters[0].payload, records[1]);
    assert!(output.dead_letters[0].error.contains("schema 2"), "{}", output.dead_letters[0].error);
    assert_eq!((output.counters.read, output.counters.windowed, output.counters.bad()), (5, 2, 3));
}
