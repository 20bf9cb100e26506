//! What is seen puts a floor under what is expected: where a utilization is set, capacity follows the newest load as that of an
//! autoscaler that looks at nothing else. Rule: a floor only; what the forecast needs beyond it stays.

use crate::plan::{Context, Plan};
use crate::words::{number, percent, units};

/// `utilization-max`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let utilization = context.inputs.settings.planning.utilization_max;
    let utilization = utilization.filter(|utilization| *utilization > 0.0 && *utilization <= 1.0);
    let (Some(utilization), Some(load), false) = (utilization, context.load(), plan.held) else {
        return plan;
    };
    let floor = context.units_for(load, utilization);
    if floor <= plan.units {
        return plan;
    }
    let text = format!(
        "the last load of {} may use {} to {} at most: {} instead of {}",
        number(load),
        context.per_unit(),
        percent(utilization),
        units(floor),
        plan.units,
    );
    Plan { need: Some(floor), ..plan.because("utilization-max", floor, text) }
}
