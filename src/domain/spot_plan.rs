//! What the spot planner is told and what it tells, so that a decision can carry both. Rule: units are units of capacity; an
//! instance carries `weight` of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{PoolId, SPOT_NOTICE, Span, SpotWish, Timestamp};

/// How a service's capacity may be split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SpotSettings {
    pub wish: SpotWish,
    /// Units that are never spot.
    pub on_demand_floor: u32,
    /// Share of time that lost spot units may leave short, for a service of criticality 1.
    pub risk: f64,
    /// Risk that was not taken is kept for so long, to be taken where it saves most. Zero: the risk holds for each moment.
    pub saving: Span,
    /// Units launched beyond those that are about to be lost, at most, as a share of them, so that the slowest of them need
    /// not be waited for.
    pub hedge_share: f64,
    /// What may be paid, as a share of the wish at on-demand prices, for one unit in each pool that is too risky for more: only
    /// who has a unit there learns whether the pool lasts.
    pub probe_share: f64,
    /// What the service weighs; the risk is divided by it.
    pub criticality: f64,
    /// Most of the spot units that one pool, and one zone, may have while there are others.
    pub pool_share_max: f64,
    pub zone_share_max: f64,
    /// Instance types below which diversification is called poor (AWS's advice: at least 10).
    pub types_wanted: u32,
    /// A pool that loses a unit more often than this by hour is not used.
    pub loss_per_hour_max: f64,
    /// Share of the losses that are noticed: AWS says "best effort", and no figure.
    pub noticed: f64,
    /// Over this time a change must pay.
    pub horizon: Span,
    /// From a fall back to on-demand to the first step back …
    pub return_after: Span,
    /// … from one step back to the next …
    pub step_every: Span,
    /// … and the share of the units that is one step.
    pub step_share: f64,
    /// A split that runs is kept until another is cheaper by this share.
    pub hysteresis: f64,
    pub minimum_billing: Span,
    /// What each instance costs beside its price: agent, load balancer, volume.
    pub overhead_usd_hour: f64,
    /// What the loss of a unit costs beside its replacement: requests in flight, cold caches.
    pub interruption_usd: f64,
}

/// What a plan reckons with of one pool.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolBelief {
    /// Losses by unit and hour, all together.
    pub loss_per_hour: f64,
    /// Bursts by hour while units of ours are in the pool, whatever its age.
    pub burst_per_hour: f64,
    /// By how much more it is struck now, for the time that it has held out.
    pub age_factor: f64,
    /// Probability that a burst takes the whole pool, and the share that it takes on average.
    pub burst_whole: f64,
    pub burst_share: f64,
    /// Probability that a launch is refused.
    pub refusal: f64,
    /// It refused, or took units away, a short while ago: no more instances than these. `None` = no limit is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Average over time, in USD an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_level_usd_hour: Option<f64>,
}

/// Probability that a pool is struck when one that is so kindred to it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Kinship {
    pub zone: f64,
    pub instance_type: f64,
    pub other: f64,
}

/// One pool as it is offered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolOffer {
    pub pool: PoolId,
    /// Units that one instance carries.
    pub weight: u32,
    /// Of one instance.
    pub on_demand_usd_hour: f64,
    /// `None` = no price feed: the on-demand price less the discount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot_usd_hour: Option<f64>,
    /// Spot instances that run or start, those that are going to be lost left out.
    pub running: u32,
    pub belief: PoolBelief,
}

/// Capacity that is paid for in any case: reserved instances, savings plans.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Commitment {
    pub units: u32,
    /// What it costs an hour, all units together, used or not.
    pub usd_hour: f64,
}

/// Demand that is coming back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Returning {
    pub within: Span,
    pub units: u32,
}

/// What a plan remembers of the ones before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SpotMemory {
    /// When on-demand units last stood in for spot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fell_back_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stepped_at: Option<Timestamp>,
    /// The last plan, the share of time that it leaves short, and what that was reckoned to be before what was seen counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_at: Option<Timestamp>,
    pub short: f64,
    pub reckoned: f64,
    /// Seconds short that were allowed so far and not used; those that were reckoned with; those that were seen.
    pub unspent_seconds: f64,
    pub reckoned_seconds: f64,
    pub seen_seconds: f64,
}

