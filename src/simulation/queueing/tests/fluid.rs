//! The fluid mode against the event-driven one, at rates at which both are possible.

use super::*;

#[track_caller]
fn alike(what: &str, exact: f64, fluid: f64, relative: f64, absolute: f64) {
    let apart = (exact - fluid).abs();
    assert!(apart <= relative * exact.abs() + absolute, "{what}: {exact} by events, {fluid} as a liquid");
}

/// Both modes under the same controller.
fn both(run: &RunSettings, arrivals: &Arrivals, wish: impl Fn(&Observation) -> Option<u32>) -> [Totals; 2] {
    let events = simulate(run, arrivals, &wish).unwrap().totals;
    [events, simulate_fluid(run, arrivals, &wish).unwrap().totals]
}

#[test]
fn latencies_below_overload_agree() {
    let length = Span::from_minutes(10);
    let times = [
        exponential(0.02),
        ServiceTime::LogNormal { mean_seconds: 0.02, squared_variation: 0.5 },
        ServiceTime::Deterministic { mean_seconds: 0.02 },
    ];
    for time in times {
        for (units, load) in [(5, 0.7), (5, 0.9), (40, 0.8), (40, 0.95), (40, 0.97)] {
            let run = RunSettings { objective: Span::from_millis(50), ..settings(units, 4, time, length) };
            let rate = load * f64::from(units) * 200.0;
            let [exact, fluid] = both(&run, &steady(rate, length), still);
            let name = format!("{time:?} {units} {load}");
            alike(&format!("{name} wait ms"), exact.wait_mean_ms.unwrap(), fluid.wait_mean_ms.unwrap(), 0.1, 0.05);
            alike(&format!("{name} p50"), exact.p50_ms.unwrap(), fluid.p50_ms.unwrap(), 0.05, 0.3);
            alike(&format!("{name} p95"), exact.p95_ms.unwrap(), fluid.p95_ms.unwrap(), 0.05, 0.3);
            alike(&format!("{name} p99"), exact.p99_ms.unwrap(), fluid.p99_ms.unwrap(), 0.08, 0.5);
            alike(&format!("{name} good"), exact.share_good.unwrap(), fluid.share_good.unwrap(), 0.0, 0.004);
            alike(&format!("{name} utilization"), exact.utilization.unwrap(), fluid.utilization.unwrap(), 0.01, 0.0);
        }
    }
}

#[test]
fn an_overload_that_a_controller_ends_agrees() {
    // 600 a second for an hour, twice that for ten minutes; two units are missing until a minute after the first look at
    // the rise.
    let per_second: Vec<f64> = (0..60).map(|minute| if (20..30).contains(&minute) { 1200.0 } else { 600.0 }).collect();
    let arrivals = Arrivals::Rate(RateSeries { start: start(), step: Span::from_minutes(1), per_second });
    let mut run =
        settings(4, 4, ServiceTime::LogNormal { mean_seconds: 0.02, squared_variation: 0.5 }, Span::from_minutes(60));
    run.fleet.warm_up = WarmUp { span: Span::from_secs(30), initial_speed: 0.2 };
    for (limit, timeout) in [(None, None), (Some(5000), None), (None, Some(Span::from_secs(8)))] {
        run.queue = Queueing::Shared { limit, timeout };
        let [exact, fluid] =
            both(&run, &arrivals, |look| look.rate_per_second.map(|rate| if rate > 800.0 { 8 } else { 4 }));
        let name = format!("{limit:?} {timeout:?}");
        let dropped = |totals: &Totals| totals.dropped() as f64 / totals.arrived as f64;
        alike(&format!("{name} dropped"), dropped(&exact), dropped(&fluid), 0.05, 0.002);
        alike(&format!("{name} good"), exact.share_good.unwrap(), fluid.share_good.unwrap(), 0.0, 0.01);
        alike(&format!("{name} wait"), exact.wait_mean_ms.unwrap(), fluid.wait_mean_ms.unwrap(), 0.05, 5.0);
        alike(&format!("{name} p99"), exact.p99_ms.unwrap(), fluid.p99_ms.unwrap(), 0.05, 10.0);
        alike(&format!("{name} longest"), exact.queue_max as f64, fluid.queue_max as f64, 0.05, 60.0);
        alike(&format!("{name} cost"), exact.cost_usd, fluid.cost_usd, 0.001, 0.0);
    }
}

#[test]
fn a_day_at_a_hundred_thousand_requests_a_second_is_a_matter_of_a_second() {
    let length = Span::from_minutes(1440);
    let per_second: Vec<f64> =
        (0..1440).map(|minute| 1e5 * (0.55 + 0.45 * (f64::from(minute) / 229.0).sin())).collect();
    let arrivals = Arrivals::Rate(RateSeries { start: start(), step: Span::from_minutes(1), per_second });
    let run = settings(400, 4, ServiceTime::LogNormal { mean_seconds: 0.012, squared_variation: 0.35 }, length);
    let totals = simulate_fluid(&run, &arrivals, still).unwrap().totals;
    assert!(totals.arrived > 4_000_000_000 && totals.events == 86_400, "{totals:?}");
    assert_eq!(totals.dropped(), 0);
}
