//! An hour of much load at 09:00 on each day, learnt from a week of such days, and units that take five minutes to come.

use super::super::*;
use super::*;

/// Decisions that changed something: seconds after midnight, units, and what was said.
fn changes(
    scenario: &Scenario,
    configured: &Configured,
    forecast: impl FnMut(Timestamp, f64) -> Made,
) -> (Verdict, Vec<(i64, u32, String)>) {
    let mut changes: Vec<(i64, u32, String)> = Vec::new();
    let take = |decision: &Decision| {
        let units = decision.inputs.target.map(|target| target.desired);
        if units != Some(decision.desired) {
            let since = decision.at.since(scenario.run.start).millis() / 1000;
            changes.push((since, decision.desired, decision.binding.clone()));
        }
    };
    let verdict = scenario.fly(configured, forecast, take).unwrap();
    (verdict, changes)
}

#[test]
fn two_units_are_warm_a_quarter_of_an_hour_before_a_daily_spike_that_was_learnt() {
    const NINE: i64 = 9 * 3600;
    for seed in 1..=3 {
        let scenario = daily_spike(seed);
        let configured = configured(&scenario, 0.85).to_zero();
        let (verdict, changes) = changes(&scenario, &configured, usual(&configured, 30, 7));
        missed(&verdict, &[]);
        // The first decision that sees the window of 09:00 within fifteen minutes; a window takes 5 s to be closed.
        let warm = changes.iter().find(|(_, units, _)| *units > 1).unwrap();
        assert_eq!(*warm, (NINE - 15 * 60 + 5, 2, "pre-warm".to_owned()), "{changes:?}");
        // The rest is asked for when it is needed, so that it is there in time.
        let all = changes.iter().find(|(_, units, _)| *units >= 5).unwrap();
        assert!(all.0 < NINE - 5 * 60 && all.0 > NINE - 8 * 60, "{changes:?}");
        // An hour later all is as it was before.
        assert!(changes.last().is_some_and(|(at, units, _)| *at < NINE + 90 * 60 && *units == 1), "{changes:?}");
    }
}

#[test]
fn who_has_not_seen_the_days_before_is_late() {
    let scenario = daily_spike(1);
    let configured = configured(&scenario, 0.85).to_zero();
    let (verdict, changes) = changes(&scenario, &configured, unknown);
    assert!(changes.iter().all(|(_, _, binding)| binding != "pre-warm"), "{changes:?}");
    missed(&verdict, &["no request dropped", "at least 99.0 % within the objective"]);
}
