//! What the demo is worth: decisions flown again in the arena, beside the baselines, and the forecasts they were made on.

use std::collections::BTreeMap;

use prescale_controller::view::Handle;
use prescale_domain::{Decision, ForecastScore, ScoreCard, Series, Span, Timestamp};
use prescale_simulation::arena::{Bout, Demand};
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
        bouts.push(Bout { demand, fleet: role.fleet, unit_capacity: role.unit_capacity });
        timelines.push(decisions.iter().map(|decision| (decision.at, decision.desired)).collect::<Vec<_>>());
        histories.push(role.history.values.iter().flatten().copied().collect::<Vec<_>>());
        let actual =
            Series { start: plan.scored_from, step: MINUTE, values: role.load.iter().copied().map(Some).collect() };
        forecast.insert(role.name.to_string(), forecast_score(&decisions, &actual, &role.history));
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

/// Forecasts at the actual lead time: the window in which capacity asked for by the decision became effective.
fn forecast_score(decisions: &[Decision], actual: &Series, history: &Series) -> ForecastScore {
    let known: Vec<f64> = history.values.iter().flatten().copied().collect();
    let changes = known.windows(2).map(|pair| (pair[1] - pair[0]).abs());
    let scale = changes.sum::<f64>() / known.len().saturating_sub(1).max(1) as f64;
    let (mut count, mut errors, mut covered) = (0_u64, 0.0, 0_u64);
    let mut models: BTreeMap<String, u64> = BTreeMap::new();
    for decision in decisions {
        let Some(forecast) = &decision.inputs.forecast else { continue };
        *models.entry(forecast.model.clone()).or_default() += 1;
        let index = forecast.effective_index;
        let window: Timestamp = forecast.from + Span::from_millis(forecast.step.millis() * index as i64);
        let (Some(found), Some(median), Some(upper)) =
            (actual.at(window), forecast.median.get(index), forecast.upper.get(index))
        else {
            continue;
        };
        count += 1;
        errors += (found - median).abs();
        covered += u64::from(found <= *upper);
    }
    let share = |sum: f64| (count > 0).then(|| sum / count as f64);
    ForecastScore {
        mase: share(errors).filter(|_| scale > 0.0).map(|error| error / scale),
        coverage_pct: share(covered as f64).map(|share| share * 100.0),
        forecasts: count,
        models,
    }
}
