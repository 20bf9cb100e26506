//! Histories as they are kept, retired and filled from elsewhere. Rule: after each step the store says the same as memory.

use prescale_store::MemoryStore;
use proptest::prelude::*;

use super::*;

const STEP: Span = Span::from_minutes(1);

fn minute(n: i64) -> Timestamp {
    Timestamp::from_millis(n * STEP.millis())
}

fn store_of(signal: &str) -> FeatureStore {
    let settings = HistorySettings {
        step: STEP,
        retention: Span::from_minutes(60),
        coarse_retention: Span::from_minutes(3 * 1440),
    };
    FeatureStore::new(settings, [(ServiceName::new("web"), signal.to_owned())])
}

fn web() -> ServiceName {
    ServiceName::new("web")
}

/// A history of `load(n)` in the minutes `from..to`.
fn history(from: i64, to: i64, load: impl Fn(i64) -> Option<f64>) -> Series {
    Series { start: minute(from), step: STEP, values: (from..to).map(load).collect() }
}

/// What a store that is read afresh holds.
fn reread(memory: &MemoryStore) -> FeatureStore {
    let mut read = store_of("requests");
    read.load(memory).unwrap();
    read
}

fn row(n: i64, load: f64) -> FeatureRow {
    FeatureRow {
        service: "web".into(),
        window_start: minute(n),
        window_end: minute(n + 1),
        labels: BTreeMap::new(),
        measures: BTreeMap::from([("requests".to_owned(), Some(load)), ("latency_ms_p50".to_owned(), Some(3.0))]),
    }
}

#[test]
fn a_silent_window_is_zero_for_counts_and_unknown_for_latency_and_a_gap_is_a_gap() {
    let web = ServiceName::new("web");
    for (signal, silent) in [("requests", Some(0.0)), ("latency_ms_p50", None)] {
        let mut features = store_of(signal);
        assert_eq!(features.close(&web, minute(0), None, false).unwrap(), Closed::Unknown);
        features.close(&web, minute(1), Some(&row(1, 7.0)), false).unwrap();
        assert_eq!(features.close(&web, minute(2), None, false).unwrap(), Closed::Zero(silent));
        assert_eq!(features.close(&web, minute(3), None, true).unwrap(), Closed::Gap);
        let series = features.series(&web).unwrap();
        assert_eq!((series.start, &series.values[1..]), (minute(1), &[silent, None][..]));
    }
}

#[test]
fn a_window_off_the_grid_is_refused_with_its_reason() {
    let mut features = store_of("requests");
    let error = features.close(&"web".into(), Timestamp::from_millis(1), Some(&row(0, 1.0)), false).unwrap_err();
    assert!(error.to_string().contains("does not start at a multiple of the step 1m"), "{error}");
}

proptest! {
    #[test]
    fn what_is_read_back_equals_what_was_kept(windows in prop::collection::vec(prop_oneof![
        Just(None), Just(Some(None)), (0.0..1e6_f64).prop_map(|load| Some(Some(load)))], 1..400))
    {
        let web = ServiceName::new("web");
        let (mut kept, memory) = (store_of("requests"), MemoryStore::default());
        for (n, window) in windows.iter().enumerate() {
            let n = n as i64;
            let found = window.flatten().map(|load| row(n, load));
            kept.close(&web, minute(n), found.as_ref(), window.is_none()).unwrap();
            memory.write(&kept.take_writes()).unwrap();
        }
        let mut read = store_of("requests");
        read.load(&memory).unwrap();
        prop_assert_eq!(read.series(&web), kept.series(&web));
    }
}

#[test]
fn silence_takes_nothing_back_that_a_back_fill_has_told_and_a_row_does() {
    let mut features = store_of("requests");
    features.back_fill(&web(), &history(0, 10, |n| (n != 4).then_some(n as f64))).unwrap();
    assert_eq!(features.close(&web(), minute(3), None, false).unwrap(), Closed::Row(Some(3.0)));
    assert_eq!(features.close(&web(), minute(3), None, true).unwrap(), Closed::Row(Some(3.0)));
    assert_eq!(features.close(&web(), minute(4), None, false).unwrap(), Closed::Zero(Some(0.0)));
    assert_eq!(features.close(&web(), minute(5), Some(&row(5, 50.0)), false).unwrap(), Closed::Row(Some(50.0)));
    let expected = [0.0, 1.0, 2.0, 3.0, 0.0, 50.0, 6.0, 7.0, 8.0, 9.0].map(Some);
    assert_eq!(features.series(&web()).unwrap().values, expected);
}

