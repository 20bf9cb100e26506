//! How pools behave, learnt from what happens in them. Rule: until much was seen a prior counts, what is long ago is
//! forgotten towards it again, and one more interruption never lowers a rate.
//!
//! Losses by unit and hour are Gamma–Poisson: with a prior of `a` losses in `b` unit-hours and `n` seen in `t`, the rate is
//! (a + n) / (b + t), both fading with [`LearningSettings::memory`]. Units of a pool are not lost one by one, though: on the
//! recorded 16-node traces a fall takes six or seven of them. So losses of the same few minutes are looked at together, and
//! those that take a quarter of a pool are **bursts**, with a rate by pool and hour of their own and with what they take.
//! How a pool's rate of bursts changes with the time that it has held out is learnt over all pools ([`super::age`]).
//! Whether pools that are kin by zone or type are struck in the same minutes is a share of trials, with a prior as well.

use std::collections::BTreeMap;

use prescale_domain::{Kinship, PoolBelief, PoolId, Span, SpotEvent, SpotHappening, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::age::Ageing;

/// Losses in windows of this width, aligned, are looked at together.
const TOGETHER: Span = Span::from_minutes(5);
/// Share of a pool's units from which on a loss is a burst, and from which on it took the whole pool.
const BURST: f64 = 0.25;
const WHOLE: f64 = 0.9;
/// What a prior is worth, in trials.
const TRIALS: f64 = 2.0;

/// How fast is learnt, and what is believed before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LearningSettings {
    /// What was seen so long ago counts for 1/e.
    pub memory: Span,
    /// The same for prices.
    pub price_memory: Span,
    /// Losses by unit and hour before anything is seen. AWS tells less than 5 % a month on average over all pools (spot
    /// instance advisor), 0.00007 an hour; recorded GPU pools lose a unit in one to ten hours. This is between, by far on the
    /// careful side of the first.
    pub prior_loss_per_hour: f64,
    /// Unit-hours, and pool-hours, that the prior is worth.
    pub prior_hours: f64,
    /// Share of launches that are refused, before any.
    pub prior_refusal: f64,
    /// A pool that refused, or took a unit away, is not asked for so long, doubled with each refusal in a row …
    pub retry_after: Span,
    /// … up to this.
    pub retry_after_max: Span,
}

/// What is known of all pools; state that is handed in and out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SpotKnowledge {
    pub settings: LearningSettings,
    pools: BTreeMap<PoolId, PoolKnowledge>,
    kin: KinTrials,
    ageing: Ageing,
}

/// Sums over what was seen, faded to `at`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct PoolKnowledge {
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    running: u32,
    /// Of those, noticed and not gone yet.
    leaving: u32,
    unit_hours: f64,
    pool_hours: f64,
    lost: f64,
    bursts: f64,
    whole: f64,
    /// Sum of the shares that bursts took.
    burst_shares: f64,
    granted: f64,
    refused: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused_at: Option<Timestamp>,
    refusals_in_a_row: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_at: Option<Timestamp>,
    /// Since when it has had units of ours and was not struck.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price_usd_hour: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price_level_usd_hour: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open: Option<OpenLoss>,
}

/// Losses of a window that may not be over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct OpenLoss {
    window: Timestamp,
    running: u32,
    lost: u32,
    /// The share that was counted as a burst already.
    counted: f64,
}

/// Of the pools that had units when a kindred one was struck, how many were struck as well, by kinship.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct KinTrials {
    zone: Trials,
    instance_type: Trials,
    other: Trials,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Trials {
    tried: f64,
    struck: f64,
}

impl Default for LearningSettings {
    fn default() -> Self {
        Self {
            memory: Span::from_minutes(3 * 24 * 60),
            price_memory: Span::from_minutes(24 * 60),
            prior_loss_per_hour: 0.01,
            prior_hours: 24.0,
            prior_refusal: 0.1,
            retry_after: Span::from_minutes(5),
            retry_after_max: Span::from_minutes(60),
        }
    }
}

