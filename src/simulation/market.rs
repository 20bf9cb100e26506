//! A spot market: pools of an instance type in a zone, with a price over time, units that can be had, and units that are
//! taken away after a notice. Rule: what happens to a unit depends on the seed, its pool, its number and its launch, never
//! on who looks; recorded traces are kept to the unit.
//!
//! A pool is **generated** (a hazard by unit, and bursts that strike a share of all units of a zone at once) or
//! **recorded** (how many instances could be had, or still ran, over time). In a recorded pool each unit holds a place, the
//! lowest that is free; when the trace falls to `n`, the units on places from `n` on are lost. So a fleet never has more
//! than the trace allows, and loses as many as the trace lost.

mod price;
mod supply;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use prescale_domain::{Span, Timestamp};
use rand::RngExt;
use rand_distr::{Distribution, Exp1};
use thiserror::Error;

pub use price::Prices;
pub use supply::{Hazard, Supply};

use crate::seeded::{Purpose, rng};
use price::PriceSeries;
use supply::SupplySeries;

/// A market, as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct MarketSettings {
    pub pools: Vec<PoolSettings>,
    /// From the notice to the loss; two minutes at AWS.
    pub notice: Span,
    pub rebalance: Rebalance,
    pub allocation: Allocation,
}

/// One instance type in one zone.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolSettings {
    pub instance_type: String,
    pub zone: String,
    pub prices: Prices,
    pub supply: Supply,
}

/// Recommendations to replace a unit, earlier than its notice and less sure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rebalance {
    /// Share of the losses that are preceded by one.
    pub given: f64,
    /// How long before the notice, at least and at most.
    pub ahead_min: Span,
    pub ahead_max: Span,
    /// Recommendations without a loss, by unit and day.
    pub false_per_day: f64,
}

/// Which pool the next unit comes from, of those that have one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocation {
    /// The cheapest at the moment.
    #[default]
    LowestPrice,
    /// The one with the fewest units of ours.
    Diversified,
}

/// A unit's place in the market, and what will happen to it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenancy {
    pub pool: usize,
    /// Its place in the pool.
    pub place: u32,
    pub recommended_at: Option<Timestamp>,
    pub noticed_at: Option<Timestamp>,
    pub lost_at: Option<Timestamp>,
}

/// A market that cannot be.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum MarketError {
    #[error("the spot market has no pool")]
    Empty,
    #[error("pool `{pool}`: {fault}")]
    Pool { pool: String, fault: String },
    #[error("rebalance: {0}")]
    Rebalance(String),
}

/// A market at work.
#[derive(Clone, Debug)]
pub struct Market {
    settings: MarketSettings,
    pools: Vec<Pool>,
    seed: u64,
}

#[derive(Clone, Debug)]
struct Pool {
    prices: PriceSeries,
    supply: SupplySeries,
    taken: BTreeSet<u32>,
}

impl Default for MarketSettings {
    /// No pool yet; the notice of AWS, and recommendations as a guess: half of the losses, 5 to 20 minutes before the
    /// notice, and one false alarm by unit in five days.
    fn default() -> Self {
        Self {
            pools: Vec::new(),
            notice: Span::from_secs(120),
            rebalance: Rebalance {
                given: 0.5,
                ahead_min: Span::from_minutes(5),
                ahead_max: Span::from_minutes(20),
                false_per_day: 0.2,
            },
            allocation: Allocation::LowestPrice,
        }
    }
}

impl PoolSettings {
    pub fn name(&self) -> String {
        format!("{}/{}", self.instance_type, self.zone)
    }
}

impl Market {
    /// A market without tenants, from `start` to `end`.
    ///
    /// # Errors
    /// No pool, or a pool with a series out of order or a number that makes no sense.
    pub fn new(settings: &MarketSettings, start: Timestamp, end: Timestamp, seed: u64) -> Result<Self, MarketError> {
        if settings.pools.is_empty() {
            return Err(MarketError::Empty);
        }
        let Rebalance { given, ahead_min, ahead_max, false_per_day } = settings.rebalance;
        if !(0.0..=1.0).contains(&given) || !false_per_day.is_finite() || false_per_day < 0.0 || ahead_min > ahead_max {
            let fault = format!("given {given}, {ahead_min} to {ahead_max} ahead, {false_per_day} false a day");
            return Err(MarketError::Rebalance(fault));
        }
        let mut pools = Vec::new();
        for (index, pool) in settings.pools.iter().enumerate() {
            let fail = |fault| MarketError::Pool { pool: pool.name(), fault };
            // Pools of a zone are struck together.
            let zone = settings.pools.iter().position(|other| other.zone == pool.zone).unwrap_or(index);
            pools.push(Pool {
                prices: PriceSeries::new(&pool.prices, (start, end), seed, index).map_err(fail)?,
                supply: SupplySeries::new(&pool.supply, (start, end), seed, zone).map_err(fail)?,
                taken: BTreeSet::new(),
            });
        }
        Ok(Self { settings: settings.clone(), pools, seed })
    }

