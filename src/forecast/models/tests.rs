//! What every model promises, run over each of them.

use std::collections::BTreeMap;

use prescale_domain::{DEFAULT_QUANTILES, Series, ServiceName, Span, Timestamp};
use proptest::prelude::*;

use super::{Forecaster, Lesson, Lstm, LstmSettings, ModelKind};
use crate::past::{Past, Request, no_covariates};
use crate::rows::Rows;

const HORIZON: usize = 12;

fn build(kind: ModelKind, seed: u64) -> Box<dyn Forecaster> {
    match kind {
        // Small, so that the contract is quick.
        ModelKind::Lstm => {
            Box::new(Lstm::new(LstmSettings { fit_samples: 1_280, hidden: 8, ..LstmSettings::default() }, seed))
        }
        _ => kind.build(seed),
    }
}

fn series(value: impl Fn(usize) -> Option<f64>) -> Series {
    Series {
        start: Timestamp::from_millis(1_700_000_040_000),
        step: Span::from_minutes(5),
        values: (0..3 * 288).map(value).collect(),
    }
}

fn wave(i: usize) -> Option<f64> {
    Some((100.0 + 60.0 * (i as f64 / 45.84).sin() + (i * 7919 % 23) as f64).round())
}

fn fit(model: &mut dyn Forecaster, series: &Series) -> crate::Result<BTreeMap<ServiceName, Series>> {
    let histories = BTreeMap::from([(ServiceName::new("a"), series.clone())]);
    let lesson = Lesson {
        histories: &histories,
        covariates: no_covariates(),
        events: &[],
        train_until: series.start + Span::from_minutes(2 * 24 * 60),
        end: series.end(),
        horizon_steps: HORIZON,
        levels: &DEFAULT_QUANTILES,
    };
    model.fit(&lesson)?;
    Ok(histories)
}

fn ask(model: &dyn Forecaster, series: &Series, count: usize) -> crate::Result<Rows> {
    let past = Past::all(series).first(count);
    let service = ServiceName::new("a");
    let request = Request {
        service: &service,
        past,
        horizon_steps: HORIZON,
        levels: &DEFAULT_QUANTILES,
        events: &[],
        now: past.end(),
    };
    model.predict(&request)
}

#[track_caller]
fn sound(kind: ModelKind, rows: &Rows) {
    assert_eq!(rows.len(), HORIZON, "{kind}");
    for row in rows {
        assert_eq!(row.len(), DEFAULT_QUANTILES.len(), "{kind}");
        assert!(row.iter().all(|value| value.is_finite() && *value >= 0.0) && row.is_sorted(), "{kind}: {row:?}");
    }
}

#[test]
fn forecasts_are_finite_ordered_and_of_the_asked_length_whatever_the_history() {
    let histories: [(&str, Series); 6] = [
        ("a wave", series(wave)),
        ("gaps", series(|i| if i % 7 == 3 || (300..340).contains(&i) { None } else { wave(i) })),
        ("mostly zeros", series(|i| Some(if i % 50 == 0 { 3.0 } else { 0.0 }))),
        ("a constant", series(|_| Some(42.0))),
        ("a jump", series(|i| Some(if i < 800 { 1.0 } else { 1e6 }))),
        ("a jump by 1e9", series(|i| wave(i).map(|value| if i < 700 { value } else { 1e9 * value }))),
    ];
    for kind in ModelKind::EACH {
        for (name, series) in &histories {
            let mut model = build(kind, 1);
            fit(&mut *model, series).unwrap_or_else(|error| panic!("{kind} on {name}: {error}"));
            for count in [860, 864] {
                sound(kind, &ask(&*model, series, count).unwrap_or_else(|error| panic!("{kind} on {name}: {error}")));
            }
        }
    }
}