/// Takes in what happened in a pool. Events come in the order of their times; an earlier one counts at the last time seen.
pub fn learn(knowledge: &mut SpotKnowledge, event: &SpotEvent) {
    let settings = knowledge.settings;
    let pool = knowledge.pools.entry(event.pool.clone()).or_default();
    pool.age(event.at, &settings, &mut knowledge.ageing);
    pool.fade(event.at, &settings);
    match event.what {
        SpotHappening::Running(units) => {
            pool.leaving = pool.leaving.saturating_sub(pool.running.saturating_sub(units)).min(units);
            pool.running = units;
            pool.held_since = pool.held_since.or(Some(event.at)).filter(|_| units > 0);
        }
        SpotHappening::Granted(units) => {
            pool.granted += f64::from(units);
            if units > 0 {
                pool.refusals_in_a_row = 0;
                pool.refused_at = None;
            }
        }
        SpotHappening::Refused(0) => {}
        SpotHappening::Refused(units) => {
            pool.refused += f64::from(units);
            pool.refusals_in_a_row = pool.refusals_in_a_row.saturating_add(1);
            pool.refused_at = Some(event.at);
        }
        SpotHappening::Price(usd_hour) => pool.price_usd_hour = Some(usd_hour).filter(|price| is_amount(*price)),
        SpotHappening::Lost(0) => {}
        SpotHappening::Lost(units) => {
            pool.leaving = pool.leaving.saturating_add(units).min(pool.running);
            pool.lost_at = Some(event.at);
            if pool.lose(event.at, units) {
                if let Some(since) = pool.held_since.replace(event.at) {
                    knowledge.ageing.strike(event.at.since(since));
                }
                knowledge.try_kin(&event.pool, event.at);
            }
        }
    }
}

impl SpotKnowledge {
    pub fn new(settings: LearningSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// What is believed of a pool at `at`; of one that was never seen, the prior.
    pub fn belief(&self, pool: &PoolId, at: Timestamp) -> PoolBelief {
        let settings = &self.settings;
        let (mut known, mut ageing) = (self.pools.get(pool).cloned().unwrap_or_default(), self.ageing);
        known.age(at, settings, &mut ageing);
        known.fade(at, settings);
        let age = known.held_since.map_or(Span::default(), |since| at.since(since));
        let share = |prior: f64, hits: f64, trials: f64| (prior * TRIALS + hits) / (TRIALS + trials);
        let row = known.refusals_in_a_row.saturating_sub(1).min(16);
        let wait = settings.retry_after.millis().max(0).saturating_mul(1 << row).min(settings.retry_after_max.millis());
        // What has just been taken away is short; a unit launched there now may go the same way.
        let closed = known.refused_at.is_some_and(|refused| at < refused + Span::from_millis(wait))
            || known.lost_at.is_some_and(|lost| at < lost + settings.retry_after);
        PoolBelief {
            loss_per_hour: rate(settings, known.lost, known.unit_hours),
            burst_per_hour: rate(settings, known.bursts, known.pool_hours),
            age_factor: ageing.factor(age),
            burst_whole: share(0.5, known.whole, known.bursts),
            burst_share: share(0.75, known.burst_shares, known.bursts),
            refusal: share(settings.prior_refusal.clamp(0.0, 1.0), known.refused, known.granted + known.refused),
            limit: closed.then(|| known.running.saturating_sub(known.leaving)),
            price_level_usd_hour: known.price_level_usd_hour,
        }
    }

    /// How often pools are struck together.
    pub fn kinship(&self) -> Kinship {
        let of = |prior: f64, trials: Trials| (prior * TRIALS + trials.struck) / (TRIALS + trials.tried);
        let Kinship { zone, instance_type, other } = Kinship::PRIOR;
        Kinship {
            zone: of(zone, self.kin.zone),
            instance_type: of(instance_type, self.kin.instance_type),
            other: of(other, self.kin.other),
        }
    }

    /// The last price told of a pool, in USD an hour.
    pub fn price_usd_hour(&self, pool: &PoolId) -> Option<f64> {
        self.pools.get(pool)?.price_usd_hour
    }

    /// A burst struck `pool`: each other pool with units is a trial, struck if it has a burst in the same window. Of two that
    /// are struck the first counts the second as spared, and the second puts that right.
    fn try_kin(&mut self, pool: &PoolId, at: Timestamp) {
        let window = at.floor_to(TOGETHER);
        for (other, known) in &self.pools {
            let struck = known.open.is_some_and(|open| open.window == window && open.counted > 0.0);
            if other == pool || (known.running == 0 && !struck) {
                continue;
            }
            let trials = if other.zone == pool.zone {
                &mut self.kin.zone
            } else if other.instance_type == pool.instance_type {
                &mut self.kin.instance_type
            } else {
                &mut self.kin.other
            };
            // Fades by trials and not by time: how kin pools are is no fast-moving thing.
            const KEPT: f64 = 0.995;
            trials.tried = trials.tried * KEPT + 1.0;
            trials.struck = trials.struck * KEPT + if struck { 2.0 } else { 0.0 };
            trials.struck = trials.struck.min(trials.tried);
        }
    }
}

impl PoolKnowledge {
    /// Takes in that the pool held out until `at`.
    fn age(&self, at: Timestamp, settings: &LearningSettings, ageing: &mut Ageing) {
        let (Some(since), Some(last)) = (self.held_since, self.at) else { return };
        if self.running > self.leaving && at > last {
            let from = last.max(since).since(since);
            ageing.live(from, at.since(since), rate(settings, self.bursts, self.pool_hours));
        }
    }