#[test]
fn a_back_fill_enters_what_is_before_all_that_is_held_and_nothing_twice() {
    let (mut features, memory) = (store_of("requests"), MemoryStore::default());
    features.close(&web(), minute(100), Some(&row(100, 7.0)), false).unwrap();
    let told = history(50, 110, |n| (n != 60 && n < 98).then_some(n as f64));
    assert_eq!(features.back_fill(&web(), &told).unwrap(), 47);
    memory.write(&features.take_writes()).unwrap();
    let series = features.series(&web()).unwrap();
    assert_eq!((series.start, series.end(), series.at(minute(97))), (minute(50), minute(101), Some(97.0)));
    assert_eq!([60, 98, 99, 100].map(|n| series.at(minute(n))), [None, None, None, Some(7.0)]);
    let mut again = reread(&memory);
    assert_eq!(again.series(&web()), features.series(&web()));
    assert_eq!(again.back_fill(&web(), &told).unwrap(), 0);
    assert_eq!(again.take_writes(), []);
    // More of the past is welcome at any time.
    assert_eq!(again.back_fill(&web(), &history(40, 60, |_| Some(1.0))).unwrap(), 10);
}

#[test]
fn a_history_that_does_not_fit_the_windows_is_refused_and_an_empty_one_changes_nothing() {
    let mut features = store_of("requests");
    let other_step = Series { step: Span::from_minutes(5), ..history(0, 2, |_| Some(1.0)) };
    assert!(features.back_fill(&web(), &other_step).is_err());
    let off_grid = Series { start: Timestamp::from_millis(1), ..history(0, 2, |_| Some(1.0)) };
    assert!(features.back_fill(&web(), &off_grid).is_err());
    assert_eq!(features.back_fill(&web(), &history(0, 9, |_| None)).unwrap(), 0);
    assert_eq!(features.back_fill(&"unknown".into(), &history(0, 9, |_| Some(1.0))).unwrap(), 0);
    assert_eq!(features.series(&web()), None);
    assert_eq!(features.take_writes(), []);
}

#[test]
fn old_windows_of_a_back_fill_become_hours_and_those_that_are_too_old_are_left_out() {
    let (mut features, memory) = (store_of("requests"), MemoryStore::default());
    // Five days and 30 minutes: the last hour and the part of one before it stay, three days of hours are kept.
    let told = history(0, 5 * 1440 + 30, |n| Some((n % 60) as f64));
    let taken = features.back_fill(&web(), &told).unwrap();
    memory.write(&features.take_writes()).unwrap();
    let mut read = reread(&memory);
    for store in [&features, &read] {
        assert_eq!(store.series(&web()).unwrap().start, minute(5 * 1440 - 60));
        let hours = store.hours(&memory, &web()).unwrap();
        // The last of them is under way.
        assert_eq!((hours[0].start, hours.len()), (minute(2 * 1440), 3 * 24 + 1));
        assert_eq!(taken, hours.iter().map(|hour| hour.known as usize).sum::<usize>());
        let hour = hours[5];
        assert_eq!((hour.min, hour.max, hour.known), (0.0, 59.0, 60));
        assert!((hour.mean - 29.5).abs() < 1e-9);
    }
    assert_eq!(read.back_fill(&web(), &told).unwrap(), 0);
    assert_eq!(read.take_writes(), []);
}

#[test]
fn what_is_retired_is_kept_by_the_hour_across_restarts_and_then_forgotten() {
    let (mut features, memory) = (store_of("requests"), MemoryStore::default());
    let days = 7;
    for n in 0..days * 1440 {
        let load = (n % 60) as f64;
        let found = (n % 3 != 0).then(|| row(n, load));
        features.close(&web(), minute(n), found.as_ref(), n % 3 == 0).unwrap();
        if n % 500 == 0 {
            // All that belongs to a window is in one write, or the series and the hours would differ after it.
            memory.write(&features.take_writes()).unwrap();
            let read = reread(&memory);
            assert_eq!(read.series(&web()), features.series(&web()));
            assert_eq!(read.hours(&memory, &web()).unwrap(), features.hours(&memory, &web()).unwrap());
            features = read;
        }
    }
    memory.write(&features.take_writes()).unwrap();
    let series = features.series(&web()).unwrap();
    assert!(series.values.len() < 60 + 60 + 1440, "{}", series.values.len());
    let hours = features.hours(&memory, &web()).unwrap();
    // Three days before the newest window, as it was at the last retirement, a day at a time.
    let oldest = (hours[0].start.millis() - minute((days - 3) * 1440).millis()) / 3_600_000;
    assert!((-25..=0).contains(&oldest), "{oldest}");
    for (index, hour) in hours.iter().enumerate() {
        assert_eq!(hour.start, hours[0].start + Span::from_minutes(60 * index as i64));
        assert_eq!((hour.known, hour.min, hour.max), (40, 1.0, 59.0), "{hour:?}");
    }
    let all = memory.range(Table::History, b"", b"x", usize::MAX, false).unwrap().len();
    assert_eq!(all, series.values.len() + hours.len() - series.values.len().div_ceil(60), "nothing else is left");
}

