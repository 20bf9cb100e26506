//! Scale in only as far as the highest need of a recent while. Rule: as Kubernetes' down-stabilization, but on needs.

use crate::plan::{Context, Plan};
use crate::words::units;

/// `stabilization-down`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let Some(present) = context.present().filter(|present| !plan.held && plan.units < *present) else {
        return plan;
    };
    let highest = context.recent_needs().iter().map(|(_, need)| *need).max().unwrap_or(0);
    let floor = highest.min(present);
    if floor <= plan.units {
        return plan;
    }
    let window = context.inputs.settings.stabilization_down;
    let text =
        format!("{} were needed within the last {window}: {} kept instead of {}", highest, units(floor), plan.units);
    plan.because("stabilization-down", floor, text)
}
