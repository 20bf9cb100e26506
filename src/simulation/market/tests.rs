//! What no market may break, and that recorded traces are kept to the unit.

use proptest::prelude::*;

use super::*;

mod traces;

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_millis(minutes * 60_000)
}

fn pool(zone: &str, price: f64, supply: Supply) -> PoolSettings {
    PoolSettings { instance_type: "m7i.large".to_owned(), zone: zone.to_owned(), prices: Prices::Fixed(price), supply }
}

fn recorded(values: &[(i64, f64)], units: u32) -> Supply {
    Supply::Recorded { instances: values.iter().map(|(minute, value)| (at(*minute), *value)).collect(), units }
}

fn market(pools: Vec<PoolSettings>, seed: u64) -> Market {
    let settings = MarketSettings { pools, ..MarketSettings::default() };
    Market::new(&settings, at(0), at(60 * 24 * 30), seed).unwrap()
}

const HAZARD: Hazard =
    Hazard { per_hour: 0.0, bursts_per_day: 0.0, burst_share: 0.0, outage: Span::ZERO, units_max: None };

#[test]
fn a_recorded_trace_gives_and_takes_as_many_units_as_it_says() {
    let mut market = market(vec![pool("a", 0.1, recorded(&[(0, 2.0), (60, 1.0), (90, 4.0), (120, 0.0)], 2))], 1);
    let tenants: Vec<_> = (0..5).map_while(|unit| market.launch(unit, at(1))).collect();
    let lost: Vec<_> = tenants.iter().map(|tenant| tenant.lost_at.unwrap()).collect();
    assert_eq!(lost, [at(120), at(120), at(60), at(60)], "four places, two of them gone after an hour");
    assert_eq!(tenants[2].noticed_at, Some(at(58)));
    assert_eq!((market.obtainable(0, at(61)), market.obtainable(0, at(91)), market.obtainable(0, at(121))), (0, 4, 0));
    market.end(&tenants[0]);
    assert_eq!(market.launch(9, at(61)).unwrap().place, 0);
    // Launched inside what would have been its notice.
    market.end(&tenants[1]);
    assert_eq!(market.launch(10, at(119)).unwrap().noticed_at, Some(at(119)));
}

#[test]
fn the_cheapest_pool_that_has_a_unit_gives_it_unless_tenants_are_spread() {
    let pools = || vec![pool("a", 0.2, Supply::Generated(HAZARD)), pool("b", 0.1, recorded(&[(0, 1.0)], 1))];
    let mut cheap = market(pools(), 1);
    let from: Vec<_> = (0..3).map(|unit| cheap.launch(unit, at(0)).unwrap().pool).collect();
    assert_eq!(from, [1, 0, 0]);
    let settings = MarketSettings { pools: pools(), allocation: Allocation::Diversified, ..MarketSettings::default() };
    let mut spread = Market::new(&settings, at(0), at(1000), 1).unwrap();
    let from: Vec<_> = (0..3).map(|unit| spread.launch(unit, at(0)).unwrap().pool).collect();
    assert_eq!(from, [1, 0, 0], "the second pool has only one");
}

#[test]
fn losses_come_at_the_rate_of_the_hazard() {
    let hazard = Hazard { per_hour: 0.1, ..HAZARD };
    let mut market = market(vec![pool("a", 0.1, Supply::Generated(hazard))], 3);
    let hours = |tenant: Tenancy| tenant.lost_at.unwrap().since(at(0)).seconds() / 3600.0;
    let mean = (0..4000).map(|unit| hours(market.launch(unit, at(0)).unwrap())).sum::<f64>() / 4000.0;
    assert!((9.5..10.5).contains(&mean), "mean life {mean} h");
}

#[test]
fn a_burst_strikes_the_pools_of_a_zone_together_and_nothing_can_be_had_after_it() {
    let hazard = Hazard { bursts_per_day: 1.0, burst_share: 0.5, outage: Span::from_minutes(30), ..HAZARD };
    let zone = |name| pool(name, 0.1, Supply::Generated(hazard));
    let mut market = market(vec![zone("a"), zone("a"), zone("b")], 5);
    let mut losses = |pool| -> Vec<Timestamp> {
        let tenants = (0..200).map(|unit| market.launch_in(pool, unit, at(0)).unwrap());
        tenants.filter_map(|tenant| tenant.lost_at).collect()
    };
    let (first, second, other) = (losses(0), losses(1), losses(2));
    let burst = *first.iter().min().unwrap();
    let struck = |losses: &[Timestamp]| losses.iter().filter(|lost| **lost == burst).count();
    assert!((80..120).contains(&struck(&first)) && (80..120).contains(&struck(&second)));
    assert_eq!(struck(&other), 0, "another zone has bursts of its own");
    assert_eq!(market.obtainable(0, burst + Span::from_minutes(29)), 0);
    // The first burst that is not followed by another at once.
    let bursts: BTreeSet<Timestamp> = first.into_iter().collect();
    let mut pairs = bursts.iter().zip(bursts.iter().skip(1));
    let calm = pairs.find(|(burst, next)| next.since(**burst) > Span::from_minutes(60)).unwrap().0;
    assert_eq!(market.obtainable(0, *calm + Span::from_minutes(29)), 0);
    assert_eq!(market.obtainable(0, *calm + Span::from_minutes(30)), u32::MAX);
}

