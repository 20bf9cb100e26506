//! The rules around the planner for one service, from their configuration to the circumstances of a moment. Rule: whoever
//! decides (the loop, a back-test, a plan) resolves them here, so that the same moment has the same circumstances.

use std::sync::Arc;

use prescale_domain::{
    ActuationReport, Budget, Circumstances, FleetChange, Grant, InExperiment, Limits, OpeningHours, Pause,
    QuantileForecast, ResourceLimits, Resources, RuleSettings, ServiceName, Signals, Span, Timestamp, Zone,
};

use crate::budget::month_end;
use crate::outlook::{OutlookSettings, outlook};
use crate::schedule::Timetable;

/// Share of what the present units carry from which on a load is worth being awake for, where there is none.
const AWAKE: f64 = 0.1;

/// What is configured for one service.
#[derive(Clone, Debug)]
pub struct Rules {
    pub settings: RuleSettings,
    /// Of all services.
    pub timetable: Arc<Timetable>,
    pub opening_hours: OpeningHours,
    pub zone: Zone,
    pub price_usd_hour: Option<f64>,
    /// What one unit takes, and what the whole fleet may take.
    pub unit: Resources,
    pub fleet: ResourceLimits,
    /// The service's weight where the fleet has not enough for all.
    pub criticality: f64,
    /// Of the topic that the units share as members of one consumer group.
    pub partitions: Option<u32>,
}

/// What the surroundings know at one moment.
#[derive(Clone, Debug, Default)]
pub struct Around<'a> {
    pub load: Option<f64>,
    pub forecast: Option<&'a QuantileForecast>,
    /// Load that the present units carry, and the quantile that decisions use.
    pub carried: f64,
    pub quantile: f64,
    pub signals: Signals,
    pub actuation: Option<ActuationReport>,
    pub paused: Option<Pause>,
    pub fleet_change: Option<FleetChange>,
    pub experiment: Option<InExperiment>,
    /// What the service has cost this month, as far as was seen.
    pub spent_month_usd: Option<f64>,
    /// What all other services have.
    pub others_units: u32,
    pub others: Resources,
    /// Where the fleet has not enough for all.
    pub granted: Option<Grant>,
}

impl Rules {
    /// The circumstances of a decision for `service` at `at`.
    pub fn circumstances(&self, service: &ServiceName, at: Timestamp, around: Around) -> Circumstances {
        let RuleSettings { emergency, events, breaker, budget, limits, scale_in, jitter, .. } = self.settings;
        let has_budget = budget.usd_hour.is_some() || budget.usd_month.is_some();
        // Where nothing is served the units that are warm for it make a rise no smaller.
        let rise_above = if around.load == Some(0.0) { AWAKE * around.carried } else { around.carried };
        let look = OutlookSettings { rise_above, quantile: around.quantile };
        let is_sized = self.unit != Resources::default();
        let has_limits = is_sized || limits != Default::default() || self.fleet != Default::default();
        Circumstances {
            scheduled: self.timetable.active(service, at),
            emergency: Some(emergency),
            events: Some(events),
            signals: around.signals,
            breaker: Some(breaker),
            actuation: around.actuation,
            paused: around.paused,
            freeze: self.timetable.freeze(service, at),
            budget: has_budget.then(|| Budget {
                limits: budget,
                price_usd_hour: self.price_usd_hour,
                spent_month_usd: around.spent_month_usd,
                month_ends: month_end(at, self.zone),
            }),
            fleet_change: around.fleet_change,
            jitter: (jitter > Span::ZERO).then_some(jitter),
            limits: has_limits.then(|| Limits {
                // A target's own max stands for its number of units.
                target: if is_sized { ResourceLimits { units: limits.units, ..limits.or_default() } } else { limits },
                fleet: self.fleet,
                others_units: around.others_units,
                others: around.others,
                granted: around.granted,
                unit: self.unit,
                ..Limits::default()
            }),
            scale_in: scale_in.to_zero.then_some(scale_in),
            open: scale_in.to_zero.then(|| self.opening_hours.is_open(at)),
            outlook: around
                .forecast
                .filter(|_| scale_in.to_zero)
                .map(|forecast| outlook(forecast, at, around.load, look, &scale_in)),
            // Whoever has another source of load says it, and whoever knows who calls the service.
            fallback: None,
            lifted: Vec::new(),
            experiment: around.experiment,
            partitions: self.partitions,
        }
    }
}
