//! What the calendar of schedules says. Rule: the strongest active schedule has its way, up or down; while capacity is held
//! it may only raise it.

use super::bounds;
use crate::plan::{Context, Plan};
use crate::schedule::winner;
use crate::words::units;

/// `scheduled`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let scheduled = &context.inputs.circumstances.scheduled;
    let Some((action, wanted)) = winner(scheduled, plan.units, plan.need) else {
        return plan;
    };
    let wanted = if plan.held { wanted.min(bounds::highest(context)) } else { wanted };
    if wanted == plan.units || (plan.held && wanted < plan.units) {
        return plan;
    }
    let until = action.until.map_or("until the next one".to_owned(), |until| format!("until {until}"));
    let text = format!(
        "schedule `{}`, since {} {until}, makes {} of {}",
        action.name,
        action.since,
        units(wanted),
        plan.units,
    );
    plan.because("scheduled", wanted, text)
}
