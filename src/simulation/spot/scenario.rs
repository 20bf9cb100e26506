//! A market, a load and some time. Rule: no file is read here; recorded series are handed in.

use prescale_domain::{Span, Timestamp};

use super::load::LoadShape;
use crate::market::{Hazard, MarketSettings, PoolSettings, Prices, Rebalance, Supply};

/// What a spot unit costs where no price was recorded, as a share of on-demand: the discount of 70 %.
const SPOT: f64 = 0.3;

/// What strategies are played over.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    pub name: String,
    pub start: Timestamp,
    pub end: Timestamp,
    pub market: MarketSettings,
    pub load: LoadShape,
}

impl Scenario {
    /// Pools with a recorded supply, over the time that all traces cover; one recorded instance stands for `units` of ours.
    /// Prices are in USD an hour for a unit that costs 1 on demand; a pool without any costs the discounted price. No rebalance
    /// recommendations: none were recorded, and whoever makes them up from the trace looks ahead.
    pub fn recorded(name: &str, pools: Vec<RecordedPool>, units: u32, load: LoadShape) -> Option<Self> {
        let start = pools.iter().filter_map(|pool| Some(pool.instances.first()?.0)).max()?;
        let end = pools.iter().filter_map(|pool| Some(pool.instances.last()?.0)).min()?;
        let settings = pools.into_iter().map(|pool| PoolSettings {
            instance_type: pool.instance_type,
            zone: pool.zone,
            prices: pool.prices.map_or(Prices::Fixed(SPOT), Prices::Recorded),
            supply: Supply::Recorded { instances: pool.instances, units },
        });
        let rebalance = Rebalance { given: 0.0, false_per_day: 0.0, ..MarketSettings::default().rebalance };
        let market = MarketSettings { pools: settings.collect(), rebalance, ..MarketSettings::default() };
        (start < end).then(|| Self { name: name.to_owned(), start, end, market, load })
    }
}

/// One pool of a recorded market.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedPool {
    pub instance_type: String,
    pub zone: String,
    pub instances: Vec<(Timestamp, f64)>,
    pub prices: Option<Vec<(Timestamp, f64)>>,
}

/// A generated market of `types` by three zones over some days: single losses, and bursts that take half of a zone and leave
/// it dry for twenty minutes.
pub fn generated(name: &str, types: usize, days: i64, load: LoadShape) -> Scenario {
    let hazard = Hazard {
        per_hour: 0.02,
        bursts_per_day: 2.0,
        burst_share: 0.5,
        outage: Span::from_minutes(20),
        units_max: None,
    };
    let prices = |turn: usize| Prices::Generated {
        mean_usd_hour: SPOT + 0.01 * turn as f64,
        cap_usd_hour: 1.0,
        spread: 0.2,
        reversion: Span::from_minutes(12 * 60),
    };
    let pools = (0..types).flat_map(|kind| ["a", "b", "c"].map(|zone| (kind, zone)));
    let pools = pools.map(|(kind, zone)| PoolSettings {
        instance_type: format!("type{kind}"),
        zone: zone.to_owned(),
        prices: prices(kind),
        supply: Supply::Generated(hazard),
    });
    let start = Timestamp::from_millis(0);
    Scenario {
        name: name.to_owned(),
        start,
        end: start + Span::from_minutes(days * 24 * 60),
        market: MarketSettings { pools: pools.collect(), ..MarketSettings::default() },
        load,
    }
}
