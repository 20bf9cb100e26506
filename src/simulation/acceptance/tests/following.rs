//! A load that rises and falls within minutes, and one that falls for two hours, followed by the reactive rule of a service
//! that is new.

use super::super::*;
use super::*;

#[test]
fn a_rise_is_followed_in_time_and_a_fall_afterwards() {
    for seed in 1..=5 {
        let scenario = rise_and_fall(seed);
        let mut configured = configured(&scenario, 0.85);
        configured.step = Span::from_secs(15);
        let flown = scenario.fly(&configured, unknown, |_| {}).unwrap();
        missed(&flown, &[]);
    }
    let scenario = rise_and_fall(7);
    let still = scenario.run(|_| None).unwrap();
    missed(&still, &["no request dropped", "scaled up before 3m", "scaled down after 4m"]);
    // Up and down again in the middle of the rise.
    let mut asked = [4, 4, 8, 8, 8, 4].into_iter();
    let nervous = scenario.run(|_| Some(asked.next().unwrap_or(14))).unwrap();
    missed(&nervous, &["scaled down after 4m"]);
}

#[test]
fn five_minutes_lie_between_a_change_and_a_scale_down_where_that_is_configured() {
    for seed in 1..=3 {
        let scenario = evening(seed);
        let flown = |minutes: i64| {
            let mut configured = configured(&scenario, 0.85);
            configured.policy.cooldown_down = Span::from_minutes(minutes);
            scenario.fly(&configured, unknown, |_| {}).unwrap()
        };
        let patient = flown(5);
        missed(&patient, &[]);
        let units: Vec<u32> = patient.outcome.actions.iter().map(|(_, units)| *units).collect();
        let lowered = units.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!(lowered >= 8 && units.last().is_some_and(|last| *last <= 4), "{units:?}");
        // The load alone would let it go sooner.
        missed(&flown(1), &["never scaled down within 5m of a change"]);
    }
}
