//! Target tracking of AWS: two alarms on a minute's metric, out in proportion, in with care. Rule: what is documented, and
//! where nothing is, the reading in its favour.
//!
//! Source: docs.aws.amazon.com, EC2 Auto Scaling (target tracking, default instance warm-up) and Application Auto Scaling
//! (target tracking, cooldown); the alarms' 3 and 15 datapoints as users see them (copilot-cli 4233, terraform 42553). Not
//! documented and assumed: that the low alarm is at 0.9 of the target, and the formula of the step.

use std::collections::VecDeque;

use prescale_domain::{Span, Timestamp};

use super::{Autoscaler, Contender, Course, Knobs};
use crate::arena::{Bout, Demand, Gauge, Tick};

const MINUTE: Span = Span::from_minutes(1);
/// From the end of a minute to its datapoint.
const METRIC_DELAY: Span = Span::from_secs(60);

/// One policy, as configured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TargetTrackingSettings {
    /// Load per unit in service to aim at, such as `ALBRequestCountPerTarget`.
    pub target: f64,
    /// So many datapoints, all above the target, are a high alarm.
    pub high_datapoints: usize,
    /// So many datapoints, all below the low threshold, are a low alarm.
    pub low_datapoints: usize,
    /// Of the target.
    pub low_threshold: f64,
    /// From in service on a unit counts as warming so long, and while one does or is on its way nothing is removed
    /// (`EstimatedInstanceWarmup`, EC2).
    pub warm_up: Option<Span>,
    /// After a change nothing is removed for so long (Application Auto Scaling).
    pub cooldown_in: Span,
    /// Most units removed at once.
    pub most_removed: Option<u32>,
}

impl TargetTrackingSettings {
    /// Of an Auto Scaling group.
    pub fn ec2(target: f64) -> Self {
        Self {
            target,
            high_datapoints: 3,
            low_datapoints: 15,
            low_threshold: 0.9,
            warm_up: Some(Span::from_secs(300)),
            cooldown_in: Span::ZERO,
            most_removed: None,
        }
    }

    /// Of ECS, Spot fleets, EMR, SageMaker and custom resources: cooldowns instead of a warm-up.
    pub fn application(target: f64) -> Self {
        Self { warm_up: None, cooldown_in: Span::from_secs(300), ..Self::ec2(target) }
    }
}

/// A minute of the metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Datapoint {
    /// Mean load.
    pub load: f64,
    /// Mean number of units in service.
    pub units: f64,
}

/// One policy at work.
#[derive(Clone, Debug)]
pub struct AwsTargetTracking {
    settings: TargetTrackingSettings,
    /// `None` is a minute without data. The newest is last.
    datapoints: VecDeque<Option<Datapoint>>,
    changed_at: Option<Timestamp>,
    /// Since when as many units as now have been in service and no unit was on its way.
    settled_since: Option<Timestamp>,
    ready: u32,
}

impl AwsTargetTracking {
    pub fn new(settings: TargetTrackingSettings) -> Self {
        Self { settings, datapoints: VecDeque::new(), changed_at: None, settled_since: None, ready: 0 }
    }

    /// How many units there are, as often as anybody looks.
    pub fn see(&mut self, now: Timestamp, desired: u32, ready: u32) {
        if ready < desired {
            self.settled_since = None;
        } else if ready > self.ready || self.settled_since.is_none() {
            self.settled_since = Some(now);
        }
        // What is there at the first look has been there before.
        if self.datapoints.is_empty() && self.changed_at.is_none() && ready >= desired {
            self.settled_since = self.settings.warm_up.map(|warm_up| now - warm_up);
        }
        self.ready = ready;
    }

