//! What the demo is worth: decisions flown again in the arena, beside the baselines, and the forecasts they were made on.

use std::collections::BTreeMap;

use prescale_controller::view::Handle;
use prescale_domain::{ScoreCard, Span};
use prescale_simulation::arena::{Bout, Demand};
use prescale_simulation::prescale::forecast_score;
use prescale_simulation::score::{ScoreInputs, score_card};
use prescale_simulation::sweep::SweepPoint;

use super::stage::{Plan, Role};
use crate::cli::Failure;

const MINUTE: Span = Span::from_minutes(1);
/// Percent of time that may be short: HPA is judged at the cheapest target that keeps it. Prescale is told half of it.
const BUDGET_PCT: f64 = 1.0;

pub(super) fn score(plan: &Plan, roles: &[Role], handle: &Handle) -> Result<(ScoreCard, Vec<SweepPoint>), Failure> {
    let (mut bouts, mut timelines, mut histories, mut forecast) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
    for role in roles {
        let mut decisions = handle.archive.decisions(Some(&role.name), None, usize::MAX).map_err(Failure::Bug)?;
        decisions.reverse();
        let demand = Demand { start: plan.scored_from, step: MINUTE, load: role.load.clone() };
        let learnt: Vec<f64> = role.history.values.iter().flatten().copied().collect();
        let learnt = Demand { start: role.history.start, step: MINUTE, load: learnt };
        let actual = demand.clone();
        bouts.push(Bout { demand, fleet: role.fleet, unit_capacity: role.unit_capacity });
        timelines.push(decisions.iter().map(|decision| (decision.at, decision.desired)).collect::<Vec<_>>());
        forecast.insert(role.name.to_string(), forecast_score(&decisions, &actual, &learnt));
        histories.push(learnt.load);
    }
    let inputs = ScoreInputs {
        bouts: &bouts,
        timelines: &timelines,
        histories: &histories,
        forecast,
        budget_pct: BUDGET_PCT,
        seed: plan.seed,
    };
    Ok(score_card(inputs))
}
