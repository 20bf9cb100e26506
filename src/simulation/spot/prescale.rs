//! Prescale's way: `plan`, `learn` and `Notices` of `prescale_decide::spot`, carried out. Rule: nothing is decided here.

use std::collections::BTreeMap;

use prescale_decide::spot::{
    LiveUnit, NoticeAction, NoticeInput, NoticeSettings, Notices, SpotKnowledge, Starts, learn, plan,
};
use prescale_domain::{
    PoolId, PoolOffer, SPOT_NOTICE, Span, SpotEvent, SpotHappening, SpotInputs, SpotMemory, SpotNotice, SpotNoticeKind,
    SpotPlan, SpotSettings, Timestamp,
};

use super::fleet::{Fleet, FleetSettings, Notice, Unit};

/// A plan is made again after this time, whatever happened.
const PLAN_EVERY: Span = Span::from_minutes(5);

/// A unit is out of service so long before it is lost: enough for short requests.
const DRAIN: Span = Span::from_secs(15);

/// State of a fleet that is bought spot first.
pub(super) struct SpotFirst {
    settings: SpotSettings,
    fleet: FleetSettings,
    pools: Vec<PoolId>,
    knowledge: SpotKnowledge,
    notices: Notices,
    memory: SpotMemory,
    planned: Option<(Timestamp, u32)>,
    /// Units and prices by pool that were learnt last.
    running: Vec<u32>,
    prices: Vec<f64>,
    /// Units whose notice was told.
    told: BTreeMap<u64, SpotNoticeKind>,
    desired: u32,
    last: Option<SpotPlan>,
    races: Vec<Race>,
    /// When units were told or seen to be lost last, and the time short for that since the last plan.
    lost_at: Option<Timestamp>,
    short: Span,
}

/// Launched for units that are going to be lost, with some on-demand ones more than those: who comes first counts.
struct Race {
    units: Vec<u64>,
    needed: usize,
}

impl SpotFirst {
    pub(super) fn new(settings: SpotSettings, fleet: FleetSettings, pools: Vec<PoolId>) -> Self {
        let count = pools.len();
        Self {
            settings,
            fleet,
            pools,
            knowledge: SpotKnowledge::default(),
            notices: Notices::new(NoticeSettings { drain_limit: DRAIN, ..NoticeSettings::default() }),
            memory: SpotMemory::default(),
            planned: None,
            running: vec![0; count],
            prices: vec![f64::NAN; count],
            told: BTreeMap::new(),
            desired: 0,
            last: None,
            races: Vec::new(),
            lost_at: None,
            short: Span::default(),
        }
    }

    /// `short`: demand was not met in the tick before.
    pub(super) fn act(&mut self, fleet: &mut Fleet, wanted: u32, short: bool) {
        let now = fleet.now();
        let shaken = SPOT_NOTICE + self.fleet.launch_p90 + self.fleet.launch_p90;
        if short && self.lost_at.is_some_and(|lost| now.since(lost) <= shaken) {
            self.short = self.short + self.fleet.tick;
        }
        self.end_races(fleet);
        let mut news = self.learn_prices(fleet, now);
        let (replace, noticed) = self.heed(fleet, wanted);
        news |= noticed;
        let due = self.planned.is_none_or(|(at, units)| units != wanted || now.since(at) >= PLAN_EVERY);
        // Fewer units than planned: some were lost without a notice.
        let missing = self.desired.saturating_sub(self.staying(fleet));
        if noticed || missing > 0 {
            self.lost_at = Some(now);
        }
        if news || due || missing > 0 || !replace.is_empty() {
            let first = fleet.next();
            self.buy(fleet, wanted, replace);
            self.race(fleet, first, missing);
        }
        self.release(fleet, wanted);
        self.learn_running(fleet, now);
    }

    /// Whether nothing was told of a unit that still counts.
    fn stays(&self, number: u64) -> bool {
        !self.notices.is_noticed(&number.to_string())
    }

    fn staying(&self, fleet: &Fleet) -> u32 {
        let extra = self.extra(fleet);
        fleet.units().iter().filter(|unit| self.stays(unit.number) && !extra.contains(&unit.number)).count() as u32
    }

    /// What a notice leaves for a replacement.
    fn notice(&self) -> Span {
        Span::from_millis(SPOT_NOTICE.millis() - DRAIN.millis() - self.fleet.tick.millis())
    }

