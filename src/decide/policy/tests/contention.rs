//! What a service has where the fleet has not enough for all, and members of consumer groups.

use prescale_domain::*;

use crate::tests::{check, inputs};
use crate::{advice, decide, throttled};

fn granted(load: f64, present: u32, units: u32) -> DecisionInputs {
    let granted = Some(Grant { units, wish: 12, criticality: 0.5 });
    let fleet = ResourceLimits { units: Some(30), ..ResourceLimits::default() };
    let limits = Some(Limits { fleet, granted, ..Limits::default() });
    DecisionInputs { circumstances: Circumstances { limits, ..Circumstances::default() }, ..inputs(load, present) }
}

#[test]
fn what_is_granted_is_had_and_what_others_need_more_is_given_up() {
    check(&granted(480.0, 10, 11), "forecast-need granted", 11);
    check(&granted(480.0, 10, 12), "forecast-need", 12);
    // Running units, too, and at once; never below the bounds of the service.
    check(&granted(480.0, 10, 6), "forecast-need granted", 6);
    check(&granted(480.0, 10, 0), "forecast-need granted min-units", 2);
    // Units that others have not given back yet can't be had, whatever is granted.
    let mut waiting = granted(480.0, 10, 11);
    waiting.circumstances.limits.as_mut().unwrap().others_units = 20;
    check(&waiting, "forecast-need granted limited optimize-resources", 10);
    // Nothing is known of it: it is left alone.
    let unseen = DecisionInputs { target: None, ..granted(480.0, 10, 6) };
    assert!(decide(&unseen).reasons.iter().all(|reason| reason.code != "granted"));
}

#[test]
fn callers_are_told_how_much_of_the_load_is_served() {
    // A unit carries 50.
    let told = |load, units| {
        let decision = decide(&granted(load, 10, units));
        let (throttle, why) = throttled(&decision).unzip();
        assert_eq!(advice(&decision).throttle, throttle);
        throttle.map(|throttle| (throttle.level, throttle.admit, why.unwrap()))
    };
    let why = |text: &str| format!("the fleet has not enough for all: {text}");
    let few = why("8 units of 12 carry 83.3 % of the load of 480");
    assert_eq!(told(480.0, 8), Some((ThrottleLevel::Throttle, 400.0 / 480.0, few)));
    let fewer = why("4 units of 12 carry 41.7 % of the load of 480");
    assert_eq!(told(480.0, 4), Some((ThrottleLevel::Reduce, 200.0 / 480.0, fewer)));
    // Fewer than it would have, but enough for now.
    assert_eq!(told(480.0, 10), None);
    assert_eq!(told(480.0, 12), None);
}

#[test]
fn a_consumer_group_grows_to_a_divisor_of_its_partitions_in_one_jump() {
    let of = |partitions, load: f64, present| {
        let mut case = inputs(load, present);
        case.settings.max_units = 40;
        case.circumstances.partitions = Some(partitions);
        case
    };
    check(&of(24, 480.0, 10), "forecast-need", 12);
    check(&of(32, 480.0, 10), "forecast-need partitions", 16);
    check(&of(11, 480.0, 10), "forecast-need partitions", 11);
    // Less only where there is an even number below.
    let mut falls = of(16, 480.0, 14);
    check(&falls, "forecast-need partitions", 14);
    falls.target = falls.target.map(|target| TargetState { desired: 30, ready: Some(30), ..target });
    let decision = decide(&falls);
    assert_eq!((decision.desired, decision.reasons.last().unwrap().code.as_str()), (16, "partitions"));
    // What is held or wanted as it is stays.
    check(&of(16, 480.0, 12), "forecast-need", 12);
    check(&DecisionInputs { load: None, ..of(16, 480.0, 10) }, "hold-gap", 10);
}
