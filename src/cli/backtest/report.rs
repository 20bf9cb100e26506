//! From flights to the report for people: what each service's page shows. Rule: curves are of the first lead time and seed.

use std::collections::BTreeMap;

use prescale_domain::{Decision, QuantileForecast, Span, Timestamp};
use prescale_simulation::arena::needed_units;
use prescale_simulation::baselines::{Contender, System};
use prescale_simulation::report::{BacktestReport, DecisionMark, ForecastSample, ServiceReport, calibration};

use super::fly::{Fitted, Leg, Plan, Report};
use crate::cli::Failure;

/// Time between the forecasts that are shown, and are counted for the calibration.
const SHOWN_EVERY: Span = Span::from_minutes(30);

/// The report with its curves.
pub(super) fn whole(plan: &Plan, report: &Report, leg: &Leg, fitted: &Fitted) -> Result<BacktestReport, Failure> {
    let bug = |error: serde_json::Error| Failure::Bug(error.to_string());
    let mut whole = BacktestReport::new("Back-test", &report.card).map_err(bug)?;
    whole.timings.clone_from(&report.timings);
    whole.notes.clone_from(&report.notes);
    let spans = |spans: &[Span]| spans.iter().map(Span::to_string).collect::<Vec<_>>();
    whole.settings = serde_json::json!({
        "from": plan.scored.0, "to": plan.scored.1, "seeds": plan.seeds, "lead_times": spans(&plan.lead_times),
        "policy": plan.config.policy, "rules": plan.config.rules,
    });
    let one = |index: usize| {
        let mut service = service(plan, report, leg, index)?;
        service.capacity.extend(others(report, leg, fitted, index));
        Some(service)
    };
    whole.services = (0..leg.flown.names.len()).filter_map(one).collect();
    Ok(whole)
}

fn service(plan: &Plan, report: &Report, leg: &Leg, index: usize) -> Option<ServiceReport> {
    let name = leg.flown.names.get(index)?;
    let course = leg.flown.courses.get(index)?;
    let (demand, unit_capacity) = (&course.bout.demand, course.bout.unit_capacity);
    let decisions = report.decisions.get(name)?;
    let capacity = BTreeMap::from([(System::Prescale.name().to_owned(), ready(decisions))]);
    let stream = plan.streams.get(name)?;
    let mut forecasts = Vec::new();
    let mut end = demand.start;
    while end < demand.end() {
        if let Ok(QuantileForecast { origin, levels, values, .. }) = stream.after(end) {
            forecasts.push(ForecastSample { origin, levels, values });
        }
        end = end + SHOWN_EVERY;
    }
    let seen = leg.flown.seen.get(index)?;
    let known = |load: &f64| Some(*load).filter(|load| load.is_finite());
    let actual = |start: Timestamp| (start < demand.end() && start >= demand.start).then(|| demand.at(start));
    Some(ServiceReport {
        name: name.clone(),
        unit_capacity: Some(unit_capacity),
        start: demand.start,
        step: demand.step,
        load: seen.iter().map(known).collect(),
        needed: seen.iter().map(|load| known(load).map(|load| f64::from(needed_units(load, unit_capacity)))).collect(),
        capacity,
        calibration: calibration(&forecasts, actual, demand.step),
        forecasts,
        decisions: decisions.iter().filter(|decision| changes(decision)).map(DecisionMark::from).collect(),
    })
}

/// Units in service of each baseline at the operating point that counts.
fn others(report: &Report, leg: &Leg, fitted: &Fitted, index: usize) -> BTreeMap<String, Vec<(Timestamp, f64)>> {
    let one = |(system, contenders): (&System, &Vec<Box<dyn Contender + '_>>)| {
        let name = system.name();
        let chosen = report.card.systems.get(name)?.chosen.clone().unwrap_or_default();
        let timeline = leg.meeting.capacity_by(*system, contenders.get(index)?.as_ref(), &chosen, index)?;
        Some((name.to_owned(), timeline.into_iter().map(|(at, units)| (at, f64::from(units))).collect()))
    };
    fitted.iter().filter_map(one).collect()
}

/// Units in service as they were seen by each decision.
fn ready(decisions: &[Decision]) -> Vec<(Timestamp, f64)> {
    let seen = |decision: &Decision| {
        let target = decision.inputs.target?;
        Some((decision.at, f64::from(target.ready.unwrap_or(target.desired))))
    };
    decisions.iter().filter_map(seen).collect()
}

fn changes(decision: &Decision) -> bool {
    decision.inputs.target.is_some_and(|target| target.desired != decision.desired)
}
