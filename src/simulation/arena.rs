//! One controller drives one fleet through one load. Rule: every controller meets the same load, the same fleet and the
//! same latency for the n-th unit; only its decisions differ.

#[cfg(test)]
pub(crate) mod fixture;
mod gauge;
mod meter;
mod spikes;
mod tally;

use prescale_actuate::{Fleet, FleetSettings};
use prescale_domain::{Span, TargetState, Timestamp};

use crate::baselines::{Hpa, HpaSettings, Observation};

pub use gauge::Gauge;
use meter::{Meter, Sample};
pub use spikes::spikes;
pub use tally::Tally;

/// Controllers are asked this often, and capacity is compared with load this often.
pub const TICK: Span = Span::from_secs(15);

/// The load of one service over the scored time.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    pub start: Timestamp,
    pub step: Span,
    /// In the unit of the load signal, one for each step; it stays the same within a step.
    pub load: Vec<f64>,
}

/// One service in the arena.
#[derive(Clone, Debug)]
pub struct Bout {
    pub demand: Demand,
    pub fleet: FleetSettings,
    /// Load that one unit carries.
    pub unit_capacity: f64,
}

/// Who decides.
#[derive(Clone, Debug)]
pub enum Pilot<'a> {
    /// Desired capacity as it was decided, by time.
    Timeline(&'a [(Timestamp, u32)]),
    /// Kubernetes' HPA, which sees the load of `metric_age` ago.
    Hpa { settings: HpaSettings, metric_age: Span },
    /// The same number all the time.
    Fixed(u32),
}

/// What a controller sees at one tick.
#[derive(Clone, Copy, Debug)]
pub struct Tick {
    pub now: Timestamp,
    pub state: TargetState,
}

impl Demand {
    /// The load at `moment`; the first or last one outside.
    pub fn at(&self, moment: Timestamp) -> f64 {
        self.load.get(self.index(moment)).copied().unwrap_or(0.0)
    }

    /// The step that holds `moment`; the first or last one outside.
    fn index(&self, moment: Timestamp) -> usize {
        self.bounded(moment.since(self.start).millis() / self.step.millis().max(1))
    }

    /// The load of the step with this number; the last one after it.
    fn of_step(&self, number: i64) -> f64 {
        self.load.get(self.bounded(number)).copied().unwrap_or(0.0)
    }

    fn bounded(&self, number: i64) -> usize {
        let last = self.load.len().saturating_sub(1);
        usize::try_from(number).map_or(last, |index| index.min(last))
    }

    pub fn end(&self) -> Timestamp {
        self.start + Span::from_millis(self.step.millis() * i64::try_from(self.load.len()).unwrap_or(0))
    }
}

impl Bout {
    /// Lets `pilot` fly. Spikes are not told apart.
    pub fn fly(&self, pilot: &Pilot) -> Tally {
        self.fly_through(pilot, &[])
    }

    /// Like [`Self::fly`], with what came of the steps that are [`spikes`] counted apart.
    pub fn fly_through(&self, pilot: &Pilot, spikes: &[bool]) -> Tally {
        match pilot {
            Pilot::Fixed(units) => {
                // A fixed fleet is there from the start; it is not an action of anybody.
                let fleet = FleetSettings { initial: *units, ..self.fleet };
                Self { fleet, ..self.clone() }.drive_through(spikes, |_| None)
            }
            Pilot::Timeline(decided) => {
                let mut next = decided.iter().peekable();
                self.drive_through(spikes, |tick| {
                    let mut wish = None;
                    while let Some((_, units)) = next.next_if(|(moment, _)| *moment <= tick.now) {
                        wish = Some(*units);
                    }
                    wish
                })
            }
            Pilot::Hpa { settings, metric_age } => {
                let mut hpa = Hpa::new(*settings);
                self.drive_through(spikes, |tick| {
                    let due = tick.now.since(self.demand.start).millis() % settings.sync.millis().max(1) == 0;
                    due.then(|| {
                        let total = self.demand.at(tick.now - *metric_age);
                        let (replicas, ready) = (tick.state.desired, tick.state.ready.unwrap_or(0));
                        hpa.sync(tick.now, &Observation { replicas, ready, missing: 0, total })
                    })
                })
            }
        }
    }

    /// Asks `decide` at every tick and lets the fleet do it; `None` changes nothing. Spikes are not told apart.
    pub fn drive(&self, decide: impl FnMut(Tick) -> Option<u32>) -> Tally {
        self.drive_through(&[], decide)
    }

