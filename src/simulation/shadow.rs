//! Shadow mode: what Prescale's decisions would have done, beside what really ran, live. Rule: both sides are judged over
//! the same time, that in which the load and what really ran are known; all else is a gap, and says so.
//!
//! Events come in the order of a controller's life: decisions and observations of a moment before the window that holds it
//! closes. Prescale's side is a [`Fleet`] that does what was decided, with the lead time that had been learnt by then; the
//! real side is what was observed. Where there is a doubt it is for the real side: its units count as warm, and as in
//! service where the target does not say. Cost is unit time times price on both, since what a provider bills at least for
//! a unit of the real fleet can't be seen from outside.
//!
//! State is bounded, and may be written down and read back at any time, piece by piece as it changes: [`Shadow::changes`].

mod keep;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use prescale_actuate::{Fleet, FleetSettings};
use prescale_domain::{Decision, ServiceName, Span, Timestamp};
pub use prescale_domain::{Saved, ShadowReport, ShadowScore};
use serde::{Deserialize, Serialize};

use crate::arena::TICK;
pub use keep::Kept;
use tally::{DayTally, Moment};

const DAY: Span = Span::from_minutes(1440);
/// Days kept by service; totals go on.
const DAYS_MAX: usize = 400;
/// Events that wait for their window. Beyond it the oldest are heeded without one.
const PENDING_MAX: usize = 4096;
/// The system that really ran, and Prescale, in the score card.
pub const ACTUAL: &str = "actual";
pub const PRESCALE: &str = "prescale";

/// What is shadowed, for one service.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowSettings {
    pub min: u32,
    pub max: u32,
    /// `None` = costs are not told.
    pub price_usd_hour: Option<f64>,
    /// Percent of time that may be short.
    pub budget_pct: Option<f64>,
    /// How long an observation of the real side holds.
    pub observed_max_age: Span,
}

/// Something that happened to a service.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ShadowEvent {
    /// Prescale wants so many units.
    Decided { at: Timestamp, desired: u32, unit_capacity: f64, provisioning_latency: Span, warm_up: Span },
    /// What really runs.
    Observed { at: Timestamp, desired: u32, ready: Option<u32> },
    /// A window `[start, end)` has closed; `None` = a gap.
    Closed { start: Timestamp, end: Timestamp, load: Option<f64> },
}