    /// Brings all sums to `at`: what was seen fades, and what ran until then counts as exposure.
    fn fade(&mut self, at: Timestamp, settings: &LearningSettings) {
        let Some(last) = self.at.replace(self.at.map_or(at, |last| last.max(at))) else { return };
        let hours = at.since(last).seconds() / 3600.0;
        if hours <= 0.0 {
            return;
        }
        let memory = (settings.memory.seconds() / 3600.0).max(1e-3);
        let kept = (-hours / memory).exp();
        let fresh = memory * (1.0 - kept);
        for sum in [
            &mut self.unit_hours,
            &mut self.pool_hours,
            &mut self.lost,
            &mut self.bursts,
            &mut self.whole,
            &mut self.burst_shares,
            &mut self.granted,
            &mut self.refused,
        ] {
            *sum *= kept;
        }
        self.unit_hours += fresh * f64::from(self.running);
        self.pool_hours += if self.running > 0 { fresh } else { 0.0 };
        if let Some(price) = self.price_usd_hour {
            let kept = (-hours / (settings.price_memory.seconds() / 3600.0).max(1e-3)).exp();
            self.price_level_usd_hour =
                Some(self.price_level_usd_hour.map_or(price, |level| level * kept + price * (1.0 - kept)));
        }
    }

    /// Counts a loss; whether it made a burst of the losses of its window.
    fn lose(&mut self, at: Timestamp, units: u32) -> bool {
        self.lost += f64::from(units);
        let window = at.floor_to(TOGETHER);
        let fresh = OpenLoss { window, running: self.running.max(units), lost: 0, counted: 0.0 };
        let mut open = self.open.filter(|open| open.window == window).unwrap_or(fresh);
        open.lost = open.lost.saturating_add(units);
        // More lost than ran: some came in between.
        open.running = open.running.max(open.lost);
        let (share, before) = (f64::from(open.lost) / f64::from(open.running), open.counted);
        let is_burst = share >= BURST;
        if is_burst {
            self.bursts += if before > 0.0 { 0.0 } else { 1.0 };
            self.whole += if share >= WHOLE && before < WHOLE { 1.0 } else { 0.0 };
            self.burst_shares += (share - before).max(0.0);
            open.counted = share.max(before);
        }
        self.open = Some(open);
        is_burst && before <= 0.0
    }
}

/// Gamma–Poisson with the prior of the settings.
fn rate(settings: &LearningSettings, seen: f64, time: f64) -> f64 {
    let hours = if is_amount(settings.prior_hours) { settings.prior_hours.max(1e-3) } else { 24.0 };
    let prior = if is_amount(settings.prior_loss_per_hour) { settings.prior_loss_per_hour } else { 0.01 };
    (prior.max(1e-9) * hours + seen) / (hours + time)
}

fn is_amount(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}
