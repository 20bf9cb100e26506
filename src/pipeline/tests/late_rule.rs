//! The late rule and the conservation law for random rows, batches, interleavings and restarts.

use proptest::prelude::*;

use super::*;
use crate::late::is_late;

/// The windows asked for: the call, its slide and its width in seconds.
type Asked = (&'static str, i64, i64);

const TUMBLE: Asked = ("tumble(INTERVAL '10 seconds')", 10, 10);
const HOP: Asked = ("hop(INTERVAL '10 seconds', INTERVAL '30 seconds')", 10, 30);
const ASKED: [Asked; 5] = [
    TUMBLE,
    HOP,
    ("hop(INTERVAL '10 seconds', INTERVAL '10 seconds')", 10, 10),
    ("hop(INTERVAL '3 seconds', INTERVAL '15 seconds')", 3, 15),
    ("hop(INTERVAL '1 second', INTERVAL '14 seconds')", 1, 14),
];

fn plan((window, ..): Asked) -> Arc<Plan> {
    Arc::new(compile(&SQL.replace("{window}", window)).unwrap())
}

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
    SELECT service, {window} AS window, count(*) AS n, sum(1.0 / (at + 1)) + sum(at / divisor) AS x
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
fn oracle(input: &[Vec<Record>], (_, slide, width): Asked) -> (BTreeMap<(i64, Vec<u8>), u64>, Counters) {
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
            let pane = at.div_euclid(slide) * slide;
            if !keep {
                counters.filtered += 1;
            } else if *divisor == 0 {
                counters.expression += 1;
            } else if is_late(pane + slide, before) {
                counters.late += 1;
            } else {
                counters.windowed += 1;
                for start in (0..width / slide).map(|step| pane - step * slide) {
                    *windows.entry((start * 1000, format!("s{service}").into_bytes())).or_insert(0) += 1;
                }
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
    fn rows_are_where_the_rules_put_them_however_they_are_fed(
        records in records(), feeding in feedings(), asked in prop::sample::select(&ASKED[..]),
    ) {
        let plan = plan(asked);
        let input: Input = records.iter().map(|partition| partition.iter().map(Record::line).collect()).collect();
        let (windows, expected) = oracle(&records, asked);
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
    let plan = plan(TUMBLE);
    let mut engine = Engine::new(plan, None).unwrap();
    let push = |engine: &mut Engine, partition: i32, offset: i64, at: i64| {
        let mut batch = RawBatch::new("t".into(), partition);
        let line = Record::Row { at: Some(at), service: 0, keep: true, divisor: 1 }.line();
        batch.push(offset, None, Some(line.as_bytes()));
        engine.push(0, &batch).unwrap();
    };
    push(&mut engine, 0, 0, 3);
    push(&mut engine, 1, 0, 30);
    let waiting = PartitionView { known: &[0, 1], ..PartitionView::default() };
    assert_eq!(engine.close(&[waiting]).unwrap().rows, []);
    let idle = PartitionView { known: &[0, 1], idle: &[0], ..PartitionView::default() };
    assert_eq!(engine.close(&[idle]).unwrap().rows.len(), 1, "partition 1 alone is at 25 s");
    push(&mut engine, 0, 1, 8);
    let back = engine.close(&[waiting]).unwrap();
    assert_eq!((back.rows.len(), back.counters.late), (0, 1));
}

#[test]
fn event_time_that_passes_while_the_source_is_silent_is_a_gap() {
    let plan = plan(TUMBLE);
    let mut engine = Engine::new(plan, None).unwrap();
    let step = |engine: &mut Engine, offset: i64, at: Option<i64>, silent: bool| {
        if let Some(at) = at {
            let mut batch = RawBatch::new("t".into(), 0);
            let line = Record::Row { at: Some(at), service: 0, keep: true, divisor: 1 }.line();
            batch.push(offset, None, Some(line.as_bytes()));
            engine.push(0, &batch).unwrap();
        }
        let idle: &[i32] = if silent { &[0] } else { &[] };
        let view = PartitionView { known: &[0], idle, silent, ..PartitionView::default() };
        engine.close(&[view]).unwrap().progress.map(|note| {
            (note.watermark.millis() / 1000, note.gap.map(|(from, to)| (from.millis() / 1000, to.millis() / 1000)))
        })
    };
    assert_eq!(step(&mut engine, 0, Some(17), false), Some((10, None)));
    assert_eq!(step(&mut engine, 0, None, true), None);
    assert_eq!(step(&mut engine, 1, Some(605), false), Some((600, Some((12, 600)))));
    assert_eq!(step(&mut engine, 2, Some(619), false), Some((610, None)), "told once");
}

/// Feeds single rows of one service by partition and offset.
struct Fed {
    plan: Arc<Plan>,
    engine: Engine,
}

impl Fed {
    fn push(&mut self, (partition, offset): (i32, i64), at: i64) {
        let mut batch = RawBatch::new("t".into(), partition);
        let line = Record::Row { at: Some(at), service: 0, keep: true, divisor: 1 }.line();
        batch.push(offset, None, Some(line.as_bytes()));
        self.engine.push(0, &batch).unwrap();
    }

    /// Closes an epoch; rows as `(window start in seconds, count)`.
    fn close(&mut self, view: PartitionView<'_>) -> (Vec<(i64, u64)>, Counters) {
        let closed = self.engine.close(&[PartitionView { known: &[0, 1], ..view }]).unwrap();
        let row = |row: &OutRow| {
            let json: serde_json::Value = serde_json::from_slice(&row.json).unwrap();
            (row.window_start.millis() / 1000, json["n"].as_u64().unwrap())
        };
        (closed.rows.iter().map(row).collect(), closed.counters)
    }

    /// Goes on from the checkpoint in a new engine; returns where to read again.
    fn restart(&mut self) -> Vec<(i32, i64)> {
        let saved = serde_json::to_vec(&self.engine.checkpoint()).unwrap();
        let checkpoint: Checkpoint = serde_json::from_slice(&saved).unwrap();
        let starts = checkpoint.starts("t").iter().map(|start| (start.partition, start.offset.unwrap())).collect();
        self.engine = Engine::new(self.plan.clone(), Some(checkpoint)).unwrap();
        starts
    }
}

fn fed(asked: Asked) -> Fed {
    let plan = plan(asked);
    Fed { engine: Engine::new(plan.clone(), None).unwrap(), plan }
}

#[test]
fn a_row_whose_pane_has_ended_counts_in_none_of_its_windows() {
    let mut fed = fed(HOP);
    fed.push((0, 0), 81);
    fed.push((0, 1), 95);
    // The watermark is at 90: the pane 80–90 has ended, two of its three windows are open.
    fed.push((0, 2), 89);
    fed.push((1, 0), 200);
    let (rows, counters) = fed.close(PartitionView { ended: &[0, 1], all_ended: true, ..PartitionView::default() });
    assert_eq!(rows, [(60, 1), (70, 2), (80, 2), (90, 1), (180, 1), (190, 1), (200, 1)]);
    assert_eq!((counters.windowed, counters.late), (3, 1));
}

#[test]
fn what_was_late_after_an_idle_time_is_late_again_after_a_restart() {
    let mut fed = fed(HOP);
    fed.push((0, 0), 83);
    fed.push((1, 0), 112);
    let idle = PartitionView { idle: &[0], ..PartitionView::default() };
    assert_eq!(fed.close(idle).0, [(60, 1), (70, 1)], "partition 1 alone is at 107 s");
    // Late by the lift, not by a row of its own partition; the pane 80–90 is in the open window 80–110.
    fed.push((0, 1), 84);
    fed.push((0, 2), 104);
    assert_eq!(fed.close(PartitionView::default()).1.late, 1);
    assert_eq!(fed.restart(), [(0, 0), (1, 0)]);
    for (offset, at) in [83, 84, 104].into_iter().enumerate() {
        fed.push((0, i64::try_from(offset).unwrap()), at);
    }
    fed.push((1, 0), 112);
    let (rows, counters) = fed.close(PartitionView { ended: &[0, 1], all_ended: true, ..PartitionView::default() });
    assert_eq!(rows, [(80, 2), (90, 2), (100, 2), (110, 1)]);
    assert_eq!((counters.read, counters.windowed, counters.late), (4, 3, 1));
}

#[test]
fn a_run_after_the_end_of_the_input_goes_on_behind_the_last_window_that_was_written() {
    for (windows, written, after) in [(TUMBLE, vec![(80, 1)], 90), (HOP, vec![(60, 1), (70, 1), (80, 1)], 110)] {
        let mut fed = fed(windows);
        let ended = PartitionView { ended: &[0, 1], all_ended: true, ..PartitionView::default() };
        fed.push((0, 0), 83);
        assert_eq!(fed.close(ended).0, written);
        fed.restart();
        fed.push((0, 1), 85);
        fed.push((0, 2), after);
        fed.push((1, 0), after + 40);
        fed.push((0, 3), after + 40);
        let (rows, counters) = fed.close(PartitionView::default());
        assert_eq!(rows.last(), Some(&(after, 1)), "{windows:?}");
        assert_eq!((counters.read, counters.windowed, counters.late), (5, 4, 1), "{windows:?}");
    }
}

#[test]
fn progress_is_told_at_each_slide() {
    let mut fed = fed(HOP);
    let mut told = |offset: i64, at: i64| {
        fed.push((0, offset), at);
        let view = PartitionView { known: &[0], ..PartitionView::default() };
        fed.engine.close(&[view]).unwrap().progress.map(|note| note.watermark.millis() / 1000)
    };
    assert_eq!(told(0, 38), Some(30));
    assert_eq!(told(1, 44), None);
    assert_eq!(told(2, 46), Some(40));
}
