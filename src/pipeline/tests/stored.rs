//! Restarts from stored panes: what is read again, wide windows that are cut into segments, and state that is damaged.

use prescale_store::{Table, Write};
use proptest::prelude::*;

use super::shapes::{Row, TABLES, dealt, feedings, rows};
use super::*;
use crate::PipelineError;
use crate::late::is_late;

/// Windows whose panes are wider than a minute, with slide and width in seconds.
const WIDE: [(&str, i64, i64); 5] = [
    ("tumble(INTERVAL '90 seconds')", 90, 90),
    ("tumble(INTERVAL '10 minutes')", 600, 600),
    ("tumble(INTERVAL '1 day')", 86_400, 86_400),
    ("hop(INTERVAL '2 minutes', INTERVAL '6 minutes')", 120, 360),
    ("hop(INTERVAL '65 seconds', INTERVAL '910 seconds')", 65, 910),
];
const LATENESS: i64 = 5;

#[track_caller]
fn plan(window: &str) -> Arc<Plan> {
    let tables = TABLES.replace("INTERVAL '30 seconds'", "INTERVAL '5 seconds'");
    let query = format!(
        "SELECT service, window.start AS window_start, window.end AS window_end, n, s, spread, r, p FROM (
        SELECT service, {window} AS window, count(*) AS n, sum(y / 3.0) AS s, stddev(y) AS spread, corr(y, x) AS r,
            approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY y) AS p
        FROM t GROUP BY service, window)"
    );
    Arc::new(compile(&format!("{tables}{query};")).unwrap())
}

/// Rows that are not late, by window start and service.
fn counts(rows: &[Row], partitions: usize, slide: i64, width: i64) -> BTreeMap<(i64, Vec<u8>), u64> {
    let (mut counts, mut watermarks) = (BTreeMap::new(), vec![i64::MIN; partitions]);
    for (place, row) in rows.iter().enumerate() {
        let watermark = &mut watermarks[place % partitions];
        let pane = row.at.div_euclid(slide) * slide;
        if !is_late(pane + slide, *watermark) {
            for step in 0..width / slide {
                let key = ((pane - step * slide) * 1000, format!("s{}", row.service).into_bytes());
                *counts.entry(key).or_default() += 1;
            }
        }
        *watermark = (*watermark).max(row.at - LATENESS);
    }
    counts
}

fn found(outcome: &Outcome) -> BTreeMap<(i64, Vec<u8>), u64> {
    let row = |((start, key, _), json): (&(i64, Vec<u8>, String), &String)| {
        let row: serde_json::Value = serde_json::from_str(json).unwrap();
        ((*start, key.clone()), row["n"].as_u64().unwrap())
    };
    outcome.rows.iter().map(row).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Rows jump back by far more than the lateness: in wide windows most of these are not late.
    #[test]
    fn wide_windows_are_the_same_however_they_are_fed(
        mut rows in rows(), partitions in 1_usize..5, feeding in feedings(), stretch in 1_i64..15,
        window in prop::sample::select(&WIDE[..]),
    ) {
        rows.iter_mut().for_each(|row| row.at *= stretch);
        let (window, slide, width) = window;
        let (plan, input) = (plan(window), dealt(&rows, partitions));
        let outcome = feed(&plan, &input, &feeding);
        prop_assert_eq!(found(&outcome), counts(&rows, partitions, slide, width));
        let undisturbed = feed(&plan, &input, &Feeding::plain());
        prop_assert_eq!(outcome.text(), undisturbed.text());
        prop_assert_eq!(outcome.dead_letters, undisturbed.dead_letters);
    }
}

/// A row a second in each of two partitions, on its way into an engine that stores its panes.
struct Kept {
    plan: Arc<Plan>,
    store: MemoryStore,
    engine: Engine,
}

const PIPELINE: &str = "p";

fn row(at: i64) -> Row {
    let y = Some(at as f64 / 7.0);
    Row { at, service: (at % 3) as u8, order: at, x: Some(at % 11), y, flag: None, word: None }
}

impl Kept {
    fn new(window: &str) -> Self {
        let (plan, store) = (plan(window), MemoryStore::default());
        let engine = Engine::with_panes(plan.clone(), None, &panes(&store)).unwrap();
        Self { plan, store, engine }
    }

    /// The row at an offset is that many seconds old.
    fn push(&mut self, partition: i32, offsets: std::ops::Range<i64>) {
        let mut batch = RawBatch::new("t".into(), partition);
        offsets.for_each(|offset| batch.push(offset, None, Some(row(offset).line().as_bytes())));
        self.engine.push(0, &batch).unwrap();
    }

