//! The life of units: launched, failed or in service, drained, ended or lost. Rule: what is wanted is what is counted, plus
//! the launches that are owed after a failure; a unit that is leaving is not counted, its successor is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use prescale_domain::Timestamp;

use super::billing::{ClassCost, PriceClass, hours};
use super::moment::{Nanos, nanos_since};
use super::settings::{RunSettings, SpotReaction};
use crate::market::{Market, MarketError, Tenancy};

/// Where a unit is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Pending,
    InService,
    Draining,
    Ended,
}

#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) stage: Stage,
    pub(super) class: PriceClass,
    launched: Nanos,
    /// When it came, or is to come, into service; `None` = before the run.
    in_service: Option<Nanos>,
    fails: bool,
    /// Requests in service or waiting at this unit.
    pub(super) held: u32,
    tenancy: Option<Tenancy>,
    /// The unit that it was launched to replace.
    replaces: Option<u32>,
    /// Its successor has been launched.
    leaving: bool,
}

impl Unit {
    /// How long it has been in service.
    pub(super) fn age(&self, now: Nanos) -> Nanos {
        self.in_service.map_or(Nanos::MAX, |since| now.since(since))
    }
}

/// What the server of requests has to do about a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened(u32),
    /// No new requests; [`Fleet::end`] when the last is done.
    Closed(u32),
    /// Gone with all it held.
    Gone(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Due(u32),
    Retry,
    DrainLimit(u32),
    Recommended(u32),
    Noticed(u32),
    /// Its notice is running out.
    TimeUp(u32),
    Lost(u32),
}

/// All units of a run.
#[derive(Debug)]
pub(super) struct Fleet<'a> {
    settings: &'a RunSettings,
    market: Option<Market>,
    pub(super) units: Vec<Unit>,
    /// Units that have not ended, by number.
    living: Vec<u32>,
    due: BinaryHeap<Reverse<(Nanos, u64, Happening)>>,
    sequence: u64,
    changes: VecDeque<Change>,
    wanted: u32,
    owed: u32,
    pub(super) pending: u32,
    pub(super) in_service: u32,
    pub(super) draining: u32,
    /// Requests for other numbers of units, with their moments.
    actions: Vec<(Timestamp, u32)>,
    failed_launches: u64,
    /// What the market has said so far, and what was said of that to the controller.
    signals: Signals,
    told: Signals,
    desired_max: u32,
    units_max: u32,
    costs: [ClassCost; 3],
}

/// Recommendations and notices for spot units.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Signals {
    pub(super) recommendations: u64,
    pub(super) notices: u64,
}

/// What is left of a fleet at the end of a run.
#[derive(Debug)]
pub(super) struct Bill {
    pub(super) classes: BTreeMap<PriceClass, ClassCost>,
    pub(super) actions: Vec<(Timestamp, u32)>,
    pub(super) desired_max: u32,
    pub(super) units_max: u32,
    pub(super) failed_launches: u64,
    pub(super) signals: Signals,
}

impl<'a> Fleet<'a> {
    pub(super) fn new(settings: &'a RunSettings) -> Result<Self, MarketError> {
        let market = match &settings.market {
            Some(market) => Some(Market::new(market, settings.start, settings.end, settings.seed)?),
            None => None,
        };
        let mut fleet = Self {
            settings,
            market,
            units: Vec::new(),
            living: Vec::new(),
            due: BinaryHeap::new(),
            sequence: 0,
            changes: VecDeque::new(),
            wanted: 0,
            owed: 0,
            pending: 0,
            in_service: 0,
            draining: 0,
            actions: Vec::new(),
            failed_launches: 0,
            signals: Signals::default(),
            told: Signals::default(),
            desired_max: 0,
            units_max: 0,
            costs: [ClassCost::default(); 3],
        };
        fleet.wanted = settings.fleet.initial.clamp(settings.fleet.min, settings.fleet.max);
        fleet.desired_max = fleet.wanted;
        for _ in 0..fleet.wanted {
            fleet.launch(Nanos::ZERO, None, true);
        }
        Ok(fleet)
    }

    pub(super) fn wanted(&self) -> u32 {
        self.wanted
    }

