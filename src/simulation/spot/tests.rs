//! What the proof says, pinned on traces made here; the recorded ones are played by the example `spot`.

use prescale_domain::SpotSettings;
use prescale_domain::{Span, Timestamp};

use super::*;
use crate::market::{MarketSettings, PoolSettings, Prices, Supply};

const DAYS: i64 = 3;

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_millis(minutes * 60_000)
}

fn fleet(median: i64, p90: i64, seed: u64) -> FleetSettings {
    FleetSettings {
        launch_median: Span::from_secs(median),
        launch_p90: Span::from_secs(p90),
        minimum_billing: Span::from_secs(60),
        on_demand_usd_hour: 1.0,
        tick: Span::from_secs(15),
        seed,
    }
}

/// A pool of 16 units that is dry for `dry` minutes every so many hours, at times that differ by pool.
fn pool(number: i64, every_hours: i64, dry: i64) -> RecordedPool {
    let outages = (0..40).map(|turn| 97 * (number + 1) + turn * 60 * every_hours);
    let changes = outages.flat_map(|from| [(at(from), 0.0), (at(from + dry), 1.0)]);
    let instances = [(at(0), 1.0)].into_iter().chain(changes).chain([(at(60 * 24 * DAYS), 1.0)]);
    let mut instances: Vec<(Timestamp, f64)> = instances.filter(|(moment, _)| *moment <= at(60 * 24 * DAYS)).collect();
    instances.sort_by_key(|(moment, _)| *moment);
    RecordedPool { instance_type: "m".to_owned(), zone: format!("z{number}"), instances, prices: None }
}

fn market(pools: i64) -> Scenario {
    let pools = (0..pools).map(|number| pool(number, 7 + number, 40)).collect();
    Scenario::recorded("four zones", pools, 16, LoadShape::usual(1)).unwrap()
}

fn played(scenario: &Scenario, fleet: &FleetSettings, strategy: Strategy) -> Outcome {
    play(scenario, fleet, strategy, &SpotSettings::default()).unwrap()
}

fn outcomes(scenario: &Scenario, fleet: &FleetSettings) -> [Outcome; 6] {
    Strategy::ALL.map(|strategy| played(scenario, fleet, strategy))
}

#[test]
fn spot_first_halves_the_cost_and_is_short_no_longer() {
    let scenario = market(4);
    // Where a unit starts more slowly than a notice tells, less is spot and more is spare.
    for (median, p90, least) in [(75, 110, 0.5), (150, 240, 0.0)] {
        let fleet = fleet(median, p90, 1);
        let [on_demand, naive, price, _, prescale, _] = outcomes(&scenario, &fleet);
        let saved = 1.0 - prescale.lived.cost_usd / on_demand.lived.cost_usd;
        assert!(saved > least, "{saved} saved: {prescale:?}");
        assert!(prescale.short <= on_demand.short, "{} and {} short", prescale.short, on_demand.short);
        assert!(naive.short > on_demand.short && price.short > on_demand.short, "{naive:?} {price:?}");
        assert!(prescale.interruptions > 0 && prescale.survived * 10 >= prescale.interruptions * 9, "{prescale:?}");
        assert!(prescale.lived.cost_usd >= limit(&scenario, &fleet).unwrap().cost_usd);
    }
}

#[test]
fn on_a_constant_load_only_losses_leave_anybody_short() {
    let load = LoadShape { mean_units: 10.0, swing_units: 0.0, noise: 0.0, headroom: 0.0, seed: 1 };
    let played = |lost: &[i64], strategy| {
        let falls = lost.iter().flat_map(|minute| [(at(*minute), 0.0), (at(*minute + 60), 1.0)]);
        let instances = [(at(0), 1.0)].into_iter().chain(falls).chain([(at(60 * 24 * DAYS), 1.0)]).collect();
        let scenario = Scenario::recorded("constant", vec![RecordedPool { instances, ..pool(0, 9, 9) }], 16, load);
        // Each start takes 75 s: five ticks of 15 s.
        played(&scenario.unwrap(), &fleet(75, 75, 1), strategy)
    };
    let ticks = |outcome: &Outcome| (outcome.short * (DAYS * 5760) as f64).round() as i64;
    for strategy in Strategy::ALL {
        let calm = played(&[], strategy);
        assert_eq!((ticks(&calm), calm.lived.spot_launches > 0), (0, strategy != Strategy::AllOnDemand), "{calm:?}");
        let losses: Vec<i64> = (0..10).map(|turn| 600 + 300 * turn).collect();
        let lossy = played(&losses, strategy);
        let waits = matches!(strategy, Strategy::NaiveSpot | Strategy::PriceOnly);
        assert_eq!(ticks(&lossy), if waits { 10 * 5 } else { 0 }, "{lossy:?}");
    }
}

