//! The detectors on generated streams with known changes: how late, and how often for nothing. `PRESCALE_MEASURE=1` with
//! `--nocapture` prints the table of `drift/mod.rs`.

use prescale_domain::{Span, Timestamp};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Exp, Normal};

use super::*;

const WEEK: usize = 10_080;
const STREAMS: u64 = 200;

/// Mean delay, worst delay, streams whose change was not found, alarms before it.
#[derive(Debug, Default)]
struct Found {
    delay_mean: f64,
    delay_max: usize,
    missed: usize,
    early: usize,
}

/// Runs `detect` over 200 streams that change at `change`.
fn measure(change: usize, detect: impl Fn(u64) -> Vec<usize>) -> Found {
    let mut found = Found::default();
    let mut delays = Vec::new();
    for seed in 0..STREAMS {
        let alarms = detect(seed);
        found.early += alarms.iter().filter(|at| **at < change).count();
        match alarms.iter().find(|at| **at >= change) {
            Some(at) => delays.push(at - change),
            None => found.missed += 1,
        }
    }
    found.delay_max = delays.iter().copied().max().unwrap_or(0);
    found.delay_mean = delays.iter().sum::<usize>() as f64 / delays.len().max(1) as f64;
    crate::measured::tell(format!("{found:?}"));
    found
}

/// Errors in widths, exponential; their mean is 0.4 and `factor` times that from `change` on.
fn errors(seed: u64, count: usize, change: usize, factor: f64) -> impl Iterator<Item = f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let noise = Exp::new(1.0).unwrap();
    (0..count).map(move |i| {
        let mean = if i < change { 0.4 } else { 0.4 * factor };
        (mean * noise.sample(&mut random)).min(3.0)
    })
}

fn page_hinkley(seed: u64, count: usize, change: usize, factor: f64) -> Vec<usize> {
    let mut test = PageHinkley::new(0.15, 40.0, 240);
    let values = errors(seed, count, change, factor).enumerate();
    values.filter_map(|(i, value)| test.add(value).map(|_| i)).collect()
}

fn adwin(seed: u64, count: usize, change: usize, factor: f64) -> Vec<usize> {
    let mut test = Adwin::new(0.002, 4);
    let values = errors(seed, count, change, factor).enumerate();
    values.filter_map(|(i, value)| test.add(value / 3.0).filter(Change::rose).map(|_| i)).collect()
}

/// Hours at which the watch raises an alarm: a daily wave with noise of the hour and of the day.
fn inputs(seed: u64, hours: usize, change: usize, factor: f64) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (hourly, daily) = (Normal::new(1.0, 0.08).unwrap(), Normal::new(1.0, 0.05).unwrap());
    let (mut watch, mut day) = (InputWatch::default(), 1.0);
    let mut alarms = Vec::new();
    for hour in 0..hours {
        if hour % 24 == 0 {
            day = daily.sample(&mut random);
        }
        let wave = 1.0 + 0.6 * (hour as f64 * std::f64::consts::TAU / 24.0).sin();
        let load: f64 = 100.0 * wave * day * hourly.sample(&mut random) * if hour < change { 1.0 } else { factor };
        for quarter in 0..4 {
            let start = Timestamp::from_millis((hour as i64 * 60 + quarter * 15) * 60_000);
            alarms.extend(watch.add(start, load.max(0.0)).map(|_| hour));
        }
    }
    alarms
}

#[test]
fn page_hinkley_finds_a_rise_of_the_error_and_nothing_where_there_is_none() {
    let none = measure(WEEK, |seed| page_hinkley(seed, WEEK, WEEK, 1.0));
    assert!(none.early <= 2, "{none:?}");
    let limits = [(1.5, 0.65, 1100.0), (2.0, 0.02, 300.0), (3.0, 0.0, 110.0)];
    for (factor, missed, delay) in limits {
        let found = measure(4000, |seed| page_hinkley(seed, 6000, 4000, factor));
        assert!(found.missed as f64 <= missed * STREAMS as f64 && found.delay_mean <= delay, "× {factor}: {found:?}");
        assert!(found.early <= 2, "× {factor}: {found:?}");
    }
}

