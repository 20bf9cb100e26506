//! Units: when they come, how they go, what they cost.

use super::*;

/// Wishes by second.
fn at<'a>(wishes: &'a [(i64, u32)]) -> impl FnMut(&Observation) -> Option<u32> + 'a {
    let mut left = wishes.iter().peekable();
    move |look| {
        let now = look.now.since(start());
        let mut wish = None;
        while let Some((_, units)) = left.next_if(|(second, _)| Span::from_secs(*second) <= now) {
            wish = Some(*units);
        }
        wish
    }
}

fn log(millis: &[i64]) -> Arrivals {
    Arrivals::Log(millis.iter().map(|at| start() + Span::from_millis(*at)).collect())
}

fn fixed(mean_seconds: f64) -> ServiceTime {
    ServiceTime::Deterministic { mean_seconds }
}

#[test]
fn requests_wait_for_the_first_unit_of_a_fleet_at_zero() {
    let run = settings(0, 1, fixed(1.0), Span::from_minutes(5));
    let outcome = simulate(&run, &log(&[0, 1000, 2000]), at(&[(15, 1)])).unwrap();
    // Asked for at 15 s, there at 75 s: waits of 75, 75 and 75 s.
    assert_eq!((outcome.totals.served, outcome.totals.wait_mean_ms), (3, Some(75_000.0)));
    assert_eq!(outcome.actions, [(start() + Span::from_secs(15), 1)]);
}

#[test]
fn a_unit_that_is_to_go_finishes_what_it_holds() {
    // Three units hold one request each of 40 s; at 15 s two are to go.
    let run = settings(3, 1, fixed(40.0), Span::from_minutes(2));
    let mut draining = Vec::new();
    let mut wish = at(&[(15, 1)]);
    let outcome = simulate(&run, &log(&[0, 0, 0, 20_000]), |look| {
        draining.push((look.ready, look.draining));
        wish(look)
    })
    .unwrap();
    assert_eq!(draining, [(3, 0), (3, 0), (1, 2), (1, 0), (1, 0), (1, 0), (1, 0), (1, 0)]);
    assert_eq!((outcome.totals.served, outcome.totals.dropped()), (4, 0));
    // The fourth waited for the one that stayed, from 20 s to 40 s.
    assert_eq!(outcome.totals.wait_mean_ms, Some(5000.0));
    // Two units for 40 s, billed a minute each, and one for two minutes, at 0.001 USD a second.
    assert!((outcome.totals.cost_usd - 0.24).abs() < 1e-9, "{}", outcome.totals.cost_usd);
}

#[test]
fn a_drain_that_takes_too_long_loses_requests() {
    let mut run = settings(2, 1, fixed(40.0), Span::from_minutes(2));
    run.fleet.drain_limit = Some(Span::from_secs(20));
    let totals = simulate(&run, &log(&[0, 0]), at(&[(15, 0)])).unwrap().totals;
    assert_eq!((totals.served, totals.dropped_lost), (0, 2));
}

#[test]
fn the_idle_go_before_the_busy_and_those_to_come_before_those_that_are_there() {
    let run = settings(3, 1, fixed(100.0), Span::from_minutes(3));
    let mut seen = Vec::new();
    let mut wish = at(&[(0, 5), (15, 3), (30, 2)]);
    simulate(&run, &log(&[0, 0]), |look| {
        seen.push((look.ready, look.pending, look.draining));
        wish(look)
    })
    .unwrap();
    assert_eq!(seen[..4], [(3, 0, 0), (3, 2, 0), (3, 0, 0), (2, 0, 0)]);
}

#[test]
fn a_unit_that_warms_up_is_slower_at_first() {
    let warm_up = WarmUp { span: Span::from_secs(10), initial_speed: 0.0 };
    // Speed grows to 1 over 10 s: 5 s of work take 10 s, 0.05 s take one.
    assert!((warm_up.duration(5.0, moment::Nanos::ZERO) - 10.0).abs() < 1e-9);
    assert!((warm_up.duration(0.05, moment::Nanos::ZERO) - 1.0).abs() < 1e-9);
    assert!((warm_up.duration(6.0, moment::Nanos::from_seconds(10.0)) - 6.0).abs() < 1e-9);
    assert!((warm_up.duration(7.0, moment::Nanos::ZERO) - 12.0).abs() < 1e-9);
    let half = WarmUp { initial_speed: 0.5, ..warm_up };
    assert!((half.duration(7.5, moment::Nanos::ZERO) - 10.0).abs() < 1e-9);
}