#[test]
fn without_a_coarse_retention_old_windows_are_forgotten() {
    let settings = HistorySettings { step: STEP, retention: Span::from_minutes(60), coarse_retention: Span::ZERO };
    let (mut features, memory) =
        (FeatureStore::new(settings, [(web(), "requests".to_owned())]), MemoryStore::default());
    assert_eq!(features.back_fill(&web(), &history(0, 3 * 1440, |_| Some(1.0))).unwrap(), 60);
    for n in 3 * 1440..6 * 1440 {
        features.close(&web(), minute(n), Some(&row(n, 1.0)), false).unwrap();
    }
    memory.write(&features.take_writes()).unwrap();
    let kept = memory.range(Table::History, b"", b"x", usize::MAX, false).unwrap();
    assert_eq!(kept.len(), features.series(&web()).unwrap().values.len());
}

#[test]
fn windows_before_a_back_fill_are_taken_while_they_are_not_too_old() {
    let (mut features, memory) = (store_of("requests"), MemoryStore::default());
    features.back_fill(&web(), &history(1000, 1010, |_| Some(1.0))).unwrap();
    // A topic that reaches further back than the history.
    features.close(&web(), minute(500), Some(&row(500, 5.0)), false).unwrap();
    features.close(&web(), minute(960), Some(&row(960, 9.0)), false).unwrap();
    memory.write(&features.take_writes()).unwrap();
    let series = features.series(&web()).unwrap();
    assert_eq!((series.start, series.values[0], series.values[1]), (minute(960), Some(9.0), None));
    assert_eq!(reread(&memory).series(&web()), Some(series));
}

fn measured(n: i64, measures: &[(&str, Option<f64>)]) -> FeatureRow {
    let measures = measures.iter().map(|(name, value)| ((*name).to_owned(), *value));
    FeatureRow { measures: measures.collect(), ..row(n, 1.0) }
}

fn with_covariates(names: &[&str]) -> FeatureStore {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    store_of("requests").with_covariates([(web(), names)])
}

/// What there is of the covariates, as `name@minute=value`.
fn covariates(features: &FeatureStore) -> Vec<String> {
    let told = |(name, series): (&str, &Series)| {
        let at = |index: usize| (series.start.millis() / STEP.millis()) as usize + index;
        let known = series.values.iter().enumerate().filter_map(|(index, value)| Some((at(index), (*value)?)));
        known.map(|(minute, value)| format!("{name}@{minute}={value}")).collect::<Vec<_>>()
    };
    features.covariates(&web()).flat_map(told).collect()
}

#[test]
fn a_covariate_of_a_silent_window_is_zero_for_counts_and_unknown_for_times_and_survives_restarts() {
    let names = ["errors", "error_rate", "latency_ms_p90", "never_measured"];
    let (mut features, memory) = (with_covariates(&names), MemoryStore::default());
    let told = measured(1, &[("requests", Some(8.0)), ("errors", Some(2.0)), ("latency_ms_p90", Some(30.0))]);
    features.close(&web(), minute(0), Some(&measured(0, &[("requests", Some(8.0))])), false).unwrap();
    features.close(&web(), minute(1), Some(&told), false).unwrap();
    features.close(&web(), minute(2), None, false).unwrap();
    features.close(&web(), minute(3), None, true).unwrap();
    let late = measured(4, &[("requests", Some(1.0)), ("latency_ms_p90", Some(f64::NAN)), ("errors", Some(0.0))]);
    features.close(&web(), minute(4), Some(&late), false).unwrap();
    let expected =
        ["errors@1=2", "errors@2=0", "errors@4=0", "error_rate@1=0.25", "error_rate@4=0", "latency_ms_p90@1=30"];
    assert_eq!(covariates(&features), expected);
    memory.write(&features.take_writes()).unwrap();
    let mut read = with_covariates(&names);
    read.load(&memory).unwrap();
    assert_eq!(covariates(&read), expected);
    // One that is named later has its past.
    let mut read = with_covariates(&["bytes", "requests"]);
    read.load(&memory).unwrap();
    assert_eq!(covariates(&read), ["requests@0=8", "requests@1=8", "requests@2=0", "requests@4=1"]);
}

