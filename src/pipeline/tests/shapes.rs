//! Each shape of the profile against an oracle that knows nothing of SQL; the same bytes however the input is fed.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::RELATIVE_ACCURACY;

/// One record of the source. `order` is different in each row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) at: i64,
    pub(super) service: u8,
    pub(super) order: i64,
    pub(super) x: Option<i64>,
    pub(super) y: Option<f64>,
    pub(super) flag: Option<bool>,
    pub(super) word: Option<u8>,
}

impl Row {
    pub(super) fn line(&self) -> String {
        serde_json::json!({
            "at": self.at, "service": format!("s{}", self.service), "o": self.order, "x": self.x, "y": self.y,
            "flag": self.flag, "word": self.word.map(word),
        })
        .to_string()
    }
}

fn word(n: u8) -> String {
    format!("w{n}")
}

pub(super) const TABLES: &str = "
CREATE TABLE t (
    at BIGINT NOT NULL, service TEXT NOT NULL, o BIGINT NOT NULL, x BIGINT, y DOUBLE, flag BOOLEAN, word TEXT,
    ts TIMESTAMP NOT NULL GENERATED ALWAYS AS (to_timestamp(at)),
    WATERMARK FOR ts AS coalesce(to_timestamp(at), TIMESTAMP '1970-01-01 00:00:00') - INTERVAL '30 seconds'
) WITH (connector = 'kafka', type = 'source', topic = 't', format = 'json');
CREATE TABLE features WITH (connector = 'kafka', type = 'sink', topic = 'features', format = 'json');
INSERT INTO features ";

#[track_caller]
pub(super) fn plan(query: &str) -> Arc<Plan> {
    match compile(&format!("{TABLES}{query};")) {
        Ok(plan) => Arc::new(plan),
        Err(error) => panic!("{error}"),
    }
}

/// A window and its slide and width in seconds.
const WINDOWS: [(&str, i64, i64); 6] = [
    ("tumble(INTERVAL '10 seconds')", 10, 10),
    ("hop(INTERVAL '10 seconds', INTERVAL '10 seconds')", 10, 10),
    ("hop(INTERVAL '5 seconds', INTERVAL '15 seconds')", 5, 15),
    ("hop(INTERVAL '2 seconds', INTERVAL '10 seconds')", 2, 10),
    ("hop(INTERVAL '30 seconds', INTERVAL '1 minute')", 30, 60),
    ("hop(INTERVAL '2 seconds', INTERVAL '30 seconds')", 2, 30),
];

/// What a value has to be.
#[derive(Debug)]
enum Expected {
    Null,
    Exactly(Value),
    /// Within an error relative to the value, or to 1 where that is more.
    About(f64, f64),
    /// No convention is worth holding to, such as the correlation of equal values.
    Any,
}

impl Expected {
    fn matches(&self, found: &Value) -> bool {
        match self {
            Self::Null => found.is_null(),
            Self::Exactly(value) => found == value,
            Self::About(value, error) => {
                found.as_f64().is_some_and(|found| (found - value).abs() <= error * value.abs().max(1.0))
            }
            Self::Any => true,
        }
    }
}

type Oracle = fn(&[&Row]) -> Expected;

const CLOSE: f64 = 1e-9;

fn exactly(value: Option<impl Into<Value>>) -> Expected {
    value.map_or(Expected::Null, |value| Expected::Exactly(value.into()))
}

fn about(value: Option<f64>) -> Expected {
    value.map_or(Expected::Null, |value| Expected::About(value, CLOSE))
}

fn xs(rows: &[&Row]) -> Vec<i64> {
    rows.iter().filter_map(|row| row.x).collect()
}

fn ys(rows: &[&Row]) -> Vec<f64> {
    rows.iter().filter_map(|row| row.y).collect()
}

fn distinct<T: Ord>(values: impl Iterator<Item = T>) -> std::collections::BTreeSet<T> {
    values.collect()
}

fn sum(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum())
}

fn mean(values: &[f64]) -> Option<f64> {
    sum(values).map(|sum| sum / values.len() as f64)
}