    pub fn pools(&self) -> &[PoolSettings] {
        &self.settings.pools
    }

    /// What a unit costs for an hour at that moment; `None` = no such pool.
    pub fn price_usd_hour(&self, pool: usize, at: Timestamp) -> Option<f64> {
        Some(self.pools.get(pool)?.prices.at(at))
    }

    /// The changes of a pool's price in a time, the last one before it included, as AWS tells them.
    pub fn price_changes(&self, pool: usize, from: Timestamp, to: Timestamp) -> Vec<(Timestamp, f64)> {
        self.pools.get(pool).map_or_else(Vec::new, |pool| pool.prices.changes(from, to))
    }

    /// What a unit costs from one moment to another, at the price of each moment.
    pub fn cost_usd(&self, pool: usize, from: Timestamp, to: Timestamp) -> f64 {
        self.pools.get(pool).map_or(0.0, |pool| pool.prices.integral_hours(from, to))
    }

    /// Units that could be launched now; [`u32::MAX`] = no limit is known.
    pub fn obtainable(&self, pool: usize, at: Timestamp) -> u32 {
        let Some(pool) = self.pools.get(pool) else {
            return 0;
        };
        let ceiling = pool.supply.ceiling(at);
        let taken = pool.taken.range(..ceiling).count();
        if ceiling == u32::MAX { ceiling } else { ceiling - u32::try_from(taken).unwrap_or(ceiling) }
    }

    /// Launches the unit of that number in the pool that the allocation prefers; `None` = no pool has one.
    pub fn launch(&mut self, unit: u64, now: Timestamp) -> Option<Tenancy> {
        let has = |pool: &usize| self.obtainable(*pool, now) > 0;
        let pools = (0..self.pools.len()).filter(has);
        let price = |pool: usize| self.price_usd_hour(pool, now).unwrap_or(f64::INFINITY);
        let chosen = match self.settings.allocation {
            Allocation::LowestPrice => pools.min_by(|a, b| price(*a).total_cmp(&price(*b))),
            Allocation::Diversified => pools.min_by(|a, b| {
                let tenants = |pool: usize| self.pools[pool].taken.len();
                tenants(*a).cmp(&tenants(*b)).then(price(*a).total_cmp(&price(*b)))
            }),
        };
        self.launch_in(chosen?, unit, now)
    }

    /// Launches the unit of that number in one pool; `None` = it has none.
    pub fn launch_in(&mut self, pool: usize, unit: u64, now: Timestamp) -> Option<Tenancy> {
        if self.obtainable(pool, now) == 0 {
            return None;
        }
        let state = self.pools.get_mut(pool)?;
        let place = free(&state.taken);
        state.taken.insert(place);
        let mut rng = rng(self.seed, Purpose::Fates, pool, Timestamp::from_millis(unit.cast_signed()));
        let lost_at = state.supply.loss(place, now, &mut rng);
        let noticed_at = lost_at.map(|lost| now.max(lost - self.settings.notice));
        let Rebalance { given, ahead_min, ahead_max, false_per_day } = self.settings.rebalance;
        let (sure, share): (f64, f64) = (rng.random(), rng.random());
        let ahead = ahead_min.millis() + ((ahead_max.millis() - ahead_min.millis()) as f64 * share) as i64;
        let right = noticed_at.map(|noticed| noticed - Span::from_millis(ahead));
        let right = right.filter(|moment| sure < given && *moment > now);
        let alarm: f64 = Exp1.sample(&mut rng);
        let wrong =
            (false_per_day > 0.0).then(|| now + Span::from_millis((alarm / false_per_day * 86_400_000.0) as i64));
        let wrong = wrong.filter(|moment| noticed_at.is_none_or(|noticed| *moment < noticed));
        let recommended_at = right.into_iter().chain(wrong).min();
        Some(Tenancy { pool, place, recommended_at, noticed_at, lost_at })
    }

    /// The unit is gone; its place is free.
    pub fn end(&mut self, tenancy: &Tenancy) {
        if let Some(pool) = self.pools.get_mut(tenancy.pool) {
            pool.taken.remove(&tenancy.place);
        }
    }
}

/// The lowest place that nobody has.
fn free(taken: &BTreeSet<u32>) -> u32 {
    let gap = taken.iter().zip(0..).find(|(place, expected)| *place != expected);
    gap.map_or_else(|| u32::try_from(taken.len()).unwrap_or(u32::MAX), |(_, expected)| expected)
}
