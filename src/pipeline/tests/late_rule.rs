//! The late rule and the conservation law for random rows, batches, interleavings and restarts.

use proptest::prelude::*;

use super::*;
use crate::late::is_late;

const SQL: &str = "
CREATE TABLE t (
    at BIGINT, service TEXT NOT NULL, keep BOOLEAN NOT NULL, divisor INT NOT NULL,
    ts TIMESTAMP NOT NULL GENERATED ALWAYS AS (to_timestamp(at)),
    WATERMARK FOR ts AS coalesce(to_timestamp(at), TIMESTAMP '1970-01-01 00:00:00') - INTERVAL '5 seconds'
) WITH (connector = 'kafka', type = 'source', topic = 't', format = 'json');
CREATE TABLE features (service TEXT, window_start TIMESTAMP, window_end TIMESTAMP, n BIGINT, x DOUBLE)
WITH (connector = 'kafka', type = 'sink', topic = 'features', format = 'json');
INSERT INTO features
SELECT service, window.start, window.end, n, x FROM (
    SELECT service, tumble(INTERVAL '10 seconds') AS window, count(*) AS n, sum(1.0 / (at + 1)) + sum(at / divisor) AS x
    FROM t WHERE keep GROUP BY service, window);";

/// One record of the source.
#[derive(Clone, Debug)]
enum Record {
    Row { at: Option<i64>, service: u8, keep: bool, divisor: u8 },
    Garbage,
    Tombstone,
}

