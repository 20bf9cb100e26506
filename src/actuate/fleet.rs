//! The physics of a simulated fleet: units that are asked for, come into service, warm up, cost money and go. Rule: pure
//! and replayable; what happens to the n-th unit depends on the seed and n, never on when or how often anybody looks.

use std::collections::VecDeque;

use prescale_domain::{Span, TargetState, Timestamp};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// A simulated fleet, as configured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FleetSettings {
    /// The fleet's own bounds; every wish is clamped to them.
    pub min: u32,
    pub max: u32,
    /// Units that are in service and warm at the start.
    pub initial: u32,
    /// Request → unit in service: median and 90th percentile of a log-normal distribution. Equal = always the median.
    pub provisioning_latency: Span,
    pub provisioning_latency_p90: Span,
    /// In service → full speed, linearly from nothing.
    pub warm_up: Span,
    /// Billed from the request for a unit to its end, by the millisecond.
    pub price_usd_hour: f64,
    /// Billed at least, however short a unit lived.
    pub minimum_billing: Span,
    pub seed: u64,
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self {
            min: 0,
            max: 100,
            initial: 1,
            provisioning_latency: Span::from_secs(150),
            provisioning_latency_p90: Span::from_secs(180),
            warm_up: Span::from_secs(30),
            price_usd_hour: 0.17,
            minimum_billing: Span::from_secs(60),
            seed: 1,
        }
    }
}

/// A fleet at work. Time may only go forward: moments before the last change are treated as that change's moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fleet {
    settings: FleetSettings,
    changed_at: Timestamp,
    /// Units that have not ended, oldest first.
    units: VecDeque<Unit>,
    launched: u64,
    actions: u64,
    /// Lives and bills of the units that have ended.
    ended: Totals,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Unit {
    launched_at: Timestamp,
    in_service_at: Timestamp,
}

/// Milliseconds, so that sums do not depend on their order.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Totals {
    units: u64,
    lived_millis: i64,
    billed_millis: i64,
}

impl Fleet {
    /// A fleet of `initial` units, in service and warm at `now`.
    pub fn new(settings: FleetSettings, now: Timestamp) -> Self {
        let warm = Unit { launched_at: now, in_service_at: now - settings.warm_up };
        let initial = settings.initial.max(settings.min).min(settings.max);
        Self {
            settings,
            changed_at: now,
            units: std::iter::repeat_n(warm, initial as usize).collect(),
            launched: u64::from(initial),
            actions: 0,
            ended: Totals::default(),
        }
    }

    pub fn settings(&self) -> &FleetSettings {
        &self.settings
    }

    /// Asks for `units`, clamped to the fleet's bounds; returns what is wanted now. Units are launched at once, and each
    /// comes into service after a latency of its own. Scale-in ends units at once: the newest that are not in service yet,
    /// then the oldest that are.
    pub fn set_desired(&mut self, now: Timestamp, units: u32) -> u32 {
        let now = self.clamp_time(now);
        let wanted = units.max(self.settings.min).min(self.settings.max);
        let present = self.desired();
        if wanted == present {
            return wanted;
        }
        self.changed_at = now;
        self.actions += 1;
        for _ in present..wanted {
            let in_service_at = now + latency(&self.settings, self.launched);
            self.units.push_back(Unit { launched_at: now, in_service_at });
            self.launched += 1;
        }
        for _ in wanted..present {
            self.end_one(now);
        }
        wanted
    }

    /// Units launched from now on come into service and warm up as was learnt since; bounds and price stay.
    pub fn learn(&mut self, provisioning_latency: Span, provisioning_latency_p90: Span, warm_up: Span) {
        self.settings = FleetSettings { provisioning_latency, provisioning_latency_p90, warm_up, ..self.settings };
    }

    /// Lets time pass: no earlier moment is answered for any more. Never needed for a right answer.
    pub fn advance(&mut self, now: Timestamp) {
        self.changed_at = self.clamp_time(now);
    }

