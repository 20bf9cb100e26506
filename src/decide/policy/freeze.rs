//! Change freezes. Rule: the scale-out of an emergency passes.

use prescale_domain::Blocks;

use crate::emergency::passing;
use crate::plan::{Context, Plan};
use crate::words::units;

/// `freeze`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let Some((freeze, present)) = context.inputs.circumstances.freeze.as_ref().zip(context.present()) else {
        return plan;
    };
    let blocked = plan.units < present || (plan.units > present && freeze.blocks == Blocks::Changes);
    let stays = passing(context, &plan).unwrap_or(present);
    if !blocked || stays == plan.units {
        return plan;
    }
    let text =
        format!("change freeze `{}` until {}: {} kept, not {}", freeze.name, freeze.until, units(stays), plan.units);
    Plan { held: true, ..plan.because("freeze", stays, text) }
}
