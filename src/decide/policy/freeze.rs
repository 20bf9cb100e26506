//! Change freezes. Rule: the scale-out of an emergency passes.

use prescale_domain::Blocks;

use crate::emergency::passes;
use crate::plan::{Context, Plan};
use crate::words::units;

/// `freeze`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let Some((freeze, present)) = context.inputs.circumstances.freeze.as_ref().zip(context.present()) else {
        return plan;
    };
    let blocked = plan.units < present || (plan.units > present && freeze.blocks == Blocks::Changes);
    if !blocked || passes(context, &plan) {
        return plan;
    }
    let text =
        format!("change freeze `{}` until {}: {} kept, not {}", freeze.name, freeze.until, units(present), plan.units);
    Plan { held: true, ..plan.because("freeze", present, text) }
}
