//! Source and sink on a real Apache Kafka. Rule: what was acknowledged is read again, byte for byte, from any offset, also
//! across a crash of the broker.

use std::time::Duration;

use prescale_domain::Span;
use prescale_ingest::kafka::{
    KafkaSettings, KafkaSink, KafkaSource, KafkaSourceSettings, Remedy, StartAt, TransactionError, TransactionalSink,
    newest_value,
};
use prescale_ingest::{DeadLetter, OutRecord, PartitionStart, Source};

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

fn record(topic: &str, partition: i32, key: &str, value: &str) -> OutRecord {
    OutRecord {
        topic: topic.into(),
        partition: Some(partition),
        key: Some(key.into()),
        value: value.into(),
        headers: Vec::new(),
    }
}

/// A producer of transactions that has shut out its forerunners.
#[track_caller]
fn transactional(settings: &KafkaSettings, id: &str) -> TransactionalSink {
    let sink = TransactionalSink::open(settings, id).unwrap();
    sink.init(WAIT).unwrap();
    sink
}

/// Writes records in a transaction, which stays open.
fn write(sink: &TransactionalSink, records: &[OutRecord]) -> Result<(), TransactionError> {
    sink.begin()?;
    records.iter().try_for_each(|record| sink.send(record))?;
    sink.flush(WAIT)
}

#[test]
fn a_source_reads_what_was_committed_up_to_the_end_behind_the_last_marker() {
    let Some(kafka) = kit::kafka() else { return };
    let (settings, topic) = (KafkaSettings::new(kafka.as_str()), kit::unique("transactions"));
    kit::create_topic(&kafka, &topic, 3);
    let sink = transactional(&settings, &topic);
    write(&sink, &[record(&topic, 0, "k", "a"), record(&topic, 0, "k", "b")]).unwrap();
    sink.commit(WAIT).unwrap();
    write(&sink, &[record(&topic, 0, "k", "x"), record(&topic, 1, "k", "y")]).unwrap();
    sink.abort(WAIT).unwrap();
    // Partition 0 ends with the marker of an abort, 1 has nothing but one, 2 is empty.
    let committed = [(0, 0, b"a".to_vec()), (0, 1, b"b".to_vec())];
    assert_eq!(read_all(&mut KafkaSource::open(bounded(&settings, &topic)).unwrap()), committed);
    let mut endless = KafkaSource::open(KafkaSourceSettings::new(settings.clone(), topic.as_str())).unwrap();
    kit::wait_for("the end of each partition", Duration::from_secs(30), || {
        (endless.poll(POLL).unwrap().at_end == [0, 1, 2]).then_some(())
    });
    // From the offset behind the last record, where only a marker is left.
    let starts = (0..3).map(|partition| PartitionStart { partition, offset: Some(if partition == 0 { 2 } else { 0 }) });
    let tail = KafkaSourceSettings { starts: starts.collect(), ..bounded(&settings, &topic) };
    assert!(read_all(&mut KafkaSource::open(tail).unwrap()).is_empty());

    // The end includes what is in an open transaction: the source waits until it is settled.
    write(&sink, &[record(&topic, 1, "k", "c")]).unwrap();
    let mut source = KafkaSource::open(bounded(&settings, &topic)).unwrap();
    for _ in 0..5 {
        assert!(!source.poll(POLL).unwrap().ended);
    }
    sink.commit(WAIT).unwrap();
    let (partition, _, value) = read_all(&mut source).pop().unwrap();
    assert_eq!((partition, value), (1, b"c".to_vec()));
}

#[test]
fn the_newest_value_of_a_key_is_that_of_its_last_committed_transaction() {
    let Some(kafka) = kit::kafka() else { return };
    let (settings, topic) = (KafkaSettings::new(kafka.as_str()), kit::unique("newest"));
    let plain = KafkaSink::open(&settings).unwrap();
    assert_eq!(plain.ensure_compacted_topic(&topic, WAIT).unwrap(), 1);
    let newest = || newest_value(&settings, &topic, 0, b"mine", Span::from_secs(2));
    assert_eq!(newest().unwrap(), None);
    let sink = transactional(&settings, &kit::unique("mine"));
    for value in ["1", "2"] {
        write(&sink, &[record(&topic, 0, "mine", value), record(&topic, 0, "other", "9")]).unwrap();
        sink.commit(WAIT).unwrap();
    }
    write(&sink, &[record(&topic, 0, "mine", "3")]).unwrap();
    sink.abort(WAIT).unwrap();
    assert_eq!(newest().unwrap().as_deref(), Some(&b"2"[..]));
    // Another writer's open transaction could hide what comes after it: no answer is better than an old one.
    let other = transactional(&settings, &kit::unique("other"));
    write(&other, &[record(&topic, 0, "other", "10")]).unwrap();
    write(&sink, &[record(&topic, 0, "mine", "4")]).unwrap();
    sink.commit(WAIT).unwrap();
    assert!(newest().is_err());
    other.abort(WAIT).unwrap();
    assert_eq!(newest().unwrap().as_deref(), Some(&b"4"[..]));
}

#[test]
fn a_producer_that_was_shut_out_writes_nothing_more() {
    let Some(kafka) = kit::kafka() else { return };
    let (settings, topic) = (KafkaSettings::new(kafka.as_str()), kit::unique("fenced"));
    kit::create_topic(&kafka, &topic, 1);
    let old = transactional(&settings, &topic);
    write(&old, &[record(&topic, 0, "k", "left open")]).unwrap();
    let new = transactional(&settings, &topic);
    assert_eq!(old.commit(WAIT).unwrap_err().remedy, Remedy::Reopen);
    write(&new, &[record(&topic, 0, "k", "written")]).unwrap();
    new.commit(WAIT).unwrap();
    let values: Vec<_> = kit::consume(&kafka, &topic).into_iter().map(|record| record.value.unwrap()).collect();
    assert_eq!(values, [b"written"]);
}
