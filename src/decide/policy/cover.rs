//! What is removed is gone at once, while capacity asked for now comes later. Rule: scale in only to what the forecast
//! needs from now on, not only from the moment at which new capacity would be effective.

use prescale_domain::PlanningRule;

use crate::plan::{Context, Plan};
use crate::policy::open_window;
use crate::words::units;

/// `cover-until-effective`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let Some(present) = context.present().filter(|present| !plan.held && plan.units < *present) else {
        return plan;
    };
    let Some(floor) = floor(context).map(|needed| needed.min(present)) else {
        return plan;
    };
    if floor <= plan.units {
        return plan;
    }
    let text = format!(
        "{} needed before what is removed now could be replaced: {} kept instead of {}",
        if floor == 1 { "1 unit is".to_owned() } else { format!("{} are", units(floor)) },
        floor,
        plan.units,
    );
    plan.because("cover-until-effective", floor, text)
}

/// The units below which nothing may be removed now; `None` without a usable forecast. Where more are needed than there
/// are, that they are needed is all that is said.
pub(super) fn floor(context: &Context) -> Option<u32> {
    let ahead = of_forecast(context)?;
    Some(ahead.max(open_window::needed(context, context.inputs.at).unwrap_or(0)))
}

fn of_forecast(context: &Context) -> Option<u32> {
    let forecast = context.forecast().ok()?;
    let inputs = context.inputs;
    let planning = &inputs.settings.planning;
    let until = inputs.at + inputs.lead_time.until_effective() + planning.churn;
    if planning.rule == PlanningRule::RiskBudget {
        let (capacity, allowed) = (inputs.settings.unit_capacity, context.allowed_risk().0);
        let most = context.present().unwrap_or(inputs.settings.max_units);
        let needed = context.probabilities().and_then(|outlook| outlook.units_until(until, allowed, capacity, most));
        if needed.is_some() {
            return needed;
        }
    }
    let peak = forecast.upper.iter().take(forecast.effective_index).copied().fold(0.0, f64::max);
    Some(context.units_for(peak, 1.0))
}