/// All services.
#[derive(Clone, Debug, Default)]
pub struct Shadow {
    services: BTreeMap<ServiceName, ServiceShadow>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ServiceShadow {
    settings: ShadowSettings,
    /// Prescale's; from the first decision about an observed target on.
    fleet: Option<Fleet>,
    unit_capacity: Option<f64>,
    real: Option<Observed>,
    /// Ordered by time.
    pending: VecDeque<Pending>,
    /// End of the last window that was judged.
    judged: Option<Timestamp>,
    #[serde(skip)]
    days: BTreeMap<Timestamp, DayTally>,
    total: DayTally,
    last: Option<Moment>,
    /// Whether something was taken in, and which days have changed or gone, since the changes were last asked for.
    #[serde(skip)]
    taken: bool,
    #[serde(skip)]
    touched: BTreeSet<Timestamp>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Observed {
    at: Timestamp,
    desired: u32,
    ready: Option<u32>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Pending {
    at: Timestamp,
    event: ShadowEvent,
}

impl ShadowEvent {
    /// What a decision tells: what really ran when it was made, and what it wants. A decision about a target that could
    /// not be observed tells nothing, since it is advice only.
    pub fn of(decision: &Decision) -> Vec<Self> {
        let Some(target) = decision.inputs.target else { return Vec::new() };
        let lead_time = decision.inputs.lead_time;
        vec![
            Self::Observed { at: target.observed_at.min(decision.at), desired: target.desired, ready: target.ready },
            Self::Decided {
                at: decision.at,
                desired: decision.desired,
                unit_capacity: decision.inputs.settings.unit_capacity,
                provisioning_latency: lead_time.provisioning_latency,
                warm_up: lead_time.warm_up,
            },
        ]
    }
}

impl Shadow {
    pub fn new(services: impl IntoIterator<Item = (ServiceName, ShadowSettings)>) -> Self {
        let services = services.into_iter().map(|(name, settings)| (name, ServiceShadow::new(settings))).collect();
        Self { services }
    }

    /// Takes in what happened; services that are not shadowed are left out.
    pub fn take(&mut self, service: &ServiceName, event: ShadowEvent) {
        if let Some(service) = self.services.get_mut(service) {
            service.take(event);
        }
    }

    /// The days that are kept, by service and day.
    pub fn daily(&self) -> Vec<ShadowReport> {
        let each = |(name, service): (&ServiceName, &ServiceShadow)| {
            service.days.keys().filter_map(|day| service.of_day(name, *day)).collect::<Vec<_>>()
        };
        self.services.iter().flat_map(each).collect()
    }

    /// All services on one day, by name.
    pub fn of_day(&self, day: Timestamp) -> Vec<ShadowReport> {
        self.services.iter().filter_map(|(name, service)| service.of_day(name, day)).collect()
    }

    /// The last day before `before` that something is kept of, of one service or of any.
    pub fn day_before(&self, service: Option<&ServiceName>, before: Timestamp) -> Option<Timestamp> {
        let of_one = |service: &ServiceShadow| service.days.range(..before).next_back().map(|(day, _)| *day);
        match service {
            Some(name) => of_one(self.services.get(name)?),
            None => self.services.values().filter_map(of_one).max(),
        }
    }

    /// Each service since the start, days that are not kept any more included.
    pub fn totals(&self) -> Vec<ShadowReport> {
        self.services.iter().map(|(name, service)| service.report(name, None, false, &service.total)).collect()
    }
}

impl ServiceShadow {
    fn new(settings: ShadowSettings) -> Self {
        Self {
            settings,
            fleet: None,
            unit_capacity: None,
            real: None,
            pending: VecDeque::new(),
            judged: None,
            days: BTreeMap::new(),
            total: DayTally::default(),
            last: None,
            taken: false,
            touched: BTreeSet::new(),
        }
    }

    fn take(&mut self, event: ShadowEvent) {
        self.taken = true;
        let at = match event {
            ShadowEvent::Closed { start, end, load } => return self.close(start, end, load),
            ShadowEvent::Decided { at, .. } | ShadowEvent::Observed { at, .. } => at,
        };
        let place = self.pending.partition_point(|pending| pending.at <= at);
        self.pending.insert(place, Pending { at, event });
        if self.pending.len() > PENDING_MAX
            && let Some(oldest) = self.pending.pop_front()
        {
            self.heed(oldest.event);
        }
    }

    /// Judges a window, tick by tick. Windows that overlap one that was judged are late; one longer than a day is none.
    fn close(&mut self, start: Timestamp, end: Timestamp, load: Option<f64>) {
        if end <= start || end.since(start) > DAY || self.judged.is_some_and(|judged| start < judged) {
            return;
        }
        if let Some(judged) = self.judged.filter(|judged| *judged < start) {
            self.untold(judged, start);
            self.last = None;
        }
        let load = load.filter(|load| load.is_finite() && *load >= 0.0);
        let mut now = start;
        while now < end {
            while self.pending.front().is_some_and(|pending| pending.at <= now)
                && let Some(due) = self.pending.pop_front()
            {
                self.heed(due.event);
            }
            let length = TICK.min(end.since(now));
            let moment = load.and_then(|load| self.moment(now, load));
            let last = self.last;
            match &moment {
                Some(moment) => self.tallies(now, |tally| tally.add(moment, last.as_ref(), length)),
                None => self.tallies(now, |tally| tally.gap(length)),
            }
            self.last = moment;
            now = now + length;
        }
        self.judged = Some(end);
    }

    /// Counts what is between two windows as a gap of the days that it falls on; of a long one the last days only.
    fn untold(&mut self, from: Timestamp, to: Timestamp) {
        self.total.gap(to.since(from));
        let kept = Span::from_millis(DAY.millis() * DAYS_MAX as i64);
        let mut now = from.max(to - kept);
        while now < to {
            let next = (now.floor_to(DAY) + DAY).min(to);
            self.day(now).gap(next.since(now));
            now = next;
        }
        self.forget();
    }

    /// Both sides at one moment; `None` where one of them is not known.
    fn moment(&self, now: Timestamp, load: f64) -> Option<Moment> {
        let unit_capacity = self.unit_capacity?;
        let fleet = self.fleet.as_ref()?;
        let real = self.real.filter(|real| now.since(real.at) <= self.settings.observed_max_age)?;
        let ready = real.ready.unwrap_or(real.desired);
        Some(Moment {
            load,
            needed: needed(load, unit_capacity),
            actual: tally::Units { ready, paid: real.desired.max(ready), carried: f64::from(ready) * unit_capacity },
            prescale: tally::Units {
                ready: fleet.ready(now),
                paid: fleet.desired(),
                carried: fleet.serving_capacity(now) * unit_capacity,
            },
        })
    }

    fn heed(&mut self, event: ShadowEvent) {
        match event {
            ShadowEvent::Observed { at, desired, ready } => {
                let before = self.real.replace(Observed { at, desired, ready });
                if let Some(before) = before {
                    self.tallies(at, |tally| tally.actual.change(before.desired, desired));
                }
            }
            ShadowEvent::Decided { at, desired, unit_capacity, provisioning_latency, warm_up } => {
                if unit_capacity.is_finite() && unit_capacity > 0.0 {
                    self.unit_capacity = Some(unit_capacity);
                }
                let Some(real) = self.real else { return };
                let settings = FleetSettings {
                    min: self.settings.min.min(self.settings.max),
                    max: self.settings.max,
                    // Both sides begin alike.
                    initial: real.desired,
                    provisioning_latency,
                    provisioning_latency_p90: provisioning_latency,
                    warm_up,
                    ..FleetSettings::default()
                };
                let fleet = self.fleet.get_or_insert_with(|| Fleet::new(settings, at));
                fleet.learn(provisioning_latency, provisioning_latency, warm_up);
                let before = fleet.desired();
                let after = fleet.set_desired(at, desired);
                self.tallies(at, |tally| tally.prescale.change(before, after));
            }
            ShadowEvent::Closed { .. } => {}
        }
    }

    /// The tallies that `at` counts in.
    fn tallies(&mut self, at: Timestamp, count: impl Fn(&mut DayTally)) {
        count(self.day(at));
        count(&mut self.total);
        self.forget();
    }

    fn day(&mut self, at: Timestamp) -> &mut DayTally {
        let day = at.floor_to(DAY);
        self.touched.insert(day);
        self.days.entry(day).or_default()
    }

    /// Days beyond those kept go, the oldest first.
    fn forget(&mut self) {
        while self.days.len() > DAYS_MAX
            && let Some((day, _)) = self.days.pop_first()
        {
            self.touched.insert(day);
        }
    }

    fn of_day(&self, name: &ServiceName, day: Timestamp) -> Option<ShadowReport> {
        let complete = self.judged.is_some_and(|judged| judged >= day + DAY);
        Some(self.report(name, Some(day), complete, self.days.get(&day)?))
    }

    fn report(&self, name: &ServiceName, day: Option<Timestamp>, complete: bool, tally: &DayTally) -> ShadowReport {
        let price = self.settings.price_usd_hour.filter(|price| price.is_finite() && *price >= 0.0);
        let score = |side| tally.score(side, price, self.settings.budget_pct);
        let both = score(&tally.actual).zip(score(&tally.prescale));
        let saved = both.as_ref().map(|_| tally.saved(price));
        let systems = both.map_or_else(BTreeMap::new, |(actual, prescale)| {
            BTreeMap::from([(ACTUAL.to_owned(), actual), (PRESCALE.to_owned(), prescale)])
        });
        let (scored_hours, gap_hours) = tally.hours();
        ShadowReport { service: name.clone(), day, complete, scored_hours, gap_hours, systems, saved }
    }
}

/// The least units that carry `load`; the rounding error of the division needs no unit.
fn needed(load: f64, unit_capacity: f64) -> u32 {
    const ROUNDING: f64 = 1e-9;
    (load / unit_capacity * (1.0 - ROUNDING)).ceil().max(0.0) as u32
}