    /// Launches some units more than were just launched for `lost` ones.
    fn race(&mut self, fleet: &mut Fleet, first: u64, lost: u32) {
        let mut units: Vec<u64> = fleet.units().iter().map(|unit| unit.number).filter(|unit| *unit >= first).collect();
        let needed = units.len();
        let starts = Starts { median: Some(self.fleet.launch_median), p90: self.fleet.launch_p90 };
        let extra = starts.hedge(lost.min(needed as u32), self.settings.hedge_share, self.notice());
        for _ in 0..extra {
            units.push(fleet.next());
            fleet.launch_on_demand(None);
        }
        if extra > 0 {
            self.races.push(Race { units, needed });
        }
    }

    /// Races of which enough serve are over; on-demand units that are still starting go.
    fn end_races(&mut self, fleet: &mut Fleet) {
        let mut late = Vec::new();
        self.races.retain(|race| {
            let of: Vec<&Unit> = fleet.units().iter().filter(|unit| race.units.contains(&unit.number)).collect();
            let serving = of.iter().filter(|unit| unit.serves).count();
            let over = serving >= race.needed || of.len() <= race.needed;
            if over {
                let starting = of.iter().filter(|unit| !unit.serves && unit.pool.is_none()).map(|unit| unit.number);
                late.extend(starting.take(of.len().saturating_sub(race.needed)));
            }
            !over
        });
        for number in late {
            fleet.drain(number);
        }
    }

    /// On-demand units that no plan knows of: those of races that are not over, beyond what is needed.
    fn extra(&self, fleet: &Fleet) -> Vec<u64> {
        let mut extra = Vec::new();
        for race in &self.races {
            let of: Vec<&Unit> = fleet.units().iter().filter(|unit| race.units.contains(&unit.number)).collect();
            let on_demand = of.iter().rev().filter(|unit| unit.pool.is_none()).map(|unit| unit.number);
            extra.extend(on_demand.take(of.len().saturating_sub(race.needed)));
        }
        extra
    }

    fn learn(&mut self, at: Timestamp, pool: usize, what: SpotHappening) {
        learn(&mut self.knowledge, &SpotEvent { at, pool: self.pools[pool].clone(), what });
    }

    fn learn_prices(&mut self, fleet: &Fleet, now: Timestamp) -> bool {
        let mut news = false;
        for pool in 0..self.pools.len() {
            let price = fleet.market().usd_hour(pool);
            if price.to_bits() != self.prices[pool].to_bits() {
                news |= (price / self.prices[pool] - 1.0).abs() > 0.05;
                self.prices[pool] = price;
                self.learn(now, pool, SpotHappening::Price(price));
            }
        }
        news
    }

    fn learn_running(&mut self, fleet: &Fleet, now: Timestamp) {
        for pool in 0..self.pools.len() {
            let running = fleet.units().iter().filter(|unit| unit.pool == Some(pool)).count() as u32;
            if running != self.running[pool] {
                self.running[pool] = running;
                self.learn(now, pool, SpotHappening::Running(running));
            }
        }
    }

    /// Notices: what they teach, the units to replace, and whether there were any.
    fn heed(&mut self, fleet: &mut Fleet, wanted: u32) -> (Vec<u64>, bool) {
        let now = fleet.now();
        let mut fresh = Vec::new();
        let mut lost = vec![0; self.pools.len()];
        for unit in fleet.units() {
            let (kind, lost_at) = match unit.notice {
                None => continue,
                Some(Notice::Recommended) => (SpotNoticeKind::Rebalance, None),
                Some(Notice::Lost(at)) => (SpotNoticeKind::Interruption, Some(at)),
            };
            if self.told.insert(unit.number, kind) == Some(kind) {
                continue;
            }
            let pool = unit.pool.and_then(|pool| self.pools.get(pool)).cloned();
            if let Some(pool) = unit.pool.filter(|_| kind == SpotNoticeKind::Interruption) {
                lost[pool] += 1;
            }
            fresh.push(SpotNotice { instance: unit.number.to_string(), pool, kind, at: now, lost_at });
        }
        for (pool, units) in lost.into_iter().enumerate().filter(|(_, units)| *units > 0) {
            self.learn(now, pool, SpotHappening::Lost(units));
        }
        let noticed = !fresh.is_empty();
        let (mut replace, mut drain) = (Vec::new(), Vec::new());
        if noticed || !self.told.is_empty() {
            let extra = self.extra(fleet);
            let live = |unit: &Unit| LiveUnit {
                id: unit.number.to_string(),
                in_service: unit.serves,
                replaces: unit.replaces.map(|old| old.to_string()),
            };
            let units = fleet.units().iter().filter(|unit| !extra.contains(&unit.number)).map(live).collect();
            let desired = self.desired.max(wanted);
            let input = NoticeInput { at: now, notices: fresh, units, desired, min: wanted, max: 2 * desired };
            for action in self.notices.step(&input) {
                match action {
                    NoticeAction::Replace { instance } => replace.extend(instance.parse::<u64>()),
                    NoticeAction::Drain { instance, .. } => drain.extend(instance.parse::<u64>()),
                    NoticeAction::Protect { .. } | NoticeAction::Release { .. } | NoticeAction::Pass { .. } => {}
                }
            }
        }
        for number in drain {
            fleet.drain(number);
        }
        let alive: Vec<u64> = fleet.units().iter().map(|unit| unit.number).collect();
        self.told.retain(|number, _| alive.contains(number));
        (replace, noticed)
    }