    /// A new datapoint: the units to ask for, where an alarm is on.
    pub fn evaluate(&mut self, now: Timestamp, desired: u32, datapoint: Option<Datapoint>) -> Option<u32> {
        let TargetTrackingSettings { target, high_datapoints, low_datapoints, .. } = self.settings;
        self.datapoints.push_back(datapoint);
        if self.datapoints.len() > high_datapoints.max(low_datapoints) {
            self.datapoints.pop_front();
        }
        let last = datapoint?;
        // In proportion to the metric: units · metric / target. Units that are on their way or warming count as there.
        let wanted = (last.load / target).ceil() as u32;
        if self.all(high_datapoints, |metric| metric > target) {
            if wanted <= desired {
                return None;
            }
            self.changed_at = Some(now);
            return Some(wanted);
        }
        if self.all(low_datapoints, |metric| metric < self.settings.low_threshold * target) && self.may_remove(now) {
            let least = self.settings.most_removed.map_or(0, |most| desired.saturating_sub(most));
            let wanted = wanted.max(least);
            if wanted < desired {
                self.changed_at = Some(now);
                return Some(wanted);
            }
        }
        None
    }

    /// Whether the newest `count` datapoints are there and all pass.
    fn all(&self, count: usize, pass: impl Fn(f64) -> bool) -> bool {
        let newest = self.datapoints.iter().rev().take(count);
        self.datapoints.len() >= count
            && newest.into_iter().all(|datapoint| datapoint.is_some_and(|seen| pass(seen.load / seen.units)))
    }

    fn may_remove(&self, now: Timestamp) -> bool {
        let cooled = self.changed_at.is_none_or(|changed| now.since(changed) >= self.settings.cooldown_in);
        let warmed = self
            .settings
            .warm_up
            .is_none_or(|warm_up| self.settled_since.is_some_and(|settled| now.since(settled) >= warm_up));
        cooled && warmed
    }
}

/// The policy with the metric that feeds it.
pub(super) struct Flight<'a> {
    gauge: Gauge<'a>,
    policy: AwsTargetTracking,
    /// Units in service, summed over the ticks of each minute whose datapoint is not there yet; the newest is last.
    minutes: VecDeque<Minute>,
}

struct Minute {
    start: Timestamp,
    units: u32,
    ticks: u32,
}

impl<'a> Flight<'a> {
    pub(super) fn new(training: &'a Demand, bout: &'a Bout, settings: TargetTrackingSettings) -> Self {
        let gauge = Gauge { training, live: &bout.demand, age: METRIC_DELAY };
        Self { gauge, policy: AwsTargetTracking::new(settings), minutes: VecDeque::new() }
    }
}

impl Autoscaler for Flight<'_> {
    fn decide(&mut self, tick: Tick) -> Option<u32> {
        let (desired, ready) = (tick.state.desired, tick.state.ready.unwrap_or(0));
        self.policy.see(tick.now, desired, ready);
        let mut wish = None;
        while let Some(minute) = self.minutes.front().filter(|old| old.start + MINUTE + METRIC_DELAY <= tick.now) {
            let load = self.gauge.mean(tick.now, minute.start, minute.start + MINUTE);
            let units = f64::from(minute.units) / f64::from(minute.ticks);
            let datapoint = load.filter(|_| minute.units > 0).map(|load| Datapoint { load, units });
            self.minutes.pop_front();
            wish = self.policy.evaluate(tick.now, desired, datapoint);
        }
        let start = tick.now.floor_to(MINUTE);
        match self.minutes.back_mut().filter(|newest| newest.start == start) {
            Some(minute) => (minute.units, minute.ticks) = (minute.units + ready, minute.ticks + 1),
            None => self.minutes.push_back(Minute { start, units: ready, ticks: 1 }),
        }
        wish
    }
}

pub(super) struct Entry<'a> {
    course: &'a Course,
}

impl<'a> Entry<'a> {
    pub(super) fn new(course: &'a Course) -> Self {
        Self { course }
    }
}

