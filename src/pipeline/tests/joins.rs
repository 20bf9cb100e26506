//! Several aggregations in one query: joins, unions, two sources, numbered rows, each against an oracle.

use proptest::prelude::*;
use serde_json::Value;

use super::shapes::{Row, TABLES, dealt, feedings, found, plan, rows, sample};
use super::*;

const WINDOWS: [(&str, i64, i64); 3] = [
    ("tumble(INTERVAL '10 seconds')", 10, 10),
    ("hop(INTERVAL '5 seconds', INTERVAL '15 seconds')", 5, 15),
    ("hop(INTERVAL '2 seconds', INTERVAL '30 seconds')", 2, 30),
];

/// The tables of the other shapes, and a second source `u` of the same columns.
fn two_sources(query: &str) -> Arc<Plan> {
    let second = TABLES.split("CREATE TABLE features").next().unwrap();
    let second = second.replace("TABLE t (", "TABLE u (").replace("topic = 't'", "topic = 'u'");
    match compile(&format!("{second}{TABLES}{query};")) {
        Ok(plan) => Arc::new(plan),
        Err(error) => panic!("{error}"),
    }
}

/// Rows by window start and service.
fn counts(rows: &[Row], slide: i64, width: i64) -> BTreeMap<(i64, String), i64> {
    let mut counts = BTreeMap::new();
    for row in rows {
        let pane = row.at.div_euclid(slide) * slide;
        for step in 0..width / slide {
            *counts.entry((pane - step * slide, format!("s{}", row.service))).or_default() += 1;
        }
    }
    counts
}

fn join_query(kind: &str, window: &str, on_window: bool) -> String {
    let and_window = if on_window { "AND a.window = b.window" } else { "" };
    format!(
        "SELECT coalesce(a.service, b.service) AS service,
            coalesce(a.window.start, b.window.start) AS window_start, coalesce(a.window.end, b.window.end) AS window_end,
            a.n AS left_n, b.n AS right_n,
            CASE WHEN a.n IS NULL THEN 'right' WHEN b.n IS NULL THEN 'left' ELSE 'both' END AS metric
        FROM (SELECT service, {window} AS window, count(*) AS n FROM t GROUP BY service, window) AS a
        {kind} JOIN (SELECT service, {window} AS window, count(*) AS n FROM u GROUP BY service, window) AS b
        ON a.service = b.service {and_window} AND a.n + b.n > 2"
    )
}

type Pair = (Option<i64>, Option<i64>);

/// What a join of the counts of two inputs comes to.
fn joined(
    kind: &str,
    left: &BTreeMap<(i64, String), i64>,
    right: &BTreeMap<(i64, String), i64>,
) -> Vec<((i64, String), Pair)> {
    let (keeps_left, keeps_right) = (matches!(kind, "LEFT" | "FULL"), matches!(kind, "RIGHT" | "FULL"));
    let mut all = Vec::new();
    for (key, n) in left {
        match right.get(key).filter(|other| n + *other > 2) {
            Some(other) => all.push((key.clone(), (Some(*n), Some(*other)))),
            None if keeps_left => all.push((key.clone(), (Some(*n), None))),
            None => {}
        }
    }
    for (key, n) in right {
        if keeps_right && left.get(key).is_none_or(|other| n + *other <= 2) {
            all.push((key.clone(), (None, Some(*n))));
        }
    }
    all.sort();
    all
}

/// All rows, also several of one window and service.
fn pairs(outcome: &[OutRow]) -> Vec<((i64, String), Pair)> {
    let row = |row: &OutRow| {
        let json: Value = serde_json::from_slice(&row.json).unwrap();
        let key = (row.window_start.millis() / 1000, String::from_utf8(row.key.clone()).unwrap());
        (key, (json["left_n"].as_i64(), json["right_n"].as_i64()))
    };
    let mut all: Vec<_> = outcome.iter().map(row).collect();
    all.sort();
    all
}

