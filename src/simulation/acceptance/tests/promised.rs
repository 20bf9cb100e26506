//! What is promised of prediction: that which holds with each of three seeds is asserted, all else is in `docs/backtest.md`.

use super::super::*;

#[test]
fn heavy_what_is_said_to_be_reached_is_reached_with_three_seeds() {
    let promised = promises(&[1, 2, 3]).unwrap();
    let text = render(&promised);
    let [crowds, days] = promised.as_slice() else { panic!("{text}") };
    let reached = |on: &Promised| -> Vec<(Promise, Option<&'static str>)> {
        let reached = on.stands.iter().filter(|stand| stand.reached);
        reached.map(|stand| (stand.promise, stand.against)).collect()
    };
    assert_eq!(reached(crowds), [(Promise::SpikeAvailability, None)], "{text}");
    let on_days = [
        (Promise::Utilization, Some("static")),
        (Promise::Cost, Some("static")),
        (Promise::OverProvisioning, Some("static")),
        (Promise::SpikeAvailability, None),
    ];
    assert_eq!(reached(days), on_days, "{text}");
    // With crowds it is quicker than HPA and costs more, on plain days it is cheaper than HPA by little.
    let all = |on: &Promised, promise: Promise, is: fn(f64) -> bool| {
        let stand = on.stand(promise, Some("hpa")).unwrap();
        stand.found.iter().all(|found| found.is_some_and(is))
    };
    assert!(all(crowds, Promise::SpikeResponse, |change| change < -10.0), "{text}");
    assert!(all(crowds, Promise::Cost, |change| change > 0.0 && change < 25.0), "{text}");
    assert!(all(days, Promise::Cost, |change| change < -1.0), "{text}");
    assert!(all(days, Promise::OverProvisioning, |change| change < -5.0), "{text}");
    let json = serde_json::to_value(&promised).unwrap();
    assert_eq!(json[0]["stands"][0]["promise"], "spike-response");
    assert!(json[1]["prescale"][2]["cost_usd"].is_number() && text.lines().count() > 30, "{text}");
}

#[test]
fn a_promise_is_reached_if_it_is_with_every_seed_and_unknown_is_not_reached() {
    let stand =
        |found: &[Option<f64>]| super::super::promises::stand(Promise::Cost, Some("hpa"), found.to_vec()).reached;
    assert!(stand(&[Some(-40.0), Some(-55.0)]));
    assert!(!stand(&[Some(-39.0), Some(-55.0)]));
    assert!(!stand(&[Some(-55.0), None]) && !stand(&[]));
}
