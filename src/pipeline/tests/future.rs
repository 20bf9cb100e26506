//! Rows of the far future: told, counted, and without any effect on what time it is.

use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3_600_000;
/// 2026-01-01T00:00:00Z
const START: i64 = 1_767_225_600_000;

/// Offset, when its record was written, and how far its event time is ahead of that; both in milliseconds.
type Row = (i64, Option<i64>, i64);

fn plan() -> Arc<Plan> {
    let mut plan = Arc::unwrap_or_clone(plan_of("requests"));
    plan.sources[0].options.max_future_millis = Some(HOUR);
    Arc::new(plan)
}

fn batch(rows: &[Row]) -> RawBatch {
    let mut raw = RawBatch::new("input".into(), 0);
    for (offset, written, ahead) in rows {
        let time = prescale_domain::Timestamp::from_millis(written.unwrap_or(START) + ahead);
        let line = format!(r#"{{"ts":"{time}","service":"web","status":200,"latency_ms":1.0,"bytes":1}}"#);
        raw.push(*offset, *written, Some(line.as_bytes()));
    }
    raw
}

/// Runs rows in batches of that size, with a restart after so many of them.
fn outcome(rows: &[Row], size: usize, restart_after: usize) -> Outcome {
    let (mut engine, mut outcome) = (Engine::new(plan(), None).unwrap(), Outcome::default());
    let view = PartitionView { known: &[0], ..PartitionView::default() };
    let (mut next, mut restarted) = (0, false);
    while next < rows.len() {
        let until = (next + size).min(rows.len());
        engine.push(0, &batch(&rows[next..until])).unwrap();
        next = until;
        let closed = engine.close(&[view]).unwrap();
        outcome.add(closed.rows, closed.dead_letters);
        if !restarted && next >= restart_after {
            restarted = true;
            let checkpoint = engine.checkpoint();
            next = usize::try_from(checkpoint.starts("requests")[0].offset.unwrap()).unwrap();
            engine = Engine::new(plan(), Some(checkpoint)).unwrap();
        }
    }
    let closed = engine.close(&[PartitionView { all_ended: true, ..view }]).unwrap();
    outcome.add(closed.rows, closed.dead_letters);
    outcome.counters = closed.counters;
    outcome.dead_letters.sort();
    outcome
}

#[test]
fn a_row_of_the_far_future_goes_to_the_dead_letters_and_closes_no_window() {
    let at = |seconds: i64| Some(START + seconds * 1000);
    let rows = [(0, at(0), 0), (1, at(1), HOUR + 1), (2, at(2), 0), (3, at(3), HOUR), (4, None, 90 * HOUR)];
    let mut engine = Engine::new(plan(), None).unwrap();
    engine.push(0, &batch(&rows[..3])).unwrap();
    let view = PartitionView { known: &[0], ..PartitionView::default() };
    let closed = engine.close(&[view]).unwrap();
    assert!(closed.rows.is_empty());
    assert_eq!((closed.counters.windowed, closed.counters.late, closed.counters.future), (2, 0, 1));
    let letter = &closed.dead_letters[0];
    assert_eq!((letter.offset, letter.reason.as_str()), (1, "future"));
    let error = "event time is 2026-01-01T01:00:01.001Z, the record is of 2026-01-01T00:00:01Z: more than 1h ahead";
    assert_eq!(letter.error, error);
    assert!(String::from_utf8_lossy(&letter.payload).contains("2026-01-01T01:00:01.001Z"));
    // An hour is allowed; a record that does not say when it was written may say anything.
    engine.push(0, &batch(&rows[3..])).unwrap();
    let closed = engine.close(&[view]).unwrap();
    assert_eq!((closed.counters.windowed, closed.counters.future), (4, 1));
    assert_eq!(closed.rows.len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn which_rows_these_are_does_not_depend_on_batches_or_restarts(
        ahead in proptest::collection::vec(prop_oneof![4 => -20_000..20_000_i64, 1 => HOUR - 2..HOUR + 3, 1 => HOUR..9 * HOUR], 1..60),
        size in 1..16_usize,
        restart_after in 0..60_usize,
    ) {
        let rows: Vec<Row> = (0..).zip(&ahead).map(|(n, ahead)| (n, Some(START + n * 7000), *ahead)).collect();
        let all = outcome(&rows, usize::MAX >> 1, usize::MAX);
        prop_assert_eq!(all.counters.future, ahead.iter().filter(|ahead| **ahead > HOUR).count() as u64);
        let other = outcome(&rows, size, restart_after);
        prop_assert_eq!(&other.rows, &all.rows);
        prop_assert_eq!(&other.dead_letters, &all.dead_letters);
        prop_assert_eq!(other.counters, all.counters);
    }
}
