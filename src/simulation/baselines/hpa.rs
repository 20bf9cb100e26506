//! The Kubernetes Horizontal Pod Autoscaler, autoscaling/v2, as its controller computes it. Rule: its published defaults
//! and order of steps; the age of its metric is the caller's, since it is not in the controller.
//!
//! Source: kubernetes/pkg/controller/podautoscaler `replica_calculator.go`, `horizontal.go`, and `defaults.go`.

use std::collections::VecDeque;

use prescale_domain::{Span, Timestamp};

use super::{Autoscaler, Contender, Knobs};
use crate::arena::{Bout, Gauge, TICK, Tick};

/// How a metric becomes a number of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HpaMetric {
    /// External metric, `AverageValue`: the total load over all replicas.
    AverageValue,
    /// Resource metric, `Utilization`: the mean over pods that are ready.
    Utilization,
}

/// Limits of one direction, over the last `period`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScalingRules {
    pub stabilization: Span,
    /// Most pods changed within a period; `None` = no such policy.
    pub pods: Option<u32>,
    /// Most percent changed within a period; of two policies the one that allows more counts (`selectPolicy: Max`).
    pub percent: Option<u32>,
    pub period: Span,
}

/// One autoscaler, as configured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HpaSettings {
    pub metric: HpaMetric,
    /// Load per pod to aim at, in the unit of the load.
    pub target: f64,
    /// No change while the ratio to the target is within this of 1.
    pub tolerance: f64,
    /// `--horizontal-pod-autoscaler-sync-period`.
    pub sync: Span,
    pub up: ScalingRules,
    pub down: ScalingRules,
    pub min: u32,
    pub max: u32,
}

/// What the controller sees at one sync.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Pods asked for, ready or not.
    pub replicas: u32,
    pub ready: u32,
    /// Pods without a metric that are not known to be unready.
    pub missing: u32,
    /// Sum of the metric over the ready pods.
    pub total: f64,
}

/// One autoscaler at work.
#[derive(Clone, Debug)]
pub struct Hpa {
    settings: HpaSettings,
    /// Raw recommendations, oldest first.
    recommendations: VecDeque<(Timestamp, u32)>,
    added: VecDeque<(Timestamp, u32)>,
    removed: VecDeque<(Timestamp, u32)>,
}

impl HpaSettings {
    /// The defaults of Kubernetes for an external metric.
    pub fn kubernetes(target: f64, min: u32, max: u32) -> Self {
        let period = Span::from_secs(15);
        Self {
            metric: HpaMetric::AverageValue,
            target,
            tolerance: 0.1,
            sync: Span::from_secs(15),
            up: ScalingRules { stabilization: Span::ZERO, pods: Some(4), percent: Some(100), period },
            down: ScalingRules { stabilization: Span::from_secs(300), pods: None, percent: Some(100), period },
            min,
            max,
        }
    }

    /// The defaults of Kubernetes for the fleet of `bout`.
    pub(super) fn of(bout: &Bout, target: f64) -> Self {
        Self::kubernetes(target * bout.unit_capacity, bout.fleet.min.max(1), bout.fleet.max)
    }

    /// Replicas that the metric alone asks for.
    pub fn raw(&self, seen: &Observation) -> u32 {
        match self.metric {
            HpaMetric::AverageValue => self.average_value(seen),
            HpaMetric::Utilization => self.utilization(seen),
        }
    }

    /// `GetExternalPerPodMetricReplicas`
    fn average_value(&self, seen: &Observation) -> u32 {
        let ratio = seen.total / (self.target * f64::from(seen.replicas));
        if self.near(ratio) { seen.replicas } else { (seen.total / self.target).ceil() as u32 }
    }

    fn near(&self, ratio: f64) -> bool {
        1.0 - self.tolerance <= ratio && ratio <= 1.0 + self.tolerance
    }

    /// `calcPlainMetricReplicas` with the resource metric's rule on direction.
    fn utilization(&self, seen: &Observation) -> u32 {
        let current = seen.replicas;
        if seen.ready == 0 {
            return current;
        }
        let ratio = seen.total / f64::from(seen.ready) / self.target;
        let unready = current.saturating_sub(seen.ready + seen.missing);
        let unready_count = if ratio > 1.0 { unready } else { 0 };
        if unready_count == 0 && seen.missing == 0 {
            return if self.near(ratio) { current } else { (ratio * f64::from(seen.ready)).ceil() as u32 };
        }
        // Missing pods are taken to use all of their request on the way down, unready and missing ones nothing on the way up.
        let assumed = if ratio < 1.0 { f64::from(seen.missing) } else { 0.0 };
        let counted = f64::from(seen.ready + seen.missing + unready_count);
        let again = (seen.total + assumed) / counted / self.target;
        if self.near(again) || (ratio < 1.0 && again > 1.0) || (ratio > 1.0 && again < 1.0) {
            return current;
        }
        let replicas = (again * counted).ceil() as u32;
        let opposite = (again < 1.0 && replicas > current) || (again > 1.0 && replicas < current);
        if opposite { current } else { replicas }
    }
}