impl Record {
    fn line(&self) -> String {
        match self {
            Self::Row { at, service, keep, divisor } => {
                let at = at.map_or("null".to_owned(), |at| at.to_string());
                format!(r#"{{"at":{at},"service":"s{service}","keep":{keep},"divisor":{divisor}}}"#)
            }
            Self::Garbage => "{".to_owned(),
            Self::Tombstone => "TOMBSTONE".to_owned(),
        }
    }
}

/// The rules as written down, one row after the other: rows by window and service, and the counters.
fn oracle(input: &[Vec<Record>]) -> (BTreeMap<(i64, Vec<u8>), u64>, Counters) {
    let (mut windows, mut counters) = (BTreeMap::new(), Counters::default());
    for partition in input {
        let mut watermark = i64::MIN;
        for record in partition {
            counters.read += 1;
            let Record::Row { at, service, keep, divisor } = record else {
                match record {
                    Record::Tombstone => {
                        (counters.tombstones, counters.read) = (counters.tombstones + 1, counters.read - 1)
                    }
                    _ => counters.decode += 1,
                }
                continue;
            };
            let Some(at) = at else {
                counters.null_event_time += 1;
                continue;
            };
            let before = watermark;
            watermark = watermark.max(at - 5);
            let start = at.div_euclid(10) * 10;
            if !keep {
                counters.filtered += 1;
            } else if *divisor == 0 {
                counters.expression += 1;
            } else if is_late(start + 10, before) {
                counters.late += 1;
            } else {
                counters.windowed += 1;
                *windows.entry((start * 1000, format!("s{service}").into_bytes())).or_insert(0) += 1;
            }
        }
    }
    (windows, counters)
}

fn records() -> impl Strategy<Value = Vec<Vec<Record>>> {
    // Event time goes on with the place of the row and jumps back and forth.
    let row = (0_i64..40, 0_u8..3, prop::bool::weighted(0.8), prop_oneof![9 => 1_u8..3, 1 => Just(0)]);
    let record = prop_oneof![
        20 => row.prop_map(|(jump, service, keep, divisor)| Record::Row { at: Some(jump), service, keep, divisor }),
        1 => Just(Record::Row { at: None, service: 0, keep: true, divisor: 1 }),
        1 => Just(Record::Garbage),
        1 => Just(Record::Tombstone),
    ];
    let partition = prop::collection::vec(record, 0..60).prop_map(|mut records| {
        for (place, record) in (0_i64..).zip(&mut records) {
            if let Record::Row { at: Some(at), .. } = record {
                *at += place * 2;
            }
        }
        records
    });
    prop::collection::vec(partition, 1..4)
}

fn feedings() -> impl Strategy<Value = Feeding> {
    (1_usize..20, 1_usize..5, prop::option::of(1_usize..4), prop::collection::vec(0_usize..3, 1..6))
        .prop_map(|(batch, epoch, restart_every, turns)| Feeding { batch, epoch, restart_every, turns })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_are_where_the_rules_put_them_however_they_are_fed(records in records(), feeding in feedings()) {
        let plan = Arc::new(compile(SQL).unwrap());
        let input: Input = records.iter().map(|partition| partition.iter().map(Record::line).collect()).collect();
        let (windows, expected) = oracle(&records);
        let outcome = feed(&plan, &input, &feeding);
        let found: BTreeMap<_, _> = outcome.rows.iter().map(|((start, key, _), json)| {
            let row: serde_json::Value = serde_json::from_str(json).unwrap();
            ((*start, key.clone()), row["n"].as_u64().unwrap())
        }).collect();
        prop_assert_eq!(found, windows);
        let counters = Counters { rows_out: 0, ..outcome.counters };
        prop_assert_eq!(counters, expected);
        prop_assert_eq!(outcome.dead_letters.len() as u64, expected.late + expected.bad());
        // Bytes, floating-point sums included, do not depend on how the input was fed.
        let undisturbed = feed(&plan, &input, &Feeding::plain());
        prop_assert_eq!(outcome.text(), undisturbed.text());
        prop_assert_eq!(outcome.dead_letters, undisturbed.dead_letters);
    }
}

#[test]
fn an_idle_partition_does_not_hold_windows_back_and_is_late_when_it_returns() {
    let plan = Arc::new(compile(SQL).unwrap());
    let mut engine = Engine::new(plan, None).unwrap();
    let push = |engine: &mut Engine, partition: i32, offset: i64, at: i64| {
        let mut batch = RawBatch::new("t".into(), partition);
        let line = Record::Row { at: Some(at), service: 0, keep: true, divisor: 1 }.line();
        batch.push(offset, None, Some(line.as_bytes()));
        engine.push(&batch).unwrap();
    };
    push(&mut engine, 0, 0, 3);
    push(&mut engine, 1, 0, 30);
    let waiting = PartitionView { known: &[0, 1], ..PartitionView::default() };
    assert_eq!(engine.close(&waiting).unwrap().rows, []);
    let idle = PartitionView { known: &[0, 1], idle: &[0], ..PartitionView::default() };
    assert_eq!(engine.close(&idle).unwrap().rows.len(), 1, "partition 1 alone is at 25 s");
    push(&mut engine, 0, 1, 8);
    let back = engine.close(&waiting).unwrap();
    assert_eq!((back.rows.len(), back.counters.late), (0, 1));
}

#[test]
fn event_time_that_passes_while_the_source_is_silent_is_a_gap() {
    let plan = Arc::new(compile(SQL).unwrap());
    let mut engine = Engine::new(plan, None).unwrap();
    let step = |engine: &mut Engine, offset: i64, at: Option<i64>, silent: bool| {
        if let Some(at) = at {
            let mut batch = RawBatch::new("t".into(), 0);
            let line = Record::Row { at: Some(at), service: 0, keep: true, divisor: 1 }.line();
            batch.push(offset, None, Some(line.as_bytes()));
            engine.push(&batch).unwrap();
        }
        let idle: &[i32] = if silent { &[0] } else { &[] };
        let view = PartitionView { known: &[0], idle, silent, ..PartitionView::default() };
        engine.close(&view).unwrap().progress.map(|note| {
            (note.watermark.millis() / 1000, note.gap.map(|(from, to)| (from.millis() / 1000, to.millis() / 1000)))
        })
    };
    assert_eq!(step(&mut engine, 0, Some(17), false), Some((10, None)));
    assert_eq!(step(&mut engine, 0, None, true), None);
    assert_eq!(step(&mut engine, 1, Some(605), false), Some((600, Some((12, 600)))));
    assert_eq!(step(&mut engine, 2, Some(619), false), Some((610, None)), "told once");
}
