//! Source and sink on a real Apache Kafka. Rule: what was acknowledged is read again, byte for byte, from any offset, also
//! across a crash of the broker.

use std::time::Duration;

use prescale_domain::Span;
use prescale_ingest::kafka::{KafkaSettings, KafkaSink, KafkaSource, KafkaSourceSettings, StartAt};
use prescale_ingest::{DeadLetter, PartitionStart, Source};

use crate::kit::{self, OwnKafka};

const WAIT: Span = Span::from_secs(30);
const POLL: Span = Span::from_millis(200);
const RECORDS: usize = 10_000;

/// Partition, offset and bytes of every record that a source gives until it ends.
fn read_all(source: &mut KafkaSource) -> Vec<(i32, i64, Vec<u8>)> {
    let mut read = Vec::new();
    kit::wait_for("the end of the topic", Duration::from_secs(60), || {
        let polled = source.poll(POLL).unwrap();
        for batch in &polled.batches {
            let rows = (0..batch.len()).map(|row| (batch.partition, batch.offsets[row], batch.bytes(row).to_vec()));
            read.extend(rows);
        }
        polled.ended.then_some(())
    });
    read.sort();
    read
}

fn bounded(settings: &KafkaSettings, topic: &str) -> KafkaSourceSettings {
    KafkaSourceSettings { until_end: true, ..KafkaSourceSettings::new(settings.clone(), topic) }
}

#[test]
fn what_a_sink_sent_a_source_reads_from_any_offset() {
    let Some(kafka) = kit::kafka() else { return };
    let (settings, topic) = (KafkaSettings::new(kafka.as_str()), kit::unique("round-trip"));
    let sink = KafkaSink::open(&settings).unwrap();
    assert_eq!(sink.ensure_topic(&topic, 4, WAIT).unwrap(), 4);
    assert_eq!(sink.ensure_topic(&topic, 9, WAIT).unwrap(), 4, "a topic that exists stays as it is");
    let mut sent = Vec::new();
    for number in 0..RECORDS {
        let (partition, value) = ((number % 4) as i32, format!("record {number}").into_bytes());
        sink.send(&topic, Some(partition), Some(b"key"), &value, &[]).unwrap();
        sent.push((partition, (number / 4) as i64, value));
    }
    sink.flush(WAIT).unwrap();
    sent.sort();

    assert!(read_all(&mut KafkaSource::open(bounded(&settings, &topic)).unwrap()) == sent, "records differ");
    let starts = (0..4).map(|partition| PartitionStart { partition, offset: Some(2000) }).collect();
    let tail = KafkaSourceSettings { starts, ..bounded(&settings, &topic) };
    let expected: Vec<_> = sent.iter().filter(|(_, offset, _)| *offset >= 2000).cloned().collect();
    assert!(read_all(&mut KafkaSource::open(tail).unwrap()) == expected, "records from offset 2000 differ");
    // Any other client reads the same.
    let others: Vec<_> =
        kit::consume(&kafka, &topic).into_iter().map(|r| (r.partition, r.offset, r.value.unwrap())).collect();
    assert!(others == sent, "another client reads other records");
}

#[test]
fn a_group_goes_on_where_it_was_committed() {
    let Some(kafka) = kit::kafka() else { return };
    let (settings, topic, group) = (KafkaSettings::new(kafka.as_str()), kit::unique("committed"), kit::unique("group"));
    kit::create_topic(&kafka, &topic, 2);
    for partition in 0..2 {
        kit::produce(&kafka, &topic, partition, (0..100).map(|number| format!("{partition}/{number}")));
    }
    let as_group =
        || KafkaSourceSettings { start: StartAt::Group, group: Some(group.clone()), ..bounded(&settings, &topic) };
    let mut first = KafkaSource::open(as_group()).unwrap();
    assert_eq!(read_all(&mut first).len(), 200);
    first.commit(&[(0, 60), (1, 100)]).unwrap();
    drop(first);
    let rest = read_all(&mut KafkaSource::open(as_group()).unwrap());
    assert_eq!(rest.len(), 40);
    assert_eq!(rest[0], (0, 60, b"0/60".to_vec()));
}

#[test]
fn a_dead_letter_keeps_its_bytes_and_says_where_it_came_from() {
    let Some(kafka) = kit::kafka() else { return };
    let (settings, topic) = (KafkaSettings::new(kafka.as_str()), kit::unique("dead-letters"));
    let sink = KafkaSink::open(&settings).unwrap();
    sink.ensure_topic(&topic, 1, WAIT).unwrap();
    let letter = DeadLetter {
        topic: "requests".to_owned(),
        partition: 3,
        offset: 77,
        reason: "decode".to_owned(),
        error: "not JSON".to_owned(),
        payload: vec![0, 159, 146, 150],
    };
    sink.send_dead_letter(&topic, &letter).unwrap();
    sink.flush(WAIT).unwrap();
    let records = kit::consume(&kafka, &topic);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].value.as_deref(), Some(letter.payload.as_slice()));
}

#[test]
fn heavy_a_broker_that_comes_late_and_crashes_loses_nothing() {
    let Some(own) = OwnKafka::not_yet() else { return };
    let (settings, topic) = (KafkaSettings::new(own.bootstrap()), "late");
    let endless = KafkaSourceSettings { refresh: Span::from_secs(1), ..KafkaSourceSettings::new(settings, topic) };
    let mut source = KafkaSource::open(endless).unwrap();
    let down = source.poll(Span::from_secs(2)).unwrap();
    assert!(down.unreachable.is_some(), "{down:?}");

    own.bring_up();
    kit::create_topic(&own.bootstrap(), topic, 1);
    kit::produce(&own.bootstrap(), topic, 0, (0..500).map(|number| number.to_string()));
    let mut read = Vec::new();
    let mut until = |source: &mut KafkaSource, count: usize| {
        kit::wait_for("records", Duration::from_secs(90), || {
            for batch in &source.poll(POLL).unwrap().batches {
                read.extend((0..batch.len()).map(|row| String::from_utf8(batch.bytes(row).to_vec()).unwrap()));
            }
            (read.len() >= count).then_some(())
        });
    };
    until(&mut source, 500);

    own.kill();
    kit::wait_for("the source to notice the crash", Duration::from_secs(90), || source.poll(POLL).unwrap().unreachable);
    own.bring_up();
    kit::produce(&own.bootstrap(), topic, 0, (500..1000).map(|number| number.to_string()));
    until(&mut source, 1000);
    let expected: Vec<_> = (0..1000).map(|number| number.to_string()).collect();
    assert_eq!(read, expected);
}
