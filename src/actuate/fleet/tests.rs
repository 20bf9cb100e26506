//! What no sequence of wishes may break.

use prescale_domain::{Span, Timestamp};
use proptest::prelude::*;

use super::{Fleet, FleetSettings, latency};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn fixed() -> FleetSettings {
    FleetSettings {
        min: 1,
        max: 10,
        initial: 2,
        provisioning_latency: Span::from_secs(100),
        provisioning_latency_p90: Span::from_secs(100),
        warm_up: Span::from_secs(40),
        price_usd_hour: 3.6,
        minimum_billing: Span::from_secs(60),
        seed: 7,
    }
}

#[test]
fn a_unit_comes_into_service_warms_up_and_is_billed_from_its_request() {
    let mut fleet = Fleet::new(fixed(), at(0));
    assert_eq!(fleet.set_desired(at(10), 3), 3);
    let look = |second: i64| (fleet.ready(at(second)), fleet.serving_capacity(at(second)));
    assert_eq!(look(109), (2, 2.0));
    assert_eq!(look(110), (3, 2.0));
    assert_eq!(look(120), (3, 2.25));
    assert_eq!(look(150), (3, 3.0));
    // 0.001 USD a second: two units for 200 s and one for 190 s.
    assert_eq!(fleet.cost_usd(at(200)), 0.59);
    assert_eq!(fleet.unit_hours(at(200)), 590.0 / 3600.0);
}

#[test]
fn scale_in_ends_the_newest_pending_unit_and_then_the_oldest() {
    let mut fleet = Fleet::new(fixed(), at(0));
    fleet.set_desired(at(10), 3);
    fleet.set_desired(at(50), 4);
    fleet.set_desired(at(60), 3);
    assert_eq!(fleet.ready(at(110)), 3, "the one asked for at 10 s stayed");
    fleet.set_desired(at(120), 2);
    assert_eq!(fleet.serving_capacity(at(130)), 1.5, "the warm one was the oldest");
    assert_eq!(fleet.actions(), 4);
    // Ended after 10 s, but billed for a minute.
    assert_eq!(fleet.cost_usd(at(120)), 0.12 + 0.12 + 0.11 + 0.06);
}

#[test]
fn wishes_are_clamped_and_a_wish_for_what_is_there_is_no_action() {
    let mut fleet = Fleet::new(fixed(), at(0));
    assert_eq!(fleet.set_desired(at(1), 50), 10);
    assert_eq!(fleet.set_desired(at(2), 10), 10);
    assert_eq!(fleet.set_desired(at(3), 0), 1);
    assert_eq!(fleet.actions(), 2);
}

#[test]
fn latencies_have_the_configured_median_and_p90() {
    let settings = FleetSettings { provisioning_latency_p90: Span::from_secs(150), ..fixed() };
    let mut latencies: Vec<i64> = (0..4000).map(|number| latency(&settings, number).millis()).collect();
    latencies.sort_unstable();
    let near = |found: i64, expected: f64| (found as f64 / expected - 1.0).abs() < 0.03;
    assert!(near(latencies[2000], 100_000.0), "median {}", latencies[2000]);
    assert!(near(latencies[3600], 150_000.0), "p90 {}", latencies[3600]);
}

fn wishes() -> impl Strategy<Value = Vec<(i64, u32)>> {
    prop::collection::vec((0i64..200, 0u32..15), 0..40)
}

proptest! {
    #[test]
    fn units_are_conserved_and_costs_only_grow(wishes in wishes(), seed: u64) {
        let settings = FleetSettings { provisioning_latency_p90: Span::from_secs(150), seed, ..fixed() };
        let mut fleet = Fleet::new(settings, at(0));
        let (mut now, mut cost, mut hours) = (0, 0.0, 0.0);
        for (pause, units) in wishes {
            now += pause;
            prop_assert!(fleet.cost_usd(at(now)) >= cost && fleet.unit_hours(at(now)) >= hours);
            let wanted = fleet.set_desired(at(now), units);
            cost = fleet.cost_usd(at(now));
            hours = fleet.unit_hours(at(now));
            let (launched, ended) = fleet.launched_and_ended();
            prop_assert_eq!(launched - ended, u64::from(wanted));
            prop_assert!((1..=10).contains(&wanted));
            prop_assert!(fleet.ready(at(now)) <= wanted);
            prop_assert!(fleet.serving_capacity(at(now)) <= f64::from(fleet.ready(at(now))));
        }
        let settled = at(now + 100_000);
        prop_assert_eq!(fleet.serving_capacity(settled), f64::from(fleet.desired()));
    }

    #[test]
    fn what_is_known_to_be_warm_changes_no_bit(wishes in wishes(), seed: u64) {
        let settings = FleetSettings { provisioning_latency_p90: Span::from_secs(200), seed, ..fixed() };
        let mut quick = Fleet::new(settings, at(0));
        let mut now = 0;
        for (pause, units) in wishes {
            now += pause;
            quick.advance(at(now));
            quick.set_desired(at(now), units);
            // As read from a store, it knows of no warm unit.
            let slow = Fleet { warm: 0, ..quick.clone() };
            for later in [0, 30, 100, 170] {
                let moment = at(now + later);
                prop_assert_eq!(quick.ready(moment), slow.ready(moment));
                prop_assert_eq!(quick.serving_capacity(moment).to_bits(), slow.serving_capacity(moment).to_bits());
            }
            let mut slow = slow;
            prop_assert_eq!(slow.set_desired(at(now), 4), quick.clone().set_desired(at(now), 4));
            let mut same = quick.clone();
            same.set_desired(at(now), 4);
            prop_assert_eq!(same.units.iter().map(|unit| unit.in_service_at).collect::<Vec<_>>(),
                slow.units.iter().map(|unit| unit.in_service_at).collect::<Vec<_>>());
        }
    }

    #[test]
    fn looking_changes_nothing(wishes in wishes(), looks in prop::collection::vec(0i64..50, 1..5), seed: u64) {
        let settings = FleetSettings { provisioning_latency_p90: Span::from_secs(200), seed, ..fixed() };
        let (mut watched, mut alone) = (Fleet::new(settings, at(0)), Fleet::new(settings, at(0)));
        let mut now = 0;
        for (pause, units) in wishes {
            for look in &looks {
                watched.advance(at(now + pause * look / 50));
                watched.set_desired(at(now + pause * look / 50), watched.desired());
            }
            now += pause;
            prop_assert_eq!(watched.set_desired(at(now), units), alone.set_desired(at(now), units));
        }
        for later in [0, 50, 150, 300] {
            let moment = at(now + later);
            prop_assert_eq!(watched.state(moment), alone.state(moment));
            prop_assert_eq!(watched.serving_capacity(moment), alone.serving_capacity(moment));
            prop_assert_eq!(watched.cost_usd(moment), alone.cost_usd(moment));
        }
        prop_assert_eq!(watched.actions(), alone.actions());
    }
}
