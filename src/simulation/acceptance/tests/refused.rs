//! Bursts of ten seconds, units that take twenty minutes, and a forecast that is sure for five: refused, and rightly.

use prescale_decide::{Refusal, refusal};
use prescale_domain::DEFAULT_QUANTILES;

use super::super::*;
use super::*;

const PROVISIONING: Span = Span::from_minutes(20);
const CONFIDENT: Span = Span::from_minutes(5);

/// A model that says of each window what it said of the last; nothing more is known of bursts.
fn arima(end: Timestamp, load: f64) -> Made {
    let step = Span::from_minutes(1);
    Ok(prescale_domain::QuantileForecast {
        service: "service".into(),
        origin: end - step,
        step,
        model: "arima".to_owned(),
        reason: "champion".to_owned(),
        levels: DEFAULT_QUANTILES.to_vec(),
        values: vec![vec![load; DEFAULT_QUANTILES.len()]; 30],
    })
}

#[test]
fn micro_bursts_with_units_that_come_too_late_are_refused_in_the_words_of_the_specification() {
    let json = r#"{"error":"Forecasting horizon SLA violation: Node provisioning exceeds predictive lead time"}"#;
    let answer =
        |provisioning: Span| refusal(provisioning, provisioning, CONFIDENT).map(|refusal| refusal.json("front"));
    assert_eq!(answer(PROVISIONING).as_deref(), Some(json));
    assert_eq!(answer(Span::from_secs(301)).as_deref(), Some(json));
    assert_eq!(answer(CONFIDENT), None);
    assert_eq!(answer(Span::from_secs(299)), None);
    // In time by itself, but not with what comes before it.
    let late = refusal(CONFIDENT, CONFIDENT + Span::from_secs(1), CONFIDENT);
    assert!(matches!(late, Some(Refusal::LeadTime { .. })), "{late:?}");
}

#[test]
fn what_is_refused_would_run_by_the_reactive_rule_and_miss_its_objective() {
    let scenario = micro_bursts(7);
    let mut configured = configured(&scenario, 0.7);
    configured.confident_horizon = Some(CONFIDENT);
    let mut decisions = 0;
    let take = |decision: &Decision| {
        decisions += 1;
        assert_eq!(decision.inputs.forecast, None);
        if decision.inputs.load.is_some() {
            assert_eq!(decision.inputs.forecast_missing, "horizon-short");
            assert!(decision.reasons.iter().any(|reason| reason.code == "reactive-need"), "{decision:?}");
        }
    };
    let late = scenario.fly(&configured, arima, take).unwrap();
    assert!(decisions >= 119, "{decisions}");
    missed(&late, &["no request dropped", "at least 99.0 % within the objective"]);
    // Who knows the bursts keeps the capacity for the largest of those in the next twenty minutes.
    let mut known = scenario;
    known.run.fleet.initial = 30;
    missed(&known.run(clairvoyant(&known, PROVISIONING, 0.35)).unwrap(), &[]);
}
