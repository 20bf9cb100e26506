//! Source and sink against the embedded broker.

use std::collections::BTreeMap;
use std::time::Instant;

use super::super::sink::{KafkaSink, SinkError};
use super::*;
use crate::DeadLetter;
use crate::embedded::EmbeddedBroker;

const WAIT: Span = Span::from_millis(200);
const FLUSH: Span = Span::from_secs(10);

/// Records as `partition:offset=text`, `~` for a tombstone.
fn texts(polled: &Polled) -> Vec<String> {
    let mut texts = Vec::new();
    for batch in &polled.batches {
        for (index, offset) in batch.offsets.iter().enumerate() {
            let text = if batch.tombstones.contains(&index) {
                "~".into()
            } else {
                String::from_utf8_lossy(batch.bytes(index))
            };
            texts.push(format!("{}:{offset}={text}", batch.partition));
        }
    }
    texts
}

/// Polls until `done`, with a limit; returns all records sorted.
fn read_until(source: &mut KafkaSource, done: impl Fn(&Polled, usize) -> bool) -> Vec<String> {
    let (start, mut seen) = (Instant::now(), Vec::new());
    loop {
        let polled = source.poll(WAIT).unwrap();
        seen.extend(texts(&polled));
        if done(&polled, seen.len()) {
            seen.sort();
            return seen;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "stuck with {seen:?} after {polled:?}");
    }
}

fn read_to_end(settings: KafkaSourceSettings) -> Vec<String> {
    let mut source = KafkaSource::open(KafkaSourceSettings { until_end: true, ..settings }).unwrap();
    read_until(&mut source, |polled, _| polled.ended)
}

/// A broker with topic `t` and a sink to it.
fn broker(partitions: i32) -> (EmbeddedBroker, KafkaSink, KafkaSourceSettings) {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("t", partitions).unwrap();
    let sink = KafkaSink::open(&broker.settings()).unwrap();
    let settings = KafkaSourceSettings::new(broker.settings(), "t");
    (broker, sink, settings)
}

fn send(sink: &KafkaSink, partition: i32, text: &str) {
    sink.send("t", Some(partition), None, text.as_bytes(), &[]).unwrap();
}

#[test]
fn a_bounded_source_reads_every_partition_to_the_end_it_had_at_start() {
    let (_broker, sink, settings) = broker(3);
    for number in 0..3000 {
        send(&sink, number % 2, &number.to_string());
    }
    sink.flush(FLUSH).unwrap();
    let mut source = KafkaSource::open(KafkaSourceSettings { until_end: true, ..settings.clone() }).unwrap();
    let first = source.poll(WAIT).unwrap();
    assert_eq!(first.partitions, [0, 1, 2]);
    assert!(first.at_end.contains(&2), "an empty partition is at its end at once: {first:?}");
    let late = texts(&first).len();
    // Written after the end was read: not delivered.
    send(&sink, 0, "late");
    sink.flush(FLUSH).unwrap();
    let rest = read_until(&mut source, |polled, _| polled.ended);
    assert_eq!(late + rest.len(), 3000);
    assert!(!rest.iter().any(|text| text.ends_with("late")));
    let again = source.poll(WAIT).unwrap();
    assert!(again.ended && again.batches.is_empty() && again.at_end == [0, 1, 2]);
    assert_eq!(read_to_end(settings).len(), 3001);
}

#[test]
fn a_source_goes_on_from_the_offsets_that_it_is_given() {
    let (_broker, sink, settings) = broker(2);
    for number in 0..6 {
        send(&sink, number % 2, &number.to_string());
    }
    sink.flush(FLUSH).unwrap();
    let starts = vec![PartitionStart { partition: 0, offset: Some(2) }];
    // Partition 1 is newer than the offsets: from its earliest record.
    assert_eq!(read_to_end(KafkaSourceSettings { starts, ..settings.clone() }), ["0:2=4", "1:0=1", "1:1=3", "1:2=5"]);
    let starts =
        vec![PartitionStart { partition: 0, offset: Some(3) }, PartitionStart { partition: 1, offset: Some(3) }];
    assert!(read_to_end(KafkaSourceSettings { starts, ..settings.clone() }).is_empty());
    let latest = KafkaSourceSettings { start: StartAt::Latest, ..settings };
    assert!(read_to_end(latest).is_empty());
}

