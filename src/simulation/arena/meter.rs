//! What a flight is measured by, tick by tick. Rule: sums only, so that services and times add up; shares are made of them
//! at the end.

use super::tally::Tally;
use super::{ROUNDING, TICK};

/// The fleet and its load at one tick.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) load: f64,
    /// The least units that carry the load.
    pub(super) needed: u32,
    /// In service, warm or not.
    pub(super) ready: u32,
    /// Paid for: in service or on the way.
    pub(super) desired: u32,
    /// Load that the units in service carry, by how warm they are.
    pub(super) capacity: f64,
    pub(super) spike: bool,
}

/// A flight so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    tally: Tally,
    desired: u32,
    /// Whether the last change of the desired capacity was upwards; `None` before the first.
    upwards: Option<bool>,
    /// Needed and in service at the last tick.
    seen: Option<(u32, u32)>,
    /// Needed and in service at the end of the step before.
    before: Option<(u32, u32)>,
}

impl Meter {
    pub(super) fn new(desired: u32) -> Self {
        Self { tally: Tally::default(), desired, upwards: None, seen: None, before: None }
    }

    /// A step of the load begins: demand moves only here, so that the directions of demand and supply are compared from
    /// step to step (Bauer's instability).
    pub(super) fn step(&mut self) {
        if let (Some((demand, supply)), Some((demand_before, supply_before))) = (self.seen, self.before) {
            self.tally.steps += 1;
            self.tally.unlike_steps += u64::from(demand.cmp(&demand_before) != supply.cmp(&supply_before));
        }
        self.before = self.seen;
    }

    pub(super) fn tick(&mut self, sample: &Sample) {
        let Sample { load, needed, ready, desired, capacity, spike } = *sample;
        let seconds = TICK.seconds();
        let short = load - capacity;
        let short = if short > ROUNDING * load { short } else { 0.0 };
        let tally = &mut self.tally;
        tally.ticks += 1;
        tally.short_ticks += u64::from(short > 0.0);
        tally.demanded += load * seconds;
        tally.missed += short * seconds;
        tally.carried += capacity * seconds;
        // Of no unit at all no share can be taken.
        let least = f64::from(needed.max(1));
        tally.under += f64::from(needed.saturating_sub(ready)) / least;
        tally.over += f64::from(ready.saturating_sub(needed)) / least;
        tally.under_ticks += u64::from(ready < needed);
        tally.over_ticks += u64::from(ready > needed);
        tally.paid_unit_ticks += u64::from(desired);
        tally.idle_unit_ticks += u64::from(desired.saturating_sub(needed));
        if spike {
            tally.spike_ticks += 1;
            tally.spike_short_ticks += u64::from(short > 0.0);
            tally.spike_demanded += load * seconds;
            tally.spike_missed += short * seconds;
        }
        if desired != self.desired {
            let upwards = desired > self.desired;
            tally.reversals += u64::from(self.upwards.is_some_and(|before| before != upwards));
            self.upwards = Some(upwards);
            self.desired = desired;
        }
        self.seen = Some((needed, ready));
    }

    pub(super) fn finish(mut self) -> Tally {
        self.step();
        self.tally
    }
}
