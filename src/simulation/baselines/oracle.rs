//! Who knows the future: the load, and how long each unit will take. Rule: the least capacity that is never short where that
//! is possible at all, with the provisioning lead time of everybody else: the lower bound that regret is measured from.
//!
//! A unit is launched at the last tick at which waiting for one more would be late, and ended as soon as it is not needed
//! within a usual lead time: a shorter gap is cheaper to wait through than to boot again. With a lead time that never varies
//! this is the highest need within it, which no plan undercuts: each layer of the need has one unit from a lead time before
//! it begins to its end.

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
    /// Highest need within a usual lead time from each tick on.
    usual: Vec<u32>,
    /// Highest need within the longest lead time from each tick on.
    longest: Vec<u32>,
    longest_lead: usize,
    tick: usize,
    units: u32,
    launched: u64,
    /// Launched and not yet at full speed, in the order of launch: the ticks at which they are in service, and warm.
    coming: VecDeque<(usize, usize)>,
    /// Lead times of the units that are next, so far as they were asked for.
    next: VecDeque<Lead>,
}

/// Ticks from the launch of a unit.
#[derive(Clone, Copy, Debug)]
struct Lead {
    in_service: usize,
    warm: usize,
}

impl Oracle {
    pub fn new(bout: &Bout) -> Self {
        let fleet = bout.fleet;
        let ticks = bout.demand.end().since(bout.demand.start).steps_up(TICK);
        let moment = |tick: usize| bout.demand.start + Span::from_millis(TICK.millis() * tick as i64);
        let need = |tick| needed_units(bout.demand.at(moment(tick)), bout.unit_capacity);
        let needs: Vec<u32> = (0..ticks).map(|tick| need(tick).max(fleet.min).min(fleet.max)).collect();
        let usual_lead = (fleet.provisioning_latency + fleet.warm_up).steps_up(TICK);
        // Four deviations of a log-normal latency: of 30,000 units one takes longer.
        let median = fleet.provisioning_latency.seconds().max(1e-3);
        let longest = median * (fleet.provisioning_latency_p90.seconds() / median).max(1.0).powf(4.0 / 1.2816);
        let longest_lead =
            (Span::from_millis((longest * 1000.0) as i64) + fleet.warm_up).steps_up(TICK).max(usual_lead);
        let units = fleet.initial.max(fleet.min).min(fleet.max);
        Self {
            fleet,
            usual: highest_within(&needs, usual_lead),
            longest: highest_within(&needs, longest_lead),
            needs,
            longest_lead,
            tick: 0,
            units,
            launched: u64::from(units),
            coming: VecDeque::new(),
            next: VecDeque::new(),
        }
    }

    /// Lead time of the unit that is launched after `ahead` others.
    fn lead(&mut self, ahead: usize) -> Lead {
        while self.next.len() <= ahead {
            let latency = self.fleet.latency_of(self.launched + self.next.len() as u64);
            let warm = (latency + self.fleet.warm_up).steps_up(TICK);
            self.next.push_back(Lead { in_service: latency.steps_up(TICK), warm });
        }
        self.next[ahead]
    }

    /// Units missing at this tick and the next ones, with those that are there and coming; negative where too many are.
    fn missing(&self) -> Vec<i64> {
        let warm = i64::from(self.units) - self.coming.len() as i64;
        let until = self.needs.len().min(self.tick + self.longest_lead + 1);
        let mut missing: Vec<i64> = self.needs[self.tick..until].iter().map(|need| i64::from(*need) - warm).collect();
        for (_, warm_at) in &self.coming {
            missing.iter_mut().skip(warm_at - self.tick).for_each(|missing| *missing -= 1);
        }
        missing
    }

    /// Launches what would be late a tick later.
    fn launch_due(&mut self) {
        let mut missing = self.missing();
        let mut arrivals = vec![0_i64; missing.len()];
        loop {
            let most = missing.iter().copied().max().unwrap_or(0);
            if most <= 0 || self.units >= self.fleet.max {
                return;
            }
            // All that is missing, launched now: so many would be there for the first time at each tick.
            arrivals.fill(0);
            for ahead in 0..usize::try_from(most).unwrap_or(0) {
                let warm = self.lead(ahead).warm;
                // The rare one that takes longer comes as late as is looked ahead.
                if let Some(arrivals) = arrivals.get_mut(warm.min(self.longest_lead)) {
                    *arrivals += 1;
                }
            }
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
            self.coming.push_back((self.tick + lead.in_service, self.tick + lead.warm));
            self.launched += 1;
            self.units += 1;
            missing.iter_mut().skip(lead.warm).for_each(|missing| *missing -= 1);
        }
    }

