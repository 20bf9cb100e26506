//! The split of one service's wish from decision to decision. Rule: pure; what is seen and told comes in, what is to be done
//! goes out with all that it was computed from.

use std::collections::BTreeMap;

use prescale_domain::{
    Commitment, PoolId, PoolOffer, SPOT_NOTICE, Span, SplitUnit, SpotEvent, SpotHappening, SpotInputs, SpotMemory,
    SpotNotice, SpotNoticeKind, SpotSettings, SpotSplit, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{LiveUnit, NoticeInput, Notices, SpotKnowledge, learn, plan};

/// A refusal that lasts is a lesson once in this time.
const REFUSED_AGAIN: Span = Span::from_minutes(5);

/// What a service's split remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpotKeeper {
    knowledge: SpotKnowledge,
    notices: Notices,
    memory: SpotMemory,
    /// Spot instances and prices by pool, as they were learnt last.
    running: BTreeMap<PoolId, u32>,
    prices: BTreeMap<PoolId, f64>,
    /// Spot instances that were planned last.
    planned: BTreeMap<PoolId, u32>,
    refused_at: Option<Timestamp>,
    /// When units were last told or seen to be lost, when was looked last, and for how long that left demand unmet since the
    /// last plan.
    lost_at: Option<Timestamp>,
    looked_at: Option<Timestamp>,
    short: Span,
}

/// An instance type in a zone, as it is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct SpotPool {
    pub pool: PoolId,
    pub weight: u32,
    pub on_demand_usd_hour: f64,
    /// Last known price of a spot instance.
    pub spot_usd_hour: Option<f64>,
}

/// What is seen of a target at one moment, and what is wanted of it.
#[derive(Clone, Debug, PartialEq)]
pub struct SpotLook<'a> {
    pub at: Timestamp,
    /// Units that are wanted, and how few and many there may be.
    pub units: u32,
    pub min: u32,
    pub max: u32,
    pub settings: SpotSettings,
    pub pools: &'a [SpotPool],
    pub commitments: &'a [Commitment],
    /// What starts or serves.
    pub running: &'a [SplitUnit],
    /// What came in since the last look, of any service's units.
    pub notices: &'a [SpotNotice],
    pub events: &'a [SpotEvent],
    /// Spot units that were asked for are refused.
    pub refused: bool,
    /// The load was more than what serves carries.
    pub short: bool,
    /// Launch → serving at full speed: the p90, and the median where it is known.
    pub replacement: Span,
    pub replacement_median: Option<Span>,
    /// From a notice until it is seen here, at most.
    pub reaction: Span,
}

impl SpotKeeper {
    /// Splits what is wanted, and says which units leave and which are to go now.
    pub fn look(&mut self, look: &SpotLook) -> SpotSplit {
        let units: BTreeMap<&str, &SplitUnit> = look.running.iter().map(|unit| (unit.id.as_str(), unit)).collect();
        let notices: Vec<SpotNotice> = look
            .notices
            .iter()
            .map(|notice| SpotNotice {
                pool: notice.pool.clone().or_else(|| Some(units.get(notice.instance.as_str())?.pool.clone())),
                ..notice.clone()
            })
            .collect();
        self.learn(look, &units, &notices);
        let drained = self.heed(look, notices);
        let leaving: Vec<String> =
            look.running.iter().filter(|unit| self.notices.is_noticed(&unit.id)).map(|unit| unit.id.clone()).collect();
        let inputs = self.inputs(look);
        let plan = plan(&inputs);
        self.memory = plan.memory;
        self.short = Span::ZERO;
        self.planned = plan.spot.iter().map(|share| (share.pool.clone(), share.instances)).collect();
        let drain = leaving.iter().filter(|id| drained.contains(id)).cloned().collect();
        SpotSplit { inputs, plan, leaving, drain }
    }

    /// Whether this, or something surer, was told of the unit before.
    pub fn knows(&self, notice: &SpotNotice) -> bool {
        self.notices.knows(&notice.instance, notice.kind)
    }

