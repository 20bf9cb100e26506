//! What is flown: each service's load, fleet and policy, from the configuration and the history. Rule: what the history
//! leaves open is said in a note, not guessed in silence.

use std::collections::BTreeMap;
use std::sync::Arc;

use prescale_actuate::FleetSettings;
use prescale_domain::{ResourceLimits, Series, ServiceName, Span, Timestamp};
use prescale_simulation::arena::{Bout, Demand};
use prescale_simulation::baselines::Course;
use prescale_simulation::experiment::ExperimentSettings;

use crate::config::{Config, ServiceConfig};

/// What a unit costs in an hour where nobody says.
const PRICE_USD_HOUR: f64 = 0.1;
/// A unit that is asked for is billed for this time at least.
const MINIMUM_BILLING: Span = Span::from_secs(60);
/// The p90 of the provisioning latency is this multiple of its median where only the p90 is known.
const P90_TO_MEDIAN: f64 = 1.2;

/// Seeds of so many fleets, from that of the first simulated target on.
pub(super) fn seeds(config: &Config, count: u64) -> Vec<u64> {
    let configured = config.services.iter().find_map(|service| Some(service.target.simulated()?.fleet.seed));
    let first = configured.unwrap_or(FleetSettings::default().seed);
    (0..count).map(|index| first.wrapping_add(index)).collect()
}

/// All services of a back-test at one lead time.
pub(super) struct Flown {
    pub(super) names: Vec<ServiceName>,
    pub(super) courses: Vec<Course>,
    pub(super) settings: Vec<ExperimentSettings>,
    /// The scored load of each as it was known; not a number = a gap.
    pub(super) seen: Vec<Vec<f64>>,
    /// That of the first part of each window, where it is known by itself.
    pub(super) parts: Vec<Option<Vec<f64>>>,
    pub(super) notes: Vec<String>,
}

/// The scored part of the histories: `[from, to)`; `latency` counts instead of the configured provisioning latency.
pub(super) fn courses(
    config: &Config,
    [histories, parts]: [&BTreeMap<ServiceName, Series>; 2],
    (from, to): (Timestamp, Timestamp),
    latency: Option<Span>,
) -> Flown {
    let mut flown = Flown {
        names: Vec::new(),
        courses: Vec::new(),
        settings: Vec::new(),
        seen: Vec::new(),
        parts: Vec::new(),
        notes: Vec::new(),
    };
    let timetable = Arc::new(config.timetable().unwrap_or_default());
    for service in &config.services {
        let name = ServiceName::new(&service.name);
        let Some(series) = histories.get(&name) else { continue };
        let training = demand(series, series.start, from);
        let scored = demand(series, from, to);
        let gaps = scored.load.iter().filter(|load| !load.is_finite()).count();
        if gaps > 0 {
            flown.notes.push(format!(
                "{name}: {gaps} windows of {} without a load are flown at the last known one",
                scored.load.len()
            ));
        }
        if service.target.price_usd_hour().is_none() {
            flown.notes.push(format!("{name}: no price is configured, {PRICE_USD_HOUR} USD an hour is taken"));
        }
        let last = known(&training).load.last().copied().unwrap_or_default();
        let fleet = fleet(config, service, latency, last);
        let bout = Bout { demand: known(&scored), fleet, unit_capacity: service.unit_capacity };
        flown.courses.push(Course { training: known(&training), bout });
        flown.settings.push(ExperimentSettings {
            policy: service.policy_settings(&config.policy),
            decision_interval: config.policy.decision_interval.max(config.features.step),
            data_age: config.features.lateness,
            early: config.features.early_step,
            knows_events: false,
            mode: service.mode.unwrap_or(config.mode),
            rules: Some(crate::app::rules(config, service, &timetable)),
        });
        flown.seen.push(scored.load);
        flown.parts.push(parts.get(&name).map(|parts| demand(parts, from, to).load));
        flown.names.push(name);
    }
    if flown.names.len() > 1 && config.fleet_limits != ResourceLimits::default() {
        flown.notes.push("fleet_limits: each service is flown alone, as if the others took nothing of them".to_owned());
    }
    flown
}

fn fleet(config: &Config, service: &ServiceConfig, latency: Option<Span>, last: f64) -> FleetSettings {
    let lead = service.lead_times(config.lead_time);
    let p90 = latency.unwrap_or(lead.provisioning_latency);
    let median = || Span::from_millis((p90.millis() as f64 / P90_TO_MEDIAN) as i64);
    let simulated = service.target.simulated().map(|settings| settings.fleet);
    let configured =
        simulated.unwrap_or_else(|| FleetSettings { minimum_billing: MINIMUM_BILLING, ..FleetSettings::default() });
    // What the last load needs, and some more.
    let needed = || (last * 1.3 / service.unit_capacity).ceil().max(0.0) as u32;
    FleetSettings {
        min: service.target.min(),
        max: service.target.max(),
        initial: simulated.map_or_else(needed, |fleet| fleet.initial),
        provisioning_latency: service.provisioning_median().filter(|_| latency.is_none()).unwrap_or_else(median),
        provisioning_latency_p90: p90,
        warm_up: lead.warm_up,
        price_usd_hour: service.target.price_usd_hour().unwrap_or(PRICE_USD_HOUR),
        ..configured
    }
}

/// The windows of `[from, to)`; a gap is not a number.
fn demand(series: &Series, from: Timestamp, to: Timestamp) -> Demand {
    let step = series.step;
    let count = usize::try_from(to.since(from).millis() / step.millis().max(1)).unwrap_or(0);
    let start = |index: usize| from + Span::from_millis(step.millis().saturating_mul(index as i64));
    let load = (0..count).map(|index| series.at(start(index)).unwrap_or(f64::NAN)).collect();
    Demand { start: from, step, load }
}

/// The same with the last known load in gaps.
fn known(demand: &Demand) -> Demand {
    let mut last = demand.load.iter().copied().find(|load| load.is_finite()).unwrap_or(0.0);
    let fill = |load: &f64| {
        last = if load.is_finite() { *load } else { last };
        last
    };
    Demand { load: demand.load.iter().map(fill).collect(), ..demand.clone() }
}
