//! Most units that one decision adds or removes. Rule: bounds alone may go further.

use crate::plan::{Context, Plan};

/// `step-up`, `step-down`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let Some(present) = context.present().filter(|_| !plan.held) else {
        return plan;
    };
    let settings = &context.inputs.settings;
    let highest = present.saturating_add(settings.step_up_units);
    let lowest = present.saturating_sub(settings.step_down_units);
    let wish = plan.units;
    if wish > highest {
        let text = format!("{present} to {wish} is more than {} at once: {highest}", settings.step_up_units);
        plan.because("step-up", highest, text)
    } else if wish < lowest {
        let text = format!("{present} to {wish} is more than {} at once: {lowest}", settings.step_down_units);
        plan.because("step-down", lowest, text)
    } else {
        plan
    }
}