/// All that a plan depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpotInputs {
    pub at: Timestamp,
    /// Units that are wanted.
    pub units: u32,
    /// Units that there may be, spare ones included; `None` = any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    pub pools: Vec<PoolOffer>,
    #[serde(default)]
    pub kinship: Kinship,
    #[serde(default)]
    pub commitments: Vec<Commitment>,
    /// On-demand units that run or start, those that commitments cover included.
    pub on_demand_running: u32,
    /// Launch → serving at full speed, the p90.
    pub replacement: Span,
    /// The median of the same; `None` = not known, the p90 is certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement_median: Option<Span>,
    /// From a notice until the unit has to be drained.
    pub notice: Span,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returning: Option<Returning>,
    /// For how long demand was not met since the last plan for units that were lost.
    #[serde(default)]
    pub short: Span,
    #[serde(default)]
    pub settings: SpotSettings,
    #[serde(default)]
    pub memory: SpotMemory,
}

/// Spot instances of one pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolShare {
    pub pool: PoolId,
    pub instances: u32,
    pub units: u32,
}

/// What a plan costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpotCost {
    /// Commitments, used or not.
    pub committed_usd_hour: f64,
    pub on_demand_usd_hour: f64,
    pub spot_usd_hour: f64,
    /// Per-instance overhead.
    pub overhead_usd_hour: f64,
    /// Expected losses: the replacement's start and what a loss costs beside it.
    pub interruptions_usd_hour: f64,
    /// Launches that the plan asks for: paid while they start.
    pub start_up_usd: f64,
    /// What is paid at least for those launches, however soon they end.
    pub minimum_billing_usd: f64,
}

/// What decided the split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Binding {
    /// The workload refuses spot.
    Never,
    /// No pool can be used: none is offered, or the next three say why not.
    NoPool,
    Refused(Vec<PoolId>),
    LostTooOften(Vec<PoolId>),
    DearerThanOnDemand(Vec<PoolId>),
    /// Units that are on-demand whatever spot costs.
    Floor(u32),
    Committed(u32),
    MaxShare(f64),
    /// With less spare, or fewer on-demand units, this share of time would be short; that much is allowed.
    Risk {
        short: f64,
        allowed: f64,
    },
    /// Pools have more than their share: there are too few.
    Concentrated,
    /// Instance types offered, of those wanted.
    FewTypes {
        types: u32,
        wanted: u32,
    },
    /// On-demand units that are to be spot later: the first step back comes then.
    Waiting(Timestamp),
    /// Only so many units are moved at a time.
    Step(u32),
    /// What a move saves over the horizon, and what it costs.
    SwapDoesNotPay {
        saves_usd: f64,
        costs_usd: f64,
    },
    /// Demand is back before an end and a start have paid; within that time nothing is removed.
    BreakEven(Span),
    /// One unit each in pools that are too risky for more, to learn whether they last.
    Probe(Vec<PoolId>),
    /// What runs is nearly as cheap.
    Hysteresis,
}

/// A split that was looked at and not taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rejected {
    pub on_demand: u32,
    pub spot: u32,
    pub usd_hour: f64,
    /// Share of time that it would leave short.
    pub short: f64,
    pub because: RejectedBecause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RejectedBecause {
    Risk,
    Cost,
}

/// The same as settings of an Auto Scaling group with mixed instances.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AwsMix {
    /// In units, as weights are given.
    pub desired_capacity: u32,
    pub on_demand_base_capacity: u32,
    pub on_demand_percentage_above_base: u32,
    /// Types with their weights, the preferred first.
    pub instance_types: Vec<(String, u32)>,
    pub zones: Vec<String>,
    pub spot_allocation_strategy: String,
    pub capacity_rebalance: bool,
}