    fn close(&mut self) -> Vec<OutRow> {
        let rows = self.engine.close(&[PartitionView { known: &[0, 1], ..PartitionView::default() }]).unwrap().rows;
        self.store.write(&self.engine.pane_writes(&panes(&self.store)).unwrap()).unwrap();
        rows
    }

    fn checkpoint(&self) -> Checkpoint {
        serde_json::from_slice(&serde_json::to_vec(&self.engine.checkpoint()).unwrap()).unwrap()
    }

    fn restarted(&self) -> Result<Engine, PipelineError> {
        Engine::with_panes(self.plan.clone(), Some(self.checkpoint()), &panes(&self.store))
    }

    /// Where a restart begins to read.
    fn starts(&self) -> Vec<i64> {
        self.checkpoint().starts("t").iter().map(|start| start.offset.unwrap()).collect()
    }

    fn stored(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.store.range(Table::Panes, &[], &[u8::MAX], usize::MAX, false).unwrap()
    }
}

fn panes(store: &MemoryStore) -> StoredPanes<'_> {
    StoredPanes { store, pipeline: PIPELINE }
}

#[test]
fn a_restart_reads_again_about_a_slide_and_the_lateness() {
    const READ: i64 = 1_807;
    let mut kept = Kept::new("hop(INTERVAL '10 seconds', INTERVAL '5 minutes')");
    for from in (0..READ).step_by(20) {
        for partition in [0, 1] {
            kept.push(partition, from..(from + 20).min(READ));
        }
        kept.close();
    }
    // The watermark is at 1806 - 5 s: the pane that ends at 1800 s is complete, and no row at or after that is in one.
    assert_eq!(kept.starts(), [1_800, 1_800]);
    let again = 2 * (READ - 1_800);
    let open = 2 * (READ - 1_510);
    assert!(again * 10 < open, "{again} of {open} rows are read again");
    // Whoever goes by the offsets of a group has no panes.
    let needed =
        |kept: &Kept| kept.checkpoint().sources["t"].partitions.values().map(|at| at.needed).collect::<Vec<_>>();
    assert_eq!(needed(&kept), [Some(1_510); 2]);
    // Panes of the windows that are open, from 1510 s on.
    assert_eq!(kept.stored().len(), 29);

    // What goes on from there is what goes on without a restart.
    let mut restarted =
        Kept { engine: kept.restarted().unwrap(), plan: kept.plan.clone(), store: MemoryStore::default() };
    let counted = kept.engine.counters();
    for partition in [0, 1] {
        restarted.push(partition, 1_800..READ);
    }
    assert_eq!(needed(&restarted), needed(&kept));
    assert_eq!(restarted.engine.counters(), counted, "no row is counted twice");
    for fed in [&mut kept, &mut restarted] {
        fed.push(0, READ..2_400);
        fed.push(1, READ..2_400);
    }
    let rows = kept.close();
    assert_eq!(rows.len(), 59 * 3);
    assert_eq!(restarted.close(), rows);
}

#[test]
fn so_does_one_in_the_middle_of_a_wide_window() {
    let mut kept = Kept::new("tumble(INTERVAL '1 day')");
    for from in (0..20_000).step_by(500) {
        kept.push(0, from..from + 500);
        kept.push(1, from..from + 500);
        kept.close();
    }
    // A segment of a day is 1350 s of the partition's own watermark, which is 5 s behind its rows.
    let start = 19_999 / 1_350 * 1_350 + LATENESS;
    assert_eq!(kept.starts(), [start + 1, start + 1]);
    assert_eq!(kept.stored().len(), 2 * 14);
    let mut restarted =
        Kept { engine: kept.restarted().unwrap(), plan: kept.plan.clone(), store: MemoryStore::default() };
    for partition in [0, 1] {
        restarted.push(partition, start + 1..20_000);
    }
    for fed in [&mut kept, &mut restarted] {
        fed.push(0, 20_000..86_500);
        fed.push(1, 20_000..86_500);
    }
    let rows = kept.close();
    assert_eq!(rows.len(), 3);
    assert_eq!(restarted.close(), rows);
    assert_eq!(kept.stored(), [], "the day before is gone, and of the next one no segment is over");
}

#[test]
fn what_open_windows_take_is_counted_until_they_are_written() {
    let mut kept = Kept::new("tumble(INTERVAL '1 minute')");
    assert_eq!(kept.engine.held(), crate::Held::default());
    for partition in [0, 1] {
        kept.push(partition, 0..300);
    }
    let held = kept.engine.held();
    // Three services in five windows and two partitions.
    assert_eq!((held.groups, held.panes, held.range), (30, 5, Some((0, 240_000_000_000))));
    assert!(held.bytes > 30 * 100, "{held:?}");
    kept.close();
    let left = kept.engine.held();
    assert_eq!((left.groups, left.panes), (6, 1));
    assert!(left.bytes * 4 < held.bytes, "{left:?} of {held:?}");
}