#[test]
fn the_load_of_another_service_is_a_covariate_and_one_that_is_not_there_is_none() {
    let settings = store_of("requests").settings;
    let signals = [(web(), "requests".to_owned()), ("shop".into(), "queue_length_mean".to_owned())];
    let names = vec!["service:shop".to_owned(), "service:nobody".to_owned()];
    let mut features = FeatureStore::new(settings, signals).with_covariates([(web(), names)]);
    let shop = ServiceName::new("shop");
    features.close(&shop, minute(3), Some(&measured(3, &[("queue_length_mean", Some(5.0))])), false).unwrap();
    features.close(&web(), minute(4), Some(&row(4, 1.0)), false).unwrap();
    assert_eq!(covariates(&features), ["service:shop@3=5"]);
}

#[test]
fn covariates_are_retired_with_the_load_and_one_that_fell_silent_is_forgotten() {
    let mut features = with_covariates(&["latency_ms_p90", "queue_length_mean"]);
    let memory = MemoryStore::default();
    for n in 0..3 * 1440 {
        let queue = (n < 100).then_some(9.0);
        let told = [("requests", Some(1.0)), ("latency_ms_p90", Some(n as f64)), ("queue_length_mean", queue)];
        features.close(&web(), minute(n), Some(&measured(n, &told)), false).unwrap();
        memory.write(&features.take_writes()).unwrap();
    }
    let start = features.series(&web()).unwrap().start;
    assert!(start > minute(1440), "{start}");
    let found: Vec<_> = features.covariates(&web()).map(|(name, series)| (name, series.start)).collect();
    assert_eq!(found, [("latency_ms_p90", start)]);
    let mut read = with_covariates(&["latency_ms_p90", "queue_length_mean"]);
    read.load(&memory).unwrap();
    assert_eq!(covariates(&read), covariates(&features));
}

#[test]
fn a_count_is_zero_in_a_window_that_only_another_pipeline_has_a_row_of_once_it_was_known() {
    let queue_only = |n| measured(n, &[("queue_length_mean", Some(4.0))]);
    let mut features = with_covariates(&["errors", "queue_length_mean"]);
    features.close(&web(), minute(0), Some(&queue_only(0)), false).unwrap();
    let told = measured(1, &[("requests", Some(8.0)), ("errors", Some(1.0))]);
    features.close(&web(), minute(1), Some(&told), false).unwrap();
    features.close(&web(), minute(2), Some(&queue_only(2)), false).unwrap();
    features.close(&web(), minute(3), Some(&queue_only(3)), true).unwrap();
    let null = measured(4, &[("requests", None), ("queue_length_mean", Some(4.0))]);
    features.close(&web(), minute(4), Some(&null), false).unwrap();
    let loads = [None, Some(8.0), Some(0.0), None, None];
    assert_eq!(features.series(&web()).unwrap().values, loads);
    let counts: Vec<_> = covariates(&features).into_iter().filter(|told| told.starts_with("errors")).collect();
    assert_eq!(counts, ["errors@1=1", "errors@2=0", "errors@4=0"]);
    let memory = MemoryStore::default();
    memory.write(&features.take_writes()).unwrap();
    let mut read = with_covariates(&["errors"]);
    read.load(&memory).unwrap();
    assert_eq!(read.series(&web()).unwrap().values, loads);
}

#[test]
fn a_look_ahead_sees_one_window_more_and_leaves_nothing_behind() {
    let mut features = store_of("requests");
    assert_eq!(features.ahead(&web(), minute(0), 1.0, |_, series| series.clone()), None);
    for n in 0..3 {
        features.close(&web(), minute(n), Some(&row(n, 10.0)), false).unwrap();
    }
    let held = features.series(&web()).unwrap().clone();
    let mut ahead = |n| features.ahead(&web(), minute(n), 7.0, |_, series| (series.start, series.values.clone()));
    let known = [Some(10.0); 3];
    assert_eq!(ahead(3), Some((minute(0), [&known[..], &[Some(7.0)]].concat())));
    // What lies between is not known.
    assert_eq!(ahead(5), Some((minute(0), [&known[..], &[None, None, Some(7.0)]].concat())));
    assert_eq!(ahead(2), None);
    assert_eq!(features.series(&web()), Some(&held));
}
