//! Prescale in a meeting: its own decisions on kept forecasts, flown like everybody else's. Rule: what decides here is what
//! decides in service; a budget that is swept changes nothing else.

use prescale_domain::{Decision, ForecastScore, PlanningSettings, PolicySettings, Span, Timestamp};

use crate::arena::{Bout, Demand, Pilot, Tally};
use crate::baselines::System;
use crate::experiment::{ExperimentSettings, simulate_service};
use crate::meeting::{Meeting, Operation, Showing};
use crate::stream::ForecastStream;

/// Prescale for one service of a meeting.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    pub stream: &'a ForecastStream,
    pub settings: ExperimentSettings,
    /// The load of each window of the bout as it was known; not a number = a gap.
    pub seen: &'a [f64],
}

/// Budgets of a sweep, as shares of time: from next to nothing to half of it.
pub const BUDGETS: [f64; 15] = [1e-6, 1e-5, 1e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.4];

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

/// Prescale with another violation budget, by its planner alone: rules that add units whatever they cost, as in an
/// emergency, are no matter of a budget.
pub fn with_budget(meeting: &Meeting, entries: &[Entry], budget: f64) -> Operation {
    let entries: Vec<Entry> = entries.iter().map(|entry| entry.with_budget(budget)).collect();
    Operation { label: format!("budget={budget}"), ..configured(meeting, &entries) }
}

/// Prescale where an operator lets the newest load use the units to `utilization` at most: the nearer the budget comes to none
/// at all, the less is decided by anything else.
pub fn with_utilization(meeting: &Meeting, entries: &[Entry], utilization: f64, budget: f64) -> Operation {
    let mut entries: Vec<Entry> = entries.iter().map(|entry| entry.with_budget(budget)).collect();
    for entry in &mut entries {
        entry.settings.policy.planning.utilization_max = Some(utilization);
    }
    let label = format!("utilization={utilization} budget={budget}");
    Operation { label, ..configured(meeting, &entries) }
}

/// Prescale where an operator keeps so many units at all times, by service; they are there from the start, as a fixed fleet
/// is.
pub fn with_floor(meeting: &Meeting, entries: &[Entry], label: &str, floors: &[u32]) -> Operation {
    let flights = meeting.flights(|bout, index| {
        let floor = floors.get(index).copied().unwrap_or(0);
        let mut entry = entries[index].clone();
        entry.settings.policy.min_units = floor.max(entry.settings.policy.min_units).min(bout.fleet.max);
        let mut bout = bout.clone();
        bout.fleet.initial = bout.fleet.initial.max(floor);
        fly(&bout, &entry, meeting.spikes(index), |_| {})
    });
    Operation { label: label.to_owned(), flights }
}

/// The line of a card: what is configured counts, not what would have been best.
pub fn showing(configured: Operation) -> Showing {
    Showing { system: System::Prescale, operations: vec![configured], bracket: None }
}

impl Entry<'_> {
    fn with_budget(&self, budget: f64) -> Self {
        let policy = &self.settings.policy;
        let planning = PlanningSettings { violation_budget: budget, ..policy.planning.clone() };
        let policy = PolicySettings { planning, ..policy.clone() };
        let settings = ExperimentSettings { policy, rules: None, ..self.settings.clone() };
        Self { stream: self.stream, seen: self.seen, settings }
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
