//! Prescale's decisions on a simple forecast, without Kafka, models or a controller: two days of three services in well
//! under a second. Rule: the same decisions, fleet and arena as the product; only the forecaster is a stand-in.

mod seasonal;

use prescale_actuate::FleetSettings;
use prescale_decide::{decide, forecast_input};
use prescale_domain::{
    DecisionInputs, DecisionMemory, LeadTime, Mode, PolicySettings, QuantileForecast, ServiceName, Span, Timestamp,
};

use crate::arena::{Bout, Demand};
use crate::workload::{LoadModel, LoadSettings, MINUTE, Workload};

pub use seasonal::SeasonalLevel;

/// How decisions are made in an experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct ExperimentSettings {
    /// The unit capacity is taken from the bout.
    pub policy: PolicySettings,
    pub decision_interval: Span,
    /// From the end of a window to its use in a decision.
    pub data_age: Span,
    /// Whether the forecaster knows of campaigns from the moment at which they were announced.
    pub knows_events: bool,
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
            simulate_service(&stage.bouts[index], &name, settings, |window_end| {
                while forecaster.end() < window_end {
                    match loads.next() {
                        Some(load) => forecaster.update(*load),
                        None => break,
                    }
                }
                Some(forecaster.forecast(15))
            })
        })
        .collect()
}

/// Drives one fleet by decisions on what `forecast` answers for the end of the last closed window; the desired capacity
/// by time comes out.
pub fn simulate_service(
    bout: &Bout,
    name: &ServiceName,
    settings: &ExperimentSettings,
    mut forecast: impl FnMut(Timestamp) -> Option<QuantileForecast>,
) -> Vec<(Timestamp, u32)> {
    let mut memory = DecisionMemory::default();
    let mut timeline = Vec::new();
    let interval = settings.decision_interval.millis().max(1);
    bout.drive(|tick| {
        let window_end = (tick.now - settings.data_age).floor_to(bout.demand.step);
        let due = tick.now.since(bout.demand.start).millis() % interval == settings.data_age.millis() % interval;
        if !due || window_end <= bout.demand.start {
            return None;
        }
        let lead_time = LeadTime {
            data_age: tick.now.since(window_end),
            decision_interval: settings.decision_interval,
            provisioning_latency: bout.fleet.provisioning_latency_p90,
            warm_up: bout.fleet.warm_up,
        };
        let quantile = settings.policy.quantile;
        let input = forecast(window_end).map(|f| forecast_input(&f, tick.now, &lead_time, quantile));
        let (input, missing) = match input {
            Some(Ok(input)) => (Some(input), String::new()),
            Some(Err(error)) => (None, error.code().to_owned()),
            None => (None, "cold-start".to_owned()),
        };
        let decision = decide(&DecisionInputs {
            service: name.clone(),
            at: tick.now,
            mode: Mode::Act,
            settings: PolicySettings { unit_capacity: bout.unit_capacity, ..settings.policy.clone() },
            load: Some(bout.demand.at(window_end - bout.demand.step)),
            load_window_end: Some(window_end),
            forecast: input,
            forecast_missing: missing,
            lead_time,
            target: Some(tick.state),
            memory: std::mem::take(&mut memory),
        });
        memory = decision.memory;
        timeline.push((tick.now, decision.desired));
        Some(decision.desired)
    });
    timeline
}

#[cfg(test)]
pub(crate) mod tests;