impl Observation {
    /// Nothing is missing of a metric that does not come from the pods.
    pub(super) fn of(tick: &Tick, total: f64) -> Self {
        Self { replicas: tick.state.desired, ready: tick.state.ready.unwrap_or(0), missing: 0, total }
    }
}

impl Hpa {
    pub fn new(settings: HpaSettings) -> Self {
        let [recommendations, added, removed] = [const { VecDeque::new() }; 3];
        Self { settings, recommendations, added, removed }
    }

    pub fn settings(&self) -> &HpaSettings {
        &self.settings
    }

    /// One sync: the replicas to ask for. A workload at 0 replicas is switched off and stays so.
    pub fn sync(&mut self, now: Timestamp, seen: &Observation) -> u32 {
        self.sync_all(now, std::slice::from_ref(seen))
    }

    /// One sync with several metrics, of which the one that asks for most counts.
    pub fn sync_all(&mut self, now: Timestamp, seen: &[Observation]) -> u32 {
        let current = seen.first().map_or(0, |seen| seen.replicas);
        if current == 0 {
            return 0;
        }
        // Started anew, the controller takes what it finds for its last recommendation.
        if self.recommendations.is_empty() {
            self.recommendations.push_back((now, current));
        }
        let raw = seen.iter().map(|seen| self.settings.raw(seen)).max().unwrap_or(current);
        self.follow(now, current, raw)
    }

    /// From the raw recommendation on: stabilisation, rates and bounds, for those who recommend something else.
    pub(super) fn follow(&mut self, now: Timestamp, current: u32, raw: u32) -> u32 {
        let stable = self.stabilize(now, current, raw);
        let limited = self.limit_rate(now, current, stable);
        let change = |more: u32, less: u32| (more > less).then(|| (now, more - less));
        self.added.extend(change(limited, current));
        self.removed.extend(change(current, limited));
        limited
    }

    /// `stabilizeRecommendationWithBehaviors`: the current number is kept if it lies between the bounds.
    fn stabilize(&mut self, now: Timestamp, current: u32, raw: u32) -> u32 {
        let (up_window, down_window) = (self.settings.up.stabilization, self.settings.down.stabilization);
        let longest = up_window.max(down_window);
        forget(&mut self.recommendations, now, longest);
        let within = |window: Span| {
            let recent = move |(moment, _): &&(Timestamp, u32)| now.since(*moment) < window;
            self.recommendations.iter().rev().take_while(recent).map(|(_, replicas)| *replicas)
        };
        let up = within(up_window).fold(raw, u32::min);
        let down = within(down_window).fold(raw, u32::max);
        self.recommendations.push_back((now, raw));
        if current < up {
            up
        } else if current > down {
            down
        } else {
            current
        }
    }

    /// `convertDesiredReplicasWithBehaviorRate`, then the bounds.
    fn limit_rate(&mut self, now: Timestamp, current: u32, wanted: u32) -> u32 {
        let HpaSettings { up, down, min, max, .. } = self.settings;
        if wanted > current {
            let start = self.period_start(now, current, up.period);
            let pods = up.pods.map(|pods| start.saturating_add(pods));
            let percent =
                up.percent.map(|percent| (f64::from(start) * (1.0 + f64::from(percent) / 100.0)).ceil() as u32);
            let limit = pods.max(percent).map_or(max, |limit| limit.max(current).min(max));
            wanted.min(limit)
        } else if wanted < current {
            let start = self.period_start(now, current, down.period);
            let pods = down.pods.map(|pods| start.saturating_sub(pods));
            let percent =
                down.percent.map(|percent| (f64::from(start) * (1.0 - f64::from(percent) / 100.0)).max(0.0) as u32);
            let lowest = [pods, percent].into_iter().flatten().min();
            let limit = lowest.map_or(min, |limit| limit.min(current).max(min));
            wanted.max(limit)
        } else {
            wanted.max(min).min(max)
        }
    }

    /// Replicas at the start of the period: current − added + removed since.
    fn period_start(&mut self, now: Timestamp, current: u32, period: Span) -> u32 {
        let sum = |events: &mut VecDeque<(Timestamp, u32)>| -> u32 {
            forget(events, now, period);
            events.iter().map(|(_, change)| *change).sum()
        };
        (current + sum(&mut self.removed)).saturating_sub(sum(&mut self.added))
    }
}

/// Drops what is older than `window`; what is oldest is first.
fn forget(events: &mut VecDeque<(Timestamp, u32)>, now: Timestamp, window: Span) {
    while events.pop_front_if(|(moment, _)| now.since(*moment) >= window).is_some() {}
}

pub(super) struct Entry<'a> {
    pub(super) gauge: Gauge<'a>,
}

struct Flight<'a> {
    gauge: Gauge<'a>,
    hpa: Hpa,
}

impl Contender for Entry<'_> {
    fn enter<'a>(&'a self, bout: &'a Bout, knobs: Knobs) -> Box<dyn Autoscaler + 'a> {
        let settings = HpaSettings::of(bout, knobs.target);
        debug_assert_eq!(settings.sync, TICK, "it is asked at every sync");
        Box::new(Flight { gauge: self.gauge, hpa: Hpa::new(settings) })
    }
}

