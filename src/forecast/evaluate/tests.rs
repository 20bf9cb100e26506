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
        models: ModelKind::ALL
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
fn horizons_are_named_in_minutes() {
    assert_eq!(horizon_name(Span::from_minutes(60)), "60m");
    assert_eq!(horizon_name(Span::from_secs(30)), "30s");
}