#[test]
fn an_unbounded_source_sees_new_records_and_says_when_it_has_caught_up() {
    let (_broker, sink, settings) = broker(2);
    let mut source = KafkaSource::open(settings).unwrap();
    read_until(&mut source, |polled, _| polled.at_end == [0, 1]);
    send(&sink, 1, "new");
    sink.flush(FLUSH).unwrap();
    assert_eq!(read_until(&mut source, |polled, seen| seen > 0 && polled.at_end == [0, 1]), ["1:0=new"]);
    assert!(!source.poll(Span::ZERO).unwrap().ended);
}

#[test]
fn committed_group_offsets_are_where_the_next_source_starts() {
    let (_broker, sink, settings) = broker(2);
    for number in 0..8 {
        send(&sink, number % 2, &number.to_string());
    }
    sink.flush(FLUSH).unwrap();
    let settings = KafkaSourceSettings { group: Some("g".to_owned()), start: StartAt::Group, ..settings };
    let mut source = KafkaSource::open(KafkaSourceSettings { until_end: true, ..settings.clone() }).unwrap();
    assert_eq!(read_until(&mut source, |polled, _| polled.ended).len(), 8);
    source.commit(&[(0, 3), (1, 4)]).unwrap();
    drop(source);
    assert_eq!(read_to_end(settings), ["0:3=6"]);
}

#[test]
fn tombstones_are_records_without_a_value() {
    let (_broker, sink, settings) = broker(1);
    send(&sink, 0, "");
    sink.send_tombstone("t", Some(0), b"key").unwrap();
    send(&sink, 0, "x");
    sink.flush(FLUSH).unwrap();
    assert_eq!(read_to_end(settings), ["0:0=", "0:1=~", "0:2=x"]);
}

#[test]
fn keys_come_with_their_records() {
    let (_broker, sink, settings) = broker(1);
    sink.send("t", Some(0), Some(b"a"), b"1", &[]).unwrap();
    send(&sink, 0, "2");
    sink.send("t", Some(0), Some(b""), b"3", &[]).unwrap();
    sink.send_tombstone("t", Some(0), b"a").unwrap();
    sink.flush(FLUSH).unwrap();
    let mut source = KafkaSource::open(KafkaSourceSettings { until_end: true, ..settings }).unwrap();
    let (start, mut seen) = (Instant::now(), Vec::new());
    while seen.len() < 4 {
        for batch in &source.poll(WAIT).unwrap().batches {
            seen.extend((0..batch.len()).map(|index| batch.key(index).map(<[u8]>::to_vec)));
        }
        assert!(start.elapsed() < Duration::from_secs(30), "stuck with {seen:?}");
    }
    assert_eq!(seen, [Some(b"a".to_vec()), None, Some(vec![]), Some(b"a".to_vec())]);
}

/// Fills a partition past the 5 MiB that the embedded broker keeps, counted as sent.
fn overflow(broker: &EmbeddedBroker) {
    let sink = KafkaSink::open(&broker.settings().with("producer.compression.type", "none")).unwrap();
    let block = vec![b'x'; 100_000];
    for _ in 0..80 {
        sink.send("t", Some(0), None, &block, &[]).unwrap();
        sink.flush(FLUSH).unwrap();
    }
}

#[test]
fn records_that_retention_dropped_before_they_were_read_are_an_error() {
    let (broker, _sink, settings) = broker(1);
    overflow(&broker);
    let starts = vec![PartitionStart { partition: 0, offset: Some(0) }];
    let mut source = KafkaSource::open(KafkaSourceSettings { starts, ..settings.clone() }).unwrap();
    let error = source.poll(WAIT).unwrap_err();
    assert!(matches!(error, SourceError::OffsetGap { partition: 0, expected: 0, found, .. } if found > 0), "{error}");
    // Without an offset of its own a source starts at what is there.
    assert!(!read_to_end(settings).is_empty());
}

