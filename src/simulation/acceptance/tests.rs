//! The cases that Prescale is accepted by, decided by its own planner, and what shows that they ask something.

mod following;
mod gpu;
mod peak;
mod promised;
mod refused;
mod warm;

use super::*;

fn units_for(scenario: &Scenario, rate: f64, utilization: f64) -> u32 {
    (rate / scenario.run.service.unit_rate() / utilization).ceil() as u32
}

/// Units for the highest mean rate over a tick until those asked for a tick later are there: what can be reached at all, by
/// somebody who knows the future.
fn clairvoyant(scenario: &Scenario, lead: Span, utilization: f64) -> impl FnMut(&Observation) -> Option<u32> {
    let scenario = scenario.clone();
    let arrivals = Arrivals::Rate(scenario.rates().unwrap());
    move |look| {
        let tick = scenario.run.tick;
        let ticks = (lead + tick).steps_up(tick) as i64;
        let start = |number: i64| look.now + Span::from_millis(number * tick.millis());
        let rates = (0..=ticks).map(|number| arrivals.mean_rate(start(number), start(number + 1)));
        Some(units_for(&scenario, rates.fold(0.0, f64::max), utilization))
    }
}

/// A service of which a unit carries this share of what it can serve at most.
fn configured(scenario: &Scenario, share: f64) -> Configured {
    Configured::new("service", share * scenario.run.service.unit_rate(), scenario.run.fleet.max)
}

/// The usual day, with errors collected so far ahead.
fn usual(configured: &Configured, horizon: i64, lead: i64) -> impl FnMut(Timestamp, f64) -> Made + use<> {
    let spans = [horizon, lead].map(Span::from_minutes);
    let mut model = UsualDay::new(configured.service.clone(), configured.step, spans[0], spans[1]);
    move |end, load| model.after(end, load)
}

/// Nothing has been learnt yet.
fn unknown(_: Timestamp, _: f64) -> Made {
    Err("cold-start".to_owned())
}

#[track_caller]
fn missed(verdict: &Verdict, goals: &[&str]) {
    assert_eq!(verdict.missed(), goals, "{:#?} {:#?}", verdict.checks, verdict.outcome.totals);
}