#[test]
fn recommendations_precede_notices_and_some_are_false() {
    let hazard = Hazard { per_hour: 0.05, ..HAZARD };
    let mut market = market(vec![pool("a", 0.1, Supply::Generated(hazard))], 7);
    let tenants: Vec<_> = (0..4000).map(|unit| market.launch(unit, at(0)).unwrap()).collect();
    assert!(tenants.iter().all(|t| t.recommended_at.zip(t.noticed_at).is_none_or(|(early, late)| early < late)));
    let ahead = |t: &&Tenancy| {
        t.recommended_at.is_some_and(|early| t.noticed_at.unwrap().since(early) <= Span::from_minutes(20))
    };
    let right = tenants.iter().filter(ahead).count() as f64 / 4000.0;
    let warned = tenants.iter().filter(|t| t.recommended_at.is_some()).count() as f64 / 4000.0;
    assert!((0.35..0.55).contains(&right) && warned > right + 0.05, "right {right}, in all {warned}");
}

#[test]
fn prices_are_paid_as_they_were_at_each_moment() {
    let changes = vec![(at(0), 0.6), (at(30), 1.2), (at(60), 0.0)];
    let settings = PoolSettings { prices: Prices::Recorded(changes), ..pool("a", 0.0, Supply::Generated(HAZARD)) };
    let market = market(vec![settings], 1);
    assert_eq!(market.price_usd_hour(0, at(45)), Some(1.2));
    assert!((market.cost_usd(0, at(15), at(90)) - (0.15 + 0.6)).abs() < 1e-12);
    assert!((market.cost_usd(0, at(-60), at(0)) - 0.6).abs() < 1e-12, "the first price holds before it");
    assert_eq!(market.price_usd_hour(1, at(0)), None);
}

#[test]
fn a_generated_price_keeps_its_mean_and_its_cap() {
    let prices =
        Prices::Generated { mean_usd_hour: 0.05, cap_usd_hour: 0.1, spread: 0.2, reversion: Span::from_minutes(360) };
    let series = PriceSeries::new(&prices, (at(0), at(60 * 20_000)), 3, 0).unwrap();
    let mean = series.integral_hours(at(0), at(60 * 20_000)) / 20_000.0;
    assert!((0.047..0.053).contains(&mean), "mean {mean}");
    assert!((0..20_000).all(|hour| series.at(at(60 * hour)) <= 0.1));
}

#[test]
fn a_market_that_cannot_be_says_why() {
    let refused = |pools| {
        let settings = MarketSettings { pools, ..MarketSettings::default() };
        Market::new(&settings, at(0), at(60), 1).unwrap_err().to_string()
    };
    assert_eq!(refused(vec![]), "the spot market has no pool");
    assert_eq!(
        refused(vec![pool("a", -1.0, Supply::Generated(HAZARD))]),
        "pool `m7i.large/a`: price -1 at 1970-01-01T00:00:00Z is negative or no number"
    );
    assert_eq!(
        refused(vec![pool("a", 1.0, recorded(&[(5, 1.0), (0, 1.0)], 1))]),
        "pool `m7i.large/a`: its trace is empty or not in order"
    );
}

proptest! {
    #[test]
    fn no_more_units_run_than_the_trace_allows(
        values in prop::collection::vec(0u32..5, 1..20),
        launches in prop::collection::vec((0i64..200, 0u8..3), 0..60),
        seed: u64,
    ) {
        let trace: Vec<(i64, f64)> = values.iter().zip(0..).map(|(value, step)| (10 * step, f64::from(*value))).collect();
        let mut market = market(vec![pool("a", 0.1, recorded(&trace, 2))], seed);
        let (mut moments, mut running): (Vec<_>, Vec<Tenancy>) = (launches, Vec::new());
        moments.sort_unstable();
        for (unit, (minute, kind)) in moments.into_iter().enumerate() {
            let now = at(minute);
            running.retain(|tenant| {
                let gone = tenant.lost_at.is_some_and(|lost| lost <= now);
                if gone {
                    market.end(tenant);
                }
                !gone
            });
            if kind == 0 && let Some(tenant) = running.pop() {
                market.end(&tenant);
            } else if let Some(tenant) = market.launch(unit as u64, now) {
                prop_assert!(tenant.lost_at.is_none_or(|lost| lost > now));
                running.push(tenant);
            }
            let step = usize::try_from(minute / 10).unwrap().min(values.len() - 1);
            prop_assert!(running.len() <= 2 * values[step] as usize);
        }
    }
}