#[test]
fn records_that_retention_drops_while_reading_are_an_error() {
    let (broker, sink, settings) = broker(1);
    let kafka = settings.kafka.clone().with("queued.max.messages.kbytes", "1").with("queued.min.messages", "1");
    let kafka = kafka.with("fetch.message.max.bytes", "1000").with("max.partition.fetch.bytes", "1000");
    let mut source = KafkaSource::open(KafkaSourceSettings { kafka, max_records: 1, ..settings }).unwrap();
    send(&sink, 0, "first");
    sink.flush(FLUSH).unwrap();
    read_until(&mut source, |_, seen| seen == 1);
    overflow(&broker);
    let start = Instant::now();
    let error = loop {
        match source.poll(WAIT) {
            Ok(_) => assert!(start.elapsed() < Duration::from_secs(30), "no gap was found"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SourceError::OffsetGap { partition: 0, .. }), "{error}");
}

#[test]
fn an_offset_past_the_end_says_that_the_topic_is_another_one() {
    let (_broker, sink, settings) = broker(1);
    send(&sink, 0, "x");
    sink.flush(FLUSH).unwrap();
    let starts = vec![PartitionStart { partition: 0, offset: Some(7) }];
    let mut source = KafkaSource::open(KafkaSourceSettings { starts, ..settings }).unwrap();
    let error = source.poll(WAIT).unwrap_err().to_string();
    assert!(error.contains("offset 7 is past") && error.contains("hint:"), "{error}");
}

#[test]
fn a_topic_that_does_not_exist_is_waited_for_or_named() {
    let (broker, sink, settings) = broker(1);
    let settings = KafkaSourceSettings { topic: "later".to_owned(), ..settings };
    let mut source = KafkaSource::open(settings.clone()).unwrap();
    let polled = source.poll(WAIT).unwrap();
    assert!(
        polled.unreachable.as_ref().is_some_and(|text| text.contains("topic `later` does not exist")),
        "{polled:?}"
    );
    let bounded = KafkaSourceSettings { until_end: true, topic_timeout: Span::ZERO, ..settings };
    let error = KafkaSource::open(bounded).unwrap().poll(WAIT).unwrap_err().to_string();
    assert!(error.contains("`later`") && error.contains("hint:"), "{error}");
    broker.create_topic("later", 1).unwrap();
    sink.send("later", None, None, b"x", &[]).unwrap();
    sink.flush(FLUSH).unwrap();
    assert_eq!(read_until(&mut source, |polled, seen| seen > 0 && polled.unreachable.is_none()), ["0:0=x"]);
}

#[test]
fn a_broker_out_of_reach_is_told_and_waited_for() {
    let (broker, sink, settings) = broker(1);
    send(&sink, 0, "before");
    sink.flush(FLUSH).unwrap();
    let mut source = KafkaSource::open(settings.clone()).unwrap();
    read_until(&mut source, |_, seen| seen == 1);
    broker.set_up(false).unwrap();
    read_until(&mut source, |polled, _| {
        polled.unreachable.as_ref().is_some_and(|text| text.contains(broker.bootstrap_servers()))
    });
    // At start too.
    let mut other = KafkaSource::open(settings).unwrap();
    assert!(other.poll(WAIT).unwrap().unreachable.is_some());
    send(&sink, 0, "after");
    let error = sink.flush(Span::from_millis(300)).unwrap_err();
    assert!(matches!(error, SinkError::Unacknowledged { pending: 1, .. }), "{error}");
    broker.set_up(true).unwrap();
    // Nothing was lost: the same record is still queued.
    sink.flush(Span::from_secs(30)).unwrap();
    assert_eq!(read_until(&mut source, |polled, seen| seen > 0 && polled.unreachable.is_none()), ["0:1=after"]);
    assert_eq!(read_until(&mut other, |polled, seen| seen > 1 && polled.unreachable.is_none()).len(), 2);
}

#[test]
fn nobody_at_the_address_is_told_with_the_address() {
    let kafka = KafkaSettings::new("127.0.0.1:1");
    let mut source = KafkaSource::open(KafkaSourceSettings::new(kafka, "t")).unwrap();
    let polled = source.poll(WAIT).unwrap();
    assert!(polled.unreachable.is_some_and(|text| text.contains("127.0.0.1:1")));
}

#[test]
fn a_wrong_property_is_an_error_at_once() {
    let kafka = KafkaSettings::new("127.0.0.1:1").with("no.such.property", "1");
    let error = KafkaSource::open(KafkaSourceSettings::new(kafka.clone(), "t")).err().unwrap().to_string();
    assert!(error.contains("no.such.property"), "{error}");
    assert!(KafkaSink::open(&kafka).err().unwrap().to_string().contains("no.such.property"));
}

#[test]
fn equal_keys_go_to_the_same_partition() {
    let (_broker, sink, settings) = broker(4);
    for round in 0..50 {
        for key in ["a", "b", "c", "d", "e", "f"] {
            sink.send("t", None, Some(key.as_bytes()), format!("{key}{round}").as_bytes(), &[]).unwrap();
        }
    }
    sink.flush(FLUSH).unwrap();
    let mut homes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for text in read_to_end(settings) {
        let (place, value) = text.split_once('=').unwrap();
        let homes = homes.entry(value[..1].to_owned()).or_default();
        homes.push(place.split(':').next().unwrap().to_owned());
    }
    for (key, mut homes) in homes {
        assert_eq!(homes.len(), 50);
        homes.dedup();
        assert_eq!(homes.len(), 1, "key {key}");
    }
}

#[test]
fn topics_are_counted_and_dead_letters_keep_their_bytes() {
    let (_broker, sink, settings) = broker(4);
    assert_eq!(sink.partitions("t", FLUSH).unwrap(), Some(4));
    assert_eq!(sink.ensure_topic("t", 9, FLUSH).unwrap(), 4);
    let letter = DeadLetter {
        topic: "raw".to_owned(),
        partition: 3,
        offset: 42,
        reason: "decode".to_owned(),
        error: "expected value".to_owned(),
        payload: b"{bad\xff".to_vec(),
    };
    sink.send_dead_letter("t", &letter).unwrap();
    sink.flush(FLUSH).unwrap();
    assert_eq!(read_to_end(settings).len(), 1);
}

#[test]
fn a_partition_that_is_held_goes_on_where_it_was() {
    let (_broker, sink, settings) = broker(2);
    for number in 0..4_000 {
        send(&sink, number % 2, &number.to_string());
    }
    sink.flush(FLUSH).unwrap();
    let mut source = KafkaSource::open(KafkaSourceSettings { until_end: true, max_records: 50, ..settings }).unwrap();
    let (start, mut seen) = (Instant::now(), Vec::new());
    let mut poll = |source: &mut KafkaSource| {
        let polled = source.poll(WAIT).unwrap();
        seen.extend(texts(&polled));
        assert!(start.elapsed() < Duration::from_secs(60), "stuck after {polled:?}");
        (polled, seen.len())
    };
    while poll(&mut source).1 == 0 {}
    for turn in 0..6 {
        source.hold(&[turn % 2]);
        source.hold(&[turn % 2]);
        // What was under way may still come.
        (0..4).for_each(|_| drop(poll(&mut source)));
    }
    source.hold(&[0]);
    let (last, read) = loop {
        let (polled, read) = poll(&mut source);
        if polled.at_end.contains(&1) {
            break (polled, read);
        }
    };
    assert!(!last.ended && !last.at_end.contains(&0) && read < 4_000, "nothing was held: {last:?}");
    source.hold(&[]);
    while !poll(&mut source).0.ended {}
    for partition in 0..2 {
        let prefix = format!("{partition}:");
        let found: Vec<&String> = seen.iter().filter(|text| text.starts_with(&prefix)).collect();
        let expected: Vec<String> =
            (0..2_000).map(|offset| format!("{partition}:{offset}={}", offset * 2 + partition)).collect();
        assert!(found.iter().copied().eq(&expected), "{found:?}");
    }
}
