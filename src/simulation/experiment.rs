//! Prescale's decisions on a simple forecast, without Kafka, models or a controller: two days of three services in well
//! under a second. Rule: the same decisions, fleet and arena as the product; only the forecaster is a stand-in.

mod seasonal;

use std::collections::BTreeMap;

use prescale_actuate::{Fleet, FleetSettings};
use prescale_decide::{Around, Moment, Rules, decided};
use prescale_domain::{
    ActuationReport, Decision, DecisionMemory, Mode, PolicySettings, QuantileForecast, ServiceName, Span, Timestamp,
};

use crate::arena::{Bout, Demand};
use crate::workload::{LoadModel, LoadSettings, MINUTE, Workload};

pub use seasonal::SeasonalLevel;

/// How decisions are made in an experiment.
#[derive(Clone, Debug)]
pub struct ExperimentSettings {
    /// The unit capacity is taken from the bout.
    pub policy: PolicySettings,
    pub decision_interval: Span,
    /// From the end of a window to its use in a decision.
    pub data_age: Span,
    /// Length of the first part of a window, after which its load is known and decided by; `None` = that of the window.
    pub early: Option<Span>,
    /// Whether the forecaster knows of campaigns from the moment at which they were announced.
    pub knows_events: bool,
    /// What decisions say that they are made in; the simulated fleet follows them all the same.
    pub mode: Mode,
    /// The rules around the planner; `None` = none.
    pub rules: Option<Rules>,
}

/// The load of a demo, ready to be flown: the history to learn from and one bout per service.
#[derive(Clone, Debug)]
pub struct Stage {
    pub workload: Workload,
    pub history_start: Timestamp,
    pub scored_start: Timestamp,
    pub bouts: Vec<Bout>,
    /// Requests per second by minute, before the scored part.
    pub histories: Vec<Vec<f64>>,
}

impl Stage {
    /// Generates the load. A unit is as large as makes the history's mean need `units` of them; each fleet starts with what
    /// the last load of the history needs and 30 % more.
    pub fn new(settings: LoadSettings, fleet: FleetSettings, units: f64) -> Self {
        let (history_start, scored_start) = (settings.start, settings.start + settings.history);
        let scored_end = scored_start + settings.scored;
        let workload = Workload::Model(LoadModel::new(settings));
        let services = 0..workload.services().len();
        let histories: Vec<Vec<f64>> = services
            .clone()
            .map(|service| workload.requests_per_second(service, history_start, scored_start))
            .collect();
        let bouts = services
            .map(|service| {
                let load = workload.requests_per_second(service, scored_start, scored_end);
                let history = &histories[service];
                let mean = history.iter().sum::<f64>() / history.len().max(1) as f64;
                let unit_capacity = (mean / units).max(1e-6);
                let initial = (history.last().copied().unwrap_or(mean) * 1.3 / unit_capacity).ceil() as u32;
                let seed = fleet.seed.wrapping_add(service as u64);
                Bout {
                    demand: Demand { start: scored_start, step: MINUTE, load },
                    fleet: FleetSettings { initial, seed, ..fleet },
                    unit_capacity,
                }
            })
            .collect();
        Self { workload, history_start, scored_start, bouts, histories }
    }
}

/// Prescale's desired capacity by time for each service, on forecasts of [`SeasonalLevel`].
pub fn simulate_prescale(stage: &Stage, settings: &ExperimentSettings) -> Vec<Vec<(Timestamp, u32)>> {
    let services = stage.workload.services().iter().cloned().enumerate();
    services
        .map(|(index, name)| {
            let known = if settings.knows_events { stage.workload.events() } else { Vec::new() };
            let mut forecaster = SeasonalLevel::fit(name.clone(), stage.history_start, &stage.histories[index], known);
            let mut loads = stage.bouts[index].demand.load.iter();
            let mut timeline = Vec::new();
            let forecast = |window_end| {
                while forecaster.end() < window_end {
                    match loads.next() {
                        Some(load) => forecaster.update(*load),
                        None => break,
                    }
                }
                Ok(forecaster.forecast(15))
            };
            let bout = &stage.bouts[index];
            simulate_service(bout, &name, settings, bout.demand.load.as_slice().into(), forecast, |decision| {
                timeline.push((decision.at, decision.desired));
            });
            timeline
        })
        .collect()
}