    fn inputs(&self, fleet: &Fleet, wanted: u32) -> SpotInputs {
        let now = fleet.now();
        let extra = self.extra(fleet);
        let counts = |unit: &&Unit| self.stays(unit.number) && !extra.contains(&unit.number);
        let count =
            |pool: Option<usize>| fleet.units().iter().filter(|unit| unit.pool == pool).filter(counts).count() as u32;
        let offers = self.pools.iter().enumerate().map(|(index, pool)| PoolOffer {
            pool: pool.clone(),
            weight: 1,
            on_demand_usd_hour: self.fleet.on_demand_usd_hour,
            spot_usd_hour: Some(self.prices[index]),
            running: count(Some(index)),
            belief: self.knowledge.belief(pool, now),
        });
        let mut inputs = SpotInputs::new(now, wanted, offers.collect(), self.fleet.launch_p90);
        inputs.kinship = self.knowledge.kinship();
        inputs.on_demand_running = count(None);
        inputs.replacement_median = Some(self.fleet.launch_median);
        inputs.notice = self.notice();
        inputs.settings = self.settings;
        inputs.settings.minimum_billing = self.fleet.minimum_billing;
        inputs.memory = self.memory;
        inputs.short = self.short;
        inputs
    }

    /// Plans and launches; a pool that refuses is learnt of, and the plan is made again without it.
    fn buy(&mut self, fleet: &mut Fleet, wanted: u32, replace: Vec<u64>) {
        let now = fleet.now();
        let mut replace = replace.into_iter();
        self.planned = Some((now, wanted));
        for _ in 0..=self.pools.len() {
            let inputs = self.inputs(fleet, wanted);
            let found = plan(&inputs);
            let mut refused = false;
            for share in &found.spot {
                let Some(pool) = self.pools.iter().position(|pool| *pool == share.pool) else { continue };
                let missing = share.instances.saturating_sub(inputs.pools[pool].running);
                for left in (1..=missing).rev() {
                    let happening = if fleet.launch_spot(pool, replace.next()) {
                        SpotHappening::Granted(1)
                    } else {
                        refused = true;
                        SpotHappening::Refused(left)
                    };
                    self.learn_running(fleet, now);
                    self.learn(now, pool, happening);
                    if matches!(happening, SpotHappening::Refused(_)) {
                        break;
                    }
                }
            }
            self.desired = found.on_demand + found.spot_units();
            if !refused {
                self.memory = found.memory;
                self.short = Span::default();
                for _ in inputs.on_demand_running..found.on_demand {
                    fleet.launch_on_demand(replace.next());
                }
                self.last = Some(found);
                return;
            }
        }
    }

    /// Ends what the plan has no place for, on-demand units first, as long as enough others serve.
    fn release(&mut self, fleet: &mut Fleet, wanted: u32) {
        let Some(plan) = &self.last else { return };
        let mut room: Vec<u32> = vec![0; self.pools.len()];
        for share in &plan.spot {
            if let Some(pool) = self.pools.iter().position(|pool| *pool == share.pool) {
                room[pool] = share.instances;
            }
        }
        let extra = self.extra(fleet);
        let counts = |unit: &&Unit| self.stays(unit.number) && !extra.contains(&unit.number);
        let mut serving = fleet.units().iter().filter(counts).filter(|unit| unit.serves).count() as u32;
        let mut on_demand = plan.on_demand;
        let mut surplus = Vec::new();
        for unit in fleet.units().iter().filter(counts) {
            let left = match unit.pool {
                Some(pool) => &mut room[pool],
                None => &mut on_demand,
            };
            if *left > 0 {
                *left -= 1;
            } else {
                surplus.push((unit.pool.is_some(), unit.number, unit.serves));
            }
        }
        surplus.sort_unstable();
        let least = wanted.max(plan.on_demand + plan.spot_units());
        for (_, number, serves) in surplus {
            if !serves || serving > least {
                serving -= u32::from(serves);
                fleet.drain(number);
            }
        }
    }
}