    /// Units of all stages that are paid for.
    pub(super) fn alive(&self) -> u32 {
        self.pending + self.in_service + self.draining
    }

    /// Sum of the speeds of the units in service.
    pub(super) fn speed(&self, now: Nanos) -> f64 {
        let serving = self.living.iter().map(|unit| &self.units[*unit as usize]);
        let warm_up = &self.settings.fleet.warm_up;
        let at_work = serving.filter(|unit| unit.stage == Stage::InService);
        at_work.map(|unit| warm_up.speed(unit.age(now).seconds())).sum()
    }

    pub(super) fn set_wanted(&mut self, now: Nanos, units: u32) {
        let units = units.clamp(self.settings.fleet.min, self.settings.fleet.max);
        if units == self.wanted {
            return;
        }
        self.actions.push((now.after(self.settings.start), units));
        for _ in self.wanted..units {
            self.launch(now, None, false);
        }
        for _ in units..self.wanted {
            self.remove_one(now);
        }
        self.wanted = units;
        self.desired_max = self.desired_max.max(units);
    }

    /// When something happens next by itself.
    pub(super) fn next(&self) -> Nanos {
        self.due.peek().map_or(Nanos::MAX, |Reverse((moment, ..))| *moment)
    }

    /// Lets everything happen that is due by `now`.
    pub(super) fn advance(&mut self, now: Nanos) {
        while let Some(Reverse((moment, _, happening))) = self.due.peek().copied() {
            if moment > now {
                return;
            }
            self.due.pop();
            self.happen(moment, happening);
        }
    }

    pub(super) fn take_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// The unit ends; its bill is closed.
    pub(super) fn end(&mut self, unit: u32, now: Nanos) {
        let Some(ending) = self.units.get_mut(unit as usize) else {
            return;
        };
        match ending.stage {
            Stage::Pending => self.pending -= 1,
            Stage::InService => self.in_service -= 1,
            Stage::Draining => self.draining -= 1,
            Stage::Ended => return,
        }
        ending.stage = Stage::Ended;
        self.living.retain(|living| *living != unit);
        self.bill(unit, now);
    }

    /// What the market has said since the last question.
    pub(super) fn take_signals(&mut self) -> Signals {
        let told = std::mem::replace(&mut self.told, self.signals);
        Signals {
            recommendations: self.signals.recommendations - told.recommendations,
            notices: self.signals.notices - told.notices,
        }
    }

    /// The end of the run; units that live are billed until then.
    pub(super) fn close(mut self, end: Nanos) -> Bill {
        for unit in std::mem::take(&mut self.living) {
            self.bill(unit, end);
        }
        let prices = &self.settings.prices;
        self.costs[PriceClass::Reserved as usize].cost_usd =
            f64::from(prices.reserved) * prices.reserved_usd_hour * hours(end);
        let classes = [PriceClass::Reserved, PriceClass::OnDemand, PriceClass::Spot];
        let used = |class: &PriceClass| {
            let costs = self.costs[*class as usize];
            costs.launched > 0 || costs.cost_usd > 0.0
        };
        Bill {
            classes: classes.into_iter().filter(used).map(|class| (class, self.costs[class as usize])).collect(),
            actions: self.actions,
            desired_max: self.desired_max,
            units_max: self.units_max,
            failed_launches: self.failed_launches,
            signals: self.signals,
        }
    }

    fn happen(&mut self, now: Nanos, happening: Happening) {
        match happening {
            Happening::Due(unit) => self.arrive(unit, now),
            Happening::Retry if self.owed > 0 => {
                self.owed -= 1;
                self.launch(now, None, false);
            }
            Happening::Retry => {}
            Happening::DrainLimit(unit) => self.lose(unit, now),
            Happening::Recommended(unit) if self.is_alive(unit) => {
                self.signals.recommendations += 1;
                self.leave(unit, now, SpotReaction::AtRecommendation);
            }
            Happening::Noticed(unit) if self.is_alive(unit) => {
                self.signals.notices += 1;
                self.leave(unit, now, SpotReaction::AtNotice);
            }
            Happening::TimeUp(unit) if self.is_alive(unit) && self.units[unit as usize].leaving => {
                self.drain(unit, now);
            }
            Happening::Recommended(_) | Happening::Noticed(_) | Happening::TimeUp(_) => {}
            Happening::Lost(unit) => {
                let Some(lost) = self.units.get(unit as usize).filter(|lost| lost.stage != Stage::Ended) else {
                    return;
                };
                let counted = lost.stage != Stage::Draining && !lost.leaving;
                let replaces = lost.replaces.filter(|old| self.is_alive(*old));
                self.costs[PriceClass::Spot as usize].lost += 1;
                self.lose(unit, now);
                match replaces {
                    Some(old) => self.units[old as usize].leaving = false,
                    None if counted => self.launch(now, None, false),
                    None => {}
                }
            }
        }
    }

