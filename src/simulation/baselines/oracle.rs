//! Who knows the future: the load, and how long each unit will take. Rule: the least capacity that is never short where that
//! is possible at all, with the provisioning lead time of everybody else: what regret is measured from.
//!
//! A unit is launched at the last tick at which waiting for one more would be late, and ended where as many as are missing
//! then could be launched a tick later and still come in time: such a gap is cheaper to boot again after than to wait
//! through, once the unit's minimum billing has passed. Where all units take the same time this is the highest need within
//! it, which no plan undercuts: each layer of the need has one unit from a lead time before it begins to its end.
//!
//! Where they do not, a plan also decides who gets which latency, since the n-th launch has the n-th. That is not searched
//! through: it is a good plan and not a bound, and one that launches a unit for nothing, to get past its latency, may be
//! better. A unit that is warming up counts for nothing in it, though the arena counts a share.

use std::collections::VecDeque;

use prescale_actuate::FleetSettings;
use prescale_domain::Span;

use super::{Autoscaler, Contender, Knobs};
use crate::arena::{Bout, TICK, Tick, needed_units};

pub(super) struct Entry;

impl Contender for Entry {
    fn enter<'a>(&'a self, bout: &'a Bout, _: Knobs) -> Box<dyn Autoscaler + 'a> {
        Box::new(Oracle::new(bout))
    }
}

/// The plan as it unfolds.
#[derive(Clone, Debug)]
pub struct Oracle {
    fleet: FleetSettings,
    /// Units needed by tick.
    needs: Vec<u32>,
    /// Highest need within the shortest and within the longest lead time from each tick on.
    soon: Vec<u32>,
    ahead: Vec<u32>,
    longest_lead: usize,
    tick: usize,
    /// Units that have not ended, oldest first, as the fleet has them.
    units: VecDeque<Unit>,
    /// So many of the oldest are known to be warm.
    warm: usize,
    launched: u64,
    /// Lead times of the units that are next, so far as they were asked for.
    next: VecDeque<Unit>,
}

/// Ticks at which a unit is in service, at full speed, and past its minimum billing: since the launch for one that is next,
/// else since the start.
#[derive(Clone, Copy, Debug)]
struct Unit {
    in_service: usize,
    warm: usize,
    paid: usize,
}

impl Oracle {
    pub fn new(bout: &Bout) -> Self {
        let fleet = bout.fleet;
        let ticks = bout.demand.end().since(bout.demand.start).steps_up(TICK);
        let moment = |tick: usize| bout.demand.start + Span::from_millis(TICK.millis() * tick as i64);
        let need = |tick| needed_units(bout.demand.at(moment(tick)), bout.unit_capacity);
        let needs: Vec<u32> = (0..ticks).map(|tick| need(tick).max(fleet.min).min(fleet.max)).collect();
        // Four deviations of a log-normal latency to either side: of 15,000 units one is beyond.
        let median = fleet.provisioning_latency.seconds().max(1e-3);
        let spread = (fleet.provisioning_latency_p90.seconds() / median).max(1.0).powf(4.0 / 1.2816);
        let lead = |seconds: f64| (Span::from_millis((seconds * 1000.0) as i64) + fleet.warm_up).steps_up(TICK);
        let usual_lead = (fleet.provisioning_latency + fleet.warm_up).steps_up(TICK);
        let longest_lead = lead(median * spread).max(usual_lead);
        let initial = fleet.initial.max(fleet.min).min(fleet.max);
        let there = Unit { in_service: 0, warm: 0, paid: fleet.minimum_billing.steps_up(TICK) };
        Self {
            fleet,
            soon: highest_within(&needs, lead(median / spread).min(usual_lead)),
            ahead: highest_within(&needs, longest_lead),
            needs,
            longest_lead,
            tick: 0,
            units: std::iter::repeat_n(there, initial as usize).collect(),
            warm: initial as usize,
            launched: u64::from(initial),
            next: VecDeque::new(),
        }
    }

    fn count(&self) -> u32 {
        u32::try_from(self.units.len()).unwrap_or(u32::MAX)
    }

    /// Lead time of the unit that is launched after `ahead` others.
    fn lead(&mut self, ahead: usize) -> Unit {
        while self.next.len() <= ahead {
            let latency = self.fleet.latency_of(self.launched + self.next.len() as u64);
            let warm = (latency + self.fleet.warm_up).steps_up(TICK);
            let paid = self.fleet.minimum_billing.steps_up(TICK);
            self.next.push_back(Unit { in_service: latency.steps_up(TICK), warm, paid });
        }
        self.next[ahead]
    }

