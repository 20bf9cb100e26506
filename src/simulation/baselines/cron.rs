//! A timetable: so many units in this hour of the day or of the week. Rule: fitted on the training part alone, as a careful
//! operator would: for the highest load that the hour has had, or for all but its highest twentieth, and asked for a lead
//! time ahead.

use prescale_domain::{Span, Timestamp};

use super::{Autoscaler, Contender, Course, Hold, Knobs, units_for};
use crate::arena::{Bout, Demand, Tick};

const HOUR: Span = Span::from_minutes(60);
const DAY: usize = 24;
const WEEK: usize = 7 * DAY;

/// The load to expect by hour of the day or of the week, in UTC.
#[derive(Clone, Debug, PartialEq)]
pub struct Timetable {
    /// 24 or 168 loads; an hour that was never seen has the highest of all.
    slots: Vec<f64>,
}

impl Timetable {
    /// Of 24 slots for the hours of the day, or 168 for those of the week: the load that a share of `quantile` of those in
    /// the slot does not exceed (nearest rank). `None` without any history.
    pub fn fit(training: &Demand, slots: usize, quantile: f64) -> Option<Self> {
        let mut loads: Vec<Vec<f64>> = vec![Vec::new(); slots];
        let mut moment = training.start;
        for load in &training.load {
            loads.get_mut(slot(moment, slots))?.push(*load);
            moment = moment + training.step;
        }
        let peak = training.load.iter().copied().reduce(f64::max)?;
        let expected = |mut loads: Vec<f64>| {
            loads.sort_unstable_by(f64::total_cmp);
            let rank = (quantile * loads.len() as f64).ceil() as usize;
            loads.get(rank.saturating_sub(1)).copied().unwrap_or(peak)
        };
        Some(Self { slots: loads.into_iter().map(expected).collect() })
    }

    pub fn load(&self, moment: Timestamp) -> f64 {
        self.slots.get(slot(moment, self.slots.len())).copied().unwrap_or(0.0)
    }
}

/// Of the `slots` hours that come again and again; the epoch was a Thursday, which does not matter here.
fn slot(moment: Timestamp, slots: usize) -> usize {
    let hour = moment.millis().div_euclid(HOUR.millis());
    hour.rem_euclid(slots.max(1) as i64) as usize
}

/// A timetable at work.
#[derive(Clone, Debug)]
pub struct Cron<'a> {
    pub timetable: &'a Timetable,
    /// How long before an hour its units are asked for, where it needs more.
    pub ahead: Span,
    pub target: f64,
    pub unit_capacity: f64,
}

impl Autoscaler for Cron<'_> {
    fn decide(&mut self, tick: Tick) -> Option<u32> {
        let load = self.timetable.load(tick.now).max(self.timetable.load(tick.now + self.ahead));
        Some(units_for(load, self.target, self.unit_capacity))
    }
}

/// An hour's load is its highest, or the one that its highest twentieth exceeds.
const QUANTILES: [f64; 2] = [1.0, 0.95];
static VARIANTS: [&str; 4] = ["hour-of-day", "hour-of-day p95", "hour-of-week", "hour-of-week p95"];

pub(super) struct Entry {
    /// As the variants; those of the week from two weeks on, since one would only repeat itself. Empty without a history.
    timetables: Vec<Timetable>,
}

impl Entry {
    pub(super) fn new(course: &Course) -> Self {
        let training = &course.training;
        let weeks = training.end().since(training.start).millis() / (HOUR.millis() * WEEK as i64);
        let slots = if weeks >= 2 { &[DAY, WEEK][..] } else { &[DAY] };
        let fit = |slots: &usize| QUANTILES.map(|quantile| Timetable::fit(training, *slots, quantile));
        Self { timetables: slots.iter().flat_map(fit).flatten().collect() }
    }
}

impl Contender for Entry {
    fn variants(&self) -> &'static [&'static str] {
        // Without a history there is no timetable, and the fleet stays what it is.
        VARIANTS.get(..self.timetables.len().max(1)).unwrap_or(&VARIANTS)
    }

    fn enter<'a>(&'a self, bout: &'a Bout, knobs: Knobs) -> Box<dyn Autoscaler + 'a> {
        let place = VARIANTS.iter().position(|variant| *variant == knobs.variant).unwrap_or(0);
        let ahead = bout.fleet.provisioning_latency_p90.max(bout.fleet.provisioning_latency) + bout.fleet.warm_up;
        let (target, unit_capacity) = (knobs.target, bout.unit_capacity);
        match self.timetables.get(place) {
            Some(timetable) => Box::new(Cron { timetable, ahead, target, unit_capacity }),
            None => Box::new(Hold),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baselines::tests::seen;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_millis(minutes * 60_000)
    }

    #[test]
    fn an_hour_has_the_highest_load_it_had_in_the_training() {
        // Two days of half hours: the hour h has 10h and 10h + 5; on the second day hour 3 had 99.
        let mut load: Vec<f64> = (0..96).map(|half| f64::from((half % 48) * 5)).collect();
        load[48 + 7] = 99.0;
        let training = Demand { start: at(0), step: Span::from_minutes(30), load };
        let timetable = Timetable::fit(&training, DAY, 1.0).unwrap();
        // Of four loads in an hour the third is the highest of three quarters.
        assert_eq!(Timetable::fit(&training, DAY, 0.75).unwrap().load(at(200)), 35.0);
        assert_eq!(
            [0, 60, 119, 200, 239, 240].map(|minute| timetable.load(at(minute))),
            [5.0, 15.0, 15.0, 99.0, 99.0, 45.0]
        );
        assert_eq!(timetable.load(at(1440 * 3 + 60)), 15.0);
        assert_eq!(Timetable::fit(&Demand { load: Vec::new(), ..training }, DAY, 1.0), None);
    }

    #[test]
    fn more_is_asked_for_ahead_of_the_hour_and_less_when_it_comes() {
        let mut slots = vec![20.0; 24];
        slots[2] = 100.0;
        let timetable = Timetable { slots };
        let ahead = Span::from_minutes(5);
        let mut cron = Cron { timetable: &timetable, ahead, target: 0.5, unit_capacity: 10.0 };
        let asked = [114, 115, 179, 180].map(|minute| cron.decide(seen(at(minute), 4, 4)));
        assert_eq!(asked, [Some(4), Some(20), Some(20), Some(4)]);
    }
}