#[test]
fn a_constant_load_is_forecast_as_that_constant() {
    let series = series(|_| Some(42.0));
    for kind in ModelKind::EACH {
        let mut model = build(kind, 1);
        fit(&mut *model, &series).unwrap();
        let median = ask(&*model, &series, 864).unwrap()[HORIZON - 1][3];
        assert!((median - 42.0).abs() < 4.0, "{kind}: {median}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_saving_changes_nothing() {
    let series = series(wave);
    for kind in ModelKind::EACH {
        let (mut one, mut two) = (build(kind, 5), build(kind, 5));
        fit(&mut *one, &series).unwrap();
        fit(&mut *two, &series).unwrap();
        assert_eq!(one.save(), two.save(), "{kind}");
        let loaded = kind.load(&one.save()).unwrap();
        assert_eq!(loaded.save(), one.save(), "{kind}");
        assert_eq!(ask(&*loaded, &series, 850).unwrap(), ask(&*one, &series, 850).unwrap(), "{kind}");
    }
}

#[test]
fn what_comes_after_the_origin_changes_nothing() {
    let (series, other) = (series(wave), series(|i| if i < 800 { wave(i) } else { Some(1e5) }));
    for kind in ModelKind::EACH {
        let mut model = build(kind, 2);
        fit(&mut *model, &series).unwrap();
        assert_eq!(ask(&*model, &series, 800).unwrap(), ask(&*model, &other, 800).unwrap(), "{kind}");
    }
}

#[test]
fn what_comes_after_the_end_of_a_lesson_changes_no_byte() {
    let (one, other) = (series(wave), series(|i| if i < 700 { wave(i) } else { Some(1e5 + i as f64) }));
    for kind in ModelKind::EACH {
        let learn = |series: &Series| {
            let histories = BTreeMap::from([(ServiceName::new("a"), series.clone())]);
            let lesson = Lesson {
                histories: &histories,
                covariates: no_covariates(),
                events: &[],
                train_until: series.start + Span::from_minutes(600 * 5),
                end: series.start + Span::from_minutes(700 * 5),
                horizon_steps: HORIZON,
                levels: &DEFAULT_QUANTILES,
            };
            let mut model = build(kind, 2);
            model.fit(&lesson).unwrap_or_else(|error| panic!("{kind}: {error}"));
            model
        };
        let (one_learnt, other_learnt) = (learn(&one), learn(&other));
        assert_eq!(one_learnt.save(), other_learnt.save(), "{kind}");
        assert_eq!(ask(&*one_learnt, &one, 700).unwrap(), ask(&*other_learnt, &other, 700).unwrap(), "{kind}");
    }
}

/// Values as a broken source may send them.
fn broken_value() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        6 => (0.0_f64..200.0).prop_map(Some),
        2 => Just(None),
        2 => Just(Some(0.0)),
        1 => (0.0_f64..1e12).prop_map(Some),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300]).prop_map(Some),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The LSTM has tests of its own.
    #[test]
    fn a_broken_history_gives_sound_quantiles_or_an_error(
        length in prop::sample::select(vec![0_usize, 1, 2, 3, 20, 287, 288, 300, 700]),
        broken in prop::collection::vec(broken_value(), 700),
        share in 0_usize..101,
        jump in prop::sample::select(vec![1.0, 1e-9, 1e9]),
    ) {
        let values = (0..length).map(|i| {
            let value = if i * 7919 % 100 < share { broken[i] } else { wave(i) };
            value.map(|value| if i > 350 { jump * value } else { value })
        });
        let series = Series { values: values.collect(), ..series(wave) };
        for kind in ModelKind::EACH.into_iter().filter(|kind| *kind != ModelKind::Lstm) {
            let mut model = build(kind, 1);
            if fit(&mut *model, &series).is_ok() {
                for count in [1, length / 2, length] {
                    if let Ok(rows) = ask(&*model, &series, count) {
                        sound(kind, &rows);
                    }
                }
                let loaded = kind.load(&model.save()).unwrap();
                prop_assert_eq!(ask(&*loaded, &series, length).ok(), ask(&*model, &series, length).ok());
            }
        }
    }
}

#[test]
fn an_unfitted_model_says_so() {
    let series = series(wave);
    for kind in ModelKind::EACH {
        assert!(ask(&*build(kind, 1), &series, 800).is_err(), "{kind}");
    }
}

#[test]
fn bytes_of_another_kind_or_version_or_none_at_all_are_refused() {
    for kind in ModelKind::EACH {
        assert!(kind.load(b"").is_err());
        assert!(kind.load(b"{\"format\":\"prescale-other\",\"version\":1,\"state\":null}").is_err());
        let newer = format!("{{\"format\":\"prescale-{kind}\",\"version\":99,\"state\":null}}");
        let error = kind.load(newer.as_bytes()).err().unwrap().to_string();
        assert!(error.contains("version 99"), "{error}");
    }
}

#[test]
fn a_daily_wave_is_followed_better_than_by_its_newest_value() {
    let series = series(|i| Some(100.0 + 80.0 * (i as f64 / 45.84).sin()));
    // Three of them know no day.
    for kind in ModelKind::EACH {
        if matches!(kind, ModelKind::Naive | ModelKind::Ses | ModelKind::Analog) {
            continue;
        }
        let mut model = build(kind, 1);
        fit(&mut *model, &series).unwrap();
        let (mut own, mut naive) = (0.0, 0.0);
        for count in (600..850).step_by(10) {
            let (rows, actual) = (ask(&*model, &series, count).unwrap(), series.values[count + HORIZON - 1].unwrap());
            own += (rows[HORIZON - 1][3] - actual).abs();
            naive += (series.values[count - 1].unwrap() - actual).abs();
        }
        assert!(own < 0.9 * naive, "{kind}: {own} against {naive}");
    }
}