/// Everything in one batch a partition, all rows in the order in which they came out.
fn all_rows(plan: &Arc<Plan>, inputs: &[&Input]) -> Vec<OutRow> {
    let mut engine = Engine::new(plan.clone(), None).unwrap();
    let known: Vec<Vec<i32>> = inputs.iter().map(|input| (0..).take(input.len()).collect()).collect();
    for (source, input) in inputs.iter().enumerate() {
        for (id, lines) in (0..).zip(*input) {
            let mut batch = RawBatch::new("input".into(), id);
            (0..).zip(lines).for_each(|(offset, line)| batch.push(offset, None, Some(line.as_bytes())));
            engine.push(source, &batch).unwrap();
        }
    }
    let view = |known| PartitionView { known, ended: known, all_ended: true, ..PartitionView::default() };
    engine.close(&known.iter().map(|known| view(known)).collect::<Vec<_>>()).unwrap().rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn joins_are_those_of_the_windows_of_both_sides(
        left in rows(), right in rows(), partitions in (1_usize..5, 1_usize..5), feeding in feedings(),
        kind in prop::sample::select(vec!["INNER", "LEFT", "RIGHT", "FULL"]),
        window in prop::sample::select(&WINDOWS[..]), on_window in any::<bool>(),
    ) {
        let (window, slide, width) = window;
        let plan = two_sources(&join_query(kind, window, on_window));
        prop_assert_eq!(plan.sources.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["t", "u"]);
        let inputs = [&dealt(&left, partitions.0), &dealt(&right, partitions.1)];
        let expected = joined(kind, &counts(&left, slide, width), &counts(&right, slide, width));
        prop_assert_eq!(pairs(&all_rows(&plan, &inputs)), expected);
        let outcome = feed_all(&plan, &inputs, &feeding);
        prop_assert_eq!(outcome.counters.windowed as usize, left.len() + right.len());
        prop_assert_eq!(outcome.text(), feed_all(&plan, &inputs, &Feeding::plain()).text());
    }
}

#[test]
fn a_join_writes_the_same_bytes_however_its_sources_are_read() {
    let (left, right) = (sample(), sample().into_iter().skip(40).step_by(3).collect::<Vec<_>>());
    for kind in ["INNER", "LEFT", "RIGHT", "FULL"] {
        let plan = two_sources(&join_query(kind, WINDOWS[1].0, true));
        for partitions in 1..=8 {
            let inputs = [&dealt(&left, partitions), &dealt(&right, 9 - partitions)];
            let expected = feed_all(&plan, &inputs, &Feeding::plain());
            for (batch, restart_every) in [(1, None), (7, Some(1)), (32, Some(1)), (512, Some(1))] {
                let feeding = Feeding { batch, epoch: 3, restart_every, turns: vec![5, 0, 3, 8, 1, 7, 2] };
                let outcome = feed_all(&plan, &inputs, &feeding);
                assert_eq!(outcome.text(), expected.text(), "{kind}, {partitions} partitions, {feeding:?}");
                let counters = Counters { rows_out: 0, ..outcome.counters };
                assert_eq!(counters, Counters { rows_out: 0, ..expected.counters });
            }
        }
    }
}

/// NULL equals nothing, several partners are several rows, and a row without a partner is there once.
#[test]
fn null_keys_and_several_partners() {
    let row = |service, word| Row { at: 1, service, order: 0, x: None, y: None, flag: None, word };
    let query = "SELECT coalesce(a.service, b.service) AS service, coalesce(a.window.start, b.window.start) AS window_start,
            coalesce(a.window.end, b.window.end) AS window_end, a.n AS left_n, b.n AS right_n
        FROM (SELECT service, word, tumble(INTERVAL '10 seconds') AS window, count(*) AS n FROM t GROUP BY service, word, window) AS a
        FULL JOIN (SELECT service, word, tumble(INTERVAL '10 seconds') AS window, count(*) + 10 AS n FROM u GROUP BY service, word, window) AS b
        ON a.word = b.word";
    let left = vec![row(0, Some(1)), row(1, Some(1)), row(2, None), row(0, Some(5))];
    let right = vec![row(0, Some(1)), row(1, Some(1)), row(2, None)];
    let rows = all_rows(&two_sources(query), &[&dealt(&left, 1), &dealt(&right, 1)]);
    let pair = |service: &str, left, right| ((0, service.to_owned()), (left, right));
    let expected = [
        pair("s0", Some(1), None),
        pair("s0", Some(1), Some(11)),
        pair("s0", Some(1), Some(11)),
        pair("s1", Some(1), Some(11)),
        pair("s1", Some(1), Some(11)),
        pair("s2", None, Some(11)),
        pair("s2", Some(1), None),
    ];
    assert_eq!(pairs(&rows), expected);
}