    /// Like [`Self::drive`], with what came of the steps that are [`spikes`] counted apart; they depend on the load alone
    /// and are worth computing once.
    pub fn drive_through(&self, spikes: &[bool], mut decide: impl FnMut(Tick) -> Option<u32>) -> Tally {
        let demand = &self.demand;
        let mut fleet = Fleet::new(self.fleet, demand.start);
        let mut meter = Meter::new(fleet.desired());
        let (mut now, end) = (demand.start, demand.end());
        let (mut step, mut load, mut needed) = (usize::MAX, 0.0, 0);
        while now < end {
            fleet.advance(now);
            if let Some(units) = decide(Tick { now, state: fleet.state(now) }) {
                fleet.set_desired(now, units);
            }
            let at = demand.index(now);
            if at != step {
                step = at;
                load = demand.load.get(step).copied().unwrap_or(0.0);
                needed = needed_units(load, self.unit_capacity);
                meter.step();
            }
            meter.tick(&Sample {
                load,
                needed,
                ready: fleet.ready(now),
                desired: fleet.desired(),
                capacity: fleet.serving_capacity(now) * self.unit_capacity,
                spike: spikes.get(step).copied().unwrap_or(false),
            });
            now = now + TICK;
        }
        let tally = meter.finish();
        Tally { cost_usd: fleet.cost_usd(end), unit_hours: fleet.unit_hours(end), actions: fleet.actions(), ..tally }
    }

    /// Units that the mean of the load needs: the fleet that elastic speed-up is measured against.
    pub fn static_mean(&self) -> u32 {
        let load = &self.demand.load;
        needed_units(load.iter().sum::<f64>() / load.len().max(1) as f64, self.unit_capacity).max(1)
    }
}

/// A hair's breadth is rounding, not a violation.
const ROUNDING: f64 = 1e-9;

/// The least units that carry `load`.
pub fn needed_units(load: f64, unit_capacity: f64) -> u32 {
    (load * (1.0 - ROUNDING) / unit_capacity).ceil() as u32
}

/// Flies one pilot per bout and adds up; `bouts` and `pilots` go together by their order.
pub fn fly_all<'a>(bouts: &[Bout], pilots: impl IntoIterator<Item = Pilot<'a>>) -> Tally {
    bouts.iter().zip(pilots).map(|(bout, pilot)| bout.fly(&pilot)).fold(Tally::default(), Tally::plus)
}

#[cfg(test)]
mod tests {
    use prescale_domain::Violations;

    use super::fixture::bout;
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_millis(minutes * 60_000)
    }

    #[test]
    fn shortage_is_counted_in_time_and_in_requests() {
        // 20 carried: 2 of 4 minutes short, by 10 and 30 of a total of 20 + 30 + 50 + 0.
        let score = bout(&[20.0, 30.0, 50.0, 0.0]).fly(&Pilot::Fixed(2)).score(None).unwrap();
        assert_eq!(score.violations, Violations { time_pct: 50.0, requests_pct: 40.0 });
        assert_eq!((score.cost_usd, score.actions), (8.0, 0));
    }

    #[test]
    fn a_timeline_is_followed_with_the_fleets_latency() {
        let decided = [(at(0), 5), (at(2), 3)];
        let tally = bout(&[50.0, 50.0, 30.0, 30.0]).fly(&Pilot::Timeline(&decided));
        // Short only while the units come; scale-in at minute 2 takes effect at once and is enough.
        assert_eq!((tally.short_ticks, tally.actions), (4, 2));
        assert_eq!(tally.missed, 30.0 * 60.0);
        assert_eq!(tally.cost_usd, 2.0 * 5.0 + 2.0 * 3.0);
    }

    #[test]
    fn hpa_sees_the_load_of_some_time_ago() {
        let bout = bout(&[10.0, 40.0, 40.0, 40.0, 40.0, 40.0]);
        let settings = HpaSettings::kubernetes(5.0, 1, 50);
        let late = bout.fly(&Pilot::Hpa { settings, metric_age: Span::from_secs(30) });
        let at_once = bout.fly(&Pilot::Hpa { settings, metric_age: Span::ZERO });
        // 2 → 8 units are asked for within two syncs (+4, then the rest) and come a minute later.
        assert_eq!(at_once.short_ticks + 2, late.short_ticks);
    }

    #[test]
    fn a_unit_more_is_needed_only_beyond_a_rounding_error() {
        assert_eq!([0.0, 1.0, 10.0, 10.000_000_001, 10.1].map(|load| needed_units(load, 10.0)), [0, 1, 1, 1, 2]);
    }

    #[test]
    fn what_could_not_be_computed_is_absent() {
        assert_eq!(bout(&[]).fly(&Pilot::Fixed(2)).score(None), None);
    }
}