#[test]
fn where_nothing_can_be_had_all_cost_what_on_demand_costs() {
    let dry = RecordedPool { instances: vec![(at(0), 0.0), (at(600), 0.0)], ..pool(0, 9, 9) };
    let scenario = Scenario::recorded("dry", vec![dry], 16, LoadShape::usual(1)).unwrap();
    let all = outcomes(&scenario, &fleet(75, 110, 1));
    for outcome in all {
        assert_eq!((outcome.lived.spot_launches, outcome.interruptions), (0, 0));
        assert!((outcome.lived.cost_usd / all[0].lived.cost_usd - 1.0).abs() < 1e-9, "{outcome:?}");
        assert_eq!(outcome.short, all[0].short);
    }
}

#[test]
fn nobody_sees_what_a_trace_has_not_told_yet() {
    let mut one = market(3);
    one.end = at(60 * 30);
    let mut other = one.clone();
    for pool in &mut other.market.pools {
        if let Supply::Recorded { instances, .. } = &mut pool.supply {
            // After the end and what is noticed before it.
            instances.retain(|(moment, _)| *moment <= at(60 * 30 + 2));
            instances.push((at(60 * 30 + 3), 0.0));
        }
    }
    let fleet = fleet(75, 110, 1);
    assert_eq!(outcomes(&one, &fleet), outcomes(&other, &fleet));
}

#[test]
fn a_run_is_the_same_each_time_and_differs_by_seed() {
    let scenario = generated("generated", 4, 1, LoadShape::usual(1));
    let of = |scenario: &Scenario, seed| played(scenario, &fleet(75, 110, seed), Strategy::Prescale);
    let first = of(&scenario, 1);
    assert_eq!(first, of(&scenario, 1));
    assert_ne!(first, of(&scenario, 2));
    let other = LoadShape::usual(2);
    assert_ne!(scenario.load.needed(at(5)), other.needed(at(5)));
}

#[test]
fn a_unit_is_billed_at_the_price_of_its_time() {
    let instances = vec![(at(0), 1.0), (at(600), 1.0)];
    let prices = Some(vec![(at(0), 0.2), (at(300), 0.4)]);
    let pool = RecordedPool { instances, prices, ..pool(0, 9, 9) };
    let load = LoadShape { mean_units: 4.0, swing_units: 0.0, noise: 0.0, headroom: 0.0, seed: 1 };
    let scenario = Scenario::recorded("priced", vec![pool], 16, load).unwrap();
    let [on_demand, naive, ..] = outcomes(&scenario, &fleet(75, 110, 1));
    // The run ends with its last tick, 15 seconds before the end.
    let ticks = 15.0 / 3600.0;
    assert!((on_demand.lived.cost_usd - 4.0 * (10.0 - ticks)).abs() < 1e-9);
    let spot = 4.0 * (5.0 * 0.2 + (5.0 - ticks) * 0.4);
    // The four on-demand units of the start ran until their successors served.
    let start = naive.lived.cost_usd - spot;
    assert!(start > 0.0 && start < 4.0 * 300.0 / 3600.0, "{start}");
    assert_eq!(on_demand.short, 0.0);
}

#[test]
fn a_market_without_pools_is_refused() {
    let mut scenario = market(1);
    scenario.market = MarketSettings::default();
    assert!(play(&scenario, &fleet(75, 110, 1), Strategy::Prescale, &SpotSettings::default()).is_err());
    let broken = PoolSettings {
        instance_type: "m".to_owned(),
        zone: "a".to_owned(),
        prices: Prices::Fixed(-1.0),
        supply: Supply::Recorded { instances: vec![(at(0), 1.0)], units: 1 },
    };
    scenario.market.pools.push(broken);
    assert!(limit(&scenario, &fleet(75, 110, 1)).is_err());
}