/// Sum of the products of deviations.
fn deviations(a: &[f64], b: &[f64]) -> Option<f64> {
    let (mean_a, mean_b) = (mean(a)?, mean(b)?);
    Some(a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum())
}

fn variance(values: &[f64], less: usize) -> Option<f64> {
    let n = values.len().checked_sub(less).filter(|n| *n > 0)?;
    deviations(values, values).map(|sum| sum / n as f64)
}

/// `y` and `x` of rows that have both.
fn pairs(rows: &[&Row]) -> (Vec<f64>, Vec<f64>) {
    rows.iter().filter_map(|row| Some((row.y?, row.x? as f64))).unzip()
}

/// A figure of `y` against `x`, where each has two values at least.
fn regression(rows: &[&Row], of: fn(&[f64], &[f64]) -> Option<f64>) -> Expected {
    let (y, x) = pairs(rows);
    let constant = |values: &[f64]| values.iter().all(|value| *value == values[0]);
    if constant(&y) || constant(&x) {
        return Expected::Any;
    }
    of(&y, &x).map_or(Expected::Any, |value| Expected::About(value, 1e-7))
}

fn slope(y: &[f64], x: &[f64]) -> Option<f64> {
    Some(deviations(x, y)? / deviations(x, x)?)
}

fn correlation(y: &[f64], x: &[f64]) -> Option<f64> {
    Some(deviations(x, y)? / (deviations(x, x)? * deviations(y, y)?).sqrt())
}

fn quantile(rows: &[&Row], q: f64) -> Expected {
    let mut values = ys(rows);
    values.sort_by(f64::total_cmp);
    let at = values.len().checked_sub(1).map(|last| (q * last as f64).floor() as usize);
    at.map_or(Expected::Null, |at| Expected::About(values[at], RELATIVE_ACCURACY))
}

