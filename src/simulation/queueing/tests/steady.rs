//! Waiting in steady state: exact for M/M/c and M/G/1, loosely for M/G/c, and the laws that hold for any queue.

use super::*;
use crate::queueing::theory::{erlang_c, mg1_wait_seconds, mgc_wait_seconds, mmc_wait_seconds};

/// Mean waits of independent runs: their mean and the half-width of its 99 % confidence interval.
fn waits(servers: u32, rate: f64, time: ServiceTime, minutes: i64) -> (f64, f64) {
    /// 99.5th percentile of Student's t with 11 degrees of freedom.
    const T: f64 = 3.106;
    const RUNS: u64 = 12;
    let length = Span::from_minutes(minutes);
    let means: Vec<f64> = (0..RUNS)
        .map(|seed| {
            let run = RunSettings { seed: 100 + seed, ..settings(servers, 1, time, length) };
            let outcome = simulate(&run, &steady(rate, length), still).unwrap();
            // The first tenth is the way into the steady state.
            let settled = &outcome.windows[outcome.windows.len() / 10..];
            let weight = |window: &WindowOutcome| (window.wait_mean_ms.unwrap_or(0.0), window.served as f64);
            let (sum, count) = settled.iter().map(weight).fold((0.0, 0.0), |(s, n), (w, k)| (s + w * k, n + k));
            sum / count / 1000.0
        })
        .collect();
    let mean = means.iter().sum::<f64>() / RUNS as f64;
    let variance = means.iter().map(|each| (each - mean).powi(2)).sum::<f64>() / (RUNS - 1) as f64;
    (mean, T * (variance / RUNS as f64).sqrt())
}

#[track_caller]
fn holds(theory: Option<f64>, (mean, half): (f64, f64)) {
    let theory = theory.unwrap();
    // An interval that says nothing would prove nothing.
    assert!(half < 0.15 * theory, "±{half} s around {mean} s, theory {theory} s");
    assert!((mean - theory).abs() <= half, "{mean} s ± {half} s, theory {theory} s");
}

#[test]
fn m_m_c_waits_as_erlang_says() {
    for (servers, load, minutes) in [(1, 0.5, 400), (1, 0.8, 2000), (2, 0.7, 600), (5, 0.9, 600), (20, 0.95, 400)] {
        let rate = load * f64::from(servers) * 2.0;
        let found = waits(servers, rate, exponential(0.5), minutes);
        holds(mmc_wait_seconds(servers, rate, 0.5), found);
    }
}

#[test]
fn m_g_1_waits_as_pollaczek_and_khinchine_say() {
    let times = [
        ServiceTime::Deterministic { mean_seconds: 0.1 },
        ServiceTime::LogNormal { mean_seconds: 0.1, squared_variation: 2.0 },
        ServiceTime::HyperExponential { mean_seconds: 0.1, squared_variation: 4.0 },
    ];
    for time in times {
        for load in [0.5, 0.8] {
            let found = waits(1, load * 10.0, time, 400);
            holds(mg1_wait_seconds(load * 10.0, 0.1, time.squared_variation()), found);
        }
    }
}

#[test]
fn m_g_c_waits_about_as_allen_and_cunneen_say() {
    for time in [
        ServiceTime::Deterministic { mean_seconds: 0.1 },
        ServiceTime::HyperExponential { mean_seconds: 0.1, squared_variation: 4.0 },
    ] {
        let (mean, _) = waits(8, 72.0, time, 60);
        let theory = mgc_wait_seconds(8, 72.0, 0.1, time.squared_variation()).unwrap();
        assert!((mean / theory - 1.0).abs() < 0.15, "{mean} s, approximately {theory} s");
    }
}

#[test]
fn places_of_a_unit_are_servers_like_any_others() {
    let length = Span::from_minutes(60);
    let of = |units, concurrency| {
        let run = settings(units, concurrency, exponential(0.5), length);
        simulate(&run, &steady(14.0, length), still).unwrap().totals
    };
    assert_eq!(of(8, 1).wait_mean_ms, of(2, 4).wait_mean_ms);
}

#[test]
fn without_a_queue_as_many_are_lost_as_erlang_says() {
    let length = Span::from_minutes(2000);
    let queue = Queueing::Shared { limit: Some(0), timeout: None };
    let run = RunSettings { queue, ..settings(5, 1, exponential(0.5), length) };
    let totals = simulate(&run, &steady(8.0, length), still).unwrap().totals;
    let waits = erlang_c(5, 4.0).unwrap();
    // Erlang's first formula from his second.
    let blocked = waits * (1.0 - 0.8) / (1.0 - 0.8 * waits);
    let found = totals.dropped_full as f64 / totals.arrived as f64;
    assert!((found / blocked - 1.0).abs() < 0.02, "{found} of {blocked}");
}

#[test]
fn little_s_law_holds_exactly_for_a_queue_that_ends_empty() {
    let length = Span::from_minutes(60);
    let arrivals = Arrivals::Rate(RateSeries { start: start(), step: length, per_second: vec![9.5] });
    let run = settings(5, 1, exponential(0.5), Span::from_minutes(90));
    let totals = simulate(&run, &arrivals, still).unwrap().totals;
    assert_eq!((totals.queued, totals.in_service), (0, 0));
    let in_queue = totals.queue_mean * Span::from_minutes(90).seconds();
    assert!((in_queue / totals.waited_seconds - 1.0).abs() < 1e-9, "{in_queue} s and {} s", totals.waited_seconds);
}

#[test]
fn the_shortest_queue_waits_longer_than_one_queue_for_all_and_shorter_than_chance() {
    let length = Span::from_minutes(400);
    let of = |queue| {
        let run = RunSettings { queue, ..settings(4, 1, exponential(0.5), length) };
        simulate(&run, &steady(7.0, length), still).unwrap().totals.wait_mean_ms.unwrap()
    };
    let one = of(Queueing::Shared { limit: None, timeout: None });
    let shortest = of(Queueing::LeastConnections { limit: None, timeout: None });
    // By chance each unit is an M/M/1 with an eighth of a second to spare in one.
    let chance = 1000.0 * mmc_wait_seconds(1, 1.75, 0.5).unwrap();
    assert!(one < shortest && shortest < 0.5 * chance, "{one} ms, {shortest} ms, {chance} ms");
}