    fn arrive(&mut self, unit: u32, now: Nanos) {
        let Some(arrived) = self.units.get_mut(unit as usize).filter(|unit| unit.stage == Stage::Pending) else {
            return;
        };
        let replaces = arrived.replaces.take();
        if arrived.fails {
            self.failed_launches += 1;
            self.end(unit, now);
            match replaces.filter(|old| self.is_alive(*old)) {
                // It stays after all.
                Some(old) => self.units[old as usize].leaving = false,
                None => {
                    self.owed += 1;
                    self.plan(now.plus(self.settings.fleet.retry_after.into()), Happening::Retry);
                }
            }
            return;
        }
        arrived.stage = Stage::InService;
        self.pending -= 1;
        self.in_service += 1;
        self.changes.push_back(Change::Opened(unit));
        if let Some(old) = replaces.filter(|old| self.is_alive(*old)) {
            self.drain(old, now);
        }
    }

    fn launch(&mut self, now: Nanos, replaces: Option<u32>, at_once: bool) {
        let number = u32::try_from(self.units.len()).unwrap_or(u32::MAX);
        let fleet = &self.settings.fleet;
        let (mut class, mut tenancy) = (self.class(), None);
        if class == PriceClass::Spot
            && let Some(market) = &mut self.market
        {
            tenancy = market.launch(u64::from(number), now.after(self.settings.start));
            if tenancy.is_none() {
                class = PriceClass::OnDemand;
            }
        }
        let (latency, fails) = fleet.provisioning.draw(self.settings.seed, number, fleet.launch_failure);
        let (stage, in_service, fails) =
            if at_once { (Stage::InService, None, false) } else { (Stage::Pending, Some(now.plus(latency)), fails) };
        if let Some(tenancy) = &tenancy {
            self.plan_fate(number, tenancy);
        }
        self.costs[class as usize].launched += 1;
        self.living.push(number);
        let leaving = false;
        self.units.push(Unit { stage, class, launched: now, in_service, fails, held: 0, tenancy, replaces, leaving });
        if let Some(due) = in_service {
            self.pending += 1;
            self.plan(due, Happening::Due(number));
        } else {
            self.in_service += 1;
            self.changes.push_back(Change::Opened(number));
        }
        self.units_max = self.units_max.max(self.alive());
    }

    fn plan_fate(&mut self, unit: u32, tenancy: &Tenancy) {
        let start = self.settings.start;
        let drain = self.settings.fleet.drain_limit.unwrap_or_default();
        let mut plan = |moment: Option<Timestamp>, happening: Happening| {
            if let Some(moment) = moment.filter(|moment| *moment < self.settings.end) {
                self.plan(nanos_since(start, moment), happening);
            }
        };
        plan(tenancy.recommended_at, Happening::Recommended(unit));
        plan(tenancy.noticed_at, Happening::Noticed(unit));
        plan(tenancy.lost_at, Happening::Lost(unit));
        let time_up = tenancy.noticed_at.zip(tenancy.lost_at).map(|(notice, lost)| notice.max(lost - drain));
        plan(time_up, Happening::TimeUp(unit));
    }

    /// The class of the next unit, by those that are counted.
    fn class(&self) -> PriceClass {
        let mut counts = [0; 3];
        for unit in self.living.iter().map(|unit| &self.units[*unit as usize]) {
            counts[unit.class as usize] += u32::from(unit.stage != Stage::Draining && !unit.leaving);
        }
        self.settings.prices.next_class(counts[0], counts[1], counts[2])
    }

