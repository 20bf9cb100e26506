//! One strategy over one market. Rule: each tick the market moves first, then the strategy acts, then what serves is held
//! against the load.

use prescale_domain::SpotSettings;
use prescale_domain::{PoolId, Span};

use super::baselines::{FailOver, Order, all_on_demand};
use super::fleet::{Fleet, FleetSettings, Lived};
use super::prescale::SpotFirst;
use super::scenario::Scenario;
use crate::market::{Market, MarketError};

/// How units are bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    AllOnDemand,
    /// One pool, on-demand where it has none, replaced when lost.
    NaiveSpot,
    /// The cheapest pool that has one, on-demand where none has, replaced when lost.
    PriceOnly,
    /// The pool with the fewest units of ours, on-demand where none has, replaced at the notice: a mixed group with capacity
    /// rebalancing.
    SpreadWithNotices,
    /// Short no longer than without spot: the risk of the settings.
    Prescale,
    /// The same, but what a violation budget of 1 % leaves is used.
    PrescaleWithinBudget,
}

/// Of a violation budget of 1 %, what noise on the load does not take.
const WITHIN_BUDGET: f64 = 0.008;

/// What came of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    pub lived: Lived,
    /// Share of time in which the load was more than what served, and share of the load that was.
    pub short: f64,
    pub missed: f64,
    /// Times at which units were noticed, and those of them after which no time was short until what replaces a lost unit
    /// could be there.
    pub interruptions: u64,
    pub survived: u64,
    /// What ran while some pool had a unit to give.
    pub usd_while_obtainable: f64,
}

/// What somebody who knows the trace could have paid.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limit {
    pub cost_usd: f64,
    pub usd_while_obtainable: f64,
    /// Share of time in which some pool had a unit, and in which all that was wanted was there.
    pub some: f64,
    pub all: f64,
}

impl Strategy {
    pub const ALL: [Self; 6] = [
        Self::AllOnDemand,
        Self::NaiveSpot,
        Self::PriceOnly,
        Self::SpreadWithNotices,
        Self::Prescale,
        Self::PrescaleWithinBudget,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::AllOnDemand => "all on-demand",
            Self::NaiveSpot => "naive spot",
            Self::PriceOnly => "price only",
            Self::SpreadWithNotices => "spread, notices",
            Self::Prescale => "Prescale",
            Self::PrescaleWithinBudget => "Prescale, 1 %",
        }
    }
}

enum Buyer {
    OnDemand,
    FailOver(FailOver),
    SpotFirst(Box<SpotFirst>),
}

/// Plays a strategy over a scenario; `spot` is how Prescale's is set.
///
/// # Errors
/// A market that cannot be.
pub fn play(
    scenario: &Scenario,
    fleet: &FleetSettings,
    strategy: Strategy,
    spot: &SpotSettings,
) -> Result<Outcome, MarketError> {
    let Scenario { start, end, load, market: settings, .. } = scenario;
    let empty = Market::new(settings, *start, *end, fleet.seed)?;
    let mut buyer = match strategy {
        Strategy::AllOnDemand => Buyer::OnDemand,
        Strategy::NaiveSpot => Buyer::FailOver(FailOver::new(Order::One, false)),
        Strategy::PriceOnly => Buyer::FailOver(FailOver::new(Order::Price, false)),
        Strategy::SpreadWithNotices => Buyer::FailOver(FailOver::new(Order::Spread, true)),
        Strategy::Prescale | Strategy::PrescaleWithinBudget => {
            let risk = if strategy == Strategy::Prescale { spot.risk } else { WITHIN_BUDGET };
            let spot = SpotSettings { risk, ..*spot };
            let pools = settings.pools.iter().map(|pool| PoolId::new(&pool.instance_type, &pool.zone)).collect();
            Buyer::SpotFirst(Box::new(SpotFirst::new(spot, *fleet, pools)))
        }
    };
    let lead = fleet.launch_p90;
    let mut units = Fleet::new(*fleet, empty.clone(), *start, load.wanted(*start, lead));
    let mut outcome = Outcome::default();
    let (mut ticks, mut short_ticks, mut demanded, mut missed) = (0u64, 0u64, 0.0, 0.0);
    // Until when a short time is due to the last loss.
    let mut shaken: Option<prescale_domain::Timestamp> = None;
    let mut was_short = false;
    let mut at = *start;
    while at < *end {
        let interrupted = units.advance(at);
        let wanted = load.wanted(at, lead);
        match &mut buyer {
            Buyer::OnDemand => all_on_demand(&mut units, wanted),
            Buyer::FailOver(buyer) => buyer.act(&mut units, wanted),
            Buyer::SpotFirst(buyer) => buyer.act(&mut units, wanted, was_short),
        }
        let (needed, serving) = (load.needed(at), f64::from(units.serving()));
        let short = needed > serving;
        was_short = short;
        ticks += 1;
        short_ticks += u64::from(short);
        demanded += needed;
        missed += (needed - serving).max(0.0);
        if interrupted > 0 {
            outcome.interruptions += 1;
            outcome.survived += 1;
            shaken = Some(at + settings.notice + fleet.launch_p90);
        }
        if short && shaken.is_some_and(|until| at <= until) {
            outcome.survived -= 1;
            shaken = None;
        }
        if (0..settings.pools.len()).any(|pool| empty.obtainable(pool, at) > 0) {
            outcome.usd_while_obtainable += units.usd_hour() * hours(fleet.tick);
        }
        at = at + fleet.tick;
    }
    outcome.lived = units.close();
    outcome.short = short_ticks as f64 / ticks.max(1) as f64;
    outcome.missed = if demanded > 0.0 { missed / demanded } else { 0.0 };
    Ok(outcome)
}

/// The wish bought at each moment where it was cheapest, as if units came and went at no cost.
///
/// # Errors
/// A market that cannot be.
pub fn limit(scenario: &Scenario, fleet: &FleetSettings) -> Result<Limit, MarketError> {
    let Scenario { start, end, load, market: settings, .. } = scenario;
    let market = Market::new(settings, *start, *end, fleet.seed)?;
    let (mut found, mut ticks, mut at) = (Limit::default(), 0u64, *start);
    while at < *end {
        let mut wanted = load.wanted(at, fleet.launch_p90);
        let price = |pool: usize| market.price_usd_hour(pool, at).unwrap_or(f64::INFINITY);
        let mut pools: Vec<usize> = (0..settings.pools.len()).filter(|pool| market.obtainable(*pool, at) > 0).collect();
        pools.sort_by(|a, b| price(*a).total_cmp(&price(*b)));
        let mut usd = 0.0;
        for pool in &pools {
            let taken = market.obtainable(*pool, at).min(wanted);
            usd += f64::from(taken) * price(*pool).min(fleet.on_demand_usd_hour);
            wanted -= taken;
        }
        usd += f64::from(wanted) * fleet.on_demand_usd_hour;
        ticks += 1;
        found.cost_usd += usd * hours(fleet.tick);
        if !pools.is_empty() {
            found.some += 1.0;
            found.usd_while_obtainable += usd * hours(fleet.tick);
        }
        found.all += if wanted == 0 { 1.0 } else { 0.0 };
        at = at + fleet.tick;
    }
    found.some /= ticks.max(1) as f64;
    found.all /= ticks.max(1) as f64;
    Ok(found)
}

fn hours(span: Span) -> f64 {
    span.seconds() / 3600.0
}