const AGGREGATES: [(&str, Oracle); 46] = [
    ("count(*)", |rows| exactly(Some(rows.len()))),
    ("count(x)", |rows| exactly(Some(xs(rows).len()))),
    ("count(*) FILTER (WHERE x > 3)", |rows| exactly(Some(xs(rows).iter().filter(|x| **x > 3).count()))),
    ("count(DISTINCT x)", |rows| exactly(Some(distinct(rows.iter().filter_map(|row| row.x)).len()))),
    ("count(DISTINCT word)", |rows| exactly(Some(distinct(rows.iter().filter_map(|row| row.word)).len()))),
    ("count(DISTINCT y)", |rows| exactly(Some(distinct(ys(rows).iter().map(|y| y.to_bits())).len()))),
    ("count(DISTINCT x) FILTER (WHERE flag)", |rows| {
        exactly(Some(distinct(rows.iter().filter(|row| row.flag == Some(true)).filter_map(|row| row.x)).len()))
    }),
    ("sum(x)", |rows| exactly(Some(xs(rows)).filter(|x| !x.is_empty()).map(|x| x.iter().sum::<i64>()))),
    ("sum(DISTINCT x)", |rows| {
        let x = distinct(rows.iter().filter_map(|row| row.x));
        exactly((!x.is_empty()).then(|| x.iter().sum::<i64>()))
    }),
    ("sum(y)", |rows| about(sum(&ys(rows)))),
    ("sum(y) FILTER (WHERE flag)", |rows| {
        about(sum(&rows.iter().filter(|row| row.flag == Some(true)).filter_map(|row| row.y).collect::<Vec<_>>()))
    }),
    ("avg(y)", |rows| about(mean(&ys(rows)))),
    ("mean(x)", |rows| about(mean(&xs(rows).iter().map(|x| *x as f64).collect::<Vec<_>>()))),
    ("min(x)", |rows| exactly(xs(rows).into_iter().min())),
    ("max(x)", |rows| exactly(xs(rows).into_iter().max())),
    ("max(y)", |rows| exactly(ys(rows).into_iter().max_by(f64::total_cmp))),
    ("min(word)", |rows| exactly(rows.iter().filter_map(|row| row.word.map(word)).min())),
    ("max(CAST(flag AS INT))", |rows| exactly(rows.iter().filter_map(|row| row.flag.map(i64::from)).max())),
    ("stddev(y)", |rows| about(variance(&ys(rows), 1).map(f64::sqrt))),
    ("stddev_samp(y)", |rows| about(variance(&ys(rows), 1).map(f64::sqrt))),
    ("stddev_pop(y)", |rows| about(variance(&ys(rows), 0).map(f64::sqrt))),
    ("var_samp(y)", |rows| about(variance(&ys(rows), 1))),
    ("var_pop(y)", |rows| about(variance(&ys(rows), 0))),
    ("bool_and(flag)", |rows| exactly(rows.iter().filter_map(|row| row.flag).reduce(|a, b| a && b))),
    ("bool_or(flag)", |rows| exactly(rows.iter().filter_map(|row| row.flag).reduce(|a, b| a || b))),
    ("bit_and(x)", |rows| exactly(xs(rows).into_iter().reduce(|a, b| a & b))),
    ("bit_or(x)", |rows| exactly(xs(rows).into_iter().reduce(|a, b| a | b))),
    ("bit_xor(x)", |rows| exactly(xs(rows).into_iter().reduce(|a, b| a ^ b))),
    ("first_value(x ORDER BY o)", |rows| exactly(rows.iter().min_by_key(|row| row.order).and_then(|row| row.x))),
    ("last_value(word ORDER BY o)", |rows| {
        exactly(rows.iter().max_by_key(|row| row.order).and_then(|row| row.word.map(word)))
    }),
    ("first_value(o ORDER BY service, o DESC)", |rows| exactly(rows.iter().map(|row| row.order).max())),
    ("approx_distinct(x)", |rows| Expected::About(distinct(rows.iter().filter_map(|row| row.x)).len() as f64, 0.05)),
    ("approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY y)", |rows| quantile(rows, 0.5)),
    ("approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY y)", |rows| quantile(rows, 0.99)),
    ("approx_percentile_cont(0.75) WITHIN GROUP (ORDER BY y DESC)", |rows| quantile(rows, 0.25)),
    ("approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY y) FILTER (WHERE flag)", |rows| {
        quantile(&rows.iter().filter(|row| row.flag == Some(true)).copied().collect::<Vec<_>>(), 0.5)
    }),
    ("corr(y, x)", |rows| regression(rows, correlation)),
    ("covar_samp(y, x)", |rows| regression(rows, |y, x| Some(deviations(x, y)? / (x.len() - 1) as f64))),
    ("covar_pop(y, x)", |rows| regression(rows, |y, x| Some(deviations(x, y)? / x.len() as f64))),
    ("regr_slope(y, x)", |rows| regression(rows, slope)),
    ("regr_intercept(y, x)", |rows| regression(rows, |y, x| Some(mean(y)? - slope(y, x)? * mean(x)?))),
    ("regr_r2(y, x)", |rows| regression(rows, |y, x| correlation(y, x).map(|r| r * r))),
    ("regr_count(y, x)", |rows| exactly(Some(pairs(rows).0.len()))),
    ("regr_avgx(y, x)", |rows| regression(rows, |_, x| mean(x))),
    ("regr_avgy(y, x)", |rows| regression(rows, |y, _| mean(y))),
    ("regr_sxy(y, x)", |rows| regression(rows, |y, x| deviations(x, y))),
];

/// Every aggregate, by service and window.
fn aggregates(window: &str) -> String {
    let outer: String = (0..AGGREGATES.len()).map(|index| format!(", a{index}")).collect();
    let named = AGGREGATES.iter().enumerate();
    let inner: String = named.map(|(index, (call, _))| format!(", {call} AS a{index}")).collect();
    format!(
        "SELECT service, window.start AS window_start, window.end AS window_end{outer}
        FROM (SELECT service, {window} AS window{inner} FROM t GROUP BY service, window)"
    )
}

/// Rows of each window, by its start in seconds.
fn by_window(rows: &[Row], slide: i64, width: i64) -> BTreeMap<i64, Vec<&Row>> {
    let mut windows = BTreeMap::<i64, Vec<&Row>>::new();
    for row in rows {
        let pane = row.at.div_euclid(slide) * slide;
        for step in 0..width / slide {
            windows.entry(pane - step * slide).or_default().push(row);
        }
    }
    windows
}