/// A split, its cost and why it is this one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpotPlan {
    /// On-demand units, those that commitments cover included.
    pub on_demand: u32,
    pub committed: u32,
    pub spot: Vec<PoolShare>,
    /// Units beyond the wish, against losses.
    pub spare: u32,
    /// Share of time that losses leave short, and what is allowed.
    pub short: f64,
    pub allowed: f64,
    pub cost: SpotCost,
    /// The wish as on-demand units alone.
    pub all_on_demand_usd_hour: f64,
    pub binding: Vec<Binding>,
    pub rejected: Vec<Rejected>,
    pub aws: AwsMix,
    pub memory: SpotMemory,
}

impl Kinship {
    /// Before anything was seen: a zone runs short as a whole more often than a type does in all zones.
    pub const PRIOR: Self = Self { zone: 0.3, instance_type: 0.2, other: 0.05 };
}

impl Default for Kinship {
    fn default() -> Self {
        Self::PRIOR
    }
}

impl PoolBelief {
    /// Bursts by hour at the pool's age.
    pub fn burst_per_hour_now(&self) -> f64 {
        self.burst_per_hour.max(0.0) * self.age_factor.max(0.0)
    }
}

impl Default for SpotSettings {
    /// A twentieth of a violation budget of 1 % may be due to spot, about what noise on the load leaves short anyway; the rest
    /// is as AWS advises or a careful guess.
    fn default() -> Self {
        Self {
            wish: SpotWish::default(),
            on_demand_floor: 0,
            risk: 0.0005,
            saving: Span::from_minutes(48 * 60),
            hedge_share: 1.0,
            probe_share: 0.06,
            criticality: 1.0,
            pool_share_max: 0.5,
            zone_share_max: 0.6,
            types_wanted: 10,
            loss_per_hour_max: 2.0,
            noticed: 0.99,
            horizon: Span::from_minutes(60),
            return_after: Span::from_minutes(10),
            step_every: Span::from_minutes(5),
            step_share: 0.25,
            hysteresis: 0.05,
            minimum_billing: Span::from_secs(60),
            overhead_usd_hour: 0.0,
            interruption_usd: 0.0,
        }
    }
}

impl SpotInputs {
    /// With the usual notice, and all else at its default.
    pub fn new(at: Timestamp, units: u32, pools: Vec<PoolOffer>, replacement: Span) -> Self {
        Self {
            at,
            units,
            max: None,
            pools,
            kinship: Kinship::PRIOR,
            commitments: Vec::new(),
            on_demand_running: 0,
            replacement,
            replacement_median: None,
            notice: SPOT_NOTICE,
            returning: None,
            short: Span::default(),
            settings: SpotSettings::default(),
            memory: SpotMemory::default(),
        }
    }
}

impl SpotCost {
    /// By hour, with what is paid once spread over the horizon.
    pub fn usd_hour(&self, horizon: Span) -> f64 {
        let hours = (horizon.seconds() / 3600.0).max(1.0 / 60.0);
        let once = self.start_up_usd.max(self.minimum_billing_usd);
        self.committed_usd_hour
            + self.on_demand_usd_hour
            + self.spot_usd_hour
            + self.overhead_usd_hour
            + self.interruptions_usd_hour
            + once / hours
    }
}

impl SpotPlan {
    pub fn spot_units(&self) -> u32 {
        self.spot.iter().map(|share| share.units).fold(0, u32::saturating_add)
    }
}

/// How a service's wish is split, and the units that are on their way out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpotSplit {
    pub inputs: SpotInputs,
    pub plan: SpotPlan,
    /// Units under notice that are still in the target, by id; they count beside the plan until they are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<String>,
    /// Those of them that are to be taken out of service now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drain: Vec<String>,
}

/// A unit of a target whose capacity is split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SplitUnit {
    pub id: String,
    pub pool: PoolId,
    /// `None` = not known yet.
    pub is_spot: Option<bool>,
    /// Units of capacity that it carries.
    pub weight: u32,
    /// It serves; otherwise it starts.
    pub in_service: bool,
}