    /// Ends units down to `keep`, unless that made some be missing: those on their way go first.
    fn end(&mut self, keep: u32) {
        let before = (self.units, self.coming.clone());
        while self.units > keep {
            let pending = self.coming.iter().rposition(|(in_service, _)| *in_service > self.tick);
            if let Some(at) = pending {
                self.coming.remove(at);
            } else if self.coming.len() >= self.units as usize {
                self.coming.pop_front();
            }
            self.units -= 1;
        }
        if !before.1.is_empty() && self.missing().iter().any(|missing| *missing > 0) {
            (self.units, self.coming) = before;
        }
    }
}

impl Autoscaler for Oracle {
    fn decide(&mut self, _: Tick) -> Option<u32> {
        let (usual, longest) = (*self.usual.get(self.tick)?, *self.longest.get(self.tick)?);
        let tick = self.tick;
        self.coming.retain(|(_, warm_at)| *warm_at > tick);
        if longest > self.units {
            self.launch_due();
        }
        // What is on its way was launched for a need that may be further ahead than a usual lead time.
        let keep = if self.coming.is_empty() { usual } else { longest };
        if keep < self.units {
            self.end(keep);
        }
        self.tick += 1;
        Some(self.units)
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arena::fixture::bout;
    use crate::baselines::tests::fly;

    #[test]
    fn the_window_slides() {
        assert_eq!(highest_within(&[1, 5, 2, 3, 3, 0], 1), [5, 5, 3, 3, 3, 0]);
        assert_eq!(highest_within(&[1, 5, 2], 0), [1, 5, 2]);
        assert_eq!(highest_within(&[1, 5, 2], 9), [5, 5, 2]);
    }

    #[test]
    fn units_are_there_when_the_load_comes_and_go_with_it() {
        // Latency of a minute; the gap of a minute is kept through, that of two is not.
        let bout = bout(&[20.0, 20.0, 50.0, 20.0, 50.0, 20.0, 20.0, 50.0]);
        let tally = fly(&bout, &mut Oracle::new(&bout));
        assert_eq!((tally.short_ticks, tally.actions), (0, 3));
        // In unit minutes: two all the time; three more from a minute ahead of the first peak to the end of the second, and
        // again around the third.
        assert_eq!(tally.cost_usd, 16.0 + 3.0 * 4.0 + 3.0 * 2.0);
    }

    #[test]
    fn what_cannot_be_met_is_met_as_soon_as_possible() {
        let bout = bout(&[50.0, 50.0, 50.0]);
        let tally = fly(&bout, &mut Oracle::new(&bout));
        assert_eq!((tally.short_ticks, tally.cost_usd), (4, 15.0));
    }

    proptest! {
        /// With a lead time that does not vary, the highest need within it is a lower bound of every plan's units.
        #[test]
        fn no_plan_is_cheaper_and_nothing_avoidable_is_short(
            load in prop::collection::vec(0.0..200.0, 1..60), warm_up in 0i64..3, spread in 1.0..1.6,
        ) {
            let mut bout = bout(&load);
            bout.fleet.warm_up = Span::from_secs(warm_up * 30);
            let steady = fly(&bout, &mut Oracle::new(&bout));
            let lead = (bout.fleet.provisioning_latency + bout.fleet.warm_up).steps_up(TICK) as u64;
            prop_assert!(steady.short_ticks <= lead);
            // Before the first unit can come, those that are there must do.
            let mut needs = Oracle::new(&bout).needs;
            needs.iter_mut().take(lead as usize).for_each(|need| *need = (*need).min(bout.fleet.initial));
            let least: u32 = highest_within(&needs, lead as usize).iter().sum();
            prop_assert!((steady.unit_hours * 240.0 - f64::from(least)).abs() < 1e-6);
            // Where it varies, only the first units may be late.
            bout.fleet.provisioning_latency_p90 = Span::from_millis((60_000.0 * spread) as i64);
            let varied = fly(&bout, &mut Oracle::new(&bout));
            prop_assert!(varied.short_ticks <= oracle_lead(&bout));
        }
    }

    fn oracle_lead(bout: &Bout) -> u64 {
        Oracle::new(bout).longest_lead as u64
    }
}