    fn learn(&mut self, look: &SpotLook, units: &BTreeMap<&str, &SplitUnit>, notices: &[SpotNotice]) {
        let mut happened: Vec<(Timestamp, PoolId, SpotHappening)> = Vec::new();
        for pool in look.pools {
            let Some(price) = pool.spot_usd_hour.filter(|price| self.prices.get(&pool.pool) != Some(price)) else {
                continue;
            };
            self.prices.insert(pool.pool.clone(), price);
            happened.push((look.at, pool.pool.clone(), SpotHappening::Price(price)));
        }
        for event in look.events.iter().filter(|event| !matches!(event.what, SpotHappening::Lost(_))) {
            if look.pools.iter().any(|pool| pool.pool == event.pool) {
                happened.push((event.at.min(look.at), event.pool.clone(), event.what));
            }
        }
        // Losses are counted by the units, which are ours and are told once.
        let mut lost: BTreeMap<PoolId, u32> = BTreeMap::new();
        for notice in notices.iter().filter(|notice| notice.kind == SpotNoticeKind::Interruption) {
            if let Some(unit) = units.get(notice.instance.as_str())
                && !self.notices.knows(&notice.instance, SpotNoticeKind::Interruption)
            {
                *lost.entry(unit.pool.clone()).or_default() += 1;
                self.lost_at = Some(look.at);
            }
        }
        happened.extend(lost.into_iter().map(|(pool, units)| (look.at, pool, SpotHappening::Lost(units))));
        for pool in look.pools {
            let count = spot_of(look.running, &pool.pool).count() as u32;
            let before = self.running.insert(pool.pool.clone(), count).unwrap_or(0);
            if count > before {
                happened.push((look.at, pool.pool.clone(), SpotHappening::Granted(count - before)));
            }
            if count != before {
                happened.push((look.at, pool.pool.clone(), SpotHappening::Running(count)));
            }
        }
        if look.refused && self.refused_at.is_none_or(|at| look.at.since(at) >= REFUSED_AGAIN) {
            self.refused_at = Some(look.at);
            for (pool, planned) in &self.planned {
                let missing = planned.saturating_sub(self.running.get(pool).copied().unwrap_or(0));
                if missing > 0 {
                    happened.push((look.at, pool.clone(), SpotHappening::Refused(missing)));
                }
            }
        }
        for (at, pool, what) in happened {
            learn(&mut self.knowledge, &SpotEvent { at, pool, what });
        }
        let shaken = SPOT_NOTICE + look.replacement + look.replacement;
        if let Some(before) = self.looked_at.replace(look.at)
            && look.short
            && self.lost_at.is_some_and(|lost| look.at.since(lost) <= shaken)
        {
            self.short = self.short + look.at.since(before).max(Span::ZERO);
        }
    }

    /// Takes in notices; the units that are to be out of service.
    fn heed(&mut self, look: &SpotLook, notices: Vec<SpotNotice>) -> Vec<String> {
        let units: Vec<LiveUnit> = look
            .running
            .iter()
            .map(|unit| LiveUnit { id: unit.id.clone(), in_service: unit.in_service, replaces: None })
            .collect();
        // The reaction counts units; a wish is in what they carry.
        let carried: u64 = look.running.iter().map(|unit| u64::from(unit.weight.max(1))).sum();
        let each = carried.div_ceil(look.running.len().max(1) as u64).max(1);
        let count = |capacity: u32| u32::try_from(u64::from(capacity).div_ceil(each)).unwrap_or(u32::MAX);
        let input = NoticeInput {
            at: look.at,
            notices,
            units,
            desired: count(look.units),
            min: count(look.min),
            max: count(look.max),
        };
        // What it says of replacements the plan has done already: it does not count units under notice.
        drop(self.notices.step(&input));
        self.notices.drained().map(str::to_owned).collect()
    }

    fn inputs(&self, look: &SpotLook) -> SpotInputs {
        let stays = |unit: &&SplitUnit| !self.notices.is_noticed(&unit.id);
        let offers = look.pools.iter().map(|pool| PoolOffer {
            pool: pool.pool.clone(),
            weight: pool.weight.max(1),
            on_demand_usd_hour: pool.on_demand_usd_hour,
            spot_usd_hour: self.prices.get(&pool.pool).copied(),
            running: spot_of(look.running, &pool.pool).filter(stays).count() as u32,
            belief: self.knowledge.belief(&pool.pool, look.at),
        });
        let mut inputs = SpotInputs::new(look.at, look.units, offers.collect(), look.replacement);
        inputs.max = Some(look.max.max(look.units));
        // What nobody knows yet is taken for what is not lost: on-demand.
        let on_demand = look.running.iter().filter(|unit| unit.is_spot != Some(true));
        inputs.on_demand_running = on_demand.map(|unit| unit.weight).fold(0, u32::saturating_add);
        inputs.kinship = self.knowledge.kinship();
        inputs.commitments = look.commitments.to_vec();
        inputs.replacement_median = look.replacement_median;
        let drain = self.notices.settings.drain_limit;
        inputs.notice = Span::from_millis((SPOT_NOTICE.millis() - drain.millis() - look.reaction.millis()).max(0));
        inputs.short = self.short;
        inputs.settings = look.settings;
        inputs.memory = self.memory;
        inputs
    }
}

fn spot_of<'a>(units: &'a [SplitUnit], pool: &'a PoolId) -> impl Iterator<Item = &'a SplitUnit> {
    units.iter().filter(move |unit| unit.is_spot == Some(true) && unit.pool == *pool)
}
