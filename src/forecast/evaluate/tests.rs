//! Evaluations of small histories.

use super::*;

fn series() -> Series {
    let values =
        (0..6 * 288).map(|i| Some(50.0 + 20.0 * (f64::from(i) / 45.8).sin() + f64::from(i * 7919 % 13))).collect();
    Series { start: Timestamp::from_millis(0), step: Span::from_minutes(5), values }
}

fn settings() -> EvaluateSettings {
    let at = |days: i64| Timestamp::from_millis(days * 86_400_000);
    EvaluateSettings {
        train_until: at(3),
        test_from: at(4),
        test_to: at(5),
        models: ModelKind::EACH
            .into_iter()
            .filter(|kind| *kind != ModelKind::Lstm)
            .map(Contender::Model)
            .chain([Contender::Ensemble])
            .collect(),
        ..EvaluateSettings::default()
    }
}

#[test]
fn the_future_does_not_change_the_past_of_an_evaluation() {
    let series = series();
    for online in [false, true] {
        let settings = EvaluateSettings { online, ..settings() };
        let whole = evaluate(&series, &settings, &mut |_, _| {}).unwrap();
        let cut = Series { values: series.values[..5 * 288].to_vec(), ..series.clone() };
        assert_eq!(whole, evaluate(&cut, &settings, &mut |_, _| {}).unwrap());
        assert_eq!((whole.origins, whole.failed.len()), (288, 0), "{:?}", whole.failed);
    }
}

#[test]
fn values_after_an_origin_change_no_forecast_from_it() {
    let one = series();
    let change = 4 * 288 + 150;
    let mut other = one.clone();
    other.values[change..].iter_mut().for_each(|value| *value = Some(1e5));
    let settings = EvaluateSettings { online: true, ..settings() };
    let of = |series: &Series| evaluate(series, &settings, &mut |_, _| {}).unwrap();
    let (one_report, other_report) = (of(&one), of(&other));
    let moment = Past::all(&one).moment(change);
    for (name, horizons) in &one_report.outcomes {
        for (horizon, outcomes) in horizons {
            // Forecasts from origins before the change, whatever they were of.
            let before = |outcomes: &[Outcome]| -> Vec<(Timestamp, Vec<f64>)> {
                let early = outcomes.iter().filter(|outcome| outcome.target - *horizon < moment);
                early.map(|outcome| (outcome.target, outcome.row.clone())).collect()
            };
            let expected = before(outcomes);
            assert!(expected.len() > 100);
            assert_eq!(expected, before(&other_report.outcomes[name][horizon]), "{name} {horizon}");
        }
    }
}

#[test]
fn a_model_that_fails_is_named_and_left_out_of_the_mix() {
    let gaps = series().values.into_iter().enumerate().map(|(i, value)| value.filter(|_| i % 3 > 0));
    let short = Series { values: gaps.take(388).collect(), ..series() };
    let at = |windows: i64| Timestamp::from_millis(windows * 300_000);
    let settings = EvaluateSettings { train_until: at(300), test_from: at(320), test_to: at(388), ..settings() };
    let report = evaluate(&short, &settings, &mut |_, _| {}).unwrap();
    assert!(report.failed.contains_key("boosted"), "{:?}", report.failed);
    assert!(report.models.contains_key("ensemble") && !report.models.contains_key("boosted"));
}

#[test]
fn figures_are_those_of_the_definitions() {
    let levels = [0.1, 0.5, 0.9];
    let outcome = |minutes: i64, actual: f64, row: [f64; 3]| Outcome {
        target: Timestamp::from_millis(60_000 * minutes),
        actual,
        row: row.to_vec(),
    };
    let outcomes =
        [outcome(0, 10.0, [6.0, 8.0, 12.0]), outcome(1, 0.0, [0.0, 1.0, 2.0]), outcome(2, 20.0, [1.0, 20.0, 19.0])];
    let figures = report::figures(&outcomes, &levels, 2.0, Timestamp::from_millis(0)).unwrap();
    assert_eq!((figures.mae, figures.mase, figures.n), (1.0, 0.5, 3));
    assert_eq!(figures.wape, Some(3.0 / 30.0));
    assert_eq!(figures.mape, Some(10.0));
    assert_eq!(figures.smape, 100.0 * (4.0 / 18.0 + 2.0) / 3.0);
    assert_eq!(figures.coverage["0.9"], 2.0 / 3.0);
    assert_eq!(figures.coverage["0.1"], 1.0 / 3.0);
    assert!((figures.pinball["0.9"] - (0.1 * 2.0 + 0.1 * 2.0 + 0.9) / 3.0).abs() < 1e-12);
    assert_eq!(report::figures(&[], &levels, 2.0, Timestamp::from_millis(0)), None);
}

#[test]
fn horizons_are_named_in_minutes() {
    assert_eq!(horizon_name(Span::from_minutes(60)), "60m");
    assert_eq!(horizon_name(Span::from_secs(30)), "30s");
}
