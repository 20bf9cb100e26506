//! What is removed is gone at once, while capacity asked for now comes later. Rule: scale in only to what the forecast
//! needs from now on, not only from the moment at which new capacity would be effective.

use prescale_domain::PlanningRule;

use crate::plan::{Context, Plan};
use crate::planner::Outlook;
use crate::words::units;

/// `cover-until-effective`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let (Some(present), Ok(forecast)) = (context.present(), context.forecast()) else {
        return plan;
    };
    if plan.held || plan.units >= present {
        return plan;
    }
    let inputs = context.inputs;
    let planning = &inputs.settings.planning;
    let until = inputs.at + inputs.lead_time.until_effective() + planning.churn;
    let windows = Outlook::each_until(forecast, until);
    let needed = if planning.rule == PlanningRule::RiskBudget && !windows.is_empty() {
        let capacity = inputs.settings.unit_capacity;
        let allowed = context.allowed_risk().0;
        windows.iter().map(|window| window.units_within(allowed, capacity, present)).max().unwrap_or(0)
    } else {
        let peak = forecast.upper[..forecast.effective_index].iter().copied().fold(0.0, f64::max);
        context.units_for(peak, 1.0)
    };
    let floor = needed.min(present);
    if floor <= plan.units {
        return plan;
    }
    let text = format!(
        "the forecast needs {} again before what is removed now could be replaced: {} kept instead of {}",
        units(floor),
        floor,
        plan.units,
    );
    plan.because("cover-until-effective", floor, text)
}