impl Contender for Entry<'_> {
    fn variants(&self) -> &'static [&'static str] {
        &["ec2", "application"]
    }

    fn enter<'a>(&'a self, bout: &'a Bout, knobs: Knobs) -> Box<dyn Autoscaler + 'a> {
        let target = knobs.target * bout.unit_capacity;
        let settings = match knobs.variant {
            "application" => TargetTrackingSettings::application(target),
            _ => TargetTrackingSettings::ec2(target),
        };
        Box::new(Flight::new(&self.course.training, bout, settings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_millis(minutes * 60_000)
    }

    /// One datapoint a minute, the fleet following at once; returns the desired capacity after each.
    fn follow(settings: TargetTrackingSettings, mut units: u32, loads: &[f64]) -> Vec<u32> {
        let mut policy = AwsTargetTracking::new(settings);
        let mut minute = |(index, load): (usize, &f64)| {
            let now = at(index as i64);
            policy.see(now, units, units);
            let datapoint = Datapoint { load: *load, units: f64::from(units) };
            units = policy.evaluate(now, units, Some(datapoint)).unwrap_or(units);
            units
        };
        loads.iter().enumerate().map(&mut minute).collect()
    }

    #[test]
    fn three_minutes_above_the_target_scale_out_in_proportion() {
        let settings = TargetTrackingSettings::ec2(10.0);
        // 4 · (61 / 4) / 10, rounded up.
        assert_eq!(follow(settings, 4, &[61.0, 39.0, 61.0, 61.0, 61.0, 61.0]), [4, 4, 4, 4, 7, 7]);
        // What is on its way counts: the metric is still high, and nothing more is asked for.
        let mut policy = AwsTargetTracking::new(settings);
        let datapoint = Some(Datapoint { load: 61.0, units: 4.0 });
        let wishes = [4, 4, 4, 7].map(|desired| policy.evaluate(at(0), desired, datapoint));
        assert_eq!(wishes, [None, None, Some(7), None]);
    }

    #[test]
    fn fifteen_minutes_below_nine_tenths_of_the_target_scale_in() {
        let settings = TargetTrackingSettings::ec2(10.0);
        let mut loads = vec![89.0; 16];
        // 8.9 per unit: 10 − ⌊10 − 8.9⌋.
        assert_eq!(follow(settings, 10, &loads)[13..], [10, 9, 9]);
        loads[7] = 90.0;
        assert_eq!(follow(settings, 10, &loads)[13..], [10, 10, 10]);
        let capped = TargetTrackingSettings { most_removed: Some(2), ..settings };
        assert_eq!(follow(capped, 10, &[15.0; 16])[13..], [10, 8, 6]);
    }

    #[test]
    fn nothing_is_removed_while_a_unit_is_on_its_way_or_warms() {
        let mut policy = AwsTargetTracking::new(TargetTrackingSettings::ec2(10.0));
        let datapoint = Some(Datapoint { load: 50.0, units: 10.0 });
        let mut wishes = Vec::new();
        for minute in 0..28 {
            // The last unit comes into service in minute 20.
            policy.see(at(minute), 10, if minute < 20 { 9 } else { 10 });
            wishes.push(policy.evaluate(at(minute), 10, datapoint));
        }
        assert!(wishes[..25].iter().all(Option::is_none) && wishes[25] == Some(5), "{wishes:?}");
    }

    #[test]
    fn application_auto_scaling_cools_down_instead() {
        let settings = TargetTrackingSettings { low_datapoints: 2, ..TargetTrackingSettings::application(10.0) };
        let loads = [50.0, 50.0, 30.0, 30.0, 30.0, 30.0, 30.0, 30.0];
        assert_eq!(follow(settings, 10, &loads), [10, 5, 5, 5, 5, 5, 3, 3]);
    }

    #[test]
    fn without_data_nothing_changes() {
        let mut policy = AwsTargetTracking::new(TargetTrackingSettings::ec2(10.0));
        let datapoint = Some(Datapoint { load: 100.0, units: 4.0 });
        let wishes =
            [datapoint, datapoint, None, datapoint, datapoint, datapoint].map(|seen| policy.evaluate(at(0), 4, seen));
        assert_eq!(wishes, [None, None, None, None, None, Some(10)]);
    }
}
