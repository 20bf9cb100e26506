//! KEDA: between none and one replica itself, from one on through the HPA it makes. Rule: its published defaults.
//!
//! Source: keda.sh, scaling deployments; kedacore/keda `pkg/scaling/executor`. The metric of the HPA is fetched live at
//! each sync, so that its age is that of the metrics pipeline, as for an HPA alone.

use prescale_domain::{Span, Timestamp};

use super::hpa::{Hpa, HpaSettings, Observation};
use super::{Autoscaler, Contender, Knobs};
use crate::arena::{Bout, Gauge, Tick};

/// One ScaledObject with one trigger.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KedaSettings {
    pub polling: Span,
    /// From the last activity to zero.
    pub cooldown: Span,
    /// Active above it.
    pub activation: f64,
    /// `minReplicaCount`
    pub min: u32,
    /// From one replica on.
    pub hpa: HpaSettings,
}

impl KedaSettings {
    /// KEDA's defaults, with the bounds of the fleet (its own are 0 and 100).
    pub fn defaults(target: f64, min: u32, max: u32) -> Self {
        let hpa = HpaSettings::kubernetes(target, min.max(1), max);
        Self { polling: Span::from_secs(30), cooldown: Span::from_secs(300), activation: 0.0, min, hpa }
    }
}

/// One ScaledObject at work.
#[derive(Clone, Debug)]
pub struct Keda {
    settings: KedaSettings,
    hpa: Hpa,
    polled_at: Option<Timestamp>,
    active_at: Option<Timestamp>,
}

impl Keda {
    pub fn new(settings: KedaSettings) -> Self {
        Self { settings, hpa: Hpa::new(settings.hpa), polled_at: None, active_at: None }
    }

    /// One sync of the HPA, and a poll where it is due.
    pub fn sync(&mut self, now: Timestamp, seen: &Observation) -> u32 {
        let KedaSettings { polling, cooldown, activation, min, .. } = self.settings;
        let replicas = self.hpa.sync(now, seen);
        if self.polled_at.is_some_and(|polled| now.since(polled) < polling) {
            return replicas;
        }
        self.polled_at = Some(now);
        if seen.total > activation {
            self.active_at = Some(now);
            return replicas.max(1);
        }
        let cooled = now.since(*self.active_at.get_or_insert(now)) >= cooldown;
        if min == 0 && cooled { 0 } else { replicas }
    }
}

pub(super) struct Entry<'a> {
    pub(super) gauge: Gauge<'a>,
}

struct Flight<'a> {
    gauge: Gauge<'a>,
    keda: Keda,
}

impl Contender for Entry<'_> {
    fn enter<'a>(&'a self, bout: &'a Bout, knobs: Knobs) -> Box<dyn Autoscaler + 'a> {
        let settings = KedaSettings::defaults(knobs.target * bout.unit_capacity, bout.fleet.min, bout.fleet.max);
        Box::new(Flight { gauge: self.gauge, keda: Keda::new(settings) })
    }
}

impl Autoscaler for Flight<'_> {
    fn decide(&mut self, tick: Tick) -> Option<u32> {
        let total = self.gauge.read(tick.now);
        Some(self.keda.sync(tick.now, &Observation::of(&tick, total)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Syncs every 15 s with these loads, the fleet following at once; returns the replicas after each.
    fn follow(min: u32, mut replicas: u32, loads: &[f64]) -> Vec<u32> {
        let mut keda = Keda::new(KedaSettings::defaults(10.0, min, 60));
        let mut step = |(index, total): (usize, &f64)| {
            let now = Timestamp::from_millis(index as i64 * 15_000);
            replicas = keda.sync(now, &Observation { replicas, ready: replicas, missing: 0, total: *total });
            replicas
        };
        loads.iter().enumerate().map(&mut step).collect()
    }

    #[test]
    fn from_zero_to_one_at_the_next_poll_and_on_with_the_hpa() {
        // Polls at 0, 30 and 60 s: the load that begins at 15 s is seen at 30 s.
        assert_eq!(follow(0, 0, &[0.0, 100.0, 100.0, 100.0, 100.0]), [0, 0, 1, 5, 10]);
    }

    #[test]
    fn to_zero_five_minutes_after_the_last_activity_and_never_below_the_minimum() {
        let mut loads = vec![10.0; 3];
        loads.extend([0.0; 24]);
        // Last active at the poll of 30 s.
        let replicas = follow(0, 1, &loads);
        assert!(
            replicas[..22].iter().all(|replicas| *replicas == 1) && replicas[22..].iter().all(|n| *n == 0),
            "{replicas:?}"
        );
        assert!(follow(1, 1, &loads).iter().all(|replicas| *replicas == 1));
    }
}