/// Rows that came out, by window start in seconds and key.
pub(super) fn found(outcome: &Outcome) -> BTreeMap<(i64, String), Value> {
    let row = |((start, key, _), json): (&(i64, Vec<u8>, String), &String)| {
        ((start / 1000, String::from_utf8(key.clone()).unwrap()), serde_json::from_str(json).unwrap())
    };
    outcome.rows.iter().map(row).collect()
}

/// Event time goes on with the place of the row; the disorder stays below the lateness.
pub(super) fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        0_i64..20,
        0_u8..3,
        prop::option::weighted(0.9, -20_i64..20),
        prop::option::weighted(0.9, -1000_i32..1000),
        prop::option::weighted(0.9, any::<bool>()),
        prop::option::weighted(0.9, 0_u8..8),
    );
    prop::collection::vec(row, 0..90).prop_map(|rows| {
        let row = |(place, (jump, service, x, y, flag, word)): (usize, (i64, u8, _, Option<i32>, _, _))| {
            let place = i64::try_from(place).unwrap();
            // A number of its own for each row, in no order.
            let order = (place * 7919) % 10_007;
            let y = y.map(|y| f64::from(y) / 7.0);
            Row { at: 1_000 + place * 3 / 2 + jump, service, order, x, y, flag, word }
        };
        rows.into_iter().enumerate().map(row).collect()
    })
}

/// Rows dealt out to partitions.
pub(super) fn dealt(rows: &[Row], partitions: usize) -> Input {
    let mut input: Input = vec![Vec::new(); partitions];
    rows.iter().enumerate().for_each(|(place, row)| input[place % partitions].push(row.line()));
    input
}

pub(super) fn feedings() -> impl Strategy<Value = Feeding> {
    (1_usize..40, 1_usize..5, prop::option::of(1_usize..3), prop::collection::vec(0_usize..8, 1..6))
        .prop_map(|(batch, epoch, restart_every, turns)| Feeding { batch, epoch, restart_every, turns })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn aggregates_are_those_of_the_rows_in_their_windows(
        rows in rows(), partitions in 1_usize..9, feeding in feedings(), window in prop::sample::select(&WINDOWS[..]),
    ) {
        let (window, slide, width) = window;
        let plan = plan(&aggregates(window));
        let input = dealt(&rows, partitions);
        let outcome = feed(&plan, &input, &feeding);
        prop_assert_eq!(outcome.counters.windowed as usize, rows.len());
        let mut found = found(&outcome);
        for (start, rows) in by_window(&rows, slide, width) {
            for service in 0..3 {
                let rows: Vec<&Row> = rows.iter().filter(|row| row.service == service).copied().collect();
                let row = found.remove(&(start, format!("s{service}")));
                prop_assert_eq!(row.is_some(), !rows.is_empty(), "window {} of s{}", start, service);
                let Some(row) = row else { continue };
                for (index, (call, oracle)) in AGGREGATES.iter().enumerate() {
                    let (expected, value) = (oracle(&rows), &row[format!("a{index}")]);
                    prop_assert!(expected.matches(value), "{}: {} for {:?} of {:?}", call, value, expected, rows);
                }
            }
        }
        prop_assert!(found.is_empty(), "windows without rows: {:?}", found);
        let undisturbed = feed(&plan, &input, &Feeding::plain());
        prop_assert_eq!(outcome.text(), undisturbed.text());
    }
}

/// A fixed input: four minutes of three services.
pub(super) fn sample() -> Vec<Row> {
    let row = |place: i64| {
        let noise = (place * 7919) % 10_007;
        Row {
            at: 1_000 + place * 4 / 5 + noise % 11,
            service: u8::try_from(noise % 3).unwrap(),
            order: noise,
            x: (noise % 13 != 0).then_some(noise % 40 - 20),
            y: (noise % 17 != 0).then_some(noise as f64 / 7.0),
            flag: (noise % 19 != 0).then_some(noise % 2 == 0),
            word: (noise % 23 != 0).then_some(u8::try_from(noise % 8).unwrap()),
        }
    };
    (0..300).map(row).collect()
}

