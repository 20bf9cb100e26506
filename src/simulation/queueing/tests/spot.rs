//! Spot units in a fleet: lost, replaced, replaced in time.

use super::*;
use crate::market::{Hazard, MarketSettings, PoolSettings, Prices, Supply};

fn pool(supply: Supply) -> MarketSettings {
    let pool = PoolSettings {
        instance_type: "m7i.large".to_owned(),
        zone: "a".to_owned(),
        prices: Prices::Fixed(1.0),
        supply,
    };
    MarketSettings { pools: vec![pool], ..MarketSettings::default() }
}

fn spot(units: u32, reaction: SpotReaction, market: MarketSettings, length: Span) -> RunSettings {
    let mut run = settings(units, 1, exponential(1.0), length);
    run.prices.spot = Some(SpotShare { share: 1.0, usd_hour: 1.0, reaction });
    run.fleet.drain_limit = Some(Span::from_secs(60));
    run.market = Some(market);
    run
}

fn trace(values: &[(i64, f64)]) -> Supply {
    let instances = values.iter().map(|(minute, value)| (start() + Span::from_minutes(*minute), *value)).collect();
    Supply::Recorded { instances, units: 1 }
}

/// Units in service at each whole minute.
fn ready(run: &RunSettings) -> (Vec<u32>, QueueOutcome) {
    let mut ready = Vec::new();
    let outcome = simulate(run, &steady(3.0, Span::from_minutes(30)), |look| {
        if look.now.since(start()).millis() % 60_000 == 0 {
            ready.push(look.ready);
        }
        None
    });
    (ready, outcome.unwrap())
}

#[test]
fn lost_units_are_replaced_from_what_the_market_still_has_and_then_on_demand() {
    let market = pool(trace(&[(0, 5.0), (3, 2.0)]));
    let (seen, outcome) = ready(&spot(5, SpotReaction::Wait, market, Span::from_minutes(6)));
    // Lost at three minutes, back one later.
    assert_eq!(seen, [5, 5, 5, 2, 5, 5]);
    let spot = outcome.classes[&PriceClass::Spot];
    assert_eq!((spot.launched, spot.lost, outcome.totals.notices), (5, 3, 3));
    assert_eq!(outcome.classes[&PriceClass::OnDemand].launched, 3);
    assert!(outcome.totals.dropped_lost > 0 && outcome.totals.is_conserved());
}

#[test]
fn a_fleet_that_heeds_the_notice_loses_no_capacity_and_no_request() {
    let market = pool(trace(&[(0, 5.0), (3, 2.0)]));
    let (seen, outcome) = ready(&spot(5, SpotReaction::AtNotice, market, Span::from_minutes(6)));
    // Noticed at one minute, replaced at two.
    assert_eq!(seen, [5, 5, 5, 5, 5, 5]);
    assert_eq!((outcome.totals.notices, outcome.totals.dropped()), (3, 0));
    assert_eq!(outcome.classes[&PriceClass::Spot].lost, 0, "they were gone before they could be taken");
}

#[test]
fn the_earlier_the_fleet_reacts_the_fewer_requests_are_lost() {
    let hazard = Hazard { per_hour: 0.5, bursts_per_day: 24.0, burst_share: 0.5, outage: Span::ZERO, units_max: None };
    let lost = |reaction| {
        let mut run = spot(20, reaction, pool(Supply::Generated(hazard)), Span::from_minutes(600));
        run.fleet.provisioning = Latency::Fixed(Span::from_secs(150));
        let length = Span::from_minutes(600);
        let totals = simulate(&run, &steady(15.0, length), still).unwrap().totals;
        assert!(totals.is_conserved());
        (totals.dropped_lost, totals.share_good.unwrap())
    };
    let (wait, notice) = (lost(SpotReaction::Wait), lost(SpotReaction::AtNotice));
    assert!(wait.0 > 100 && notice.0 < wait.0 / 5, "{wait:?} and {notice:?}");
    assert!(notice.1 > wait.1);
}
