//! What no run may break, whatever comes and whatever the controller wishes.

use proptest::prelude::*;

use super::*;
use crate::market::{Hazard, MarketSettings, PoolSettings, Prices, Supply};

fn arrivals() -> impl Strategy<Value = Arrivals> {
    let step = Span::from_secs(20);
    let rates = prop::collection::vec(prop_oneof![Just(0.0), 0.0..40.0], 1..10);
    let counts = prop::collection::vec(0u64..600, 1..10);
    let log = prop::collection::vec(0i64..200_000, 0..800);
    prop_oneof![
        rates.prop_map(move |per_second| Arrivals::Rate(RateSeries { start: start(), step, per_second })),
        counts.prop_map(move |counts| Arrivals::Counts(CountSeries { start: start(), step, counts })),
        log.prop_map(|mut millis| {
            millis.sort_unstable();
            Arrivals::Log(millis.into_iter().map(|at| start() + Span::from_millis(at)).collect())
        }),
    ]
}

fn times() -> impl Strategy<Value = ServiceTime> {
    (0.01..3.0, 1.0..5.0, 0u8..4).prop_map(|(mean_seconds, squared_variation, kind)| match kind {
        0 => ServiceTime::Deterministic { mean_seconds },
        1 => ServiceTime::Exponential { mean_seconds },
        2 => ServiceTime::LogNormal { mean_seconds, squared_variation },
        _ => ServiceTime::HyperExponential { mean_seconds, squared_variation },
    })
}

fn market() -> MarketSettings {
    let hazard = Hazard {
        per_hour: 20.0,
        bursts_per_day: 400.0,
        burst_share: 0.6,
        outage: Span::from_secs(20),
        units_max: Some(6),
    };
    let pool = PoolSettings {
        instance_type: "m7i.large".to_owned(),
        zone: "a".to_owned(),
        prices: Prices::Fixed(1.0),
        supply: Supply::Generated(hazard),
    };
    MarketSettings { pools: vec![pool], notice: Span::from_secs(30), ..MarketSettings::default() }
}

prop_compose! {
    fn runs()(
        time in times(),
        (initial, concurrency, limit) in (0u32..5, 1u32..4, prop::option::of(0u32..30)),
        (shared, failure, warming) in (any::<bool>(), prop_oneof![Just(0.0), 0.0..0.6], 0i64..40),
        timeout in prop::option::of(1i64..20),
        drain in prop::option::of(0i64..20),
        (spot, reaction) in (prop_oneof![Just(0.0), 0.0..1.0], 0u8..3),
        seed: u64,
    ) -> RunSettings {
        let timeout = timeout.map(Span::from_secs);
        let mut run = settings(initial, concurrency, time, Span::from_secs(220));
        run.queue = if shared { Queueing::Shared { limit, timeout } } else { Queueing::LeastConnections { limit, timeout } };
        run.fleet.max = 12;
        run.fleet.provisioning = Latency::LogNormal { median: Span::from_secs(15), p90: Span::from_secs(30) };
        run.fleet.launch_failure = failure;
        run.fleet.warm_up = WarmUp { span: Span::from_secs(warming), initial_speed: 0.0 };
        run.fleet.drain_limit = drain.map(Span::from_secs);
        let reactions = [SpotReaction::Wait, SpotReaction::AtNotice, SpotReaction::AtRecommendation];
        run.prices.spot = Some(SpotShare { share: spot, usd_hour: 1.0, reaction: reactions[usize::from(reaction)] });
        run.market = Some(market());
        run.seed = seed;
        run
    }
}

