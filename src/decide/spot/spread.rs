//! Spot units over pools. Rule: what runs stays where it may; the rest goes where it is cheapest with its losses, and no
//! pool or zone has more than its share while another could take it.

use std::collections::BTreeMap;

use prescale_domain::{PoolBelief, PoolOffer, Span, SpotInputs};

/// A pool that may be used.
#[derive(Clone, Debug)]
pub(super) struct Usable<'a> {
    pub offer: &'a PoolOffer,
    /// Of one instance.
    pub spot_usd_hour: f64,
    /// Of one unit, with overhead and expected losses, at the price of now or the usual one, whichever is higher: what is cheap
    /// for a moment is no reason to move.
    pub unit_usd_hour: f64,
    /// Most instances that it has for us, as far as is known.
    pub limit: u32,
}

/// Instances by pool, in the order of the usable pools.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spread {
    pub instances: Vec<u32>,
    pub units: u32,
    /// Shares could not be kept.
    pub concentrated: bool,
}

/// Price of an instance: the feed's, or the on-demand price less the discount.
pub(super) fn spot_price(offer: &PoolOffer, inputs: &SpotInputs) -> f64 {
    let told = offer.spot_usd_hour.filter(|price| price.is_finite() && *price >= 0.0);
    told.unwrap_or_else(|| offer.on_demand_usd_hour * (1.0 - inputs.settings.wish.discount()))
}

/// What the losses of one instance cost an hour: the start of its replacement at the on-demand price, and what a loss costs
/// beside.
pub(super) fn losses_usd_hour(belief: &PoolBelief, on_demand_usd_hour: f64, inputs: &SpotInputs) -> f64 {
    let start = inputs.replacement.max(inputs.settings.minimum_billing);
    belief.loss_per_hour * (hours(start) * on_demand_usd_hour + inputs.settings.interruption_usd.max(0.0))
}

pub(super) fn hours(span: Span) -> f64 {
    span.seconds().max(0.0) / 3600.0
}

/// `wanted` units, or as many as there are: the first share of them in one pool at most, the second in one zone. What runs
/// comes first where it `stays`.
pub(super) fn spread(pools: &[Usable], wanted: u32, (pool_share, zone_share): (f64, f64), stays: bool) -> Spread {
    let mut found = Spread { instances: vec![0; pools.len()], units: 0, concentrated: false };
    let share = |share: f64| ((f64::from(wanted) * share.clamp(0.0, 1.0)).ceil() as u32).max(1);
    let (pool_units, zone_units) = (share(pool_share), share(zone_share));
    let mut zones: BTreeMap<&str, u32> = BTreeMap::new();
    let mut order: Vec<usize> = (0..pools.len()).collect();
    // Price and capacity: a pool that refuses comes later.
    let rank = |index: usize| pools[index].unit_usd_hour * (1.0 + pools[index].offer.belief.refusal.clamp(0.0, 1.0));
    order.sort_by(|a, b| rank(*a).total_cmp(&rank(*b)).then(a.cmp(b)));
    // What runs first, then what is cheapest within the shares, then whatever there is.
    for pass in if stays { 0..3 } else { 1..3 } {
        for index in &order {
            let (pool, weight) = (&pools[*index], pools[*index].offer.weight.max(1));
            let limit = if pass == 0 { pool.limit.min(pool.offer.running) } else { pool.limit };
            let zone = zones.entry(pool.offer.pool.zone.as_str()).or_default();
            let missing = wanted.saturating_sub(found.units).div_ceil(weight);
            let room = limit.saturating_sub(found.instances[*index]).min(missing);
            let has = found.instances[*index].saturating_mul(weight);
            let fair = if pass < 2 {
                let of_pool = pool_units.saturating_sub(has).div_ceil(weight);
                of_pool.min(zone_units.saturating_sub(*zone).div_ceil(weight))
            } else {
                u32::MAX
            };
            let taken = room.min(fair);
            found.concentrated |= pass == 2 && taken > 0;
            found.instances[*index] += taken;
            *zone = zone.saturating_add(taken.saturating_mul(weight));
            found.units = found.units.saturating_add(taken.saturating_mul(weight));
        }
    }
    found
}
