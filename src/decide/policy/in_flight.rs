//! Work in flight. Rule: what remains can go on with all that is being served.

use crate::plan::{Context, Plan};
use crate::scale_in::busy_units;
use crate::words::{number, units};

/// `in-flight`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let Some(present) = context.present().filter(|present| plan.units < *present) else {
        return plan;
    };
    let signals = &context.inputs.circumstances.signals;
    let Some(floor) = busy_units(signals.in_flight, signals.unit_concurrency).map(|busy| busy.min(present)) else {
        return plan;
    };
    if floor <= plan.units {
        return plan;
    }
    let text = format!(
        "{} are being served: {} kept instead of {}",
        number(signals.in_flight.unwrap_or(0.0)),
        units(floor),
        plan.units,
    );
    plan.because("in-flight", floor, text)
}