    /// Units asked for.
    pub fn desired(&self) -> u32 {
        u32::try_from(self.units.len()).unwrap_or(u32::MAX)
    }

    /// The fleet as a target reports it.
    pub fn state(&self, now: Timestamp) -> TargetState {
        TargetState {
            desired: self.desired(),
            ready: Some(self.ready(now)),
            min: Some(self.settings.min),
            max: Some(self.settings.max),
            observed_at: now,
        }
    }

    /// Units in service, warm or not.
    pub fn ready(&self, now: Timestamp) -> u32 {
        let now = self.clamp_time(now);
        self.units.iter().map(|unit| u32::from(unit.in_service_at <= now)).sum()
    }

    /// Units' worth of load that can be carried: a warm unit counts 1, one that is warming the share of its warm-up that
    /// has passed.
    pub fn serving_capacity(&self, now: Timestamp) -> f64 {
        let now = self.clamp_time(now);
        self.units.iter().map(|unit| self.share(unit, now)).sum()
    }

    /// Hours that units have lived, pending ones included.
    pub fn unit_hours(&self, until: Timestamp) -> f64 {
        let until = self.clamp_time(until);
        let alive: i64 = self.units.iter().map(|unit| until.since(unit.launched_at).millis()).sum();
        (self.ended.lived_millis + alive) as f64 / HOUR_MILLIS
    }

    /// What the fleet has cost from its start; a unit's minimum is owed as soon as it is launched.
    pub fn cost_usd(&self, until: Timestamp) -> f64 {
        let until = self.clamp_time(until);
        let alive: i64 = self.units.iter().map(|unit| self.billed_millis(unit, until)).sum();
        (self.ended.billed_millis + alive) as f64 / HOUR_MILLIS * self.settings.price_usd_hour
    }

    /// Changes of the units asked for.
    pub fn actions(&self) -> u64 {
        self.actions
    }

    /// Units launched since the start, the initial ones included, and units ended.
    pub fn launched_and_ended(&self) -> (u64, u64) {
        (self.launched, self.ended.units)
    }

    fn end_one(&mut self, now: Timestamp) {
        let pending = self.units.iter().rposition(|unit| unit.in_service_at > now);
        let Some(unit) = pending.and_then(|at| self.units.remove(at)).or_else(|| self.units.pop_front()) else {
            return;
        };
        self.ended.units += 1;
        self.ended.lived_millis += now.since(unit.launched_at).millis();
        self.ended.billed_millis += self.billed_millis(&unit, now);
    }

    fn billed_millis(&self, unit: &Unit, until: Timestamp) -> i64 {
        until.since(unit.launched_at).max(self.settings.minimum_billing).millis()
    }

    fn share(&self, unit: &Unit, now: Timestamp) -> f64 {
        let warming = now.millis().saturating_sub(unit.in_service_at.millis());
        let warm_up = self.settings.warm_up.millis();
        if warming < 0 {
            0.0
        } else if warming >= warm_up {
            1.0
        } else {
            warming as f64 / warm_up as f64
        }
    }

    fn clamp_time(&self, now: Timestamp) -> Timestamp {
        now.max(self.changed_at)
    }
}

const HOUR_MILLIS: f64 = 3_600_000.0;

/// The provisioning latency of the unit that was launched as number `number`.
fn latency(settings: &FleetSettings, number: u64) -> Span {
    /// 90th percentile of the standard normal distribution.
    const Z_P90: f64 = 1.281_551_565_545;
    let median = settings.provisioning_latency.millis().max(0) as f64;
    let p90 = settings.provisioning_latency_p90.millis() as f64;
    if median <= 0.0 || p90 <= median {
        return settings.provisioning_latency;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    rng.set_stream(number);
    // Box and Muller (1958); the first number is in (0, 1].
    let (first, second): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    let normal = (-2.0 * first.ln()).sqrt() * (std::f64::consts::TAU * second).cos();
    let sigma = (p90 / median).ln() / Z_P90;
    Span::from_millis((median * (sigma * normal).exp()).round() as i64)
}