/// Tumbling windows of up to a minute store nothing and cost nothing.
#[test]
fn a_window_of_a_minute_is_not_stored() {
    let mut kept = Kept::new("tumble(INTERVAL '1 minute')");
    for from in (0..400).step_by(20) {
        kept.push(0, from..from + 20);
        kept.push(1, from..from + 20);
        kept.close();
        assert_eq!(kept.stored(), []);
    }
    assert_eq!(kept.checkpoint().panes, Some(Vec::new()));
}

#[test]
fn a_pane_that_is_missing_or_damaged_or_not_the_plans_stops_the_pipeline() {
    for window in ["hop(INTERVAL '10 seconds', INTERVAL '5 minutes')", "tumble(INTERVAL '1 hour')"] {
        let mut kept = Kept::new(window);
        kept.push(0, 0..1_000);
        kept.push(1, 0..1_000);
        kept.close();
        assert!(kept.restarted().is_ok());
        let entries = kept.stored();
        let (key, value) = entries[entries.len() / 2].clone();
        let put = |value: Option<Vec<u8>>| {
            kept.store.write(&[Write { table: Table::Panes, key: key.clone(), value }]).unwrap();
        };
        let complaint = || match kept.restarted().err().unwrap() {
            error @ PipelineError::Checkpoint { .. } => error.to_string(),
            other => panic!("{other}"),
        };
        put(None);
        assert!(complaint().contains("is missing\nhint: "), "{}", complaint());
        for at in (0..value.len()).step_by(37) {
            let mut damaged = value.clone();
            damaged[at] ^= 0x10;
            put(Some(damaged));
            assert!(complaint().contains("the state of its pane at "), "{}", complaint());
        }
        put(Some(value[..value.len() - 1].to_vec()));
        assert!(complaint().contains("is damaged"), "{}", complaint());
        put(Some(Vec::new()));
        assert!(complaint().contains("in no form"), "{}", complaint());
        put(Some(entries[0].1.clone()));
        assert!(complaint().contains("is damaged"), "another pane's: {}", complaint());
        put(Some(value));
        assert!(kept.restarted().is_ok());
        let error = Engine::new(kept.plan.clone(), Some(kept.checkpoint())).err().unwrap().to_string();
        assert!(error.contains("stored panes"), "{error}");
    }
}

/// A partition that was lifted because it had fallen idle comes back with rows of a window that is open.
#[test]
fn segments_are_cut_by_a_partitions_own_rows() {
    let mut ends = Vec::new();
    for (idle, restarts) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut kept = Kept::new("tumble(INTERVAL '5 minutes')");
        kept.push(0, 0..40);
        kept.push(1, 0..200);
        let idle: &[i32] = if idle { &[0] } else { &[] };
        kept.engine.close(&[PartitionView { known: &[0, 1], idle, ..PartitionView::default() }]).unwrap();
        kept.close();
        for (from, to) in [(40, 90), (90, 160)] {
            if restarts {
                let starts = kept.starts();
                kept.engine = kept.restarted().unwrap();
                kept.push(0, starts[0]..from);
                kept.push(1, starts[1]..200);
            }
            kept.push(0, from..to);
            kept.close();
        }
        kept.push(0, 160..400);
        kept.push(1, 200..400);
        ends.push(kept.close());
    }
    assert_eq!(ends[0].len(), 3);
    assert!(ends.iter().all(|end| *end == ends[0]));
}

/// A checkpoint of a run that stored nothing, or of an earlier version, is gone on from; and what an earlier pipeline of that
/// name left is deleted where there is no checkpoint.
#[test]
fn a_pipeline_without_a_checkpoint_takes_over_no_panes() {
    let mut kept = Kept::new("hop(INTERVAL '10 seconds', INTERVAL '5 minutes')");
    kept.push(0, 0..1_000);
    kept.push(1, 0..1_000);
    kept.close();
    assert!(!kept.stored().is_empty());
    let other = Write { table: Table::Panes, key: b"pp\0x".to_vec(), value: Some(vec![1]) };
    kept.store.write(std::slice::from_ref(&other)).unwrap();
    Engine::with_panes(kept.plan.clone(), None, &panes(&kept.store)).unwrap();
    assert_eq!(kept.stored(), [(other.key, vec![1])]);
}