    /// Units missing at this tick and the next ones, with those that are there and coming; negative where too many are.
    fn missing(&self) -> Vec<i64> {
        let until = self.needs.len().min(self.tick + self.longest_lead + 1);
        let mut missing: Vec<i64> =
            self.needs[self.tick..until].iter().map(|need| i64::from(*need) - self.warm as i64).collect();
        for unit in self.units.range(self.warm..) {
            missing.iter_mut().skip(unit.warm.saturating_sub(self.tick)).for_each(|missing| *missing -= 1);
        }
        missing
    }

    /// All that is missing at most, launched now: so many units would be there for the first time at each tick.
    fn arrivals(&mut self, missing: &[i64], arrivals: &mut [i64]) {
        arrivals.fill(0);
        let most = missing.iter().copied().max().unwrap_or(0);
        for ahead in 0..usize::try_from(most).unwrap_or(0) {
            // The rare one that takes longer comes as late as is looked ahead.
            let warm = self.lead(ahead).warm.min(self.longest_lead);
            if let Some(arrivals) = arrivals.get_mut(warm) {
                *arrivals += 1;
            }
        }
    }

    /// What would be short, in units and ticks, if all that is missing were launched at the next tick.
    fn lost(&mut self) -> i64 {
        let missing = self.missing();
        let mut arrivals = vec![0_i64; missing.len()];
        self.arrivals(&missing, &mut arrivals);
        let (mut lost, mut earlier) = (0, 0);
        for (missing, arriving) in missing.iter().zip(arrivals) {
            lost += (missing - earlier).max(0);
            earlier += arriving;
        }
        lost
    }

    /// Launches what would be late a tick later.
    fn launch_due(&mut self) {
        let mut missing = self.missing();
        let mut arrivals = vec![0_i64; missing.len()];
        loop {
            let most = missing.iter().copied().max().unwrap_or(0);
            if most <= 0 || self.count() >= self.fleet.max {
                return;
            }
            self.arrivals(&missing, &mut arrivals);
            // Launched at the next tick they would not, and too few would be there.
            let mut earlier = 0;
            let late = missing.iter().zip(&arrivals).any(|(missing, arriving)| {
                let late = *arriving > 0 && *missing > earlier;
                earlier += arriving;
                late
            });
            if !late {
                return;
            }
            let lead = self.lead(0);
            self.next.pop_front();
            let since = |ticks: usize| self.tick + ticks;
            self.units.push_back(Unit {
                in_service: since(lead.in_service),
                warm: since(lead.warm),
                paid: since(lead.paid),
            });
            self.launched += 1;
            missing.iter_mut().skip(lead.warm).for_each(|missing| *missing -= 1);
        }
    }

    /// Ends units as the fleet does, but for those that could not be replaced in time: the newest that are on their way go
    /// first, then the oldest.
    fn end(&mut self) {
        let lost = self.lost();
        while self.count() > self.fleet.min {
            let warm = self.warm;
            let pending = self.units.range(warm..).rposition(|unit| unit.in_service > self.tick);
            let at = pending.map_or(0, |pending| warm + pending);
            // Until its minimum billing has passed it costs nothing to keep.
            if self.units.get(at).is_some_and(|unit| unit.paid > self.tick) {
                return;
            }
            let Some(ended) = self.units.remove(at) else { return };
            self.warm = if pending.is_some() { warm } else { warm.saturating_sub(1) };
            if self.lost() > lost {
                self.units.insert(at, ended);
                self.warm = warm;
                return;
            }
        }
    }
}

impl Autoscaler for Oracle {
    fn decide(&mut self, _: Tick) -> Option<u32> {
        let (soon, ahead) = (*self.soon.get(self.tick)?, *self.ahead.get(self.tick)?);
        while self.units.get(self.warm).is_some_and(|unit| unit.warm <= self.tick) {
            self.warm += 1;
        }
        let before = self.count();
        if ahead > before {
            self.launch_due();
        }
        // The fleet is told one number: launched and ended at the same tick, other units would be meant.
        if self.count() == before && soon < before {
            self.end();
        }
        self.tick += 1;
        Some(self.count())
    }
}

/// For each place the highest of the value there and of the `ahead` next ones.
fn highest_within(values: &[u32], ahead: usize) -> Vec<u32> {
    // Places whose value nothing before them reaches, from the highest down.
    let mut falling: VecDeque<usize> = VecDeque::new();
    let mut highest = vec![0; values.len()];
    for place in (0..values.len()).rev() {
        while falling.back().is_some_and(|later| values[*later] <= values[place]) {
            falling.pop_back();
        }
        falling.push_back(place);
        while falling.front().is_some_and(|later| *later > place + ahead) {
            falling.pop_front();
        }
        highest[place] = falling.front().map_or(0, |best| values[*best]);
    }
    highest
}

#[cfg(test)]
mod tests;