/// Wishes, one a tick, over and over.
fn wishing(wishes: &[Option<u32>]) -> impl FnMut(&Observation) -> Option<u32> {
    let mut turn = wishes.iter().cycle();
    move |_| turn.next().copied().flatten()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_request_is_accounted_for(
        run in runs(),
        arrivals in arrivals(),
        wishes in prop::collection::vec(prop::option::of(0u32..14), 1..12),
    ) {
        let mut seen = 0;
        let mut wish = wishing(&wishes);
        let outcome = simulate(&run, &arrivals, |look| {
            seen += look.arrived;
            assert!(look.desired <= 12);
            assert!(look.utilization.is_none_or(|share| (0.0..=1.0 + 1e-9).contains(&share)));
            wish(look)
        }).unwrap();
        let totals = outcome.totals;
        prop_assert!(totals.is_conserved(), "{totals:?}");
        prop_assert!(seen <= totals.arrived && totals.good <= totals.served);
        prop_assert_eq!(outcome.windows.iter().map(|window| window.arrived).sum::<u64>(), totals.arrived);
        prop_assert_eq!(outcome.windows.iter().map(|window| window.served).sum::<u64>(), totals.served);
        prop_assert!(totals.desired_max <= 12);
        prop_assert!(totals.cost_usd >= 0.0 && totals.unit_hours >= 0.0);
        let lost: u64 = outcome.classes.values().map(|class| class.lost).sum();
        prop_assert!(run.prices.spot.as_ref().is_some_and(|spot| spot.share > 0.0) || lost == 0);
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes(run in runs(), arrivals in arrivals(), wishes in prop::collection::vec(prop::option::of(0u32..14), 1..12)) {
        let bytes = || serde_json::to_string(&simulate(&run, &arrivals, wishing(&wishes)).unwrap()).unwrap();
        prop_assert_eq!(bytes(), bytes());
        let fluid = || serde_json::to_string(&simulate_fluid(&run, &arrivals, wishing(&wishes)).unwrap()).unwrap();
        prop_assert_eq!(fluid(), fluid());
    }

    #[test]
    fn a_liquid_is_conserved_as_well(run in runs(), arrivals in arrivals(), wishes in prop::collection::vec(prop::option::of(0u32..14), 1..12)) {
        let totals = simulate_fluid(&run, &arrivals, wishing(&wishes)).unwrap().totals;
        let accounted = totals.served + totals.dropped() + totals.queued;
        // Each of five figures is rounded.
        prop_assert!(totals.arrived.abs_diff(accounted) <= 3, "{totals:?}");
    }

    #[test]
    fn arrivals_do_not_depend_on_who_serves(run in runs(), arrivals in arrivals(), wishes in prop::collection::vec(prop::option::of(0u32..14), 1..12)) {
        let arrived = |wishes: &[Option<u32>]| -> Vec<u64> {
            let outcome = simulate(&run, &arrivals, wishing(wishes)).unwrap();
            outcome.windows.iter().map(|window| window.arrived).collect()
        };
        prop_assert_eq!(arrived(&wishes), arrived(&[None]));
    }
}

#[test]
fn counts_and_logs_arrive_as_they_were_recorded() {
    let minute = Span::from_minutes(1);
    let run = settings(3, 1, exponential(0.01), Span::from_minutes(3));
    let counts = Arrivals::Counts(CountSeries { start: start(), step: minute, counts: vec![7, 0, 1000] });
    let of = |arrivals: &Arrivals| -> Vec<u64> {
        simulate(&run, arrivals, still).unwrap().windows.iter().map(|window| window.arrived).collect()
    };
    assert_eq!(of(&counts), [7, 0, 1000]);
    let moments = [-5, 0, 59_999, 60_000, 170_000, 180_000].map(|at| Timestamp::from_millis(start().millis() + at));
    assert_eq!(of(&Arrivals::Log(moments.to_vec())), [2, 1, 1]);
}

#[test]
fn a_rate_gives_as_many_as_it_says_with_the_spread_of_chance() {
    let step = Span::from_secs(10);
    let per_second: Vec<f64> = (0..600).map(|step| f64::from(step % 10)).collect();
    let run = RunSettings { end: start() + Span::from_secs(6000), ..settings(50, 1, exponential(0.01), step) };
    let arrivals = Arrivals::Rate(RateSeries { start: start(), step, per_second });
    let outcome = simulate(&run, &arrivals, still).unwrap();
    let expected = 60.0 * 10.0 * 45.0;
    assert!((outcome.totals.arrived as f64 - expected).abs() < 4.0 * f64::sqrt(expected));
    assert!((arrivals.mean_rate(start() + Span::from_secs(5), start() + Span::from_secs(25)) - 1.0).abs() < 1e-12);
}

#[test]
fn settings_that_make_no_sense_are_told_all_at_once() {
    let mut run = settings(1, 0, exponential(0.0), Span::from_minutes(1));
    run.fleet.min = 9;
    run.fleet.max = 6;
    run.tick = Span::from_secs(25);
    let told = simulate(&run, &steady(f64::NAN, Span::from_minutes(1)), still).unwrap_err().to_string();
    assert_eq!(
        told,
        "window 1m is not a whole number of ticks of 25s; service mean_seconds 0 is not positive; service concurrency is \
         0; fleet min 9 exceeds max 6; arrival rate NaN is negative or no number"
    );
}