#[test]
fn the_first_units_are_warm_and_those_launched_later_are_not() {
    let mut run = settings(1, 1, fixed(1.0), Span::from_minutes(5));
    run.fleet.warm_up = WarmUp { span: Span::from_secs(100), initial_speed: 0.0 };
    let first = simulate(&run, &log(&[0]), still).unwrap().totals;
    assert!((995.0..1010.0).contains(&first.p50_ms.unwrap()), "{:?}", first.p50_ms);
    run.fleet.initial = 0;
    // There after a minute, and cold: a second's work takes it √(2 · 100) s.
    let later = simulate(&run, &log(&[0]), at(&[(0, 1)])).unwrap().totals;
    assert!((74_000.0..75_500.0).contains(&later.p50_ms.unwrap()), "{:?}", later.p50_ms);
}

#[test]
fn launches_that_fail_are_tried_again_until_the_fleet_is_whole() {
    let mut run = settings(0, 1, fixed(0.1), Span::from_minutes(120));
    run.fleet.launch_failure = 0.5;
    let mut last = None;
    let mut wish = at(&[(0, 40)]);
    let outcome = simulate(&run, &log(&[]), |look| {
        last = Some((look.ready, look.pending));
        wish(look)
    })
    .unwrap();
    assert_eq!(last, Some((40, 0)));
    assert!((20..70).contains(&outcome.totals.failed_launches), "{}", outcome.totals.failed_launches);
    assert_eq!(outcome.totals.units_max, 40);
    assert_eq!(outcome.actions.len(), 1);
}

#[test]
fn a_queue_has_a_limit_and_patience_an_end() {
    // One request is served for 10 s; two may wait, 15 s at most.
    let queue = Queueing::Shared { limit: Some(2), timeout: Some(Span::from_secs(15)) };
    let run = RunSettings { queue, ..settings(1, 1, fixed(10.0), Span::from_minutes(2)) };
    let totals = simulate(&run, &log(&[0, 1000, 2000, 3000]), still).unwrap().totals;
    assert_eq!((totals.served, totals.dropped_full, totals.dropped_timeout), (2, 1, 1));
    let queue = Queueing::LeastConnections { limit: Some(2), timeout: Some(Span::from_secs(15)) };
    let own = simulate(&RunSettings { queue, ..run }, &log(&[0, 1000, 2000, 3000]), still).unwrap().totals;
    assert_eq!((own.served, own.dropped_full, own.dropped_timeout), (2, 1, 1));
    assert_eq!(own.abandoned_seconds, 15.0);
}

#[test]
fn classes_are_filled_in_order_and_what_is_reserved_is_paid_for_anyway() {
    let mut run = settings(0, 1, fixed(0.1), Span::from_minutes(60));
    run.prices = Pricing {
        reserved: 2,
        reserved_usd_hour: 1.0,
        on_demand_base: 1,
        spot: Some(SpotShare { share: 0.5, usd_hour: 0.9, reaction: SpotReaction::Wait }),
        ..run.prices
    };
    let of = |wishes: &[(i64, u32)]| simulate(&run, &log(&[]), at(wishes)).unwrap().classes;
    let full = of(&[(0, 7)]);
    let launched = [PriceClass::Reserved, PriceClass::OnDemand, PriceClass::Spot].map(|class| full[&class].launched);
    assert_eq!(launched, [2, 3, 2]);
    let costs: f64 = full.values().map(|class| class.cost_usd).sum();
    assert!((costs - (2.0 + 3.0 * 3.6 + 2.0 * 0.9)).abs() < 1e-9, "{costs}");
    assert_eq!(of(&[])[&PriceClass::Reserved].cost_usd, 2.0);
}

#[test]
fn what_a_controller_sees_is_the_time_since_it_last_looked() {
    let run = settings(2, 1, fixed(3.0), Span::from_secs(60));
    let mut looks = Vec::new();
    simulate(&run, &log(&[1000, 1000, 1000, 20_000]), |look| {
        looks.push(*look);
        None
    })
    .unwrap();
    assert_eq!((looks[0].rate_per_second, looks[0].latency_p95_ms, looks[0].utilization), (None, None, None));
    let second = looks[1];
    assert_eq!((second.arrived, second.served, second.in_service, second.queue), (3, 3, 0, 0));
    assert_eq!((second.rate_per_second, second.utilization), (Some(0.2), Some(9.0 / 30.0)));
    assert!((5990.0..6050.0).contains(&second.latency_p95_ms.unwrap()));
    assert_eq!(looks.iter().map(|look| look.arrived).sum::<u64>(), 4);
}
