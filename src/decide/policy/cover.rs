//! What is removed is gone at once, while capacity asked for now comes later. Rule: scale in only to what the forecast
//! needs from now on, not only from the moment at which new capacity would be effective.

use prescale_domain::PlanningRule;

use crate::plan::{Context, Plan};
use crate::planner::Outlook;
use crate::words::units;

/// `cover-until-effective`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let (Some(present), Some(needed)) = (context.present(), floor(context)) else {
        return plan;
    };
    if plan.held || plan.units >= present {
        return plan;
    }
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

/// The units below which nothing may be removed now; `None` without a usable forecast. Where more are needed than there
/// are, that they are needed is all that is said.
pub(super) fn floor(context: &Context) -> Option<u32> {
    let forecast = context.forecast().ok()?;
    let inputs = context.inputs;
    let planning = &inputs.settings.planning;
    let until = inputs.at + inputs.lead_time.until_effective() + planning.churn;
    let windows = Outlook::each_until(forecast, until);
    if planning.rule == PlanningRule::RiskBudget && !windows.is_empty() {
        let (capacity, allowed) = (inputs.settings.unit_capacity, context.allowed_risk().0);
        let most = context.present().unwrap_or(inputs.settings.max_units);
        return windows.iter().map(|window| window.units_within(allowed, capacity, most)).max();
    }
    let peak = forecast.upper.iter().take(forecast.effective_index).copied().fold(0.0, f64::max);
    Some(context.units_for(peak, 1.0))
}
