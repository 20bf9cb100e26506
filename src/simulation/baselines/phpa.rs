//! The predictive horizontal pod autoscaler: models on the history of the HPA's own replica counts, of which and of the HPA's
//! count the largest is taken. Rule: as coded in 0.13.2, the order of its Holt-Winters history included; the chronological
//! variant differs in that order alone.
//!
//! Source: jthomperoo/predictive-horizontal-pod-autoscaler `internal/controllers/controller.go`,
//! `internal/prediction/{linear,holtwinters}`, `internal/scalebehavior`, `algorithms/`; the models' parameters are those of
//! its examples `simple-linear` and `simple-holt-winters`.

mod holt_winters;
mod linear;

use prescale_domain::{Span, Timestamp};

use super::hpa::{Hpa, HpaSettings, Observation};
use super::{Autoscaler, Contender, Knobs};
use crate::arena::{Bout, Gauge, Tick};

pub use holt_winters::{HoltWinters, HoltWintersSettings};
pub use linear::Linear;

/// One autoscaler, as configured; it syncs every 15 s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhpaSettings {
    pub hpa: HpaSettings,
    pub linear: Option<Linear>,
    pub holt_winters: Option<HoltWintersSettings>,
}

impl PhpaSettings {
    /// Its defaults: those of Kubernetes, but rates by the minute.
    pub fn defaults(target: f64, min: u32, max: u32) -> Self {
        let mut hpa = HpaSettings::kubernetes(target, min, max);
        (hpa.up.period, hpa.down.period) = (Span::from_secs(60), Span::from_secs(60));
        Self { hpa, linear: None, holt_winters: None }
    }
}

/// One autoscaler at work.
#[derive(Clone, Debug)]
pub struct Phpa {
    settings: PhpaSettings,
    hpa: Hpa,
    linear_history: Vec<(Timestamp, u32)>,
    holt_winters: Option<HoltWinters>,
}

impl Phpa {
    pub fn new(settings: PhpaSettings, chronological: bool) -> Self {
        let holt_winters = settings.holt_winters.map(|settings| HoltWinters::new(settings, chronological));
        Self { settings, hpa: Hpa::new(settings.hpa), linear_history: Vec::new(), holt_winters }
    }

    /// One sync: the replicas to ask for.
    pub fn sync(&mut self, now: Timestamp, seen: &Observation) -> u32 {
        if seen.replicas == 0 {
            return 0;
        }
        let counted = self.settings.hpa.raw(seen);
        let mut wanted = counted;
        if let Some(linear) = &self.settings.linear {
            self.linear_history.push((now, counted));
            wanted = wanted.max(linear.predict(now, &self.linear_history));
            let old = self.linear_history.len().saturating_sub(linear.history_size);
            self.linear_history.drain(..old);
        }
        if let Some(model) = &mut self.holt_winters {
            wanted = wanted.max(model.next(counted));
        }
        self.hpa.follow(now, seen.replicas, wanted)
    }
}

pub(super) struct Entry<'a> {
    pub(super) gauge: Gauge<'a>,
    pub(super) chronological: bool,
}

struct Flight<'a> {
    gauge: Gauge<'a>,
    phpa: Phpa,
}

impl Contender for Entry<'_> {
    fn variants(&self) -> &'static [&'static str] {
        &["linear", "holt-winters", "linear+holt-winters"]
    }

    fn enter<'a>(&'a self, bout: &'a Bout, knobs: Knobs) -> Box<dyn Autoscaler + 'a> {
        let target = knobs.target * bout.unit_capacity;
        let settings = PhpaSettings::defaults(target, bout.fleet.min.max(1), bout.fleet.max);
        let linear = (knobs.variant != "holt-winters").then(Linear::example);
        let holt_winters = (knobs.variant != "linear").then(HoltWintersSettings::example);
        let phpa = Phpa::new(PhpaSettings { linear, holt_winters, ..settings }, self.chronological);
        Box::new(Flight { gauge: self.gauge, phpa })
    }
}

impl Autoscaler for Flight<'_> {
    fn decide(&mut self, tick: Tick) -> Option<u32> {
        let total = self.gauge.read(tick.now);
        Some(self.phpa.sync(tick.now, &Observation::of(&tick, total)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_the_hpa_and_its_models_counts_within_rates_by_the_minute() {
        let linear = Some(Linear { look_ahead: Span::from_secs(15), history_size: 6 });
        let settings = PhpaSettings { linear, ..PhpaSettings::defaults(10.0, 1, 100) };
        let mut phpa = Phpa::new(settings, true);
        let mut replicas = 10;
        let mut sync = |second: i64, total: f64| {
            let now = Timestamp::from_millis(second * 1000);
            replicas = phpa.sync(now, &Observation { replicas, ready: replicas, missing: 0, total });
            replicas
        };
        // The HPA counts 10, 12, 14: a line that is at 16 in 15 s.
        assert_eq!([sync(0, 100.0), sync(15, 120.0), sync(30, 140.0)], [10, 14, 16]);
        // At most twice the 10 of a minute ago, and of the 14 when the first 4 are a minute old.
        assert_eq!([sync(45, 1000.0), sync(60, 1000.0), sync(75, 1000.0)], [20, 20, 28]);
    }
}
