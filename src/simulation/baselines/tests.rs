//! What holds for every baseline.

use prescale_domain::{Span, TargetState, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::arena::Tally;

/// What a controller sees of a fleet.
pub(crate) fn seen(now: Timestamp, desired: u32, ready: u32) -> Tick {
    Tick { now, state: TargetState { desired, ready: Some(ready), min: None, max: None, observed_at: now } }
}

pub(crate) fn fly(bout: &Bout, autoscaler: &mut dyn Autoscaler) -> Tally {
    bout.drive(|tick| autoscaler.decide(tick))
}

/// Three days of training and one to fly, with a daily wave and some noise.
pub(crate) fn course(noise: &[f64]) -> Course {
    let start = Timestamp::from_millis(0);
    let step = Span::from_minutes(5);
    let load: Vec<f64> = (0..4 * 288)
        .map(|index| {
            let wave = 100.0 + 60.0 * (f64::from(index) / 288.0 * std::f64::consts::TAU).sin();
            wave + noise[index as usize % noise.len()]
        })
        .collect();
    let training = Demand { start, step, load: load[..3 * 288].to_vec() };
    let mut bout = crate::arena::fixture::bout(&[]);
    bout.demand = Demand { start: training.end(), step, load: load[3 * 288..].to_vec() };
    bout.fleet.initial = 12;
    Course { training, bout }
}

/// Desired capacity by tick, for each variant.
fn decisions(system: System, course: &Course) -> Vec<(&'static str, Vec<u32>)> {
    let contender = system.build(course).unwrap();
    let flown = contender.variants().iter().map(|variant| {
        let mut autoscaler = contender.enter(&course.bout, Knobs { target: 0.7, variant });
        let mut desired = Vec::new();
        course.bout.drive(|tick| {
            let wish = autoscaler.decide(tick);
            desired.push(wish.unwrap_or(tick.state.desired));
            wish
        });
        (*variant, desired)
    });
    flown.collect()
}

#[test]
fn names_are_kept_and_read_back() {
    let names: Vec<&str> = System::ALL.into_iter().map(System::name).collect();
    let promised = "prescale, hpa, static-peak, static-p95, cron, aws-target-tracking, aws-predictive, keda, phpa, \
                    phpa-chronological, kpa, crane, oracle";
    assert_eq!(names.join(", "), promised);
    assert!(System::ALL.into_iter().all(|system| system.name().parse() == Ok(system)));
    let error = "hap".parse::<System>().unwrap_err();
    assert_eq!(error.to_string(), format!("unknown system `hap`, expected one of {promised}"));
}

#[test]
fn keda_is_the_hpa_from_one_replica_on() {
    let course = course(&[0.0, 15.0, -10.0, 3.0]);
    assert_eq!(decisions(System::Keda, &course), decisions(System::Hpa, &course));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]

    /// Whatever happens later, the decisions up to now are the same.
    #[test]
    fn nobody_but_the_oracle_sees_the_future(noise in prop::collection::vec(-20.0..20.0, 7), cut in 20usize..280, factor in 0.3..3.0) {
        let course = course(&noise);
        let mut other = course.clone();
        other.bout.demand.load[cut..].iter_mut().for_each(|load| *load *= factor);
        // The tick at which the change begins still decides on older data; KPA's metric is as good as new.
        let ticks = cut * 20;
        for system in System::baselines().filter(|system| *system != System::Oracle) {
            let (one, two) = (decisions(system, &course), decisions(system, &other));
            for ((variant, one), (_, two)) in one.iter().zip(&two) {
                prop_assert_eq!(&one[..ticks], &two[..ticks], "{} {}", system, variant);
            }
        }
    }

    #[test]
    fn the_same_flight_twice_is_the_same(noise in prop::collection::vec(-20.0..20.0, 7)) {
        let course = course(&noise);
        for system in System::baselines() {
            prop_assert_eq!(decisions(system, &course), decisions(system, &course));
        }
    }
}