#[test]
fn bytes_do_not_depend_on_batches_epochs_interleaving_or_restarts() {
    for (window, ..) in [WINDOWS[0], WINDOWS[2], WINDOWS[5]] {
        let plan = plan(&aggregates(window));
        for partitions in [1, 2, 3, 8] {
            let input = dealt(&sample(), partitions);
            let expected = feed(&plan, &input, &Feeding::plain());
            for (batch, restart_every) in [(1, None), (7, Some(1)), (32, Some(1)), (512, Some(1)), (7, Some(3))] {
                let feeding = Feeding { batch, epoch: 3, restart_every, turns: vec![5, 0, 3, 3, 1, 7, 2] };
                let outcome = feed(&plan, &input, &feeding);
                assert_eq!(outcome.text(), expected.text(), "{window}, {partitions} partitions, {feeding:?}");
                let counters = Counters { rows_out: 0, ..outcome.counters };
                assert_eq!(counters, Counters { rows_out: 0, ..expected.counters });
            }
        }
    }
}

#[test]
fn figures_do_not_depend_on_how_rows_are_dealt_to_partitions() {
    let plan = plan(&aggregates(WINDOWS[3].0));
    let expected = found(&feed(&plan, &dealt(&sample(), 1), &Feeding::plain()));
    for partitions in 2..=8 {
        let found = found(&feed(&plan, &dealt(&sample(), partitions), &Feeding::plain()));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (key, row) in &found {
            for (name, value) in row.as_object().unwrap() {
                let before = &expected[key][name];
                let near = before.as_f64().map(|before| Expected::About(before, CLOSE));
                assert!(value == before || near.is_some_and(|near| near.matches(value)), "{key:?} {name}");
            }
        }
    }
}

#[test]
fn every_window_that_overlaps_data_is_written_and_no_other() {
    let plan = plan(
        "SELECT service, window.start AS window_start, window.end AS window_end, n FROM (
        SELECT service, hop(INTERVAL '2 seconds', INTERVAL '10 seconds') AS window, count(*) AS n
        FROM t GROUP BY service, window)",
    );
    let row = |at: i64| Row { at, service: 0, order: at, x: None, y: None, flag: None, word: None };
    let second = |rows: Vec<Row>| -> Vec<(i64, u64)> {
        let found = found(&feed(&plan, &dealt(&rows, 1), &Feeding::plain()));
        found.into_iter().map(|((start, _), row)| (start, row["n"].as_u64().unwrap())).collect()
    };
    let twenty = second((0..20).map(row).collect());
    assert_eq!(twenty.len(), 14, "20 seconds of data, hop 2/10");
    assert_eq!((twenty[0], twenty[4], twenty[13]), ((-8, 2), (0, 10), (18, 2)));
    let apart = second(vec![row(1), row(101)]);
    let expected: Vec<(i64, u64)> =
        [-8, -6, -4, -2, 0, 92, 94, 96, 98, 100].into_iter().map(|start| (start, 1)).collect();
    assert_eq!(apart, expected);
}

#[test]
fn a_hop_by_its_width_is_a_tumble() {
    let text = |window: &str| feed(&plan(&aggregates(window)), &dealt(&sample(), 3), &Feeding::plain()).text();
    assert_eq!(text(WINDOWS[1].0), text(WINDOWS[0].0));
}

