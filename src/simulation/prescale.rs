//! Prescale in a meeting: its own decisions on kept forecasts, flown like everybody else's. Rule: what decides here is what
//! decides in service; a setting that is swept changes nothing else.

use prescale_domain::{Decision, ForecastScore, Span, Timestamp};

use crate::arena::{Bout, Demand, Pilot, Tally};
use crate::baselines::System;
use crate::experiment::{ExperimentSettings, Seen, simulate_service};
use crate::meeting::{Meeting, Operation, Showing};
use crate::stream::ForecastStream;

/// Prescale for one service of a meeting.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    pub stream: &'a ForecastStream,
    pub settings: ExperimentSettings,
    /// The load of each window of the bout.
    pub seen: Seen<'a>,
    /// Units for the highest load of the past, and for all but its highest twentieth.
    pub peak: u32,
    pub p95: u32,
}

/// What an operator would configure otherwise, to stand elsewhere between cost and violation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Setting {
    /// The violation budget, as a share of time, with no rules around the planner: those add units whatever they cost, and
    /// are no matter of a budget. `None` = as configured, with its rules.
    pub budget: Option<f64>,
    /// Most that the newest load may use of the units.
    pub utilization: Option<f64>,
    /// Least units, as a share of a fleet for the highest load of the past; they are there from the start, as a fixed fleet is.
    pub floor: Option<f64>,
    /// Most units, as such a share.
    pub ceiling: Option<f64>,
    /// As many units as carry all but the highest twentieth of the loads of the past, at all times.
    pub fixed: bool,
    /// Units go as soon as they are not needed.
    pub brisk: bool,
}

/// Budgets of a sweep, as shares of time: from next to nothing to half of it.
const BUDGETS: [f64; 16] =
    [1e-6, 1e-5, 1e-4, 3e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.4];
const BRISK_BUDGETS: [f64; 7] = [1e-3, 5e-3, 0.01, 0.02, 0.05, 0.12, 0.3];
/// Utilizations by the newest load under a budget that leaves the decision to it ...
const LOOSE: f64 = 0.2;
const UTILIZATIONS: [f64; 9] = [0.5, 0.6, 0.65, 0.7, 0.8, 0.825, 0.85, 0.875, 0.9];
const BRISK_UTILIZATIONS: [f64; 12] = [0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];
/// ... and under one by which the forecast decides as well.
const TIGHT: [(f64, f64); 5] = [(0.6, 1e-3), (0.7, 1e-3), (0.8, 1e-3), (0.9, 1e-3), (0.6, 5e-4)];
/// Least units as they are configured otherwise, and with a budget.
const FLOORS: [f64; 3] = [0.5, 0.75, 1.0];
const FLOORS_WITHIN: [(f64, f64); 3] = [(1.0, LOOSE), (0.2, 1e-3), (0.2, 5e-4)];

/// Most units, where little is to be paid and much may be missed; with a load that has grown the past is no measure.
const CEILINGS: [f64; 6] = [0.05, 0.1, 0.15, 0.25, 0.5, 1.0];

/// Where Prescale is flown to find its frontier, beside what is configured.
pub fn sweep() -> Vec<Setting> {
    let of = |budget, brisk| Setting { budget: Some(budget), brisk, ..Setting::default() };
    let at = |utilization, budget, brisk| Setting { utilization: Some(utilization), ..of(budget, brisk) };
    let budgets = BUDGETS.iter().map(|budget| of(*budget, false));
    let brisk_budgets = BRISK_BUDGETS.iter().map(|budget| of(*budget, true));
    let loose = UTILIZATIONS.iter().map(|most| at(*most, LOOSE, false));
    let brisk_loose = BRISK_UTILIZATIONS.iter().map(|most| at(*most, LOOSE, true));
    let tight = TIGHT.iter().map(|(most, budget)| at(*most, *budget, false));
    let brisk_tight = TIGHT.iter().skip(4).map(|(most, budget)| at(*most, *budget, true));
    let floors = FLOORS.iter().map(|floor| Setting { floor: Some(*floor), ..Setting::default() });
    let within = FLOORS_WITHIN.iter().map(|(floor, budget)| Setting { floor: Some(*floor), ..of(*budget, false) });
    let ceilings = CEILINGS.iter().map(|ceiling| Setting { ceiling: Some(*ceiling), ..of(LOOSE, true) });
    let utilizations = loose.chain(brisk_loose).chain(tight).chain(brisk_tight);
    let fixed = Setting { fixed: true, ..of(LOOSE, true) };
    let bounds = floors.chain(within).chain(ceilings).chain([fixed]);
    budgets.chain(brisk_budgets).chain(utilizations).chain(bounds).collect()
}