/// Nexmark's fifth query: what was called most in each window, from one source that is read once.
#[test]
fn a_join_of_an_aggregation_with_an_aggregation_over_it() {
    let (window, slide, width) = WINDOWS[1];
    let counted = format!("SELECT service, {window} AS window, count(*) AS n FROM t GROUP BY service, window");
    let plan = plan(&format!(
        "WITH counted AS ({counted})
        SELECT a.service AS service, a.window.start AS window_start, a.window.end AS window_end, a.n AS n
        FROM counted AS a JOIN (SELECT window, max(n) AS most FROM counted GROUP BY window) AS b
        ON a.n = b.most AND a.window = b.window"
    ));
    assert_eq!((plan.sources.len(), plan.inputs.len()), (1, 1), "the same aggregation is made once");
    let outcome = feed(
        &plan,
        &dealt(&sample(), 3),
        &Feeding { batch: 7, epoch: 2, restart_every: Some(2), turns: vec![0, 2, 1] },
    );
    let counts = counts(&sample(), slide, width);
    let most = |start: i64| counts.iter().filter(|((at, _), _)| *at == start).map(|(_, n)| *n).max();
    let expected: BTreeMap<_, _> =
        counts.iter().filter(|((start, _), n)| most(*start) == Some(**n)).map(|(k, n)| (k.clone(), *n)).collect();
    let found: BTreeMap<_, _> =
        found(&outcome).into_iter().map(|(key, row)| (key, row["n"].as_i64().unwrap())).collect();
    assert_eq!(found, expected);
    assert_eq!(outcome.counters.windowed as usize, sample().len());
}

#[test]
fn a_union_below_the_aggregation_reads_both_sources() {
    let (left, right) = (sample(), sample().into_iter().skip(10).step_by(2).collect::<Vec<_>>());
    let (window, slide, width) = WINDOWS[1];
    let plan = two_sources(&format!(
        "SELECT service, window.start AS window_start, window.end AS window_end, n FROM (
            SELECT service, {window} AS window, count(*) AS n
            FROM (SELECT service FROM t WHERE word IS NOT NULL UNION ALL SELECT service FROM u) GROUP BY service, window)"
    ));
    let inputs = [&dealt(&left, 3), &dealt(&right, 2)];
    let outcome =
        feed_all(&plan, &inputs, &Feeding { batch: 7, epoch: 3, restart_every: Some(1), turns: vec![0, 4, 2] });
    let kept: Vec<Row> = left.iter().filter(|row| row.word.is_some()).chain(&right).cloned().collect();
    let found: BTreeMap<_, _> =
        found(&outcome).into_iter().map(|(key, row)| (key, row["n"].as_i64().unwrap())).collect();
    assert_eq!(found, counts(&kept, slide, width));
    let Counters { read, windowed, filtered, .. } = outcome.counters;
    assert_eq!(
        (read as usize, windowed as usize, filtered as usize),
        (left.len() + right.len(), kept.len(), left.len() - left.iter().filter(|row| row.word.is_some()).count())
    );
}

#[test]
fn a_union_of_windowed_queries_writes_the_rows_of_both() {
    let (window, slide, width) = WINDOWS[0];
    let part = |service: &str, from: &str| {
        format!(
            "SELECT {service} AS service, window.start AS window_start, window.end AS window_end, n FROM (
            SELECT service, {window} AS window, count(*) AS n FROM {from} GROUP BY service, window)"
        )
    };
    let (left, right) = (sample(), sample().into_iter().skip(70).collect::<Vec<_>>());
    let plan = two_sources(&format!("{} UNION ALL {}", part("service", "t"), part("concat('u-', service)", "u")));
    let inputs = [&dealt(&left, 2), &dealt(&right, 3)];
    let outcome =
        feed_all(&plan, &inputs, &Feeding { batch: 5, epoch: 3, restart_every: Some(2), turns: vec![3, 0, 4, 2] });
    let mut expected = counts(&left, slide, width);
    expected.extend(
        counts(&right, slide, width).into_iter().map(|((start, service), n)| ((start, format!("u-{service}")), n)),
    );
    let found: BTreeMap<_, _> =
        found(&outcome).into_iter().map(|(key, row)| (key, row["n"].as_i64().unwrap())).collect();
    assert_eq!(found, expected);
}