impl Autoscaler for Flight<'_> {
    fn decide(&mut self, tick: Tick) -> Option<u32> {
        let total = self.gauge.read(tick.now);
        Some(self.hpa.sync(tick.now, &Observation::of(&tick, total)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[track_caller]
    fn average_value(replicas: u32, total: f64, expected: u32) {
        let settings = HpaSettings::kubernetes(10.0, 1, 100);
        assert_eq!(settings.raw(&Observation { replicas, ready: replicas, missing: 0, total }), expected);
    }

    #[test]
    fn average_value_is_total_over_target_outside_the_tolerance() {
        average_value(10, 110.0, 10);
        average_value(10, 110.1, 12);
        average_value(10, 90.0, 10);
        average_value(10, 89.9, 9);
        average_value(10, 41.0, 5);
        average_value(1, 100.0, 10);
    }

    #[track_caller]
    fn utilization(replicas: u32, ready: u32, missing: u32, total: f64, expected: u32) {
        let settings = HpaSettings { metric: HpaMetric::Utilization, ..HpaSettings::kubernetes(0.5, 1, 100) };
        assert_eq!(settings.raw(&Observation { replicas, ready, missing, total }), expected);
    }

    #[test]
    fn utilization_counts_ready_pods_and_what_it_does_not_know_against_the_change() {
        // 4 pods at 0.9 of 0.5: r = 1.8, ceil(1.8 · 4).
        utilization(4, 4, 0, 3.6, 8);
        // Within the tolerance.
        utilization(4, 4, 0, 2.2, 4);
        // 2 unready count 0: r' = 3.6 / 6 / 0.5 = 1.2, ceil(1.2 · 6).
        utilization(6, 4, 0, 3.6, 8);
        // 4 unready: r' = 3.6 / 8 / 0.5 = 0.9, kept.
        utilization(8, 4, 0, 3.6, 8);
        // 6 unready: r' = 0.72, direction flips, kept.
        utilization(10, 4, 0, 3.6, 10);
        // On the way down unready pods are left out: r = 0.4, ceil(0.4 · 5).
        utilization(7, 5, 0, 1.0, 2);
        // One missing on the way down counts 1: r' = 1.9 / 6 / 0.5 = 0.633, ceil(3.8).
        utilization(6, 5, 1, 0.9, 4);
        // One missing on the way up counts 0: r' = 3.6 / 5 / 0.5 = 1.44, ceil(7.2).
        utilization(5, 4, 1, 3.6, 8);
        // Nothing ready: no metric, no change.
        utilization(5, 0, 0, 0.0, 5);
    }

    /// Syncs every 15 s with these loads, the fleet following at once; returns the replicas after each.
    fn follow(mut replicas: u32, loads: &[f64]) -> Vec<u32> {
        let mut hpa = Hpa::new(HpaSettings::kubernetes(10.0, 2, 60));
        let mut step = |(index, total): (usize, &f64)| {
            replicas =
                hpa.sync(at(index as i64 * 15), &Observation { replicas, ready: replicas, missing: 0, total: *total });
            replicas
        };
        loads.iter().enumerate().map(&mut step).collect()
    }

    #[test]
    fn scale_up_at_most_doubles_or_adds_four_in_15_seconds() {
        assert_eq!(follow(2, &[1000.0; 6]), [6, 12, 24, 48, 60, 60]);
        assert_eq!(follow(10, &[300.0; 3]), [20, 30, 30]);
    }

    #[test]
    fn scale_down_waits_for_five_minutes_of_lower_recommendations() {
        let mut loads = vec![300.0];
        loads.extend([100.0; 22]);
        let replicas = follow(30, &loads);
        // The recommendation of 30 at 0 s is in force until it is 300 s old, at the sync number 20.
        assert!(replicas[..20].iter().all(|replicas| *replicas == 30), "{replicas:?}");
        assert!(replicas[20..].iter().all(|replicas| *replicas == 10), "{replicas:?}");
    }

    #[test]
    fn bounds_hold_and_zero_is_off() {
        let mut loads = vec![0.0; 22];
        assert_eq!(follow(5, &loads).last(), Some(&2));
        loads[0] = 100.0;
        assert_eq!(follow(0, &loads), vec![0; 22]);
    }

    #[test]
    fn changes_inside_the_period_count_against_the_limit() {
        let mut settings = HpaSettings::kubernetes(10.0, 1, 100);
        settings.up.period = Span::from_secs(60);
        let mut hpa = Hpa::new(settings);
        let sync = |hpa: &mut Hpa, second, replicas| {
            hpa.sync(at(second), &Observation { replicas, ready: replicas, missing: 0, total: 1000.0 })
        };
        assert_eq!(sync(&mut hpa, 0, 5), 10);
        // Added 5 in this minute: the period started at 5, so 10 is all there is until it is over.
        assert_eq!(sync(&mut hpa, 15, 10), 10);
        assert_eq!(sync(&mut hpa, 60, 10), 20);
    }
}