#[test]
fn page_hinkley_says_nothing_of_an_error_that_shrinks() {
    assert!((0..20).all(|seed| page_hinkley(seed, 6000, 3000, 0.3).is_empty()));
}

#[test]
fn adwin_finds_a_change_and_keeps_its_promise_of_false_alarms() {
    let none = measure(WEEK, |seed| adwin(seed, WEEK, WEEK, 1.0));
    assert!(none.early <= 4, "{none:?}");
    let limits = [(1.5, 0.0, 300.0), (2.0, 0.0, 120.0), (3.0, 0.0, 60.0)];
    for (factor, missed, delay) in limits {
        let found = measure(4000, |seed| adwin(seed, 6000, 4000, factor));
        assert!(found.missed as f64 <= missed * STREAMS as f64 && found.delay_mean <= delay, "× {factor}: {found:?}");
        assert!(found.early <= 4, "× {factor}: {found:?}");
    }
}

#[test]
fn adwin_forgets_what_was_before_a_change_in_either_direction() {
    for factor in [0.4, 2.5] {
        let mut test = Adwin::new(0.002, 4);
        let mut changes = Vec::new();
        for value in errors(3, 8000, 5000, factor) {
            changes.extend(test.add(value / 3.0));
        }
        assert!(changes.iter().any(|change| change.rose() == (factor > 1.0)), "{changes:?}");
        assert!((2500..=3100).contains(&test.width()), "× {factor}: {}", test.width());
    }
}

#[test]
fn the_input_watch_finds_a_shift_within_a_day_and_is_quiet_for_weeks() {
    let weeks = 8 * 7 * 24;
    let none = measure(weeks, |seed| inputs(seed, weeks, weeks, 1.0));
    assert!(none.early <= 8, "{none:?}");
    let limits = [(1.5, 0.05, 14.0), (2.0, 0.0, 12.0), (3.0, 0.0, 12.0)];
    for (factor, missed, delay) in limits {
        let found = measure(500, |seed| inputs(seed, 600, 500, factor));
        assert!(found.missed as f64 <= missed * STREAMS as f64 && found.delay_mean <= delay, "× {factor}: {found:?}");
    }
}

#[test]
fn the_statistic_is_that_of_the_definition() {
    assert_eq!(ks_statistic(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), Some(0.0));
    assert_eq!(ks_statistic(&[1.0, 2.0], &[3.0, 4.0, 5.0]), Some(1.0));
    assert_eq!(ks_statistic(&[1.0, 3.0], &[2.0, 4.0]), Some(0.5));
    assert_eq!(ks_statistic(&[], &[1.0]), None);
    assert_eq!(ks_statistic(&[f64::NAN], &[1.0]), None);
    // Massey 1951: 1.36 and 1.63 times the root for 5 % and 1 %.
    for (alpha, factor) in [(0.05, 1.358), (0.01, 1.628), (0.001, 1.949)] {
        let root = (150.0_f64 / (50.0 * 100.0)).sqrt();
        assert!((ks_critical(50, 100, alpha) / root - factor).abs() < 1e-3);
    }
}

#[test]
fn the_limit_is_exceeded_by_chance_as_often_as_it_says() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let noise = Normal::new(0.0, 1.0).unwrap();
    let mut sample = |count: usize| (0..count).map(|_| noise.sample(&mut random)).collect::<Vec<f64>>();
    let exceeded =
        (0..4000).filter(|_| ks_statistic(&sample(60), &sample(90)).unwrap() > ks_critical(60, 90, 0.05)).count();
    let share = exceeded as f64 / 4000.0;
    assert!((0.025..0.055).contains(&share), "{share}");
}

#[test]
fn nothing_that_comes_makes_the_watch_fail() {
    let mut watch = InputWatch::default();
    for i in 0..3000_i64 {
        let load = [0.0, 1e300, f64::NAN, 5.0, f64::INFINITY, -3.0][(i % 6) as usize];
        let start = Timestamp::from_millis((i * 7919 % 5000) * 600_000) + Span::from_minutes(i % 7);
        assert!(watch.add(start, load).is_none_or(|change| change.factor.is_finite()));
    }
    assert!((0..24 * 30).all(|hour| watch.add(Timestamp::from_millis(hour * 3_600_000), 0.0).is_none()));
}