/// Counts by service and window, aggregated again within the window.
#[test]
fn an_aggregation_within_the_window_is_that_of_the_windows_rows() {
    let (window, slide, width) = WINDOWS[2];
    let inner =
        format!("SELECT service, {window} AS window, count(*) AS n, sum(x) AS x FROM t GROUP BY service, window");
    let (outer, values) = ("services, most, total", "count(*) AS services, max(n) AS most, sum(n) AS total");
    let queries = [
        format!(
            "SELECT 'all' AS service, window.start AS window_start, window.end AS window_end, {outer}, sum_x FROM (
            SELECT window, {values}, sum(x) AS sum_x FROM ({inner}) WHERE n > 1 GROUP BY window)"
        ),
        format!(
            "SELECT 'all' AS service, w.start AS window_start, w.end AS window_end, {outer}, sum_x FROM (
            SELECT {window} AS w, {values}, sum(x) AS sum_x FROM ({inner}) GROUP BY w, n > 1 HAVING max(n) > 1)"
        ),
    ];
    for query in queries {
        let plan = plan(&query);
        let outcome = feed(
            &plan,
            &dealt(&sample(), 3),
            &Feeding { batch: 7, epoch: 2, restart_every: Some(2), turns: vec![0, 2, 1] },
        );
        let mut found = found(&outcome);
        for (start, rows) in by_window(&sample(), slide, width) {
            let mut services = BTreeMap::<u8, Vec<&Row>>::new();
            rows.iter().for_each(|row| services.entry(row.service).or_default().push(row));
            services.retain(|_, rows| rows.len() > 1);
            let row = found.remove(&(start, "all".to_owned()));
            assert_eq!(row.is_some(), !services.is_empty(), "window {start}");
            let Some(row) = row else { continue };
            let x: i64 = services.values().flat_map(|rows| xs(rows)).sum();
            let counts = services.values().map(Vec::len);
            assert_eq!(row["services"], services.len(), "window {start}");
            assert_eq!(row["most"], counts.clone().max().unwrap(), "window {start}");
            assert_eq!(row["total"], counts.sum::<usize>(), "window {start}");
            assert_eq!(row["sum_x"], x, "window {start}");
        }
        assert!(found.is_empty());
    }
}

/// A union of branches over one source: counts by service and window, and how many rows met which fate.
#[track_caller]
fn united(branches: &str, keeps: fn(&Row) -> Vec<String>) -> Counters {
    let (window, slide, width) = WINDOWS[2];
    let plan = plan(&format!(
        "SELECT service, window.start AS window_start, window.end AS window_end, n FROM (
        SELECT service, {window} AS window, count(*) AS n, sum(v) AS v FROM ({branches}) GROUP BY service, window)"
    ));
    let input = dealt(&sample(), 3);
    let feeding = Feeding { batch: 7, epoch: 2, restart_every: Some(2), turns: vec![0, 2, 1] };
    let outcome = feed(&plan, &input, &feeding);
    assert_eq!(outcome.text(), feed(&plan, &input, &Feeding::plain()).text());
    let mut expected = BTreeMap::<(i64, String), u64>::new();
    for (start, rows) in by_window(&sample(), slide, width) {
        for service in rows.into_iter().flat_map(keeps) {
            *expected.entry((start, service)).or_default() += 1;
        }
    }
    let found: BTreeMap<_, _> =
        found(&outcome).into_iter().map(|(key, row)| (key, row["n"].as_u64().unwrap())).collect();
    assert_eq!(found, expected);
    outcome.counters
}

#[test]
fn a_union_aggregates_what_comes_out_of_each_branch_and_counts_a_row_once() {
    let all = sample().len() as u64;
    let of = |fits: fn(&Row) -> bool| sample().iter().filter(|row| fits(row)).count() as u64;
    let counters = united(
        "SELECT service, x AS v FROM t UNION ALL SELECT 'all' AS service, x FROM t UNION ALL SELECT 'all', -o FROM t WHERE flag",
        |row| {
            let mut keys = vec![format!("s{}", row.service), "all".to_owned()];
            keys.extend((row.flag == Some(true)).then(|| "all".to_owned()));
            keys
        },
    );
    assert_eq!((counters.read, counters.windowed), (all, all));
    let positive = |row: &Row| row.x.is_some_and(|x| x > 0);
    let counters = united(
        "SELECT service, v FROM (SELECT service, x AS v FROM t WHERE x > 0 UNION ALL SELECT service, x FROM t WHERE x > 9) AS u WHERE v <> 10",
        |row| {
            let x = row.x.unwrap_or_default();
            vec![format!("s{}", row.service); usize::from(x > 0 && x != 10) + usize::from(x > 10)]
        },
    );
    let windowed = of(|row| row.x.is_some_and(|x| x > 0 && x != 10));
    assert!(windowed < of(positive));
    assert_eq!((counters.windowed, counters.filtered), (windowed, all - windowed));
}

