//! The order of victims and the steps of a drain.

use prescale_domain::{ScaleInSettings, Span, Timestamp, UnitView, VictimWeights};
use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

fn unit(id: &str, age_minutes: i64) -> UnitView {
    UnitView {
        id: id.to_owned(),
        started_at: NOW - Span::from_minutes(age_minutes),
        in_flight: Some(3),
        degraded: false,
        price_usd_hour: Some(0.1),
        spot_risk: None,
        protected: false,
    }
}

fn order(units: &[UnitView], count: usize) -> String {
    let found = victims(units, count, NOW, &VictimWeights::default());
    found.iter().map(|victim| victim.unit.id.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn idle_goes_before_degraded_before_old_before_expensive_before_risky() {
    let units = [
        unit("young", 1),
        UnitView { spot_risk: Some(0.9), ..unit("risky", 1) },
        UnitView { price_usd_hour: Some(0.4), ..unit("dear", 1) },
        unit("old", 600),
        UnitView { degraded: true, ..unit("degraded", 1) },
        UnitView { in_flight: Some(0), ..unit("idle", 1) },
        UnitView { in_flight: Some(0), protected: true, ..unit("protected", 900) },
    ];
    assert_eq!(order(&units, 9), "idle degraded old dear risky young");
    assert_eq!(order(&units, 2), "idle degraded");
    assert_eq!(order(&units, 0), "");
}

#[test]
fn among_equals_the_older_and_then_the_first_by_name_goes() {
    assert_eq!(order(&[unit("b", 5), unit("c", 9), unit("a", 5)], 3), "c a b");
    // What is not known speaks for nothing.
    let unknown = UnitView { in_flight: None, price_usd_hour: None, ..unit("unknown", 5) };
    assert_eq!(order(&[unit("a", 5), unknown], 2), "a unknown");
}

#[test]
fn a_drain_waits_then_closes_then_removes_all_at_the_same_time() {
    let units = [unit("a", 5), unit("b", 6)];
    let chosen = victims(&units, 2, NOW, &VictimWeights::default());
    let plan = drain_plan(&chosen, NOW, &ScaleInSettings::default());
    assert_eq!(plan.len(), 2);
    let at = |secs: i64, in_flight| drain_step(&plan[1], NOW + Span::from_secs(secs), in_flight);
    assert_eq!(at(0, Some(2)), DrainStep::Wait(NOW + Span::from_secs(30)));
    assert_eq!(at(1, Some(0)), DrainStep::Remove);
    assert_eq!(at(29, None), DrainStep::Wait(NOW + Span::from_secs(30)));
    assert_eq!(at(30, Some(2)), DrainStep::Close);
    assert_eq!(at(59, Some(1)), DrainStep::Close);
    assert_eq!(at(60, Some(1)), DrainStep::RemoveBusy(Some(1)));
    assert_eq!(at(60, None), DrainStep::RemoveBusy(None));
}

#[test]
fn a_start_is_overdue_after_its_limit() {
    let settings = ScaleInSettings::default();
    assert!(!start_is_overdue(NOW, NOW + Span::from_secs(30), &settings));
    assert!(start_is_overdue(NOW, NOW + Span::from_millis(30_001), &settings));
}

#[test]
fn what_is_in_flight_needs_units() {
    assert_eq!(busy_units(Some(9.0), Some(4.0)), Some(3));
    assert_eq!(busy_units(Some(9.0), None), Some(1));
    assert_eq!(busy_units(Some(0.0), Some(4.0)), None);
    assert_eq!(busy_units(None, Some(4.0)), None);
    assert_eq!(busy_units(Some(f64::NAN), Some(4.0)), None);
}

proptest! {
    #[test]
    fn the_order_of_victims_does_not_depend_on_the_order_of_units(
        ages in prop::collection::vec((0i64..100, any::<bool>(), prop::option::of(0u32..3)), 1..12), count in 0usize..12, turn in 0usize..12,
    ) {
        let mut units: Vec<UnitView> = ages.iter().enumerate().map(|(index, (age, degraded, in_flight))| {
            UnitView { degraded: *degraded, in_flight: *in_flight, ..unit(&format!("u{index}"), *age) }
        }).collect();
        let first = order(&units, count);
        let places = turn % units.len();
        units.rotate_left(places);
        units.reverse();
        prop_assert_eq!(order(&units, count), first);
    }
}