    /// One unit less is wanted: first a launch that is owed, then the newest that is not in service yet, then the idlest,
    /// the oldest of those; what is reserved is paid for anyway and goes last.
    fn remove_one(&mut self, now: Nanos) {
        if self.owed > 0 {
            self.owed -= 1;
            return;
        }
        loop {
            let of = |unit: u32| &self.units[unit as usize];
            let pending = self.living.iter().rev().copied().find(|unit| of(*unit).stage == Stage::Pending);
            let Some(newest) = pending else { break };
            let kept = of(newest).replaces.filter(|old| self.is_alive(*old));
            self.end(newest, now);
            match kept {
                // The one that it was to replace is counted again, so one more has to go.
                Some(old) => self.units[old as usize].leaving = false,
                None => return,
            }
        }
        let of = |unit: &u32| &self.units[*unit as usize];
        let serving = self.living.iter().filter(|unit| of(unit).stage == Stage::InService && !of(unit).leaving);
        let victim = serving.min_by_key(|unit| (of(unit).class == PriceClass::Reserved, of(unit).held, **unit));
        if let Some(victim) = victim.copied() {
            self.drain(victim, now);
        }
    }

    fn leave(&mut self, unit: u32, now: Nanos, signal: SpotReaction) {
        let reaction = self.settings.prices.spot.as_ref().map(|spot| spot.reaction).unwrap_or_default();
        let heeded = match reaction {
            SpotReaction::Wait => false,
            SpotReaction::AtNotice => signal == SpotReaction::AtNotice,
            SpotReaction::AtRecommendation => true,
        };
        let leaving = &mut self.units[unit as usize];
        if heeded && !leaving.leaving && leaving.stage == Stage::InService {
            leaving.leaving = true;
            self.launch(now, Some(unit), false);
        }
    }

    fn drain(&mut self, unit: u32, now: Nanos) {
        let draining = &mut self.units[unit as usize];
        if draining.stage != Stage::InService {
            return;
        }
        draining.stage = Stage::Draining;
        self.in_service -= 1;
        self.draining += 1;
        self.changes.push_back(Change::Closed(unit));
        if let Some(limit) = self.settings.fleet.drain_limit {
            self.plan(now.plus(limit.into()), Happening::DrainLimit(unit));
        }
    }

    fn lose(&mut self, unit: u32, now: Nanos) {
        let Some(stage) = self.units.get(unit as usize).map(|unit| unit.stage) else {
            return;
        };
        self.end(unit, now);
        if matches!(stage, Stage::InService | Stage::Draining) {
            self.changes.push_back(Change::Gone(unit));
        }
    }

    fn is_alive(&self, unit: u32) -> bool {
        let unit = self.units.get(unit as usize);
        unit.is_some_and(|unit| matches!(unit.stage, Stage::Pending | Stage::InService))
    }

    fn plan(&mut self, moment: Nanos, happening: Happening) {
        self.sequence += 1;
        self.due.push(Reverse((moment, self.sequence, happening)));
    }

    fn bill(&mut self, unit: u32, until: Nanos) {
        let Some(ended) = self.units.get(unit as usize) else {
            return;
        };
        let prices = &self.settings.prices;
        let lived = until.since(ended.launched);
        let billed = prices.billed(lived);
        let (class, start) = (ended.class, self.settings.start);
        let cost = match (class, &ended.tenancy, &mut self.market) {
            // Billed as a whole, below.
            (PriceClass::Reserved, ..) => 0.0,
            (PriceClass::OnDemand, ..) => hours(billed) * prices.on_demand_usd_hour,
            (PriceClass::Spot, Some(tenancy), Some(market)) => {
                market.end(tenancy);
                let launched = ended.launched;
                market.cost_usd(tenancy.pool, launched.after(start), launched.plus(billed).after(start))
            }
            (PriceClass::Spot, ..) => hours(billed) * prices.spot.as_ref().map_or(0.0, |spot| spot.usd_hour),
        };
        self.costs[class as usize].unit_hours += hours(lived);
        self.costs[class as usize].cost_usd += cost;
    }
}
