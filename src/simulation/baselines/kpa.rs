//! Knative's pod autoscaler. Rule: its published defaults and order of steps, every two seconds.
//!
//! Source: knative/serving `pkg/autoscaler/scaling/autoscaler.go` and `config-autoscaler`. The load takes the place of the
//! requests per second of its metric; its queue proxies are asked every second, so that the metric is as good as new.

use prescale_domain::{Span, Timestamp};

use super::{Autoscaler, Contender, Knobs};
use crate::arena::{Bout, Gauge, TICK, Tick};

pub(super) const METRIC_AGE: Span = Span::ZERO;

/// `config-autoscaler`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KpaSettings {
    /// Load per pod to aim at; the default is 70 percent of what a pod is made for.
    pub target: f64,
    pub tick: Span,
    pub stable_window: Span,
    pub panic_window: Span,
    /// Panic from this ratio of the pods wanted by the panic window to those ready.
    pub panic_threshold: f64,
    pub max_scale_up_rate: f64,
    pub max_scale_down_rate: f64,
    /// From the wish for none to none.
    pub scale_to_zero_grace: Span,
    pub min: u32,
    pub max: u32,
}

impl KpaSettings {
    pub fn knative(target: f64, min: u32, max: u32) -> Self {
        Self {
            target,
            tick: Span::from_secs(2),
            stable_window: Span::from_secs(60),
            panic_window: Span::from_secs(6),
            panic_threshold: 2.0,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            scale_to_zero_grace: Span::from_secs(30),
            min,
            max,
        }
    }
}

/// One autoscaler at work.
#[derive(Clone, Debug)]
pub struct Kpa {
    settings: KpaSettings,
    panic_since: Option<Timestamp>,
    max_panic_pods: u32,
    none_since: Option<Timestamp>,
}

impl Kpa {
    /// It begins in panic where more than one pod is ready, lest it scale down before it has seen a window.
    pub fn new(settings: KpaSettings, now: Timestamp, ready: u32) -> Self {
        let panic_since = (ready > 1).then_some(now);
        Self { settings, panic_since, max_panic_pods: ready, none_since: None }
    }

    /// `Scale`: the pods to ask for, by the mean load of the stable and of the panic window.
    pub fn scale(&mut self, now: Timestamp, ready: u32, stable: f64, panic: f64) -> u32 {
        let settings = &self.settings;
        let ready = f64::from(ready.max(1));
        let most = (settings.max_scale_up_rate * ready).ceil();
        let least = (ready / settings.max_scale_down_rate).floor();
        let by_stable = (stable / settings.target).ceil();
        let by_panic = (panic / settings.target).ceil();
        let bounded = |pods: f64| pods.max(least).min(most) as u32;
        if by_panic / ready >= settings.panic_threshold {
            self.panic_since = Some(now);
        } else if self.panic_since.is_some_and(|since| since + settings.stable_window < now) {
            self.panic_since = None;
            self.max_panic_pods = 0;
        }
        let mut wanted = bounded(by_stable);
        if self.panic_since.is_some() {
            self.max_panic_pods = self.max_panic_pods.max(wanted).max(bounded(by_panic));
            wanted = self.max_panic_pods;
        }
        self.none_since = if wanted == 0 { self.none_since.or(Some(now)) } else { None };
        let graced = self.none_since.is_some_and(|since| now.since(since) < settings.scale_to_zero_grace);
        wanted.max(u32::from(graced)).max(settings.min).min(settings.max)
    }
}

pub(super) struct Entry<'a> {
    pub(super) gauge: Gauge<'a>,
}

struct Flight<'a> {
    gauge: Gauge<'a>,
    settings: KpaSettings,
    kpa: Option<Kpa>,
}

impl Contender for Entry<'_> {
    fn enter<'a>(&'a self, bout: &'a Bout, knobs: Knobs) -> Box<dyn Autoscaler + 'a> {
        let settings = KpaSettings::knative(knobs.target * bout.unit_capacity, bout.fleet.min, bout.fleet.max);
        Box::new(Flight { gauge: self.gauge, settings, kpa: None })
    }
}

impl Autoscaler for Flight<'_> {
    /// All of its own ticks since the arena's last one; pods and load have not moved in between.
    fn decide(&mut self, tick: Tick) -> Option<u32> {
        let KpaSettings { tick: own, stable_window, panic_window, .. } = self.settings;
        let ready = tick.state.ready.unwrap_or(0);
        let kpa = self.kpa.get_or_insert_with(|| Kpa::new(self.settings, tick.now, ready));
        let mut wish = None;
        let mut now = (tick.now - TICK).floor_to(own) + own;
        while now <= tick.now {
            let mean = |window| self.gauge.mean(now, now - window, now).unwrap_or_else(|| self.gauge.read(now));
            wish = Some(kpa.scale(now, ready, mean(stable_window), mean(panic_window)));
            now = now + own;
        }
        wish
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn kpa(ready: u32) -> Kpa {
        Kpa::new(KpaSettings::knative(10.0, 0, 100), at(0), ready)
    }

    #[test]
    fn stable_pods_are_the_mean_over_the_target() {
        let mut kpa = kpa(1);
        assert_eq!(kpa.scale(at(2), 1, 10.0, 10.0), 1);
        assert_eq!(kpa.scale(at(4), 2, 21.0, 21.0), 3);
        // At most halved at once.
        assert_eq!(kpa.scale(at(6), 10, 21.0, 21.0), 5);
    }

    #[test]
    fn twice_the_pods_ready_is_panic_in_which_nothing_shrinks_for_a_window() {
        let mut kpa = kpa(1);
        // 39 of 10: 4 of 2 pods ready.
        assert_eq!(kpa.scale(at(2), 2, 12.0, 39.0), 4);
        assert_eq!(kpa.scale(at(4), 4, 14.0, 20.0), 4);
        assert_eq!(kpa.scale(at(6), 4, 55.0, 20.0), 6);
        assert_eq!(kpa.scale(at(62), 6, 35.0, 20.0), 6);
        // A window after the last moment above the threshold it is over.
        assert_eq!(kpa.scale(at(64), 6, 35.0, 20.0), 4);
    }

    #[test]
    fn it_begins_in_panic_and_ends_at_zero_after_the_grace() {
        let mut kpa = kpa(5);
        assert_eq!(kpa.scale(at(2), 5, 10.0, 10.0), 5);
        assert_eq!(kpa.scale(at(62), 5, 10.0, 10.0), 2);
        // Of one pod half is none.
        assert_eq!(kpa.scale(at(64), 1, 0.0, 0.0), 1);
        assert_eq!(kpa.scale(at(92), 1, 0.0, 0.0), 1);
        assert_eq!(kpa.scale(at(94), 1, 0.0, 0.0), 0);
    }
}
