//! Members of a consumer group. Rule: only numbers among which the partitions divide evenly, and those in one jump, since each
//! change of a group stops all of its members for a moment.

use crate::groups::consumers;
use crate::plan::{Context, Plan};
use crate::words::units;

/// `partitions`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let (Some(partitions), Some(present)) = (context.inputs.circumstances.partitions, context.present()) else {
        return plan;
    };
    let wish = plan.units;
    // What runs is left alone until something asks for another number.
    if plan.held || wish == present {
        return plan;
    }
    let even = consumers(wish, partitions);
    let even = if wish < present { even.min(present) } else { even };
    if even == wish {
        return plan;
    }
    let text = format!("{partitions} partitions don't divide evenly among {}: {even}", units(wish));
    plan.because("partitions", even, text)
}