impl Setting {
    /// As a report names it.
    pub fn label(&self) -> String {
        let named = |name: &str, value: Option<f64>| value.map(|value| format!("{name}={value}"));
        let parts = [
            named("utilization", self.utilization),
            named("floor", self.floor),
            named("ceiling", self.ceiling),
            named("budget", self.budget),
            self.brisk.then(|| "brisk".to_owned()),
            self.fixed.then(|| "fixed".to_owned()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// Prescale as it is configured; `entries` go with the services of the meeting by their order.
pub fn configured(meeting: &Meeting, entries: &[Entry]) -> Operation {
    let flights = meeting.flights(|bout, index| fly(bout, &entries[index], meeting.spikes(index), |_| {}));
    Operation { label: String::new(), flights }
}

/// The same, with the decisions of the first seed by service.
pub fn recorded(meeting: &Meeting, entries: &[Entry]) -> (Operation, Vec<Vec<Decision>>) {
    let mut decided: Vec<Vec<Decision>> = vec![Vec::new(); entries.len()];
    let mut seen = vec![false; entries.len()];
    let flights = meeting.flights(|bout, index| {
        // Each service is flown once for each seed, in their order.
        let is_first = !std::mem::replace(&mut seen[index], true);
        let decided = &mut decided[index];
        fly(bout, &entries[index], meeting.spikes(index), |decision| {
            if is_first {
                decided.push(decision);
            }
        })
    });
    (Operation { label: String::new(), flights }, decided)
}

/// Prescale as an operator might have configured it, under these seeds of the meeting.
pub fn set(meeting: &Meeting, entries: &[Entry], setting: Setting, seeds: &[u64]) -> Operation {
    let flights = meeting.flights_under(seeds, |bout, index| {
        let entry = entries[index].set(setting, bout.fleet.max);
        let (least, most) = (entry.settings.policy.min_units, entry.settings.policy.max_units);
        let mut bout = bout.clone();
        // What bounds it is there from the start, as with a fixed fleet.
        if setting.floor.is_some() || setting.fixed {
            bout.fleet.initial = bout.fleet.initial.max(least);
        }
        if setting.ceiling.is_some() || setting.fixed {
            bout.fleet.initial = bout.fleet.initial.min(most);
        }
        fly(&bout, &entry, meeting.spikes(index), |_| {})
    });
    Operation { label: setting.label(), flights }
}

/// The line of a card: what is configured counts, not what would have been best.
pub fn showing(configured: Operation) -> Showing {
    Showing { system: System::Prescale, operations: vec![configured], bracket: None }
}

impl Entry<'_> {
    fn set(&self, setting: Setting, most: u32) -> Self {
        let mut entry = self.clone();
        let policy = &mut entry.settings.policy;
        if let Some(budget) = setting.budget {
            policy.planning.violation_budget = budget;
            entry.settings.rules = None;
        }
        policy.planning.utilization_max = setting.utilization.or(policy.planning.utilization_max);
        let units = |share: f64| (f64::from(self.peak) * share).ceil() as u32;
        let fixed = setting.fixed.then_some(self.p95);
        policy.max_units = setting.ceiling.map(units).or(fixed).unwrap_or(most).min(policy.max_units);
        let floor = setting.floor.map(units).or(fixed).unwrap_or(0).max(policy.min_units);
        policy.min_units = floor.min(most).min(policy.max_units);
        if setting.brisk {
            (policy.cooldown_down, policy.stabilization_down, policy.hysteresis) = (Span::ZERO, Span::ZERO, 0.0);
        }
        entry
    }
}

/// One flight; `take` is told each decision.
pub fn fly(bout: &Bout, entry: &Entry, spikes: &[bool], mut take: impl FnMut(Decision)) -> Tally {
    let mut timeline: Vec<(Timestamp, u32)> = Vec::with_capacity(bout.demand.load.len());
    let forecast = |end| entry.stream.after(end).map_err(str::to_owned);
    simulate_service(bout, &entry.stream.service, &entry.settings, entry.seen, forecast, |decision| {
        timeline.push((decision.at, decision.desired));
        take(decision);
    });
    bout.fly_through(&Pilot::Timeline(&timeline), spikes)
}

/// Forecasts at the lead time at which they were used: the window in which capacity asked for became effective.
pub fn forecast_score(decisions: &[Decision], actual: &Demand, training: &Demand) -> ForecastScore {
    let changes = training.load.windows(2).map(|pair| (pair[1] - pair[0]).abs()).filter(|change| change.is_finite());
    let (sum, known) = changes.fold((0.0, 0_u64), |(sum, count), change| (sum + change, count + 1));
    let scale = sum / known.max(1) as f64;
    let mut score = ForecastScore::default();
    let (mut errors, mut covered) = (0.0, 0_u64);
    for decision in decisions {
        let Some(forecast) = &decision.inputs.forecast else { continue };
        *score.models.entry(forecast.model.clone()).or_default() += 1;
        let index = forecast.effective_index;
        let window = forecast.from + Span::from_millis(forecast.step.millis().saturating_mul(index as i64));
        if window >= actual.end() {
            continue;
        }
        let (Some(median), Some(upper)) = (forecast.median.get(index), forecast.upper.get(index)) else { continue };
        let found = actual.at(window);
        score.forecasts += 1;
        errors += (found - median).abs();
        covered += u64::from(found <= *upper);
    }
    let share = |sum: f64| (score.forecasts > 0).then(|| sum / score.forecasts as f64);
    score.mase = share(errors).filter(|_| scale > 0.0).map(|error| error / scale);
    score.coverage_pct = share(covered as f64).map(|share| 100.0 * share);
    score
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_setting_of_the_sweep_has_a_label_of_its_own() {
        let settings = sweep();
        let labels: BTreeSet<String> = settings.iter().map(Setting::label).collect();
        assert_eq!(labels.len(), settings.len());
        assert!(!labels.contains(&Setting::default().label()));
    }
}