#[test]
fn a_row_that_fails_in_one_branch_counts_in_none() {
    let zeros = sample().iter().filter(|row| row.x == Some(0)).count() as u64;
    assert!(zeros > 0);
    for failing in [
        "SELECT 'all' AS service, 10 / x AS v FROM t WHERE x = 0",
        "SELECT 'all' AS service, x AS v FROM t WHERE 10 / x > 100",
    ] {
        let counters = united(&format!("SELECT service, x AS v FROM t UNION ALL {failing}"), |row| {
            if row.x == Some(0) {
                return Vec::new();
            }
            vec![format!("s{}", row.service)]
        });
        assert_eq!((counters.expression, counters.windowed), (zeros, sample().len() as u64 - zeros));
    }
}

/// Counts by service and window in seconds, against those of the rows that `key` gives a service.
#[track_caller]
fn counted(query: &str, (slide, width): (i64, i64), key: fn(&Row) -> Option<String>, least: u64) {
    let outcome = feed(&plan(query), &dealt(&sample(), 2), &Feeding { batch: 7, ..Feeding::plain() });
    let mut expected = BTreeMap::<(i64, String), u64>::new();
    for (start, rows) in by_window(&sample(), slide, width) {
        for service in rows.into_iter().filter_map(key) {
            *expected.entry((start, service)).or_default() += 1;
        }
    }
    expected.retain(|_, n| *n >= least);
    let found: BTreeMap<_, _> =
        found(&outcome).into_iter().map(|(key, row)| (key, row["n"].as_u64().unwrap())).collect();
    assert_eq!(found, expected);
}

#[test]
fn rows_are_filtered_and_keyed_by_expressions() {
    counted(
        "SELECT service, window.start AS window_start, window.end AS window_end, n FROM (
            SELECT CASE WHEN x > 0 THEN upper(service) ELSE concat('no-', word) END AS service,
                hop(INTERVAL '5 seconds', INTERVAL '20 seconds') AS window, count(*) AS n
            FROM t WHERE flag IS NOT NULL AND (x IS NULL OR x BETWEEN -15 AND 15)
            GROUP BY 1, window HAVING count(*) > 1)",
        (5, 20),
        |row| {
            row.flag?;
            match row.x {
                Some(x) if !(-15..=15).contains(&x) => None,
                Some(x) if x > 0 => Some(format!("S{}", row.service)),
                _ => Some(format!("no-{}", row.word.map(word).unwrap_or_default())),
            }
        },
        2,
    );
}

#[test]
fn the_window_may_be_the_only_key() {
    counted(
        "SELECT 'all' AS service, window.start AS window_start, window.end AS window_end, n FROM (
            SELECT hop(INTERVAL '3 seconds', INTERVAL '1 minute') AS window, count(*) AS n FROM t GROUP BY window)",
        (3, 60),
        |_| Some("all".to_owned()),
        1,
    );
}

#[test]
fn views_and_common_table_expressions_give_the_bytes_of_a_subquery() {
    let inner = format!("SELECT service, {} AS window, sum(y) AS y FROM t GROUP BY service, window", WINDOWS[2].0);
    let outer = "SELECT service, window.start AS window_start, window.end AS window_end, y FROM";
    let tables = TABLES.trim_end().strip_suffix("INSERT INTO features").unwrap();
    let texts = [
        format!("INSERT INTO features {outer} ({inner}) AS sums;"),
        format!("INSERT INTO features WITH sums AS ({inner}) {outer} sums;"),
        format!("CREATE VIEW sums AS {inner}; INSERT INTO features {outer} sums;"),
    ];
    let bytes = texts.map(|text| {
        let plan = Arc::new(compile(&format!("{tables}{text}")).unwrap());
        feed(&plan, &dealt(&sample(), 3), &Feeding::plain()).text()
    });
    assert!(bytes[0].lines().count() > 100);
    assert!(bytes.iter().all(|text| *text == bytes[0]));
}
