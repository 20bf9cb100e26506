//! The need: by the configured rule from the forecast where it is usable, otherwise from the last load. Rule: a rule is a
//! plain function from the context and a usable forecast to a number of units and the words for it.

mod buffered;
mod ceiling;
mod confidence_aware;
mod risk_budget;
mod target_utilization;
mod thresholds;
mod weighted_triggers;

use prescale_domain::{ForecastInput, PlanningRule};

use crate::plan::{Context, Missing, Plan};
use crate::words::{number, percent, units};

/// What a rule asks for; `Err` = why it has nothing to say, as a code and a sentence: then the reactive rule decides.
pub(super) type Asked = Result<(u32, String), Missing>;

/// `forecast-need`, or the code of what is wrong with the forecast followed by `reactive-need`.
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    if plan.held {
        return plan;
    }
    let (code, why) = match context.forecast().map_err(Missing::clone).and_then(|forecast| asked(context, forecast)) {
        Ok((need, text)) => return Plan { need: Some(need), ..plan.because("forecast-need", need, text) },
        Err(missing) => missing,
    };
    let present = plan.units;
    if context.inputs.settings.planning.rule == PlanningRule::Thresholds {
        // It needs no forecast; that none is heeded is what was asked for.
        let plan = if code == "not-predictive" { plan } else { plan.because(code, present, why) };
        let (need, text) = thresholds::need(context, None);
        return Plan { need: Some(need), ..plan.because("reactive-need", need, text) };
    }
    let load = context.smoothed_load().unwrap_or(0.0);
    let utilization = context.reactive_utilization();
    let need = context.units_for(load, utilization);
    let text = format!(
        "the last load of {} at {} per unit and {} utilization needs {}",
        number(load),
        context.per_unit(),
        percent(utilization),
        units(need),
    );
    let plan = plan.because(code, present, format!("{why}: the reactive rule decides"));
    Plan { need: Some(need), ..plan.because("reactive-need", need, text) }
}

fn asked(context: &Context, forecast: &ForecastInput) -> Asked {
    match context.inputs.settings.planning.rule {
        PlanningRule::Ceiling => ceiling::asks(context, forecast),
        PlanningRule::Buffered => buffered::asks(context, forecast),
        PlanningRule::ConfidenceAware => confidence_aware::asks(context, forecast),
        PlanningRule::RiskBudget => risk_budget::asks(context, forecast),
        PlanningRule::TargetUtilization => target_utilization::asks(context, forecast),
        PlanningRule::WeightedTriggers => weighted_triggers::asks(context, forecast),
        PlanningRule::Thresholds => Ok(thresholds::need(context, Some(forecast))),
    }
}

/// The highest of `values` in the windows in which capacity asked for now is effective; they have been checked to exist.
fn peak(forecast: &ForecastInput, values: &[f64]) -> f64 {
    values.iter().skip(forecast.effective_index).copied().fold(0.0, f64::max)
}