/// The load of each window as it was known; not a number = a gap.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub windows: &'a [f64],
    /// The load of the first part of each; `None` = as that of the window.
    pub parts: Option<&'a [f64]>,
}

impl<'a> From<&'a [f64]> for Seen<'a> {
    fn from(windows: &'a [f64]) -> Self {
        Self { windows, parts: None }
    }
}

/// Decides for one fleet after each window, as the loop does on the event clock, on what `forecast` answers for the end of
/// the last window that anything is known of. The decisions come out. The fleet lives at the moments of the decisions; flying
/// their timeline in the arena counts what came of them.
pub fn simulate_service(
    bout: &Bout,
    name: &ServiceName,
    settings: &ExperimentSettings,
    seen: Seen,
    mut forecast: impl FnMut(Timestamp) -> Result<QuantileForecast, String>,
    mut take: impl FnMut(Decision),
) {
    let policy = PolicySettings { unit_capacity: bout.unit_capacity, ..settings.policy.clone() };
    let Demand { start, step, .. } = bout.demand;
    let mut fleet = Fleet::new(bout.fleet, start);
    let mut memory = DecisionMemory::default();
    let (mut load_window_end, mut actuation) = (None, None);
    for (index, whole) in seen.windows.iter().enumerate() {
        let window_end = start + Span::from_millis(step.millis().saturating_mul(index as i64 + 1));
        let known_until = settings.early.map_or(window_end, |early| window_end - step + early);
        let at = known_until + settings.data_age;
        let parts = seen.parts.filter(|_| settings.early.is_some());
        let newest_load = parts.map_or(*whole, |parts| parts.get(index).copied().unwrap_or(f64::NAN));
        let is_known = newest_load.is_finite();
        // Where the open window tells nothing, the closed one before it counts.
        let closed = settings.early.and_then(|_| seen.windows.get(index.checked_sub(1)?)).copied();
        let load = Some(newest_load).filter(|_| is_known).or(closed).filter(|load| load.is_finite());
        let newest = if is_known || settings.early.is_none() { known_until } else { window_end - step };
        load_window_end = if load.is_some() { Some(newest) } else { load_window_end };
        let made = forecast(window_end);
        let target = fleet.state(at);
        let around = Around {
            load,
            forecast: made.as_ref().ok(),
            carried: f64::from(target.desired.max(1)) * policy.unit_capacity,
            quantile: policy.quantile,
            actuation: actuation.clone(),
            ..Around::default()
        };
        let rules = settings.rules.as_ref();
        let circumstances = rules.map(|rules| rules.circumstances(name, at, around)).unwrap_or_default();
        let moment = Moment {
            service: name,
            at,
            mode: settings.mode,
            settings: &policy,
            load,
            load_window_end,
            window_end: Some(newest),
            signals: BTreeMap::new(),
            forecast: made.as_ref().map_err(String::as_str),
            decision_interval: settings.decision_interval,
            provisioning_latency: bout.fleet.provisioning_latency_p90,
            provisioning_median: Some(bout.fleet.provisioning_latency),
            warm_up: bout.fleet.warm_up,
            confident_horizon: None,
            target: Some(target),
            memory: std::mem::take(&mut memory),
            circumstances,
        };
        let decision = decided(moment.inputs());
        if fleet.desired() != decision.desired {
            fleet.set_desired(at, decision.desired);
            // What the loop would have been told of it.
            actuation = (settings.mode == Mode::Act).then_some(ActuationReport { at, failed: None });
        }
        memory = decision.memory.clone();
        take(decision);
    }
}

#[cfg(test)]
pub(crate) mod tests;
