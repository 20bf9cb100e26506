//! Session windows against an oracle that sorts all rows and cuts them where the gap is.

use proptest::prelude::*;

use super::shapes::{Row, dealt, feedings, plan, rows, sample};
use super::*;

const GAPS: [(&str, i64); 4] = [("3 seconds", 3), ("10 seconds", 10), ("7 seconds", 7), ("1 minute", 60)];

fn sessions(gap: &str) -> Arc<Plan> {
    plan(&format!(
        "SELECT service, window.start AS window_start, window.end AS window_end, n, x, y, spread, p FROM (
        SELECT service, session(INTERVAL '{gap}') AS window, count(*) AS n, sum(x) AS x, sum(y) AS y,
            stddev(y) AS spread, approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY y) AS p
        FROM t WHERE flag IS NOT NULL GROUP BY service, window)"
    ))
}

/// `(service, start, end, rows)` of each session, in seconds.
fn expected(rows: &[Row], gap: i64) -> Vec<(String, i64, i64, u64)> {
    let mut by_service = BTreeMap::<u8, Vec<i64>>::new();
    for row in rows.iter().filter(|row| row.flag.is_some()) {
        by_service.entry(row.service).or_default().push(row.at);
    }
    let mut all = Vec::new();
    for (service, mut times) in by_service {
        times.sort_unstable();
        for part in times.chunk_by(|a, b| b < &(a + gap)) {
            all.push((format!("s{service}"), part[0], part[part.len() - 1] + gap, part.len() as u64));
        }
    }
    all.sort();
    all
}

fn found(outcome: &Outcome) -> Vec<(String, i64, i64, u64)> {
    let seconds =
        |value: &serde_json::Value| chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap().timestamp();
    let row = |json: &String| {
        let row: serde_json::Value = serde_json::from_str(json).unwrap();
        let service = row["service"].as_str().unwrap().to_owned();
        (service, seconds(&row["window_start"]), seconds(&row["window_end"]), row["n"].as_u64().unwrap())
    };
    let mut all: Vec<_> = outcome.rows.values().map(row).collect();
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn sessions_are_cut_where_the_gap_is(
        rows in rows(), partitions in 1_usize..9, feeding in feedings(), gap in prop::sample::select(&GAPS[..]),
    ) {
        let plan = sessions(gap.0);
        let input = dealt(&rows, partitions);
        let outcome = feed(&plan, &input, &feeding);
        prop_assert_eq!(outcome.counters.late, 0);
        prop_assert_eq!(found(&outcome), expected(&rows, gap.1));
        prop_assert_eq!(outcome.text(), feed(&plan, &input, &Feeding::plain()).text());
    }
}

/// Far more rows than a session's parts, so that parts are merged; with late rows, which the watermark decides.
#[test]
fn bytes_of_sessions_do_not_depend_on_batches_epochs_interleaving_or_restarts() {
    let mut rows = sample();
    for (place, row) in rows.iter_mut().enumerate() {
        if place % 29 == 28 {
            row.at -= 80;
        }
    }
    for (gap, _) in GAPS {
        let plan = sessions(gap);
        for partitions in [1, 2, 3, 8] {
            let input = dealt(&rows, partitions);
            let expected = feed(&plan, &input, &Feeding::plain());
            assert!(expected.counters.late > 3);
            for (batch, restart_every) in [(1, None), (7, Some(1)), (32, Some(1)), (512, None), (7, Some(3))] {
                let feeding = Feeding { batch, epoch: 3, restart_every, turns: vec![5, 0, 3, 3, 1, 7, 2] };
                let outcome = feed(&plan, &input, &feeding);
                assert_eq!(outcome.text(), expected.text(), "{gap}, {partitions} partitions, {feeding:?}");
                assert_eq!(outcome.dead_letters, expected.dead_letters, "{gap}, {partitions} partitions");
                let counters = Counters { rows_out: 0, ..outcome.counters };
                assert_eq!(counters, Counters { rows_out: 0, ..expected.counters });
            }
        }
    }
}

#[test]
fn rows_a_gap_apart_are_in_two_sessions() {
    let row = |at: i64| Row { at, service: 0, order: at, x: None, y: None, flag: Some(true), word: None };
    let outcome = feed(&sessions("10 seconds"), &dealt(&[row(5), row(14), row(24), row(40)], 1), &Feeding::plain());
    let session = |start, end, n| ("s0".to_owned(), start, end, n);
    assert_eq!(found(&outcome), [session(5, 24, 2), session(24, 34, 1), session(40, 50, 1)]);
}

#[test]
fn a_session_is_written_soon_after_the_watermark_has_passed_it() {
    let plan = sessions("8 seconds");
    let mut engine = Engine::new(plan, None).unwrap();
    let mut written = |offset: i64, at: i64| {
        let row = Row { at, service: 0, order: 0, x: None, y: None, flag: Some(true), word: None };
        let mut batch = RawBatch::new("t".into(), 0);
        batch.push(offset, None, Some(row.line().as_bytes()));
        engine.push(0, &batch).unwrap();
        engine.close(&[PartitionView { known: &[0], ..PartitionView::default() }]).unwrap().rows.len()
    };
    // The watermark is 30 seconds behind; the session [1, 9) is complete at the end of its last pane, which is 10.
    assert_eq!(written(0, 1), 0);
    assert_eq!(written(1, 39), 0);
    assert_eq!(written(2, 40), 1);
}