/// A record that fails for one input is in no other.
#[test]
fn a_row_that_fails_in_one_input_counts_in_none() {
    let window = WINDOWS[0].0;
    let plan = plan(&format!(
        "SELECT a.service AS service, a.window.start AS window_start, a.window.end AS window_end, a.n AS n, b.v AS v
        FROM (SELECT service, {window} AS window, count(*) AS n FROM t GROUP BY service, window) AS a
        LEFT JOIN (SELECT service, {window} AS window, sum(100 / x) AS v FROM t GROUP BY service, window) AS b
        ON a.service = b.service AND a.window = b.window"
    ));
    let zeros = sample().iter().filter(|row| row.x == Some(0)).count();
    assert!(zeros > 3);
    let outcome = feed(
        &plan,
        &dealt(&sample(), 2),
        &Feeding { batch: 9, epoch: 2, restart_every: Some(2), turns: vec![1, 0, 0] },
    );
    assert_eq!(
        (outcome.counters.expression as usize, outcome.counters.windowed as usize),
        (zeros, sample().len() - zeros)
    );
    let kept: Vec<Row> = sample().into_iter().filter(|row| row.x != Some(0)).collect();
    let found: BTreeMap<_, _> =
        found(&outcome).into_iter().map(|(key, row)| (key, row["n"].as_i64().unwrap())).collect();
    assert_eq!(found, counts(&kept, 10, 10));
}

/// The two services with most rows of each window, by their number of rows, then by name.
#[test]
fn the_top_of_each_window() {
    let (window, slide, width) = WINDOWS[1];
    let plan = plan(&format!(
        "SELECT service, window_start, window_end, n, place FROM (
            SELECT service, window.start AS window_start, window.end AS window_end, n,
                ROW_NUMBER() OVER (PARTITION BY window ORDER BY n DESC) AS place
            FROM (SELECT service, {window} AS window, count(*) AS n FROM t GROUP BY service, window))
        WHERE place <= 2"
    ));
    let feeding = Feeding { batch: 7, epoch: 2, restart_every: Some(2), turns: vec![0, 2, 1] };
    let outcome = feed(&plan, &dealt(&sample(), 3), &feeding);
    let mut by_window = BTreeMap::<i64, Vec<(i64, String)>>::new();
    for ((start, service), n) in counts(&sample(), slide, width) {
        by_window.entry(start).or_default().push((-n, service));
    }
    let mut expected = BTreeMap::new();
    for (start, mut services) in by_window {
        services.sort();
        for (place, (n, service)) in services.into_iter().take(2).enumerate() {
            expected.insert((start, service), (-n, place as i64 + 1));
        }
    }
    let found: BTreeMap<_, _> = found(&outcome)
        .into_iter()
        .map(|(key, row)| (key, (row["n"].as_i64().unwrap(), row["place"].as_i64().unwrap())))
        .collect();
    assert_eq!(found, expected);
}

/// While the side that a join keeps brings nothing, nobody knows what happened: windows wait, and are a gap afterwards.
#[test]
fn a_join_waits_for_the_side_that_it_keeps_and_not_for_the_other() {
    let line = |at: i64| Row { at, service: 0, order: 0, x: None, y: None, flag: None, word: None }.line();
    for (kind, silent, waits) in [("LEFT", 0, true), ("LEFT", 1, false), ("INNER", 1, true), ("FULL", 1, false)] {
        let plan = two_sources(&join_query(kind, WINDOWS[0].0, true));
        let mut engine = Engine::new(plan, None).unwrap();
        let (mut offset, mut watermark) = (0, None);
        let mut step = |engine: &mut Engine, sources: &[usize], at: i64, idle: Option<usize>| {
            for source in sources {
                let mut batch = RawBatch::new("t".into(), 0);
                batch.push(offset, None, Some(line(at).as_bytes()));
                engine.push(*source, &batch).unwrap();
            }
            offset += 1;
            let view = |source| {
                let is_idle = idle == Some(source);
                PartitionView {
                    known: &[0],
                    idle: if is_idle { &[0] } else { &[] },
                    silent: is_idle,
                    ..PartitionView::default()
                }
            };
            let progress = engine.close(&[view(0), view(1)]).unwrap().progress;
            watermark = progress.as_ref().map(|note| note.watermark.millis() / 1000).or(watermark);
            (watermark, progress.and_then(|note| note.gap).map(|(from, to)| (from.millis() / 1000, to.millis() / 1000)))
        };
        assert_eq!(step(&mut engine, &[0, 1], 45, None), (Some(10), None));
        let expected = if waits { Some(10) } else { Some(300) };
        assert_eq!(step(&mut engine, &[1 - silent], 335, Some(silent)).0, expected, "{kind}, {silent} is silent");
        let gap = waits.then_some((15, 630));
        assert_eq!(step(&mut engine, &[0, 1], 635, None), (Some(600), gap), "{kind}, {silent} was silent");
    }
}
